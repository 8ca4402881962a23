//! The texts of the run that a command looks into.

use std::sync::atomic::AtomicBool;

use foretoken::engine::data::Data;
use foretoken::experiment::WindowKind;
use foretoken::record::source::Source;
use foretoken::science::memory::Texts;
use foretoken::{Error, Experiment};

use super::super::model::{load_data, not_a_run};

/// The texts of a run, and the checkpoint up to which they were read.
pub(super) struct RunTexts {
    data: Data,
    experiment: Experiment,
    border: Option<u32>,
    context: usize,
    step: usize,
}

impl RunTexts {
    /// Loads the data of a run, which must be those that it was trained on.
    pub(super) fn load(source: &Source, interrupt: &AtomicBool) -> Result<Self, Error> {
        let (Some((experiment, data)), Some(step)) =
            (load_data(None, source, interrupt)?, source.step())
        else {
            return Err(not_a_run(source.path()));
        };
        let border = source.start_of_text()?.last().copied();
        Ok(Self {
            border: border.filter(|_| experiment.data.windows == WindowKind::Documents),
            context: source.config().context,
            data,
            experiment,
            step,
        })
    }

    pub(super) fn texts(&self) -> Texts<'_> {
        Texts {
            data: &self.data,
            experiment: &self.experiment,
            border: self.border,
            context: self.context,
            step: self.step,
        }
    }
}
