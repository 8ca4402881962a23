//! Figures of the report of a fit.

use super::law::{Fitted, Law, Quantity, Variable};
use super::observations::Observation;
use super::predict::Predictor;
use super::study::FitRecord;
use crate::report::{Figure, Plot, PlotAxis, PointMark, Scatter, Series, Width, run_class};
use crate::show::format::{plural, significant};

/// Points of a curve.
const POINTS: usize = 80;

/// Contours of the loss.
const CONTOURS: usize = 9;

/// Most budgets in the figure of parabolas, which have a colour each.
const BUDGETS: usize = 5;

/// Ratio to the largest compute up to which the frontier is drawn.
const BEYOND: f64 = 100.0;

const COMPUTE: PlotAxis = PlotAxis {
    name: "compute C, FLOPs",
    log: true,
};
const PARAMETERS: PlotAxis = PlotAxis {
    name: "parameters N",
    log: true,
};
const TOKENS: PlotAxis = PlotAxis {
    name: "training tokens D",
    log: true,
};
const LOSS: PlotAxis = PlotAxis {
    name: "loss L",
    log: true,
};

fn linear(name: &'static str) -> PlotAxis {
    PlotAxis { name, log: false }
}

fn series(
    name: impl Into<String>,
    mark: PointMark,
    colour: usize,
    points: Vec<(f64, f64)>,
) -> Series {
    Series {
        name: name.into(),
        mark,
        class: run_class(colour),
        points,
    }
}

fn figure(
    id: String,
    caption: impl Into<String>,
    label: &str,
    [x, y]: [PlotAxis; 2],
    width: Width,
    series: Vec<Series>,
) -> Figure {
    Figure {
        id,
        caption: caption.into(),
        plot: Plot::Scatter(Scatter {
            label: label.into(),
            x,
            y,
            width,
            series,
        }),
    }
}

/// Returns numbers from `low` to `high` in equal ratios.
fn ratios(low: f64, high: f64, count: usize) -> impl Iterator<Item = f64> {
    let step = (high / low).ln() / (count - 1) as f64;
    (0..count).map(move |index| low * (step * index as f64).exp())
}

fn ends(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    (
        values.clone().fold(f64::INFINITY, f64::min),
        values.fold(0.0, f64::max),
    )
}

/// Draws the loss against compute, with the frontier of compute-optimal runs.
pub(super) fn loss_by_compute(fit: &FitRecord, suffix: &str) -> Figure {
    let runs = &fit.observations;
    let (low, high) = ends(runs.iter().map(|run| run.flops));
    let mut all = Vec::new();
    for run in runs.iter().filter(|run| run.curve.len() > 1) {
        all.push(series(
            "training curves",
            PointMark::Contour,
            5,
            run.curve.clone(),
        ));
    }
    for curve in &mut all {
        curve.name = String::new();
    }
    all.push(series(
        "runs",
        PointMark::Dots,
        0,
        runs.iter().map(|run| (run.flops, run.loss)).collect(),
    ));
    if !fit.held_out.is_empty() {
        let held = fit
            .held_out
            .iter()
            .map(|held| (held.prediction.flops, held.measured));
        all.push(series("held out", PointMark::Dots, 1, held.collect()));
    }
    let budgets = ratios(low, high * BEYOND, POINTS);
    let (name, frontier): (&str, Vec<(f64, f64)>) = match fit.settings.law {
        Law::Chinchilla | Law::Kaplan => (
            "compute-optimal, by the law",
            budgets
                .filter_map(|flops| {
                    let (parameters, tokens) = fit.fitted.optimum(flops)?;
                    Some((flops, fit.fitted.loss(parameters, tokens, flops)))
                })
                .collect(),
        ),
        Law::Power {
            over: Variable::Flops,
        }
        | Law::PurePower {
            over: Variable::Flops,
        } => (
            "the law",
            budgets
                .map(|flops| (flops, fit.fitted.loss(1.0, 1.0, flops)))
                .collect(),
        ),
        _ => ("the law", Vec::new()),
    };
    all.push(series(name, PointMark::Line, 1, frontier));
    if let Some(e) = fit.estimate(Quantity::E).filter(|e| e.determined) {
        let line = vec![(low, e.value), (high * BEYOND, e.value)];
        all.push(series("irreducible loss E", PointMark::Line, 9, line));
    }
    if let Some(check) = fit.entropy {
        let line = vec![(low, check.entropy), (high * BEYOND, check.entropy)];
        all.push(series("known entropy", PointMark::Line, 17, line));
    }
    figure(
        format!("loss-by-compute{suffix}"),
        format!(
            "Loss of every run by its compute, and the law's prediction up to {BEYOND} times the largest."
        ),
        "Loss against compute, with the frontier",
        [COMPUTE, LOSS],
        Width::Full,
        all,
    )
}

