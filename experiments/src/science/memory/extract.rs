//! Extraction of training text: which suffixes a model gives after their prefixes.
//!
//! A sequence is *k-extractable* if greedy decoding after a prefix of k tokens gives its suffix (Carlini et al. 2022,
//! <https://arxiv.org/abs/2202.07646>), and (n, p)-*discoverable* if sampling gives it at least once in n attempts with
//! probability p (Hayes et al. 2024). Both follow from the probabilities of the suffix's own tokens: greedy decoding gives
//! the suffix exactly if each of its tokens is ranked first, so that nothing is generated.
//!
//! A suffix that the model has never seen can be the obvious one. So the same is measured on a text that was not trained
//! on: only what the training text has more is memory.

use std::sync::atomic::AtomicBool;

use foretoken_datasets::{Split, occurrences};
use foretoken_model::Transformer;

use super::groups::{Criterion, Item};
use super::record::{PrefixRecord, SetRecord};
use super::sample::Texts;
use super::sequences::Sequences;
use crate::Error;
use crate::science::bootstrap::Bootstrap;
use crate::science::evaluate::{ContextPolicy, Document, Segment, Settings, Text, TextSize, score};
use crate::science::random::Random;

/// Settings of an attempt at extraction.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractSettings {
    /// Tokens of the prefixes, ascending.
    pub prefixes: Vec<usize>,
    /// Tokens of the suffix.
    pub suffix: usize,
    /// Largest number of sequences of each text.
    pub sequences: usize,
    /// Numbers n of samples.
    pub samples: Vec<u64>,
    /// Probability p.
    pub probability: f64,
    /// Seed of the choice of sequences, and of the bootstrap.
    pub seed: u64,
    /// Draws of the bootstrap.
    pub draws: usize,
    /// Number of sequences that are computed at once. It does not change the result.
    pub batch: usize,
}

/// A model, its training text, and how extraction is attempted.
pub struct Extraction<'e> {
    /// The model.
    pub model: &'e Transformer,
    /// The training text, in which occurrences are counted.
    pub training: Vec<&'e Split>,
    /// Settings.
    pub settings: ExtractSettings,
}

impl ExtractSettings {
    /// Draws sequences that the run has read in training, and sequences of its validation text.
    ///
    /// # Errors
    ///
    /// Returns an error if tokens cannot be read, or a text has no sequence that is long enough.
    pub fn draw(&self, texts: Texts<'_>) -> Result<[Sequences; 2], Error> {
        let shortest = self.prefixes.first().copied().unwrap_or(0);
        let length = self.prefixes.last().copied().unwrap_or(0) + self.suffix;
        let draw = |number: u64, name: &str| {
            let mut random = Random::stream(self.seed, number);
            let pieces = match number {
                0 => texts.training(self.sequences, &mut random)?,
                _ => texts.held_out(self.sequences, &mut random)?,
            };
            let drawn = Sequences::cut(pieces, texts.border, length, &mut random);
            let is_long_enough = drawn.with_prefix(shortest, self.suffix).next().is_some();
            is_long_enough.then_some(drawn).ok_or_else(|| Error::Experiment {
                origin: "--suffix".into(),
                message: format!(
                    "the {name} text has no sequence with a prefix of {shortest} tokens and a suffix of {}; choose a \
                     smaller --suffix, or smaller --prefixes",
                    self.suffix
                ),
            })
        };
        Ok([draw(0, "training")?, draw(1, "validation")?])
    }
}

