//! Checks, curves and outcomes → verdict.
//!
//! Three judges, each where it can tell anything. Checks of single steps start from the reference's own state, so chaos
//! explains nothing of them. The envelope is what rounding explains of the curve; it speaks until it is as large as
//! what another seed changes in the loss of a step. The outcome, where the run ends, is tested against other seeds.

use super::statistics::{
    self, ENVELOPE_LEVEL, difference_bound, prediction_half_width, standard_deviation,
};
use super::{
    Check, Checked, Entrant, Entry, Envelope, Interval, Judge, Outcome, Outcomes, Seeds, Verdict,
};
use crate::backend::precision::Precision;
use crate::show::statistics::median;

/// What the bound from runs that rounding set apart is multiplied with: one backend rounds more coarsely than another.
pub(crate) const FACTOR: f64 = 4.0;

/// Steps on either side over which the scale of the loss of a step is averaged.
const SCALE_WINDOW: usize = 10;

/// What a run leaves behind to be judged by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Curve {
    /// Nats per token of each step.
    pub(crate) losses: Vec<f64>,
    pub(crate) gradient_norms: Vec<f64>,
    pub(crate) seconds: Vec<f64>,
    /// See [`Entry::weights_distance`](super::Entry::weights_distance).
    pub(crate) weights_distance: Vec<f64>,
    pub(crate) final_loss: Option<f64>,
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Why it stopped on its way.
    pub(crate) failure: Option<String>,
}

impl Curve {
    /// A step's tokens over the median time of a step: the first steps, which compile kernels, do not count.
    pub(crate) fn tokens_per_second(&self, tokens_per_step: usize) -> Option<f64> {
        let median = median(self.seconds.iter().copied())?;
        (median > 0.0).then(|| tokens_per_step as f64 / median)
    }

    /// |loss − reference's| of each step that both took.
    fn differences<'a>(&'a self, reference: &'a Self) -> impl Iterator<Item = f64> + 'a {
        self.losses
            .iter()
            .zip(&reference.losses)
            .map(|(loss, reference)| (loss - reference).abs())
    }

    /// Whether every number that is known of both has the same bits. Only one may have a final loss that counts.
    fn is_identical(&self, other: &Self) -> bool {
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let ends = self.final_loss.zip(other.final_loss);
        bits(&self.losses) == bits(&other.losses)
            && bits(&self.gradient_norms) == bits(&other.gradient_norms)
            && ends.is_none_or(|(a, b)| a.to_bits() == b.to_bits())
    }
}

impl Envelope {
    /// What the runs of one entrant show; nothing where there are none.
    pub(crate) fn measure(of: Entrant, runs: &[&Curve], reference: &Curve) -> Option<Self> {
        if runs.is_empty() {
            return None;
        }
        let u = of.dtype.unit_roundoff();
        let distances = |run: &Curve| -> Vec<f64> {
            run.differences(reference)
                .zip(&reference.losses)
                // No loss is known better than to a rounding of its own.
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
            loss: rising(&losses),
            weights: rising(&weights),
        })
    }

    /// How many steps from the start it tells anything about: until it exceeds the scale of the loss of a step, which
    /// is the standard deviation between seeds, and without other seeds that between successive steps.
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
        // A scale that is not known, or an envelope that is no number, tells nothing.
        let tells = |step: &usize| squares.is_empty() || self.loss[*step] <= scale(*step);
        (0..steps).take_while(tells).count()
    }
}

/// Variance of the loss between seeds, for each step that all took.
fn between_seeds(losses: &[Vec<f64>]) -> Vec<f64> {
    let steps = losses.iter().map(Vec::len).min().unwrap_or(0);
    let variance = |step: usize| {
        let at: Vec<f64> = losses.iter().map(|losses| losses[step]).collect();
        standard_deviation(&at).powi(2)
    };
    (0..steps).map(variance).collect()
}

/// Variance of the loss between successive steps, whose batches differ.
fn between_steps(losses: &[f64]) -> Vec<f64> {
    let half_square = |pair: &[f64]| 0.5 * (pair[1] - pair[0]).powi(2);
    losses.windows(2).map(half_square).collect()
}

/// At each step the bound that the runs give, or that of a step before if it was larger, times the factor.
fn rising(runs: &[Vec<f64>]) -> Vec<f64> {
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

/// What is said of an entrant.
#[derive(Debug, Clone)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    pub(crate) judged_by: Vec<Judge>,
    pub(crate) comparable_steps: Option<usize>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) first_step: Option<usize>,
    pub(crate) max_abs_loss_difference: Option<f64>,
    /// The envelope where that difference was.
    pub(crate) envelope: Option<f64>,
    pub(crate) inside_seed_spread: Option<bool>,
}

