use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
};

use sha2::{Digest, Sha256};

use super::*;

/// Deviations of a server from the expected behaviour.
#[derive(Clone, Default)]
struct Behaviour {
    no_ranges: bool,
    refuses_ranges: bool,
    status: Option<&'static str>,
    /// Number of bytes of the body after which the connection closes.
    closes_after: Option<usize>,
    linked_etag: Option<String>,
}

/// Server of one file under every path, with a log of the requests and their ranges.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(content: Vec<u8>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::default();
        let log = Arc::clone(&requests);
        // The thread ends with the test process.
        thread::spawn(move || {
            for connection in listener.incoming() {
                let _ = answer(connection.unwrap(), &content, &behaviour, &log);
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn answer(
    mut connection: TcpStream,
    content: &[u8],
    behaviour: &Behaviour,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    for line in BufReader::new(connection.try_clone()?).lines() {
        match line? {
            line if line.is_empty() => break,
            line => head.push(line),
        }
    }
    let range = head.iter().find_map(|line| {
        let line = line.to_ascii_lowercase();
        let from = line.strip_prefix("range: bytes=")?.strip_suffix('-')?;
        from.parse::<usize>().ok()
    });
    let mut seen = head[0].trim_end_matches(" HTTP/1.1").to_owned();
    if let Some(from) = range {
        seen += &format!(" from {from}");
    }
    log.lock().unwrap().push(seen);

    let (mut status, mut from) = ("200 OK", 0);
    let mut headers = String::new();
    match range {
        Some(_) if behaviour.refuses_ranges => status = "416 Range Not Satisfiable",
        Some(start) if !behaviour.no_ranges => {
            (status, from) = ("206 Partial Content", start);
            let (last, length) = (content.len() - 1, content.len());
            headers = format!("Content-Range: bytes {start}-{last}/{length}\r\n");
        }
        _ => {}
    }
    if let Some(etag) = &behaviour.linked_etag {
        headers += &format!("X-Linked-Etag: \"{etag}\"\r\n");
    }
    let status = behaviour.status.unwrap_or(status);
    let body = if status.starts_with('2') {
        &content[from..]
    } else {
        b"no"
    };
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    )?;
    if !head[0].starts_with("HEAD") {
        let end = behaviour
            .closes_after
            .map_or(length, |most| most.min(length));
        connection.write_all(&body[..end])?;
    }
    connection.flush()
}

fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect()
}

fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Creates a corpus of one file whose size and hash are known.
fn entry(content: &[u8]) -> CorpusEntry {
    CorpusEntry {
        name: "little".into(),
        what: "numbers".into(),
        licence: "none".into(),
        homepage: "https://example.org".into(),
        files: vec![CorpusFile {
            url: "https://example.org/numbers.txt".into(),
            name: "numbers.txt".into(),
            bytes: Some(content.len() as u64),
            sha256: Some(hash(content)),
            validation: false,
            unpack: Vec::new(),
        }],
    }
}

fn fetch_from(
    address: &str,
    entry: &CorpusEntry,
    folder: &Path,
) -> Result<Vec<Fetched>, DataError> {
    let options = FetchOptions {
        mirror: Some(format!("{address}/")),
    };
    let mut last = 0;
    let mut progress = |name: &str, done, total: Option<u64>| {
        assert!(!name.is_empty());
        assert!(total.is_none_or(|total| done <= total));
        last = done;
    };
    let running = AtomicBool::new(false);
    fetch(entry, folder, &options, &running, &mut progress)
}

fn error_of(result: Result<Vec<Fetched>, DataError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, DataError::Fetch { .. }), "{error}");
    let error = error.to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn registry_entries_are_complete() {
    let names: Vec<&str> = corpora().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "tinyshakespeare",
            "tinystories",
            "wikitext-103",
            "fineweb-edu",
            "enwik8"
        ]
    );
    for entry in corpora() {
        assert!(!entry.files.is_empty());
        for line in [&entry.what, &entry.licence] {
            assert!(!line.is_empty() && line.lines().count() == 1);
        }
        assert!(entry.homepage.starts_with("https://"));
        let mut taken = HashSet::new();
        for file in &entry.files {
            assert!(file.url.starts_with("https://"), "{}", file.url);
            assert!(file.bytes.is_some_and(|bytes| bytes > 0), "{}", file.name);
            let sha256 = file.sha256.as_ref().unwrap();
            assert!(sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit()));
            assert_eq!(file.name.ends_with(".zip"), !file.unpack.is_empty());
            for name in file
                .unpack
                .iter()
                .map(|member| &member.name)
                .chain([&file.name])
            {
                assert!(!name.contains(['/', '\\']) && taken.insert(name), "{name}");
            }
        }
    }
}

