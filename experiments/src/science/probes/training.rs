//! Probes of a run while it trains.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::module::Module;

use super::means::{Means, Measure, chance};
use super::questions::Questions;
use crate::Error;
use crate::engine::event::{Probed, ProbedFamily, ProbedMeasure};
use crate::engine::probing::{Probe, ProbeWithNotes};
use crate::engine::session::Session;
use crate::engine::setup::Setup;
use crate::experiment::ProbeSteps;

/// Probes that an experiment asks for.
struct TrainingProbes {
    questions: Questions,
    every: ProbeSteps,
    /// The last step.
    steps: usize,
}

/// Makes the probes that an experiment asks for in its section `[probes]`, if it has one, and notes about items that are
/// left out.
///
/// # Errors
///
/// Returns an error if no item fits the model.
pub fn in_training(setup: &Setup) -> Result<Option<ProbeWithNotes>, Error> {
    let (Some(section), Some(world)) = (&setup.experiment.probes, &setup.data.world) else {
        return Ok(None);
    };
    let world = &world.world;
    let questions = Questions::new(
        world,
        &section.families_in(world.config().kind),
        section.items,
        &setup.data.tokenizer,
        setup.model.context,
    )?;
    let notes = questions.notes();
    let probes = TrainingProbes {
        questions,
        every: section.every,
        steps: setup.experiment.train.steps,
    };
    Ok(Some((Box::new(probes), notes)))
}

impl Probe for TrainingProbes {
    fn families(&self) -> Vec<String> {
        let families = self.questions.families.iter();
        let probed = families.filter(|family| !family.items.is_empty());
        probed.map(|family| family.family.to_string()).collect()
    }

    fn is_due(&self, step: usize) -> bool {
        self.every.contains(step, self.steps)
    }

    fn probe(&mut self, session: &Session) -> Result<Probed, Error> {
        let began = Instant::now();
        let model = session.model().valid();
        // A step is finished before the run stops, and so are its probes.
        let uninterrupted = AtomicBool::new(false);
        let scores = self
            .questions
            .score_without_decoding(&model.transformer, &uninterrupted)?;
        let families = self.questions.families.iter().zip(&scores);
        let families = families.filter_map(|(family, scores)| {
            let means = Means::of_measures(Measure::without_decoding(), scores.iter())?;
            let measure = |measure: Measure| {
                let estimate = means.get(measure);
                let probed = ProbedMeasure {
                    value: estimate.value,
                    interval: estimate.interval,
                };
                (measure.name().to_owned(), probed)
            };
            Some(ProbedFamily {
                name: family.family.to_string(),
                items: scores.len(),
                chance: Some(chance(family.items.iter())),
                measures: Measure::without_decoding().map(measure).collect(),
            })
        });
        Ok(Probed {
            step: session.state().step,
            tokens: session.state().tokens,
            families: families.collect(),
            seconds: began.elapsed().as_secs_f64(),
        })
    }
}
