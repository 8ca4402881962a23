//! Tables of results on tasks.

use foretoken::science::evaluate::Estimate;
use foretoken::science::tasks::{Measure, TaskDifference, TaskResult, TasksModel, TasksRecord};
use foretoken::show::format::{self, count, plural};

/// Formats a record for a terminal of 80 columns.
pub(super) fn shown(record: &TasksRecord) -> String {
    let mut shown = model(&record.first);
    shown += &table(&record.first.tasks);
    shown += &notes(&record.first.tasks, record.first.context);
    if let Some(against) = &record.against {
        shown += &format!("\nAgainst {}", model(&against.second));
        shown += &table(&against.second.tasks);
        shown += &notes(&against.second.tasks, against.second.context);
        shown += &differences(&against.differences);
    }
    shown + &format!("\nTook {}\n", format::seconds(record.seconds))
}

fn model(model: &TasksModel) -> String {
    format!(
        "{} on {} in {}\n{} tokens of context\n\n",
        model.model, model.backend, model.precision, model.context
    )
}

fn table(tasks: &[TaskResult]) -> String {
    let mut table = format!(
        "{:<14}{:>7}{:>6}  {:<11}{:>8} {:>6}  {:<16}{:>7}\n",
        "task", "items", "shots", "measure", "value", "SE", "95 % interval", "chance"
    );
    for result in tasks {
        for (place, measure) in result.task.measures().iter().enumerate() {
            let Some(estimate) = result.measures.get(measure) else {
                continue;
            };
            let (name, items, shots) = match place {
                0 => (
                    result.task.name(),
                    count(result.items.len() as u64),
                    result.shots.to_string(),
                ),
                _ => ("", String::new(), String::new()),
            };
            let chance = result.chance.filter(|_| *measure != Measure::Perplexity);
            let [value, error, interval] = cells(*measure, estimate);
            let row = format!(
                "{name:<14}{items:>7}{shots:>6}  {:<11}{value:>8} {error:>6}  {interval:<16}{:>7}",
                measure.name(),
                chance.map_or(String::new(), percent),
            );
            table += &format!("{}\n", row.trim_end());
        }
    }
    table
}

/// Returns value, standard error and interval of a measure: shares in percent.
fn cells(measure: Measure, estimate: &Estimate) -> [String; 3] {
    let number = |value: f64| match measure {
        Measure::Perplexity => perplexity(value),
        _ => percent(value),
    };
    let interval = |[low, high]: [f64; 2]| format!("{} to {}", number(low), number(high));
    // Three digits keep the error of a large perplexity in its column.
    let error = |value: f64| match (measure, value.abs() < 1000.0) {
        (Measure::Perplexity, false) => format::significant(value, 3),
        _ => number(value),
    };
    let none = || format::NONE.to_owned();
    [
        number(estimate.value),
        estimate.standard_error.map_or_else(none, error),
        estimate.interval.map_or_else(none, interval),
    ]
}

fn perplexity(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.3}"),
        small if small < 1000.0 => format!("{value:.1}"),
        _ => format::significant(value, 4),
    }
}

fn percent(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

/// Says what a reader has to know of the numbers.
fn notes(tasks: &[TaskResult], context: usize) -> String {
    let mut notes = String::from("\nShares are in percent.\n");
    for result in tasks {
        if result.cut_items > 0 {
            notes += &format!(
                "{}: the beginning of {} was cut to fit {context} tokens.\n",
                result.task,
                plural(result.cut_items, "prompt")
            );
        }
        if !result.groups.is_empty() {
            notes += &format!(
                "{}: mean over {}, each counting alike; --json lists them.\n",
                result.task,
                plural(result.groups.len(), "part")
            );
        }
    }
    notes
}

fn differences(differences: &[TaskDifference]) -> String {
    let mut table = format!(
        "\n{:<14}{:<11}{:>10}   {:<18}{:>10}  better\n",
        "task", "measure", "2nd − 1st", "95 % interval", "p"
    );
    let mut before = None;
    for one in differences {
        let name = if before == Some(one.task) {
            ""
        } else {
            one.task.name()
        };
        before = Some(one.task);
        let [value, _, interval] = cells(one.measure, &one.difference);
        let p = one.mcnemar.map(|test| format::significant(test.p_value, 2));
        let better = match one.second_is_better() {
            Some(true) => "second",
            Some(false) => "first",
            None => "not shown",
        };
        table += &format!(
            "{name:<14}{:<11}{value:>10}   {interval:<18}{:>10}  {better}\n",
            one.measure.name(),
            p.unwrap_or_default()
        );
    }
    let tests = differences.iter().filter_map(|one| one.mcnemar).count();
    if tests > 0 {
        table += "\np is that of McNemar's test; `better` corrects it for the number of tasks.\n";
    }
    table
}
