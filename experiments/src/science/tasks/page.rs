//! The report of an evaluation on tasks.

use std::path::PathBuf;

use super::record::{TasksAgainst, TasksRecord};
use super::result::TaskResult;
use super::task::Measure;
use crate::Error;
use crate::record::run::{ReportDirectory, write_atomically};
use crate::report::{
    self, Bar, Bars, Block, Cell, Figure, Layout, Page, Plot, Section, Table, headings, run_class,
};
use crate::science::evaluate::Estimate;
use crate::show::format::{count, significant};

impl TasksRecord {
    /// Name of the file with the record.
    pub const FILE: &str = "tasks.json";

    /// Writes `tasks.json` and the report. Returns the path of the page.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn write(&self, directory: ReportDirectory) -> Result<PathBuf, Error> {
        let json = serde_json::to_vec_pretty(self)?;
        write_atomically(&directory.path().join(Self::FILE), &json)?;
        report::write(&page(self), directory.path())
    }
}

fn page(record: &TasksRecord) -> Page {
    let first = &record.first;
    let figure = Block::Figures(vec![accuracies(record)]);
    let mut sections = vec![
        Section::new("Accuracy", vec![figure]),
        Section::new("Measures", vec![Block::Table(measures(&first.tasks))]),
    ];
    if let Some(against) = &record.against {
        sections.push(Section::new("Comparison", comparison(against)));
    }
    for result in first.tasks.iter().filter(|task| !task.groups.is_empty()) {
        let table = Block::Table(groups(result));
        sections.push(Section::folded(
            format!("Parts of {}", result.task),
            vec![table],
        ));
    }
    let items: usize = first.tasks.iter().map(|task| task.items.len()).sum();
    Page {
        title: format!("{}: tasks", first.model),
        headline: format!(
            "{} items of {} tasks.",
            count(items as u64),
            first.tasks.len()
        ),
        lead: format!(
            "{} on {}:{}; {} tokens of context.",
            first.model, first.backend, first.precision, first.context
        ),
        sections,
        data_file: TasksRecord::FILE,
    }
}

/// Draws the principal accuracy of every task, with that of the second model and of choosing at random.
fn accuracies(record: &TasksRecord) -> Figure {
    let second = record.against.as_ref().map(|against| &against.second.tasks);
    let percent = |result: &TaskResult| {
        let accuracy = result.measures.get(&Measure::Accuracy);
        accuracy.map(|accuracy| 100.0 * accuracy.value)
    };
    let mut rows = Vec::new();
    for (place, result) in record.first.tasks.iter().enumerate() {
        let mut push = |name: String, class: usize, value| {
            let class = run_class(class);
            rows.push(Bar { name, class, value });
        };
        push(result.task.to_string(), 0, percent(result));
        if let Some(second) = second {
            push(
                format!("{}, second", result.task),
                1,
                percent(&second[place]),
            );
        }
        if let Some(chance) = result.chance {
            push(format!("{}, chance", result.task), 2, Some(100.0 * chance));
        }
    }
    Figure {
        id: "accuracy".into(),
        caption: "Accuracy (acc) in percent, and that of choosing at random.".into(),
        plot: Plot::Bars(Bars {
            label: "Accuracy of each task",
            row: "task",
            quantity: "accuracy, %",
            shown: |value| format!("{value:.1} %"),
            rows,
        }),
    }
}

/// Returns an estimate in percent, or as it is for a perplexity.
fn shown(measure: Measure, estimate: &Estimate) -> Estimate {
    match measure {
        Measure::Perplexity => *estimate,
        _ => estimate.scaled(100.0),
    }
}

fn measures(tasks: &[TaskResult]) -> Table {
    let rows = tasks.iter().flat_map(|result| {
        result.measures.iter().map(|(measure, estimate)| {
            let unit = match measure {
                Measure::Perplexity => "",
                _ => ", %",
            };
            let estimate = shown(*measure, estimate);
            let end = |place: usize| estimate.interval.map(|ends| ends[place]);
            (
                format!("{}: {}{unit}", result.task, measure.name()),
                Some(estimate.value),
                [estimate.standard_error, end(0), end(1)],
            )
        })
    });
    Table::estimates("Measures of all tasks", rows)
}

fn groups(result: &TaskResult) -> Table {
    let rows = result.groups.iter().map(|group| {
        let accuracy = group.accuracy.scaled(100.0);
        let end = |place: usize| accuracy.interval.map(|ends| ends[place]);
        (
            format!("{}, {} items", group.name, count(group.items as u64)),
            Some(accuracy.value),
            [accuracy.standard_error, end(0), end(1)],
        )
    });
    Table::estimates("Accuracy of each part, %", rows)
}

/// Sets the second model beside the first.
fn comparison(against: &TasksAgainst) -> Vec<Block> {
    let rows = against.differences.iter().map(|one| {
        let difference = shown(one.measure, &one.difference);
        let end = |place: usize| difference.interval.map(|ends| ends[place]);
        let small = |value| significant(value, 3);
        let test = one.mcnemar;
        vec![
            Cell::from(format!("{}: {}", one.task, one.measure.name())),
            Cell::number(Some(difference.value), small),
            Cell::number(end(0), small),
            Cell::number(end(1), small),
            Cell::number(test.map(|test| test.only_first as u64), count),
            Cell::number(test.map(|test| test.only_second as u64), count),
            Cell::number(test.map(|test| test.p_value), small),
            Cell::number(test.map(|test| test.adjusted_p_value), small),
        ]
    });
    vec![
        Block::Text(format!(
            "The second model is {} on {}:{}. Differences are the second minus the first, shares in percent, with 95 % \
             intervals of a bootstrap over items. p is that of McNemar's exact test, also after Holm's correction for the \
             number of tasks.",
            against.second.model, against.second.backend, against.second.precision
        )),
        Block::Table(Table {
            caption: "Two models on the same items",
            layout: Layout::Scrolling,
            headings: headings([
                ("", ""),
                ("difference", ""),
                ("95 % from", ""),
                ("to", ""),
                ("only first right", ""),
                ("only second right", ""),
                ("p", ""),
                ("p, corrected", ""),
            ]),
            rows: rows.collect(),
        }),
    ]
}
