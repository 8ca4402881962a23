//! Figures of the report of probes.

use super::means::Measure;
use super::prediction::Prediction;
use super::record::{CheckpointProbes, FamilyScores, ProbeRecord};
use crate::report::{Figure, Plot, PlotAxis, PointMark, Scatter, Series, Width, run_class};
use foretoken_datasets::world::Family;

/// Points of a curve.
const POINTS: usize = 80;

/// Measures with values from 0 on that share an axis.
const SHARES: [Measure; 4] = [
    Measure::ExactMatch,
    Measure::Accuracy,
    Measure::PRight,
    Measure::Brier,
];

/// Horizontal axes: what checkpoints are ordered by.
const AXES: [(&str, PlotAxis, &str); 2] = [
    (
        "step",
        PlotAxis {
            name: "step",
            log: true,
        },
        "over steps",
    ),
    (
        "loss",
        PlotAxis {
            name: "validation loss, nats per token",
            log: true,
        },
        "over the validation loss, which falls from right to left",
    ),
];

fn at(checkpoint: &CheckpointProbes, axis: &str) -> f64 {
    match axis {
        "step" => checkpoint.step as f64,
        _ => checkpoint.valid_loss,
    }
}

fn line(name: impl Into<String>, colour: usize, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.into(),
        mark: PointMark::Line,
        class: run_class(colour),
        points,
    }
}

/// Returns the figures of a family over its checkpoints: measures by all-or-nothing beside smooth ones, over steps and over
/// the loss, and accuracy by bits per byte.
pub(super) fn of_family(record: &ProbeRecord, family: Family) -> Vec<Figure> {
    let results: Vec<(&CheckpointProbes, &FamilyScores)> = record.of_family(family).collect();
    if results.len() < 2 {
        return Vec::new();
    }
    let mut figures = Vec::new();
    for (axis, x, words) in AXES {
        let curve = |measure: Measure| -> Vec<(f64, f64)> {
            results
                .iter()
                .map(|(checkpoint, scores)| (at(checkpoint, axis), scores.means.get(measure).value))
                .collect()
        };
        let intervals = |measure: Measure| -> Vec<(f64, f64)> {
            let ends = results.iter().filter_map(|(checkpoint, scores)| {
                let [low, high] = scores.means.get(measure).interval?;
                let x = at(checkpoint, axis);
                Some([(x, low), (x, high)])
            });
            ends.flatten().collect()
        };
        let mut series: Vec<Series> = SHARES
            .iter()
            .enumerate()
            .map(|(colour, measure)| line(measure.words(), colour, curve(*measure)))
            .collect();
        series.push(Series {
            mark: PointMark::Bars,
            ..line(
                "95 % interval of exact match",
                0,
                intervals(Measure::ExactMatch),
            )
        });
        figures.push(figure(
            format!("{family}-shares-by-{axis}"),
            format!("Exact match and accuracy, p(right) and Brier score of {family} {words}."),
            [x, linear("mean over items")],
            series,
        ));
        let likelihoods = [Measure::LogLikelihood, Measure::WrongLogLikelihood];
        let mut series: Vec<Series> = likelihoods
            .iter()
            .enumerate()
            .map(|(colour, measure)| line(measure.words(), colour, curve(*measure)))
            .collect();
        series.push(Series {
            mark: PointMark::Bars,
            ..line("95 % interval", 0, intervals(Measure::LogLikelihood))
        });
        figures.push(figure(
            format!("{family}-likelihood-by-{axis}"),
            format!(
                "Log-likelihood of the right answer and of the best wrong one of {family} {words}."
            ),
            [x, linear("nats")],
            series,
        ));
    }
    figures.push(by_bits(record, family, &results));
    figures
}

/// Draws accuracy by bits per byte, with the curve and the held-out checkpoints that it predicts.
fn by_bits(
    record: &ProbeRecord,
    family: Family,
    results: &[(&CheckpointProbes, &FamilyScores)],
) -> Figure {
    let point = |(_, scores): &(&CheckpointProbes, &FamilyScores)| {
        let of = |measure| scores.means.get(measure).value;
        (of(Measure::BitsPerByte), of(Measure::Accuracy))
    };
    let points: Vec<(f64, f64)> = results.iter().map(point).collect();
    let emergence = record.emergence.iter();
    let prediction = emergence
        .filter(|emergence| emergence.family == family)
        .map(|emergence| &emergence.prediction)
        .next();
    let dots = |name: &str, colour, points: &[(f64, f64)]| Series {
        mark: PointMark::Dots,
        ..line(name, colour, points.to_vec())
    };
    let mut series = Vec::new();
    match prediction {
        Some(Prediction::Predicted { law, fitted, .. }) => {
            let all = points.iter().map(|point| point.0);
            let low = all.clone().fold(f64::INFINITY, f64::min);
            let high = all.fold(f64::NEG_INFINITY, f64::max);
            let curve = (0..POINTS).map(|index| {
                let x = low + (high - low) * index as f64 / (POINTS - 1) as f64;
                (x, law.accuracy(x))
            });
            series.push(line("fitted curve", 2, curve.collect()));
            series.push(dots("fitted checkpoints", 0, &points[..*fitted]));
            series.push(dots("held-out checkpoints", 1, &points[*fitted..]));
        }
        _ => series.push(dots("checkpoints", 0, &points)),
    }
    figure(
        format!("{family}-accuracy-by-bits"),
        format!(
            "Accuracy of {family} by the bits per byte of the right answers, and the curve a / (1 + exp(−k (L − L0))) + b that \
             is fitted to the first checkpoints."
        ),
        [
            linear("bits per byte of the right answers"),
            linear("accuracy by likelihood"),
        ],
        series,
    )
}

fn linear(name: &'static str) -> PlotAxis {
    PlotAxis { name, log: false }
}

fn figure(id: String, caption: String, [x, y]: [PlotAxis; 2], series: Vec<Series>) -> Figure {
    Figure {
        id,
        plot: Plot::Scatter(Scatter {
            label: caption.clone(),
            x,
            y,
            width: Width::Half,
            series,
        }),
        caption,
    }
}
