//! Maps each input of an operation to the operation that produces it.

use super::replay::ReferenceValues;

/// Returns the index of the operation whose output is this input of operation `index`.
pub(super) fn source(operations: &[ReferenceValues], index: usize, input: usize) -> usize {
    let place = &operations[index].place;
    let (block, name) = split(&place.path);
    let at = |name: &str| {
        let path = format!("{block}{name}");
        operations.iter().position(|given| given.place.path == path)
    };
    let before = index.saturating_sub(1);
    let found = match (name, input) {
        ("attention.queries" | "attention.keys", _) => at("attention.qkv"),
        ("attention.scores", 0) => at("attention.queries").or_else(|| at("attention.qkv")),
        ("attention.scores", _) => at("attention.keys").or_else(|| at("attention.qkv")),
        ("attention.mix", 1) => at("attention.qkv"),
        // The residual reads what the block's first norm reads.
        ("attention_residual", 0) => at("attention_norm").map(|norm| norm.saturating_sub(1)),
        ("feed_forward.gate" | "feed_forward.up", _) => at("feed_forward_norm"),
        ("feed_forward.activation", 0) => at("feed_forward.gate").or_else(|| at("feed_forward.up")),
        ("feed_forward_residual", 0) => at("attention_residual"),
        _ => Some(before),
    };
    found.unwrap_or(before)
}

/// Splits a path into its block and the rest, such as `blocks.0.` and `attention.scores`. The block is empty outside
/// blocks.
pub(super) fn split(path: &str) -> (&str, &str) {
    let end = path
        .strip_prefix("blocks.")
        .and_then(|rest| rest.find('.'))
        .map_or(0, |dot| "blocks.".len() + dot + 1);
    path.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_after_the_block() {
        assert_eq!(
            split("blocks.10.attention.mix"),
            ("blocks.10.", "attention.mix")
        );
        assert_eq!(split("final_norm"), ("", "final_norm"));
    }
}
