//! Copies a pipe into a file, because a pipe can be read only once.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread,
    time::{Duration, Instant},
};

use crate::DataError;

/// Time within which a program has to open a named pipe for writing.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum interval between two calls of `advance`.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes per read.
const BLOCK: usize = 1 << 18;

enum Message {
    Opened,
    Bytes(Vec<u8>),
}

/// Copies everything that comes out of a pipe into the file `to`, and returns the number of bytes. `advance` is called
/// several times a second with the number of bytes so far; its error stops the copying.
///
/// A separate thread opens and reads the pipe, because both calls can block for ever. The thread ends with the pipe.
///
/// # Errors
///
/// A named pipe that no program opens for writing within [`OPEN_TIMEOUT`], a pipe that cannot be read, a copy that
/// cannot be written, and any error of `advance`.
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
        match messages.recv_timeout(POLL_INTERVAL) {
            Ok(Ok(Message::Opened)) => opened = true,
            Ok(Ok(Message::Bytes(block))) => {
                copy.write_all(&block).map_err(write_error)?;
                bytes += block.len() as u64;
            }
            Ok(Err(reason)) => return Err(failed(reason)),
            Err(RecvTimeoutError::Timeout) if !opened && began.elapsed() >= OPEN_TIMEOUT => {
                return Err(DataError::Dataset {
                    path: path.into(),
                    reason: format!(
                        "is a pipe that no program has opened for writing within {} seconds: start that program first",
                        OPEN_TIMEOUT.as_secs()
                    ),
                });
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The reading thread has ended: the pipe is at its end.
            Err(RecvTimeoutError::Disconnected) => return Ok(bytes),
        }
        advance(bytes)?;
    }
}

/// Sends the bytes of the pipe until it ends or the receiver is dropped.
fn read(path: &Path, sender: &SyncSender<io::Result<Message>>) -> io::Result<()> {
    let mut pipe = File::open(path)?;
    let mut connected = sender.send(Ok(Message::Opened)).is_ok();
    while connected {
        let mut block = vec![0; BLOCK];
        let count = match pipe.read(&mut block) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        block.truncate(count);
        connected = sender.send(Ok(Message::Bytes(block))).is_ok();
    }
    Ok(())
}
