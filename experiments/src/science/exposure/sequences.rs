//! Sequences of the data: the prompts that a model continues, and how the data continue them.

use foretoken_datasets::world::{END, Stream, World};
use foretoken_datasets::{Split, Tokenizer};

use super::accumulate::fewest;
use crate::Error;

/// Documents that are drawn for a sequence before the world is said to have none that is long enough.
const PATIENCE: usize = 1000;

/// Number and lengths of sequences.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Largest number of sequences.
    pub sequences: usize,
    /// Tokens of a prompt, without those that precede every text.
    pub prompt: usize,
    /// Largest number of steps after the prompt.
    pub length: usize,
}

/// Sequences of the data, all with prompts of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequences {
    /// Tokens of each sequence: at least one more than its prompt.
    pub(super) rows: Vec<Vec<u32>>,
    /// Number of tokens of each prompt.
    pub(super) prompt: usize,
    /// Token that ends a sequence; `None` if sequences have no end.
    pub(super) end: Option<u32>,
    /// Token that ends a document of a world.
    pub(super) border: Option<u32>,
    /// Source of the sequences, in words.
    pub(super) origin: String,
}

impl Sequences {
    /// Draws sequences from a world: validation documents behind those of its validation text, which no training and no
    /// choice of a checkpoint has seen. Each sequence begins after the end of a document. If `by_document`, it is one
    /// document, and otherwise as many as it takes.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer has no token for the end of a document, or no document is longer than the prompt.
    pub fn of_world(
        world: &World,
        tokenizer: &Tokenizer,
        by_document: bool,
        shape: Shape,
    ) -> Result<Self, Error> {
        let [end] = tokenizer.encode(&char::from(END).to_string())?[..] else {
            return Err(refused(
                "tokenizer",
                "joins the newline that ends a document with other text; use a char or byte tokenizer".into(),
            ));
        };
        let size = world.config().size(Stream::Valid);
        let seen = world.text(Stream::Valid, size).documents;
        let mut next = seen..;
        let mut document = || -> Result<Vec<u32>, Error> {
            let index = next.next().unwrap_or(u64::MAX);
            Ok(tokenizer.encode(&world.document(Stream::Valid, index).text)?)
        };
        let mut rows = Vec::new();
        while rows.len() < shape.sequences {
            let mut row = vec![end];
            if by_document {
                let mut longer = (0..PATIENCE).map(|_| document());
                let found = longer.find(|found| {
                    let document = found.as_ref();
                    document.map_or(true, |document| document.len() > shape.prompt)
                });
                let Some(document) = found.transpose()? else {
                    return Err(refused(
                        "--prompt",
                        format!(
                            "none of {PATIENCE} documents has more than {} tokens; choose a smaller number",
                            shape.prompt
                        ),
                    ));
                };
                row.extend(document);
            } else {
                while row.len() <= shape.prompt + shape.length {
                    row.extend(document()?);
                }
            }
            row.truncate(1 + shape.prompt + shape.length);
            rows.push(row);
        }
        Ok(Self {
            rows,
            prompt: 1 + shape.prompt,
            end: by_document.then_some(end),
            border: Some(end),
            origin: format!(
                "fresh documents of the {} world",
                world.config().kind.name()
            ),
        })
    }

    /// Takes sequences from a text: disjoint and at equal distances. `start` precedes each of them. With `end`, each
    /// sequence is a document that ends with this token, and the end of another document precedes it.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is too short, or if a prompt would be empty.
    pub fn of_split(
        split: &Split,
        start: &[u32],
        end: Option<u32>,
        shape: Shape,
    ) -> Result<Self, Error> {
        let prompt = start.len() + shape.prompt;
        if prompt == 0 {
            return Err(refused(
                "--prompt",
                "is 0, but no token precedes the texts of this model; give at least 1".into(),
            ));
        }
        let ids = split.to_vec(0..split.tokens())?;
        let needed = shape.prompt + shape.length;
        let pieces: Vec<&[u32]> = match end {
            Some(end) => ids
                .split_inclusive(|id| *id == end)
                .filter(|document| document.len() > shape.prompt)
                .map(|document| &document[..document.len().min(needed)])
                .collect(),
            None => ids.chunks_exact(needed.max(1)).collect(),
        };
        if pieces.is_empty() {
            return Err(refused(
                "--length",
                format!(
                    "the validation text has {} tokens, and no sequence of {needed} fits into it or its documents; choose \
                     a smaller --length or --prompt, or name a longer text with --data",
                    ids.len()
                ),
            ));
        }
        let count = pieces.len().min(shape.sequences);
        let spaced = (0..count).map(|number| pieces[number * pieces.len() / count]);
        Ok(Self {
            rows: spaced.map(|piece| [start, piece].concat()).collect(),
            prompt,
            end,
            border: end,
            origin: "the validation text".into(),
        })
    }

