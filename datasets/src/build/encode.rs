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
    BuildOptions, BuildProgress, Monitor, dataset,
    journal::{Journal, State},
    pieces::{Piece, Pieces},
    scan::Scan,
    write_error,
};
use crate::{
    DataError, SourceFile, TokenFileWriter, Tokenizer,
    documents::DocumentIndexWriter,
    files::TOKENIZER,
    manifest::{ShardEntry, TokensEntry},
};

/// The two splits, as their files are named.
pub(super) const SIDES: [&str; 2] = ["train", "valid"];

/// Pieces are encoded in batches of at least so much text, or so many pieces.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_PIECES: usize = 2048;

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
    let done = (writer.state.documents, writer.state.open.pieces);
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
            let settled = |text: &str| tokenizer.settled(text, options.special_tokens);
            let pieces = Pieces::new(
                files,
                &options.read,
                scan.share,
                &scan.long,
                Box::new(settled),
                monitor,
            );
            send_batches(after(pieces, done), &sender);
        });
        for batch in batches {
            for piece in &encode_batch(batch?, options.special_tokens, tokenizer)? {
                writer.append(piece)?;
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

/// Leaves out the pieces of so many documents, and of the next one so many pieces.
fn after(
    pieces: impl Iterator<Item = Result<Piece, DataError>>,
    (mut documents, mut of_next): (u64, u64),
) -> impl Iterator<Item = Result<Piece, DataError>> {
    pieces.skip_while(move |piece| match piece {
        Ok(piece) if documents > 0 => {
            documents -= u64::from(piece.last);
            true
        }
        Ok(_) if of_next > 0 => {
            of_next -= 1;
            true
        }
        _ => false,
    })
}

/// Groups pieces into batches until there are no more, an error comes, or nobody takes them.
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
                // What was read before the error, or the interruption, counts.
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

/// A piece as ids: its part in each split, or nothing where that is empty.
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

/// How many tokens of a piece are for training, if `wanted` bytes of its text are. It is cut between tokens,
/// so that both parts together are its encoding: a token across the border is for training.
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

    fn append(&mut self, piece: &Encoded) -> Result<(), DataError> {
        let State {
            documents,
            train,
            valid,
            text,
            open,
        } = &mut self.state;
        for (((side, entry), part), begun) in self
            .sides
            .iter_mut()
            .zip([train, valid])
            .zip(&piece.parts)
            .zip(&mut open.begun)
        {
            if let Some(part) = part {
                if !*begun {
                    side.begin(entry)?;
                    *begun = true;
                }
                side.append(entry, part)?;
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

    /// Begins a document.
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
