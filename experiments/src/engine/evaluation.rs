//! The evaluation loop.

use std::ops::ControlFlow;

use burn::data::dataloader::DataLoader;
use foretoken_datasets::TokenBatch;
use foretoken_model::Watch;

use super::language_model::LanguageModel;
use super::totals::Totals;
use crate::Error;

/// Callback with the number of windows read so far and their sums, which can break an evaluation off.
pub type Progress<'a> = dyn FnMut(usize, &Totals) -> Result<ControlFlow<()>, Error> + 'a;

/// Sums the negative log-likelihood of a model without autodiff over the windows of a loader. Calls `progress` before
/// the first window and after each batch. Returns `None` if `progress` breaks the evaluation off.
///
/// # Errors
///
/// Returns an error if a batch cannot be read, the device fails, or `progress` returns an error.
pub fn evaluate(
    model: &LanguageModel,
    loader: &dyn DataLoader<TokenBatch>,
    watch: Option<&dyn Watch>,
    progress: &mut Progress<'_>,
) -> Result<Option<Totals>, Error> {
    let mut totals = Totals::default();
    let mut batches = loader.iter();
    if progress(0, &totals)?.is_break() {
        return Ok(None);
    }
    while let Some(batch) = batches.next() {
        let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
        totals += model.score(batch, watch).read().map_err(Error::device)?;
        if progress(batches.progress().items_processed, &totals)?.is_break() {
            return Ok(None);
        }
    }
    Ok(Some(totals))
}
