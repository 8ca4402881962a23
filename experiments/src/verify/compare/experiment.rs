//! Training of an experiment: the language model, its data and its optimizer.

use std::path::Path;

use super::runs::open_run;
use super::training::{Outline, Output, TakenStep, Training, TrainingRun, Unit};
use super::variant::{Snapshot, Variant};
use super::{Checked, Entrant, Invariance, invariance};
use crate::Error;
use crate::engine::event::{Event, Scope, Stepped};
use crate::engine::parameters::{self, Parameters};
use crate::engine::perturbation::Perturbation;
use crate::engine::session::{Observer, Session};
use crate::engine::setup::Setup;
use crate::record::identity::Identity;
use crate::record::run::MetricsLog;

impl Training for Setup {
    type Run = ExperimentRun;

    fn outline(&self) -> Outline {
        let settings = &self.experiment.train;
        let micro_batch = settings.batch * self.model.context;
        Outline {
            name: self.experiment.name.clone(),
            steps: settings.steps,
            unit: Unit::Tokens,
            items_per_step: micro_batch * settings.accumulation,
            terms: micro_batch,
            seed: settings.seed,
            fused: self.experiment.backend.fused,
            experiment: self.experiment.to_toml(),
        }
    }

    fn identity(&self, reference: Entrant) -> Result<Identity, Error> {
        let device = reference.name.device()?.autodiff();
        let transformer = self.transformer(self.experiment.train.seed, &device)?;
        Identity::new(self, &transformer)
    }

    fn start(
        &self,
        entrant: Entrant,
        variant: &Variant,
        snapshot: Option<&Snapshot>,
    ) -> Result<ExperimentRun, Error> {
        Ok(ExperimentRun {
            session: variant.session_at(self, entrant, snapshot)?,
            entrant,
            perturbation: variant.perturbation.clone(),
            last: None,
        })
    }

    fn open_log(&self, entrant: Entrant, directory: &Path) -> Result<Option<MetricsLog>, Error> {
        open_run(self, entrant, directory).map(Some)
    }
}

/// Run of an experiment.
pub(super) struct ExperimentRun {
    session: Session,
    entrant: Entrant,
    perturbation: Perturbation,
    last: Option<Stepped>,
}

impl TrainingRun for ExperimentRun {
    fn steps(&self) -> usize {
        self.session.state().step
    }

    fn step(&mut self) -> Result<TakenStep, Error> {
        let stepped = self.session.step()?;
        self.last = Some(stepped);
        let figures = stepped.figures;
        Ok(TakenStep {
            step: stepped.step,
            loss: figures.totals.loss(),
            gradient_norm: figures.gradient_norm,
            seconds: figures.seconds,
        })
    }

    fn record(&self, log: &mut Option<MetricsLog>) -> Result<(), Error> {
        match &self.last {
            Some(stepped) => log.observe(&Event::Stepped(stepped), &self.session),
            None => Ok(()),
        }
    }

    fn gradients(&mut self) -> Result<(f64, Parameters), Error> {
        let gradients = self.session.gradients()?;
        let model = &self.session.model().transformer;
        let read = parameters::gradients(model, &gradients.sums, gradients.mean)?;
        Ok((gradients.into_totals()?.loss(), read))
    }

    fn update(&mut self, gradients: &Parameters) -> Result<(), Error> {
        let model = &self.session.model().transformer;
        let gradients = parameters::to_gradients(model, gradients, self.entrant.dtype);
        self.session.update(gradients)
    }

    fn outputs(&mut self, elements: usize) -> Result<Vec<Output>, Error> {
        Ok(vec![Output {
            of: Checked::Logits,
            name: None,
            values: self.session.logits(elements)?,
        }])
    }

    fn weights(&self) -> Result<Parameters, Error> {
        self.session.weights()
    }

    fn snapshot(&self) -> Result<Snapshot, Error> {
        Snapshot::of(&self.session)
    }

    fn evaluate(
        &mut self,
        log: &mut Option<MetricsLog>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<f64>, Error> {
        let session = &mut self.session;
        let loader = session.eval_loader(session.experiment().train.eval_windows)?;
        let evaluated = session.evaluate(&loader, Scope::Interval, log, stop)?;
        Ok(evaluated.map(|evaluated| evaluated.totals.loss()))
    }

    fn invariance(&self) -> Result<Vec<Invariance>, Error> {
        invariance::measure(&self.session, self.entrant.dtype, &self.perturbation)
    }
}
