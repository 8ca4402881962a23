//! Windows that a run has read in training, and windows of the text that it has not, drawn at random.
//!
//! A run need not have read all of its training text, so windows are drawn from the rows of its steps.

use std::collections::BTreeSet;

use foretoken_datasets::{DocumentIndex, EvaluationWindows, Mixture, Split, Window, Windows};

use crate::Error;
use crate::engine::data::Data;
use crate::experiment::Experiment;
use crate::science::random::Random;

/// Draws for each window that is asked for, because windows of several epochs are the same.
const ATTEMPTS: usize = 20;

/// Consecutive tokens of a text, as a model reads them at once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// Tokens, with those that are only read.
    pub(super) ids: Vec<u32>,
    /// Place of the first one that is predicted.
    pub(super) first: usize,
}

impl Piece {
    fn read(split: &Split, window: &Window) -> Result<Self, Error> {
        let end = window.offset + window.counted.end;
        Ok(Self {
            ids: split.to_vec(window.offset..end + 1)?,
            first: window.counted.start + 1,
        })
    }
}

/// The texts of a run at a checkpoint.
#[derive(Clone, Copy)]
pub struct Texts<'t> {
    /// Tokens of both texts.
    pub data: &'t Data,
    /// The experiment of the run.
    pub experiment: &'t Experiment,
    /// Token that ends the documents, if windows keep to documents: it precedes each of them.
    pub border: Option<u32>,
    /// Number of tokens that the model reads at once.
    pub context: usize,
    /// Optimizer steps up to the checkpoint.
    pub step: usize,
}

