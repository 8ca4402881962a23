//! The second pass over the files, which encodes documents and writes token files. The output has the order of the
//! documents whatever the number of threads, and continues where an interrupted build stopped.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, SyncSender},
    thread,
    time::{Duration, Instant},
};

use rayon::prelude::*;

use super::{
    canaries::Canaries,
    error::{dataset, write_error},
    journal::{Journal, State},
    monitor::{BuildProgress, Monitor},
    options::BuildOptions,
    pieces::{Piece, Pieces},
    planting::Planting,
    scan::Scan,
};
use crate::{
    DataError, SourceFile, TokenFileWriter, Tokenizer,
    documents::DocumentIndexWriter,
    manifest::{ShardEntry, TokensEntry},
    token_folder::{SPLITS, TOKENIZER, documents_file, shard_file},
};

/// Bytes of text that complete a batch of pieces, which is encoded in parallel.
const BATCH_BYTES: usize = 4 << 20;
/// Number of pieces that complete a batch.
const BATCH_PIECES: usize = 2048;

/// Minimum interval between two notes in the journal, each of which waits for the disk.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);

/// Removes the files of earlier builds from a folder, except those in `keep`.
pub(super) fn sweep(folder: &Path, keep: &[&str]) -> Result<(), DataError> {
    let entries = fs::read_dir(folder).map_err(write_error(folder))?;
    for entry in entries {
        let path = entry.map_err(write_error(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = name == TOKENIZER
            || name == Canaries::FILE
            || SPLITS.iter().any(|split| {
                let rest = name.strip_prefix(split);
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

/// Documents that are encoded, and the tokenizer that encodes them.
#[derive(Clone, Copy)]
pub(super) struct Texts<'t> {
    pub(super) files: &'t [SourceFile],
    pub(super) scan: &'t Scan,
    /// Canaries that are planted between the documents of the files.
    pub(super) planting: Option<&'t Planting>,
    pub(super) tokenizer: &'t Tokenizer,
}

/// Encodes the documents that the journal does not list yet, and finishes all files. Returns the totals over all
/// documents.
pub(super) fn encode(
    texts: Texts<'_>,
    options: &BuildOptions,
    journal: &mut Journal,
    out: &Path,
    monitor: Monitor<'_>,
) -> Result<State, DataError> {
    let Texts {
        files,
        scan,
        planting,
        tokenizer,
    } = texts;
    let mut writer = match Writer::resume(journal.state(), options, tokenizer, out) {
        Ok(writer) => writer,
        // The files that the journal lists are missing or changed: start again.
        Err(DataError::TokenFile { .. } | DataError::Read { .. }) => {
            sweep(out, &[TOKENIZER])?;
            journal.note(&State::default())?;
            Writer::resume(&State::default(), options, tokenizer, out)?
        }
        Err(error) => return Err(error),
    };
    let done = (writer.state.documents, writer.state.open.pieces);
    let report = |state: &State| {
        (monitor.report)(BuildProgress::Encoding {
            bytes: state.train.bytes + state.valid.bytes,
            total: scan.bytes() + planting.map_or(0, |planting| planting.bytes),
            documents: state.documents,
            tokens: state.train.tokens + state.valid.tokens,
        });
    };
    report(&writer.state);
    let mut noted = Instant::now();
    let result = thread::scope(|scope| {
        let (sender, batches) = mpsc::sync_channel(1);
        scope.spawn(move || {
            let stable_prefix = |text: &str| tokenizer.stable_prefix(text, options.special_tokens);
            let pieces = Pieces::new(
                files,
                &options.read,
                scan.split_rule,
                &scan.long,
                Box::new(stable_prefix),
                monitor,
            );
            match planting {
                Some(planting) => {
                    send_batches(skip_done(planting.plant(pieces), done), &sender);
                }
                None => send_batches(skip_done(pieces, done), &sender),
            }
        });
        for batch in batches {
            for piece in &encode_batch(batch?, options.special_tokens, tokenizer)? {
                writer.append(piece)?;
            }
            report(&writer.state);
            if noted.elapsed() >= NOTE_INTERVAL {
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

/// Skips the pieces of the given number of documents, and then the given number of pieces of the next document.
fn skip_done(
    pieces: impl Iterator<Item = Result<Piece, DataError>>,
    (mut documents, mut pieces_of_next): (u64, u64),
) -> impl Iterator<Item = Result<Piece, DataError>> {
    pieces.skip_while(move |piece| match piece {
        Ok(piece) if documents > 0 => {
            documents -= u64::from(piece.last);
            true
        }
        Ok(_) if pieces_of_next > 0 => {
            pieces_of_next -= 1;
            true
        }
        _ => false,
    })
}

/// Groups pieces into batches until the pieces end, an error occurs, or the receiver is dropped.
fn send_batches(
    pieces: impl Iterator<Item = Result<Piece, DataError>>,
    sender: &SyncSender<Result<Vec<Piece>, DataError>>,
) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for piece in pieces {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                // Pieces read before an error or an interruption are still encoded.
                let _ = sender
                    .send(Ok(batch))
                    .and_then(|()| sender.send(Err(error)));
                return;
            }
        };
        bytes += piece.text.len();
        batch.push(piece);
        if bytes >= BATCH_BYTES || batch.len() >= BATCH_PIECES {
            if sender.send(Ok(std::mem::take(&mut batch))).is_err() {
                return;
            }
            bytes = 0;
        }
    }
    let _ = sender.send(Ok(batch));
}

/// An encoded piece: its part in each split, or `None` if that is empty.
struct Encoded {
    parts: [Option<Part>; 2],
    replaced: usize,
    exact: bool,
    last: bool,
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
    pieces: Vec<Piece>,
    special_tokens: bool,
    tokenizer: &Tokenizer,
) -> Result<Vec<Encoded>, DataError> {
    let lengths = tokenizer.token_lengths();
    pieces
        .into_par_iter()
        .map(|piece| {
            let text = &piece.text;
            let mut ids = match special_tokens {
                true => tokenizer.encode_with_special_tokens(text)?,
                false => tokenizer.encode(text)?,
            };
            let valid = ids.split_off(train_tokens(&ids, piece.train, text, &lengths));
            let bytes_of = |ids: &[u32]| ids.iter().map(|&id| lengths[id as usize]).sum::<usize>();
            let (train_bytes, valid_bytes) = (bytes_of(&ids), bytes_of(&valid));
            let bytes = text.len();
            Ok(Encoded {
                exact: train_bytes + valid_bytes == bytes,
                parts: [
                    Part::new(ids, train_bytes.min(bytes)),
                    Part::new(valid, bytes.saturating_sub(train_bytes)),
                ],
                replaced: piece.replaced,
                last: piece.last,
            })
        })
        .collect()
}

/// Returns how many tokens of a piece are for training if `wanted` bytes of its text are. The piece is cut between
/// tokens, so that both parts together are its encoding; a token across the border is for training.
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

/// Writer of both splits.
struct Writer {
    state: State,
    splits: [SplitWriter; 2],
}

impl Writer {
    fn resume(
        state: &State,
        options: &BuildOptions,
        tokenizer: &Tokenizer,
        out: &Path,
    ) -> Result<Self, DataError> {
        let split =
            |name, entry| SplitWriter::resume(name, entry, options.shard_tokens, tokenizer, out);
        Ok(Self {
            splits: [
                split(SPLITS[0], &state.train)?,
                split(SPLITS[1], &state.valid)?,
            ],
            state: state.clone(),
        })
    }

    fn append(&mut self, piece: &Encoded) -> Result<(), DataError> {
        let State {
            documents,
            train,
            valid,
            text,
            open,
        } = &mut self.state;
        for (((split, entry), part), begun) in self
            .splits
            .iter_mut()
            .zip([train, valid])
            .zip(&piece.parts)
            .zip(&mut open.begun)
        {
            if let Some(part) = part {
                if !*begun {
                    split.begin(entry)?;
                    *begun = true;
                }
                split.append(entry, part)?;
            }
        }
        open.pieces += 1;
        open.replacements += piece.replaced as u64;
        open.exact &= piece.exact;
        if piece.last {
            let document = std::mem::take(open);
            *documents += 1;
            text.empty_documents += u64::from(document.begun == [false; 2]);
            text.replaced_documents += u64::from(document.replacements > 0);
            text.replacements += document.replacements;
            text.inexact_documents += u64::from(!document.exact);
        }
        Ok(())
    }

    /// Waits until everything that the state counts is on disk.
    fn sync(&mut self) -> Result<(), DataError> {
        self.splits.iter_mut().try_for_each(SplitWriter::sync)
    }

    fn finish(self) -> Result<State, DataError> {
        let mut state = self.state;
        let [train, valid] = self.splits;
        train.finish(&mut state.train)?;
        valid.finish(&mut state.valid)?;
        Ok(state)
    }
}

/// Writer of one split: shards of equal length, and the document index.
struct SplitWriter {
    name: &'static str,
    folder: PathBuf,
    vocab_size: usize,
    end_of_text: Option<u32>,
    shard_tokens: u64,
    /// Shard that is not full yet. `None` if it would have no token.
    shard: Option<TokenFileWriter>,
    starts: DocumentIndexWriter,
}

impl SplitWriter {
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

    /// Starts a document, with an end-of-text token before every document but the first.
    fn begin(&mut self, entry: &mut TokensEntry) -> Result<(), DataError> {
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
        entry.documents += 1;
        Ok(())
    }

    fn append(&mut self, entry: &mut TokensEntry, part: &Part) -> Result<(), DataError> {
        self.write(entry, &part.ids)?;
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
            let capacity = self.shard_tokens - shard.tokens() as u64;
            let (now, later) = ids.split_at(
                ids.len()
                    .min(usize::try_from(capacity).unwrap_or(usize::MAX)),
            );
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
