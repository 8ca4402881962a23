//! Order of the runs of a report.

use std::cmp::Ordering;
use std::path::Path;

use crate::record::run::RunDirectory;

/// Returns runs in the order of the numbers in their paths, if they are in the order of their text, as a shell lists
/// them: `steps40` before `steps160`. Another order is the user's, and stays.
pub(super) fn in_order(runs: &[RunDirectory]) -> Vec<&RunDirectory> {
    let mut ordered: Vec<&RunDirectory> = runs.iter().collect();
    if ordered.is_sorted_by_key(|run| run.path()) {
        ordered.sort_by(|one, other| compare(one.path(), other.path()));
    }
    ordered
}

/// A part of a path.
#[derive(Debug, PartialEq)]
enum Part<'a> {
    Number(f64),
    Text(&'a str),
}

/// Compares paths by their parts: numbers by their size, and text by its letters.
fn compare(one: &Path, other: &Path) -> Ordering {
    let [one, other] = [one, other].map(|path| path.to_string_lossy().into_owned());
    let (ours, theirs) = (parts(&one), parts(&other));
    let order = |(ours, theirs): (&Part, &Part)| match (ours, theirs) {
        (Part::Number(ours), Part::Number(theirs)) => ours.total_cmp(theirs),
        (Part::Text(ours), Part::Text(theirs)) => ours.cmp(theirs),
        (Part::Number(_), Part::Text(_)) => Ordering::Less,
        (Part::Text(_), Part::Number(_)) => Ordering::Greater,
    };
    let mut orders = ours.iter().zip(&theirs).map(order);
    orders
        .find(|order| order.is_ne())
        .unwrap_or(ours.len().cmp(&theirs.len()))
        .then_with(|| one.cmp(&other))
}

/// Divides a text into numbers, such as `0.25` and `1e-5`, and what is between them.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = number_length(rest);
        let (part, length) = match rest[..length].parse() {
            Ok(number) => (Part::Number(number), length),
            Err(_) => {
                let end = rest.find(|c: char| c.is_ascii_digit());
                let end = end.unwrap_or(rest.len());
                (Part::Text(&rest[..end]), end)
            }
        };
        parts.push(part);
        rest = &rest[length..];
    }
    parts
}

/// Returns the length of the number at the start of a text: digits, a fraction and an exponent; 0 if there is none.
fn number_length(text: &str) -> usize {
    let digits = |from: usize| {
        let rest = text[from..].bytes();
        rest.take_while(u8::is_ascii_digit).count()
    };
    let bytes = text.as_bytes();
    let mut length = digits(0);
    if length > 0 && bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
    }
    if length > 0 && bytes.get(length) == Some(&b'e') {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'-' | b'+')));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_by_their_numbers() {
        let sorted = [
            "runs/clip1e-5",
            "runs/clip0.25",
            "runs/clip0.5",
            "runs/clip2",
            "runs/clip10",
            "runs/steps40-seed2",
            "runs/steps40-seed10",
            "runs/steps160-seed1",
            "runs/é1",
        ];
        for (index, one) in sorted.iter().enumerate() {
            for (place, other) in sorted.iter().enumerate() {
                let order = compare(Path::new(one), Path::new(other));
                assert_eq!(order, index.cmp(&place), "{one} {other}");
            }
        }
    }

    #[test]
    fn only_the_order_of_text_is_changed() {
        let root = tempfile::tempdir().unwrap();
        let names = |given: &[&str]| -> Vec<String> {
            let open = |name: &&str| {
                let path = root.path().join(name);
                std::fs::create_dir_all(&path).unwrap();
                std::fs::write(path.join("experiment.toml"), "").unwrap();
                RunDirectory::open(&path).unwrap()
            };
            let runs: Vec<_> = given.iter().map(open).collect();
            let name = |run: &&RunDirectory| run.path().file_name().unwrap().to_owned();
            let names = in_order(&runs);
            let names = names.iter().map(name);
            names.map(|name| name.into_string().unwrap()).collect()
        };
        assert_eq!(names(&["s160", "s40", "s80"]), ["s40", "s80", "s160"]);
        assert_eq!(names(&["s80", "s160", "s40"]), ["s80", "s160", "s40"]);
    }
}
