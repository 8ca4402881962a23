//! The command `foretoken backends`.

use std::process::ExitCode;

use clap::Args;
use foretoken::backend::{Backend, Probe, measured_peak};
use foretoken::{Error, outln};
use serde::Serialize;

/// List backends: which are compiled in, and which work on this machine
#[derive(Args)]
pub(super) struct BackendsArgs {
    /// Measure the speed of f32 matrix products on each usable device, about a second per device, and keep it as the
    /// peak that later runs are compared with
    #[arg(long)]
    measure: bool,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    compiled_in: bool,
    feature: &'static str,
    usable: bool,
    reason: Option<String>,
    device: Option<String>,
    driver: Option<String>,
    dtypes: Vec<String>,
    matmul_gflops: Option<f64>,
}

impl Row {
    fn new(probe: Probe, measure: bool) -> Self {
        let mut reason = probe.usable.clone().err().filter(|_| probe.compiled_in);
        let matmul_gflops = match measure && probe.usable.is_ok() {
            true => measured_peak(probe.backend)
                .inspect_err(|error| reason = Some(error.to_string()))
                .ok(),
            false => None,
        };
        Self {
            name: probe.backend.name(),
            compiled_in: probe.compiled_in,
            feature: probe.feature,
            usable: probe.usable.is_ok(),
            reason,
            device: probe.device_name,
            driver: probe.driver,
            dtypes: probe.dtypes,
            matmul_gflops,
        }
    }

    fn cells(&self) -> [String; 5] {
        let compiled_in = match self.compiled_in {
            true => "yes".into(),
            false => format!("no: --features {}", self.feature),
        };
        let works = match (self.compiled_in, self.usable) {
            (false, _) => "-",
            (true, true) => "yes",
            (true, false) => "no",
        };
        let speed = self
            .matmul_gflops
            .map_or("-".into(), |gflops| format!("{gflops:.0}"));
        let device = [self.device.clone(), self.driver.clone()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ");
        let what = match &self.reason {
            Some(reason) => reason.clone(),
            None if device.is_empty() => "-".into(),
            None => device,
        };
        [self.name.into(), compiled_in, works.into(), speed, what]
    }
}

pub(super) fn run(args: BackendsArgs) -> Result<ExitCode, Error> {
    let rows: Vec<Row> = Backend::ALL
        .into_iter()
        .map(|backend| Row::new(backend.probe(), args.measure))
        .collect();
    if args.json {
        let json = serde_json::to_string_pretty(&rows)?;
        outln!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["BACKEND", "COMPILED IN", "USABLE", "GFLOP/S", "DEVICE"].map(String::from);
    let table: Vec<[String; 5]> = std::iter::once(header)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let widths: [usize; 5] = std::array::from_fn(|column| {
        table
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    for row in &table {
        let line: String = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        outln!("{}", line.trim_end());
    }
    outln!("\nElement types:");
    for row in rows.iter().filter(|row| row.usable) {
        outln!(
            "  {:<width$}  {}",
            row.name,
            row.dtypes.join(" "),
            width = widths[0]
        );
    }
    if !args.measure {
        outln!("\nGFLOP/s of f32 matrix products: add --measure.");
    }
    Ok(ExitCode::SUCCESS)
}
