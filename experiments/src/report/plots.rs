//! Which plots a comparison has, and what is written below each.

use crate::verify::compare::{Checked, Comparison, Envelope};

use super::Run;
use super::bars::{Bar, Distribution, bars, boxes};
use super::data::{Data, MAX_ROWS};
use super::heat_map::heat_map;
use super::line_plot::{Band, Kind, Line, LinePlot, Size};
use super::svg::Svg;
use super::table::{self, Table};
use super::words;
use crate::show::format::{self, significant};

/// On wide pages.
const WIDE: Size = Size {
    width: 1152.0,
    height: 340.0,
};

/// On telephones.
const NARROW: Size = Size {
    width: 400.0,
    height: 300.0,
};

/// In papers, in print and on tablets.
const PAPER: Size = Size {
    width: 720.0,
    height: 330.0,
};

/// Plots that belong together.
#[derive(Debug)]
pub(super) struct Section {
    pub heading: &'static str,
    /// What is to be known before.
    pub intro: Option<&'static str>,
    pub table: Option<Table>,
    pub figures: Vec<Figure>,
}

/// A plot.
#[derive(Debug)]
pub(super) struct Figure {
    /// Its file is `plots/<id>.svg`, its data's `<id>.csv`.
    pub id: String,
    pub caption: String,
    /// As parts of a page, each with its class.
    pub views: Vec<(&'static str, Svg)>,
    /// As a file.
    pub paper: Svg,
}

impl Figure {
    fn of_lines(plot: &LinePlot<'_>, mut caption: String, data: &mut Data) -> Self {
        data.add_lines(plot);
        if let Some(limit) = plot.cut() {
            let limit = significant(limit, 2);
            caption += &format!(" What lies above {limit} is cut off.");
        }
        let steps = plot.steps();
        if steps > MAX_ROWS {
            let stride = Data::stride(steps);
            caption += &format!(
                " Of {} steps, values shown on hover and in the CSV are those of every {stride}th; the curves \
                 keep the extremes between them, and comparison.json holds all.",
                format::count(steps as u64)
            );
        }
        Self::of_sizes(plot.id, caption, |size, variant| plot.draw(size, variant))
    }

    fn of_sizes(id: &str, caption: String, draw: impl Fn(Size, &str) -> Svg) -> Self {
        let sizes = [("wide", WIDE), ("medium", PAPER), ("narrow", NARROW)];
        Self {
            id: id.into(),
            caption,
            views: sizes
                .map(|(variant, size)| (variant, draw(size, variant)))
                .into(),
            paper: draw(PAPER, "paper"),
        }
    }

