//! The command `foretoken scaling predict`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use foretoken::Error;
use foretoken::science::scaling::{Fits, Predictor};
use foretoken::show::{format, output};

use super::super::model::refused;
use super::prediction_words::{self, Report};
use super::{LawName, Params};

/// Predict the loss of a run, or the compute-optimal model of a budget
///
/// FIT is the directory or the fit.json that `foretoken scaling fit --out` writes. Intervals contain what they are about
/// with 95 % probability if the law holds. The data say nothing about whether it holds far beyond them, so that numbers
/// more than ten times larger than all in the data are labelled.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken scaling predict report --params 70B --tokens 1.4T
  foretoken scaling predict report --flops 1e21
  foretoken scaling predict report --flops 1e21 --params 1e9     the loss of that size with that budget
  foretoken scaling predict report --flops 1e21 --json | jq .optimum.parameters")]
pub(in crate::cli) struct PredictArgs {
    /// Directory or fit.json of a fit
    fit: PathBuf,
    /// Parameters N of the model, such as 1e9 or 70B
    #[arg(long, value_name = "N")]
    params: Option<Amount>,
    /// Training tokens D, such as 2e10 or 1.4T
    #[arg(long, value_name = "D")]
    tokens: Option<Amount>,
    /// Training FLOPs C, of which 6 N D
    #[arg(long, value_name = "C")]
    flops: Option<Amount>,
    /// Law of the fit, if there are several [default: that with the lowest objective]
    #[arg(long, value_enum, value_name = "LAW")]
    law: Option<LawName>,
    /// Count of parameters of the fit, if there are several [default: that with the lowest objective]
    #[arg(long, value_enum, value_name = "WHICH")]
    count: Option<Params>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// A number, or one with the suffix K, M, B or T for a power of 1000.
#[derive(Clone, Copy)]
struct Amount(f64);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SUFFIXES: [(char, f64); 4] = [('K', 1e3), ('M', 1e6), ('B', 1e9), ('T', 1e12)];
        let suffix = SUFFIXES.iter().find_map(|(letter, factor)| {
            let digits = text.strip_suffix([*letter, letter.to_ascii_lowercase()])?;
            Some((digits, *factor))
        });
        let (digits, factor) = suffix.unwrap_or((text, 1.0));
        digits
            .parse::<f64>()
            .map(|number| number * factor)
            .ok()
            .filter(|number| number.is_finite() && *number > 0.0)
            .map(Self)
            .ok_or_else(|| "give a number above 0, such as 7e10, 70B or 1.4T (K, M, B and T are powers of 1000)".into())
    }
}

pub(super) fn run(args: PredictArgs) -> Result<ExitCode, Error> {
    let fits = Fits::read(&args.fit)?;
    let is_wanted = |law| args.law.is_none_or(|name| name.is(law));
    let record = fits.choose(is_wanted, args.count.and_then(Params::convention))?;
    let predictor = Predictor::new(record);
    let [params, tokens, flops] =
        [args.params, args.tokens, args.flops].map(|value| value.map(|Amount(value)| value));
    let size = match (params, tokens, flops) {
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
    let positive = |value: f64| value.is_normal() && value > 0.0;
    if size.is_some_and(|size| !size.into_iter().all(positive)) {
        return Err(refused(
            if flops.is_some() {
                "--flops"
            } else {
                "--params"
            },
            "parameters, tokens and their 6 N D FLOPs must all be numbers above 0 and below 1.8e308",
        ));
    }
    let optimum = match (size, flops) {
        (None, Some(flops)) => match predictor.optimum(flops) {
            Some(optimum) => Some(optimum),
            None => {
                let message = format!(
                    "{} has no division between parameters and tokens; give --params, too, or another --law",
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
        counted: record.settings.convention.words(),
        chosen_of: match (args.law, args.count) {
            (None, None) => fits.fits.len(),
            _ => 1,
        },
        undetermined: record.undetermined(),
        exact: record.is_exact(),
        loss: size.map(|[parameters, tokens, flops]| predictor.loss(parameters, tokens, flops)),
        optimum,
    };
    output::write(&match args.json {
        true => serde_json::to_string(&report)? + "\n",
        false => format::plain(prediction_words::prediction(&report)),
    });
    Ok(ExitCode::SUCCESS)
}
