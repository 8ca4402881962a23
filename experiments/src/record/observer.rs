//! The run directory as an observer: metrics log and checkpoints.

use crate::Error;
use crate::engine::event::{Evaluated, Event, Scope};
use crate::engine::records::first_non_finite_parameter;
use crate::engine::session::{Observer, Session};
use crate::record::checkpoint::Checkpoints;
use crate::record::run::{MetricsLog, Record};

/// Writes every step, every interval's evaluation and all probes, and is on the disk before a checkpoint is.
impl Observer for MetricsLog {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        let tokens = session.state().tokens;
        match event {
            Event::Stepped(stepped) => self.append(&Record::Step {
                step: stepped.step,
                tokens,
                loss: stepped.figures.totals.loss(),
                gradient_norm: stepped.figures.gradient_norm,
                learning_rate: stepped.figures.learning_rate,
                seconds: stepped.figures.seconds,
            }),
            Event::Evaluated(Evaluated {
                scope: Scope::Interval,
                step,
                totals,
                ..
            }) => self.append(&Record::evaluation(*step, tokens, totals)),
            Event::Probed(probed) => self.append(&Record::Probe((*probed).clone())),
            Event::Saved => self.sync(),
            _ => Ok(()),
        }
    }
}

/// Writes a checkpoint whenever the session is to be saved; returns once the disk has it.
impl Observer for Checkpoints {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        let Event::Saved = event else {
            return Ok(());
        };
        let state = session.state();
        if let Some(path) = first_non_finite_parameter(session.model())? {
            return Err(Error::Diverged {
                what: format!("{path} is no longer finite"),
                step: state.step,
                checkpoint: None,
            });
        }
        let keep = &session.experiment().train.keep;
        self.save(state, keep, |directory| session.save(directory))
    }
}
