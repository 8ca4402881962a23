use super::*;

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

/// Returns the paths found and the paths skipped, relative to the folder.
fn found(
    folder: &tempfile::TempDir,
    inputs: &[&str],
) -> Result<(Vec<String>, Vec<String>), DataError> {
    let inputs: Vec<PathBuf> = inputs
        .iter()
        .map(|input| folder.path().join(input))
        .collect();
    let sources = find_sources(&inputs, None)?;
    let relative = |path: &Path| {
        let path = path.strip_prefix(folder.path()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    Ok((
        sources
            .files
            .iter()
            .map(|file| relative(&file.path))
            .collect(),
        sources.skipped.iter().map(|path| relative(path)).collect(),
    ))
}

#[test]
fn inputs_are_found_in_order_and_only_once() {
    let folder = folder(&[
        ("a/b.txt", b"1"),
        ("a.txt", b"2"),
        ("z/2.jsonl", b"{}"),
        ("z/1/x.md", b"3"),
        ("z/.hidden.txt", b"no"),
        ("z/.git/config.txt", b"no"),
        ("z/picture.png", b"no"),
        ("z/archive.tar.gz", b"no"),
        ("notes", b"4"),
    ]);
    let (files, skipped) = found(&folder, &["z", "*.txt", "notes", "a", "z/2.jsonl"]).unwrap();
    assert_eq!(
        files,
        ["z/1/x.md", "z/2.jsonl", "a.txt", "notes", "a/b.txt"]
    );
    assert_eq!(skipped, ["z/archive.tar.gz", "z/picture.png"]);
    let (files, skipped) = found(&folder, &["", "notes"]).unwrap();
    assert_eq!(
        files,
        ["a.txt", "a/b.txt", "z/1/x.md", "z/2.jsonl", "notes"],
        "byte order within a folder"
    );
    assert_eq!(skipped, ["z/archive.tar.gz", "z/picture.png"]);
}

#[test]
fn unknown_extension_needs_a_stated_format() {
    let folder = folder(&[
        ("a.xyz", b"text"),
        ("b.zip", b"PK\x03\x04"),
        ("tokens.bin", b"\x07\x08"),
        ("page.html", b"<p>"),
        ("main.rs", b"fn main() {}"),
        ("log", b"a line"),
        ("shard", b"{\"text\": \"a\"}\n"),
        ("data.txt", b"{\"text\": \"a\"}\n"),
    ]);
    let refused = |name: &str, format| {
        let error = find_sources(&[folder.path().join(name)], format).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&format!("{name}: ")), "{error}");
        error
    };
    for name in ["a.xyz", "page.html"] {
        assert!(refused(name, None).contains("--format"));
    }
    for (name, said) in [("tokens.bin", "name the folder"), ("-", "/dev/stdin")] {
        let inputs = [match name {
            "-" => PathBuf::from(name),
            _ => folder.path().join(name),
        }];
        let error = find_sources(&inputs, None).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for name in ["b.zip"] {
        for format in [None, Some(Format::Text), Some(Format::Csv)] {
            let error = refused(name, format);
            assert!(
                error.contains("ZIP archive") && !error.contains("--format"),
                "{error}"
            );
        }
    }
    for name in ["shard", "data.txt"] {
        assert!(refused(name, None).contains("--format jsonl"));
    }
    let (files, _) = found(&folder, &["main.rs", "log"]).unwrap();
    assert_eq!(files, ["main.rs", "log"]);
    for format in Format::ALL {
        let inputs = ["a.xyz", "page.html", "shard"].map(|name| folder.path().join(name));
        let files = find_sources(&inputs, Some(format)).unwrap().files;
        assert!(files.len() == 3 && files.iter().all(|file| file.format == format));
    }
    // With a stated format a folder stands for all of its files.
    let error = find_sources(&[folder.path().into()], Some(Format::Text)).unwrap_err();
    assert!(error.to_string().contains("b.zip: is a ZIP"), "{error}");
    fs::remove_file(folder.path().join("b.zip")).unwrap();
    fs::remove_file(folder.path().join("tokens.bin")).unwrap();
    let files = find_sources(&[folder.path().into()], Some(Format::Text))
        .unwrap()
        .files;
    assert_eq!(files.len(), 6);
}

/// A glob and a folder find the same files, under their exact names.
#[cfg(unix)]
#[test]
fn globs_skip_hidden_files_and_match_names_of_any_bytes() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let folder = folder(&[
        ("a/._a.txt", b"no"),
        ("a/a.txt", b"1"),
        ("a/.hidden/b.txt", b"no"),
        ("a/b/c.txt", b"2"),
        ("a/b/[1].txt", b"3"),
    ]);
    let name = |bytes: &[u8]| folder.path().join("a").join(OsStr::from_bytes(bytes));
    fs::write(name(b"caf\xe9.txt"), "4").unwrap();
    fs::write(name(b"caf\xe8.txt"), "5").unwrap();
    let files = |inputs: &[PathBuf]| -> Vec<PathBuf> {
        let sources = find_sources(inputs, None).unwrap();
        sources.files.into_iter().map(|file| file.path).collect()
    };
    let all = files(&[folder.path().join("a")]);
    assert_eq!(all.len(), 5);
    for pattern in ["a/**/*.txt", "*/**/*", "**/*.txt"] {
        assert_eq!(files(&[folder.path().join(pattern)]), all, "{pattern}");
    }
    let two = files(&[folder.path().join("a/caf?.txt")]);
    assert_eq!(two, [name(b"caf\xe8.txt"), name(b"caf\xe9.txt")]);
    assert_eq!(files(&[name(b"*\xe9*")]), [name(b"caf\xe9.txt")]);
    assert_eq!(files(&[name(b"caf\xe9.txt")]), [name(b"caf\xe9.txt")]);
    assert_eq!(
        files(&[folder.path().join("a/b/[1].txt")]),
        [folder.path().join("a/b/[1].txt")]
    );
    assert_eq!(files(&[folder.path().join("a/.h*/*.txt")]).len(), 1);
    assert_eq!(files(&[folder.path().join("a/.*.txt")]).len(), 1);
    let none = find_sources(&[folder.path().join("a/*/d.txt")], None);
    assert!(matches!(none, Err(DataError::NoMatch { .. })));
}

