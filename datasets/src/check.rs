//! Checks a token folder in full: checksums, ids, counts, document starts and bytes.

use std::{path::Path, sync::atomic::AtomicBool};

use crate::{
    Canaries, Corpus, DataError, Split, Tokenizer,
    documents::DocumentIndex,
    manifest::{Manifest, TokensEntry},
    occurrences::check as check_interrupt,
    token_folder::documents_file,
};

/// Documents between two looks at the interrupt.
const CHUNK: usize = 1 << 16;

/// Result of a successful check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Tokens of both splits.
    pub tokens: u64,
    /// Bytes of text that the tokens stand for.
    pub bytes: u64,
    /// Whether the folder has a manifest to compare with. Token files of other programs have neither a manifest nor
    /// checksums.
    pub manifest: bool,
}

/// Checks every byte of a token folder: each block of each token file against its checksum, each id against the
/// vocabulary, and tokens, documents, document starts and bytes against the manifest. `tokenizer` and `id_bytes` have
/// the same meaning as in [`Corpus::open_with`].
///
/// `progress` is called with the bytes of tokens that have been checked, and their total.
///
/// # Errors
///
/// The first fault, with the file and, if there is one, the offset in it; and [`DataError::Interrupted`] once `interrupt`
/// is set.
pub fn check(
    folder: &Path,
    tokenizer: Option<&Path>,
    id_bytes: Option<usize>,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport, DataError> {
    let (corpus, manifest) = match Manifest::read(folder) {
        Ok(_) if id_bytes.is_none() => {
            let (corpus, manifest) = Corpus::open_built(folder)?;
            (corpus, Some(manifest))
        }
        Err(error) if !Corpus::is_tokens(folder)? => return Err(error),
        _ => (Corpus::open_with(folder, tokenizer, id_bytes)?, None),
    };
    if manifest.is_some() {
        Canaries::read(folder)?;
    }
    let splits = [("train", &corpus.train), ("valid", &corpus.valid)];
    let total = splits.iter().map(|(_, split)| split.stored_bytes()).sum();
    let mut done = 0;
    let mut checked = CheckReport {
        tokens: 0,
        bytes: 0,
        manifest: manifest.is_some(),
    };
    for (name, split) in splits {
        split.verify(&mut |bytes| {
            progress(done + bytes, total);
            check_interrupt(interrupt)
        })?;
        done += split.stored_bytes();
        let (tokens, bytes) = (
            split.tokens() as u64,
            split.bytes_until(&mut || check_interrupt(interrupt))? as u64,
        );
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
                        format!(
                            "the {name} split has {found} {what}, but the manifest says {said}"
                        ),
                    ));
                }
            }
            check_document_starts(folder, (name, entry), split, &corpus.tokenizer, interrupt)?;
        }
    }
    Ok(checked)
}

/// Checks that documents start where the index says, and that an end-of-text token precedes each but the first.
fn check_document_starts(
    folder: &Path,
    (name, entry): (&str, &TokensEntry),
    split: &Split,
    tokenizer: &Tokenizer,
    interrupt: &AtomicBool,
) -> Result<(), DataError> {
    let file = documents_file(name);
    let index = DocumentIndex::open(folder.join(&file))?;
    let wrong = |reason: String| wrong(folder, format!("{file}: {reason}"));
    if index.documents() as u64 != entry.documents {
        return Err(wrong(format!(
            "it has {} documents, but the manifest says {}",
            index.documents(),
            entry.documents
        )));
    }
    let mut before = None;
    for document in 0..index.documents() {
        if document % CHUNK == 0 {
            check_interrupt(interrupt)?;
        }
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
