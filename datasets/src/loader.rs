//! Loaders of training and evaluation batches, which implement Burn's `DataLoader`. An item of a loader is one window,
//! which becomes one row of a batch.

#[cfg(test)]
mod tests;

use std::{iter, ops::Range, path::PathBuf, sync::Arc};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    tensor::Device,
};

use crate::{
    DataError, DocumentIndex, LossWeights, Mixture, Split,
    batch::{HostBatch, Row, TokenBatch},
    prefetch::Prefetch,
    windows::{EvaluationWindows, Window, WindowOrder, Windows},
};

/// Dataset to train on.
#[derive(Clone, Debug)]
pub struct TrainSource {
    /// Name in error messages.
    pub name: String,
    /// Tokens of the dataset.
    pub split: Split,
    /// Order in which its windows are read.
    pub order: WindowOrder,
    /// Loss weights of its targets.
    pub loss_weights: LossWeights,
    /// Share of the rows, relative to the weights of the other datasets; see [`Mixture`].
    pub weight: f64,
}

impl TrainSource {
    /// Creates a dataset that is read in epochs, with all weights 1.
    pub fn new(name: impl Into<String>, split: Split) -> Self {
        Self {
            name: name.into(),
            split,
            order: WindowOrder::default(),
            loss_weights: LossWeights::default(),
            weight: 1.,
        }
    }
}

/// Configuration of a training loader.
#[derive(Clone, Debug)]
pub struct TrainLoaderConfig {
    /// Inputs per row.
    pub context: usize,
    /// Rows per micro-batch. The loader yields one micro-batch at a time.
    pub batch: usize,
    /// Micro-batches per step. A step has batch · accumulation rows, of which micro-batch m holds those from m · batch,
    /// so 4 micro-batches of 8 rows read the same rows as one of 32.
    pub accumulation: usize,
    /// Steps of the run.
    pub steps: usize,
    /// Seed for the order of the windows, see [`Windows`], and of the datasets, see [`Mixture`].
    pub seed: u64,
}

impl TrainLoaderConfig {
    /// Creates the loader of a whole run, for batches on `device`. Each dataset is read in the same order as if it were
    /// the only one; a [`Mixture`] decides which dataset comes next.
    ///
    /// # Errors
    ///
    /// A number of tokens that overflows, no dataset, a dataset shorter than one window, and weights that are not valid
    /// or belong to other tokens. With several datasets, the error names the dataset.
    pub fn init(
        &self,
        datasets: &[TrainSource],
        device: &Device,
    ) -> Result<WindowLoader, DataError> {
        let parts: Vec<(&str, f64)> = datasets
            .iter()
            .map(|dataset| (dataset.name.as_str(), dataset.weight))
            .collect();
        let mixture = Mixture::new(&parts, self.seed)?;
        let rows = self.batch.checked_mul(self.accumulation);
        let all = rows.and_then(|rows| rows.checked_mul(self.steps));
        let countable = |rows: &usize| rows.checked_mul(self.context + 1).is_some();
        let (Some(rows), Some(all)) = (rows, all.filter(countable)) else {
            return Err(DataError::TooManyRows {
                steps: self.steps,
                batch: self.batch,
                accumulation: self.accumulation,
                context: self.context,
            });
        };
        let dataset = |source: &TrainSource| {
            let tokens = source.split.tokens();
            source.loss_weights.check(tokens)?;
            Ok(Dataset {
                windows: Windows::new(&source.order, tokens, self.context, rows, self.seed)?,
                split: source.split.clone(),
                loss_weights: source.loss_weights.clone(),
            })
        };
        let name = |source: &TrainSource, error: DataError| match datasets {
            [_] => error,
            _ => DataError::Dataset {
                path: PathBuf::from(&source.name),
                reason: error.to_string(),
            },
        };
        let datasets: Vec<Dataset> = datasets
            .iter()
            .map(|source| dataset(source).map_err(|error| name(source, error)))
            .collect::<Result<_, DataError>>()?;
        Ok(WindowLoader {
            reader: Arc::new(Reader {
                rows: Rows::Training { mixture, datasets },
                context: self.context,
                batch: self.batch,
            }),
            items: 0..all,
            device: device.clone(),
        })
    }
}

/// Configuration of an evaluation loader.
#[derive(Clone, Debug)]
pub struct EvalLoaderConfig {
    /// Inputs per row.
    pub context: usize,
    /// Maximum number of rows per batch.
    pub batch: usize,
    /// Number of windows to read, spread evenly over the split. With `None`, or more than the split has, each target of
    /// the split is read once.
    pub windows: Option<usize>,
}

impl EvalLoaderConfig {
    /// Creates the loader of one evaluation, for batches on `device`.
    ///
    /// # Errors
    ///
    /// A split shorter than one window.
    pub fn init(&self, split: &Split, device: &Device) -> Result<WindowLoader, DataError> {
        let windows = EvaluationWindows::new(split.tokens(), self.context)?;
        Ok(self.of_windows(split, windows, device))
    }

