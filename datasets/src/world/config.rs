//! Configuration of a world: the table `[data.world]` of an experiment, its defaults, and the errors of its values.

use serde::{Deserialize, Serialize};

use super::Stream;

/// Kinds of worlds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorldKind {
    /// Sentences, invented facts and sums, by a probabilistic grammar.
    #[default]
    Grammar,
    /// Facts that are asked for with Zipf frequencies.
    Facts,
    /// Random sparse Markov chains.
    Markov,
}

impl WorldKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Grammar, Self::Facts, Self::Markov];

    /// Returns the name in an experiment file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grammar => "grammar",
            Self::Facts => "facts",
            Self::Markov => "markov",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Law of the lengths of documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LengthLaw {
    /// All documents have the same length.
    #[default]
    Fixed,
    /// A document may end after every symbol, with the same probability.
    Geometric,
}

/// Amount of text, which always ends with a complete document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Minimum number of bytes.
    Bytes(usize),
    /// Number of documents.
    Documents(u64),
}

impl Size {
    /// Returns whether a text of this many bytes and documents is complete.
    pub(super) fn is_reached(self, bytes: usize, documents: u64) -> bool {
        match self {
            Self::Bytes(size) => bytes >= size,
            Self::Documents(size) => documents >= size,
        }
    }

    /// Returns the last word of the keys that set it: `bytes` or `documents`.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Bytes(_) => "bytes",
            Self::Documents(_) => "documents",
        }
    }
}

/// Configuration of a world and of the lengths of its texts. A key that is `None` is at its default, and is refused if
/// the kind does not have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Kind of the world.
    #[serde(skip_serializing_if = "WorldKind::is_default")]
    pub kind: WorldKind,
    /// Seed of the world and of all documents.
    pub seed: u64,
    /// Minimum number of bytes of training text, which ends with a complete document.
    pub train_bytes: usize,
    /// Minimum number of bytes of validation text, which ends with a complete document.
    pub valid_bytes: usize,
    /// Number of training documents, in place of `train_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_documents: Option<u64>,
    /// Number of validation documents, in place of `valid_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_documents: Option<u64>,
    /// Factor on the names and words of each class; for the grammar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<usize>,
    /// Number of facts; for facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<usize>,
    /// Exponent `a` of the frequencies `p_i ∝ i^−(1+a)`; for facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponent: Option<f64>,
    /// Letters of an answer; for facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<usize>,
    /// Number of symbols; for chains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbols: Option<usize>,
    /// Number of symbols on which the next one depends; for chains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<usize>,
    /// Number of symbols that are possible next; for chains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<usize>,
    /// Symbols of a document, or their mean, without the newline; for chains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Law of the lengths of documents; for chains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lengths: Option<LengthLaw>,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            kind: WorldKind::default(),
            seed: 1,
            train_bytes: 2_000_000,
            valid_bytes: 32_768,
            train_documents: None,
            valid_documents: None,
            scale: None,
            facts: None,
            exponent: None,
            answer: None,
            symbols: None,
            order: None,
            branches: None,
            length: None,
            lengths: None,
        }
    }
}

/// Parameters of a world of facts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FactsConfig {
    /// Number of facts.
    pub facts: usize,
    /// `a` in the frequencies `p_i ∝ i^−(1+a)`.
    pub exponent: f64,
    /// Letters of an answer.
    pub answer: usize,
}

impl FactsConfig {
    /// Returns the exponent that theory predicts for the loss above the entropy as a power law in training tokens:
    /// `α_D = a/(1+a)` (Hutter 2021, "Learning Curve Theory", arXiv 2102.04074; Michaud et al. 2023, "The Quantization
    /// Model of Neural Scaling", arXiv 2303.13506). A fact is known once it was seen, so that after `D` documents the
    /// facts of rank above about `D^{1/(1+a)}` are unknown, whose probability is `∝ D^{−a/(1+a)}`. `None` unless `a` is
    /// above 0.
    ///
    /// It holds while the number of facts is much larger than that rank.
    pub fn data_exponent(&self) -> Option<f64> {
        (self.exponent > 0.0).then(|| self.exponent / (1.0 + self.exponent))
    }

    /// Returns the exponent that theory predicts for the loss above the entropy as a power law in parameters: `α_N = a`
    /// (Michaud et al. 2023). A model of `N` parameters knows the first `∝ N` facts, and the others have a probability
    /// `∝ N^{−a}`. `None` unless `a` is above 0.
    pub fn parameter_exponent(&self) -> Option<f64> {
        (self.exponent > 0.0).then_some(self.exponent)
    }
}

/// Parameters of a world of Markov chains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MarkovConfig {
    /// Number of symbols.
    pub symbols: usize,
    /// Number of symbols on which the next one depends.
    pub order: usize,
    /// Number of symbols that are possible next.
    pub branches: usize,
    /// Symbols of a document, or their mean, without the newline.
    pub length: usize,
    /// Law of the lengths of documents.
    pub lengths: LengthLaw,
}

