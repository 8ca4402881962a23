//! The report as Markdown.

use crate::verify::compare::Comparison;

use super::Run;
use super::plots::Section;
use super::table::{self, Cell, Table};
use super::words;

/// The whole file.
pub(super) fn report(comparison: &Comparison, runs: &[Run<'_>], sections: &[Section]) -> String {
    let mut page = format!(
        "# {}\n\n{}\n\n## Verdicts\n\n{}\n",
        escape(&words::headline(comparison, runs)),
        escape(&words::subject(comparison)),
        set(&table::verdicts(comparison, runs))
    );
    page += "What the verdicts mean:\n\n";
    for (verdict, meaning) in words::meanings() {
        page += &format!(
            "- *{} {}*: {}\n",
            escape(verdict.symbol()),
            verdict.words(),
            escape(meaning)
        );
    }
    for paragraph in words::envelopes(comparison)
        .into_iter()
        .chain([words::seeds(comparison)])
    {
        page += &format!("\n{}\n", escape(&paragraph));
    }
    for section in sections {
        page += &format!("\n## {}\n", section.heading);
        if let Some(intro) = section.intro {
            page += &format!("\n{}\n", escape(intro));
        }
        if let Some(table) = &section.table {
            page += &format!("\n{}", set(table));
        }
        for figure in &section.figures {
            let (caption, id) = (escape(&figure.caption), &figure.id);
            page += &format!(
                "\n![{}](plots/{id}.svg)\n\n{caption}\n",
                escape(&figure.paper.label)
            );
        }
    }
    if let Some(environments) = table::environments(runs) {
        page += &format!("\n## Environments\n\n{}", set(&environments));
    }
    page += "\n## Experiment\n\n";
    for (name, value) in super::html::identity(comparison) {
        page += &format!("- {name}: `{}`\n", value.replace('`', "'"));
    }
    let fence = fence(&comparison.experiment);
    let experiment = comparison.experiment.trim_end();
    page += &format!("\n{fence}toml\n{experiment}\n{fence}\n");
    page
}

fn set(table: &Table) -> String {
    let headings: Vec<String> = table
        .headings
        .iter()
        .map(|(name, unit)| match unit.is_empty() {
            true => escape(name),
            false => format!("{}, {}", escape(name), escape(unit)),
        })
        .collect();
    let mut set = format!(
        "| {} |\n|{}\n",
        headings.join(" | "),
        "---|".repeat(headings.len())
    );
    for row in &table.rows {
        let cells: Vec<String> = row.iter().flat_map(cells).collect();
        set += &format!("| {} |\n", cells.join(" | "));
    }
    set
}

/// A cell, and empty ones for what it goes across: Markdown has no wide cells.
fn cells(cell: &Cell) -> Vec<String> {
    let text = match cell.detail.is_empty() {
        true => escape(&cell.text),
        false => format!("{} ({})", escape(&cell.text), escape(&cell.detail)),
    };
    let mut cells = vec![text];
    cells.resize(1 + cell.more_columns, String::new());
    cells
}

/// Text that stays text, in one line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' => {
                escaped.push('\\');
                escaped.push(character);
            }
            character if character.is_control() => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Longer than any run of backticks in `text`.
fn fence(text: &str) -> String {
    let (mut longest, mut here) = (2, 0);
    for character in text.chars() {
        here = if character == '`' { here + 1 } else { 0 };
        longest = longest.max(here);
    }
    "`".repeat(longest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escape("a|b\n<i>_c_</i> |Δ|"),
            "a\\|b \\<i\\>\\_c\\_\\</i\\> \\|Δ\\|"
        );
        assert_eq!(fence("a = \"````\""), "`````");
        assert_eq!(fence("a = 1"), "```");
    }
}
