//! Result of a race, as a table, as JSON and as a file.

use std::fmt;

use foretoken::backend::Backend;
use foretoken::record::environment::Environment;
use foretoken_benches::Shape;
use serde::Serialize;

use crate::peer::Peer;
use crate::protocol::{Peak, Steps};
use crate::statistics::Spread;
use foretoken::show::statistics::median;

/// Result of a race, as printed by `race --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) config: &'static str,
    pub(crate) backend: Backend,
    pub(crate) peer: Peer,
    /// Tokens per second of foretoken divided by those of the peer: median over rounds.
    pub(crate) ratio: f64,
    pub(crate) ratio_min: f64,
    pub(crate) ratio_max: f64,
    /// Median over rounds.
    pub(crate) tokens_per_second: f64,
    pub(crate) peer_tokens_per_second: f64,
    /// Peak of resident memory of the process, including program and libraries; `None` if the system does not report
    /// it.
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) peer_peak_memory_bytes: Option<u64>,
}

/// Content of the file of a race.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// Speed of training steps in 10⁹ floating-point operations per second, by `ModelConfig::flops_per_token`.
    gflops: f64,
    peer_gflops: f64,
    /// Speed of large matrix products of the same competitor.
    matmul_gflops: f64,
    peer_matmul_gflops: f64,
    /// `gflops` divided by `matmul_gflops`.
    share_of_peak: f64,
    peer_share_of_peak: f64,
    peer_version: String,
    threads: usize,
    shape: Shape,
    parameters: usize,
    flops_per_token: f64,
    /// Losses of the first steps in nats per token. Both competitors start from the same weights and read the same
    /// windows.
    losses: Vec<f64>,
    peer_losses: Vec<f64>,
    rounds: Vec<Round>,
    environment: Environment,
}

/// Seconds of each step of both competitors in a round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) seconds: Vec<f64>,
    pub(crate) peer_seconds: Vec<f64>,
}

/// Measurements of a race, from which a report is made.
pub(crate) struct Measurements {
    pub(crate) shape: Shape,
    pub(crate) backend: Backend,
    pub(crate) peer: Peer,
    pub(crate) peer_version: String,
    pub(crate) threads: usize,
    /// Steps of foretoken and of the peer.
    pub(crate) warm_up: [Steps; 2],
    /// Rounds of foretoken and of the peer, the same number of each.
    pub(crate) rounds: [Vec<Steps>; 2],
    pub(crate) peaks: [Peak; 2],
}

impl Report {
    /// Creates the report; `None` if there are no rounds.
    pub(crate) fn new(measurements: Measurements, environment: Environment) -> Option<Self> {
        let Measurements { shape, rounds, .. } = measurements;
        let tokens_per_step = shape.tokens_per_step() as f64;
        let speed = |steps: &Steps| {
            tokens_per_step * steps.seconds.len() as f64 / steps.seconds.iter().sum::<f64>()
        };
        let speeds = rounds
            .each_ref()
            .map(|rounds| rounds.iter().map(speed).collect::<Vec<f64>>());
        let [ours, theirs] = &speeds;
        let ratio =
            Spread::from_numbers(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))?;
        // The peak of a process never decreases, so the last round has the peak of all rounds.
        let [memory, peer_memory] = rounds
            .each_ref()
            .map(|rounds| rounds.last().and_then(|steps| steps.peak_memory_bytes));
        let outcome = Outcome {
            config: shape.name,
            backend: measurements.backend,
            peer: measurements.peer,
            ratio: ratio.median,
            ratio_min: ratio.min,
            ratio_max: ratio.max,
            tokens_per_second: median(ours.iter().copied())?,
            peer_tokens_per_second: median(theirs.iter().copied())?,
            peak_memory_bytes: memory,
            peer_peak_memory_bytes: peer_memory,
        };
        let model = shape.model();
        let flops_per_token = model.flops_per_token();
        let gflops = outcome.tokens_per_second * flops_per_token / 1e9;
        let peer_gflops = outcome.peer_tokens_per_second * flops_per_token / 1e9;
        let [matmul_gflops, peer_matmul_gflops] = measurements.peaks.map(|peak| peak.matmul_gflops);
        let [ours, theirs] = rounds;
        let round = |(ours, theirs): (Steps, Steps)| Round {
            seconds: ours.seconds,
            peer_seconds: theirs.seconds,
        };
        let [losses, peer_losses] = measurements.warm_up.map(|steps| steps.losses);
        Some(Self {
            gflops,
            peer_gflops,
            matmul_gflops,
            peer_matmul_gflops,
            share_of_peak: gflops / matmul_gflops,
            peer_share_of_peak: peer_gflops / peer_matmul_gflops,
            peer_version: measurements.peer_version,
            threads: measurements.threads,
            parameters: model.parameters(),
            flops_per_token,
            losses,
            peer_losses,
            rounds: ours.into_iter().zip(theirs).map(round).collect(),
            shape,
            outcome,
            environment,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = &self.outcome;
        let steps = self.rounds.first().map_or(0, |round| round.seconds.len());
        writeln!(
            f,
            "{} on {} against {} ({}): f32, {} threads, {} rounds of {steps} steps of {} tokens",
            outcome.config,
            outcome.backend,
            self.peer_version,
            outcome.peer,
            self.threads,
            self.rounds.len(),
            self.shape.tokens_per_step(),
        )?;
        writeln!(
            f,
            "  {:<9}  {:>9}  {:>7}  {:>9}  {:>11}",
            "", "tokens/s", "GFLOP/s", "of matmul", "peak memory"
        )?;
        let rows = [
            (
                "foretoken",
                outcome.tokens_per_second,
                self.gflops,
                self.share_of_peak,
                outcome.peak_memory_bytes,
            ),
            (
                "PyTorch",
                outcome.peer_tokens_per_second,
                self.peer_gflops,
                self.peer_share_of_peak,
                outcome.peer_peak_memory_bytes,
            ),
        ];
        for (name, speed, gflops, share, memory) in rows {
            let share = format!("{:.0} %", 100.0 * share);
            let memory = memory.map_or("unknown".into(), |bytes| {
                format!("{:.0} MB", bytes as f64 / 1e6)
            });
            writeln!(
                f,
                "  {name:<9}  {speed:>9.0}  {gflops:>7.1}  {share:>9}  {memory:>11}"
            )?;
        }
        write!(
            f,
            "  foretoken is {:.3} times as fast ({:.3} to {:.3} over the rounds)",
            outcome.ratio, outcome.ratio_min, outcome.ratio_max
        )
    }
}

#[cfg(test)]
mod tests {
    use foretoken_benches::CHAR;

