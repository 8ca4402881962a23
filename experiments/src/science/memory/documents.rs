//! Loss of documents that are read by themselves.

use std::sync::atomic::AtomicBool;

use foretoken_model::Transformer;

use crate::Error;
use crate::science::evaluate::{BatchLimit, ContextPolicy, Settings, Text, score_padded};

/// Returns the loss of each segment's targets, in nats. Segments are padded to a multiple of `grain` tokens, and `batch` of
/// them are computed at once. `progress` is called with the number of tokens after each batch.
///
/// # Errors
///
/// Returns an error if the device fails, or `interrupt` is set.
pub(super) fn nats(
    model: &Transformer,
    text: &Text,
    (grain, batch): (usize, usize),
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<f64>, Error> {
    let settings = Settings {
        context: model.config().context,
        policy: ContextPolicy::Documents,
        batch,
    };
    let limit = (grain, BatchLimit::Windows(batch));
    let scores = score_padded(model, text, &settings, limit, interrupt, progress)?;
    let nats = scores
        .iter()
        .map(|scores| scores.iter().map(|score| f64::from(score.nats)).sum());
    Ok(nats.collect())
}
