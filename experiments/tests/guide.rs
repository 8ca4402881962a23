//! Tests of the documentation: the commands of README.md and of the pages in `docs/src` print what the pages say, every
//! page is in the summary, links resolve, and every key of an experiment is listed with its default.
//!
//! The first word of a fence is its language, and further words say how it is tested:
//!
//! | fence | meaning |
//! |---|---|
//! | `sh` | run with `bash -e`, in one directory for each page; `cargo run --release --` stands for the program |
//! | `sh exit=2` | like `sh`, with that exit code |
//! | `sh NAME` | skipped, because it needs one of [`SKIPPED`] |
//! | `text` | the output of the previous `sh`; `…` stands for omitted words, or for omitted lines if it is alone in a line |
//! | `text tolerance=20%` | like `text`, with this tolerance for numbers instead of [`TOLERANCE`] |
//! | `text varies` | like `text`, but compared only if `FORETOKEN_GUIDE_EXACT` is set, because it depends on the last bits of a long training, which CPUs round differently |
//! | `text layout` | not an output |
//! | `toml file=NAME` | written to the page's directory |
//!
//! Speeds and times, which [`is_measured`] recognizes by their unit, can differ by a factor of [`SPEED_FACTOR`].
//!
//! A page with the line [`NEEDS_RUN`] starts with the run of README.md's first command in its directory.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use foretoken::Experiment;

/// Attributes of blocks whose needs this test does not meet.
const SKIPPED: [&str; 6] = [
    "all-backends", // backends that the default features do not compile in
    "files",        // files of the reader
    "gpu",
    "long", // minutes, or a build
    "network",
    "python", // Python with transformers
];

/// Maximum relative difference of numbers, because CPUs round sums in different orders.
const TOLERANCE: f64 = 1e-3;

/// Maximum ratio between the speeds of the page's machine and of this one.
const SPEED_FACTOR: f64 = 50.0;

/// The line of a page that needs a trained model.
const NEEDS_RUN: &str = "<!-- guide: starts with the run of README.md -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .into()
}