#[test]
fn file_is_fetched_only_once() {
    let content = content();
    let server = Server::new(content.clone(), Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new/folder");
    let fetched = fetch_from(&server.address, &entry(&content), &folder).unwrap();
    let expected = Fetched {
        path: folder.join("numbers.txt"),
        validation: false,
        verified: true,
    };
    assert_eq!(fetched, [expected]);
    assert_eq!(fs::read(&fetched[0].path).unwrap(), content);
    assert_eq!(server.requests(), ["GET /little/numbers.txt"]);
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        1,
        "no .part is left"
    );

    let again = fetch_from(&server.address, &entry(&content), &folder).unwrap();
    assert_eq!(again, fetched);
    assert_eq!(server.requests(), [""; 0], "nothing is transferred");
}

#[test]
fn partial_file_is_continued() {
    let content = content();
    let behaviour = [
        (
            Behaviour::default(),
            vec!["GET /little/numbers.txt from 1000"],
        ),
        (
            Behaviour {
                no_ranges: true,
                ..Behaviour::default()
            },
            vec!["GET /little/numbers.txt from 1000"],
        ),
        (
            Behaviour {
                refuses_ranges: true,
                ..Behaviour::default()
            },
            vec![
                "GET /little/numbers.txt from 1000",
                "GET /little/numbers.txt",
            ],
        ),
    ];
    for (behaviour, requests) in behaviour {
        let server = Server::new(content.clone(), behaviour);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("numbers.txt.part"), &content[..1000]).unwrap();
        let fetched = fetch_from(&server.address, &entry(&content), folder.path()).unwrap();
        assert_eq!(fs::read(&fetched[0].path).unwrap(), content);
        assert_eq!(server.requests(), requests);
    }
    // A partial file with all bytes, and one with too many.
    let server = Server::new(content.clone(), Behaviour::default());
    for (part, requests) in [(content.clone(), 0), ([&content[..], b"more"].concat(), 1)] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("numbers.txt.part"), part).unwrap();
        fetch_from(&server.address, &entry(&content), folder.path()).unwrap();
        assert_eq!(server.requests().len(), requests);
    }
}

#[test]
fn broken_transfer_is_continued() {
    let content = content();
    let behaviour = Behaviour {
        closes_after: Some(700_000),
        ..Behaviour::default()
    };
    let server = Server::new(content.clone(), behaviour);
    let folder = tempfile::tempdir().unwrap();
    let error = error_of(fetch_from(&server.address, &entry(&content), folder.path()));
    assert!(error.contains("broke off after 700000 bytes"), "{error}");
    assert!(!folder.path().join("numbers.txt").exists());
    let fetched = fetch_from(&server.address, &entry(&content), folder.path()).unwrap();
    assert_eq!(fs::read(&fetched[0].path).unwrap(), content);
    assert_eq!(server.requests()[1], "GET /little/numbers.txt from 700000");
}