    /// Returns the number of sequences.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Returns the largest number of steps after a prompt that enough sequences have for a mean over them.
    pub fn length(&self) -> usize {
        let steps = self.rows.iter().map(|row| row.len() - self.prompt);
        let mut steps: Vec<usize> = steps.collect();
        steps.sort_unstable_by(|one, other| other.cmp(one));
        let last = fewest(steps.len()).saturating_sub(1);
        steps.get(last).copied().unwrap_or(0)
    }

    /// Returns the prompts.
    pub(super) fn prompts(&self) -> Vec<&[u32]> {
        let prompts = self.rows.iter().map(|row| &row[..self.prompt]);
        prompts.collect()
    }
}

fn refused(origin: &str, message: String) -> Error {
    Error::Experiment {
        origin: origin.into(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use foretoken_datasets::world::{WorldConfig, WorldKind};

    use super::*;

    const SHAPE: Shape = Shape {
        sequences: 5,
        prompt: 3,
        length: 40,
    };

    fn facts() -> World {
        let config = WorldConfig {
            kind: WorldKind::Facts,
            facts: Some(20),
            valid_documents: Some(10),
            train_documents: Some(10),
            ..WorldConfig::default()
        };
        World::new(&config).unwrap()
    }

    #[test]
    fn sequences_of_a_world_are_documents_behind_its_validation_text() {
        let (world, tokenizer) = (facts(), Tokenizer::byte());
        let document = |index| world.document(Stream::Valid, index).text;
        let rows = Sequences::of_world(&world, &tokenizer, true, SHAPE).unwrap();
        assert_eq!((rows.count(), rows.prompt, rows.end), (5, 4, Some(10)));
        assert_eq!(
            rows.rows[2],
            tokenizer.encode(&format!("\n{}", document(12))).unwrap()
        );
        assert_eq!(rows.length(), document(10).len() - 3);

        let stream = Sequences::of_world(&world, &tokenizer, false, SHAPE).unwrap();
        assert_eq!((stream.length(), stream.end), (40, None));
        assert!(
            stream
                .rows
                .iter()
                .all(|row| row.len() == 44 && row[0] == 10)
        );
        let text = format!("\n{}{}", document(10), document(11));
        assert!(stream.rows[0].starts_with(&tokenizer.encode(&text).unwrap()));
    }

    #[test]
    fn prompts_longer_than_documents_are_refused() {
        let shape = Shape {
            prompt: 30,
            ..SHAPE
        };
        let error = Sequences::of_world(&facts(), &Tokenizer::byte(), true, shape).unwrap_err();
        assert!(
            error.to_string().starts_with("--prompt: none of"),
            "{error}"
        );
    }

    #[test]
    fn sequences_of_a_text_are_disjoint_and_spread_over_it() {
        let tokenizer = Tokenizer::byte();
        let split = Split::from_ids((0..200).collect(), tokenizer.token_lengths().into());
        let shape = Shape {
            sequences: 2,
            prompt: 3,
            length: 40,
        };
        let found = Sequences::of_split(&split, &[7], None, shape).unwrap();
        assert_eq!((found.count(), found.prompt, found.length()), (2, 4, 40));
        assert_eq!(found.rows[0][..3], [7, 0, 1]);
        assert_eq!(found.rows[1][..3], [7, 86, 87]);
        let whole = Shape {
            length: 300,
            ..shape
        };
        let error = Sequences::of_split(&split, &[], None, whole).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--length: the validation text has 200")
        );
        let empty = Shape { prompt: 0, ..shape };
        assert!(Sequences::of_split(&split, &[], None, empty).is_err());
    }
}
