//! Training and validation tokens of `[data]`, and the entropy of the text if it is known.

use std::path::{Path, PathBuf};

use foretoken_datasets::world::{Stream, World, WorldConfig, WorldCorpus};
use foretoken_datasets::{
    BuildOptions, Corpus, DataError, DocumentIndex, InvalidUtf8, LossWeights, Manifest, Monitor,
    ReadOptions, Split, TokenWeights, Tokenizer, TokenizerSpec, TrainSource, WindowOrder,
    build_cached,
};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::engine::memory::refuse_world;
use crate::experiment::{DataSection, LossWeight, MixtureEntry, WindowKind};

/// Tokens ready to be cut into windows.
pub struct Data {
    /// The tokenizer of all tokens.
    pub tokenizer: Tokenizer,
    /// Training datasets: one, or a mixture of several.
    pub train: Vec<TrainSource>,
    /// Validation tokens; the datasets of a mixture are concatenated.
    pub valid: Split,
    /// Name and validation tokens of each dataset.
    pub valid_by_dataset: Vec<(String, Split)>,
    /// Entropy of the validation text in bits per byte, if its source is known.
    pub floor_bits_per_byte: Option<f64>,
    /// The world that wrote the text, if one did.
    pub world: Option<WorldCorpus>,
    /// SHA-256 of tokens and weights. A run can be resumed on data with an equal fingerprint.
    pub fingerprint: String,
}

