//! The figures of runs: one run in detail, or several in the same figures.

use super::history::{Evaluation, RunHistory};
use super::reported_run::{ReportedRun, tokenizers_differ};
use crate::report::{Block, Figure, Level, Line, LineKind, LinePlot, Mark, Plot, Section, Width};
use crate::show::format::significant;

/// Maximum number of steps of a curve that is not smoothed.
const FEW_STEPS: usize = 60;

/// Number of smoothing windows in the longest run. All runs are smoothed over the same width on the page.
const WINDOWS: usize = 60;

/// Maximum length of a smoothing window, in steps.
const MAX_WINDOW: usize = 500;

/// Minimum ratio of largest to smallest value for a logarithmic axis.
const LOGARITHMIC: f64 = 100.0;

/// Addition to captions of losses of runs with different tokenizers.
const OTHER_TOKENS: &str =
    " The runs have different tokenizers: their nats per token cannot be compared.";

/// Class of the training curve of a single run.
const TRAINING: &str = "c0 d0";

/// Class of the validation curve of a single run.
const VALIDATION: &str = "c1 d0";

/// Returns the sections with curves.
pub(super) fn sections(runs: &[ReportedRun<'_>]) -> Vec<Section> {
    let mut training = vec![learning_rate(runs), gradient_norm(runs), speed(runs)];
    training.extend(accuracy(runs));
    let mut sections = vec![Section::new("Loss", vec![Block::Figures(loss(runs))])];
    if let Some(figure) = bits_per_byte(runs) {
        let figures = Block::Figures(vec![figure]);
        sections.push(Section::new("Bits per byte", vec![figures]));
    }
    sections.push(Section::new("Training", vec![Block::Figures(training)]));
    sections
}

fn loss(runs: &[ReportedRun<'_>]) -> Vec<Figure> {
    if let [only] = runs {
        let mut lines = smoothed("training", TRAINING, &only.run.losses);
        lines.extend(evaluated("validation", VALIDATION, only.run, |at| at.loss));
        let plot = LinePlot {
            marks: marks(runs, |at| at.loss),
            ..full(
                "Training and validation loss at each step",
                "loss, nats per token",
                lines,
            )
        };
        let smooth = smoothing(runs);
        let validation = match only.run.evaluations.is_empty() {
            true => "",
            false => ", and loss on the validation windows",
        };
        let caption = format!("Training loss before each step{smooth}{validation}.");
        return vec![figure("loss", caption, plot)];
    }
    let mut figures = Vec::new();
    let units = match tokenizers_differ(runs) {
        true => OTHER_TOKENS,
        false => "",
    };
    let validation = evaluations(runs, |at| at.loss);
    if !validation.is_empty() {
        let plot = LinePlot {
            marks: marks(runs, |at| at.loss),
            ..full(
                "Validation loss of every run",
                "validation loss, nats per token",
                validation,
            )
        };
        let caption = format!("Loss on the validation windows.{units}");
        figures.push(figure("validation-loss", caption, plot));
    }
    let plot = full(
        "Training loss of every run",
        "training loss, nats per token",
        curves(runs, |run| run.losses.clone()),
    );
    let smooth = smoothing(runs);
    let caption = format!("Training loss before each step{smooth}.{units}");
    figures.push(figure("training-loss", caption, plot));
    figures
}

fn bits_per_byte(runs: &[ReportedRun<'_>]) -> Option<Figure> {
    let lines = evaluations(runs, |at| at.bits_per_byte);
    if lines.is_empty() {
        return None;
    }
    // Runs on the same text, or on the same windows of it, have the same floor.
    let mut floors: Vec<(f64, bool)> = runs
        .iter()
        .filter_map(|run| run.run.reachable_floor())
        .collect();
    floors.sort_by(|a, b| a.0.total_cmp(&b.0));
    floors.dedup();
    let level = |(floor, of_windows): (f64, bool)| {
        let what = match of_windows {
            true => "floor of the windows",
            false => "floor: entropy of the text",
        };
        Level {
            name: format!("{what}, {}", significant(floor, 4)),
            value: floor,
        }
    };
    let mut caption = "Bits per byte of the validation text: the size that a compressor with this \
                       model would reach."
        .to_owned();
    if floors.iter().any(|(_, of_windows)| !of_windows) {
        caption += " The entropy of the text is the size that its own generator would reach.";
    }
    if floors.iter().any(|(_, of_windows)| *of_windows) {
        caption += " The floor of the windows is the size that the best predictor reaches which sees only them: some \
                    begin inside a document, so that it is above the entropy of the text.";
    }
    let plot = LinePlot {
        marks: marks(runs, |at| at.bits_per_byte),
        levels: floors.into_iter().map(level).collect(),
        ..full("Bits per byte at each evaluation", "bits per byte", lines)
    };
    Some(figure("bits-per-byte", caption, plot))
}

fn learning_rate(runs: &[ReportedRun<'_>]) -> Figure {
    let lines = every(runs, |run| {
        let name = match runs.len() {
            1 => "each step",
            _ => &run.name,
        };
        let values = run.run.learning_rates.clone();
        vec![line(name, LineKind::Smooth, &run.class, values)]
    });
    let plot = half("Learning rate at each step", "learning rate", lines);
    figure("learning-rate", "Learning rate.".into(), plot)
}

fn gradient_norm(runs: &[ReportedRun<'_>]) -> Figure {
    let lines = curves(runs, |run| run.gradient_norms.clone());
    let mut plot = half("Gradient norm at each step", "gradient norm", lines);
    plot.log = spans_decades(&plot.lines);
    let mut caption = format!(
        "Global norm of the gradient before clipping{}",
        smoothing(runs)
    );
    let mut clips: Vec<f64> = runs
        .iter()
        .map(|run| run.run.experiment.optimizer.clip)
        .collect();
    clips.dedup();
    if let [clip] = clips[..]
        && clip > 0.0
    {
        plot.levels.push(Level {
            name: format!("clipped above {}", significant(clip, 2)),
            value: clip,
        });
    }
    caption += ".";
    figure("gradient-norm", caption, plot)
}

fn speed(runs: &[ReportedRun<'_>]) -> Figure {
    let lines = curves(runs, |run| {
        let pairs = run.tokens.iter().zip(&run.seconds);
        pairs
            .map(|(tokens, seconds)| match *seconds > 0.0 {
                true => tokens / seconds,
                false => f64::NAN,
            })
            .collect()
    });
    let plot = half(
        "Training speed at each step",
        "training tokens per second",
        lines,
    );
    let caption = format!(
        "Training speed: tokens of a step divided by its time{}.",
        smoothing(runs)
    );
    figure("speed", caption, plot)
}

fn accuracy(runs: &[ReportedRun<'_>]) -> Option<Figure> {
    let lines = evaluations(runs, |at| 100.0 * at.accuracy);
    let plot = half("Accuracy at each evaluation", "accuracy, %", lines);
    let caption = "Share of validation tokens that the model ranks first.".into();
    (!plot.lines.is_empty()).then(|| figure("accuracy", caption, plot))
}

/// Returns a plot over the whole width of the page.
fn full(label: &str, quantity: &'static str, lines: Vec<Line>) -> LinePlot {
    LinePlot {
        width: Width::Full,
        ..half(label, quantity, lines)
    }
}

fn half(label: &str, quantity: &'static str, lines: Vec<Line>) -> LinePlot {
    LinePlot {
        label: label.into(),
        axis: "step",
        quantity,
        log: false,
        width: Width::Half,
        lines,
        bands: Vec::new(),
        levels: Vec::new(),
        marks: Vec::new(),
    }
}

fn figure(id: &str, caption: String, plot: LinePlot) -> Figure {
    Figure {
        id: id.into(),
        caption,
        plot: Plot::Lines(plot),
    }
}

fn every(runs: &[ReportedRun<'_>], lines: impl Fn(&ReportedRun<'_>) -> Vec<Line>) -> Vec<Line> {
    runs.iter().flat_map(lines).collect()
}

/// Returns smoothed curves of all runs, and for a single run its unsmoothed values too.
fn curves(runs: &[ReportedRun<'_>], values: impl Fn(&RunHistory) -> Vec<f64>) -> Vec<Line> {
    let window = window(longest(runs));
    every(runs, |run| match runs.len() {
        1 => smoothed("", &run.class, &values(run.run)),
        _ => {
            let mean = running_mean(&values(run.run), window);
            vec![line(&run.name, LineKind::Smooth, &run.class, mean)]
        }
    })
}

/// Returns the number of steps of the longest run.
fn longest(runs: &[ReportedRun<'_>]) -> usize {
    let steps = runs.iter().map(|run| run.run.steps());
    steps.max().unwrap_or(0)
}

/// Returns a curve for each run with evaluations.
fn evaluations(runs: &[ReportedRun<'_>], quantity: fn(&Evaluation) -> f64) -> Vec<Line> {
    let line = |run: &ReportedRun<'_>| match runs.len() {
        1 => evaluated("validation", VALIDATION, run.run, quantity),
        _ => evaluated(&run.name, &run.class, run.run, quantity),
    };
    runs.iter().filter_map(line).collect()
}

fn line(name: &str, kind: LineKind, class: &str, values: Vec<f64>) -> Line {
    Line {
        name: name.into(),
        kind,
        class: class.into(),
        steps: None,
        values,
    }
}

/// Returns the values as a faint curve and their running mean, or only the values of few steps. `name` can be empty.
fn smoothed(name: &str, class: &str, values: &[f64]) -> Vec<Line> {
    let named = |part: &str| match name {
        "" => part.to_owned(),
        _ => format!("{name}, {part}"),
    };
    let each = |kind| line(&named("each step"), kind, class, values.into());
    if values.len() <= FEW_STEPS {
        return vec![each(LineKind::Run)];
    }
    let mean = running_mean(values, window(values.len()));
    vec![
        each(LineKind::Faint),
        line(&named("mean"), LineKind::Smooth, class, mean),
    ]
}

/// Returns the length of the smoothing window in steps: an odd number, so that it has a middle; 1 for no smoothing.
fn window(steps: usize) -> usize {
    match steps {
        0..=FEW_STEPS => 1,
        _ => (steps / WINDOWS).clamp(2, MAX_WINDOW) | 1,
    }
}

/// Returns the part of a caption that describes the smoothing.
fn smoothing(runs: &[ReportedRun<'_>]) -> String {
    match (window(longest(runs)), runs.len()) {
        (1, _) => String::new(),
        (window, 1) => {
            format!(" (thin) and the mean of the {window} steps around it, fewer at both ends")
        }
        (window, _) => format!(", as the mean of the {window} steps around it, fewer at both ends"),
    }
}

/// Returns at each step the mean of the finite values in the `window` steps around it; NaN if the value itself is not
/// finite. Near the start, where losses fall fast, the window shrinks on both sides; near the end, it is cut off. Each
/// sum is computed anew, because a spike that is added and later subtracted would leave rounding behind.
fn running_mean(values: &[f64], window: usize) -> Vec<f64> {
    let mean = |step: usize| {
        let reach = (window / 2).min(step);
        let around = &values[step - reach..(step + reach + 1).min(values.len())];
        let finite = || around.iter().filter(|value| value.is_finite());
        match values[step].is_finite() {
            true => finite().sum::<f64>() / finite().count() as f64,
            false => f64::NAN,
        }
    };
    (0..values.len()).map(mean).collect()
}

fn evaluated(
    name: &str,
    class: &str,
    run: &RunHistory,
    quantity: fn(&Evaluation) -> f64,
) -> Option<Line> {
    (!run.evaluations.is_empty()).then(|| Line {
        steps: Some(run.evaluations.iter().map(|at| at.step).collect()),
        ..line(
            name,
            LineKind::Run,
            class,
            run.evaluations.iter().map(quantity).collect(),
        )
    })
}

/// Returns a mark at the best evaluation of each run.
fn marks(runs: &[ReportedRun<'_>], quantity: fn(&Evaluation) -> f64) -> Vec<Mark> {
    let mark = |run: &ReportedRun<'_>| {
        let best = run.run.best()?;
        let (name, class) = match runs.len() {
            1 => (format!("best, after step {}", best.step), VALIDATION),
            _ => ("best of each run".into(), run.class.as_str()),
        };
        Some(Mark {
            name,
            class: class.into(),
            step: best.step,
            value: quantity(&best),
        })
    };
    runs.iter().filter_map(mark).collect()
}

/// Returns whether the range of positive values needs a logarithmic axis.
fn spans_decades(lines: &[Line]) -> bool {
    let values = lines.iter().flat_map(|line| &line.values);
    let positive = values.filter(|value| value.is_finite() && **value > 0.0);
    let (low, high) = positive.fold((f64::INFINITY, 0.0f64), |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    high > LOGARITHMIC * low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_mean_leaves_out_values_that_are_not_finite() {
        let mut values = vec![1.0; 200];
        values[100] = f64::NAN;
        values[102] = 6.0;
        let means = running_mean(&values, 5);
        assert!(means[100].is_nan());
        // The window has two neighbours on either side, of which one is NaN.
        assert_eq!(means[101], (1.0 + 1.0 + 6.0 + 1.0) / 4.0);
    }

    #[test]
    fn a_running_mean_has_no_lag_at_the_start() {
        let line: Vec<f64> = (0..100).map(f64::from).collect();
        let means = running_mean(&line, 9);
        assert_eq!(means[..96], line[..96]);
        // The last window has steps 95 to 99.
        assert_eq!(means[99], 97.0);
        assert_eq!(running_mean(&line[..1], 9), [0.0]);
        assert!(running_mean(&[], 9).is_empty());
    }

    #[test]
    fn windows_grow_with_the_run() {
        let windows = [1, 60, 61, 180, 3200, 1_000_000].map(window);
        assert_eq!(windows, [1, 1, 3, 3, 53, 501]);
    }
}