    /// Creates the loader of one evaluation by document: no row counts targets of two documents.
    ///
    /// # Errors
    ///
    /// A split shorter than one window, and a document index of another split.
    pub fn init_by_document(
        &self,
        split: &Split,
        documents: &DocumentIndex,
        device: &Device,
    ) -> Result<WindowLoader, DataError> {
        let windows = EvaluationWindows::of_documents(documents, split.tokens(), self.context)?;
        Ok(self.of_windows(split, windows, device))
    }

    fn of_windows(
        &self,
        split: &Split,
        windows: EvaluationWindows,
        device: &Device,
    ) -> WindowLoader {
        let count = self.windows.unwrap_or(usize::MAX).min(windows.count());
        WindowLoader {
            reader: Arc::new(Reader {
                rows: Rows::Evaluation {
                    split: split.clone(),
                    weights: LossWeights::default(),
                    windows,
                    count,
                },
                context: self.context,
                batch: self.batch.min(count),
            }),
            items: 0..count,
            device: device.clone(),
        }
    }
}

/// Loader that yields the windows of a run as batches. Iterating twice gives the same batches.
///
/// An iterator reads a few batches ahead, on a thread that ends with it. One iterator over many steps therefore keeps a
/// device busier than one for each step.
///
/// In training, item i is row i mod R of step ⌊i / R⌋, where R = batch · accumulation. Steps a to b are
/// `slice(a * R, b * R)`.
///
/// In evaluation, all batches have the same shape, because some backends compile their kernels for each shape. The last
/// batch is padded with rows without targets that count.
#[derive(Clone)]
pub struct WindowLoader {
    reader: Arc<Reader>,
    items: Range<usize>,
    device: Device,
}

/// Reads the batch of a range of items.
struct Reader {
    rows: Rows,
    context: usize,
    batch: usize,
}

/// Assignment of windows to items.
enum Rows {
    Training {
        mixture: Mixture,
        datasets: Vec<Dataset>,
    },
    /// `count` of the windows, spread evenly.
    Evaluation {
        split: Split,
        weights: LossWeights,
        windows: EvaluationWindows,
        count: usize,
    },
}

/// [`TrainSource`] that has been cut into windows.
struct Dataset {
    split: Split,
    loss_weights: LossWeights,
    windows: Windows,
}

impl Reader {
    fn read(&self, items: Range<usize>) -> Result<HostBatch, DataError> {
        match &self.rows {
            Rows::Training { mixture, datasets } => {
                let rows = items.clone().map(|item| {
                    let (dataset, index) = mixture.place(item as u64);
                    let dataset = &datasets[dataset];
                    Row {
                        split: &dataset.split,
                        weights: &dataset.loss_weights,
                        window: dataset.windows.nth(index),
                    }
                });
                HostBatch::read(self.context, items.len(), items.start, rows)
            }
            Rows::Evaluation {
                split,
                weights,
                windows,
                count,
            } => {
                let uncounted = Window {
                    offset: 0,
                    counted: 0..0,
                };
                let first_row = items.start;
                let rows = items
                    .map(|item| windows.window(item * windows.count() / count))
                    .chain(iter::repeat(uncounted))
                    .map(|window| Row {
                        split,
                        weights,
                        window,
                    });
                HostBatch::read(self.context, self.batch, first_row, rows)
            }
        }
    }
}

impl WindowLoader {
    /// The batches of a range of items, which borrow nothing from the loader.
    ///
    /// # Panics
    ///
    /// When the range reaches beyond the loader's items.
    pub fn batches(&self, items: Range<usize>) -> Batches {
        let reader = self.reader.clone();
        let read = move |items| reader.read(items);
        let items = slice(&self.items, items.start, items.end);
        Batches {
            host: Prefetch::new(items, self.reader.batch, read),
            device: self.device.clone(),
        }
    }
}

impl DataLoader<TokenBatch> for WindowLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TokenBatch> + 'a> {
        Box::new(self.batches(0..self.items.len()))
    }

    fn num_items(&self) -> usize {
        self.items.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<TokenBatch>> {
        Arc::new(Self {
            device: device.clone(),
            ..self.clone()
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<TokenBatch>> {
        Arc::new(Self {
            items: slice(&self.items, start, end),
            ..self.clone()
        })
    }
}

/// Returns items `start..end` of a loader that holds `items`.
fn slice(items: &Range<usize>, start: usize, end: usize) -> Range<usize> {
    assert!(
        start <= end && end <= items.len(),
        "{} items have no slice {start}..{end}",
        items.len()
    );
    items.start + start..items.start + end
}

/// Iterator over the batches of a loader, which reads ahead on a thread that ends with it. Tensors are created on the
/// thread that iterates.
pub struct Batches {
    host: Prefetch<HostBatch>,
    device: Device,
}

impl Iterator for Batches {
    type Item = Result<TokenBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.host.next()?;
        Some(batch.map(|batch| batch.into_tensors(&self.device)))
    }
}

impl DataLoaderIterator<TokenBatch> for Batches {
    fn progress(&self) -> Progress {
        self.host.progress()
    }
}