#[test]
fn unexpected_file_is_refused() {
    let content = content();
    let mut other = content.clone();
    other[1000] ^= 1;
    let server = Server::new(other.clone(), Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let error = error_of(fetch_from(&server.address, &entry(&content), folder.path()));
    assert!(
        error.contains(&hash(&content)) && error.contains(&hash(&other)),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let path = folder.path().join("numbers.txt");
    fs::write(&path, &other).unwrap();
    let error = error_of(fetch_from(&server.address, &entry(&content), folder.path()));
    assert!(
        error.contains(&hash(&content)) && error.contains(&hash(&other)),
        "{error}"
    );
    assert_eq!(
        fs::read(&path).unwrap(),
        other,
        "the file of the user is unchanged"
    );
    fs::write(&path, b"short").unwrap();
    let error = error_of(fetch_from(&server.address, &entry(&content), folder.path()));
    assert!(error.contains("has 5 bytes, not 1200000"), "{error}");

    fs::remove_file(&path).unwrap();
    let server = Server::new(b"another length".into(), Behaviour::default());
    let error = error_of(fetch_from(&server.address, &entry(&content), folder.path()));
    assert!(error.contains("14 bytes, not 1200000"), "{error}");
}

#[test]
fn unknown_hash_is_requested_from_the_server() {
    let content = content();
    let mut entry = entry(&content);
    entry.files[0].sha256 = None;
    entry.files[0].bytes = None;
    let with_etag = |etag: Option<String>| {
        let behaviour = Behaviour {
            linked_etag: etag,
            ..Behaviour::default()
        };
        let server = Server::new(content.clone(), behaviour);
        let folder = tempfile::tempdir().unwrap();
        let fetched = fetch_from(&server.address, &entry, folder.path());
        assert!(server.requests()[0].starts_with("HEAD "));
        fetched.map(|fetched| fetched[0].verified)
    };
    assert!(with_etag(Some(hash(&content))).unwrap());
    assert!(!with_etag(Some("abc".into())).unwrap());
    assert!(!with_etag(None).unwrap());
    assert!(
        with_etag(Some(hash(b"other")))
            .unwrap_err()
            .to_string()
            .contains("SHA-256")
    );
}

#[test]
fn refusal_of_a_server_is_one_line() {
    let content = content();
    for status in ["404 Not Found", "500 Internal Server Error"] {
        let behaviour = Behaviour {
            status: Some(status),
            ..Behaviour::default()
        };
        let server = Server::new(content.clone(), behaviour);
        let folder = tempfile::tempdir().unwrap();
        let error = error_of(fetch_from(&server.address, &entry(&content), folder.path()));
        assert!(error.contains(&format!("answers {status}")), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn error_without_a_network_names_a_way_out() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let folder = tempfile::tempdir().unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let error = error_of(fetch_from(&address, &entry(b"x"), folder.path()));
    let path = folder.path().join("numbers.txt");
    assert!(
        error.starts_with("little: cannot reach 127.0.0.1 ("),
        "{error}"
    );
    let instead = format!(
        "fetch https://example.org/numbers.txt elsewhere and put it at {}",
        path.display()
    );
    assert!(error.ends_with(&instead), "{error}");
    fs::write(&path, b"x").unwrap();
    assert!(fetch_from(&address, &entry(b"x"), folder.path()).unwrap()[0].verified);
}

#[test]
fn interrupt_keeps_the_partial_file() {
    let content = content();
    let server = Server::new(content.clone(), Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let options = FetchOptions {
        mirror: Some(server.address.clone()),
    };
    let interrupt = AtomicBool::new(false);
    let mut progress = |_: &str, done, _| interrupt.store(done > 0, Ordering::Relaxed);
    let error = fetch(
        &entry(&content),
        folder.path(),
        &options,
        &interrupt,
        &mut progress,
    );
    assert!(matches!(error, Err(DataError::Interrupted)));
    let part = fs::metadata(folder.path().join("numbers.txt.part"))
        .unwrap()
        .len();
    assert!(part > 0 && part < content.len() as u64);
    fetch_from(&server.address, &entry(&content), folder.path()).unwrap();
    assert_eq!(
        server.requests()[1],
        format!("GET /little/numbers.txt from {part}")
    );
}

/// Creates a zip archive of stored and deflated members, as `zip` writes it: with extra fields and a comment. It is put
/// together by hand, so that the test does not rely on the crate that reads it.
fn zip(members: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for &(name, content, deflate) in members {
        let offset = out.len() as u32;
        let mut data = content.to_vec();
        if deflate {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(content).unwrap();
            data = encoder.finish().unwrap();
        }
        // Version, flags, method, time, date, CRC, sizes, and the lengths of the name and of 4 more bytes.
        let mut common = vec![20, 0, 0, 0, if deflate { 8 } else { 0 }, 0, 0, 0, 0, 0];
        for number in [
            crc32fast::hash(content),
            data.len() as u32,
            content.len() as u32,
        ] {
            common.extend(number.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([4, 0]);
        out.extend([b"PK\x03\x04", &common[..], name.as_bytes(), b"more", &data].concat());
        directory.extend([b"PK\x01\x02\x14\x00", &common[..], &[0; 10]].concat());
        directory.extend(offset.to_le_bytes());
        directory.extend([name.as_bytes(), b"more"].concat());
    }
    let start = out.len() as u32;
    out.extend(&directory);
    let count = (members.len() as u16).to_le_bytes();
    out.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend(b"\x07\0comment");
    out
}

#[test]
fn archive_members_are_unpacked() {
    let content = content();
    let archive = zip(&[("readme", b"read me", false), ("a/train", &content, true)]);
    let mut entry = entry(&archive);
    entry.files[0].name = "numbers.zip".into();
    let member = |member: &str, name: &str, validation| CorpusMember {
        member: member.into(),
        name: name.into(),
        validation,
    };
    entry.files[0].unpack = vec![
        member("a/train", "train.txt", false),
        member("readme", "valid.txt", true),
    ];
    let server = Server::new(archive.clone(), Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let fetched = fetch_from(&server.address, &entry, folder.path()).unwrap();
    assert_eq!(fs::read(&fetched[0].path).unwrap(), content);
    assert_eq!(fs::read(&fetched[1].path).unwrap(), b"read me");
    assert!(fetched[0].verified && !fetched[0].validation && fetched[1].validation);
    assert_eq!(server.requests().len(), 1);

    // An unpacked file is checked against the archive, and is not changed.
    assert_eq!(
        fetch_from(&server.address, &entry, folder.path()).unwrap(),
        fetched
    );
    assert_eq!(server.requests().len(), 0);
    fs::write(&fetched[1].path, b"read it").unwrap();
    let error = error_of(fetch_from(&server.address, &entry, folder.path()));
    assert!(
        error.contains("valid.txt differs from readme in"),
        "{error}"
    );
    assert_eq!(fs::read(&fetched[1].path).unwrap(), b"read it");

    entry.files[0].unpack = vec![member("absent", "absent.txt", false)];
    let error = fetch_from(&server.address, &entry, folder.path()).unwrap_err();
    assert!(error.to_string().contains("holds no absent"), "{error}");
}

#[test]
fn damaged_archive_is_an_error() {
    let text = [b'x'; 500];
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("a.zip"), folder.path().join("text.txt"));
    let member = CorpusMember {
        member: "text".into(),
        name: "text.txt".into(),
        validation: false,
    };
    let running = AtomicBool::new(false);
    let mut silent = |_: &str, _, _| {};
    let mut download = Download::new("little", &running, &mut silent);
    let mut unpack = |archive: &[u8]| {
        fs::write(&path, archive).unwrap();
        let unpacked = download.ensure_unpacked(&path, &member, &target);
        match &unpacked {
            // The comment, times and versions may change without harm.
            Ok(()) => {
                assert_eq!(fs::read(&target).unwrap(), text);
                fs::remove_file(&target).unwrap();
            }
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
                assert!(!target.exists());
            }
        }
        unpacked.is_ok()
    };
    for deflate in [false, true] {
        let archive = zip(&[("text", &text, deflate)]);
        assert!(unpack(&archive));
        for length in 0..archive.len() {
            let mut damaged = archive.clone();
            damaged[length] ^= 0x55;
            unpack(&damaged);
            let within_comment = length >= archive.len() - "comment".len();
            assert!(!unpack(&archive[..length]) || within_comment, "{length}");
        }
    }
    // The content expands to more bytes than the archive states.
    let mut archive = zip(&[("text", &text, true)]);
    let sizes: Vec<usize> = (0..archive.len() - 4)
        .filter(|&at| archive[at..at + 4] == 500_u32.to_le_bytes())
        .collect();
    assert_eq!(sizes.len(), 2);
    for at in sizes {
        archive[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
    }
    assert!(!unpack(&archive));
    let part = folder.path().join("text.txt.part");
    assert_eq!(fs::metadata(part).unwrap().len(), 101);
}
