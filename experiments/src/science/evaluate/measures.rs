//! Measures of a text: sums over clusters of targets, and what follows from them.

use std::f64::consts::LN_2;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use foretoken_model::Transformer;
use serde::Serialize;

use super::context::ContextPolicy;
use super::curves::{Bin, Calibration, CalibrationSums, ContextCurve, Frequencies, FrequencyCurve};
use super::estimate::{Estimate, Ratio};
use super::score::{self, SegmentScores, Settings};
use super::text::{Text, TextSize};
use crate::Error;

/// Smallest number of bytes in a block of a document that is divided for an interval.
const BLOCK: usize = 256;

/// Fewer documents are divided into blocks, because an interval over a few clusters is too wide to be of use.
const FEW_DOCUMENTS: usize = 30;

/// Largest number of blocks that a document is divided into.
const BLOCKS: usize = 64;

/// Sums over the targets of a cluster. Sizes of a block are those of its document, in proportion to its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) tokens: f64,
    pub(super) nats: f64,
    pub(super) correct: f64,
    pub(super) top_5: f64,
    pub(super) rank: f64,
    pub(super) bytes: f64,
    pub(super) characters: f64,
    pub(super) words: f64,
}

/// Place of a cluster: the number of its text, of its document, and of its block of the document.
pub(super) type Place = [usize; 3];

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.nats += other.nats;
        self.correct += other.correct;
        self.top_5 += other.top_5;
        self.rank += other.rank;
        self.bytes += other.bytes;
        self.characters += other.characters;
        self.words += other.words;
    }
}

/// What an interval is computed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterKind {
    /// Documents.
    Documents,
    /// Consecutive blocks of documents.
    Blocks,
    /// Documents of some texts, and blocks of the documents of others.
    Mixed,
}

impl ClusterKind {
    /// Names the clusters in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Blocks => "blocks of the text",
            Self::Mixed => "documents and blocks of documents",
        }
    }

    fn and(self, other: Self) -> Self {
        match self == other {
            true => self,
            false => Self::Mixed,
        }
    }
}

/// How well a text is predicted. Measures per byte, character and word are `None` for a text without any.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measures {
    /// Number of scored tokens.
    pub tokens: u64,
    /// Bytes of text that they stand for.
    pub bytes: u64,
    /// Unicode characters of it.
    pub characters: u64,
    /// Words, the longest pieces without white space.
    pub words: u64,
    /// Sum of negative log-likelihoods, in bits: the size of the text under the model.
    pub bits: f64,
    /// Cross-entropy in nats per token.
    pub loss: Estimate,
    /// Cross-entropy in bits per token.
    pub bits_per_token: Estimate,
    /// exp(loss).
    pub perplexity: Estimate,
    /// Bits over bytes of text.
    pub bits_per_byte: Option<Estimate>,
    /// Bits over Unicode characters.
    pub bits_per_character: Option<Estimate>,
    /// exp(nats over words).
    pub word_perplexity: Option<Estimate>,
    /// Share of tokens that the model ranked first.
    pub accuracy: Estimate,
    /// Share of tokens among the five that the model ranked first.
    pub top_5_accuracy: Estimate,
    /// Mean rank of the token, from 1.
    pub mean_rank: Estimate,
    /// Number of clusters that the intervals are computed over.
    pub clusters: usize,
    /// Kind of the clusters.
    pub clusters_are: ClusterKind,
}