impl Data {
    /// Opens tokens, or builds them: from the synthetic world in memory, or from text in the cache.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no text, if it does not fit the tokenizer, or if datasets do not fit each other.
    pub fn load(section: &DataSection, monitor: Monitor<'_>) -> Result<Self, Error> {
        if let Some(config) = &section.world {
            let world = world_corpus(section, config)?;
            let world = match section.subset {
                Some(subset) => world.subset(subset.subset())?,
                None => world,
            };
            let entry = single_entry(section, "the world");
            let data = Self::new(vec![(entry, world.corpus.clone())], section.windows)?;
            return Ok(Self {
                floor_bits_per_byte: Some(world.floor()),
                world: Some(world),
                ..data
            });
        }
        let entries = match &section.path {
            Some(path) => vec![single_entry(section, path)],
            None => section.mixture.clone(),
        };
        let key = |place: usize| match section.path {
            Some(_) => "data.path".into(),
            None => format!("data.mixture[{place}].path"),
        };
        let corpora = entries
            .into_iter()
            .enumerate()
            .map(|(place, entry)| {
                let corpus = open(&entry.path, section, monitor);
                let corpus = corpus.map_err(|error| named(&key(place), error))?;
                let corpus = match section.subset {
                    Some(subset) => corpus.subset(subset.subset())?,
                    None => corpus,
                };
                Ok((entry, corpus))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Self::new(corpora, section.windows)
    }

    fn new(corpora: Vec<(MixtureEntry, Corpus)>, windows: WindowKind) -> Result<Self, Error> {
        let (first, of_first) = &corpora[0];
        let tokenizer = of_first.tokenizer.clone();
        let mut hasher = Sha256::new();
        let mut train = Vec::new();
        for (entry, corpus) in &corpora {
            if let Some(difference) = difference(&corpus.tokenizer, &tokenizer) {
                return Err(Error::Experiment {
                    origin: "data.mixture".into(),
                    message: format!(
                        "{} has another tokenizer than {} ({difference}): build them with the same, for example with \
                         `foretoken data build --tokenizer {}/tokenizer.json`",
                        entry.path, first.path, first.path
                    ),
                });
            }
            let loss_weights = match &entry.loss_weight {
                LossWeight::Constant(weight) => LossWeights::Constant(*weight),
                LossWeight::File(path) => LossWeights::PerToken(TokenWeights::open(path)?),
            };
            let order = match windows {
                WindowKind::Epoch => WindowOrder::Epoch,
                WindowKind::Random => WindowOrder::Random,
                WindowKind::Documents => WindowOrder::Documents(corpus.training_documents()?),
            };
            hasher.update(corpus.fingerprint()?);
            hasher.update(loss_weights.fingerprint());
            train.push(TrainSource {
                split: corpus.train.clone(),
                order,
                loss_weights,
                weight: entry.weight,
                name: entry.path.clone(),
            });
        }
        let valid_by_dataset: Vec<(String, Split)> = corpora
            .into_iter()
            .map(|(entry, corpus)| (entry.path, corpus.valid))
            .collect();
        let splits = valid_by_dataset.iter().map(|(_, split)| split.clone());
        let valid = Split::concat(splits.collect())?;
        Ok(Self {
            tokenizer,
            train,
            valid,
            valid_by_dataset,
            floor_bits_per_byte: None,
            world: None,
            fingerprint: format!("{:x}", hasher.finalize()),
        })
    }

    /// Returns where the validation documents start, if evaluation windows keep to one document each.
    pub fn valid_documents(&self) -> Option<&DocumentIndex> {
        self.world.as_ref()?.valid_documents.as_ref()
    }

    /// Returns the share of the positions of training windows whose targets count: 1, unless windows keep to documents
    /// that are shorter. It is the mean of an epoch, by the weights of a mixture.
    ///
    /// # Errors
    ///
    /// Returns an error if a text is shorter than a window, or has no documents.
    pub fn counted_share(&self, context: usize) -> Result<f64, Error> {
        let (mut counted, mut weights) = (0.0, 0.0);
        for source in &self.train {
            counted +=
                source.weight * source.order.counted_share(source.split.tokens(), context)?;
            weights += source.weight;
        }
        Ok(counted / weights)
    }

    /// Returns the number of training tokens of all datasets.
    pub fn train_tokens(&self) -> usize {
        self.train.iter().map(|source| source.split.tokens()).sum()
    }
}

/// Returns why the tokens of two tokenizers cannot be one dataset; `None` if they can.
fn difference(one: &Tokenizer, other: &Tokenizer) -> Option<String> {
    one.difference(other).or_else(|| {
        let ends = [one, other].map(|tokenizer| (tokenizer.end_of_text(), tokenizer.vocab_size()));
        (ends[0] != ends[1]).then(|| "their special tokens differ".into())
    })
}

/// Returns a single dataset as a mixture of one.
fn single_entry(section: &DataSection, path: &str) -> MixtureEntry {
    MixtureEntry {
        path: path.into(),
        weight: 1.0,
        loss_weight: section.loss_weight.clone(),
    }
}

fn spec(section: &DataSection) -> Result<TokenizerSpec, Error> {
    let spec = section.tokenizer.as_deref();
    Ok(spec.unwrap_or(DataSection::DEFAULT_TOKENIZER).parse()?)
}

/// Names the key of data that are missing.
fn named(key: &str, error: Error) -> Error {
    match error {
        Error::Data(DataError::Missing { .. } | DataError::NoMatch { .. }) => Error::Experiment {
            origin: key.into(),
            message: error.to_string(),
        },
        error => error,
    }
}

/// Writes and encodes the text of a world, all documents of it.
pub(super) fn world_corpus(
    section: &DataSection,
    config: &WorldConfig,
) -> Result<WorldCorpus, Error> {
    let spec = spec(section)?;
    let world = World::new(config)?;
    for (stream, name) in [(Stream::Train, "train"), (Stream::Valid, "valid")] {
        let size = config.size(stream);
        refuse_world(
            &format!("data.world.{name}_{}", size.unit()),
            world.mean_bytes(size),
        )?;
    }
    let by_document = section.windows == WindowKind::Documents;
    Ok(WorldCorpus::new(world, &spec, by_document)?)
}

/// Opens a folder of tokens, or builds the tokens of a text in the cache.
pub(super) fn open(
    path: &str,
    section: &DataSection,
    monitor: Monitor<'_>,
) -> Result<Corpus, Error> {
    let folder = Path::new(path);
    let is_tokens = Corpus::is_tokens(folder)?;
    // In a mixture, a key may apply to only some of the datasets.
    for (key, is_set, applies) in [
        ("data.format", section.format.is_some(), !is_tokens),
        (
            "data.id_bytes",
            section.id_bytes.is_some(),
            is_tokens && !folder.join(Manifest::FILE).exists(),
        ),
    ] {
        if is_set && !applies && section.mixture.is_empty() {
            let reason = match is_tokens {
                true => "holds tokens",
                false => "is not a folder of .bin files",
            };
            return Err(Error::Experiment {
                origin: key.into(),
                message: format!("has no effect, because {path} {reason}; remove the key"),
            });
        }
    }
    if folder.join(Manifest::FILE).exists() {
        let (corpus, manifest) = Corpus::open_built(folder)?;
        let built_with = &manifest.recipe.tokenizer;
        let refused = |reason: String| Error::Experiment {
            origin: "data.tokenizer".into(),
            message: format!(
                "is {}, but {path} was built with {built_with}{reason}; remove the key, because the folder has its own \
                 tokenizer",
                section.tokenizer.as_deref().unwrap_or_default()
            ),
        };
        return match section
            .tokenizer
            .as_deref()
            .map(str::parse::<TokenizerSpec>)
            .transpose()?
        {
            // Tokenizer files are compared by content. The file may be missing by now.
            Some(TokenizerSpec::File(file)) if file.exists() => {
                match Tokenizer::load(&file)?.difference(&corpus.tokenizer) {
                    Some(difference) => Err(refused(format!(" ({difference})"))),
                    None => Ok(corpus),
                }
            }
            Some(spec) if spec.to_string() != *built_with => Err(refused(String::new())),
            _ => Ok(corpus),
        };
    }
    if is_tokens {
        let tokenizer = section.tokenizer.as_ref().map(Path::new);
        return Ok(Corpus::open_with(folder, tokenizer, section.id_bytes)?);
    }
    let options = BuildOptions {
        inputs: vec![path.into()],
        tokenizer: spec(section)?,
        read: ReadOptions {
            format: section.format,
            text_field: section.text_field.clone(),
            separator: None,
            invalid_utf8: InvalidUtf8::Refuse,
        },
        valid: section.valid,
        shard_tokens: BuildOptions::DEFAULT_SHARD_TOKENS,
        special_tokens: false,
        canaries: None,
    };
    let built = build_cached(&options, &cache(), monitor)?;
    Ok(Corpus::open(&built, None)?)
}

/// Returns the directory of tokens built from experiments' text: `data` in `$FORETOKEN_CACHE`, or in `foretoken` in the
/// user's cache directory.
pub fn cache() -> PathBuf {
    crate::cache::directory().join("data")
}
