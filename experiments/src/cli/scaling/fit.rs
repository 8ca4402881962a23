//! The command `foretoken scaling fit`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use foretoken::Error;
use foretoken::science::scaling::{
    Columns, Convention, FitRecord, Fits, Fitted, Floor, Law, Method, Observations, Quantity,
    Settings, THRESHOLD, Variable, hold_out,
};
use foretoken::show::format;
use foretoken::show::format::plural;

use super::super::model::refused;
use super::super::report_args::{ReportArgs, print_and_write};
use super::{LawName, Params, words};

/// Factor below the largest FLOPs from which a run is held out by default.
const HOLD_OUT: &str = "2";

/// Fit a scaling law, with intervals whose coverage is tested
///
/// SOURCE is a CSV file, a run directory, a directory of runs, or the directory of a sweep. A CSV file has a run in each
/// row, with columns of parameters, of tokens or FLOPs, and of the loss; they are found by common names, or named with
/// --columns. Tokens are FLOPs / (6 N) if only FLOPs are given. Rows with the same N, D and C are runs that differ in their
/// seed.
///
/// The fit minimises the sum of Huber losses of log residuals with a threshold of 0.001 (Hoffmann et al. 2022), by
/// variable projection. Intervals of E and of exponents are profiles of the objective, whose height is calibrated on
/// samples drawn from the fitted law; standard errors are those of a bootstrap over runs. A quantity whose interval has no
/// end is called undetermined.
///
/// The table ends with a, the exponent of the model size that is best for a compute budget: N grows as C^a, and tokens as
/// C^(1-a), so that 0.5 grows both alike. The objective is the minimised sum; of two laws on the same runs, the lower one
/// fits better. Noise is the standard deviation of a run from the law, and a power of N, D or C behind it says with which
/// sizes it changes. Conditioning is the largest over the smallest curvature of the fit: 1 is best, and above 1e4 over the
/// exponents the data hardly tell them apart. Approach 2 is off by what it would err without noise, because the law is no
/// parabola in log N.
///
/// All runs of a fit must have the same data. Runs of this program on other data are refused.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken scaling fit runs.csv                                        Chinchilla's law, from any table
  foretoken scaling fit runs.csv --columns params=size,loss=val_nll     columns under other names
  foretoken scaling fit sweeps/ladder --params all                      every way of counting parameters, side by side
  foretoken scaling fit sweeps/ladder --hold-out                        predict the largest runs from the others
  foretoken scaling fit runs.csv --law kaplan,chinchilla --out report   two laws, and a report with figures
  foretoken scaling fit runs.csv --law power --over flops               the loss by compute alone
  foretoken scaling fit chinchilla-figure4.csv --drop-largest 5 --test E=1.69,A=406.4,B=410.7,alpha=0.34,beta=0.28")]
