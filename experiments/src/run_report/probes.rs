//! Probes of runs that were trained with `[probes]`: figures of each family over the steps, and the last results.

use super::history::RunHistory;
use super::reported_run::ReportedRun;
use crate::engine::event::{ProbedFamily, ProbedMeasure};
use crate::report::{
    Block, Cell, Figure, Layout, Plot, PlotAxis, PointMark, Scatter, Section, Series, Table, Width,
    headings, run_class,
};
use crate::show::format::{count, significant};

/// Ratio of the last to the first step from which on the axis of steps is logarithmic.
const LOGARITHMIC: f64 = 30.0;

/// A measure of the metrics log, its name in words, and the quantity of its axis.
type Measure = (&'static str, &'static str, &'static str);

const ACCURACY: Measure = ("accuracy", "right", "share of items that are right");
const P_RIGHT: Measure = (
    "p_right",
    "p(right)",
    "probability of the right answer among all",
);
const BITS: Measure = (
    "bits_per_byte",
    "bits per byte",
    "bits per byte of the right answers",
);

/// A run and its points: steps with the results of a family.
type Curve<'r> = (&'r ReportedRun<'r>, Vec<(usize, &'r ProbedFamily)>);

/// Returns the section of probes; `None` if no run has any.
pub(super) fn section(runs: &[ReportedRun<'_>]) -> Option<Section> {
    let mut names: Vec<&str> = Vec::new();
    for family in families(runs) {
        if !names.contains(&family.name.as_str()) {
            names.push(&family.name);
        }
    }
    if names.is_empty() {
        return None;
    }
    let mut blocks = vec![Block::Text(
        "Items of each family, put to the model while it trained. An item is right if its right answer is more probable than \
         each of its wrong ones. Bars are 95 % confidence intervals over items, as if they were drawn from more items like \
         them; chance is the share of a model that has no preference among the answers."
            .into(),
    )];
    if differ(runs) {
        blocks.push(Block::Text(
            "The runs were probed with different items, because their worlds or the number of items differ: their numbers \
             differ by the items too."
                .into(),
        ));
    }
    let mut figures = Vec::new();
    for name in &names {
        let curves: Vec<Curve<'_>> = runs.iter().filter_map(|run| curve(run, name)).collect();
        figures.extend(of_family(runs.len(), name, &curves));
    }
    blocks.push(Block::Figures(figures));
    blocks.push(Block::Table(last(runs, &names)));
    Some(Section::new("Probes", blocks))
}

fn families<'r>(runs: &'r [ReportedRun<'_>]) -> impl Iterator<Item = &'r ProbedFamily> {
    let probes = runs.iter().flat_map(|run| &run.run.probes);
    probes.flat_map(|probed| &probed.families)
}

/// Returns whether two runs have other items.
fn differ(runs: &[ReportedRun<'_>]) -> bool {
    let probed: Vec<&RunHistory> = runs
        .iter()
        .map(|run| run.run)
        .filter(|run| !run.probes.is_empty())
        .collect();
    let items = |run: &RunHistory| run.experiment.probes.as_ref().map(|probes| probes.items);
    probed.windows(2).any(|pair| {
        pair[0].experiment.data.world != pair[1].experiment.data.world
            || items(pair[0]) != items(pair[1])
    })
}

/// Returns the results of a family of a run; `None` without any.
fn curve<'r>(run: &'r ReportedRun<'r>, name: &str) -> Option<Curve<'r>> {
    let probes = run.run.probes.iter();
    let points = probes.filter_map(|probed| {
        let mut families = probed.families.iter();
        let found = families.find(|family| family.name == name)?;
        Some((probed.step, found))
    });
    let points: Vec<_> = points.collect();
    (!points.is_empty()).then_some((run, points))
}

/// Returns the figures of a family: of one run accuracy and p(right) in one, of several each in its own.
fn of_family(runs: usize, name: &str, curves: &[Curve<'_>]) -> Vec<Figure> {
    let mut shares = chance(curves);
    if let ([(_, points)], 1) = (curves, runs) {
        shares.extend(series("right", &run_class(0), points, ACCURACY));
        shares.extend(series("p(right)", &run_class(1), points, P_RIGHT));
        let bits = series("bits per byte", &run_class(0), points, BITS);
        let words =
            "Items that are right, and the probability of the right answer among the answers";
        return vec![
            figure(name, "right", words, "mean over items", shares),
            figure(
                name,
                "bits",
                "Bits per byte of the right answers",
                BITS.2,
                bits.into(),
            ),
        ];
    }
    let of_runs = |measure: Measure| {
        let series = curves
            .iter()
            .flat_map(|(run, points)| series(&run.name, &run.class, points, measure));
        series.collect::<Vec<Series>>()
    };
    let mut p_right = chance(curves);
    shares.extend(of_runs(ACCURACY));
    p_right.extend(of_runs(P_RIGHT));
    vec![
        figure(name, "right", "Items that are right", ACCURACY.2, shares),
        figure(
            name,
            "p-right",
            "Probability of the right answer among the answers",
            P_RIGHT.2,
            p_right,
        ),
        figure(
            name,
            "bits",
            "Bits per byte of the right answers",
            BITS.2,
            of_runs(BITS),
        ),
    ]
}

fn of(family: &ProbedFamily, measure: Measure) -> Option<&ProbedMeasure> {
    family.measures.get(measure.0)
}

/// Returns a line and the intervals of a measure.
fn series(
    name: &str,
    class: &str,
    points: &[(usize, &ProbedFamily)],
    measure: Measure,
) -> [Series; 2] {
    let measured = points
        .iter()
        .filter_map(|(step, family)| Some((*step as f64, of(family, measure)?)));
    let ends = measured
        .clone()
        .filter_map(|(step, mean)| Some((step, mean.interval?)));
    let drawn = |mark, points| Series {
        name: name.into(),
        mark,
        class: class.into(),
        points,
    };
    let line = measured.map(|(step, mean)| (step, mean.value));
    let bars = ends.flat_map(|(step, ends)| ends.map(|end| (step, end)));
    [
        drawn(PointMark::Line, line.collect()),
        drawn(PointMark::Bars, bars.collect()),
    ]
}

/// Returns the line of chance over all steps; empty if the logs do not have it.
fn chance(curves: &[Curve<'_>]) -> Vec<Series> {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let steps = points().map(|(step, _)| *step as f64);
    let (first, last) = (
        steps.clone().fold(f64::INFINITY, f64::min),
        steps.fold(f64::NEG_INFINITY, f64::max),
    );
    let known = points().filter_map(|(_, family)| family.chance).next();
    let line = known.map(|chance| Series {
        name: "chance".into(),
        mark: PointMark::Line,
        class: "level".into(),
        points: vec![(first, chance), (last, chance)],
    });
    line.into_iter().collect()
}

fn figure(
    family: &str,
    part: &str,
    words: &str,
    quantity: &'static str,
    series: Vec<Series>,
) -> Figure {
    let steps = || series.iter().flat_map(|series| &series.points);
    let first = steps().fold(f64::INFINITY, |first, point| first.min(point.0));
    let last = steps().fold(0.0, |last: f64, point| last.max(point.0));
    let caption = format!("{family}: {}.", words.to_lowercase());
    Figure {
        id: format!("probe-{family}-{part}"),
        plot: Plot::Scatter(Scatter {
            label: format!("{words}, of {family}, by step"),
            x: PlotAxis {
                name: "step",
                log: last >= LOGARITHMIC * first,
            },
            y: PlotAxis {
                name: quantity,
                log: false,
            },
            width: Width::Half,
            series,
        }),
        caption,
    }
}

/// Returns a table of the last probes of every run.
fn last(runs: &[ReportedRun<'_>], names: &[&str]) -> Table {
    let mut rows = Vec::new();
    for name in names {
        for run in runs {
            let Some((step, family)) =
                curve(run, name).and_then(|(_, points)| points.last().copied())
            else {
                continue;
            };
            let percent = |share: f64| format!("{:.1}", 100.0 * share);
            let accuracy = of(family, ACCURACY);
            let end = |index: usize| accuracy?.interval.map(|ends| ends[index]);
            let mean = |measure| of(family, measure).map(|mean| mean.value);
            rows.push(vec![
                Cell::from((*name).to_owned()),
                Cell {
                    swatch: (runs.len() > 1).then(|| run.class.clone()),
                    ..run.name.clone().into()
                },
                Cell::number(Some(step as u64), count),
                Cell::number(Some(family.items as u64), count),
                Cell::number(mean(ACCURACY), percent),
                Cell::number(end(0), percent),
                Cell::number(end(1), percent),
                Cell::number(family.chance, percent),
                Cell::number(mean(P_RIGHT), |value| significant(value, 3)),
                Cell::number(mean(BITS), |value| significant(value, 4)),
            ]);
        }
    }
    Table {
        caption: "The last probes of each family",
        layout: Layout::Scrolling,
        headings: headings([
            ("family", ""),
            ("run", ""),
            ("step", ""),
            ("items", ""),
            ("right", "%"),
            ("95 % from", "%"),
            ("to", "%"),
            ("chance", "%"),
            ("p(right)", ""),
            ("bits per byte", ""),
        ]),
        rows,
    }
}
