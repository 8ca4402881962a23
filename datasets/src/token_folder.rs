//! Names of the files in a token folder, which every reader and writer of one agrees on.

use std::path::Path;

/// Description of a token folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Tokenizer of a token folder.
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// Journal of a token folder that is being built. The name is hidden, so that the file is not taken for text.
pub(crate) const JOURNAL: &str = ".build.json";

/// Names of the two splits, with which the names of their files begin.
pub(crate) const SPLITS: [&str; 2] = ["train", "valid"];

/// Name of the document index of a split.
pub(crate) fn documents_file(split: &str) -> String {
    format!("{split}.documents")
}

/// Name of a token file of a split.
pub(crate) fn shard_file(split: &str, index: usize) -> String {
    format!("{split}-{index:05}.tokens")
}

/// Whether a folder holds a build that was interrupted.
pub(crate) fn is_unfinished(folder: &Path) -> bool {
    folder.join(JOURNAL).exists() && !folder.join(MANIFEST).exists()
}
