//! The known name that a misspelt one most likely meant.

/// Jaro-Winkler similarity below which a suggestion confuses more than it helps.
const CLOSE: f64 = 0.7;

/// The nearest of `known`, if any is near.
pub(crate) fn nearest<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let unknown = unknown.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&unknown, name), name))
        .filter(|(similarity, _)| *similarity >= CLOSE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
