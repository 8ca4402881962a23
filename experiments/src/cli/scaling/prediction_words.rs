//! Result of `foretoken scaling predict`, as JSON and as text.

use foretoken::science::scaling::{LossPrediction, OptimumPrediction, Prediction, Quantity};
use foretoken::show::format::{listed, plural, significant};
use serde::Serialize;

/// A prediction with its law.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) formula: String,
    /// The counted parameters.
    pub(super) params: &'static str,
    /// The counted parameters, in words.
    #[serde(skip)]
    pub(super) counted: &'static str,
    /// Number of fits of which this is the one with the lowest objective.
    #[serde(skip)]
    pub(super) chosen_of: usize,
    /// Quantities of the law that the data do not determine.
    pub(super) undetermined: Vec<Quantity>,
    /// Whether the losses follow the law without noise, so that intervals mean nothing.
    pub(super) exact: bool,
    /// Loss of the given size.
    pub(super) loss: Option<LossPrediction>,
    /// Compute-optimal size of the given budget.
    pub(super) optimum: Option<OptimumPrediction>,
}

/// Returns the text about a prediction.
pub(super) fn prediction(report: &Report) -> String {
    let mut text = format!("{}; N counts {}\n", report.formula, report.counted);
    if report.chosen_of > 1 {
        text += &format!(
            "  of {} in the file, the one with the lowest objective; --law and --count choose another\n",
            plural(report.chosen_of, "fit")
        );
    }
    if !report.undetermined.is_empty() {
        text += &format!(
            "  the data do not determine {} of the law, so do not rely on this prediction far from the data\n",
            symbols(&report.undetermined)
        );
    }
    if report.exact {
        text += "  the fitted losses follow the law exactly, so that intervals mean nothing\n";
    }
    if let Some(optimum) = &report.optimum {
        text += &format!(
            "compute-optimal for C = {} FLOPs\n",
            significant(optimum.flops, 3)
        );
        text += &format!(
            "  parameters          {}\n",
            with_interval(&optimum.parameters)
        );
        text += &format!("  tokens              {}\n", with_interval(&optimum.tokens));
        text += &format!("  tokens/parameter    {}\n", with_interval(&optimum.ratio));
        text += &loss(&optimum.loss);
    }
    if let Some(prediction) = &report.loss {
        text += &format!(
            "N = {}, D = {}, C = {} FLOPs\n",
            significant(prediction.parameters, 3),
            significant(prediction.tokens, 3),
            significant(prediction.flops, 3)
        );
        text += &loss(prediction);
    }
    text
}

fn symbols(quantities: &[Quantity]) -> String {
    let names: Vec<String> = quantities.iter().map(|q| q.symbol().into()).collect();
    listed(&names)
}

fn loss(prediction: &LossPrediction) -> String {
    let run = Prediction {
        value: prediction.loss.value,
        interval: prediction.run_interval,
    };
    let mut text = format!(
        "  mean loss           {}\n  loss of one run     {}\n",
        with_interval(&prediction.loss),
        with_interval(&run)
    );
    for (what, factor) in &prediction.extrapolation {
        text += &format!(
            "  extrapolation: {} times {what}\n",
            significant(*factor, 2)
        );
    }
    text
}

fn with_interval(prediction: &Prediction) -> String {
    let end = |end: Option<f64>| end.map_or("not determined".into(), |end| significant(end, 4));
    let [low, high] = prediction.interval;
    format!(
        "{} ({} to {})",
        significant(prediction.value, 4),
        end(low),
        end(high)
    )
}

/// Returns what of a prediction lies far beyond the data.
pub(super) fn far(prediction: &LossPrediction) -> String {
    let far = prediction.extrapolation.iter();
    far.map(|(what, factor)| format!("  extrapolation: {} times {what}", significant(*factor, 2)))
        .collect()
}
