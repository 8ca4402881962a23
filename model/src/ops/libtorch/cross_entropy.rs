//! The head and the loss, some rows at a time: their logits become probabilities, and those gradients, where they lie.
//!
//! The gradients of rows may each have a factor of their own, `f`. It is not logits that are multiplied with it but
//! what is narrower: with `d = (1 + 2 c L) p - (1 - s) [v = t] - s / V`, `dhidden = f · (d head)` and `dhead = dᵀ (f · hidden)`.

use tch::{Kind, Tensor};

use super::at_least_f32;
use super::pieces::{Piece, by};
use super::product::product;
use crate::loss::Objective;
use crate::ops::Head;

/// Per row, `[rows]`: loss, nats, whether the target is the most probable token, and the logarithm of the total.
pub(super) type Told = [Tensor; 4];

/// Gradients of hidden rows and of the head.
pub(super) type Gradients = [Tensor; 2];

/// What is to be done.
pub(super) struct Work {
    hidden: Tensor,
    /// `[width, vocab_size]`, whichever way it lies.
    head: Tensor,
    rule: Head,
    /// `[rows, 1]`; where a target is no token, any.
    targets: Tensor,
    /// Rows whose target is ignored, `[rows, 1]`.
    ignored: Tensor,
    /// Rows whose target is no token, `[rows, 1]`.
    beyond: Tensor,
    /// How much rows count, `[rows, 1]`, where not all count 1.
    weights: Option<Tensor>,
    /// Rows that have their logits at once.
    held: usize,
}

/// Some rows of it.
struct Chunk<'a> {
    work: &'a Work,
    piece: Piece,
    /// `[rows, vocab_size]`: logits, then probabilities, then gradients.
    numbers: Tensor,
    /// Logits by their cap, where there is one.
    shares: Option<Tensor>,
}

impl Work {
    /// With no more than `held` rows of logits at once.
    pub(super) fn new(
        [hidden, head, targets]: [&Tensor; 3],
        weights: Option<&Tensor>,
        rule: Head,
        held: usize,
    ) -> Self {
        let head = match rule.by_token {
            true => head.transpose(0, 1),
            false => head.shallow_clone(),
        };
        let targets = targets.to_kind(Kind::Int64).unsqueeze(1);
        let kind = at_least_f32(hidden.kind());
        let last = head.size()[1] - 1;
        Self {
            hidden: hidden.shallow_clone(),
            head,
            rule,
            ignored: targets.lt(0),
            beyond: targets.gt(last),
            targets: targets.clamp(0, last),
            weights: weights.map(|weights| weights.to_kind(kind).unsqueeze(1)),
            held,
        }
    }

    /// What is told of all rows.
    pub(super) fn losses(&self) -> Told {
        together(self.pieces().map(|piece| self.chunk(piece).losses()))
    }

    /// The same, and the gradients where that of every row's loss is 1.
    pub(super) fn losses_and_gradients(&self) -> (Told, Gradients) {
        let kind = at_least_f32(self.hidden.kind());
        let ones = Tensor::ones(self.targets.size(), (kind, self.hidden.device()));
        let ones = self.weighted(&self.counted(None, &ones));
        let mut gradients = self.room_for_gradients();
        let told = together(self.pieces().map(|piece| {
            let mut chunk = self.chunk(piece);
            let told = chunk.losses();
            chunk.gradients(&told[3], &ones, &mut gradients);
            told
        }));
        (told, gradients)
    }

    /// The gradients where that of the rows' losses is `grad`, `[rows]`, given the logarithms of their totals.
    pub(super) fn gradients(&self, log_total: &Tensor, grad: &Tensor) -> Gradients {
        let factors = self.weighted(&self.counted(None, &grad.unsqueeze(1)));
        let mut gradients = self.room_for_gradients();
        for piece in self.pieces() {
            let mut chunk = self.chunk(piece);
            chunk.become_probabilities();
            chunk.gradients(&piece.of(log_total), &factors, &mut gradients);
        }
        gradients
    }

