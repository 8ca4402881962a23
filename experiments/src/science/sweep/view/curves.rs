//! Losses of runs, read from their metrics logs while they are written.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use foretoken_datasets::files;

use crate::record::run::{MetricsLog, Record};
use crate::science::sweep::directory::SweepDirectory;
use crate::science::sweep::index::{Entry, State};

/// Means that a curve has at most.
const BUCKETS: usize = 128;

/// Most logs of ended runs that are read at once.
const MAX_READ: usize = 16;

/// Steps from which the speed of a run is known.
const MIN_STEPS: usize = 5;

/// Heights of a sparkline.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Losses of the runs of a sweep.
#[derive(Debug, Default)]
pub struct Curves {
    curves: HashMap<String, Curve>,
}

/// Training losses of a run, as means over equal parts of its steps.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    /// Bytes of the log that were read.
    read: u64,
    /// Steps taken.
    pub step: usize,
    /// The last loss, in nats per token.
    pub loss: Option<f64>,
    /// Seconds and number of the steps that were read.
    timed: (f64, usize),
    sums: Vec<(f64, usize)>,
    is_complete: bool,
}

impl Curves {
    /// Reads what was written since the last call. A damaged line is skipped; the process of its run reports it.
    pub(in crate::science::sweep) fn read(&mut self, sweep: &SweepDirectory, entries: &[Entry]) {
        let mut ended = 0;
        for entry in entries {
            let Some(cost) = entry.cost else { continue };
            if entry.state == State::Waiting {
                continue;
            }
            let curve = self.curves.entry(entry.name.clone()).or_default();
            let is_moving = entry.state == State::Running;
            if !is_moving && (curve.is_complete || ended == MAX_READ) {
                continue;
            }
            ended += usize::from(!is_moving);
            curve.is_complete = !is_moving;
            curve.follow(&sweep.run(&entry.name).join(MetricsLog::FILE), cost.steps);
        }
    }

    /// Returns the losses of the runs that have begun and not ended.
    pub fn of_sweep(sweep: &SweepDirectory, entries: &[Entry]) -> Self {
        let begun = [State::Running, State::Stopped];
        let begun = entries.iter().filter(|entry| begun.contains(&entry.state));
        let mut curves = Self::default();
        for entry in begun {
            curves.read(sweep, std::slice::from_ref(entry));
        }
        curves
    }

    /// Returns the curve of a run.
    pub fn of(&self, run: &str) -> Option<&Curve> {
        self.curves.get(run)
    }
}

impl Curve {
    /// Reads the lines that a log has more.
    fn follow(&mut self, log: &std::path::Path, steps: usize) {
        let mut bytes = Vec::new();
        let read = files::open_regular(log).and_then(|mut file| {
            // A resumed run drops the steps after its last checkpoint.
            if file.metadata()?.len() < self.read {
                *self = Self::default();
            }
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() {
            return;
        }
        let complete = bytes.iter().rposition(|byte| *byte == b'\n');
        let complete = complete.map_or(0, |last| last + 1);
        self.read += complete as u64;
        for line in bytes[..complete].split(|byte| *byte == b'\n') {
            if let Ok(Record::Step {
                step,
                loss,
                seconds,
                ..
            }) = serde_json::from_slice(line)
            {
                self.step(step, loss, seconds, steps);
            }
        }
    }

    fn step(&mut self, step: usize, loss: f64, seconds: f64, steps: usize) {
        self.sums.resize(BUCKETS, (0.0, 0));
        let bucket = step.saturating_mul(BUCKETS) / steps.max(1);
        let (sum, count) = &mut self.sums[bucket.min(BUCKETS - 1)];
        *sum += loss;
        *count += 1;
        self.step = step + 1;
        self.loss = Some(loss);
        self.timed = (self.timed.0 + seconds, self.timed.1 + 1);
    }

    /// Returns the seconds of the steps that are left; `None` if the speed is not known yet.
    pub(super) fn seconds_left(&self, steps: usize) -> Option<f64> {
        let (seconds, counted) = self.timed;
        let left = steps.saturating_sub(self.step) as f64;
        (counted >= MIN_STEPS).then(|| left * seconds / counted as f64)
    }

    /// Draws the losses on a logarithmic scale in `width` characters, of which the steps that are left are spaces.
    pub fn sparkline(&self, width: usize) -> String {
        let mean = |cell: usize| -> Option<f64> {
            let [from, to] = [cell, cell + 1].map(|cell| cell * BUCKETS / width);
            let part = self.sums.get(from..to.max(from + 1))?;
            let (sum, count) = part
                .iter()
                .fold((0.0, 0), |(sum, count), of| (sum + of.0, count + of.1));
            (count > 0).then(|| (sum / count as f64).max(1e-9).ln())
        };
        let cells: Vec<Option<f64>> = (0..width).map(mean).collect();
        let known = || cells.iter().flatten().copied().filter(|x| x.is_finite());
        let (least, most) = (
            known().fold(f64::INFINITY, f64::min),
            known().fold(f64::NEG_INFINITY, f64::max),
        );
        let bar = |height: &Option<f64>| match height {
            None => ' ',
            Some(x) if !x.is_finite() => '×',
            Some(x) => {
                let share = (x - least) / (most - least).max(1e-12);
                BARS[((share * BARS.len() as f64) as usize).min(BARS.len() - 1)]
            }
        };
        cells.iter().map(bar).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_falls_with_the_loss_and_leaves_room_for_later_steps() {
        let mut curve = Curve::default();
        for step in 0..50 {
            curve.step(step, 8.0 * 0.9_f64.powi(step as i32), 0.1, 100);
        }
        assert_eq!(curve.sparkline(16), "█▇▆▅▄▃▂▁        ");
        assert_eq!(curve.seconds_left(100).map(f64::round), Some(5.0));
        assert_eq!(Curve::default().sparkline(3), "   ");
    }

    #[test]
    fn a_log_is_followed_and_read_again_once_it_is_shorter() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("metrics.jsonl");
        let line = |step: usize| {
            format!(
                "{{\"kind\":\"step\",\"step\":{step},\"tokens\":1,\"loss\":{step}.5,\"gradient_norm\":1,\
                 \"learning_rate\":1,\"seconds\":1}}\n"
            )
        };
        let mut curve = Curve::default();
        curve.follow(&log, 10);
        assert_eq!(curve.step, 0);
        std::fs::write(&log, line(0) + &line(1) + "{\"kind").unwrap();
        curve.follow(&log, 10);
        assert_eq!((curve.step, curve.loss), (2, Some(1.5)));
        std::fs::write(&log, line(0) + &line(1) + &line(2)).unwrap();
        curve.follow(&log, 10);
        assert_eq!(curve.step, 3);
        std::fs::write(&log, line(0)).unwrap();
        curve.follow(&log, 10);
        assert_eq!(curve.step, 1);
    }
}
