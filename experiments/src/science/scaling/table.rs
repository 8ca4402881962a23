//! Observations from a CSV file: columns by their names, a run in each row.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use foretoken_datasets::files::{self, printable};

use super::run::{LARGEST, Run, refused};
use crate::Error;

/// Largest size of a file, which bounds memory.
const LARGEST_FILE: u64 = 64 << 20;

/// Names of a CSV's columns that are given by the user; the others are found by common names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Column of all parameters.
    pub params: Option<String>,
    /// Column of parameters without embeddings.
    pub non_embedding: Option<String>,
    /// Column of parameters with the head.
    pub with_head: Option<String>,
    /// Column of training tokens.
    pub tokens: Option<String>,
    /// Column of training FLOPs.
    pub flops: Option<String>,
    /// Column of the loss.
    pub loss: Option<String>,
    /// Column of the seed, which only has to exist: rows with the same N, D and C are a group.
    pub seed: Option<String>,
}

/// Common names of columns, without case, spaces and underscores.
const PARAMS: &[&str] = &[
    "params",
    "parameters",
    "n",
    "modelsize",
    "nparams",
    "numparams",
    "nparameters",
    "numparameters",
    "totalparams",
    "totalparameters",
    "paramstotal",
    "size",
];
const NON_EMBEDDING: &[&str] = &[
    "nonembedding",
    "nonembeddingparams",
    "nonembeddingparameters",
    "paramsnonembedding",
    "nnonembedding",
    "nonembparams",
    "nonembed",
    "paramsnoemb",
];
const WITH_HEAD: &[&str] = &[
    "withhead",
    "paramswithhead",
    "withheadparams",
    "matmulparams",
];
const TOKENS: &[&str] = &[
    "tokens",
    "d",
    "trainingtokens",
    "traintokens",
    "ntokens",
    "numtokens",
    "datasetsize",
    "tokensseen",
];
const FLOPS: &[&str] = &[
    "flops",
    "flop",
    "c",
    "compute",
    "trainingflop",
    "trainingflops",
    "trainflops",
    "budget",
    "totalflops",
];
const LOSS: &[&str] = &[
    "loss",
    "l",
    "validloss",
    "valloss",
    "validationloss",
    "evalloss",
    "testloss",
    "finalloss",
    "trainloss",
    "crossentropy",
];

fn normalised(name: &str) -> String {
    let kept = name.chars().filter(|c| c.is_alphanumeric());
    kept.flat_map(char::to_lowercase).collect()
}

/// A column of numbers.
struct Column {
    index: usize,
    name: String,
}

/// Finds the column that is named by `given`, or else the only one with a common name.
fn find(
    origin: &str,
    headings: &[String],
    given: Option<&String>,
    common: &[&str],
) -> Result<Option<Column>, Error> {
    let column = |index: usize| Column {
        index,
        name: printable(&headings[index]),
    };
    if let Some(given) = given {
        let exact = headings.iter().position(|heading| heading == given);
        let close = || {
            headings
                .iter()
                .position(|heading| normalised(heading) == normalised(given))
        };
        return match exact.or_else(close) {
            Some(index) => Ok(Some(column(index))),
            None => {
                let message = format!(
                    "has no column {given:?}, which --columns names; its columns are {}",
                    listed(headings)
                );
                Err(refused(origin, message))
            }
        };
    }
    // The first common name wins, so that "loss" is preferred to "train loss".
    for name in common {
        let mut found = (0..headings.len()).filter(|index| normalised(&headings[*index]) == *name);
        if let Some(index) = found.next() {
            if let Some(second) = found.next() {
                let message = format!(
                    "has two columns for the same quantity, {:?} and {:?}; name one with --columns",
                    headings[index], headings[second]
                );
                return Err(refused(origin, message));
            }
            return Ok(Some(column(index)));
        }
    }
    Ok(None)
}

fn listed(headings: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<String> = headings
        .iter()
        .take(SHOWN)
        .map(|name| printable(name))
        .collect();
    if headings.len() > SHOWN {
        names.push("…".into());
    }
    names.join(", ")
}

/// Reads the rows of a CSV file.
pub(super) fn read(path: &Path, columns: &Columns, runs: &mut Vec<Run>) -> Result<(), Error> {
    let origin = path.display().to_string();
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refused(
            origin.as_str(),
            "does not exist; give a CSV file, run directories or a sweep directory",
        ),
        _ => Error::io("read", path)(error),
    })?;
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if files::is_device(metadata.file_type()) {
        return Err(refused(origin, "is a device; give a CSV file"));
    }
    let size = metadata.len();
    if size > LARGEST_FILE {
        let message = format!(
            "has {size} bytes, and at most {LARGEST_FILE} are read; keep a row for each run"
        );
        return Err(refused(origin, message));
    }
    parse(path, Read::take(file, LARGEST_FILE), columns, runs)
}

