//! Suggestions for misspelt names.

/// Smallest Jaro-Winkler similarity of a suggestion. Less similar names confuse more than they help.
const CLOSE: f64 = 0.7;

/// Returns the known name that is most similar to `unknown`, if any is similar enough.
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