/// Devices and sockets are refused at once, and pipes are marked as pipes.
#[cfg(target_os = "linux")]
#[test]
fn devices_sockets_and_pipes_are_recognised_without_opening_them() {
    let folder = folder(&[("a.txt", b"1")]);
    let socket = folder.path().join("socket.txt");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let pipe = folder.path().join("pipe.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for (path, kind) in [("/dev/null".into(), "a device"), (socket, "a socket")] {
        let error = find_sources(&[path], None).unwrap_err().to_string();
        assert!(error.contains(&format!(": is {kind}")), "{error}");
    }
    let twice = [pipe.clone(), folder.path().join("./pipe.jsonl")];
    let sources = find_sources(&twice, None).unwrap();
    let [file] = &sources.files[..] else {
        panic!("{sources:?}");
    };
    assert!(file.is_pipe && file.format == Format::JsonLines && file.path == pipe);
    // A folder or a glob skips them.
    for input in ["", "*"] {
        let sources = find_sources(&[folder.path().join(input)], None).unwrap();
        assert_eq!(
            (sources.files.len(), sources.skipped.len()),
            (1, 2),
            "{input}"
        );
    }
}

#[test]
fn reported_sizes_are_the_sizes_on_disk() {
    let folder = folder(&[("a.txt", b"12345")]);
    let sources = find_sources(&[folder.path().into()], None).unwrap();
    assert_eq!(sources.files[0].bytes, 5);
    assert_eq!(find_sources(&[], None).unwrap(), Sources::default());
}

#[cfg(unix)]
#[test]
fn links_are_followed_without_endless_recursion() {
    use std::os::unix::fs::symlink;
    let folder = folder(&[("a/b/text.txt", b"text"), ("other/far.txt", b"far")]);
    let at = |path: &str| folder.path().join(path);
    symlink(at("a"), at("a/b/round")).unwrap();
    symlink(at("a/b/text.txt"), at("a/again.txt")).unwrap();
    symlink(at("other"), at("a/other")).unwrap();
    symlink(at("nowhere"), at("a/dangling.txt")).unwrap();
    symlink(at("nowhere"), at("a/.#lock")).unwrap();
    let (files, skipped) = found(&folder, &["a"]).unwrap();
    assert_eq!(files, ["a/again.txt", "a/other/far.txt"], "the text once");
    assert_eq!(skipped, ["a/dangling.txt"]);
}

#[test]
fn inputs_without_files_are_named_in_the_error() {
    let folder = folder(&[("folder/picture.png", b"no"), ("folder/.text.txt", b"no")]);
    let error = found(&folder, &["folder"]).unwrap_err();
    assert!(matches!(error, DataError::Dataset { .. }));
    assert!(
        error
            .to_string()
            .contains("folder: the folder holds no .txt"),
        "{error}"
    );
    let error = found(&folder, &["folder/none.txt"]).unwrap_err();
    assert!(matches!(error, DataError::Missing { .. }));
    let error = found(&folder, &["*.parquet"]).unwrap_err();
    assert!(matches!(error, DataError::NoMatch { .. }));
    let error = found(&folder, &["***"]).unwrap_err();
    assert!(matches!(error, DataError::BadPattern { .. }));
}

#[test]
fn json_files_of_token_folders_are_skipped() {
    let folder = folder(&[
        ("a.txt", b"1"),
        ("data/manifest.json", b"{\"text\": \"1\"}\n"),
        ("made/manifest.json", b"{}"),
        ("made/tokenizer.json", b"{}"),
        ("made/train.bin", b"1"),
        ("begun/.build.json", b"{}"),
        ("begun/tokenizer.json", b"{}"),
    ]);
    let (files, _) = found(&folder, &["."]).unwrap();
    assert_eq!(files, ["a.txt", "data/manifest.json"]);
    let (files, _) = found(&folder, &["**/*.json"]).unwrap();
    assert_eq!(files, ["data/manifest.json"]);
    assert!(found(&folder, &["made"]).is_err());
}
