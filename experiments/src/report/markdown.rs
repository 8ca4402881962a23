//! The report as Markdown.

use super::figure::{caption, paper};
use super::page::{Block, Cell, Code, Legend, Page, Table};

/// The whole file.
pub(super) fn report(page: &Page) -> String {
    let mut text = format!("# {}\n\n{}\n", escape(&page.headline), escape(&page.lead));
    for section in &page.sections {
        text += &format!("\n## {}\n", escape(&section.heading));
        for of in &section.blocks {
            text += &block(of, page);
        }
    }
    text
}

/// A block, after an empty line.
fn block(block: &Block, page: &Page) -> String {
    match block {
        Block::Text(text) => format!("\n{}\n", escape(text)),
        Block::Tiles(tiles) => {
            let tiles = tiles.iter().map(|tile| {
                let detail = match tile.detail.is_empty() {
                    true => String::new(),
                    false => format!(" ({})", escape(&tile.detail)),
                };
                format!(
                    "- {}: {}{detail}\n",
                    escape(tile.label),
                    escape(&tile.value)
                )
            });
            format!("\n{}", tiles.collect::<String>())
        }
        Block::Table(table) => format!("\n{}", set(table)),
        Block::Legend(of) => legend(of),
        Block::Figures(figures) => {
            let figures = figures.iter().map(|figure| {
                format!(
                    "\n![{}](plots/{}.svg)\n\n{}\n",
                    escape(&paper(figure).label),
                    figure.id,
                    escape(&caption(figure, page))
                )
            });
            figures.collect()
        }
        Block::Facts(facts) => {
            let facts = facts
                .iter()
                .map(|(name, value)| format!("- {name}: `{}`\n", value.replace('`', "'")));
            format!("\n{}", facts.collect::<String>())
        }
        Block::Code(of) => code(of),
    }
}

fn legend(legend: &Legend) -> String {
    let mut text = format!("\n{}:\n\n", legend.heading);
    for (_, term, meaning) in &legend.entries {
        text += &format!("- *{}*: {}\n", escape(term), escape(meaning));
    }
    for note in &legend.notes {
        text += &format!("\n{}\n", escape(note));
    }
    text
}

fn code(code: &Code) -> String {
    let fence = fence(&code.text);
    let (language, text) = (code.language, code.text.trim_end());
    format!("\n{fence}{language}\n{text}\n{fence}\n")
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
