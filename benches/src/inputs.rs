//! Input files of both competitors: tokens, windows and initial weights. Because they are the same for both, the losses
//! must agree, so a race between two different trainings is noticed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use foretoken_benches::Shape;
use foretoken_datasets::{DataError, Split, TokenFile, WindowOrder, Windows};
use foretoken_model::Transformer;

use crate::error::RaceError;

/// Seed of initial weights and windows.
pub(crate) const SEED: u64 = 1;
/// Learning rate of every step. A race has no schedule.
pub(crate) const LEARNING_RATE: f64 = 1e-3;
/// Number of tokens in the text. An epoch has more than one batch, and ids recur.
const TOKENS: usize = 100_000;

/// Temporary folder of the files that the competitors read.
pub(crate) struct Inputs {
    folder: tempfile::TempDir,
}

impl Inputs {
    /// Writes the tokens, the windows of `steps` steps, and the initial weights, which are the same on every device.
    pub(crate) fn create(shape: &Shape, steps: usize, device: &Device) -> Result<Self, RaceError> {
        let action = || "write the inputs of the race in a temporary folder".to_owned();
        let folder = tempfile::Builder::new()
            .prefix("foretoken-race-")
            .tempdir()
            .map_err(RaceError::cannot(action()))?;
        let inputs = Self { folder };
        inputs
            .write(shape, steps, device)
            .map_err(|error| match error {
                Fault::Foretoken(error) => RaceError::Foretoken(error),
                Fault::Io(error) => RaceError::cannot(action())(error),
            })?;
        Ok(inputs)
    }

    fn write(&self, shape: &Shape, steps: usize, device: &Device) -> Result<(), Fault> {
        let text: Vec<u8> = ids(shape.vocab_size, TOKENS)
            .flat_map(u16::to_le_bytes)
            .collect();
        std::fs::write(self.text(), text)?;

        let order = WindowOrder::Epoch;
        let windows = Windows::new(&order, TOKENS, shape.context, shape.batch, SEED)
            .map_err(foretoken::Error::from)?;
        let rows = (0..steps).flat_map(|step| (0..shape.batch).map(move |row| (step, row)));
        let starts: Vec<u8> = rows
            .map(|(step, row)| windows.window(step, row).offset as u64)
            .flat_map(u64::to_le_bytes)
            .collect();
        std::fs::write(self.windows(), starts)?;

        let model = shape.model().init(SEED, device);
        let model = model.map_err(foretoken::Error::from)?;
        write_weights(&model, &self.weights())
    }

    /// Returns the path of the token ids: u16 each, without a header, as in nanoGPT.
    pub(crate) fn text(&self) -> PathBuf {
        self.folder.path().join("text.bin")
    }

    /// Returns the path of the starts of all windows in the text: u64 each, by step and row.
    pub(crate) fn windows(&self) -> PathBuf {
        self.folder.path().join("windows")
    }

    /// Returns the path of the parameters: f32 each, in the order of the module tree.
    pub(crate) fn weights(&self) -> PathBuf {
        self.folder.path().join("weights")
    }
}

/// Opens the text as training does.
pub(crate) fn open_text(path: &Path, shape: &Shape) -> Result<Split, DataError> {
    let bytes_per_token = vec![1; shape.vocab_size];
    Split::from_files(vec![TokenFile::open(path)?], Arc::from(bytes_per_token))
}

/// Returns a deterministic sequence of ids with frequencies by Zipf's law: that of the i-th id is proportional to 1/i.
/// Models learn this within a few steps.
fn ids(vocab_size: usize, count: usize) -> impl Iterator<Item = u16> {
    // Multiples of the golden ratio are spread evenly over [0, 1).
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let largest = vocab_size - 1;
    (0..count).map(move |i| {
        let place = (i as f64 * GOLDEN).fract();
        let rank = (vocab_size as f64 + 1.0).powf(place);
        (rank as usize - 1).min(largest) as u16
    })
}

/// Failure of writing the inputs.
enum Fault {
    Io(std::io::Error),
    Foretoken(foretoken::Error),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<foretoken::Error> for Fault {
    fn from(error: foretoken::Error) -> Self {
        Self::Foretoken(error)
    }
}

fn write_weights(model: &Transformer, path: &Path) -> Result<(), Fault> {
    let mut writer = Writer {
        file: BufWriter::new(File::create(path)?),
        result: Ok(()),
    };
    model.visit(&mut writer);
    writer.result?;
    Ok(writer.file.flush()?)
}

struct Writer {
    file: BufWriter<File>,
    result: Result<(), Fault>,
}

impl ModuleVisitor for Writer {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.result.is_ok() {
            self.result = self.append(param.val());
        }
    }
}

impl Writer {
    fn append<const D: usize>(&mut self, tensor: Tensor<D>) -> Result<(), Fault> {
        let values: Vec<f32> = tensor
            .try_into_vec_as()
            .map_err(|error| foretoken::Error::Training(error.to_string()))?;
        for value in values {
            self.file.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use foretoken::backend::Backend;

    use super::*;

    /// Shape of a tiny model.
    const TINY: Shape = Shape {
        name: "tiny",
        vocab_size: 11,
        context: 8,
        batch: 3,
        layers: 1,
        heads: 2,
        width: 4,
    };

    #[test]
    fn ids_cover_the_vocabulary_and_the_first_are_frequent() {
        for vocab_size in [65, 50_304] {
            let mut counts = vec![0; vocab_size];
            for id in ids(vocab_size, TOKENS) {
                counts[usize::from(id)] += 1;
            }
            let expected = TOKENS as f64 * 2f64.ln() / (vocab_size as f64 + 1.0).ln();
            assert!((f64::from(counts[0]) - expected).abs() < 0.01 * expected);
            assert!(counts[0] > counts[1] && counts[1] > counts[4]);
            let used = counts.iter().filter(|count| **count > 0).count();
            assert!(used > vocab_size.min(10_000) / 2, "{used} of {vocab_size}");
        }
    }

    #[test]
    fn files_have_the_documented_format() {
        let device = Backend::default_backend().device().unwrap();
        let inputs = Inputs::create(&TINY, 5, &device).unwrap();
        let split = open_text(&inputs.text(), &TINY).unwrap();
        assert_eq!(split.tokens(), TOKENS);
        let expected: Vec<u32> = ids(TINY.vocab_size, 100).map(u32::from).collect();
        assert_eq!(split.to_vec(0..100).unwrap(), expected);

        let windows = std::fs::read(inputs.windows()).unwrap();
        assert_eq!(windows.len(), 8 * 5 * TINY.batch);
        for start in windows.chunks_exact(8) {
            let start = u64::from_le_bytes(start.try_into().unwrap()) as usize;
            assert!(start + TINY.context < TOKENS);
        }

        let weights = std::fs::read(inputs.weights()).unwrap();
        assert_eq!(weights.len(), 4 * TINY.model().parameters());
        let embedding = f32::from_le_bytes(weights[..4].try_into().unwrap());
        assert!(embedding != 0.0 && embedding.abs() < 0.2, "{embedding}");
        // The last parameters are the gain and the bias of the final norm.
        let tail: Vec<f32> = weights[weights.len() - 8 * TINY.width..]
            .chunks_exact(4)
            .map(|value| f32::from_le_bytes(value.try_into().unwrap()))
            .collect();
        assert_eq!(tail, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
