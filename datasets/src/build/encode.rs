//! The second pass over the files: documents → ids → token files, in the order of the documents whatever
//! the number of threads, and from where an interrupted build stopped.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, SyncSender},
    thread,
    time::{Duration, Instant},
};

use rayon::prelude::*;

use super::{
    BuildOptions, BuildProgress, Monitor, TOKENIZER, dataset,
    journal::{Journal, State},
    scan::{Scan, Share, all_documents},
    write_error,
};
use crate::{
    DataError, Document, SourceFile, TokenFileWriter, Tokenizer,
    documents::DocumentIndexWriter,
    manifest::{ShardEntry, TextEntry, TokensEntry},
};

/// The two splits, as their files are named.
pub(super) const SIDES: [&str; 2] = ["train", "valid"];

/// Documents are encoded in batches of at least so much text, or so many documents.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_DOCUMENTS: usize = 2048;

/// The least time between two notes in the journal, each of which waits for the disk.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// The file that says where the documents of a split start.
pub(crate) fn documents_file(side: &str) -> String {
    format!("{side}.documents")
}

fn shard_file(side: &str, index: usize) -> String {
    format!("{side}-{index:05}.tokens")
}

/// Removes what earlier builds left in a folder, apart from the files named.
pub(super) fn sweep(folder: &Path, keep: &[&str]) -> Result<(), DataError> {
    let entries = fs::read_dir(folder).map_err(write_error(folder))?;
    for entry in entries {
        let path = entry.map_err(write_error(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = name == TOKENIZER
            || SIDES.iter().any(|side| {
                let rest = name.strip_prefix(side);
                rest.is_some_and(|rest| {
                    rest == ".documents" || (rest.starts_with('-') && rest.ends_with(".tokens"))
                })
            });
        if ours && !keep.contains(&&*name) {
            fs::remove_file(&path).map_err(write_error(&path))?;
        }
    }
    Ok(())
}

/// Encodes what the journal does not have yet, and finishes all files. Returns the sums over everything.
pub(super) fn encode(
    files: &[SourceFile],
    options: &BuildOptions,
    scan: &Scan,
    tokenizer: &Tokenizer,
    journal: &mut Journal,
    out: &Path,
    monitor: Monitor<'_>,
) -> Result<State, DataError> {
    let mut writer = match Writer::resume(journal.state(), options, tokenizer, out) {
        Ok(writer) => writer,
        // What the journal promises is not there: somebody else was at work. Begin anew.
        Err(DataError::TokenFile { .. } | DataError::Read { .. }) => {
            sweep(out, &[TOKENIZER])?;
            journal.note(&State::default())?;
            Writer::resume(&State::default(), options, tokenizer, out)?
        }
        Err(error) => return Err(error),
    };
    let skip = writer.state.documents;
    let report = |state: &State| {
        (monitor.report)(BuildProgress::Encoding {
            bytes: state.train.bytes + state.valid.bytes,
            total: scan.bytes(),
            documents: state.documents,
            tokens: state.train.tokens + state.valid.tokens,
        });
    };
    report(&writer.state);
    let mut noted = Instant::now();
    let result = thread::scope(|scope| {
        let (sender, batches) = mpsc::sync_channel(1);
        scope.spawn(move || {
            let documents = all_documents(files, &options.read, monitor).skip(skip as usize);
            send_batches(documents, &sender);
        });
        for batch in batches {
            let encoded = encode_batch(batch?, scan.share, options.special_tokens, tokenizer)?;
            for document in &encoded {
                writer.append(document)?;
            }
            report(&writer.state);
            if noted.elapsed() >= NOTE_EVERY {
                writer.sync()?;
                journal.note(&writer.state)?;
                noted = Instant::now();
            }
        }
        Ok(())
    });
    match result {
        Ok(()) => writer.finish(),
        Err(DataError::Interrupted) => {
            writer.sync()?;
            journal.note(&writer.state)?;
            Err(DataError::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// Groups documents into batches until there are no more, an error comes, or nobody takes them.
fn send_batches(
    documents: impl Iterator<Item = Result<Document, DataError>>,
    sender: &SyncSender<Result<Vec<Document>, DataError>>,
) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for document in documents {
        let document = match document {
            Ok(document) => document,
            Err(error) => {
                // What was read before the error, or the interruption, counts.
                let _ = sender
                    .send(Ok(batch))
                    .and_then(|()| sender.send(Err(error)));
                return;
            }
        };
        bytes += document.text.len();
        batch.push(document);
        if bytes >= BATCH_BYTES || batch.len() >= BATCH_DOCUMENTS {
            if sender.send(Ok(std::mem::take(&mut batch))).is_err() {
                return;
            }
            bytes = 0;
        }
    }
    let _ = sender.send(Ok(batch));
}

/// A document as ids: its part in each split, or nothing where that is empty.
struct Encoded {
    parts: [Option<Part>; 2],
    replaced: usize,
    exact: bool,
}

struct Part {
    ids: Vec<u32>,
    bytes: usize,
}

impl Part {
    fn new(ids: Vec<u32>, bytes: usize) -> Option<Self> {
        (!ids.is_empty()).then_some(Self { ids, bytes })
    }
}

fn encode_batch(
    documents: Vec<Document>,
    share: Share,
    special_tokens: bool,
    tokenizer: &Tokenizer,
) -> Result<Vec<Encoded>, DataError> {
    let lengths = tokenizer.token_lengths();
    documents
        .into_par_iter()
        .map(|Document { text, replaced }| {
            let mut ids = match special_tokens {
                true => tokenizer.encode_with_special_tokens(&text)?,
                false => tokenizer.encode(&text)?,
            };
            let valid = ids.split_off(train_tokens(
                &ids,
                share.train_bytes(&text),
                &text,
                &lengths,
            ));
            let bytes_of = |ids: &[u32]| ids.iter().map(|&id| lengths[id as usize]).sum::<usize>();
            let (train_bytes, valid_bytes) = (bytes_of(&ids), bytes_of(&valid));
            let bytes = text.len();
            Ok(Encoded {
                exact: train_bytes + valid_bytes == bytes,
                parts: [
                    Part::new(ids, train_bytes.min(bytes)),
                    Part::new(valid, bytes.saturating_sub(train_bytes)),
                ],
                replaced,
            })
        })
        .collect()
}

/// How many tokens of a document are for training, if `wanted` bytes of its text are. A document is cut
/// between tokens, so that both parts together are its encoding: a token across the border is for training.
fn train_tokens(ids: &[u32], wanted: usize, text: &str, lengths: &[usize]) -> usize {
    if wanted == text.len() {
        return ids.len();
    }
    let mut bytes = 0;
    ids.iter()
        .take_while(|&&id| {
            let before = bytes;
            bytes += lengths[id as usize];
            before < wanted
        })
        .count()
}

/// Both splits as they are written.
struct Writer {
    state: State,
    sides: [Side; 2],
}

impl Writer {
    fn resume(
        state: &State,
        options: &BuildOptions,
        tokenizer: &Tokenizer,
        out: &Path,
    ) -> Result<Self, DataError> {
        let side = |name, entry| Side::resume(name, entry, options.shard_tokens, tokenizer, out);
        Ok(Self {
            sides: [side(SIDES[0], &state.train)?, side(SIDES[1], &state.valid)?],
            state: state.clone(),
        })
    }

    fn append(&mut self, document: &Encoded) -> Result<(), DataError> {
        let State {
            documents,
            train,
            valid,
            text,
        } = &mut self.state;
        for ((side, entry), part) in self
            .sides
            .iter_mut()
            .zip([train, valid])
            .zip(&document.parts)
        {
            if let Some(part) = part {
                side.append(entry, part)?;
            }
        }
        *documents += 1;
        *text = TextEntry {
            empty_documents: text.empty_documents
                + u64::from(document.parts.iter().all(Option::is_none)),
            replaced_documents: text.replaced_documents + u64::from(document.replaced > 0),
            replacements: text.replacements + document.replaced as u64,
            inexact_documents: text.inexact_documents + u64::from(!document.exact),
        };
        Ok(())
    }

    /// Waits until the disk has everything that the state counts.
    fn sync(&mut self) -> Result<(), DataError> {
        self.sides.iter_mut().try_for_each(Side::sync)
    }

    fn finish(self) -> Result<State, DataError> {
        let mut state = self.state;
        let [train, valid] = self.sides;
        train.finish(&mut state.train)?;
        valid.finish(&mut state.valid)?;
        Ok(state)
    }
}

/// One split as it is written: shards of equal length, and where documents start.
struct Side {
    name: &'static str,
    folder: PathBuf,
    vocab_size: usize,
    end_of_text: Option<u32>,
    shard_tokens: u64,
    /// The shard that is not full yet, if it has any token.
    shard: Option<TokenFileWriter>,
    starts: DocumentIndexWriter,
}

impl Side {
    fn resume(
        name: &'static str,
        entry: &TokensEntry,
        shard_tokens: u64,
        tokenizer: &Tokenizer,
        out: &Path,
    ) -> Result<Self, DataError> {
        let vocab_size = tokenizer.vocab_size();
        let finished: u64 = entry.shards.iter().map(|shard| shard.tokens).sum();
        let open = entry.tokens - finished;
        let shard = match open {
            0 => None,
            _ => {
                let path = out.join(shard_file(name, entry.shards.len()));
                Some(TokenFileWriter::reopen(&path, vocab_size, open as usize)?)
            }
        };
        let starts = out.join(documents_file(name));
        Ok(Self {
            name,
            folder: out.into(),
            vocab_size,
            end_of_text: tokenizer.end_of_text(),
            shard_tokens,
            shard,
            starts: match entry.documents {
                0 => DocumentIndexWriter::create(&starts)?,
                n => DocumentIndexWriter::reopen(&starts, n as usize)?,
            },
        })
    }

    fn append(&mut self, entry: &mut TokensEntry, part: &Part) -> Result<(), DataError> {
        if entry.tokens > 0 {
            let border = self.end_of_text.ok_or_else(|| {
                dataset(
                    &self.folder,
                    "a file has changed since the build began: build again".into(),
                )
            })?;
            self.write(entry, &[border])?;
        }
        self.starts.push(entry.tokens)?;
        self.write(entry, &part.ids)?;
        entry.documents += 1;
        entry.bytes += part.bytes as u64;
        Ok(())
    }

    fn write(&mut self, entry: &mut TokensEntry, mut ids: &[u32]) -> Result<(), DataError> {
        while !ids.is_empty() {
            let shard = match &mut self.shard {
                Some(shard) => shard,
                none => {
                    let path = self.folder.join(shard_file(self.name, entry.shards.len()));
                    none.insert(TokenFileWriter::create(&path, self.vocab_size)?)
                }
            };
            let room = self.shard_tokens - shard.tokens() as u64;
            let (now, later) =
                ids.split_at(ids.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            shard.append(now)?;
            entry.tokens += now.len() as u64;
            ids = later;
            if shard.tokens() as u64 == self.shard_tokens {
                self.finish_shard(entry)?;
            }
        }
        Ok(())
    }

    fn finish_shard(&mut self, entry: &mut TokensEntry) -> Result<(), DataError> {
        if let Some(shard) = self.shard.take() {
            entry.shards.push(ShardEntry {
                file: shard_file(self.name, entry.shards.len()),
                tokens: shard.tokens() as u64,
            });
            shard.finish()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DataError> {
        if let Some(shard) = &mut self.shard {
            shard.sync()?;
        }
        self.starts.sync()
    }

    fn finish(mut self, entry: &mut TokensEntry) -> Result<(), DataError> {
        self.finish_shard(entry)?;
        self.starts.finish()
    }
}