pub(in crate::cli) struct FitArgs {
    /// CSV files, run directories, and directories of runs
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<PathBuf>,
    /// Laws to fit
    #[arg(
        long,
        value_enum,
        value_name = "LAW",
        value_delimiter = ',',
        default_value = "chinchilla"
    )]
    law: Vec<LawName>,
    /// Variable of a power law
    #[arg(long, value_enum, value_name = "VARIABLE", default_value_t = Over::Flops)]
    over: Over,
    /// Parameters that are counted [default: total, or the only count that all runs have]
    #[arg(long, value_enum, value_name = "WHICH")]
    params: Option<Params>,
    /// Columns of CSV files: params, non-embedding, with-head, tokens, flops, loss or seed, as KEY=NAME
    #[arg(long, value_name = "KEY=NAME,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// Leave out the N runs with the largest losses
    #[arg(long, value_name = "N", default_value_t = 0)]
    drop_largest: usize,
    /// Predict the runs with more than the largest FLOPs / FACTOR from the others
    #[arg(long, value_name = "FACTOR", num_args = 0..=1, require_equals = true, default_missing_value = HOLD_OUT)]
    hold_out: Option<f64>,
    /// Entropy of the text in the unit of the losses, to compare E with [default: the least loss of the runs, if it is known]
    #[arg(long, value_name = "NATS")]
    entropy: Option<f64>,
    /// Parameters to test against the data, as E=1.69,A=406.4,…
    #[arg(long, value_name = "NAME=VALUE,…", value_delimiter = ',')]
    test: Vec<String>,
    /// How the minimum is found
    #[arg(long, value_enum, value_name = "METHOD", default_value_t = MethodName::Projection)]
    method: MethodName,
    /// Whether the scale of the residuals is fitted, too
    #[arg(long, value_enum, value_name = "SCALE", default_value_t = Scale::One)]
    scale: Scale,
    /// Threshold of the Huber loss
    #[arg(long, value_name = "DELTA", default_value_t = THRESHOLD)]
    threshold: f64,
    /// Samples drawn from the fitted law, for intervals
    #[arg(long, value_name = "N", default_value_t = 399, value_parser = clap::value_parser!(u32).range(39..=10000))]
    draws: u32,
    /// Samples of the bootstrap over runs, for standard errors
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(39..=10000))]
    bootstrap: u32,
    /// Seed of both
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    report: ReportArgs,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Over {
    /// Parameters N
    Params,
    /// Training tokens D
    Tokens,
    /// Training FLOPs C
    Flops,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// Variable projection: milliseconds
    Projection,
    /// L-BFGS from 4500 starts, as Hoffmann et al. 2022: seconds to minutes
    Classical,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scale {
    /// The threshold is one of log residuals
    One,
    /// The threshold is one of log residuals over their fitted scale, as Besiroglu et al. 2024
    Fitted,
}

pub(super) fn run(args: FitArgs) -> Result<ExitCode, Error> {
    check(&args)?;
    let mut observations = Observations::read(&args.sources, &columns(&args.columns)?)?;
    let directory = args.report.claim("scaling-")?;
    if args.drop_largest >= observations.len() {
        let message = format!(
            "{} leaves none of the {}",
            args.drop_largest,
            plural(observations.len(), "run")
        );
        return Err(refused("--drop-largest", message));
    }
    observations.drop_largest(args.drop_largest);
    let mut fits = Vec::new();
    for convention in conventions(&args, &observations)? {
        for law in &args.law {
            fits.push(fit(&args, &observations, convention, *law)?);
        }
    }
    let fits = Fits {
        sources: observations.sources,
        skipped: observations.skipped,
        dropped: args.drop_largest,
        fits,
    };
    print_and_write(&fits, args.json, words::fits, directory, Fits::write)?;
    Ok(ExitCode::SUCCESS)
}

fn check(args: &FitArgs) -> Result<(), Error> {
    let positive = |value: f64| value.is_finite() && value > 0.0;
    if !positive(args.threshold) {
        return Err(refused(
            "--threshold",
            format!("{} is not a number above 0", args.threshold),
        ));
    }
    if let Some(factor) = args
        .hold_out
        .filter(|factor| !(positive(*factor) && *factor > 1.0))
    {
        return Err(refused(
            "--hold-out",
            format!("{factor} is not a factor above 1"),
        ));
    }
    if let Some(entropy) = args.entropy.filter(|entropy| !positive(*entropy)) {
        return Err(refused(
            "--entropy",
            format!("{entropy} is not a number above 0"),
        ));
    }
    Ok(())
}

/// Returns the counts of parameters to fit.
fn conventions(args: &FitArgs, observations: &Observations) -> Result<Vec<Convention>, Error> {
    let known = observations.conventions();
    match args.params.map(Params::convention) {
        Some(Some(convention)) => Ok(vec![convention]),
        _ if known.is_empty() => {
            let message =
                "no way of counting parameters is known of all runs; fit the sources one by one";
            Err(refused("--params", message))
        }
        Some(None) => Ok(known),
        None => Ok(known.into_iter().take(1).collect()),
    }
}

fn fit(
    args: &FitArgs,
    observations: &Observations,
    convention: Convention,
    law: LawName,
) -> Result<FitRecord, Error> {
    let over = match args.over {
        Over::Params => Variable::Parameters,
        Over::Tokens => Variable::Tokens,
        Over::Flops => Variable::Flops,
    };
    let law = match law {
        LawName::Chinchilla => Law::Chinchilla,
        LawName::Kaplan => Law::Kaplan,
        LawName::Power => Law::Power { over },
        LawName::PurePower => Law::PurePower { over },
    };
    let settings = Settings {
        law,
        convention,
        method: match args.method {
            MethodName::Projection => Method::Projection,
            MethodName::Classical => Method::Classical,
        },
        threshold: args.threshold,
        fits_scale: args.scale == Scale::Fitted,
        draws: args.draws as usize,
        bootstrap: args.bootstrap as usize,
        seed: args.seed,
    };
    let runs = observations.with(convention)?;
    let (kept, held) = match args.hold_out {
        Some(factor) => hold_out(runs, factor)?,
        None => (runs, Vec::new()),
    };
    let mut origin = observations.sources.join(", ");
    if !held.is_empty() {
        origin += &format!(" without {} held out", plural(held.len(), "run"));
    }
    let mut record = FitRecord::fit(&origin, kept, settings)?;
    record.hold_out(&held);
    let given = args.entropy.map(|entropy| (Floor::Text, entropy));
    if let Some((floor, entropy)) = given.or(observations.floor) {
        record.compare_entropy(floor, entropy);
    }
    if !args.test.is_empty() {
        record.test(tested(law, &args.test)?);
    }
    Ok(record)
}

/// Parses the names of columns.
fn columns(assignments: &[String]) -> Result<Columns, Error> {
    let mut columns = Columns::default();
    for assignment in assignments {
        let Some((key, name)) = assignment.split_once('=') else {
            let message = format!("{assignment:?} is not KEY=NAME, such as params=size");
            return Err(refused("--columns", message));
        };
        let column = match key.trim() {
            "params" => &mut columns.params,
            "non-embedding" => &mut columns.non_embedding,
            "with-head" => &mut columns.with_head,
            "tokens" => &mut columns.tokens,
            "flops" => &mut columns.flops,
            "loss" => &mut columns.loss,
            "seed" => &mut columns.seed,
            other => {
                let message = format!(
                    "{other:?} is not a key; the keys are params, non-embedding, with-head, tokens, flops, loss and seed"
                );
                return Err(refused("--columns", message));
            }
        };
        if column.replace(name.to_owned()).is_some() {
            let message = format!("names the column of {} twice; keep one of them", key.trim());
            return Err(refused("--columns", message));
        }
    }
    Ok(columns)
}

/// Parses the parameters of a law.
fn tested(law: Law, assignments: &[String]) -> Result<Fitted, Error> {
    let names = || {
        let names: Vec<String> = law
            .parameters()
            .iter()
            .map(|q| q.column().to_owned())
            .collect();
        format::listed(&names)
    };
    let mut values = vec![None; law.parameters().len()];
    for assignment in assignments {
        let parsed = assignment.split_once('=').and_then(|(name, value)| {
            let value: f64 = value.trim().parse().ok()?;
            let matches = |q: &Quantity| q.column() == name.trim() || q.symbol() == name.trim();
            let index = law.parameters().iter().position(matches)?;
            (value.is_finite() && value > 0.0).then_some((index, value))
        });
        let Some((index, value)) = parsed else {
            let message = format!(
                "{assignment:?} is not NAME=VALUE with a parameter of {} and a number above 0; its parameters are {}",
                law.formula(),
                names()
            );
            return Err(refused("--test", message));
        };
        if values[index].replace(value).is_some() {
            let name = law.parameters()[index].column();
            return Err(refused(
                "--test",
                format!("has {name} twice; keep one of them"),
            ));
        }
    }
    let all: Option<Vec<f64>> = values.into_iter().collect();
    match all {
        Some(all) => Ok(Fitted::new(law, &all)),
        None => Err(refused(
            "--test",
            format!("needs every parameter of {}: {}", law.formula(), names()),
        )),
    }
}
