//! Verdicts from checks, curves and outcomes.
//!
//! There are three tests, each used where it is conclusive. Checks of single steps start from the reference's own
//! state, so chaos explains no error of theirs. The envelope bounds what rounding explains of the curve; it counts
//! until it is as large as what another seed changes in the loss of a step. The outcome, the end of the run, is tested
//! against other seeds.

use super::statistics::{
    self, ENVELOPE_LEVEL, difference_bound, prediction_half_width, standard_deviation,
};
use super::training::TakenStep;
use super::{
    Check, Checked, Entrant, Entry, Envelope, Interval, Invariance, Judge, Outcome, Outcomes,
    Seeds, Verdict,
};
use crate::backend::precision::Precision;
use crate::show::statistics::median;

/// Factor on the bound from runs that differ only in rounding, because one backend rounds more coarsely than another.
pub(crate) const FACTOR: f64 = 4.0;

/// Number of steps on either side over which the scale of the loss of a step is averaged.
const SCALE_WINDOW: usize = 10;

/// Recorded numbers of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Curve {
    /// Loss of each step, in nats per token.
    pub(crate) losses: Vec<f64>,
    pub(crate) gradient_norms: Vec<f64>,
    pub(crate) seconds: Vec<f64>,
    /// See [`Entry::weights_distance`](super::Entry::weights_distance).
    pub(crate) weights_distance: Vec<f64>,
    pub(crate) final_loss: Option<f64>,
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Reason why the run stopped before its last step.
    pub(crate) failure: Option<String>,
}

impl Curve {
    /// Adds a step.
    pub(super) fn push(&mut self, taken: TakenStep) {
        self.losses.push(taken.loss);
        self.gradient_norms.push(taken.gradient_norm);
        self.seconds.push(taken.seconds);
    }

    /// Returns a step's tokens over the median time of a step, which ignores slow first steps that compile kernels.
    pub(crate) fn tokens_per_second(&self, tokens_per_step: usize) -> Option<f64> {
        let median = median(self.seconds.iter().copied())?;
        (median > 0.0).then(|| tokens_per_step as f64 / median)
    }

    /// Returns |loss − reference's loss| for each step that both took.
    fn differences<'a>(&'a self, reference: &'a Self) -> impl Iterator<Item = f64> + 'a {
        self.losses
            .iter()
            .zip(&reference.losses)
            .map(|(loss, reference)| (loss - reference).abs())
    }

    /// Returns whether every number known of both runs has the same bits. One of them may lack a final loss.
    fn is_identical(&self, other: &Self) -> bool {
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let ends = self.final_loss.zip(other.final_loss);
        bits(&self.losses) == bits(&other.losses)
            && bits(&self.gradient_norms) == bits(&other.gradient_norms)
            && ends.is_none_or(|(a, b)| a.to_bits() == b.to_bits())
    }
}

impl Envelope {
    /// Measures the envelope from the runs of one backend; `None` without runs.
    pub(crate) fn measure(of: Entrant, runs: &[&Curve], reference: &Curve) -> Option<Self> {
        if runs.is_empty() {
            return None;
        }
        let u = of.dtype.unit_roundoff();
        let distances = |run: &Curve| -> Vec<f64> {
            run.differences(reference)
                .zip(&reference.losses)
                // Every loss has at least one rounding error of its own.
                .map(|(difference, loss)| difference.max(u * loss.abs()))
                .collect()
        };
        let losses: Vec<_> = runs.iter().map(|run| distances(run)).collect();
        let weights: Vec<_> = runs
            .iter()
            .map(|run| run.weights_distance.iter().map(|d| d.max(u)).collect())
            .collect();
        Some(Self {
            of,
            runs: runs.len(),
            quantile: ENVELOPE_LEVEL,
            factor: FACTOR,
            comparable: None,
            losses: runs.iter().map(|run| run.losses.clone()).collect(),
            final_losses: runs.iter().filter_map(|run| run.final_loss).collect(),
            loss: running_bounds(&losses),
            weights: running_bounds(&weights),
        })
    }