impl Measures {
    /// Returns the measures of clusters; `None` without targets.
    fn of(clusters: &[Sums], clusters_are: ClusterKind) -> Option<Self> {
        let mut total = Sums::default();
        clusters.iter().for_each(|cluster| total += *cluster);
        let ratio = |x: fn(&Sums) -> f64, y: fn(&Sums) -> f64| {
            let mut ratio = Ratio::default();
            clusters
                .iter()
                .for_each(|cluster| ratio.add(x(cluster), y(cluster)));
            ratio
                .estimate()
                .map(|estimate| estimate.clamped(0.0, f64::INFINITY))
        };
        let per_token = |x: fn(&Sums) -> f64| ratio(x, |sums| sums.tokens);
        let loss = per_token(|sums| sums.nats)?;
        let bits = |nats: Estimate| nats.scaled(1.0 / LN_2);
        Some(Self {
            tokens: total.tokens as u64,
            bytes: total.bytes.round() as u64,
            characters: total.characters.round() as u64,
            words: total.words.round() as u64,
            bits: total.nats / LN_2,
            loss,
            bits_per_token: bits(loss),
            perplexity: loss.perplexity(),
            bits_per_byte: ratio(|sums| sums.nats, |sums| sums.bytes).map(bits),
            bits_per_character: ratio(|sums| sums.nats, |sums| sums.characters).map(bits),
            word_perplexity: ratio(|sums| sums.nats, |sums| sums.words).map(Estimate::perplexity),
            accuracy: per_token(|sums| sums.correct)?.clamped(0.0, 1.0),
            top_5_accuracy: per_token(|sums| sums.top_5)?.clamped(0.0, 1.0),
            mean_rank: per_token(|sums| sums.rank)?.clamped(1.0, f64::INFINITY),
            clusters: clusters.len(),
            clusters_are,
        })
    }
}

/// Measures of one text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextResult {
    /// Path of the file, or name of the dataset.
    pub name: String,
    /// Number of documents that have a scored token.
    pub documents: usize,
    /// Measures of its targets.
    #[serde(flatten)]
    pub measures: Measures,
}

/// Result of one document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentResult {
    /// Name of its text.
    pub text: String,
    /// Its number in the text, from 0.
    pub document: usize,
    /// Number of scored tokens.
    pub tokens: u64,
    /// Bytes of text that they stand for.
    pub bytes: u64,
    /// Sum of negative log-likelihoods, in bits.
    pub bits: f64,
}

/// Result of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Measures of all targets.
    #[serde(flatten)]
    pub total: Measures,
    /// Measures of each text, in the order of their names.
    pub texts: Vec<TextResult>,
    /// Results of the documents, in the order of the texts.
    pub documents: Vec<DocumentResult>,
    /// Tokens without a prediction, because no token precedes them.
    pub not_scored: u64,
    /// Loss by the number of tokens before the target.
    pub by_context: Vec<Bin>,
    /// Loss by the frequency of the target in the training text; `None` if that is not known.
    pub by_frequency: Option<Vec<Bin>>,
    /// Calibration of the most probable token.
    pub calibration: Calibration,
    /// Sums over clusters, in the order of their places.
    #[serde(skip)]
    pub(super) clusters: Vec<(Place, Sums)>,
    /// Negative log-likelihoods of all targets in nats, in the order of clusters, if they were asked for.
    #[serde(skip)]
    pub(super) nats: Vec<f32>,
}

/// A cluster of targets of a text.
struct Cluster {
    /// Number of its document and of its block.
    place: [usize; 2],
    segment: usize,
    targets: Range<usize>,
    size: [f64; 3],
    skipped_bytes: usize,
}

impl Cluster {
    fn documents(text: &Text) -> Vec<Self> {
        let segments = text.segments.iter().enumerate();
        segments
            .flat_map(|(segment, content)| {
                content.documents.iter().map(move |document| {
                    let TextSize {
                        bytes,
                        characters,
                        words,
                    } = document.size;
                    Self {
                        place: [document.number, 0],
                        segment,
                        targets: document.targets.clone(),
                        size: [bytes, characters, words].map(|size| size as f64),
                        skipped_bytes: document.skipped_bytes,
                    }
                })
            })
            .collect()
    }

