//! The texts of an evaluation: files, or tokens of a dataset.

use std::sync::atomic::AtomicBool;

use foretoken::Error;
use foretoken::engine::data::Data;
use foretoken::record::source::Source;
use foretoken::science::evaluate::{ContextPolicy, Encoder, Frequencies, Settings, Text};
use foretoken_datasets::world::{WindowFloor, WorldCorpus};
use foretoken_datasets::{ReadOptions, SourceFile, Split, Tokenizer, find_sources};

use super::EvaluateArgs;
use crate::cli::model::{load_data, refused};

/// Texts to evaluate on, not read yet.
pub(super) enum Texts {
    Files(Vec<SourceFile>, Box<ReadOptions>),
    Datasets(Box<Data>),
}

/// Finds the texts: files, the data of an experiment, a folder of tokens, or the data of the run.
pub(super) fn texts(
    args: &EvaluateArgs,
    source: &Source,
    interrupt: &AtomicBool,
) -> Result<Texts, Error> {
    if !args.texts.is_empty() {
        let options = args.read.options();
        let mut found = find_sources(&args.texts, options.format)?.files;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        return Ok(Texts::Files(found, Box::new(options)));
    }
    let Some((_, data)) = load_data(args.data.as_deref(), source, interrupt)? else {
        let message =
            "give a text, or --data DIR: this model is not a run, which would have one of its own";
        return Err(refused("TEXT", message));
    };
    let texts = Texts::Datasets(Box::new(data));
    texts.check(source.tokenizer()?, "--data")?;
    Ok(texts)
}

impl Texts {
    /// Refuses tokens of another tokenizer than this one. `argument` is named in the error.
    pub(super) fn check(&self, tokenizer: &Tokenizer, argument: &str) -> Result<(), Error> {
        let Self::Datasets(data) = self else {
            return Ok(());
        };
        match data.tokenizer.difference(tokenizer) {
            None => Ok(()),
            Some(difference) => Err(refused(
                argument,
                format!(
                    "the tokens to evaluate on are of another tokenizer than the model's ({difference}); evaluate on \
                     their text instead"
                ),
            )),
        }
    }

    /// Counts the tokens of the training text, if there is one.
    pub(super) fn frequencies(
        &self,
        vocabulary: usize,
        interrupt: &AtomicBool,
    ) -> Result<Option<Frequencies>, Error> {
        match self {
            Self::Files(..) => Ok(None),
            Self::Datasets(data) => {
                let splits = data.train.iter().map(|source| &source.split);
                Frequencies::of(splits, vocabulary, interrupt).map(Some)
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Self::Files(files, _) => files.len(),
            Self::Datasets(data) => data.valid_by_dataset.len(),
        }
    }

    pub(super) fn read(
        &self,
        number: usize,
        encoder: &Encoder<'_>,
        interrupt: &AtomicBool,
    ) -> Result<Text, Error> {
        match self {
            Self::Files(files, options) => encoder.file(&files[number], options, interrupt),
            Self::Datasets(data) => {
                let mut datasets: Vec<&(String, Split)> = data.valid_by_dataset.iter().collect();
                datasets.sort_by(|a, b| a.0.cmp(&b.0));
                let (name, split) = datasets[number];
                match data.world.as_ref().map(WorldCorpus::end).transpose()? {
                    Some(Some(end)) => encoder.split_at(name, split, end, interrupt),
                    _ => encoder.split(name, split, interrupt),
                }
            }
        }
    }

    /// Returns the floor for a model that sees only its windows; `None` unless the text is a world's and the windows are
    /// those of an evaluation in training.
    pub(super) fn window_floor(&self, settings: Settings) -> Result<Option<WindowFloor>, Error> {
        let is_disjoint = settings.policy == ContextPolicy::Stride(settings.context);
        match self {
            Self::Datasets(data) if is_disjoint => {
                let world = data.world.as_ref();
                let floor = world.map(|world| world.window_floor_of_stream(settings.context));
                Ok(floor.transpose()?)
            }
            _ => Ok(None),
        }
    }

    pub(super) fn floor(&self) -> Option<f64> {
        match self {
            Self::Files(..) => None,
            Self::Datasets(data) => data.floor_bits_per_byte,
        }
    }
}