/// Reads the rows of a table.
///
/// # Errors
///
/// Returns an error that names the file, and the line and the column of a cell that is not a positive number.
fn parse(
    path: &Path,
    table: impl Read,
    columns: &Columns,
    runs: &mut Vec<Run>,
) -> Result<(), Error> {
    let origin = path.display().to_string();
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(table);
    let damaged = |error: csv::Error| {
        let at = error
            .position()
            .map_or(origin.clone(), |position| line(path, position.line()));
        let message = match error.kind() {
            csv::ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => {
                format!("has {len} cells, and the first line has {expected_len}; repair the line")
            }
            csv::ErrorKind::Utf8 { .. } => "is not UTF-8; save the file as UTF-8".into(),
            _ => format!("is not CSV: {}", printable(&error.to_string())),
        };
        refused(at, message)
    };
    let headings: Vec<String> = reader
        .headers()
        .map_err(damaged)?
        .iter()
        .map(str::to_owned)
        .collect();
    if let [only] = &headings[..]
        && let Some(separator) = [';', '\t'].into_iter().find(|c| only.contains(*c))
    {
        let message = format!(
            "has columns that {} separates; save the file with commas between columns, and points in numbers",
            if separator == ';' {
                "a semicolon"
            } else {
                "a tab"
            }
        );
        return Err(refused(origin.as_str(), message));
    }
    let find = |given: &Option<String>, common| find(&origin, &headings, given.as_ref(), common);
    let parameters = [
        find(&columns.params, PARAMS)?,
        find(&columns.non_embedding, NON_EMBEDDING)?,
        find(&columns.with_head, WITH_HEAD)?,
    ];
    let tokens = find(&columns.tokens, TOKENS)?;
    let flops = find(&columns.flops, FLOPS)?;
    let loss = find(&columns.loss, LOSS)?;
    find(&columns.seed, &[])?;
    let missing = |what: &str, key: &str| {
        if headings.iter().all(String::is_empty) {
            return refused(
                origin.as_str(),
                "has no column of anything: its first line has no names; is it empty?",
            );
        }
        let message = format!(
            "has no column of {what} under a common name; name it with --columns {key}=NAME. Its columns are {}",
            listed(&headings)
        );
        refused(origin.as_str(), message)
    };
    let loss = loss.ok_or_else(|| missing("losses", "loss"))?;
    if parameters.iter().all(Option::is_none) {
        return Err(missing("parameters", "params"));
    }
    if tokens.is_none() && flops.is_none() {
        return Err(missing("tokens or FLOPs", "tokens"));
    }
    let mut count = 0;
    for record in reader.records() {
        let record = record.map_err(damaged)?;
        let at = line(path, record.position().map_or(0, csv::Position::line));
        let number = |column: &Column| -> Result<f64, Error> {
            let cell = record.get(column.index).unwrap_or_default();
            let value: f64 = cell.replace('_', "").parse().unwrap_or(f64::NAN);
            if value.is_finite() && value > 0.0 {
                return Ok(value);
            }
            let shown: String = printable(cell).chars().take(40).collect();
            let problem = match cell.is_empty() {
                true => "is empty".into(),
                false => format!("is {shown:?}"),
            };
            let message = format!(
                "column {:?} {problem}, and must be a number above 0; repair or remove the line",
                column.name
            );
            Err(refused(at.as_str(), message))
        };
        let optional = |column: &Option<Column>| column.as_ref().map(number).transpose();
        let [total, non_embedding, with_head] = &parameters;
        let parameters = [
            optional(total)?,
            optional(non_embedding)?,
            optional(with_head)?,
        ];
        runs.push(Run {
            parameters,
            tokens: optional(&tokens)?,
            flops: optional(&flops)?,
            loss: number(&loss)?,
            name: at.clone(),
            floors: Vec::new(),
            origin: None,
            curve: Vec::new(),
        });
        count += 1;
        if count > LARGEST {
            let message = format!("has more than {LARGEST} rows; keep a row for each run");
            return Err(refused(origin, message));
        }
    }
    match count {
        0 => Err(refused(origin, "has no rows below its first line")),
        _ => Ok(()),
    }
}

/// Returns the name of a file and a line of it.
fn line(path: &Path, line: u64) -> String {
    format!("{}: line {line}", path.display())
}
