//! Tables of a sweep for the command line: its plan with costs, and its state.

use std::collections::BTreeSet;

use serde::Serialize;

use super::index::{Entry, State};
use super::speed::Speeds;
use super::view::{self, Curves, counts};
use crate::show::format::{self, plural};

/// Runs of a sweep with what is known about them.
#[derive(Debug)]
pub struct Status<'a> {
    /// The runs.
    pub entries: &'a [Entry],
    /// Estimated times.
    pub speeds: &'a Speeds,
    /// Losses of runs under way.
    pub curves: &'a Curves,
    /// Number of runs side by side.
    pub jobs: usize,
}

/// JSON of a sweep.
#[derive(Debug, Serialize)]
struct Json<'a> {
    runs: Vec<JsonRun<'a>>,
    /// Floating-point operations of all runs, of which some are shared.
    flops: f64,
    /// Operations that ladders save.
    flops_saved: f64,
    jobs: usize,
    /// Seconds until all runs have ended; null if unknown.
    seconds_left: Option<f64>,
}

#[derive(Debug, Serialize)]
struct JsonRun<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    /// Seconds of its own steps; null if unknown.
    seconds: Option<f64>,
}

impl Status<'_> {
    /// Returns one JSON object.
    ///
    /// # Errors
    ///
    /// Returns the error of the JSON writer.
    pub fn json(&self) -> Result<String, crate::Error> {
        let runs = self.entries.iter().map(|entry| JsonRun {
            entry,
            seconds: self.speeds.seconds(&entry.name),
        });
        Ok(serde_json::to_string(&Json {
            runs: runs.collect(),
            flops: self.flops(),
            flops_saved: self.flops_saved(),
            jobs: self.jobs,
            seconds_left: self.seconds_left(),
        })?)
    }

    fn flops(&self) -> f64 {
        let costs = self.entries.iter().filter_map(|entry| entry.cost);
        costs.map(|cost| cost.flops).sum()
    }

    fn flops_saved(&self) -> f64 {
        self.flops() - self.entries.iter().map(Entry::own_flops).sum::<f64>()
    }

    fn seconds_left(&self) -> Option<f64> {
        view::seconds_left(self.entries, self.curves, self.speeds, self.jobs)
    }

    /// Returns the table of the plan: what each run costs, and what they cost together. If any run has begun, it has
    /// their states, and the time that is left.
    pub fn plan_table(&self) -> String {
        let has_ladders = self.entries.iter().any(|entry| entry.shared.is_some());
        let has_begun = self.has_begun();
        let mut header = vec!["RUN"];
        if has_begun {
            header.push("STATE");
        }
        header.push("STEPS");
        if has_ladders {
            header.push("OWN");
        }
        header.extend(["PARAMS", "TOKENS"]);
        let has_padding = self.has_padding();
        if has_padding {
            header.push("POSITIONS");
        }
        header.extend(["FLOP", "MEMORY", "TIME"]);
        let rows = self.entries.iter().map(|entry| {
            let Some(cost) = entry.cost else {
                return vec![entry.name.clone(), "refused".into()];
            };
            let mut row = vec![entry.name.clone()];
            if has_begun {
                row.push(entry.state.name().into());
            }
            row.push(cost.steps.to_string());
            if has_ladders {
                let shared = entry.shared.as_ref().map_or(0, |shared| shared.step);
                row.push(cost.steps.saturating_sub(shared).to_string());
            }
            row.extend([short(cost.parameters as f64), short(cost.tokens as f64)]);
            if has_padding {
                row.push(short(cost.positions as f64));
            }
            row.extend([
                format!("{:.1e}", cost.flops),
                format::plain(format::bytes(cost.memory_bytes)),
                self.speeds.seconds(&entry.name).map_or("-".into(), time),
            ]);
            row
        });
        let mut text = table(&header, rows.collect());
        for entry in self.entries {
            if let Some(reason) = &entry.reason {
                text += &format!("{}: {}: {reason}\n", entry.name, entry.state.name());
            }
        }
        text + "\n" + &self.totals()
    }

    /// Whether any run computes positions whose targets do not count.
    fn has_padding(&self) -> bool {
        let mut costs = self.entries.iter().filter_map(|entry| entry.cost);
        costs.any(|cost| cost.positions > cost.tokens)
    }

    /// Whether any run has begun: all others are waiting, or refused by the plan.
    fn has_begun(&self) -> bool {
        let has_begun = |entry: &Entry| entry.cost.is_some() && entry.state != State::Waiting;
        self.entries.iter().any(has_begun)
    }

    /// Returns what the runs cost together, in lines.
    fn totals(&self) -> String {
        let own = self.flops() - self.flops_saved();
        let refused = self.entries.iter().filter(|entry| entry.cost.is_none());
        let mut text = format!(
            "{}{}, {own:.2e} floating-point operations",
            plural(self.entries.len(), "run"),
            match refused.count() {
                0 => String::new(),
                refused => format!(", {refused} of them refused"),
            }
        );
        let has_begun = self.has_begun();
        if has_begun {
            text += &format!("\n{}", counts(self.entries));
        }
        text += &match self.seconds_left() {
            Some(0.0) => "\n".into(),
            Some(seconds) => format!(
                "; about {} {}with {}\n",
                time(seconds),
                if has_begun { "left " } else { "" },
                plural(self.jobs, "job")
            ),
            None => "; time unknown, because a step could not be measured here\n".into(),
        };
        if self.has_padding() {
            text +=
                "POSITIONS are computed, also padding; TOKENS and FLOP are of targets that count\n";
        }
        let branches: Vec<&Entry> = self.entries.iter().filter(|e| e.shared.is_some()).collect();
        if !branches.is_empty() {
            let shared = branches.iter().filter_map(|entry| entry.shared.as_ref());
            let trunks: BTreeSet<&str> = shared.map(|shared| shared.trunk.as_str()).collect();
            text += &format!(
                "{} from {}, which saves {:.0} % of the operations, about {}\n",
                match branches.len() {
                    1 => "1 run branches".into(),
                    count => format!("{count} runs branch"),
                },
                plural(trunks.len(), "trunk"),
                100.0 * self.flops_saved() / self.flops(),
                time(self.speeds.saved(self.jobs)),
            );
        }
        text
    }

    /// Returns the steps that a run takes, and before them those that it has taken, if it is under way.
    fn steps(&self, entry: &Entry) -> String {
        match (entry.cost, self.curves.of(&entry.name)) {
            (None, _) => "-".into(),
            (Some(cost), Some(curve)) if !entry.state.has_ended() => {
                format!("{}/{}", curve.step, cost.steps)
            }
            (Some(cost), _) => cost.steps.to_string(),
        }
    }

    /// Returns the table of the states, and what is left to do.
    pub fn state_table(&self) -> String {
        let rows = self.entries.iter().map(|entry| {
            let result = entry.result.as_ref();
            let of = |value: Option<f64>| value.map_or("-".into(), format::short_loss);
            vec![
                entry.name.clone(),
                entry.state.name().into(),
                self.steps(entry),
                entry
                    .cost
                    .map_or("-".into(), |cost| short(cost.parameters as f64)),
                entry
                    .cost
                    .map_or("-".into(), |cost| format!("{:.1e}", cost.flops)),
                of(result.map(|result| result.valid_loss)),
                of(result.map(|result| result.bits_per_byte)),
            ]
        });
        let header = [
            "RUN",
            "STATE",
            "STEPS",
            "PARAMS",
            "FLOP",
            "LOSS",
            "BITS/BYTE",
        ];
        let mut text = table(&header, rows.collect());
        for entry in self.entries {
            if let Some(reason) = &entry.reason {
                text += &format!("{}: {}: {reason}\n", entry.name, entry.state.name());
            }
        }
        text += &format!("\n{}", counts(self.entries));
        match self.seconds_left() {
            Some(seconds) if seconds > 0.0 => {
                text += &format!(
                    "; about {} left with {}",
                    time(seconds),
                    plural(self.jobs, "job")
                );
            }
            _ => {}
        }
        text + "\n"
    }
}

/// Writes a count for a column: `112.6k`.
fn short(count: f64) -> String {
    match count {
        count if count < 1000.0 => format!("{count:.0}"),
        count if count < 999_950.0 => format!("{:.1}k", count / 1e3),
        count if count < 999_950_000.0 => format!("{:.1}M", count / 1e6),
        count => format!("{:.1}G", count / 1e9),
    }
}

fn time(seconds: f64) -> String {
    match seconds < 10.0 {
        true => format!("{seconds:.1}s"),
        false => view::duration(seconds),
    }
}

/// Aligns rows below a header: the first two columns of text to the left, numbers to the right.
fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&header).chain(&rows).collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            match column == 0 || header[column] == "STATE" {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text += line.trim_end();
        text.push('\n');
    }
    text
}