    use super::*;

    fn steps(seconds: &[f64], peak: u64) -> Steps {
        Steps {
            seconds: seconds.to_vec(),
            losses: vec![4.0; seconds.len()],
            peak_memory_bytes: Some(peak),
        }
    }

    fn report(rounds: [Vec<Steps>; 2]) -> Option<Report> {
        let backend = Backend::default_backend();
        let measurements = Measurements {
            shape: CHAR,
            backend,
            peer: Peer::Eager,
            peer_version: "PyTorch 2.9.0".into(),
            threads: 2,
            warm_up: [steps(&[1.0], 1), steps(&[1.0], 1)],
            rounds,
            peaks: [100.0, 200.0].map(|matmul_gflops| Peak { matmul_gflops }),
        };
        Report::new(measurements, Environment::capture(backend))
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine is half as fast in the second round, for both.
        let ours = vec![steps(&[0.2, 0.2], 10), steps(&[0.4, 0.4], 20)];
        let theirs = vec![steps(&[0.1, 0.1], 30), steps(&[0.2, 0.2], 30)];
        let report = report([ours, theirs]).unwrap();
        let outcome = &report.outcome;
        for ratio in [outcome.ratio, outcome.ratio_min, outcome.ratio_max] {
            assert!((ratio - 0.5).abs() < 1e-12, "{ratio}");
        }
        let tokens = (CHAR.batch * CHAR.context) as f64;
        assert!((outcome.tokens_per_second - tokens * (5.0 + 2.5) / 2.0).abs() < 1e-9);
        assert_eq!(outcome.peak_memory_bytes, Some(20));
        let gflops = outcome.tokens_per_second * CHAR.model().flops_per_token() / 1e9;
        assert!((report.gflops - gflops).abs() < 1e-9);
        assert!((report.share_of_peak - gflops / 100.0).abs() < 1e-9);
        assert!((report.peer_share_of_peak - 2.0 * gflops / 200.0).abs() < 1e-9);
    }

    #[test]
    fn race_without_rounds_has_no_report() {
        assert!(report([vec![], vec![]]).is_none());
    }

    #[test]
    fn json_has_the_documented_keys_and_the_file_has_more() {
        let one = || vec![steps(&[0.1], 1)];
        let report = report([one(), one()]).unwrap();
        let keys = |value: serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let documented = [
            "config",
            "backend",
            "peer",
            "ratio",
            "ratio_min",
            "ratio_max",
            "tokens_per_second",
            "peer_tokens_per_second",
            "peak_memory_bytes",
            "peer_peak_memory_bytes",
        ];
        let outcome = keys(serde_json::to_value(&report.outcome).unwrap());
        assert_eq!(outcome, documented);
        let file = keys(serde_json::to_value(&report).unwrap());
        assert_eq!(file[..documented.len()], documented);
        assert!(file.contains(&"environment".to_owned()) && file.contains(&"rounds".to_owned()));
        let table = report.to_string();
        assert!(
            table.contains("1.000 times as fast (1.000 to 1.000 over the rounds)"),
            "{table}"
        );
    }
}
