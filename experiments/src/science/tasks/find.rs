//! Finds the files of a task, in the layouts in which data sets are downloaded and written by hand.

use std::path::Path;

use foretoken_datasets::{Format, SourceFile};

use super::task::{DataSet, Task};
use crate::Error;

/// Extensions of the files that are read, and their formats.
const EXTENSIONS: [(&str, Format); 3] = [
    (".parquet", Format::Parquet),
    (".jsonl", Format::JsonLines),
    (".ndjson", Format::JsonLines),
];

/// Maximum number of folders and files that are looked at, so that a wrong folder ends at once.
const MAX_ENTRIES: usize = 20_000;

/// Use of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Its items are questions.
    Questions,
    /// Its items are examples in prompts.
    Examples,
}

/// Finds the files of a task below the folder of all data, in the order of their names: `TASK.jsonl` or `TASK.parquet`
/// (`TASK.train.jsonl` for examples), or the files in a folder of the task that begin with the name of the split, as the
/// hub has them.
///
/// # Errors
///
/// Returns an error that says how to get the data if there is no file, and one that names the files if they are not the
/// parts of one table.
pub(super) fn files(data: &Path, task: Task, of: Use) -> Result<Vec<SourceFile>, Error> {
    if !data.is_dir() {
        let message = "is not a folder; name the folder that holds the files of the tasks";
        return Err(refused(data, message.into()));
    }
    let stem = match of {
        Use::Questions => task.name().to_owned(),
        Use::Examples => format!("{task}.train"),
    };
    let mut entries = 0;
    let direct = listed(data, false, &mut entries)?;
    let direct: Vec<_> = direct
        .into_iter()
        .filter(|(_, rest, _)| *rest == stem)
        .collect();
    if !direct.is_empty() {
        return one_table(data, task, direct);
    }
    let DataSet { folders, split, .. } = task.data_set();
    let beginning = match of {
        Use::Questions => split,
        Use::Examples => "train",
    };
    for folder in folders {
        let folder = data.join(folder);
        if task == Task::Blimp {
            // Each of its parts is a file or a folder of its own.
            let found = match folder.is_dir() {
                true => listed(&folder, true, &mut entries)?,
                false => continue,
            };
            if !found.is_empty() {
                return Ok(found.into_iter().map(|(file, ..)| file).collect());
            }
            continue;
        }
        for folder in [folder.clone(), folder.join("data")] {
            if !folder.is_dir() {
                continue;
            }
            let mut found = listed(&folder, false, &mut entries)?;
            found.retain(|(_, name, _)| begins(name, beginning));
            if !found.is_empty() {
                return one_table(&folder, task, found);
            }
        }
    }
    let what = match of {
        Use::Questions => "",
        Use::Examples => ", from which examples are drawn",
    };
    let folder = folders[0];
    let split = match beginning {
        "" => "*".to_owned(),
        split => format!("{split}*"),
    };
    Err(refused(
        data,
        format!(
            "has no data of {task}{what}: neither {stem}.jsonl nor {stem}.parquet nor {folder}/{split}.parquet; {}",
            task.advice()
        ),
    ))
}

/// A file, its name without extensions, and the extension.
type Found = (SourceFile, String, &'static str);

/// Lists the files with a known extension in a folder, in the order of their paths.
fn listed(folder: &Path, below: bool, entries: &mut usize) -> Result<Vec<Found>, Error> {
    let read = |path: &Path| std::fs::read_dir(path).map_err(Error::io("read", path));
    let mut folders = vec![folder.to_path_buf()];
    let mut found: Vec<Found> = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in read(&next)? {
            let entry = entry.map_err(Error::io("read", &next))?;
            *entries += 1;
            if *entries > MAX_ENTRIES {
                let message = format!(
                    "holds more than {MAX_ENTRIES} files; name a folder with the files of the tasks only"
                );
                return Err(refused(folder, message));
            }
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            // A link to a file is followed, one to a folder is not, so that the walk ends.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if below {
                    folders.push(path);
                }
            } else if let Some((stem, extension, format)) = known(&name)
                && let Ok(metadata) = path.metadata()
                && metadata.is_file()
            {
                let file = SourceFile::new(path, format, metadata.len());
                found.push((file, stem.to_owned(), extension));
            }
        }
    }
    found.sort_by(|(a, ..), (b, ..)| a.path.cmp(&b.path));
    Ok(found)
}