    /// Numbers of all rows or some, `[rows, 1]`: 0 where the target is ignored, and NaN where it is no token.
    fn counted(&self, piece: Option<Piece>, numbers: &Tensor) -> Tensor {
        let [ignored, beyond] = [&self.ignored, &self.beyond].map(|of| match piece {
            Some(piece) => piece.of(of),
            None => of.shallow_clone(),
        });
        numbers
            .masked_fill(&ignored, 0.0)
            .masked_fill(&beyond, f64::NAN)
    }

    /// Numbers of rows, `[rows, 1]`, times how much those count.
    fn weighted(&self, numbers: &Tensor) -> Tensor {
        match &self.weights {
            Some(weights) => numbers * weights,
            None => numbers.shallow_clone(),
        }
    }

    fn pieces(&self) -> impl Iterator<Item = Piece> + use<> {
        by(self.hidden.size()[0], self.held as i64)
    }

    fn room_for_gradients(&self) -> Gradients {
        let room =
            |like: &Tensor, size: [i64; 2]| Tensor::empty(size, (like.kind(), like.device()));
        let [rows, width] = sizes(&self.hidden);
        let vocabulary = self.head.size()[1];
        let of_head = match self.rule.by_token {
            true => [vocabulary, width],
            false => [width, vocabulary],
        };
        [room(&self.hidden, [rows, width]), room(&self.head, of_head)]
    }

    fn chunk(&self, piece: Piece) -> Chunk<'_> {
        let hidden = piece.of(&self.hidden);
        let logits = product(&hidden, &self.head, None, None);
        let mut logits = logits.to_kind(at_least_f32(hidden.kind()));
        let mut shares = None;
        if let Some(cap) = self.rule.cap {
            let _ = logits.g_div_scalar_(cap);
            let _ = logits.tanh_();
            let capped = &logits * cap;
            shares = Some(std::mem::replace(&mut logits, capped));
        }
        Chunk {
            work: self,
            piece,
            numbers: logits,
            shares,
        }
    }
}

