//! Curves → envelope → verdict.

use super::{Check, Checked, Entrant, Envelope, Seeds, Verdict};

/// Which quantile over the runs of an envelope is taken: the largest.
pub(crate) const QUANTILE: f64 = 1.0;

/// What it is multiplied with: the runs are few, and one backend rounds more coarsely than another.
pub(crate) const FACTOR: f64 = 10.0;

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
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        let median = *seconds.get(seconds.len() / 2)?;
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
            quantile: QUANTILE,
            factor: FACTOR,
            loss: rising(&losses),
            weights: rising(&weights),
        })
    }
}

/// At each step the quantile over the runs, or that of a step before if it was larger, times the factor.
fn rising(runs: &[Vec<f64>]) -> Vec<f64> {
    let steps = runs.iter().map(Vec::len).min().unwrap_or(0);
    let mut largest = 0.0f64;
    (0..steps)
        .map(|step| {
            let mut at: Vec<f64> = runs.iter().map(|run| run[step]).collect();
            at.sort_by(f64::total_cmp);
            let index = (QUANTILE * (at.len() - 1) as f64).round() as usize;
            largest = largest.max(at[index]);
            FACTOR * largest
        })
        .collect()
}

/// What is said of an entrant.
#[derive(Debug, Clone)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    pub(crate) first_step: Option<usize>,
    pub(crate) max_abs_loss_difference: Option<f64>,
    /// The envelope where that difference was.
    pub(crate) envelope: Option<f64>,
    pub(crate) inside_seed_spread: Option<bool>,
}

impl Judgement {
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
    /// Of step 0.
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
        let inside_seed_spread = self.inside_seed_spread();
        let judgement = |verdict, first_step, reason| Judgement {
            verdict,
            reason,
            first_step,
            max_abs_loss_difference: largest.map(|(_, difference)| difference),
            envelope: self
                .envelope
                .and_then(|envelope| at_largest(&envelope.loss)),
            inside_seed_spread,
        };
        if let Some(failure) = &entrant.failure {
            let step = entrant.losses.len();
            return judgement(Verdict::Failed, Some(step), failure.clone());
        }
        let failing = self.checks.iter().filter(|check| !check.holds());
        // The worst, relative to its bound.
        if let Some(check) = failing.max_by(|a, b| ratio(a).total_cmp(&ratio(b))) {
            let reason = format!(
                "step 0: {} is off by {:.1e}, rounding explains {:.1e}",
                subject(check),
                check.error,
                check.bound
            );
            return judgement(Verdict::Differs, Some(0), reason);
        }
        if self.own.is_some_and(|own| entrant.is_identical(own)) {
            let reason = "every loss and gradient norm has the same bits";
            return judgement(Verdict::Identical, None, reason.into());
        }
        let Some(envelope) = self.envelope else {
            let reason =
                "not the same bits, and no envelope is known that would tell rounding from more";
            return judgement(Verdict::Unavailable, None, reason.into());
        };
        match self.leaves(envelope) {
            None => {
                let reason = match (largest, at_largest(&envelope.loss)) {
                    (Some((_, difference)), Some(bound)) => format!(
                        "the largest difference is {:.0} % of the envelope",
                        100.0 * difference / bound
                    ),
                    _ => "no step was compared".into(),
                };
                judgement(Verdict::Rounding, None, reason)
            }
            Some((step, what)) => {
                let (verdict, and) = match inside_seed_spread {
                    Some(true) => (
                        Verdict::Outcome,
                        "; it ends inside the spread between seeds",
                    ),
                    Some(false) => (
                        Verdict::Differs,
                        "; it ends outside the spread between seeds",
                    ),
                    None => (Verdict::Differs, ""),
                };
                judgement(verdict, Some(step), format!("step {step}: {what}{and}"))
            }
        }
    }

    /// The first step at which the loss or the weights leave the envelope, and how.
    fn leaves(&self, envelope: &Envelope) -> Option<(usize, String)> {
        let first = |values: &mut dyn Iterator<Item = f64>, bounds: &[f64], what: &str| {
            values
                .zip(bounds)
                // A value that is no number leaves every envelope.
                .position(|(value, bound)| value.is_nan() || value > *bound)
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

    fn inside_seed_spread(&self) -> Option<bool> {
        let seeds = self.seeds?;
        let difference = self.entrant.final_loss? - self.reference.final_loss?;
        Some(difference.abs() <= seeds.spread)
    }
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
    use crate::precision::Precision;

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
            checks,
            reference: &reference,
            own,
            envelope: Some(&envelope),
            seeds,
        }
        .judge()
    }

    fn seeds(spread: f64) -> Seeds {
        Seeds {
            seeds: vec![1, 2],
            final_losses: vec![2.0, 2.0 + spread],
            losses: vec![],
            spread,
        }
    }

    #[test]
    fn an_envelope_never_falls_and_is_no_narrower_than_a_rounding() {
        let (reference, envelope) = measured();
        for (bound, expected) in envelope.loss.iter().zip([1e-5, 4e-5, 4e-5]) {
            assert!((bound / expected - 1.0).abs() < 1e-6, "{bound}");
        }
        let same = Envelope::measure(OWN, &[&reference], &reference).unwrap();
        assert!(same.loss.iter().all(|bound| *bound > 1e-7));
        assert!(Envelope::measure(OWN, &[], &reference).is_none());
    }

    #[test]
    fn every_verdict_has_its_case() {
        let inside = [4.0 + 9e-6, 3.0 - 3e-5, 2.0 + 3.9e-5];
        let outside = [4.0, 3.0, 2.0 + 1e-3];
        let check = |error| {
            vec![Check {
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

        for (spread, verdict) in [(0.1, Verdict::Outcome), (1e-4, Verdict::Differs)] {
            let judged = judge(&outside, &[], None, Some(&seeds(spread)));
            assert_eq!(judged.verdict, verdict);
            assert_eq!(judged.first_step, Some(2));
        }
        assert_eq!(
            judge(&outside, &[], None, None).verdict,
            Verdict::Differs,
            "without seeds nothing excuses it"
        );

        // A check that fails is not excused by anything.
        for error in [1e-5, f64::NAN, f64::INFINITY] {
            let judged = judge(&inside, &check(error), Some(&own), Some(&seeds(1.0)));
            assert_eq!(judged.verdict, Verdict::Differs, "{error}");
            assert_eq!(judged.first_step, Some(0));
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
    fn a_run_that_stopped_has_failed() {
        let (reference, envelope) = measured();
        let entrant = Curve {
            failure: Some("out of memory".into()),
            ..curve(&[4.0])
        };
        let judged = Case {
            entrant: &entrant,
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