    /// Divides a document into consecutive blocks with about as many bytes. They begin at the same bytes whatever the
    /// tokenizer is, but for the token that a border cuts: it is in the block where it begins.
    fn blocks(self, ids: &[u32], lengths: &[usize]) -> Vec<Self> {
        let length = |id: u32| lengths.get(id as usize).copied().unwrap_or(0);
        let targets = &ids[self.targets.clone()];
        let scored: usize = targets.iter().map(|id| length(*id)).sum();
        let all = self.skipped_bytes + scored;
        let count = (all / BLOCK).clamp(1, BLOCKS);
        let mut blocks: Vec<Self> = Vec::with_capacity(count);
        let mut before = self.skipped_bytes;
        for (position, id) in self.targets.clone().zip(targets) {
            let number = (before * count / all.max(1)).min(count - 1);
            let share = length(*id) as f64 / scored.max(1) as f64;
            let size = self.size.map(|size| size * share);
            before += length(*id);
            match blocks.last_mut() {
                Some(block) if block.place[1] == number => {
                    block.targets.end = position + 1;
                    block
                        .size
                        .iter_mut()
                        .zip(size)
                        .for_each(|(sum, size)| *sum += size);
                }
                _ => blocks.push(Self {
                    place: [self.place[0], number],
                    segment: self.segment,
                    targets: position..position + 1,
                    size,
                    skipped_bytes: 0,
                }),
            }
        }
        blocks
    }

    fn sums(&self, scores: &[SegmentScores], first: usize) -> Sums {
        let [bytes, characters, words] = self.size;
        let mut sums = Sums {
            tokens: self.targets.len() as f64,
            bytes,
            characters,
            words,
            ..Sums::default()
        };
        for score in &scores[self.segment][self.targets.start - first..self.targets.end - first] {
            sums.nats += f64::from(score.nats);
            sums.correct += f64::from(u8::from(score.rank == 1));
            sums.top_5 += f64::from(u8::from(score.rank <= 5));
            sums.rank += f64::from(score.rank);
        }
        sums
    }
}

/// An evaluation while texts are added to it.
pub struct Evaluator<'m> {
    model: &'m Transformer,
    settings: Settings,
    /// Bytes of text that each token stands for.
    lengths: Vec<usize>,
    /// Number of texts.
    number_of_texts: usize,
    clusters: Vec<(Place, Sums)>,
    nats: Option<Vec<f32>>,
    /// Number of texts that were added.
    added: usize,
    clusters_are: Option<ClusterKind>,
    texts: Vec<TextResult>,
    documents: Vec<DocumentResult>,
    not_scored: u64,
    longest_context: u64,
    by_context: ContextCurve,
    by_frequency: Option<FrequencyCurve>,
    calibration: CalibrationSums,
}

impl<'m> Evaluator<'m> {
    /// Starts an evaluation of `texts` texts. `lengths` are the bytes of text that each token stands for.
    pub fn new(
        model: &'m Transformer,
        settings: Settings,
        lengths: Vec<usize>,
        frequencies: Option<Frequencies>,
        texts: usize,
    ) -> Self {
        Self {
            model,
            settings,
            lengths,
            number_of_texts: texts,
            clusters: Vec::new(),
            nats: None,
            added: 0,
            clusters_are: None,
            texts: Vec::new(),
            documents: Vec::new(),
            not_scored: 0,
            longest_context: 0,
            by_context: ContextCurve::default(),
            by_frequency: frequencies.map(FrequencyCurve::new),
            calibration: CalibrationSums::default(),
        }
    }

    /// Keeps the negative log-likelihood of every target, for a comparison target by target.
    pub fn keep_targets(mut self) -> Self {
        self.nats = Some(Vec::new());
        self
    }

