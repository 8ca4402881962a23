//! Probes of runs in their reports.

use std::collections::BTreeMap;

use super::*;
use crate::engine::event::{Probed, ProbedFamily, ProbedMeasure};
use crate::report::{PointMark, Scatter};

/// Returns probes of a family whose accuracy and p(right) are these, with an interval of 0.1 to either side.
fn probed(step: usize, families: &[(&str, f64, f64)]) -> Record {
    let measure = |value: f64| ProbedMeasure {
        value,
        interval: Some([value - 0.1, value + 0.1]),
    };
    let family = |(name, accuracy, p_right): &(&str, f64, f64)| ProbedFamily {
        name: (*name).into(),
        items: 8,
        chance: Some(0.5),
        measures: BTreeMap::from([
            ("accuracy".into(), measure(*accuracy)),
            ("p_right".into(), measure(*p_right)),
            ("bits_per_byte".into(), measure(4.0 - accuracy)),
        ]),
    };
    Record::Probe(Probed {
        step,
        tokens: 10 * step,
        seconds: 0.1,
        families: families.iter().map(family).collect(),
    })
}

fn with_probes() -> Vec<Record> {
    vec![
        step(0, 4.0, 0.5),
        probed(1, &[("sums", 0.25, 0.3), ("facts", 0.5, 0.5)]),
        step(1, 3.0, 0.25),
        probed(2, &[("sums", 0.5, 0.4), ("facts", 0.75, 0.6)]),
    ]
}

fn scatter<'a>(page: &'a Page, id: &str) -> &'a Scatter {
    let figures = figures(page);
    let figure = figures.iter().find(|figure| figure.id == id);
    match &figure.unwrap_or_else(|| panic!("no figure {id}")).plot {
        Plot::Scatter(plot) => plot,
        other => panic!("{id} is {other:?}"),
    }
}

/// Name, mark and points of a series.
type Drawn<'a> = (&'a str, PointMark, &'a [(f64, f64)]);

/// Returns each series of a figure.
fn drawn<'a>(page: &'a Page, id: &str) -> Vec<Drawn<'a>> {
    let series = scatter(page, id).series.iter();
    series
        .map(|series| (series.name.as_str(), series.mark, &series.points[..]))
        .collect()
}

fn last_probes(page: &Page) -> Vec<Vec<&str>> {
    let tables = blocks(page).filter_map(|block| match block {
        Block::Table(table) if table.caption.starts_with("The last probes") => Some(table),
        _ => None,
    });
    tables
        .flat_map(|table| &table.rows)
        .map(|row| row.iter().map(|cell| cell.text.as_str()).collect())
        .collect()
}

#[test]
fn probes_of_a_run_have_figures_with_intervals_and_chance() {
    let root = tempfile::tempdir().unwrap();
    let run = recorded(
        &root.path().join("run"),
        &["probes.items=8"],
        &with_probes(),
    );
    let page = page_of(&[&run]);
    let right = drawn(&page, "probe-sums-right");
    assert_eq!(
        right[..2],
        [
            ("chance", PointMark::Line, &[(1.0, 0.5), (2.0, 0.5)][..]),
            ("right", PointMark::Line, &[(1.0, 0.25), (2.0, 0.5)][..]),
        ]
    );
    let (name, mark, ends) = right[2];
    assert_eq!((name, mark, ends.len()), ("right", PointMark::Bars, 4));
    assert_eq!((ends[0], ends[3]), ((1.0, 0.15), (2.0, 0.6)));
    assert_eq!(right[3].0, "p(right)");
    assert_eq!(right[3].2, [(1.0, 0.3), (2.0, 0.4)]);
    assert_eq!(
        drawn(&page, "probe-facts-bits")[0].2,
        [(1.0, 3.5), (2.0, 3.25)]
    );
    assert_eq!(
        last_probes(&page),
        [
            [
                "sums", "run", "2", "8", "50.0", "40.0", "60.0", "50.0", "0.400", "3.500"
            ],
            [
                "facts", "run", "2", "8", "75.0", "65.0", "85.0", "50.0", "0.600", "3.250"
            ],
        ]
    );
    assert!(!scatter(&page, "probe-sums-right").x.log);
    // The figures are files, and the Markdown names them.
    let report = write(&[run], None).unwrap();
    let markdown = fs::read_to_string(report.with_file_name("report.md")).unwrap();
    let html = fs::read_to_string(&report).unwrap();
    for id in [
        "probe-sums-right",
        "probe-sums-bits",
        "probe-facts-right",
        "probe-facts-bits",
    ] {
        assert!(markdown.contains(&format!("(plots/{id}.svg)")), "{id}");
        assert!(html.contains(id), "{id}");
        let svg = report.with_file_name("plots").join(format!("{id}.svg"));
        assert!(!fs::read_to_string(svg).unwrap().contains("NaN"), "{id}");
    }
}

#[test]
fn probes_of_several_runs_lie_over_each_other() {
    let root = tempfile::tempdir().unwrap();
    let items = ["probes.items=8"];
    let one = recorded(&root.path().join("one"), &items, &with_probes());
    let records = [
        step(0, 4.0, 0.5),
        probed(1, &[("sums", 0.5, 0.5)]),
        probed(64, &[("sums", 1.0, 0.9)]),
    ];
    let other = recorded(&root.path().join("other"), &items, &records);
    let plain = recorded(&root.path().join("plain"), &[], &three_steps());
    let page = page_of(&[&one, &other, &plain]);
    let of = |id: &str| -> Vec<(&str, usize)> {
        let series = drawn(&page, id).into_iter();
        let lines = series.filter(|(_, mark, _)| *mark == PointMark::Line);
        lines
            .map(|(name, _, points)| (name, points.len()))
            .collect()
    };
    assert_eq!(
        of("probe-sums-right"),
        [("chance", 2), ("one", 2), ("other", 2)]
    );
    assert_eq!(
        of("probe-sums-p-right"),
        [("chance", 2), ("one", 2), ("other", 2)]
    );
    assert_eq!(of("probe-facts-bits"), [("one", 2)]);
    assert!(scatter(&page, "probe-sums-bits").x.log);
    let names: Vec<[&str; 2]> = last_probes(&page)
        .iter()
        .map(|row| [row[0], row[1]])
        .collect();
    assert_eq!(
        names,
        [["sums", "one"], ["sums", "other"], ["facts", "one"]]
    );
    let other_items = |page: &Page| {
        texts(page)
            .iter()
            .any(|text| text.contains("different items"))
    };
    assert!(!other_items(&page));
    let more = recorded(
        &root.path().join("more"),
        &["probes.items=9"],
        &with_probes(),
    );
    assert!(other_items(&page_of(&[&one, &more])));
    let without = page_of(&[&plain]);
    let titles: Vec<&str> = without
        .sections
        .iter()
        .map(|s| s.heading.as_str())
        .collect();
    assert!(!titles.contains(&"Probes"), "{titles:?}");
}