impl Judgement {
    /// The entry of a backend under test with this judgement of its curve; its run, environment and checks are missing.
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

    /// Turns agreement of the reference's own backend with itself into [`Verdict::Own`]. A difference remains
    /// a difference.
    pub(crate) fn of_own_backend(mut self) -> Self {
        if matches!(self.verdict, Verdict::Identical | Verdict::Rounding) {
            self.verdict = Verdict::Own;
            self.reason += "; no evidence about another backend";
        }
        self
    }
}

/// What an entrant is judged by.
pub(crate) struct Case<'a> {
    pub(crate) entrant: &'a Curve,
    pub(crate) dtype: Precision,
    /// Checks of single steps.
    pub(crate) checks: &'a [Check],
    pub(crate) reference: &'a Curve,
    /// The reference's backend in the entrant's precision, with the bits to be identical to.
    pub(crate) own: Option<&'a Curve>,
    pub(crate) envelope: Option<&'a Envelope>,
    pub(crate) seeds: Option<&'a Seeds>,
}

impl Case<'_> {
    pub(crate) fn judge(&self) -> Judgement {
        let (entrant, reference) = (self.entrant, self.reference);
        let largest = entrant
            .differences(reference)
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let at_largest = |bounds: &[f64]| bounds.get(largest?.0).copied();
        let comparable = self
            .envelope
            .map(|envelope| envelope.comparable_steps(&reference.losses, self.seeds));
        let outcomes = self.outcomes();
        let of_final = |outcome: &&Outcome| outcome.of == Outcomes::FinalLoss;
        let final_outcome = outcomes.iter().find(of_final);
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
        if let Some(failure) = &entrant.failure {
            let step = entrant.losses.len();
            return judgement(Verdict::Failed, &[], Some(step), failure.clone());
        }
        let failing = self.checks.iter().filter(|check| !check.holds());
        // The worst, relative to its bound.
        if let Some(check) = failing.max_by(|a, b| ratio(a).total_cmp(&ratio(b))) {
            let reason = accusation(check);
            return judgement(Verdict::Differs, &[Judge::Checks], Some(check.step), reason);
        }
        if self.own.is_some_and(|own| entrant.is_identical(own)) {
            let reason = "every loss and gradient norm has the same bits";
            return judgement(Verdict::Identical, &[Judge::Bits], None, reason.into());
        }
        let Some((envelope, comparable)) = self.envelope.zip(comparable) else {
            let reason =
                "not the same bits, and no envelope is known that would tell rounding from more";
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
            false => "it ends as runs do that rounding set apart",
        };
        let last = entrant.losses.len().saturating_sub(1);
        if let Some((step, what)) = self.leaves(envelope, comparable) {
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
                    format!("{reason}; {}", away(outcome)),
                ),
            };
        }
        let curve = self.curve_words(envelope, comparable);
        if let Some(outcome) = outside {
            let reason = format!("{curve}; {}", away(outcome));
            return judgement(Verdict::Differs, &[Judge::Outcome], Some(last), reason);
        }
        let steps = entrant.losses.len();
        let after = match (comparable < steps, outcomes.is_empty(), decided) {
            (false, ..) => String::new(),
            (true, false, _) => format!("; {ends}"),
            (true, true, true) => {
                format!(
                    "; from there on only the checks of single steps tell, as no other seed was run in {}",
                    self.dtype
                )
            }
            (true, true, false) => {
                let reason = format!(
                    "{curve}; no other seed was run in {} that would tell what came after",
                    self.dtype
                );
                return judgement(Verdict::Unavailable, &judges, None, reason);
            }
        };
        let undecided = match super::comparison::undecided(self.checks) {
            0 => String::new(),
            count => format!(
                "; {count} of {} checks cannot tell, their precision is too coarse",
                self.checks.len()
            ),
        };
        let reason = format!("{curve}{after}{undecided}");
        judgement(Verdict::Rounding, &judges, None, reason)
    }

    /// What the envelope says of a curve that stays inside.
    fn curve_words(&self, envelope: &Envelope, comparable: usize) -> String {
        let steps = self.entrant.losses.len();
        let differences = self.entrant.differences(self.reference);
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
            None => return "curves are comparable at no step: rounding alone moves a loss as much as another seed".into(),
        };
        match comparable < steps {
            true => format!("comparable up to step {}: {share}", comparable - 1),
            false => share,
        }
    }

    /// The first comparable step at which the loss or the weights leave the envelope, and how.
    fn leaves(&self, envelope: &Envelope, comparable: usize) -> Option<(usize, String)> {
        let first = |values: &mut dyn Iterator<Item = f64>, bounds: &[f64], what: &str| {
            values
                .zip(bounds)
                .enumerate()
                // A value that is no number leaves every envelope, wherever it is.
                .position(|(step, (value, bound))| {
                    value.is_nan() || step < comparable && value > *bound
                })
                .map(|step| (step, what.to_owned()))
        };
        let losses = &mut self.entrant.differences(self.reference);
        let loss = first(losses, &envelope.loss, "the loss leaves the envelope");
        let weights = &mut self.entrant.weights_distance.iter().copied();
        let weights = first(weights, &envelope.weights, "the weights leave the envelope");
        [loss, weights]
            .into_iter()
            .flatten()
            .min_by_key(|(step, _)| *step)
    }

    /// Compares where the run ends with the seeds and with the runs that rounding set apart. The interval of seeds that
    /// ran in another precision is centred on where the reference's own backend ends in this one.
    ///
    /// Both are needed: three seeds may end near each other by luck, and their losses are not normal where training is
    /// unstable, whereas the runs that rounding set apart vary there as the entrant does.
    fn outcomes(&self) -> Vec<Outcome> {
        let Some(seeds) = self.seeds else {
            return Vec::new();
        };
        let around_own = seeds.dtype.is_some_and(|dtype| dtype != self.dtype);
        let steps = self.entrant.losses.len();
        let outcome = |of: Outcomes| {
            let end = |curve: &Curve| of.end(&curve.losses, curve.final_loss, steps);
            // The ends of all runs, at least `least` of them, or nothing.
            let ends = |losses: &[Vec<f64>], final_losses: &[f64], least| {
                let runs = losses.iter().enumerate();
                let ends =
                    runs.map(|(run, losses)| of.end(losses, final_losses.get(run).copied(), steps));
                let ends: Option<Vec<f64>> = ends.collect();
                ends.filter(|ends| ends.len() >= least)
            };
            let seeded = ends(&seeds.losses, &seeds.final_losses, 2)?;
            let rounding = self
                .envelope
                .and_then(|of| ends(&of.losses, &of.final_losses, 3));
            let around_seeds = match around_own {
                true => Interval::around(end(self.own?)?, prediction_half_width(&seeded, 1)),
                false => Interval::of_one_more(&seeded),
            };
            Some(Outcome {
                of,
                value: end(self.entrant)?,
                seeds: around_seeds?,
                rounding: rounding.and_then(|ends| Interval::of_one_more(&ends)),
            })
        };
        let kinds = [Outcomes::FinalLoss, Outcomes::LastInterval];
        kinds.into_iter().filter_map(outcome).collect()
    }
}

