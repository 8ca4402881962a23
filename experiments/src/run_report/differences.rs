//! The keys in which the experiments of several runs differ.

use toml::Value;

use super::reported_run::ReportedRun;
use crate::report::{Block, Table};
use crate::show::format::NONE;

/// Returns a table of the keys that differ, or a sentence that all keys are equal.
pub(super) fn block(runs: &[ReportedRun<'_>]) -> Block {
    let files: Vec<String> = runs
        .iter()
        .map(|run| run.run.experiment.to_toml())
        .collect();
    let rows = rows(&files);
    if rows.is_empty() {
        return Block::Text("The experiments are equal in every key.".into());
    }
    let names = runs.iter().map(|run| run.name.clone()).collect();
    Block::Table(Table::side_by_side(
        "Keys in which the experiments differ",
        names,
        rows,
    ))
}

/// Returns each key that differs, with its value in each file.
fn rows(files: &[String]) -> Vec<(String, bool, Vec<String>)> {
    let files: Vec<Vec<(String, String)>> = files.iter().map(|file| keys(file)).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in files.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let value = |file: &Vec<(String, String)>, name: &String| {
        let found = file.iter().find(|(key, _)| key == name);
        found.map_or(NONE.to_owned(), |(_, value)| value.clone())
    };
    let rows = names.into_iter().map(|name| {
        let values: Vec<String> = files.iter().map(|file| value(file, name)).collect();
        (name.clone(), true, values)
    });
    rows.filter(|(_, _, values)| values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect()
}

/// Returns all keys, with their sections, and their values, such as `train.steps` and `60`.
fn keys(file: &str) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    if let Ok(table) = file.parse::<toml::Table>() {
        flatten("", &table, &mut keys);
    }
    keys
}

fn flatten(prefix: &str, table: &toml::Table, keys: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = match prefix {
            "" => name.clone(),
            _ => format!("{prefix}.{name}"),
        };
        match value {
            Value::Table(inner) => flatten(&key, inner, keys),
            Value::String(text) => keys.push((key, text.clone())),
            other => keys.push((key, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_differ_are_rows() {
        let one = "name = \"a\"\n[train]\nsteps = 60\nseed = 1\n[data.world]\nseed = 1\n";
        let other =
            "name = \"b\"\n[train]\nsteps = 90\nseed = 1\nearly_stop = 3\n[data.world]\nseed = 1\n";
        let row = |name: &str, values: [&str; 2]| {
            let values = values.map(str::to_owned).to_vec();
            (name.to_owned(), true, values)
        };
        let mut found = rows(&[one.into(), other.into()]);
        found.sort();
        let mut expected = vec![
            row("name", ["a", "b"]),
            row("train.steps", ["60", "90"]),
            row("train.early_stop", [NONE, "3"]),
        ];
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(rows(&[one.into(), one.into()]), []);
    }
}