/// Draws the budgets whose parabola has a minimum; `None` if there are none.
pub(super) fn parabolas(fit: &FitRecord, suffix: &str) -> Option<Figure> {
    let budgets = &fit.approaches.as_ref()?.budgets;
    let with: Vec<_> = budgets
        .iter()
        .filter(|budget| budget.parabola.is_some_and(|[_, _, c2]| c2 > 0.0))
        .collect();
    let fitted = budgets.iter().filter(|budget| budget.parabola.is_some());
    let (fitted, drawn) = (fitted.count(), with.len());
    let every = with.len().div_ceil(BUDGETS).max(1);
    let mut all = Vec::new();
    let mut vertices = Vec::new();
    for (colour, budget) in with.iter().step_by(every).enumerate() {
        let [c0, c1, c2] = budget.parabola?;
        let points: Vec<(f64, f64)> = budget
            .runs
            .iter()
            .map(|run| {
                (
                    fit.observations[*run].parameters,
                    fit.observations[*run].loss,
                )
            })
            .collect();
        let (low, high) = ends(points.iter().map(|point| point.0));
        let curve = ratios(low, high, POINTS).map(|n| (n, c0 + n.ln() * (c1 + c2 * n.ln())));
        let name = format!("{} FLOPs", significant(budget.flops, 2));
        all.push(series(name.clone(), PointMark::Dots, colour, points));
        all.push(series(name, PointMark::Line, colour, curve.collect()));
        vertices.extend(
            budget
                .optimum
                .map(|optimum| (optimum.parameters, optimum.loss)),
        );
    }
    let shown: Vec<f64> = with
        .iter()
        .step_by(every)
        .map(|budget| budget.flops)
        .collect();
    let (low, high) = ends(shown.iter().copied());
    let law = ratios(low, high, POINTS).filter_map(|flops| {
        let (parameters, tokens) = fit.fitted.optimum(flops)?;
        Some((parameters, fit.fitted.loss(parameters, tokens, flops)))
    });
    all.push(series(
        "optima by the law",
        PointMark::Line,
        5,
        law.collect(),
    ));
    all.push(series("vertices", PointMark::Crosses, 6, vertices));
    let mut caption = format!(
        "Runs of equal compute by size, with parabolas in log N (approach 2), their vertices, and the optima of the law: {} of \
         {} with four sizes or more.",
        shown.len(),
        plural(fitted, "budget")
    );
    if drawn < fitted {
        caption += &format!(
            " The parabolas of {} open downward and have no minimum.",
            fitted - drawn
        );
    }
    (all.len() > 2).then(|| {
        figure(
            format!("isoflop{suffix}"),
            caption,
            "IsoFLOP curves",
            [PARAMETERS, LOSS],
            Width::Full,
            all,
        )
    })
}

/// Returns the tokens at which a loss is reached; `None` if no number of tokens does.
fn tokens_at(fitted: &Fitted, parameters: f64, loss: f64, (low, high): (f64, f64)) -> Option<f64> {
    let at = |tokens: f64| fitted.loss(parameters, tokens, 6.0 * parameters * tokens);
    if at(low) < loss || at(high) > loss {
        return None;
    }
    let (mut low, mut high) = (low.ln(), high.ln());
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        match at(middle.exp()) > loss {
            true => low = middle,
            false => high = middle,
        }
    }
    Some(low.exp())
}

/// Draws the fitted loss as contours over parameters and tokens, with the runs.
pub(super) fn surface(fit: &FitRecord, suffix: &str) -> Figure {
    let runs = &fit.observations;
    let (low_n, high_n) = ends(runs.iter().map(|run| run.parameters));
    let tokens = ends(runs.iter().map(|run| run.tokens));
    let (low_n, high_n) = (low_n / 1.5, high_n * 1.5);
    let tokens = (tokens.0 / 1.5, tokens.1 * 1.5);
    let loss = |n: f64, d: f64| fit.fitted.loss(n, d, 6.0 * n * d);
    let (best, worst) = (loss(high_n, tokens.1), loss(low_n, tokens.0));
    let mut all = Vec::new();
    for level in 1..=CONTOURS {
        let level = best * (worst / best).powf(level as f64 / (CONTOURS + 1) as f64);
        let line = ratios(low_n, high_n, POINTS)
            .filter_map(|n| Some((n, tokens_at(&fit.fitted, n, level, tokens)?)));
        all.push(series(
            significant(level, 3),
            PointMark::Contour,
            5,
            line.collect(),
        ));
    }
    let optimal = ends(runs.iter().map(|run| run.flops));
    let line = ratios(optimal.0, optimal.1, POINTS).filter_map(|flops| fit.fitted.optimum(flops));
    let inside =
        line.filter(|(n, d)| (low_n..=high_n).contains(n) && (tokens.0..=tokens.1).contains(d));
    all.push(series(
        "compute-optimal",
        PointMark::Line,
        1,
        inside.collect(),
    ));
    all.push(series(
        "runs",
        PointMark::Dots,
        0,
        runs.iter()
            .map(|run| (run.parameters, run.tokens))
            .collect(),
    ));
    figure(
        format!("surface{suffix}"),
        "The fitted loss as contours, each labelled with its loss, the runs, and the compute-optimal line.",
        "Contours of the fitted loss over parameters and tokens",
        [PARAMETERS, TOKENS],
        Width::Half,
        all,
    )
}

