//! Reading a pipe once, into a file.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread,
    time::{Duration, Instant},
};

use crate::DataError;

/// How long a named pipe may be without a program that writes to it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing may happen before `advance` is asked again whether to go on.
const TICK: Duration = Duration::from_millis(100);

/// How much is read at once.
const BLOCK: usize = 1 << 18;

enum Message {
    Opened,
    Bytes(Vec<u8>),
}

/// Copies everything that comes out of a pipe into the file `to`, and returns how many bytes that were.
/// `advance` is told how many there are so far, several times a second, and can stop the copying by an error.
///
/// A thread of its own opens and reads the pipe, for both can last for ever. It ends with the pipe.
///
/// # Errors
///
/// A named pipe that nobody opens for writing within some seconds; a pipe that cannot be read, a copy that
/// cannot be written; and those of `advance`.
pub(crate) fn copy_pipe(
    path: &Path,
    to: &Path,
    advance: &mut dyn FnMut(u64) -> Result<(), DataError>,
) -> Result<u64, DataError> {
    let failed = |reason| DataError::Read {
        path: path.into(),
        reason,
    };
    let write_error = |reason| DataError::Write {
        path: to.into(),
        reason,
    };
    let mut copy = File::create(to).map_err(write_error)?;
    let (sender, messages) = mpsc::sync_channel(4);
    let pipe = path.to_path_buf();
    thread::spawn(move || {
        if let Err(reason) = read(&pipe, &sender) {
            let _ = sender.send(Err(reason));
        }
    });
    let began = Instant::now();
    let (mut opened, mut bytes) = (false, 0);
    loop {
        match messages.recv_timeout(TICK) {
            Ok(Ok(Message::Opened)) => opened = true,
            Ok(Ok(Message::Bytes(block))) => {
                copy.write_all(&block).map_err(write_error)?;
                bytes += block.len() as u64;
            }
            Ok(Err(reason)) => return Err(failed(reason)),
            Err(RecvTimeoutError::Timeout) if !opened && began.elapsed() >= PATIENCE => {
                return Err(DataError::Dataset {
                    path: path.into(),
                    reason: format!(
                        "is a pipe, and for {} seconds no program has opened it to write: start that program first",
                        PATIENCE.as_secs()
                    ),
                });
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The pipe is at its end.
            Err(RecvTimeoutError::Disconnected) => return Ok(bytes),
        }
        advance(bytes)?;
    }
}

/// Sends what comes out of the pipe, as long as somebody receives it.
fn read(path: &Path, sender: &SyncSender<io::Result<Message>>) -> io::Result<()> {
    let mut pipe = File::open(path)?;
    let mut going = sender.send(Ok(Message::Opened)).is_ok();
    while going {
        let mut block = vec![0; BLOCK];
        let count = match pipe.read(&mut block) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        block.truncate(count);
        going = sender.send(Ok(Message::Bytes(block))).is_ok();
    }
    Ok(())
}
