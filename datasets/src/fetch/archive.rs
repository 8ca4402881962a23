//! Where the members of a zip archive lie. Enough for the archives in `corpora.toml`, whose hashes are
//! known: deflated or stored members, no encryption, less than 4 GB.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use flate2::read::DeflateDecoder;

/// A member, and what the archive says about it.
pub(super) struct Member {
    pub(super) size: u64,
    pub(super) crc32: u32,
    compressed: u64,
    deflated: bool,
    header: u64,
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Little-endian numbers at places of a record.
fn u16_at(record: &[u8], at: usize) -> io::Result<usize> {
    let bytes = record.get(at..).and_then(|rest| rest.first_chunk());
    let bytes = bytes.ok_or_else(|| damaged("the zip archive ends too early"))?;
    Ok(u16::from_le_bytes(*bytes).into())
}

fn u32_at(record: &[u8], at: usize) -> io::Result<u32> {
    let bytes = record.get(at..).and_then(|rest| rest.first_chunk());
    let bytes = bytes.ok_or_else(|| damaged("the zip archive ends too early"))?;
    Ok(u32::from_le_bytes(*bytes))
}

/// Looks a member up in the directory at the end of the archive.
pub(super) fn find(archive: &mut File, name: &str) -> io::Result<Member> {
    // The record at the very end may have a comment of up to 65,535 bytes behind it.
    const LONGEST_END: u64 = 22 + 65_535;
    let length = archive.metadata()?.len();
    archive.seek(SeekFrom::Start(length.saturating_sub(LONGEST_END)))?;
    let mut end = Vec::new();
    archive.read_to_end(&mut end)?;
    let at = end
        .windows(4)
        .rposition(|window| window == b"PK\x05\x06")
        .ok_or_else(|| damaged("it is no zip archive"))?;
    let directory_length = u32_at(&end, at + 12)?;
    archive.seek(SeekFrom::Start(u32_at(&end, at + 16)?.into()))?;
    let mut directory = Vec::new();
    archive
        .by_ref()
        .take(directory_length.into())
        .read_to_end(&mut directory)?;

    let mut record = &directory[..];
    while record.starts_with(b"PK\x01\x02") {
        let name_end = 46 + u16_at(record, 28)?;
        if record.get(46..name_end) == Some(name.as_bytes()) {
            let method = u16_at(record, 10)?;
            if method != 0 && method != 8 {
                return Err(damaged("its compression is unknown"));
            }
            return Ok(Member {
                size: u32_at(record, 24)?.into(),
                crc32: u32_at(record, 16)?,
                compressed: u32_at(record, 20)?.into(),
                deflated: method == 8,
                header: u32_at(record, 42)?.into(),
            });
        }
        let next = name_end + u16_at(record, 30)? + u16_at(record, 32)?;
        record = record.get(next..).unwrap_or_default();
    }
    Err(damaged(&format!("it holds no {name}")))
}

/// The content of a member.
pub(super) fn open<'a>(archive: &'a mut File, member: &Member) -> io::Result<Box<dyn Read + 'a>> {
    let mut header = [0; 30];
    archive.seek(SeekFrom::Start(member.header))?;
    archive.read_exact(&mut header)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(damaged("a member is not where the directory says"));
    }
    let behind = u16_at(&header, 26)? + u16_at(&header, 28)?;
    archive.seek(SeekFrom::Current(behind as i64))?;
    let content = archive.take(member.compressed);
    Ok(match member.deflated {
        true => Box::new(DeflateDecoder::new(content)),
        false => Box::new(content),
    })
}