impl Chunk<'_> {
    /// What is told of these rows; logits become probabilities.
    ///
    /// The probability of the most probable token is the reciprocal of the softmax's total.
    fn losses(&mut self) -> Told {
        let (work, piece) = (self.work, self.piece);
        let counted = |numbers: &Tensor| work.counted(Some(piece), numbers);
        let targets = piece.of(&work.targets);
        let Objective {
            label_smoothing: smoothing,
            z_loss,
        } = self.work.rule.objective;
        let at_target = self.numbers.gather(1, &targets, false);
        let mean = (smoothing > 0.0).then(|| self.numbers.mean_dim(1, true, None));
        let (maximum, predicted) = largest(&self.numbers);
        self.become_probabilities();
        let total = -self.numbers.gather(1, &predicted, false).log();
        // In this order: the two large numbers cancel before the small one is added.
        let below = |number: Tensor| counted(&((&maximum - number) + &total));
        let nats = below(at_target);
        let log_total = &maximum + &total;
        let loss = match mean {
            Some(mean) => &nats * (1.0 - smoothing) + below(mean) * smoothing,
            None => nats.shallow_clone(),
        };
        let loss = match z_loss > 0.0 {
            true => loss + counted(&log_total.square()) * z_loss,
            false => loss,
        };
        let loss = match &self.work.weights {
            Some(weights) => loss * self.piece.of(weights),
            None => loss,
        };
        let [ignored, beyond] = [&work.ignored, &work.beyond].map(|of| piece.of(of));
        let correct = predicted
            .eq_tensor(&targets)
            .logical_and(&ignored.logical_or(&beyond).logical_not());
        [loss, nats, correct, log_total].map(|of| of.squeeze_dim(1))
    }

    fn become_probabilities(&mut self) {
        let _ = self.numbers.internal_softmax_out(&self.numbers, 1, false);
    }

    /// Puts gradients where they belong, given these rows' logarithms of totals, `[rows]`, all rows' `factors`,
    /// `[all rows, 1]`, and probabilities.
    fn gradients(
        mut self,
        log_total: &Tensor,
        factors: &Tensor,
        [of_hidden, of_head]: &mut Gradients,
    ) {
        let Work { hidden, head, .. } = self.work;
        let (kind, piece) = (hidden.kind(), self.piece);
        self.become_gradients(log_total);
        let of_logits = self.numbers.to_kind(kind);
        let [factors, hidden, of_hidden] = [factors, hidden, &*of_hidden].map(|of| piece.of(of));
        let product = product(&of_logits, &head.transpose(0, 1), None, None);
        let _ = product.mul_out(&of_hidden, &factors);
        let hidden = (hidden * factors).to_kind(kind);
        let (left, right) = match self.work.rule.by_token {
            true => (of_logits.transpose(0, 1), hidden),
            false => (hidden.transpose(0, 1), of_logits),
        };
        let _ = match piece.is_first() {
            true => left.mm_out(of_head, &right),
            false => of_head.addmm_(&left, &right),
        };
    }

    fn become_gradients(&mut self, log_total: &Tensor) {
        let Objective {
            label_smoothing: smoothing,
            z_loss,
        } = self.work.rule.objective;
        let targets = self.piece.of(&self.work.targets);
        let options = (self.numbers.kind(), self.numbers.device());
        if z_loss > 0.0 {
            let factors: Tensor = log_total * (2.0 * z_loss) + 1.0;
            let _ = self.numbers.g_mul_(&factors.unsqueeze(1));
        }
        if smoothing > 0.0 {
            let even = smoothing / self.numbers.size()[1] as f64;
            let _ = self.numbers.g_sub_scalar_(even);
        }
        let less = Tensor::full(targets.size(), smoothing - 1.0, options);
        let _ = self.numbers.scatter_add_(1, &targets, &less);
        if let Some(shares) = &self.shares {
            // They are hyperbolic tangents.
            let _ = Tensor::tanh_backward_grad_input(&self.numbers, &self.numbers, shares);
        }
    }
}

fn sizes(matrix: &Tensor) -> [i64; 2] {
    let sizes = matrix.size();
    [sizes[0], sizes[1]]
}

/// What is told of all rows, given what is told of some after the other.
fn together(chunks: impl Iterator<Item = Told>) -> Told {
    let chunks: Vec<Told> = chunks.collect();
    [0, 1, 2, 3].map(|which| {
        let parts: Vec<&Tensor> = chunks.iter().map(|told| &told[which]).collect();
        Tensor::cat(&parts, 0)
    })
}

/// Columns that are searched together.
const COLUMNS: i64 = 256;

/// The largest number of each row and the first column that it is in, `[rows, 1]` both.
///
/// ATen finds columns one number at a time but maxima many at once. So it is asked for the maxima of [`COLUMNS`] each,
/// and for columns only among those and where the largest of those is from.
fn largest(matrix: &Tensor) -> (Tensor, Tensor) {
    let columns = matrix.size()[1];
    if columns < 4 * COLUMNS {
        return matrix.max_dim(1, true);
    }
    let whole = columns / COLUMNS * COLUMNS;
    let blocks = matrix.narrow(1, 0, whole).unflatten(1, [-1, COLUMNS]);
    let mut maxima = vec![blocks.amax(2, false)];
    if whole < columns {
        let rest = matrix.narrow(1, whole, columns - whole);
        maxima.push(rest.amax(1, true));
    }
    let (maximum, block) = Tensor::cat(&maxima, 1).max_dim(1, true);
    let start = block * COLUMNS;
    let within = Tensor::arange(COLUMNS, (Kind::Int64, matrix.device()));
    // Past the end the last column is looked at again, which is not the first to have its number.
    let candidates = (&start + within).clamp_max(columns - 1);
    let candidates = matrix.gather(1, &candidates, false);
    (maximum, start + candidates.argmax(1, true))
}