/// Splits the name of a file into the rest and a known extension.
fn known(name: &str) -> Option<(&str, &'static str, Format)> {
    let name = [".gz", ".zst"]
        .iter()
        .find_map(|compression| name.strip_suffix(compression))
        .unwrap_or(name);
    EXTENSIONS
        .iter()
        .find_map(|(extension, format)| Some((name.strip_suffix(extension)?, *extension, *format)))
}

/// Returns whether a name is a split's, or begins with it as a word.
fn begins(name: &str, split: &str) -> bool {
    let rest = name.strip_prefix(split);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
}

/// Returns the files if they are one table: a single file, or the parts of one, such as `test-00001-of-00004.parquet`.
fn one_table(folder: &Path, task: Task, found: Vec<Found>) -> Result<Vec<SourceFile>, Error> {
    let is_part = |(_, name, extension): &Found| {
        let (_, _, first) = &found[0];
        let numbers = name.rsplit_once("-of-");
        extension == first
            && numbers
                .is_some_and(|(_, count)| count.parse::<usize>().is_ok_and(|n| n == found.len()))
    };
    if found.len() > 1 && !found.iter().all(is_part) {
        let names: Vec<String> = found
            .iter()
            .take(6)
            .filter_map(|(file, ..)| Some(file.path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        let message = format!(
            "has several files of {task}, which are not the parts of one: {}; keep one of them",
            names.join(", ")
        );
        return Err(refused(folder, message));
    }
    Ok(found.into_iter().map(|(file, ..)| file).collect())
}

fn refused(path: &Path, message: String) -> Error {
    Error::Experiment {
        origin: format!("--data {}", path.display()),
        message,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn found(names: &[&str], task: Task, of: Use) -> Result<Vec<PathBuf>, String> {
        let folder = folder(names);
        let files = files(folder.path(), task, of).map_err(|error| error.to_string())?;
        let relative = |file: SourceFile| file.path.strip_prefix(folder.path()).unwrap().into();
        Ok(files.into_iter().map(relative).collect())
    }

    #[test]
    fn files_of_the_hub_and_files_by_hand_are_found() {
        let hub = [
            "hellaswag/data/train-00000-of-00001.parquet",
            "hellaswag/data/validation-00000-of-00002.parquet",
            "hellaswag/data/validation-00001-of-00002.parquet",
            "hellaswag/README.md",
            "arc/ARC-Easy/test-00000-of-00001.parquet",
            "arc/ARC-Easy/testing.jsonl",
            "winogrande/winogrande_xl/validation-00000-of-00001.parquet",
            "winogrande/winogrande_xs/validation-00000-of-00001.parquet",
            "blimp/b/train-00000-of-00001.parquet",
            "blimp/a.jsonl",
            "piqa.jsonl.gz",
            "piqa.train.jsonl",
            "piqa/validation.jsonl",
        ];
        let paths = |names: &[&str]| Ok(names.iter().map(PathBuf::from).collect::<Vec<_>>());
        for (task, of, names) in [
            (Task::Hellaswag, Use::Questions, &hub[1..3]),
            (Task::Hellaswag, Use::Examples, &hub[..1]),
            (Task::ArcEasy, Use::Questions, &hub[4..5]),
            (Task::Winogrande, Use::Questions, &hub[6..7]),
            (Task::Blimp, Use::Questions, &[hub[9], hub[8]]),
            (Task::Piqa, Use::Questions, &hub[10..11]),
            (Task::Piqa, Use::Examples, &hub[11..12]),
        ] {
            assert_eq!(found(&hub, task, of), paths(names), "{task} {of:?}");
        }
        let error = found(&hub, Task::ArcChallenge, Use::Questions).unwrap_err();
        for part in ["arc_challenge.jsonl", "test*.parquet", "allenai/ai2_arc"] {
            assert!(error.contains(part), "{error}");
        }
        let error = found(&hub, Task::ArcEasy, Use::Examples).unwrap_err();
        assert!(error.contains("examples") && error.contains("arc_easy.train.jsonl"));
    }

    #[test]
    fn files_that_are_not_one_table_are_refused() {
        for names in [
            &["lambada.jsonl", "lambada.parquet"][..],
            &["lambada/test.jsonl", "lambada/test_de.jsonl"],
            &[
                "lambada/test-00000-of-00003.parquet",
                "lambada/test-00001-of-00003.parquet",
            ],
        ] {
            let error = found(names, Task::Lambada, Use::Questions).unwrap_err();
            assert!(error.contains("several files"), "{error}");
        }
        let missing = files(Path::new("/absent"), Task::Piqa, Use::Questions);
        assert!(missing.unwrap_err().to_string().contains("not a folder"));
    }
}
