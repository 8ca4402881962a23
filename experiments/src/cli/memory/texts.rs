//! The texts of the run that a command looks into.

use std::sync::atomic::AtomicBool;

use foretoken::engine::data::Data;
use foretoken::experiment::WindowKind;
use foretoken::record::source::Source;
use foretoken::science::memory::Texts;
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::Shown;
use foretoken::show::progress::BuildReporter;
use foretoken::{Error, Experiment};

use super::super::model::{experiment_of_data, refused};

/// The texts of a run, and the checkpoint up to which they were read.
pub(super) struct RunTexts {
    data: Data,
    experiment: Experiment,
    border: Option<u32>,
    context: usize,
    step: usize,
}

impl RunTexts {
    /// Loads the data of a run.
    pub(super) fn load(source: &Source, interrupt: &AtomicBool) -> Result<Self, Error> {
        let (Some(experiment), Some(step)) = (experiment_of_data(None, source)?, source.step())
        else {
            return Err(refused(
                &source.path().shown(),
                "is not a run, so that its training text is not known; name the directory of a run",
            ));
        };
        let reporter = BuildReporter::new(Dashboard::Plain);
        let data = Data::load(&experiment.data, reporter.monitor(interrupt));
        let data = data.map_err(|error| error.of_run(source.path()))?;
        if let Some(difference) = data.tokenizer.difference(source.tokenizer()?) {
            return Err(refused(
                &source.path().shown(),
                format!(
                    "its data have another tokenizer now ({difference}); bring back those that it was trained on"
                ),
            ));
        }
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
