//! Reading everything that a folder of tokens holds, on request: checksums, counts, borders, bytes.

use std::path::Path;

use crate::{
    Corpus, DataError, Split, Tokenizer,
    build::documents_file,
    documents::DocumentIndex,
    manifest::{Manifest, TokensEntry},
};

/// What was found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Tokens of both splits.
    pub tokens: u64,
    /// Bytes of text that they stand for.
    pub bytes: u64,
    /// Whether there was a manifest to compare with; token files of other programs have none, and
    /// no checksums.
    pub manifest: bool,
}

/// Checks every byte of a folder: each block of each token file against its checksum, each id against the
/// vocabulary, and tokens, documents, borders and bytes against the manifest. `tokenizer` and `id_bytes` are those
/// of [`Corpus::open_with`].
///
/// `progress` is told how many bytes of tokens have been compared with their checksums, of how many.
///
/// # Errors
///
/// The first thing that is wrong, with the file and where there is one the offset in it.
pub fn check(
    folder: &Path,
    tokenizer: Option<&Path>,
    id_bytes: Option<usize>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Checked, DataError> {
    let (corpus, manifest) = match Manifest::read(folder) {
        Ok(_) if id_bytes.is_none() => {
            let (corpus, manifest) = Corpus::open_built(folder)?;
            (corpus, Some(manifest))
        }
        Err(error) if !Corpus::is_tokens(folder)? => return Err(error),
        _ => (Corpus::open_with(folder, tokenizer, id_bytes)?, None),
    };
    let splits = [("train", &corpus.train), ("valid", &corpus.valid)];
    let total = splits.iter().map(|(_, split)| split.stored_bytes()).sum();
    let mut done = 0;
    let mut checked = Checked {
        tokens: 0,
        bytes: 0,
        manifest: manifest.is_some(),
    };
    for (name, split) in splits {
        split.verify(&mut |bytes| progress(done + bytes, total))?;
        done += split.stored_bytes();
        let (tokens, bytes) = (split.tokens() as u64, split.bytes()? as u64);
        checked.tokens += tokens;
        checked.bytes += bytes;
        if let Some(manifest) = &manifest {
            let entry = match name {
                "train" => &manifest.train,
                _ => &manifest.valid,
            };
            let bytes_are_exact = manifest.text.inexact_documents == 0;
            for (what, found, said, compared) in [
                ("tokens", tokens, entry.tokens, true),
                ("bytes", bytes, entry.bytes, bytes_are_exact),
            ] {
                if compared && found != said {
                    return Err(wrong(
                        folder,
                        format!("the {name} split has {found} {what}, the manifest says {said}"),
                    ));
                }
            }
            check_borders(folder, name, entry, split, &corpus.tokenizer)?;
        }
    }
    Ok(checked)
}

/// Documents start where the index says, each but the first behind an end-of-text token.
fn check_borders(
    folder: &Path,
    name: &str,
    entry: &TokensEntry,
    split: &Split,
    tokenizer: &Tokenizer,
) -> Result<(), DataError> {
    let file = documents_file(name);
    let index = DocumentIndex::open(folder.join(&file))?;
    let wrong = |reason: String| wrong(folder, format!("{file}: {reason}"));
    if index.documents() as u64 != entry.documents {
        return Err(wrong(format!(
            "it has {} documents, the manifest says {}",
            index.documents(),
            entry.documents
        )));
    }
    let mut before = None;
    for document in 0..index.documents() {
        let start = index.start(document);
        let follows = match before {
            None => start == 0,
            Some(before) => {
                let mut border = [0];
                start > before + 1
                    && (start as u64) < entry.tokens
                    && split.read(start - 1, &mut border).is_ok()
                    && Some(border[0]) == tokenizer.end_of_text()
            }
        };
        if !follows {
            return Err(wrong(format!(
                "document {document} does not start at token {start}"
            )));
        }
        before = Some(start);
    }
    Ok(())
}

fn wrong(folder: &Path, reason: String) -> DataError {
    DataError::Dataset {
        path: folder.into(),
        reason: reason + ": build the dataset again",
    }
}
