//! Transfers one file from a server, or unpacks one from an archive. The target is complete and checked, or absent.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sha2::{Digest, Sha256};
use ureq::{Agent, http::Uri};
use zip::{ZipArchive, result::ZipError};

use super::registry::{CorpusFile, CorpusMember};
use crate::DataError;

/// Bytes that are read and written at once. The interrupt flag is checked after each chunk.
const CHUNK: usize = 1 << 17;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time without a byte from the server within a transfer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Transfers of one corpus.
pub(super) struct Download<'a> {
    corpus: &'a str,
    agent: Agent,
    interrupt: &'a AtomicBool,
    progress: &'a mut dyn FnMut(&str, u64, Option<u64>),
}

impl<'a> Download<'a> {
    pub(super) fn new(
        corpus: &'a str,
        interrupt: &'a AtomicBool,
        progress: &'a mut dyn FnMut(&str, u64, Option<u64>),
    ) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("foretoken/", env!("CARGO_PKG_VERSION")))
            // With a content encoding, ranges and lengths would not be those of the file.
            .accept_encoding("identity")
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .build();
        Self {
            corpus,
            agent: config.new_agent(),
            interrupt,
            progress,
        }
    }

    /// Ensures that the file is at `path`, and returns whether its hash was checked.
    pub(super) fn ensure_file(
        &mut self,
        file: &CorpusFile,
        url: &str,
        path: &Path,
    ) -> Result<bool, DataError> {
        if path.exists() {
            let size = size_of(path)?;
            if let Some(bytes) = file.bytes.filter(|&bytes| bytes != size) {
                return Err(self.failed(format!(
                    "{} has {size} bytes, not {bytes}: move it away and fetch it again",
                    path.display()
                )));
            }
            if let Some(expected) = &file.sha256 {
                let found = self.sha256(path)?;
                if !found.eq_ignore_ascii_case(expected) {
                    return Err(self.failed(format!(
                        "{} has SHA-256 {found}, not {expected}: move it away and fetch it again",
                        path.display()
                    )));
                }
            }
            return Ok(file.sha256.is_some());
        }
        let expected = match &file.sha256 {
            Some(sha256) => Some(sha256.clone()),
            None => self.linked_sha256(url),
        };
        let part = part_of(path);
        self.transfer(file, url, path, &part)?;
        let size = size_of(&part)?;
        let found = self.sha256(&part)?;
        let wrong = match (&expected, file.bytes) {
            (_, Some(bytes)) if bytes != size => Some(format!("{size} bytes, not {bytes}")),
            (Some(expected), _) if !found.eq_ignore_ascii_case(expected) => {
                Some(format!("SHA-256 {found}, not {expected}"))
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            // Otherwise the next call would continue from this file.
            fs::remove_file(&part).map_err(write_error(&part))?;
            return Err(self.failed(format!(
                "the file from {url} has {wrong}: it has changed on the server, or was damaged on the way; fetch it \
                 again, or try a mirror"
            )));
        }
        fs::rename(&part, path).map_err(write_error(path))?;
        Ok(expected.is_some())
    }

    /// Asks the server for the SHA-256 of a file. Hugging Face states it for a large file, in the response that
    /// redirects to the storage.
    fn linked_sha256(&self, url: &str) -> Option<String> {
        let request = self.agent.head(url).config().max_redirects(0).build();
        let response = request.call().ok()?;
        let tag = response.headers().get("x-linked-etag")?.to_str().ok()?;
        let tag = tag.trim_matches('"');
        let is_sha256 = tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sha256.then(|| tag.to_owned())
    }

    /// Fetches the missing bytes of the file into `part`.
    fn transfer(
        &mut self,
        file: &CorpusFile,
        url: &str,
        path: &Path,
        part: &Path,
    ) -> Result<(), DataError> {
        let mut have = if part.exists() { size_of(part)? } else { 0 };
        if file.bytes.is_some_and(|bytes| have > bytes) {
            have = 0;
        }
        if have > 0 && file.bytes == Some(have) {
            return Ok(());
        }
        let advice = format!(
            "fetch {} elsewhere and put it at {}",
            file.url,
            path.display()
        );
        let call = |have: u64| {
            let mut request = self.agent.get(url);
            if have > 0 {
                request = request.header("Range", format!("bytes={have}-"));
            }
            request.call().map_err(|error| {
                let host = url.parse::<Uri>().ok();
                let host = host.as_ref().and_then(|uri| uri.host()).unwrap_or(url);
                self.failed(format!("cannot reach {host} ({error}); {advice}"))
            })
        };
        self.check_interrupt()?;
        let mut response = call(have)?;
        let continues = |response: &ureq::http::Response<ureq::Body>| {
            let range = response.headers().get("content-range");
            let range = range.and_then(|range| range.to_str().ok()).unwrap_or("");
            response.status() == 206 && range.starts_with(&format!("bytes {have}-"))
        };
        if have > 0 && !continues(&response) {
            // A server without ranges sends the whole file; some refuse the range, or send another one.
            have = 0;
            if response.status() != 200 {
                response = call(0)?;
            }
        }
        let status = response.status();
        if !status.is_success() {
            return Err(self.failed(format!("{url} answers {status}; {advice}")));
        }
        let total = response.body().content_length().map(|rest| have + rest);
        if let (Some(total), Some(bytes)) = (total, file.bytes)
            && total != bytes
        {
            return Err(self.failed(format!(
                "{url} has {total} bytes, not {bytes}: the file has changed on the server; {advice}"
            )));
        }
        let total = total.or(file.bytes);
        let output = match have {
            0 => File::create(part),
            _ => OpenOptions::new().append(true).open(part),
        };
        let mut output = output.map_err(write_error(part))?;
        let mut body = response.body_mut().as_reader();
        let (broke_off, done) = self.copy(&file.name, &mut body, have, total, |chunk| {
            output.write_all(chunk).map_err(write_error(part))
        })?;
        let reason = match broke_off {
            Some(reason) => format!(" ({reason})"),
            None if total.is_some_and(|total| done < total) => String::new(),
            None => return Ok(()),
        };
        Err(self.failed(format!(
            "the transfer from {url} broke off after {done} bytes{reason}: fetch again to continue from there"
        )))
    }

    /// Reads `input` in chunks and passes each to `write`. Returns the error that ended reading early, if any, and the
    /// number of bytes, counted from `done`.
    fn copy(
        &mut self,
        name: &str,
        input: &mut dyn Read,
        mut done: u64,
        total: Option<u64>,
        mut write: impl FnMut(&[u8]) -> Result<(), DataError>,
    ) -> Result<(Option<io::Error>, u64), DataError> {
        let mut chunk = vec![0; CHUNK];
        loop {
            (self.progress)(name, done, total);
            self.check_interrupt()?;
            match input.read(&mut chunk) {
                Ok(0) => return Ok((None, done)),
                Ok(count) => {
                    write(&chunk[..count])?;
                    done += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Ok((Some(error), done)),
            }
        }
    }

    /// Ensures that a member of an archive is unpacked at `target`.
    pub(super) fn ensure_unpacked(
        &mut self,
        path: &Path,
        member: &CorpusMember,
        target: &Path,
    ) -> Result<(), DataError> {
        let unreadable = |reason| DataError::Read {
            path: path.into(),
            reason,
        };
        let not_found = || {
            self.failed(format!(
                "{} holds no {}: move the archive away and fetch it again",
                path.display(),
                member.member
            ))
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut archive =
            ZipArchive::new(BufReader::new(file)).map_err(|error| unreadable(error.into()))?;
        let content = archive
            .by_name(&member.member)
            .map_err(|error| match error {
                ZipError::FileNotFound => not_found(),
                error => unreadable(error.into()),
            })?;
        let size = content.size();
        if target.exists() {
            let mut crc32 = crc32fast::Hasher::new();
            self.read(target, |chunk| crc32.update(chunk))?;
            return if size_of(target)? == size && crc32.finalize() == content.crc32() {
                Ok(())
            } else {
                Err(self.failed(format!(
                    "{} differs from {} in {}: move it away and fetch again",
                    target.display(),
                    member.member,
                    path.display()
                )))
            };
        }
        let part = part_of(target);
        let mut output = File::create(&part).map_err(write_error(&part))?;
        // At the end of the content its CRC-32 is checked. One byte more than the stated size is enough to notice
        // content that expands further.
        let mut content = content.take(size.saturating_add(1));
        let (error, done) = self.copy(&member.name, &mut content, 0, Some(size), |chunk| {
            output.write_all(chunk).map_err(write_error(&part))
        })?;
        if error.is_some() || done != size {
            let reason = error.map_or(String::new(), |error| format!(" ({error})"));
            return Err(self.failed(format!(
                "{} in {} is damaged{reason}: move the archive away and fetch it again",
                member.member,
                path.display()
            )));
        }
        fs::rename(&part, target).map_err(write_error(target))
    }

    fn sha256(&self, path: &Path) -> Result<String, DataError> {
        let mut hasher = Sha256::new();
        self.read(path, |chunk| hasher.update(chunk))?;
        Ok(format!("{:x}", hasher.finalize()))
    }

    fn read(&self, path: &Path, mut take: impl FnMut(&[u8])) -> Result<(), DataError> {
        let unreadable = |reason| DataError::Read {
            path: path.into(),
            reason,
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            self.check_interrupt()?;
            match file.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => take(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
    }

    fn check_interrupt(&self) -> Result<(), DataError> {
        match self.interrupt.load(Ordering::Relaxed) {
            true => Err(DataError::Interrupted),
            false => Ok(()),
        }
    }

    fn failed(&self, reason: String) -> DataError {
        DataError::Fetch {
            name: self.corpus.into(),
            reason,
        }
    }
}

/// Returns the path of a partial file.
fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

fn size_of(path: &Path) -> Result<u64, DataError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(reason) => Err(DataError::Read {
            path: path.into(),
            reason,
        }),
    }
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> DataError {
    move |reason| DataError::Write {
        path: path.into(),
        reason,
    }
}