    /// Returns the number of steps from the start until the envelope exceeds the scale of the loss of a step: the
    /// standard deviation between seeds, or between successive steps if no other seed was run.
    pub(crate) fn comparable_steps(&self, reference: &[f64], seeds: Option<&Seeds>) -> usize {
        let squares = match seeds.filter(|seeds| seeds.losses.len() > 1) {
            Some(seeds) => between_seeds(&seeds.losses),
            None => between_steps(reference),
        };
        let steps = self.loss.len().min(reference.len());
        let scale = |step: usize| {
            let from = step.saturating_sub(SCALE_WINDOW).min(squares.len());
            let to = (step + SCALE_WINDOW + 1).min(squares.len());
            statistics::mean(&squares[from..to]).sqrt()
        };
        // Without a scale every step is comparable; a step with NaN is not.
        let is_comparable = |step: &usize| squares.is_empty() || self.loss[*step] <= scale(*step);
        (0..steps).take_while(is_comparable).count()
    }
}

/// Returns the variance of the loss between seeds, for each step that all took.
fn between_seeds(losses: &[Vec<f64>]) -> Vec<f64> {
    let steps = losses.iter().map(Vec::len).min().unwrap_or(0);
    let variance = |step: usize| {
        let at: Vec<f64> = losses.iter().map(|losses| losses[step]).collect();
        standard_deviation(&at).powi(2)
    };
    (0..steps).map(variance).collect()
}

/// Returns the variance of the loss between successive steps, whose batches differ.
fn between_steps(losses: &[f64]) -> Vec<f64> {
    let half_square = |pair: &[f64]| 0.5 * (pair[1] - pair[0]).powi(2);
    losses.windows(2).map(half_square).collect()
}

/// Returns for each step the largest bound of the runs up to that step, times the factor.
fn running_bounds(runs: &[Vec<f64>]) -> Vec<f64> {
    let steps = runs.iter().map(Vec::len).min().unwrap_or(0);
    let mut largest = 0.0f64;
    (0..steps)
        .map(|step| {
            let at: Vec<f64> = runs.iter().map(|run| run[step]).collect();
            largest = largest.max(difference_bound(&at));
            FACTOR * largest
        })
        .collect()
}

/// Verdict on a backend under test, with the numbers that it rests on.
#[derive(Debug, Clone)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    pub(crate) judged_by: Vec<Judge>,
    pub(crate) comparable_steps: Option<usize>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) first_step: Option<usize>,
    pub(crate) max_abs_loss_difference: Option<f64>,
    /// The envelope at the step of that difference.
    pub(crate) envelope: Option<f64>,
    pub(crate) inside_seed_spread: Option<bool>,
}

impl Judgement {
    /// Creates the entry of a backend under test, without run, environment and checks.
    pub(crate) fn entry(self, entrant: Entrant, curve: Curve, tokens_per_step: usize) -> Entry {
        Entry {
            judged_by: self.judged_by,
            comparable_steps: self.comparable_steps,
            outcomes: self.outcomes,
            first_step: self.first_step,
            max_abs_loss_difference: self.max_abs_loss_difference,
            envelope: self.envelope,
            final_loss: curve.final_loss,
            tokens_per_second: curve.tokens_per_second(tokens_per_step),
            peak_memory_bytes: curve.peak_memory_bytes,
            inside_seed_spread: self.inside_seed_spread,
            losses: curve.losses,
            seconds: curve.seconds,
            gradient_norms: curve.gradient_norms,
            weights_distance: curve.weights_distance,
            ..Entry::without_a_run(entrant, self.verdict, self.reason)
        }
    }

    /// Adds the comparisons of the backend's logits with its own. A difference that rounding does not explain is a mistake
    /// of the backend, however well its training agrees with the reference's.
    pub(crate) fn with_invariance(mut self, invariance: &[Invariance]) -> Self {
        let reasons: Vec<String> = invariance
            .iter()
            .filter(|invariance| invariance.differs())
            .map(Invariance::reason)
            .collect();
        if reasons.is_empty() || self.verdict == Verdict::Failed {
            return self;
        }
        match self.verdict {
            Verdict::Differs => self.reason += "; ",
            _ => {
                self.verdict = Verdict::Differs;
                self.judged_by.clear();
                self.reason.clear();
            }
        }
        self.reason += &reasons.join("; ");
        self.judged_by.push(Judge::Invariance);
        self
    }

    /// Replaces agreement of the reference's own backend with itself by [`Verdict::Own`]. A difference remains a
    /// difference.
    pub(crate) fn for_own_backend(mut self) -> Self {
        if matches!(self.verdict, Verdict::Identical | Verdict::Rounding) {
            self.verdict = Verdict::Own;
            self.reason += "; no evidence about another backend";
        }
        self
    }
}

