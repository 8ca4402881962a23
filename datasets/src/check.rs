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
/// vocabulary, and tokens, documents, borders and bytes against the manifest.
///
/// `progress` is told how many tokens are done, of how many.
///
/// # Errors
///
/// The first thing that is wrong, with the file and where there is one the offset in it.
pub fn check(
    folder: &Path,
    tokenizer: Option<&Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Checked, DataError> {
    let (corpus, manifest) = match Manifest::read(folder) {
        Ok(_) => Corpus::open_built(folder).map(|(corpus, manifest)| (corpus, Some(manifest)))?,
        Err(_) if Corpus::is_tokens(folder)? => (Corpus::open(folder, tokenizer)?, None),
        Err(error) => return Err(error),
    };
    let total = (corpus.train.tokens() + corpus.valid.tokens()) as u64;
    let mut done = 0;
    let mut checked = Checked {
        tokens: total,
        bytes: 0,
        manifest: manifest.is_some(),
    };
    for (name, split) in [("train", &corpus.train), ("valid", &corpus.valid)] {
        split.verify(&mut |_| {})?;
        let counted = count(split, &corpus.tokenizer, |tokens| {
            done += tokens;
            progress(done, total);
        })?;
        checked.bytes += counted.bytes;
        if let Some(manifest) = &manifest {
            let entry = match name {
                "train" => &manifest.train,
                _ => &manifest.valid,
            };
            compare(folder, name, entry, &counted, manifest)?;
            check_borders(folder, name, entry, split, &corpus.tokenizer)?;
        }
    }
    Ok(checked)
}

struct Counted {
    tokens: u64,
    bytes: u64,
}

fn count(
    split: &Split,
    tokenizer: &Tokenizer,
    mut advance: impl FnMut(u64),
) -> Result<Counted, DataError> {
    let lengths = tokenizer.token_lengths();
    let mut buffer = vec![0; split.tokens().min(1 << 20)];
    let mut counted = Counted {
        tokens: 0,
        bytes: 0,
    };
    while counted.tokens < split.tokens() as u64 {
        let left = split.tokens() - counted.tokens as usize;
        let ids = &mut buffer[..left.min(1 << 20)];
        split.read(counted.tokens as usize, ids)?;
        counted.bytes += ids
            .iter()
            .map(|&id| lengths[id as usize] as u64)
            .sum::<u64>();
        counted.tokens += ids.len() as u64;
        advance(ids.len() as u64);
    }
    Ok(counted)
}

fn compare(
    folder: &Path,
    name: &str,
    entry: &TokensEntry,
    counted: &Counted,
    manifest: &Manifest,
) -> Result<(), DataError> {
    let bytes_are_exact = manifest.text.inexact_documents == 0;
    for (what, found, said) in [
        ("tokens", counted.tokens, entry.tokens),
        ("bytes", counted.bytes, entry.bytes),
    ] {
        if found != said && (what == "tokens" || bytes_are_exact) {
            return Err(wrong(
                folder,
                format!("the {name} split has {found} {what}, the manifest says {said}"),
            ));
        }
    }
    Ok(())
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