    fn of_one(id: String, caption: String, svg: Svg) -> Self {
        Self {
            id,
            caption,
            views: vec![("one", svg.clone())],
            paper: svg,
        }
    }
}

/// Every plot that there are numbers for, in the order of the report; their data goes into `data`.
pub(super) fn sections(comparison: &Comparison, runs: &[Run<'_>], data: &mut Data) -> Vec<Section> {
    let drawn: Vec<&Run<'_>> = runs.iter().filter(|run| run.class.is_some()).collect();
    let checks = table::checks(runs);
    let plain = |heading, figures| Section {
        heading,
        intro: None,
        table: None,
        figures,
    };
    let sections = [
        plain("Loss", loss(comparison, &drawn, data)),
        plain(
            "Difference from the reference",
            differences(comparison, &drawn, data),
        ),
        plain(
            "Distance between weights",
            weights(comparison, &drawn, data),
        ),
        Section {
            heading: "Checks of single steps",
            intro: checks.is_some().then_some(words::CHECKS),
            table: checks,
            figures: Vec::new(),
        },
        plain(
            "Gradients",
            errors(&drawn, Checked::Gradient, "gradient", data),
        ),
        plain("Updates", errors(&drawn, Checked::Update, "update", data)),
        plain("Speed and memory", costs(&drawn, data)),
        plain("Time per step", times(&drawn, data)),
    ];
    let has_content = |section: &Section| section.table.is_some() || !section.figures.is_empty();
    sections.into_iter().filter(has_content).collect()
}

fn line<'a>(run: &Run<'a>, values: impl Into<std::borrow::Cow<'a, [f64]>>) -> Line<'a> {
    Line {
        name: run.name.clone(),
        kind: Kind::Run,
        class: run.class.clone().unwrap_or_default(),
        values: values.into(),
    }
}

fn loss(comparison: &Comparison, runs: &[&Run<'_>], data: &mut Data) -> Vec<Figure> {
    let reference = &comparison.reference;
    let mut lines = vec![Line {
        name: format!("{} (reference)", reference.entrant),
        kind: Kind::Reference,
        class: String::new(),
        values: reference.losses.as_slice().into(),
    }];
    lines.extend(runs.iter().map(|run| line(run, &run.entry.losses[..])));
    if let Some(seeds) = &comparison.seeds {
        // The first is the experiment's own, which the reference shows already.
        let others = seeds.seeds.iter().zip(&seeds.losses).skip(1);
        lines.extend(others.map(|(seed, losses)| Line {
            name: format!("seed {seed}"),
            kind: Kind::Seed,
            class: String::new(),
            values: losses.as_slice().into(),
        }));
    }
    if lines.iter().all(|line| line.values.is_empty()) {
        return Vec::new();
    }
    let plot = LinePlot {
        id: "loss",
        label: format!(
            "Loss at each step, of {} and every entrant",
            reference.entrant
        ),
        quantity: "loss, nats per token",
        log: false,
        lines,
        bands: Vec::new(),
    };
    let mut caption = format!(
        "Loss at each step. The wide pale line is the reference, {}.",
        reference.entrant
    );
    if comparison.seeds.is_some() {
        caption += " Grey: the reference with other seeds.";
    }
    vec![Figure::of_lines(&plot, caption, data)]
}

/// Bands of one of the two curves of each envelope, the largest first.
fn bands<'a>(
    comparison: &'a Comparison,
    curve: impl Fn(&'a Envelope) -> &'a [f64],
) -> Vec<Band<'a>> {
    let mut bands: Vec<Band<'a>> = comparison
        .envelopes
        .iter()
        .map(|envelope| Band {
            name: format!("envelope for {}", envelope.of.dtype),
            values: curve(envelope),
        })
        .filter(|band| !band.values.is_empty())
        .collect();
    let last = |band: &Band<'_>| band.values.last().copied().unwrap_or(0.0);
    bands.sort_by(|a, b| last(b).total_cmp(&last(a)));
    bands
}

fn differences(comparison: &Comparison, runs: &[&Run<'_>], data: &mut Data) -> Vec<Figure> {
    let reference = &comparison.reference;
    let difference = |run: &Run<'_>| -> Vec<f64> {
        let pairs = run.entry.losses.iter().zip(&reference.losses);
        pairs.map(|(loss, of)| (loss - of).abs()).collect()
    };
    let lines: Vec<Line<'_>> = runs.iter().map(|run| line(run, difference(run))).collect();
    if lines.iter().all(|line| line.values.is_empty()) {
        return Vec::new();
    }
    let zeros = lines.iter().any(|line| line.values.contains(&0.0));
    let plot = LinePlot {
        id: "difference",
        label: format!(
            "Absolute difference between each entrant's loss and that of {}, logarithmic",
            reference.entrant
        ),
        quantity: "|loss − reference's loss|, nats per token",
        log: true,
        lines,
        bands: bands(comparison, |envelope| &envelope.loss),
    };
    let mut caption = format!("|loss − loss of {}| at each step.", reference.entrant);
    if !plot.bands.is_empty() {
        caption += " Shaded: the envelope, what rounding explains in each precision.";
    }
    if zeros {
        caption += " Steps without any difference lie at 0, below the logarithmic axis.";
    }
    vec![Figure::of_lines(&plot, caption, data)]
}

fn weights(comparison: &Comparison, runs: &[&Run<'_>], data: &mut Data) -> Vec<Figure> {
    let lines: Vec<Line<'_>> = runs
        .iter()
        .filter(|run| !run.entry.weights_distance.is_empty())
        .map(|run| line(run, &run.entry.weights_distance[..]))
        .collect();
    if lines.is_empty() {
        return Vec::new();
    }
    let reference = comparison.reference.entrant;
    let plot = LinePlot {
        id: "weights",
        label: format!("Distance of each entrant's weights from those of {reference}, logarithmic"),
        quantity: "‖weights − reference's‖ / ‖reference's‖",
        log: true,
        lines,
        bands: bands(comparison, |envelope| &envelope.weights),
    };
    let mut caption = format!(
        "Distance of the weights after each step from those of {reference}, over all parameters, \
         relative to their norm."
    );
    if !plot.bands.is_empty() {
        caption += " Shaded: the envelope, what rounding explains in each precision.";
    }
    vec![Figure::of_lines(&plot, caption, data)]
}

/// One heat map for each entrant. `name` is what is heated, in the singular.
fn errors(runs: &[&Run<'_>], of: Checked, name: &str, data: &mut Data) -> Vec<Figure> {
    let figure = |run: &&Run<'_>| {
        let label = format!(
            "Error of the {name} of each parameter of {}, at its worst step",
            run.name
        );
        let svg = heat_map(&label, &run.entry.checks, of)?;
        let checks = || run.entry.checks.iter().filter(|check| check.of == of);
        let out = checks().filter(|check| !check.holds()).count();
        let caption = match out {
            0 => format!("{}: every {name} is within its bound.", run.name),
            _ => format!(
                "{}: {out} of {} {name}s out of bound, marked ×.",
                run.name,
                checks().count()
            ),
        };
        let id = format!("{name}-{}", run.slug());
        data.add_checks(&id, checks());
        Some(Figure::of_one(id, caption, svg))
    };
    runs.iter().filter_map(figure).collect()
}

fn costs(runs: &[&Run<'_>], data: &mut Data) -> Vec<Figure> {
    let bar = |value: fn(&Run<'_>) -> Option<f64>| -> Vec<Bar> {
        let bar = |run: &&Run<'_>| Bar {
            name: run.name.clone(),
            class: run.class.clone().unwrap_or_default(),
            value: value(run),
        };
        runs.iter().map(bar).collect()
    };
    let mut figures = Vec::new();
    let speed = bar(|run| run.entry.tokens_per_second);
    if speed.iter().any(|bar| bar.value.is_some()) {
        data.add_bars("speed", "tokens_per_second", &speed);
        figures.push(Figure::of_one(
            "speed".into(),
            "Training speed in tokens per second: a step's tokens over the median time of a step."
                .into(),
            bars("Training speed of each entrant", &speed, |value| {
                format!("{}{}tokens/s", format::rate(value), format::THIN)
            }),
        ));
    }
    let memory = bar(|run| run.entry.peak_memory_bytes.map(|bytes| bytes as f64));
    if memory.iter().any(|bar| bar.value.is_some()) {
        data.add_bars("memory", "peak_memory_bytes", &memory);
        figures.push(Figure::of_one(
            "memory".into(),
            "Peak memory: of the device's pool where it has one, else resident memory above what the process held \
             when the entrant's turn began."
                .into(),
            bars("Peak memory of each entrant", &memory, |value| {
                format::bytes(value as u64)
            }),
        ));
    }
    figures
}

fn times(runs: &[&Run<'_>], data: &mut Data) -> Vec<Figure> {
    let times: Vec<Distribution> = runs
        .iter()
        .filter_map(|run| {
            let class = run.class.clone().unwrap_or_default();
            Distribution::of(run.name.clone(), class, &run.entry.seconds)
        })
        .collect();
    if times.is_empty() {
        return Vec::new();
    }
    data.add_times(runs);
    let caption = "Wall-clock time of a step, logarithmic. Line: the median, in numbers on the right; box: the \
                   middle half; whiskers: 5 % to 95 %; dots: the fastest and the slowest step.";
    let label = "Time per step of each entrant";
    vec![Figure::of_sizes("time", caption.into(), |size, _| {
        boxes(label, &times, size.width)
    })]
}