/// Curve of a backend under test, with everything that it is judged by.
pub(crate) struct Case<'a> {
    pub(crate) curve: &'a Curve,
    pub(crate) dtype: Precision,
    /// Checks of single steps.
    pub(crate) checks: &'a [Check],
    pub(crate) reference: &'a Curve,
    /// The run of the reference's backend in the tested precision, whose bits count as identical.
    pub(crate) own: Option<&'a Curve>,
    pub(crate) envelope: Option<&'a Envelope>,
    pub(crate) seeds: Option<&'a Seeds>,
}

impl Case<'_> {
    pub(crate) fn judge(&self) -> Judgement {
        let (curve, reference) = (self.curve, self.reference);
        let largest = curve
            .differences(reference)
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let at_largest = |bounds: &[f64]| bounds.get(largest?.0).copied();
        let comparable = self
            .envelope
            .map(|envelope| envelope.comparable_steps(&reference.losses, self.seeds));
        let outcomes = self.outcomes();
        let is_final = |outcome: &&Outcome| outcome.of == Outcomes::FinalLoss;
        let final_outcome = outcomes.iter().find(is_final);
        let inside_seed_spread = final_outcome.map(Outcome::ends_as_seeds);
        let judgement = |verdict, judged_by: &[Judge], first_step, reason| Judgement {
            verdict,
            reason,
            judged_by: judged_by.to_vec(),
            comparable_steps: comparable,
            outcomes: outcomes.clone(),
            first_step,
            max_abs_loss_difference: largest.map(|(_, difference)| difference),
            envelope: self
                .envelope
                .and_then(|envelope| at_largest(&envelope.loss)),
            inside_seed_spread,
        };
        if let Some(failure) = &curve.failure {
            let step = curve.losses.len();
            return judgement(Verdict::Failed, &[], Some(step), failure.clone());
        }
        let failing = self.checks.iter().filter(|check| !check.holds());
        // The worst check, relative to its bound.
        if let Some(check) = failing.max_by(|a, b| ratio(a).total_cmp(&ratio(b))) {
            let reason = check_reason(check);
            return judgement(Verdict::Differs, &[Judge::Checks], Some(check.step), reason);
        }
        if self.own.is_some_and(|own| curve.is_identical(own)) {
            let reason = "every loss and gradient norm has the same bits";
            return judgement(Verdict::Identical, &[Judge::Bits], None, reason.into());
        }
        let Some((envelope, comparable)) = self.envelope.zip(comparable) else {
            let reason = "not the same bits, and no envelope is known that the difference can be compared against";
            return judgement(Verdict::Unavailable, &[], None, reason.into());
        };
        let mut judges = Vec::new();
        let decided = self.checks.iter().any(Check::decides);
        judges.extend(decided.then_some(Judge::Checks));
        judges.extend((comparable > 0).then_some(Judge::Envelope));
        judges.extend((!outcomes.is_empty()).then_some(Judge::Outcome));
        let outside = outcomes.iter().find(|outcome| !outcome.holds());
        let ends = match outcomes.iter().all(Outcome::ends_as_seeds) {
            true => "it ends as other seeds do",
            false => "it ends as runs that differ only in rounding do",
        };
        let last = curve.losses.len().saturating_sub(1);
        if let Some((step, what)) = self.first_outside(envelope, comparable) {
            let reason = format!("step {step}: {what}");
            return match (outside, outcomes.is_empty()) {
                (None, false) => judgement(
                    Verdict::Outcome,
                    &[Judge::Envelope, Judge::Outcome],
                    Some(step),
                    format!("{reason}; {ends}"),
                ),
                (None, true) => judgement(Verdict::Differs, &[Judge::Envelope], Some(step), reason),
                (Some(outcome), _) => judgement(
                    Verdict::Differs,
                    &[Judge::Envelope, Judge::Outcome],
                    Some(step),
                    format!("{reason}; {}", outcome_reason(outcome)),
                ),
            };
        }
        let inside = self.inside_reason(envelope, comparable);
        if let Some(outcome) = outside {
            let reason = format!("{inside}; {}", outcome_reason(outcome));
            return judgement(Verdict::Differs, &[Judge::Outcome], Some(last), reason);
        }
        let steps = curve.losses.len();
        let after = match (comparable < steps, outcomes.is_empty(), decided) {
            (false, ..) => String::new(),
            (true, false, _) => format!("; {ends}"),
            (true, true, true) => {
                format!(
                    "; after that only the checks of single steps count, because no other seed was run in {}",
                    self.dtype
                )
            }
            (true, true, false) => {
                let reason = format!(
                    "{inside}; later steps cannot be judged, because no other seed was run in {}",
                    self.dtype
                );
                return judgement(Verdict::Unavailable, &judges, None, reason);
            }
        };
        let undecided = match super::comparison::undecided(self.checks) {
            0 => String::new(),
            count => format!(
                "; {count} of {} checks cannot tell, because the precision is too coarse",
                self.checks.len()
            ),
        };
        let reason = format!("{inside}{after}{undecided}");
        judgement(Verdict::Rounding, &judges, None, reason)
    }

    /// Describes a curve inside the envelope.
    fn inside_reason(&self, envelope: &Envelope, comparable: usize) -> String {
        let steps = self.curve.losses.len();
        let differences = self.curve.differences(self.reference);
        let largest = differences
            .zip(&envelope.loss)
            .take(comparable)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let share = match largest {
            Some((difference, bound)) => format!(
                "the largest difference is {:.0} % of the envelope",
                100.0 * difference / bound
            ),
            None if steps == 0 => "no step was compared".into(),
            None => {
                return "curves are comparable at no step: rounding alone moves a loss as much as another seed".into();
            }
        };
        match comparable < steps {
            true => format!("comparable up to step {}: {share}", comparable - 1),
            false => share,
        }
    }

    /// Returns the first comparable step at which the loss or the weights leave the envelope, and which of them does.
    fn first_outside(&self, envelope: &Envelope, comparable: usize) -> Option<(usize, String)> {
        let first = |values: &mut dyn Iterator<Item = f64>, bounds: &[f64], what: &str| {
            values
                .zip(bounds)
                .enumerate()
                // NaN leaves every envelope, also at steps that are not comparable.
                .position(|(step, (value, bound))| {
                    value.is_nan() || step < comparable && value > *bound
                })
                .map(|step| (step, what.to_owned()))
        };
        let losses = &mut self.curve.differences(self.reference);
        let loss = first(losses, &envelope.loss, "the loss leaves the envelope");
        let weights = &mut self.curve.weights_distance.iter().copied();
        let weights = first(weights, &envelope.weights, "the weights leave the envelope");
        [loss, weights]
            .into_iter()
            .flatten()
            .min_by_key(|(step, _)| *step)
    }

    /// Compares the end of the run with the ends of other seeds and of runs that differ only in rounding. The interval
    /// of seeds in another precision is centred on the end of the reference's own backend in this one.
    ///
    /// Both are needed: three seeds may end near each other by luck, and their losses are not normal where training is
    /// unstable, whereas the runs that differ only in rounding vary there as the backend under test does.
    fn outcomes(&self) -> Vec<Outcome> {
        let Some(seeds) = self.seeds else {
            return Vec::new();
        };
        let around_own = seeds.dtype.is_some_and(|dtype| dtype != self.dtype);
        let steps = self.curve.losses.len();
        let outcome = |of: Outcomes| {
            let end = |curve: &Curve| of.end(&curve.losses, curve.final_loss, steps);
            // `None` if an end is missing, or if there are fewer than `minimum`.
            let ends = |losses: &[Vec<f64>], final_losses: &[f64], minimum| {
                let runs = losses.iter().enumerate();
                let ends =
                    runs.map(|(run, losses)| of.end(losses, final_losses.get(run).copied(), steps));
                let ends: Option<Vec<f64>> = ends.collect();
                ends.filter(|ends| ends.len() >= minimum)
            };
            let seeded = ends(&seeds.losses, &seeds.final_losses, 2)?;
            let rounding = self
                .envelope
                .and_then(|of| ends(&of.losses, &of.final_losses, 3));
            let around_seeds = match around_own {
                true => Interval::around(end(self.own?)?, prediction_half_width(&seeded, 1)),
                false => Interval::for_one_more(&seeded),
            };
            Some(Outcome {
                of,
                value: end(self.curve)?,
                seeds: around_seeds?,
                rounding: rounding.and_then(|ends| Interval::for_one_more(&ends)),
            })
        };
        let kinds = [Outcomes::FinalLoss, Outcomes::LastInterval];
        kinds.into_iter().filter_map(outcome).collect()
    }
}

