//! The head and the loss, some rows at a time: Burn's product makes their logits, a cube reads each row of them, and
//! on the way back they become their gradients where they lie.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{UNITS, buffer, cubes, elem, empty, empty_of, largest, own, total, whole};
use crate::loss::Objective;
use crate::ops::cross_entropy::{FAR, Head, Losses, Of, Rows};
use crate::ops::plain::Plain;

/// Where rows lie in all of them, and what makes logits of products.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Part {
    /// The first row's number.
    start: usize,
    vocabulary: usize,
    /// 0 where there is none.
    cap: f32,
    smoothing: f32,
    z_loss: f32,
    /// NaN, which a shader cannot name.
    no_number: f32,
}

/// The target of a row, and what stands for a loss that it has not.
#[derive(CubeType, Clone, Copy)]
struct Target {
    /// Of a row that has no loss, any.
    token: usize,
    /// Whether there is a loss.
    counts: bool,
    /// 0 where the target is ignored, NaN where it is no token.
    otherwise: f32,
}

#[cube]
fn target_of<I: Int>(given: I, part: &Part) -> Target {
    let ignored = given < I::new(0);
    let beyond = given >= I::cast_from(part.vocabulary);
    let counts = !ignored && !beyond;
    let mut token = 0usize;
    if counts {
        token = usize::cast_from(given);
    }
    Target {
        token,
        counts,
        otherwise: select(ignored, 0.0f32, part.no_number),
    }
}

/// [`FAR`], as a unit has it.
const MOST: f32 = FAR as f32;

/// The same below 0.
const LEAST: f32 = -MOST;

/// A logit as the loss takes it.
#[cube]
fn logit(product: f32, part: &Part, #[comptime] capped: bool) -> f32 {
    let mut logit = product;
    if capped {
        let share = product / part.cap;
        let share = select(share > MOST, MOST, share);
        let share = select(share < LEAST, LEAST, share);
        logit = share.tanh() * part.cap;
    }
    logit
}

/// What is told about a row.
#[cube(launch_unchecked)]
fn losses_kernel<I: Int>(
    logits: &[f32],
    targets: &[I],
    weights: &[f32],
    losses: &mut [f32],
    nats: &mut [f32],
    correct: &mut [I],
    log_total: &mut [f32],
    part: &Part,
    #[comptime] capped: bool,
    #[comptime] weighted: bool,
    #[comptime] smoothed: bool,
    #[define(I)] _integers: ElemType,
) {
    let first = CUBE_POS * part.vocabulary;
    if first >= logits.len() {
        terminate!();
    }
    let row = part.start + CUBE_POS;
    let mut room = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut maximum = logit(logits[first], part, capped);
    for i in range_stepped(UNIT_POS as usize, part.vocabulary, UNITS as usize) {
        maximum = max(maximum, logit(logits[first + i], part, capped));
    }
    let maximum = largest(maximum, &mut room);
    let target = target_of::<I>(targets[row], part);
    let mut exponentials = 0.0f32;
    let mut before = 0.0f32;
    let mut below = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, part.vocabulary, UNITS as usize) {
        let z = logit(logits[first + i], part, capped);
        exponentials += (z - maximum).exp();
        if smoothed {
            below += maximum - z;
        }
        if i < target.token && z == maximum {
            before += 1.0f32;
        }
    }
    let log = total(exponentials, &mut room, UNITS).ln();
    let before = total(before, &mut room, UNITS);
    if smoothed {
        below = total(below, &mut room, UNITS) / part.vocabulary as f32;
    }
    if UNIT_POS == 0 {
        let at_target = logit(logits[first + target.token], part, capped);
        // In this order: the two large numbers cancel before the small one is added.
        let exact = (maximum - at_target) + log;
        let both = maximum + log;
        let mut loss = exact;
        if smoothed {
            loss = exact * (1.0f32 - part.smoothing) + (below + log) * part.smoothing;
        }
        loss += part.z_loss * both * both;
        if weighted {
            loss *= weights[row];
        }
        losses[row] = select(target.counts, loss, target.otherwise);
        nats[row] = select(target.counts, exact, target.otherwise);
        log_total[row] = both;
        let mut found = I::new(0);
        if target.counts && at_target == maximum && before == 0.0f32 {
            found = I::new(1);
        }
        correct[row] = found;
    }
}

/// Makes a row's logits their gradients where that of its loss is its element of `grad`.
#[cube(launch_unchecked)]
fn gradients_kernel<I: Int>(
    logits: &mut [f32],
    targets: &[I],
    weights: &[f32],
    log_total: &[f32],
    grad: &[f32],
    part: &Part,
    #[comptime] capped: bool,
    #[comptime] weighted: bool,
    #[define(I)] _integers: ElemType,
) {
    let first = CUBE_POS * part.vocabulary;
    if first >= logits.len() {
        terminate!();
    }
    let row = part.start + CUBE_POS;
    let target = target_of::<I>(targets[row], part);
    let log_total = log_total[row];
    let mut grad = grad[row];
    if weighted {
        grad *= weights[row];
    }
    let factor = grad * (1.0f32 + 2.0f32 * part.z_loss * log_total);
    let even = grad * part.smoothing / part.vocabulary as f32;
    for i in range_stepped(UNIT_POS as usize, part.vocabulary, UNITS as usize) {
        let z = logit(logits[first + i], part, capped);
        let mut of = (z - log_total).exp() * factor - even;
        if i == target.token {
            of -= grad * (1.0f32 - part.smoothing);
        }
        if capped {
            let share = z / part.cap;
            of *= 1.0f32 - share * share;
        }
        logits[first + i] = select(target.counts, of, target.otherwise);
    }
}