impl Texts<'_> {
    fn rows(&self) -> usize {
        self.experiment.train.batch * self.experiment.train.accumulation
    }

    /// Returns how often training has read its text up to the checkpoint, on average.
    ///
    /// # Errors
    ///
    /// Returns an error if a text is shorter than a window.
    pub fn epochs(&self) -> Result<f64, Error> {
        let positions = (self.step * self.rows() * self.context) as f64;
        let counted = self.data.counted_share(self.context)?;
        Ok(positions * counted / self.data.train_tokens() as f64)
    }

    /// Draws different windows that training has read up to the checkpoint. There may be fewer than `count`.
    ///
    /// # Errors
    ///
    /// Returns an error if a text is shorter than a window, or tokens cannot be read.
    pub(super) fn training(&self, count: usize, random: &mut Random) -> Result<Vec<Piece>, Error> {
        let (sources, rows, seed) = (&self.data.train, self.rows(), self.experiment.train.seed);
        let weights: Vec<(&str, f64)> = sources
            .iter()
            .map(|source| (source.name.as_str(), source.weight))
            .collect();
        let mixture = Mixture::new(&weights, seed)?;
        let windows = sources
            .iter()
            .map(|source| {
                let tokens = source.split.tokens();
                Windows::new(&source.order, tokens, self.context, rows, seed)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let all = self.step * rows;
        let mut seen = BTreeSet::new();
        let mut pieces = Vec::new();
        for _ in 0..ATTEMPTS * count {
            if pieces.len() == count || all == 0 {
                break;
            }
            let (dataset, index) = mixture.place(random.index(all) as u64);
            let (step, row) = (index as usize / rows, index as usize % rows);
            let window = windows[dataset].window(step, row);
            if seen.insert((dataset, window.offset)) {
                pieces.push(Piece::read(&sources[dataset].split, &window)?);
            }
        }
        Ok(pieces)
    }

    /// Draws different windows of the validation text. There may be fewer than `count`.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is shorter than a window, or tokens cannot be read.
    pub(super) fn held_out(&self, count: usize, random: &mut Random) -> Result<Vec<Piece>, Error> {
        let valid = &self.data.valid;
        let windows = match (self.border, self.data.valid_documents()) {
            (None, _) => EvaluationWindows::new(valid.tokens(), self.context)?,
            (Some(_), Some(documents)) => {
                EvaluationWindows::of_documents(documents, valid.tokens(), self.context)?
            }
            (Some(border), None) => {
                let documents = DocumentIndex::scan(valid, border)?;
                EvaluationWindows::of_documents(&documents, valid.tokens(), self.context)?
            }
        };
        let drawn = places(windows.count(), count, random);
        let windows = drawn.into_iter().map(|index| windows.window(index));
        windows.map(|window| Piece::read(valid, &window)).collect()
    }
}

/// Draws different numbers of `0..all`, in ascending order.
pub(super) fn places(all: usize, count: usize, random: &mut Random) -> Vec<usize> {
    if count >= all {
        return (0..all).collect();
    }
    // Floyd's algorithm (Bentley & Floyd 1987).
    let mut drawn = BTreeSet::new();
    for last in all - count..all {
        let place = random.index(last + 1);
        if !drawn.insert(place) {
            drawn.insert(last);
        }
    }
    drawn.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use foretoken_datasets::Monitor;

    use super::*;

    #[test]
    fn places_are_different_and_equally_probable() {
        let mut counts = [0; 10];
        for stream in 0..3000 {
            let places = places(10, 3, &mut Random::stream(0, stream));
            assert!(places.len() == 3 && places.is_sorted_by(|a, b| a < b));
            places.into_iter().for_each(|place| counts[place] += 1);
        }
        // 900 on average, with a standard deviation of 25.
        assert!(
            counts.iter().all(|count| (800..1000).contains(count)),
            "{counts:?}"
        );
        assert_eq!(places(2, 5, &mut Random::stream(0, 0)), [0, 1]);
    }

    fn load(overrides: &[&str]) -> (Experiment, Data) {
        let overrides: Vec<String> = overrides.iter().map(|key| (*key).to_owned()).collect();
        let experiment = Experiment::embedded(&overrides).unwrap();
        let interrupt = std::sync::atomic::AtomicBool::new(false);
        let monitor = Monitor {
            report: &|_| {},
            interrupt: &interrupt,
            bars: false,
        };
        let data = Data::load(&experiment.data, monitor).unwrap();
        (experiment, data)
    }

    #[test]
    fn training_windows_are_those_of_the_steps() {
        let (experiment, data) = load(&["data.world.train_bytes=20000"]);
        let context = 16;
        let texts = |step| Texts {
            data: &data,
            experiment: &experiment,
            border: None,
            context,
            step,
        };
        // Three steps of four rows, which are different windows of the first epoch.
        let pieces = texts(3).training(100, &mut Random::stream(1, 0)).unwrap();
        let windows = Windows::new(
            &data.train[0].order,
            data.train[0].split.tokens(),
            context,
            4,
            experiment.train.seed,
        )
        .unwrap();
        let mut expected: Vec<Vec<u32>> = (0..12)
            .map(|row| {
                let offset = windows.window(row / 4, row % 4).offset;
                data.train[0].split.to_vec(offset..offset + 17).unwrap()
            })
            .collect();
        let mut found: Vec<Vec<u32>> = pieces.into_iter().map(|piece| piece.ids).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert!((texts(3).epochs().unwrap() - 192.0 / 20_000.0).abs() < 1e-4);
        assert!(
            texts(0)
                .training(5, &mut Random::stream(1, 0))
                .unwrap()
                .is_empty()
        );

        let held_out = texts(3).held_out(7, &mut Random::stream(1, 1)).unwrap();
        assert_eq!(held_out.len(), 7);
        assert!(
            held_out
                .iter()
                .all(|piece| piece.ids.len() == 17 && piece.first == 1)
        );
    }

    #[test]
    fn windows_of_documents_begin_with_the_end_of_another() {
        let (experiment, data) = load(&[
            "data.windows=\"documents\"",
            "data.world.kind=\"facts\"",
            "data.world.facts=20",
            "data.world.train_documents=100",
            "data.world.valid_documents=50",
        ]);
        let end = data.tokenizer.encode("\n").unwrap()[0];
        let texts = Texts {
            data: &data,
            experiment: &experiment,
            border: Some(end),
            context: 10,
            step: 5,
        };
        let mut random = Random::stream(2, 0);
        let training = texts.training(9, &mut random).unwrap();
        for pieces in [training, texts.held_out(9, &mut random).unwrap()] {
            assert_eq!(pieces.len(), 9);
            for Piece { ids, first } in pieces {
                assert_eq!((ids[0], ids.last(), first), (end, Some(&end), 1));
                assert_eq!(ids.iter().filter(|id| **id == end).count(), 2);
            }
        }
    }
}