impl Outcomes {
    /// Returns the value of this quantity for a run of `steps` steps. The final loss of a longer run does not count.
    fn end(self, losses: &[f64], final_loss: Option<f64>, steps: usize) -> Option<f64> {
        match self {
            Self::FinalLoss => final_loss.filter(|_| losses.len() == steps),
            Self::LastInterval => last_interval(losses, steps),
        }
    }
}

impl Interval {
    /// Returns the prediction interval for the end of one more such run.
    fn for_one_more(ends: &[f64]) -> Option<Self> {
        Self::around(
            statistics::mean(ends),
            prediction_half_width(ends, ends.len()),
        )
    }

    /// Creates an interval; `None` if the width is not finite.
    fn around(center: f64, half_width: f64) -> Option<Self> {
        half_width
            .is_finite()
            .then_some(Self { center, half_width })
    }
}

/// Returns the mean loss of the last tenth of `steps` steps; `None` if the run took fewer.
fn last_interval(losses: &[f64], steps: usize) -> Option<f64> {
    let taken = losses.get(..steps)?;
    let from = steps - (steps / 10).max(1).min(steps);
    (!taken.is_empty()).then(|| statistics::mean(&taken[from..]))
}

/// Describes an outcome outside its intervals.
fn outcome_reason(outcome: &Outcome) -> String {
    let of = match outcome.of {
        Outcomes::FinalLoss => "the final loss",
        Outcomes::LastInterval => "the mean loss of the last tenth of the steps",
    };
    let rounding = match outcome.rounding {
        Some(ends) => format!(
            ", and outside {:.4} ± {:.4}, where a run ends that differs only in rounding",
            ends.center, ends.half_width
        ),
        None => String::new(),
    };
    format!(
        "{of}, {:.4}, lies outside {:.4} ± {:.4}, where another seed ends with probability {}{rounding}",
        outcome.value,
        outcome.seeds.center,
        outcome.seeds.half_width,
        statistics::OUTCOME_LEVEL
    )
}

