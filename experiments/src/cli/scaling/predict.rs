//! The command `foretoken scaling predict`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foretoken::Error;
use foretoken::science::scaling::{Fits, LossPrediction, OptimumPrediction, Predictor};
use foretoken::show::{format, output};
use serde::Serialize;

use super::super::model::refused;
use super::{Params, words};

/// Predict the loss of a run, or the compute-optimal model of a budget
///
/// FIT is the directory or the fit.json that `foretoken scaling fit --out` writes. Intervals contain what they are about
/// with 95 % probability if the law holds. The data say nothing about whether it holds far beyond them, so that numbers
/// more than ten times larger than all in the data are labelled.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken scaling predict report --params 1e9 --tokens 2e10
  foretoken scaling predict report --flops 1e21
  foretoken scaling predict report --flops 1e21 --params 1e9     the loss of that size with that budget
  foretoken scaling predict report --flops 1e21 --json | jq .optimum.parameters")]
pub(in crate::cli) struct PredictArgs {
    /// Directory or fit.json of a fit
    fit: PathBuf,
    /// Parameters N of the model
    #[arg(long, value_name = "N")]
    params: Option<f64>,
    /// Training tokens D
    #[arg(long, value_name = "D")]
    tokens: Option<f64>,
    /// Training FLOPs C, of which 6 N D
    #[arg(long, value_name = "C")]
    flops: Option<f64>,
    /// Which fit, if there are several counts of parameters
    #[arg(long, value_enum, value_name = "WHICH")]
    count: Option<Params>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
pub(super) struct Report {
    pub(super) formula: String,
    /// The counted parameters.
    pub(super) params: &'static str,
    /// Loss of the given size.
    pub(super) loss: Option<LossPrediction>,
    /// Compute-optimal size of the given budget.
    pub(super) optimum: Option<OptimumPrediction>,
}

pub(super) fn run(args: PredictArgs) -> Result<ExitCode, Error> {
    for (name, value) in [
        ("--params", args.params),
        ("--tokens", args.tokens),
        ("--flops", args.flops),
    ] {
        if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
            return Err(refused(name, format!("{value} is not a number above 0")));
        }
    }
    let fits = Fits::read(&args.fit)?;
    let record = fits.choose(args.count.and_then(Params::convention))?;
    let predictor = Predictor::new(record);
    let size = match (args.params, args.tokens, args.flops) {
        (Some(parameters), Some(tokens), None) => {
            Some([parameters, tokens, 6.0 * parameters * tokens])
        }
        (Some(parameters), None, Some(flops)) => {
            Some([parameters, flops / (6.0 * parameters), flops])
        }
        (None, Some(tokens), Some(flops)) => Some([flops / (6.0 * tokens), tokens, flops]),
        (None, None, Some(_)) => None,
        (Some(_), Some(_), Some(_)) => {
            return Err(refused(
                "--flops",
                "is 6 N D; give two of --params, --tokens and --flops",
            ));
        }
        _ => {
            return Err(refused(
                "--params",
                "give --params and --tokens, or --flops",
            ));
        }
    };
    let optimum = match (size, args.flops) {
        (None, Some(flops)) => match predictor.optimum(flops) {
            Some(optimum) => Some(optimum),
            None => {
                let message = format!(
                    "{} has no division between parameters and tokens; give --params, too",
                    record.formula
                );
                return Err(refused("--flops", message));
            }
        },
        _ => None,
    };
    let report = Report {
        formula: record.formula.clone(),
        params: record.settings.convention.name(),
        loss: size.map(|[parameters, tokens, flops]| predictor.loss(parameters, tokens, flops)),
        optimum,
    };
    output::write(&match args.json {
        true => serde_json::to_string(&report)? + "\n",
        false => format::plain(words::prediction(&report)),
    });
    Ok(ExitCode::SUCCESS)
}