/// Returns README.md and the pages of the guide, by their path from the root.
fn pages() -> BTreeMap<String, String> {
    let mut paths = vec![PathBuf::from("README.md")];
    for entry in fs::read_dir(root().join("docs/src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "SUMMARY.md" {
            paths.push(Path::new("docs/src").join(name));
        }
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        (path.to_str().unwrap().to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// A fenced block.
struct Block {
    /// Line number of its fence, from 1.
    line: usize,
    language: String,
    attributes: Vec<String>,
    body: String,
}

impl Block {
    /// Returns the value of the attribute `name=VALUE`.
    fn value(&self, name: &str) -> Option<&str> {
        let with_name = |attribute: &String| attribute.starts_with(&format!("{name}="));
        let attribute = self.attributes.iter().find(|a| with_name(a))?;
        Some(&attribute[name.len() + 1..])
    }

    fn has(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|a| a == attribute)
    }

    /// Returns the attributes because of which the block is skipped.
    fn skipped(&self) -> Option<String> {
        let known = |attribute: &&String| SKIPPED.contains(&attribute.as_str());
        let names: Vec<_> = self.attributes.iter().filter(known).cloned().collect();
        (self.language == "sh" && !names.is_empty()).then(|| names.join(", "))
    }

    /// Returns an unknown attribute.
    fn unknown(&self) -> Option<&String> {
        let known = |attribute: &&String| match self.language.as_str() {
            "sh" => SKIPPED.contains(&attribute.as_str()) || attribute.starts_with("exit="),
            "text" => {
                ["varies", "layout"].contains(&attribute.as_str())
                    || attribute.starts_with("tolerance=")
            }
            "toml" => attribute.starts_with("file="),
            _ => false,
        };
        self.attributes.iter().find(|attribute| !known(attribute))
    }
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let mut words = info.split([' ', ',']).filter(|word| !word.is_empty());
                open = Some(Block {
                    line: number + 1,
                    language: words.next().unwrap_or_default().to_owned(),
                    attributes: words.map(str::to_owned).collect(),
                    body: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.body.push_str(line);
                block.body.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

/// A part of a line of output.
#[derive(Debug, PartialEq)]
enum Token<'a> {
    Number(&'a str),
    Word(&'a str),
    /// `…`
    Omitted,
}

/// Splits a line at spaces and around numbers.
fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '…' => first.len_utf8(),
            '0'..='9' => number_length(rest),
            _ => {
                let ends = |c: char| c.is_whitespace() || c.is_ascii_digit() || c == '…';
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        let (token, after) = rest.split_at(length);
        tokens.push(match first {
            '…' => Token::Omitted,
            '0'..='9' => Token::Number(token),
            _ => Token::Word(token),
        });
        rest = after.trim_start();
    }
    tokens
}

/// Returns the length of the number at the start of `text`: digits, a fraction, an exponent.
fn number_length(text: &str) -> usize {
    let digits = |from: usize| {
        let end = text[from..].find(|c: char| !c.is_ascii_digit());
        end.map_or(text.len(), |end| from + end)
    };
    let mut end = digits(0);
    if text[end..].starts_with('.') && digits(end + 1) > end + 1 {
        end = digits(end + 1);
    }
    for sign in ["e-", "e+", "e"] {
        let exponent = end + sign.len();
        if text[end..].starts_with(sign) && digits(exponent) > exponent {
            return digits(exponent);
        }
    }
    end
}

/// Returns whether a number is a speed or a time, by its unit or by the name before it.
fn is_measured(tokens: &[Token], place: usize) -> bool {
    const RATES: [&str; 4] = ["tokens/s", "GFLOP/s", "MB/s", "GB/s"];
    const TIMES: [&str; 4] = ["s", "s,", "ms", "µs"];
    const NAMES: [&str; 4] = ["MFU", "per_second\":", "seconds\":", "mfu\":"];
    let unit = matches!(tokens.get(place + 1), Some(Token::Word(word))
        if TIMES.contains(word) || RATES.iter().any(|unit| word.starts_with(unit)));
    let before = place.checked_sub(1).and_then(|before| tokens.get(before));
    unit || matches!(before, Some(Token::Word(word)) if NAMES.iter().any(|name| word.ends_with(name)))
}

/// Returns whether two numbers are equal within `tolerance`, or within one unit of the last printed place.
fn same_number(expected: &str, actual: &str, tolerance: f64) -> bool {
    let value = |text: &str| text.parse::<f64>().unwrap();
    let place = |text: &str| {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let decimals = mantissa
            .split_once('.')
            .map_or(0, |(_, decimals)| decimals.len());
        // Integers are exact.
        let rounded = decimals > 0 || text.contains('e');
        let power = exponent.parse::<i32>().unwrap() - decimals as i32;
        f64::from(rounded as u8) * 10_f64.powi(power)
    };
    let (a, b) = (value(expected), value(actual));
    (a - b).abs() <= tolerance * a.max(b) + 1.001 * place(expected).max(place(actual))
}

fn same_speed(expected: &str, actual: &str) -> bool {
    let (a, b): (f64, f64) = (expected.parse().unwrap(), actual.parse().unwrap());
    // Times of less than a second may be rounded to 0.
    a.max(b) <= SPEED_FACTOR * a.min(b).max(1.0)
}

/// Returns whether `actual` matches `expected`, in which items with `is_omitted` stand for any number of items.
fn matches_with_omissions<E, A>(
    expected: &[E],
    actual: &[A],
    is_omitted: &impl Fn(&E) -> bool,
    same: &impl Fn(usize, usize) -> bool,
) -> bool {
    // reached[j] is true if the expected items so far match the first j actual ones.
    let mut reached = vec![false; actual.len() + 1];
    reached[0] = true;
    for (i, item) in expected.iter().enumerate() {
        if is_omitted(item) {
            for j in 1..reached.len() {
                reached[j] |= reached[j - 1];
            }
        } else {
            for j in (1..reached.len()).rev() {
                reached[j] = reached[j - 1] && same(i, j - 1);
            }
            reached[0] = false;
        }
    }
    reached[actual.len()]
}

/// Compares two lines. The last number is a speed if `speed_at_end`.
fn same_line(expected: &str, actual: &str, tolerance: f64, speed_at_end: bool) -> bool {
    let (expected, actual) = (tokens(expected), tokens(actual));
    let is_speed = |i: usize| is_measured(&expected, i) || speed_at_end && i + 1 == expected.len();
    let same = |i: usize, j: usize| match (&expected[i], &actual[j]) {
        (Token::Number(a), Token::Number(b)) if is_speed(i) => same_speed(a, b),
        (Token::Number(a), Token::Number(b)) => same_number(a, b, tolerance),
        (a, b) => a == b,
    };
    let omitted = |token: &Token| *token == Token::Omitted;
    matches_with_omissions(&expected, &actual, &omitted, &same)
}

fn same_output(expected: &str, actual: &str, tolerance: f64) -> bool {
    let lines = |text: &str| -> Vec<String> {
        text.trim_end()
            .lines()
            .map(|l| l.trim_end().to_owned())
            .collect()
    };
    let (expected, actual) = (lines(expected), lines(actual));
    // In a table whose last column is a speed, a row ends where the heading ends.
    let speed_at_end = |i: usize| {
        let width = |line: &String| line.chars().count();
        let heading = |line: &&String| line.ends_with("TOKENS/S");
        let heading = expected[..i].iter().rfind(heading);
        heading.is_some_and(|heading| width(heading) == width(&expected[i]))
    };
    let same = |i: usize, j: usize| same_line(&expected[i], &actual[j], tolerance, speed_at_end(i));
    let omitted = |line: &String| line.trim() == "…";
    matches_with_omissions(&expected, &actual, &omitted, &same)
}

#[test]
fn output_is_compared_by_words_numbers_and_omissions() {
    let page = "a 12 of 3\n…\n  loss 1.2345  30 tokens/s, MFU 20.0 %\nin … now";
    assert!(same_output(
        page,
        "a 12 of 3\nb\nc\n  loss 1.2346  300 tokens/s, MFU 9 %\nin 3 days now\n",
        1e-3
    ));
    assert!(same_output(
        page,
        "a 12 of 3\nloss 1.2345 30 tokens/s, MFU 20.0 %\nin a b now",
        1e-3
    ));
    for wrong in [
        "a 13 of 3\nloss 1.2345 30 tokens/s, MFU 20.0 %\nin now",
        "a 12 of 3\nloss 1.2445 30 tokens/s, MFU 20.0 %\nin now",
        "a 12 of 3\nloss 1.2345 3000 tokens/s, MFU 20.0 %\nin now",
        "a 12 of 3\nlose 1.2345 30 tokens/s, MFU 20.0 %\nin now",
        "a 12 of 3\nloss 1.2345 30 tokens/s, MFU 20.0 %\nin now\nmore",
        "a 12 of 3\nloss 1.2345 30 tokens/s, MFU 20.0 %",
    ] {
        assert!(!same_output(page, wrong, 1e-3), "{wrong}");
    }
    let table = "LOSS  TOKENS/S\n 1.5     44380";
    assert!(same_output(table, "LOSS  TOKENS/S\n 1.5      3659", 1e-3));
    assert!(!same_output(table, "LOSS  TOKENS/S\n 1.8     44380", 1e-3));
    assert!(same_number("4.7e-6", "4.8e-6", 0.0));
    assert!(!same_number("4.7e-6", "4.7e-5", 0.5));
}

/// Runs the commands of pages. Needs bash, and so Unix.
#[cfg(unix)]
mod commands {
    use std::process::{Command, Stdio};

    use super::*;

    /// The working directory of a page's commands.
    struct Bench {
        directory: tempfile::TempDir,
        failures: Vec<String>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                failures: Vec::new(),
            }
        }

        /// Runs commands, and returns the output on both streams and the exit code.
        fn run(&self, script: &str) -> (String, Option<i32>) {
            let script = script
                .replace("cargo run --release -- ", "foretoken ")
                .replace("cargo run --release\n", "foretoken\n");
            let program = Path::new(env!("CARGO_BIN_EXE_foretoken")).parent().unwrap();
            let path = std::env::var_os("PATH").unwrap_or_default();
            let path = std::iter::once(program.to_path_buf()).chain(std::env::split_paths(&path));
            let output = Command::new("bash")
                .args(["-e", "-c", &format!("exec 2>&1\n{script}")])
                .current_dir(self.directory.path())
                .env("PATH", std::env::join_paths(path).unwrap())
                .env("FORETOKEN_CACHE", self.directory.path().join(".cache"))
                .env("COLUMNS", "100")
                .env("LC_ALL", "C.UTF-8")
                .env_remove("RUST_BACKTRACE")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (text, output.status.code())
        }

        /// Runs the blocks of a page in order.
        fn page(&mut self, name: &str, text: &str) {
            let mut output: Option<Option<String>> = None;
            for block in blocks(text) {
                let place = format!("{name}:{}", block.line);
                if let Some(unknown) = block.unknown() {
                    self.failures
                        .push(format!("{place}: unknown attribute {unknown:?}"));
                }
                match block.language.as_str() {
                    "sh" => {
                        if let Some(names) = block.skipped() {
                            eprintln!("{place}: skipped ({names})");
                            output = Some(None);
                            continue;
                        }
                        let (printed, code) = self.run(&block.body);
                        let expected = block.value("exit").map_or(0, |code| code.parse().unwrap());
                        if code != Some(expected) {
                            self.failures.push(format!(
                                "{place}: exit code {code:?}, not {expected}:\n{printed}"
                            ));
                        }
                        output = Some(Some(printed));
                    }
                    "text" if !block.has("layout") => match output.take() {
                        None => self.failures.push(format!(
                            "{place}: this block follows no command; if it is not an output, write `text layout`"
                        )),
                        Some(None) => {}
                        Some(Some(printed)) => self.compare(&place, &block, &printed),
                    },
                    "toml" => {
                        if let Err(error) = block.body.parse::<toml::Table>() {
                            self.failures.push(format!("{place}: {error}"));
                        }
                        if let Some(file) = block.value("file") {
                            fs::write(self.directory.path().join(file), &block.body).unwrap();
                        }
                    }
                    _ => {}
                }
            }
        }

        fn compare(&mut self, place: &str, block: &Block, printed: &str) {
            if block.has("varies") && std::env::var_os("FORETOKEN_GUIDE_EXACT").is_none() {
                return;
            }
            let percent = |text: &str| text.strip_suffix('%').unwrap().parse::<f64>().unwrap();
            let tolerance = block
                .value("tolerance")
                .map_or(TOLERANCE, |text| percent(text) / 100.0);
            if !same_output(&block.body, printed, tolerance) {
                let page = &block.body;
                self.failures.push(format!(
                    "{place}: the page says\n{page}and the commands print\n{printed}"
                ));
            }
        }
    }

    #[test]
    fn commands_print_what_the_pages_say() {
        let mut pages = pages();
        let readme = pages.remove("README.md").unwrap();
        let mut first = Bench::new();
        first.page("README.md", &readme);
        let mut failures = std::mem::take(&mut first.failures);
        for (name, text) in pages {
            let mut bench = Bench::new();
            if text.contains(NEEDS_RUN) {
                let run = first.directory.path().join("runs/world-flex-1");
                let runs = bench.directory.path().join("runs");
                fs::create_dir(&runs).unwrap();
                let copied = Command::new("cp").arg("-R").args([&run, &runs]).status();
                assert!(copied.unwrap().success());
            }
            bench.page(&name, &text);
            failures.append(&mut bench.failures);
        }
        assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    }
}

#[test]
fn every_page_is_in_the_summary_and_begins_with_a_command() {
    let summary = fs::read_to_string(root().join("docs/src/SUMMARY.md")).unwrap();
    for (path, text) in pages() {
        let Some(page) = path.strip_prefix("docs/src/") else {
            assert!(text.lines().count() <= 150, "README.md has over 150 lines");
            continue;
        };
        assert!(
            summary.contains(&format!("({page})")),
            "{page} is not in SUMMARY.md"
        );
        let first = blocks(&text).into_iter().next();
        let language = first.map(|block| block.language).unwrap_or_default();
        assert!(
            ["sh", "toml"].contains(&language.as_str()),
            "{page} does not begin with a command"
        );
    }
}

/// Returns the targets of a text's links and pictures.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

#[test]
fn relative_links_resolve() {
    let mut texts = pages();
    for path in [
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "benches/README.md",
        "fuzz/README.md",
        "docs/src/SUMMARY.md",
    ] {
        let text = fs::read_to_string(root().join(path)).unwrap();
        texts.insert(path.to_owned(), text);
    }
    for (path, text) in texts {
        let folder = root().join(&path).parent().unwrap().to_path_buf();
        for link in links(&text) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                assert!(
                    folder.join(file).exists(),
                    "{path} links {link}, which does not exist"
                );
            }
        }
    }
}

/// Returns the valid keys of a table of an experiment, from its error message; `None` if `assignment` sets no table.
fn known_keys(assignment: &str) -> Option<Vec<String>> {
    let overrides = [assignment.to_owned()];
    let error = Experiment::embedded(&overrides).unwrap_err().to_string();
    let (_, keys) = error.split_once("known keys here: ")?;
    Some(keys.split(", ").map(str::to_owned).collect())
}

/// Collects all keys of an experiment, with those of its tables.
fn keys_under(prefix: &str, keys: &mut Vec<String>) {
    // No key is similar to this one, so the message lists all keys.
    for key in known_keys(&format!("{prefix}zzqqzz=1"))
        .into_iter()
        .flatten()
    {
        let path = format!("{prefix}{key}");
        keys_under(&format!("{path}."), keys);
        keys.push(path);
    }
}

#[test]
fn every_key_of_an_experiment_is_listed_with_its_default() {
    let page = fs::read_to_string(root().join("docs/src/experiment-file.md")).unwrap();
    // Each row has a key and its default.
    let rows: BTreeMap<&str, &str> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.strip_suffix('`')?, cells.next()?))
        })
        .collect();

    let mut keys = Vec::new();
    keys_under("", &mut keys);
    for entry in known_keys("data.mixture=[{zzqqzz=1}]").unwrap() {
        keys.push(format!("data.mixture.{entry}"));
    }
    assert!(
        keys.len() > 60,
        "the message of an unknown key does not list the known ones: {keys:?}"
    );
    let sections: Vec<_> = keys.iter().filter(|key| !key.contains('.')).collect();
    assert!(sections.iter().any(|key| *key == "train"), "{sections:?}");
    for key in &keys {
        let is_section = keys
            .iter()
            .any(|other| other.starts_with(&format!("{key}.")));
        let is_listed = rows.contains_key(key.as_str())
            || is_section && page.contains(&format!("## `[{key}]`"));
        assert!(is_listed, "{key} is not in docs/src/experiment-file.md");
    }
    for key in rows.keys() {
        assert!(
            keys.iter().any(|known| known == key),
            "{key} is listed and does not exist"
        );
    }

    // The resolved shortest experiment has the defaults.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shortest.toml");
    let shortest = blocks(&page).into_iter().next().unwrap().body;
    fs::write(&file, &shortest).unwrap();
    let experiment = Experiment::load(&file, &[]).unwrap();
    let given: toml::Table = shortest.parse().unwrap();
    let resolved: toml::Table = experiment.to_toml().parse().unwrap();
    let mut compared = 0;
    for (section, table) in &resolved {
        let Some(table) = table.as_table() else {
            continue;
        };
        for (key, value) in table {
            if given.get(section).is_some_and(|t| t.get(key).is_some()) {
                continue;
            }
            let default = rows[format!("{section}.{key}").as_str()].trim_matches('`');
            let default: toml::Table = format!("value = {default}").parse().unwrap();
            assert_eq!(&default["value"], value, "default of {section}.{key}");
            compared += 1;
        }
    }
    assert!(compared >= 15, "{compared} defaults were compared");
}