/// Describes a failed check.
fn check_reason(check: &Check) -> String {
    if check.of == Checked::Movement {
        return format!("step {}: the optimizer changes no weight", check.step);
    }
    format!(
        "step {}: {} is off by {:.1e}, and rounding explains {:.1e}",
        check.step,
        subject(check),
        check.error,
        check.bound
    )
}

fn ratio(check: &Check) -> f64 {
    match check.error.is_nan() {
        true => f64::INFINITY,
        false => check.error / check.bound,
    }
}

fn subject(check: &Check) -> String {
    let of = match check.of {
        Checked::Loss => "the loss",
        Checked::Logits => "the logits",
        Checked::Output => "the output",
        Checked::Gradient => "the gradient of",
        Checked::Update => "the update of",
        Checked::Movement => "the movement of the weights",
    };
    match &check.path {
        Some(path) => format!("{of} {path}"),
        None => of.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::precision::Precision;
    use crate::verify::compare::Computation;

    const OWN: Entrant = Entrant {
        name: Backend::Flex,
        dtype: Precision::F32,
    };

    fn curve(losses: &[f64]) -> Curve {
        Curve {
            losses: losses.to_vec(),
            final_loss: losses.last().copied(),
            ..Curve::default()
        }
    }

    /// Returns a reference, and the envelope of a run that differs from it by 1e-6, then 4e-6, then 2e-6.
    fn measured() -> (Curve, Envelope) {
        let reference = curve(&[4.0, 3.0, 2.0]);
        let run = curve(&[4.0 + 1e-6, 3.0 - 4e-6, 2.0 + 2e-6]);
        let envelope = Envelope::measure(OWN, &[&run], &reference).unwrap();
        (reference, envelope)
    }

    fn judge(
        losses: &[f64],
        checks: &[Check],
        own: Option<&Curve>,
        seeds: Option<&Seeds>,
    ) -> Judgement {
        let (reference, envelope) = measured();
        Case {
            curve: &curve(losses),
            dtype: Precision::F32,
            checks,
            reference: &reference,
            own,
            envelope: Some(&envelope),
            seeds,
        }
        .judge()
    }

    /// Returns two seeds whose ends differ by `apart`, and whose losses differ by `scale` at each step.
    fn seeds(apart: f64, scale: f64) -> Seeds {
        let losses = vec![4.0, 3.0, 2.0];
        Seeds {
            seeds: vec![1, 2],
            final_losses: vec![2.0, 2.0 + apart],
            losses: vec![losses.iter().map(|loss| loss + scale).collect(), losses],
            spread: 0.0,
            dtype: None,
        }
    }

    /// Returns seeds in f32 with these curves.
    fn seeds_along(curves: &[Curve]) -> Seeds {
        Seeds {
            seeds: (1..).take(curves.len()).collect(),
            final_losses: curves.iter().filter_map(|curve| curve.final_loss).collect(),
            losses: curves.iter().map(|curve| curve.losses.clone()).collect(),
            spread: 0.0,
            dtype: Some(Precision::F32),
        }
    }

    #[test]
    fn envelope_never_decreases_and_is_at_least_one_rounding() {
        let (reference, envelope) = measured();
        // The bound of one run is 4 · 63.657 times its difference.
        for (bound, expected) in envelope.loss.iter().zip([1e-6, 4e-6, 4e-6]) {
            assert!((bound / expected / 254.627 - 1.0).abs() < 1e-5, "{bound}");
        }
        let same = Envelope::measure(OWN, &[&reference], &reference).unwrap();
        assert!(same.loss.iter().all(|bound| *bound > 1e-7));
        assert!(Envelope::measure(OWN, &[], &reference).is_none());
    }

    #[test]
    fn verdict_follows_from_checks_bits_envelope_and_outcome() {
        let inside = [4.0 + 9e-6, 3.0 - 3e-5, 2.0 + 3.9e-5];
        let outside = [4.0, 3.0, 2.0 + 1e-2];
        let check = |error| {
            vec![Check {
                step: 7,
                of: Checked::Gradient,
                path: Some("head.weight".into()),
                error,
                bound: 1e-6,
            }]
        };
        let judged = judge(&inside, &check(1e-7), None, None);
        assert_eq!(judged.verdict, Verdict::Rounding);
        assert_eq!(judged.first_step, None);
        assert!((judged.max_abs_loss_difference.unwrap() - 3.9e-5).abs() < 1e-9);

        let own = curve(&inside);
        let judged = judge(&inside, &[], Some(&own), None);
        assert_eq!(judged.verdict, Verdict::Identical);

        for (apart, verdict) in [(0.1, Verdict::Outcome), (1e-5, Verdict::Differs)] {
            let judged = judge(&outside, &[], None, Some(&seeds(apart, 0.1)));
            assert_eq!(judged.verdict, verdict, "{}", judged.reason);
            assert_eq!(judged.first_step, Some(2));
            assert_eq!(judged.judged_by, [Judge::Envelope, Judge::Outcome]);
        }
        assert_eq!(
            judge(&outside, &[], None, None).verdict,
            Verdict::Differs,
            "without seeds no outcome excuses the curve"
        );

        // Neither the same bits nor an outcome excuse a failed check.
        for error in [1e-5, f64::NAN, f64::INFINITY] {
            let judged = judge(&inside, &check(error), Some(&own), Some(&seeds(1.0, 0.1)));
            assert_eq!(judged.verdict, Verdict::Differs, "{error}");
            assert_eq!(judged.first_step, Some(7));
            assert!(judged.reason.contains("head.weight"), "{}", judged.reason);
        }
        let nan = judge(&[4.0, f64::NAN, 2.0], &[], None, None);
        assert_eq!((nan.verdict, nan.first_step), (Verdict::Differs, Some(1)));
    }

    #[test]
    fn own_backend_that_agrees_has_the_verdict_own() {
        let inside = [4.0 + 9e-6, 3.0 - 3e-5, 2.0 + 3.9e-5];
        let own = curve(&inside);
        for own in [Some(&own), None] {
            let judged = judge(&inside, &[], own, None).for_own_backend();
            assert_eq!(judged.verdict, Verdict::Own);
            assert!(
                judged
                    .reason
                    .ends_with("; no evidence about another backend")
            );
        }
        // A difference is reported for the own backend as well.
        let judged = judge(&[4.0, 3.0, 2.1], &[], None, None).for_own_backend();
        assert_eq!(judged.verdict, Verdict::Differs);
    }

    #[test]
    fn other_logits_in_another_way_are_a_difference_whatever_the_training_shows() {
        let inside = [4.0 + 9e-6, 3.0 - 3e-5, 2.0 + 3.9e-5];
        let result = |verdict| Invariance {
            of: Computation::CachedSteps,
            verdict,
            error: 0.25,
            bound: 1e-6,
            max_abs_difference: 2.0,
        };
        let fine = [Verdict::Identical, Verdict::Rounding, Verdict::Unavailable].map(result);
        let own = curve(&inside);
        let judged = judge(&inside, &[], Some(&own), None).with_invariance(&fine);
        assert_eq!(judged.verdict, Verdict::Identical);

        let other = [result(Verdict::Differs)];
        let judged = judge(&inside, &[], Some(&own), None).with_invariance(&other);
        let judged = judged.for_own_backend();
        assert_eq!(judged.verdict, Verdict::Differs);
        assert_eq!(judged.judged_by, [Judge::Invariance]);
        assert_eq!(judged.first_step, None);
        let reason = "steps with a cache compute other logits than a full pass: they are off by 2.5e-1, and rounding \
                      explains 1.0e-6";
        assert_eq!(judged.reason, reason);

        // It is added to another difference, and no reason for a failure.
        let outside = judge(&[4.0, 3.0, 2.1], &[], None, None).with_invariance(&other);
        assert_eq!(outside.verdict, Verdict::Differs);
        assert_eq!(outside.judged_by, [Judge::Envelope, Judge::Invariance]);
        let both = format!("step 2: the loss leaves the envelope; {reason}");
        assert_eq!(outside.reason, both);
        let failed = Judgement {
            verdict: Verdict::Failed,
            ..judge(&inside, &[], None, None)
        };
        assert_eq!(failed.with_invariance(&other).verdict, Verdict::Failed);
    }

    #[test]
    fn outcome_decides_where_the_envelope_exceeds_the_scale_of_seeds() {
        let steps = 60;
        let falling = |shift: &dyn Fn(usize) -> f64| -> Curve {
            let losses: Vec<f64> = (0..steps)
                .map(|step| 4.0 - step as f64 / 60.0 + shift(step))
                .collect();
            curve(&losses)
        };
        let reference = falling(&|_| 0.0);
        // Rounding grows by a factor of e every second step.
        let grown = |step: usize| (1e-7 * (0.5 * step as f64).exp()).min(0.5);
        let envelope = Envelope::measure(
            OWN,
            &[&falling(&grown), &falling(&|s| -grown(s))],
            &reference,
        )
        .unwrap();
        let others: Vec<Curve> = [-0.05, 0.0, 0.05]
            .map(|shift| falling(&move |_| shift))
            .into();
        let seeds = seeds_along(&others);
        let check = Check {
            step: 0,
            of: Checked::Loss,
            path: None,
            error: 0.0,
            bound: 1e-6,
        };
        let judged = |curve: &Curve, checks: &[Check], seeds: Option<&Seeds>| {
            Case {
                curve,
                dtype: Precision::F32,
                checks,
                reference: &reference,
                own: None,
                envelope: Some(&envelope),
                seeds,
            }
            .judge()
        };
        let fine = falling(&|step| 0.5 * grown(step).min(0.1));
        let of_fine = judged(&fine, &[], Some(&seeds));
        assert_eq!(of_fine.verdict, Verdict::Rounding, "{}", of_fine.reason);
        assert_eq!(of_fine.judged_by, [Judge::Envelope, Judge::Outcome]);
        let comparable = of_fine.comparable_steps.unwrap();
        assert!((10..40).contains(&comparable), "{comparable}");
        let start = format!("comparable up to step {}", comparable - 1);
        assert!(of_fine.reason.starts_with(&start), "{}", of_fine.reason);
        assert!(of_fine.reason.contains("it ends as other seeds do"));

        // A loss that is 1.5 nats worse at late steps is inside the envelope, which is 20 nats there.
        let worse = falling(&|step| if step < 50 { 0.0 } else { 1.5 });
        assert!(
            worse
                .differences(&reference)
                .zip(&envelope.loss)
                .all(|(d, bound)| d <= *bound)
        );
        let of_worse = judged(&worse, std::slice::from_ref(&check), Some(&seeds));
        assert_eq!(of_worse.verdict, Verdict::Differs, "{}", of_worse.reason);
        assert_eq!(of_worse.judged_by, [Judge::Outcome]);
        assert!(
            of_worse.reason.contains("final loss"),
            "{}",
            of_worse.reason
        );
        // The training losses alone show it as well.
        let hidden = Curve {
            final_loss: reference.final_loss,
            ..worse.clone()
        };
        let of_hidden = judged(&hidden, &[], Some(&seeds));
        assert!(
            of_hidden.reason.contains("last tenth"),
            "{}",
            of_hidden.reason
        );

        // Without seeds only checks of single steps count; without either there is no verdict.
        let of_checked = judged(&fine, &[check], None);
        assert_eq!(of_checked.verdict, Verdict::Rounding);
        assert!(
            of_checked.reason.contains("no other seed"),
            "{}",
            of_checked.reason
        );
        let of_nothing = judged(&fine, &[], None);
        assert_eq!(of_nothing.verdict, Verdict::Unavailable);
    }

    #[test]
    fn end_that_rounding_explains_agrees_although_seeds_end_elsewhere() {
        let steps = 60;
        let ending = |end: f64| {
            let mut losses = vec![4.0; steps - 6];
            losses.extend([end; 6]);
            curve(&losses)
        };
        let reference = ending(2.45);
        // These seeds end near each other by luck.
        let others = [2.455, 2.46, 2.47].map(ending);
        let seeds = seeds_along(&others);
        let apart = [2.35, 2.45, 2.4, 2.5, 2.55].map(ending);
        let runs: Vec<&Curve> = apart.iter().collect();
        let envelope = Envelope::measure(OWN, &runs, &reference).unwrap();
        let with = |curve: &Curve, seeds: &Seeds| {
            Case {
                curve,
                dtype: Precision::F32,
                checks: &[],
                reference: &reference,
                own: None,
                envelope: Some(&envelope),
                seeds: Some(seeds),
            }
            .judge()
        };
        let judged = |end: f64| with(&ending(end), &seeds);
        let explained = judged(2.3);
        assert_eq!(explained.verdict, Verdict::Rounding, "{}", explained.reason);
        assert!(
            explained
                .reason
                .contains("as runs that differ only in rounding do"),
            "{}",
            explained.reason
        );
        assert_eq!(explained.inside_seed_spread, Some(false));
        let worse = judged(4.0);
        assert_eq!(worse.verdict, Verdict::Differs, "{}", worse.reason);
        assert!(
            worse.reason.contains("and outside 2.45"),
            "{}",
            worse.reason
        );
        // The final losses of longer runs do not count.
        let longer = Seeds {
            losses: seeds
                .losses
                .iter()
                .map(|l| [&l[..], &[1.0]].concat())
                .collect(),
            ..seeds.clone()
        };
        let kinds = |seeds: &Seeds| -> Vec<Outcomes> {
            let outcomes = with(&ending(2.45), seeds).outcomes;
            outcomes.iter().map(|outcome| outcome.of).collect()
        };
        assert_eq!(kinds(&seeds), [Outcomes::FinalLoss, Outcomes::LastInterval]);
        assert_eq!(kinds(&longer), [Outcomes::LastInterval]);
    }

    #[test]
    fn reason_counts_checks_whose_bounds_explain_everything() {
        let check = |error, bound| Check {
            step: 0,
            of: Checked::Update,
            path: Some("final_norm.gamma".into()),
            error,
            bound,
        };
        let inside = [4.0, 3.0, 2.0];
        let checks = [
            check(1.0, 16.5),
            check(1e-7, 1e-6),
            check(f64::NAN, f64::INFINITY),
        ];
        let judged = judge(&inside, &checks, None, None);
        assert_eq!(judged.verdict, Verdict::Rounding, "{}", judged.reason);
        assert!(
            judged.reason.contains("2 of 3 checks cannot tell"),
            "{}",
            judged.reason
        );
        // An optimizer that changes no weight is still found.
        let frozen = Check {
            of: Checked::Movement,
            path: None,
            ..check(1.0, 0.0)
        };
        let judged = judge(&inside, &[check(1.0, 16.5), frozen], None, None);
        assert_eq!(judged.verdict, Verdict::Differs);
        assert_eq!(judged.reason, "step 0: the optimizer changes no weight");
    }

    #[test]
    fn run_that_stopped_has_failed() {
        let (reference, envelope) = measured();
        let stopped = Curve {
            failure: Some("out of memory".into()),
            ..curve(&[4.0])
        };
        let judged = Case {
            curve: &stopped,
            dtype: Precision::F32,
            checks: &[],
            reference: &reference,
            own: None,
            envelope: Some(&envelope),
            seeds: None,
        }
        .judge();
        assert_eq!(judged.verdict, Verdict::Failed);
        assert_eq!(judged.first_step, Some(1));
        assert_eq!(judged.reason, "out of memory");
    }

    #[test]
    fn speed_ignores_slow_first_steps() {
        let curve = Curve {
            seconds: vec![60.0, 0.5, 0.5, 0.5, 0.6],
            ..Curve::default()
        };
        assert_eq!(curve.tokens_per_second(100), Some(200.0));
        assert_eq!(Curve::default().tokens_per_second(100), None);
    }
}