/// Draws the residuals by compute.
pub(super) fn residuals(fit: &FitRecord, suffix: &str) -> Figure {
    let runs = fit.observations.iter().zip(fit.residuals());
    let points: Vec<(f64, f64)> = runs
        .map(|(run, residual)| (run.flops, 100.0 * residual))
        .collect();
    let (low, high) = ends(points.iter().map(|point| point.0));
    figure(
        format!("residuals{suffix}"),
        "How far each measured loss is from the law.",
        "Residuals by compute",
        [COMPUTE, linear("log residual, %")],
        Width::Half,
        vec![
            series("the law", PointMark::Line, 1, vec![(low, 0.0), (high, 0.0)]),
            series("runs", PointMark::Dots, 0, points),
        ],
    )
}

/// Draws two quantities over both bootstraps; `None` if the law does not have both.
pub(super) fn cloud(
    fit: &FitRecord,
    suffix: &str,
    id: &str,
    [x, y]: [Quantity; 2],
    names: [&'static str; 2],
) -> Option<Figure> {
    let law = fit.settings.law;
    let points = |draws: &[[f64; 5]]| -> Option<Vec<(f64, f64)>> {
        draws
            .iter()
            .map(|values| {
                let fitted = Fitted {
                    law,
                    values: *values,
                };
                Some((fitted.get(x)?, fitted.get(y)?))
            })
            .collect()
    };
    let estimate = (fit.fitted.get(x)?, fit.fitted.get(y)?);
    Some(figure(
        format!("{id}{suffix}"),
        format!(
            "{} and {} of fits to drawn samples, and of the fit itself.",
            x.symbol(),
            y.symbol()
        ),
        "Bootstrap cloud",
        names.map(linear),
        Width::Half,
        vec![
            series(
                "runs drawn with replacement",
                PointMark::Cloud,
                4,
                points(&fit.bootstrap)?,
            ),
            series(
                "samples of the law",
                PointMark::Cloud,
                0,
                points(&fit.draws)?,
            ),
            series("the fit", PointMark::Dots, 1, vec![estimate]),
        ],
    ))
}

/// Draws predicted against measured losses: of held-out runs with their intervals, or of all runs.
pub(super) fn predictions(fit: &FitRecord, suffix: &str) -> Figure {
    let (mut bars, mut points) = (Vec::new(), Vec::new());
    for held in &fit.held_out {
        points.push((held.measured, held.prediction.loss.value));
        if let [Some(low), Some(high)] = held.prediction.run_interval {
            bars.extend([(held.measured, low), (held.measured, high)]);
        }
    }
    let predictor = Predictor::new(fit);
    let fitted = |run: &Observation| (run.loss, predictor.value(run));
    let seen: Vec<(f64, f64)> = fit.observations.iter().map(fitted).collect();
    let (low, high) = ends(seen.iter().chain(&points).map(|point| point.0));
    let mark = match points.is_empty() {
        true => PointMark::Dots,
        false => PointMark::Cloud,
    };
    let mut all = vec![
        series("equal", PointMark::Line, 9, vec![(low, low), (high, high)]),
        series("fitted runs", mark, 0, seen),
    ];
    let caption = match points.is_empty() {
        true => "Loss by the law against the measured loss of the same runs.",
        false => {
            "Loss by the law against the measured loss. Held-out runs have 95 % intervals of a run."
        }
    };
    if !points.is_empty() {
        all.push(series("95 % interval", PointMark::Bars, 1, bars));
        all.push(series("held out", PointMark::Dots, 1, points));
    }
    figure(
        format!("predictions{suffix}"),
        caption,
        "Predicted against measured loss",
        [
            PlotAxis {
                name: "measured loss",
                log: true,
            },
            PlotAxis {
                name: "loss by the law",
                log: true,
            },
        ],
        Width::Half,
        all,
    )
}