impl Outcomes {
    /// The number by which the end of a run over `steps` steps is compared. The final loss of a longer run is none: it
    /// says nothing about fewer steps.
    fn end(self, losses: &[f64], final_loss: Option<f64>, steps: usize) -> Option<f64> {
        match self {
            Self::FinalLoss => final_loss.filter(|_| losses.len() == steps),
            Self::LastInterval => last_interval(losses, steps),
        }
    }
}

impl Interval {
    /// Prediction interval for one more run that ends as these do.
    fn of_one_more(ends: &[f64]) -> Option<Self> {
        Self::around(
            statistics::mean(ends),
            prediction_half_width(ends, ends.len()),
        )
    }

    /// `None` if the width is no number.
    fn around(center: f64, half_width: f64) -> Option<Self> {
        half_width
            .is_finite()
            .then_some(Self { center, half_width })
    }
}

/// The mean of the last tenth of so many steps; nothing where they were not all taken.
fn last_interval(losses: &[f64], steps: usize) -> Option<f64> {
    let taken = losses.get(..steps)?;
    let from = steps - (steps / 10).max(1).min(steps);
    (!taken.is_empty()).then(|| statistics::mean(&taken[from..]))
}

/// How an outcome lies outside.
fn away(outcome: &Outcome) -> String {
    let of = match outcome.of {
        Outcomes::FinalLoss => "the final loss",
        Outcomes::LastInterval => "the mean loss of the last tenth of the steps",
    };
    let rounding = match outcome.rounding {
        Some(ends) => format!(
            ", and outside {:.4} ± {:.4}, where a run does that rounding set apart",
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

/// Why a check that fails accuses.
fn accusation(check: &Check) -> String {
    if check.of == Checked::Movement {
        return format!("step {}: the optimizer changes no weight", check.step);
    }
    format!(
        "step {}: {} is off by {:.1e}, rounding explains {:.1e}",
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

    /// A reference, and the envelope of a run that parts from it by 1e-6, then 4e-6, then 2e-6.
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
            entrant: &curve(losses),
            dtype: Precision::F32,
            checks,
            reference: &reference,
            own,
            envelope: Some(&envelope),
            seeds,
        }
        .judge()
    }

    /// Two seeds that end `apart`, and whose losses are `scale` apart at each step.
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

    /// Seeds in f32 that ran along these curves.
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
    fn an_envelope_never_falls_and_is_no_narrower_than_a_rounding() {
        let (reference, envelope) = measured();
        // Of one run 4 · 63.657 times the difference.
        for (bound, expected) in envelope.loss.iter().zip([1e-6, 4e-6, 4e-6]) {
            assert!((bound / expected / 254.627 - 1.0).abs() < 1e-5, "{bound}");
        }
        let same = Envelope::measure(OWN, &[&reference], &reference).unwrap();
        assert!(same.loss.iter().all(|bound| *bound > 1e-7));
        assert!(Envelope::measure(OWN, &[], &reference).is_none());
    }

    #[test]
    fn every_verdict_has_its_case() {
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
            "without seeds nothing excuses it"
        );

        // A check that fails is not excused by anything.
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
    fn agreement_of_the_references_own_backend_is_a_verdict_of_its_own() {
        let inside = [4.0 + 9e-6, 3.0 - 3e-5, 2.0 + 3.9e-5];
        let own = curve(&inside);
        for own in [Some(&own), None] {
            let judged = judge(&inside, &[], own, None).of_own_backend();
            assert_eq!(judged.verdict, Verdict::Own);
            assert!(
                judged
                    .reason
                    .ends_with("; no evidence about another backend")
            );
        }
        // What differs is news, whoever computed it.
        let judged = judge(&[4.0, 3.0, 2.1], &[], None, None).of_own_backend();
        assert_eq!(judged.verdict, Verdict::Differs);
    }

    #[test]
    fn beyond_the_scale_of_seeds_the_outcome_decides() {
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
        let judged = |entrant: &Curve, checks: &[Check], seeds: Option<&Seeds>| {
            Case {
                entrant,
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
        let says = format!("comparable up to step {}", comparable - 1);
        assert!(of_fine.reason.starts_with(&says), "{}", of_fine.reason);
        assert!(of_fine.reason.contains("it ends as other seeds do"));

        // 1.5 nats worse late: inside the envelope, which is 20 nats by then.
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
        // The same in the training losses alone.
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

        // Without seeds, single steps alone tell; without either, nothing is claimed.
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
    fn an_end_that_rounding_explains_is_not_accused_though_seeds_end_elsewhere() {
        let steps = 60;
        let ending = |end: f64| {
            let mut losses = vec![4.0; steps - 6];
            losses.extend([end; 6]);
            curve(&losses)
        };
        let reference = ending(2.45);
        // Near each other by luck.
        let others = [2.455, 2.46, 2.47].map(ending);
        let seeds = seeds_along(&others);
        let apart = [2.35, 2.45, 2.4, 2.5, 2.55].map(ending);
        let runs: Vec<&Curve> = apart.iter().collect();
        let envelope = Envelope::measure(OWN, &runs, &reference).unwrap();
        let with = |entrant: &Curve, seeds: &Seeds| {
            Case {
                entrant,
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
                .contains("as runs do that rounding set apart"),
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
        // The ends of longer runs say nothing about those of shorter ones.
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
    fn bounds_that_explain_everything_are_told_and_counted() {
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
        // An optimizer that never updates is named all the same.
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
    fn a_run_that_stopped_has_failed() {
        let (reference, envelope) = measured();
        let entrant = Curve {
            failure: Some("out of memory".into()),
            ..curve(&[4.0])
        };
        let judged = Case {
            entrant: &entrant,
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
    fn the_first_slow_steps_do_not_count_for_the_speed() {
        let curve = Curve {
            seconds: vec![60.0, 0.5, 0.5, 0.5, 0.6],
            ..Curve::default()
        };
        assert_eq!(curve.tokens_per_second(100), Some(200.0));
        assert_eq!(Curve::default().tokens_per_second(100), None);
    }
}