/// Name of a key, and what is wrong with its value.
type Fault = (&'static str, String);

impl WorldConfig {
    /// Maximum number of facts.
    pub const MAX_FACTS: usize = 10_000_000;
    /// Maximum factor of the grammar's lexicon.
    pub const MAX_SCALE: usize = 1000;
    /// Maximum number of transitions of a chain.
    pub const MAX_TRANSITIONS: usize = 1 << 22;
    /// Maximum product of the transitions of a chain and the length of its documents.
    const MAX_WORK: u64 = 1 << 28;

    /// Returns the amount of text of a stream.
    pub fn size(&self, stream: Stream) -> Size {
        let (documents, bytes) = match stream {
            Stream::Train => (self.train_documents, self.train_bytes),
            Stream::Valid => (self.valid_documents, self.valid_bytes),
        };
        documents.map_or(Size::Bytes(bytes), Size::Documents)
    }

    /// Returns the factor of the grammar's lexicon.
    pub fn scale(&self) -> usize {
        self.scale.unwrap_or(1)
    }

    /// Returns the parameters of a world of facts.
    pub fn of_facts(&self) -> FactsConfig {
        FactsConfig {
            facts: self.facts.unwrap_or(1000),
            exponent: self.exponent.unwrap_or(0.5),
            answer: self.answer.unwrap_or(4),
        }
    }

    /// Returns the parameters of a world of Markov chains.
    pub fn of_chains(&self) -> MarkovConfig {
        MarkovConfig {
            symbols: self.symbols.unwrap_or(16),
            order: self.order.unwrap_or(2),
            branches: self.branches.unwrap_or(4),
            length: self.length.unwrap_or(64),
            lengths: self.lengths.unwrap_or_default(),
        }
    }

    /// Checks all values.
    ///
    /// # Errors
    ///
    /// The key at fault, such as `data.world.facts`, and what is wrong with its value.
    pub fn validate(&self) -> Result<(), Fault> {
        use WorldKind::{Facts, Grammar, Markov};
        for (key, is_set, kind) in [
            ("data.world.scale", self.scale.is_some(), Grammar),
            ("data.world.facts", self.facts.is_some(), Facts),
            ("data.world.exponent", self.exponent.is_some(), Facts),
            ("data.world.answer", self.answer.is_some(), Facts),
            ("data.world.symbols", self.symbols.is_some(), Markov),
            ("data.world.order", self.order.is_some(), Markov),
            ("data.world.branches", self.branches.is_some(), Markov),
            ("data.world.length", self.length.is_some(), Markov),
            ("data.world.lengths", self.lengths.is_some(), Markov),
        ] {
            if is_set && kind != self.kind {
                let (name, own) = (kind.name(), self.kind.name());
                let message = format!(
                    "is a key of data.world.kind = \"{name}\", and the kind is \"{own}\"; remove the key, or change the \
                     kind"
                );
                return Err((key, message));
            }
        }
        for (key, documents) in [
            ("data.world.train_documents", self.train_documents),
            ("data.world.valid_documents", self.valid_documents),
        ] {
            if documents == Some(0) {
                return Err((key, "must be at least 1".into()));
            }
        }
        match self.kind {
            Grammar => within("data.world.scale", self.scale(), 1, Self::MAX_SCALE),
            Facts => self.validate_facts(),
            Markov => self.validate_chains(),
        }
    }

    fn validate_facts(&self) -> Result<(), Fault> {
        let FactsConfig {
            facts,
            exponent,
            answer,
        } = self.of_facts();
        within("data.world.facts", facts, 1, Self::MAX_FACTS)?;
        within("data.world.answer", answer, 1, 64)?;
        if !(-1.0..=8.0).contains(&exponent) {
            let message = format!(
                "is {exponent}; it must be a number from -1 (all facts equally frequent) to 8"
            );
            return Err(("data.world.exponent", message));
        }
        Ok(())
    }

    fn validate_chains(&self) -> Result<(), Fault> {
        let MarkovConfig {
            symbols,
            order,
            branches,
            length,
            ..
        } = self.of_chains();
        within("data.world.symbols", symbols, 2, 62)?;
        within("data.world.branches", branches, 1, symbols)?;
        within("data.world.order", order, 0, 16)?;
        let contexts = symbols.checked_pow(order as u32);
        let transitions = contexts.and_then(|contexts| contexts.checked_mul(branches));
        if transitions.is_none_or(|transitions| transitions > Self::MAX_TRANSITIONS) {
            let message = format!(
                "is {order}; {symbols} symbols then have {symbols}^{order} contexts of {branches} transitions, more than \
                 the {} that are possible in all; lower it, or data.world.symbols",
                Self::MAX_TRANSITIONS
            );
            return Err(("data.world.order", message));
        }
        within("data.world.length", length, order + 1, 65_536)?;
        let work = (transitions.unwrap_or(0) as u64).saturating_mul(length as u64);
        if work > Self::MAX_WORK {
            let message = format!(
                "is {length}; the entropy of documents that long is too slow to compute for {symbols}^{order} contexts; \
                 lower it, or data.world.order"
            );
            return Err(("data.world.length", message));
        }
        Ok(())
    }
}

fn within(key: &'static str, value: usize, least: usize, most: usize) -> Result<(), Fault> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err((
            key,
            format!("is {value}; it must be a whole number from {least} to {most}"),
        )),
    }
}