/// Some rows of `hidden`, and their products with the head.
struct Chunk {
    start: usize,
    hidden: Plain<CubeBackend>,
    /// `[rows, vocab_size]`
    products: CubeTensor,
}

impl Chunk {
    fn cubes(&self) -> CubeCount {
        cubes(&self.products, self.products.meta.shape()[0])
    }

    fn part(&self, rule: Head) -> PartLaunch {
        let vocabulary = self.products.meta.shape()[1];
        let cap = rule.cap.unwrap_or(0.0) as f32;
        let Objective {
            label_smoothing,
            z_loss,
        } = rule.objective;
        PartLaunch::new(
            self.start,
            vocabulary,
            cap,
            label_smoothing as f32,
            z_loss as f32,
            f32::NAN,
        )
    }
}

/// Chunks of all rows, through `head`, as it is or turned: `[width, vocab_size]`.
fn chunks(hidden: CubeTensor, head: &CubeTensor, rule: Head) -> impl Iterator<Item = Chunk> {
    let all = hidden.meta.shape()[0];
    let held = rule.rows(head.meta.shape(), all);
    let across = across(head, rule);
    let hidden = Plain::<CubeBackend>(hidden);
    (0..all).step_by(held).map(move |start| {
        let hidden = hidden.clone().narrow(0, start, held.min(all - start));
        let products = hidden.clone().matmul(across.clone());
        Chunk {
            start,
            hidden,
            products: own(products.0),
        }
    })
}

/// The head as `[width, vocab_size]`, whichever way it lies.
fn across(head: &CubeTensor, rule: Head) -> Plain<CubeBackend> {
    let head = Plain::<CubeBackend>(head.clone());
    match rule.by_token {
        true => head.t(),
        false => head,
    }
}

/// How much rows count, where not all count 1.
fn weights(rows: &Rows<CubeBackend>) -> Option<CubeTensor> {
    let weights = rows.weights.clone().into_option();
    weights.map(|of| whole(CubeBackend::float_cast(of, DType::F32.into())))
}

pub(super) fn forward(rows: Rows<CubeBackend>, rule: Head) -> Losses<CubeBackend> {
    let weights = weights(&rows);
    let (hidden, head, targets) = (rows.hidden, rows.head, whole(rows.targets));
    let rows = hidden.meta.shape()[0];
    let [loss, nats, log_total] = [(); 3].map(|()| empty(&hidden, [rows]));
    let correct = empty_of(&hidden, [rows], targets.dtype);
    for chunk in chunks(hidden, &head, rule) {
        // SAFETY: a cube has a row of the products or nothing, and there are as many targets as rows in all.
        unsafe {
            losses_kernel::launch_unchecked(
                &head.client,
                chunk.cubes(),
                CubeDim::new_1d(UNITS),
                buffer(&chunk.products),
                buffer(&targets),
                // Not looked at where there are none.
                buffer(weights.as_ref().unwrap_or(&head)),
                buffer(&loss),
                buffer(&nats),
                buffer(&correct),
                buffer(&log_total),
                chunk.part(rule),
                rule.cap.is_some(),
                weights.is_some(),
                rule.objective.label_smoothing > 0.0,
                elem(&targets),
            );
        }
    }
    Losses {
        loss,
        nats,
        correct,
        log_total,
    }
}

pub(super) fn backward(
    rows: Rows<CubeBackend>,
    log_total: CubeTensor,
    grad: CubeTensor,
    rule: Head,
) -> Of<CubeBackend> {
    let weights = weights(&rows);
    let (hidden, head) = (rows.hidden, rows.head);
    let [targets, log_total, grad] = [rows.targets, log_total, grad].map(whole);
    let mut of_hidden = Vec::new();
    let mut of_head: Option<Plain<CubeBackend>> = None;
    for chunk in chunks(hidden, &head, rule) {
        // SAFETY: as in `forward`.
        unsafe {
            gradients_kernel::launch_unchecked(
                &head.client,
                chunk.cubes(),
                CubeDim::new_1d(UNITS),
                buffer(&chunk.products),
                buffer(&targets),
                buffer(weights.as_ref().unwrap_or(&grad)),
                buffer(&log_total),
                buffer(&grad),
                chunk.part(rule),
                rule.cap.is_some(),
                weights.is_some(),
                elem(&targets),
            );
        }
        let of_logits = Plain::<CubeBackend>(chunk.products);
        of_hidden.push(of_logits.clone().matmul(across(&head, rule).t()));
        let of_chunk = match rule.by_token {
            true => of_logits.t().matmul(chunk.hidden),
            false => chunk.hidden.t().matmul(of_logits),
        };
        of_head = Some(match of_head {
            Some(sum) => sum + of_chunk,
            None => of_chunk,
        });
    }
    let of_head = of_head.expect("there is a row");
    [Plain::cat(of_hidden, 0).0, of_head.0]
}