impl Extraction<'_> {
    /// Returns the number of tokens that [`run`](Self::run) reads and scores.
    pub fn work(&self, sets: &[Sequences; 2]) -> usize {
        let training: usize = self.training.iter().map(|split| split.tokens()).sum();
        let counted = training * self.settings.prefixes.len();
        let count: usize = sets.iter().map(Sequences::count).sum();
        counted + count * self.settings.suffix * self.settings.prefixes.len()
    }

    /// Counts occurrences of all sequences, and scores their suffixes. `progress` is called with the number of tokens that
    /// were read or scored.
    ///
    /// # Errors
    ///
    /// Returns an error if tokens cannot be read, the device fails, or `interrupt` is set.
    pub fn run(
        &self,
        sets: &[Sequences; 2],
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<[SetRecord; 2], Error> {
        let mut by_prefix = [Vec::new(), Vec::new()];
        for prefix in &self.settings.prefixes {
            let pieces = |set| -> Vec<(usize, &[u32])> {
                Sequences::with_prefix(set, *prefix, self.settings.suffix).collect()
            };
            let lead = sets[0].lead();
            let pieces = [pieces(&sets[0]), pieces(&sets[1])];
            let all: Vec<&[u32]> = pieces
                .iter()
                .flatten()
                .map(|(_, ids)| &ids[lead..])
                .collect();
            let counts = occurrences(&self.training, &all, interrupt, progress)?;
            let (of_training, of_held_out) = counts.split_at(pieces[0].len());
            for (index, counts) in [of_training, of_held_out].into_iter().enumerate() {
                let first = lead + prefix;
                let items = self.items(first, &pieces[index], counts, interrupt, progress)?;
                by_prefix[index].push(self.grouped(*prefix, items));
            }
        }
        let [training, held_out] = by_prefix;
        let set = |of: &Sequences, by_prefix| SetRecord {
            sequences: of.count(),
            by_prefix,
        };
        Ok([set(&sets[0], training), set(&sets[1], held_out)])
    }

    fn grouped(&self, prefix: usize, items: Vec<Item>) -> PrefixRecord {
        let bootstrap = Bootstrap {
            draws: self.settings.draws,
            seed: self.settings.seed,
        };
        let criterion = Criterion {
            samples: self.settings.samples.clone(),
            probability: self.settings.probability,
            suffix: self.settings.suffix,
        };
        let all: Vec<&Item> = items.iter().collect();
        PrefixRecord {
            prefix,
            all: criterion.group(bootstrap, &all),
            by_occurrences: criterion.by_occurrences(bootstrap, &all),
            items,
        }
    }

    /// Scores the suffix of each sequence, which begins at the place `first`.
    fn items(
        &self,
        first: usize,
        pieces: &[(usize, &[u32])],
        occurrences: &[u64],
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Item>, Error> {
        let segment = |(number, ids): &(usize, &[u32])| Segment {
            documents: vec![Document {
                number: *number,
                targets: first..ids.len(),
                size: TextSize::default(),
                skipped_bytes: 0,
            }],
            ids: ids.to_vec(),
        };
        let text = Text {
            name: "the sequences".into(),
            segments: pieces.iter().map(segment).collect(),
            not_scored: 0,
        };
        let context = self.model.config().context;
        let settings = Settings {
            context,
            policy: ContextPolicy::Stride(context),
            batch: self.settings.batch,
        };
        let scores = score(self.model, &text, &settings, interrupt, progress)?;
        let scored = pieces.iter().zip(occurrences).zip(scores);
        Ok(scored
            .map(|(((sequence, _), occurrences), scores)| Item {
                sequence: *sequence,
                occurrences: *occurrences,
                log_probability: -scores
                    .iter()
                    .map(|score| f64::from(score.nats))
                    .sum::<f64>(),
                greedy: scores.iter().all(|score| score.rank == 1),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use foretoken_model::{GenerationConfig, ModelConfig, Sampler, SamplingConfig, generate};

    use super::super::sample::Piece;
    use super::*;

    /// The greedy continuation, and the product of the probabilities of every step, by generation and by whole logits.
    #[test]
    fn what_is_called_extractable_is_what_greedy_decoding_gives() {
        let device = burn::tensor::Device::default();
        let model = ModelConfig::new(4, 16, 2, 2, 8).init(1, &device).unwrap();
        let ids: Vec<u32> = (0..400u32).map(|i| (i * i + 3 * i) % 11 % 4).collect();
        let split = Split::from_ids(ids.clone(), vec![1; 4].into());
        let extraction = Extraction {
            model: &model,
            training: vec![&split],
            settings: ExtractSettings {
                prefixes: vec![1, 3],
                suffix: 1,
                sequences: 40,
                samples: vec![1],
                probability: 0.5,
                seed: 3,
                draws: 50,
                batch: 7,
            },
        };
        let sequences = |first: usize| {
            let piece = |start: usize| Piece {
                ids: ids[start..start + 9].to_vec(),
                first: 1,
            };
            let pieces = (first..first + 40).map(piece).collect();
            Sequences::cut(pieces, None, 4, &mut Random::stream(0, 0))
        };
        let sets = [sequences(0), sequences(200)];
        let (interrupt, mut done) = (AtomicBool::new(false), 0);
        let [training, held_out] = extraction
            .run(&sets, &interrupt, &mut |tokens| done += tokens)
            .unwrap();
        assert_eq!(done, extraction.work(&sets));
        assert_eq!((training.sequences, held_out.sequences), (40, 40));
        let mut extracted = 0;
        for record in &training.by_prefix {
            for item in &record.items {
                let mut pieces = sets[0].with_prefix(record.prefix, 1);
                let (_, tokens) = pieces.find(|(number, _)| *number == item.sequence).unwrap();
                let (prefix, suffix) = tokens.split_at(record.prefix);
                let mut samplers = [Sampler::new(SamplingConfig::greedy(), 0).unwrap()];
                let config = GenerationConfig::new(1);
                let go_on = |_, _| std::ops::ControlFlow::Continue(());
                let prompts = [prefix.to_vec()];
                let greedy = generate(&model, &prompts, &config, &mut samplers, go_on).unwrap();
                assert_eq!(item.greedy, greedy[0] == suffix);
                extracted += usize::from(item.greedy);

                let logits = model.logits(model.tokens(&[&tokens[..tokens.len() - 1]]));
                let logits: Vec<f32> = logits.try_into_vec_as().unwrap();
                let log_p: f64 = suffix
                    .iter()
                    .enumerate()
                    .map(|(step, token)| {
                        let row = &logits[4 * (record.prefix - 1 + step)..][..4];
                        let total: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
                        f64::from(row[*token as usize]) - total.ln()
                    })
                    .sum();
                assert!((item.log_probability - log_p).abs() < 1e-4);
                // The text has a period of 11 tokens.
                assert!(item.occurrences >= 30, "{item:?}");
            }
        }
        assert!(extracted > 0 && extracted < 80, "{extracted}");
    }
}
