//! Figures of the report of a study of free running.

use super::record::{ExposureRecord, StrategyRecord};
use crate::report::{
    Figure, Line, LineKind, LinePlot, Plot, PlotAxis, PointMark, Scatter, Series, Width, run_class,
};
use crate::science::Share;

/// Draws the errors of each step on contexts of the data, and of each strategy.
pub(super) fn by_step(record: &ExposureRecord) -> Figure {
    let line = |(index, (name, values)): (usize, (&str, &Vec<f64>))| Line {
        name: name.into(),
        kind: LineKind::Run,
        class: run_class(index),
        steps: None,
        values: values.clone(),
    };
    let strategies = record.strategies.iter();
    let curves = std::iter::once(("data", &record.on_data.by_step))
        .chain(strategies.map(|record| (record.strategy.name.as_str(), &record.by_step)));
    Figure {
        id: "errors-by-step".into(),
        caption: "Mean divergence from the oracle at each step, on possible contexts of the data and of the model. Step 0 has the \
                  prompt alone, which is of the data for all."
            .into(),
        plot: Plot::Lines(LinePlot {
            label: "Divergence from the oracle by step".into(),
            axis: "tokens after the prompt",
            quantity: "KL(o‖p), nats",
            log: false,
            width: Width::Full,
            lines: curves.enumerate().map(line).collect(),
            bands: Vec::new(),
            levels: Vec::new(),
            marks: Vec::new(),
        }),
    }
}

fn series(name: &str, mark: PointMark, colour: usize, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.into(),
        mark,
        class: run_class(colour),
        points,
    }
}

/// Draws the excess by the number of steps, with intervals.
pub(super) fn excess_by_length(record: &ExposureRecord) -> Figure {
    let mut all = Vec::new();
    for (index, strategy) in record.strategies.iter().enumerate() {
        let name = &strategy.strategy.name;
        let accumulated = strategy.accumulated.iter();
        let excess = accumulated.filter_map(|at| Some((at.length as f64, at.excess?)));
        let bars = excess
            .clone()
            .filter_map(|(length, excess)| Some((length, excess.interval?)));
        let bars = bars.flat_map(|(length, ends)| ends.map(|end| (length, end)));
        all.push(series(name, PointMark::Bars, index + 1, bars.collect()));
        let line = excess.map(|(length, excess)| (length, excess.value));
        all.push(series(name, PointMark::Line, index + 1, line.collect()));
    }
    Figure {
        id: "excess-by-length".into(),
        caption: "How much larger the errors of l steps are in free running than on the data, on possible contexts. Bars are 95 % \
                  intervals."
            .into(),
        plot: Plot::Scatter(Scatter {
            label: "Excess of the accumulated errors by length".into(),
            x: PlotAxis {
                name: "steps l",
                log: true,
            },
            y: PlotAxis {
                name: "excess, %",
                log: false,
            },
            width: Width::Full,
            series: all,
        }),
    }
}

/// Draws the share of impossible texts by step.
pub(super) fn outside(record: &ExposureRecord) -> Figure {
    let line = |(index, strategy): (usize, &StrategyRecord)| {
        let outside = &strategy.support.as_ref()?.outside;
        let percent = |share: &Option<Share>| share.map_or(f64::NAN, |share| 100.0 * share.value);
        Some(Line {
            name: strategy.strategy.name.clone(),
            kind: LineKind::Run,
            class: run_class(index + 1),
            steps: None,
            values: outside.iter().map(percent).collect(),
        })
    };
    Figure {
        id: "outside-by-step".into(),
        caption: "Share of the sequences whose text is impossible before the token of each step."
            .into(),
        plot: Plot::Lines(LinePlot {
            label: "Share of impossible texts by step".into(),
            axis: "tokens after the prompt",
            quantity: "impossible, %",
            log: false,
            width: Width::Full,
            lines: record
                .strategies
                .iter()
                .enumerate()
                .filter_map(line)
                .collect(),
            bands: Vec::new(),
            levels: Vec::new(),
            marks: Vec::new(),
        }),
    }
}