    /// Scores a text. Texts are added in the order of their names, so that sums do not depend on the order in which
    /// they were given. `progress` is called with the number of targets after each batch.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails, the model's predictions are not finite, or `interrupt` is set.
    pub fn add(
        &mut self,
        text: &Text,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), Error> {
        let scores = score::score(self.model, text, &self.settings, interrupt, progress)?;
        let first = |segment: usize| text.segments[segment].first();
        let sums = |cluster: &Cluster| cluster.sums(&scores, first(cluster.segment));
        let text_number = self.added;
        let place = |cluster: &Cluster| [text_number, cluster.place[0], cluster.place[1]];
        let all_documents = Cluster::documents(text);
        let documents = all_documents.len();
        for cluster in &all_documents {
            let sums = sums(cluster);
            self.documents.push(DocumentResult {
                text: text.name.clone(),
                document: cluster.place[0],
                tokens: sums.tokens as u64,
                bytes: sums.bytes as u64,
                bits: sums.nats / LN_2,
            });
        }
        let (mut clusters, mut kind) = match documents < FEW_DOCUMENTS {
            true => {
                let blocks = all_documents.into_iter().flat_map(|document| {
                    let ids = &text.segments[document.segment].ids;
                    document.blocks(ids, &self.lengths)
                });
                let blocks: Vec<Cluster> = blocks.collect();
                // Short documents are one block each.
                let kind = match blocks.len() == documents {
                    true => ClusterKind::Documents,
                    false => ClusterKind::Blocks,
                };
                (blocks, kind)
            }
            false => (all_documents, ClusterKind::Documents),
        };
        let own_sums: Vec<Sums> = clusters.iter().map(sums).collect();
        self.added += 1;
        if let Some(measures) = Measures::of(&own_sums, kind) {
            self.texts.push(TextResult {
                name: text.name.clone(),
                documents,
                measures,
            });
        }
        if self.number_of_texts >= FEW_DOCUMENTS {
            clusters = Cluster::documents(text);
            kind = ClusterKind::Documents;
        }
        self.clusters_are = Some(match self.clusters_are {
            Some(before) => before.and(kind),
            None => kind,
        });
        for cluster in &clusters {
            self.clusters.push((place(cluster), sums(cluster)));
            let Cluster {
                segment, targets, ..
            } = cluster;
            let ids = &text.segments[*segment].ids;
            let scores = &scores[*segment][targets.start - first(*segment)..];
            for (target, score) in targets.clone().zip(scores) {
                if let Some(nats) = &mut self.nats {
                    nats.push(score.nats);
                }
                self.longest_context = self.longest_context.max(u64::from(score.context));
                self.by_context.add(score);
                self.calibration.add(score);
                if let Some(curve) = &mut self.by_frequency {
                    curve.add(ids[target], score);
                }
            }
            self.by_context.end_cluster();
            self.calibration.end_cluster();
            if let Some(curve) = &mut self.by_frequency {
                curve.end_cluster();
            }
        }
        self.not_scored += text.not_scored;
        Ok(())
    }

    /// Returns the result; `None` if no text has a token that can be predicted.
    pub fn finish(self) -> Option<Evaluation> {
        let sums: Vec<Sums> = self.clusters.iter().map(|(_, sums)| *sums).collect();
        Some(Evaluation {
            total: Measures::of(&sums, self.clusters_are?)?,
            texts: self.texts,
            documents: self.documents,
            not_scored: self.not_scored,
            by_context: self.by_context.bins(self.longest_context),
            by_frequency: self.by_frequency.map(|curve| curve.bins()),
            calibration: self.calibration.calibration(),
            clusters: self.clusters,
            nats: self.nats.unwrap_or_default(),
        })
    }
}

impl Settings {
    /// Returns the number of tokens between two windows; `None` if documents are read by themselves.
    pub fn stride(&self) -> Option<usize> {
        match self.policy {
            ContextPolicy::Stride(stride) => Some(stride),
            ContextPolicy::Documents => None,
        }
    }

    /// Describes in words what precedes each token.
    pub fn words(&self) -> String {
        let context = self.context;
        match self.policy {
            ContextPolicy::Stride(stride) if stride >= context => {
                format!("disjoint windows of {context} tokens, as evaluations in training have")
            }
            ContextPolicy::Stride(stride) => format!(
                "windows of {context} tokens, moved by {stride}; at least {} tokens before each token",
                context - stride + 1
            ),
            ContextPolicy::Documents => {
                format!("every document by itself; windows of {context} tokens overlap by half")
            }
        }
    }
}
