//! The report as Markdown.

use super::figure::{caption, paper};
use super::page::{Block, Cell, Code, Legend, Page, Table};

/// Returns the complete file.
pub(super) fn report(page: &Page) -> String {
    let mut text = format!("# {}\n\n{}\n", escape(&page.headline), escape(&page.lead));
    for section in &page.sections {
        text += &format!("\n## {}\n", escape(&section.heading));
        for part in &section.blocks {
            text += &block(part, page);
        }
    }
    text
}

/// Returns a block, with an empty line before it.
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
        Block::Table(content) => format!("\n{}", table(content)),
        Block::Legend(content) => legend(content),
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
        Block::Code(content) => code(content),
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

fn table(table: &Table) -> String {
    let headings: Vec<String> = table
        .headings
        .iter()
        .map(|(name, unit)| match unit.is_empty() {
            true => escape(name),
            false => format!("{}, {}", escape(name), escape(unit)),
        })
        .collect();
    let mut text = format!(
        "| {} |\n|{}\n",
        headings.join(" | "),
        "---|".repeat(headings.len())
    );
    for row in &table.rows {
        let cells: Vec<String> = row.iter().flat_map(cells).collect();
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

/// Returns a cell, followed by empty cells for further columns that it spans, because Markdown has no wide cells.
fn cells(cell: &Cell) -> Vec<String> {
    let text = match cell.detail.is_empty() {
        true => escape(&cell.text),
        false => format!("{} ({})", escape(&cell.text), escape(&cell.detail)),
    };
    let mut cells = vec![text];
    cells.resize(1 + cell.more_columns, String::new());
    cells
}

/// Escapes markup, and replaces control characters by spaces, so that the text stays in one line.
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

/// Returns a code fence that is longer than any sequence of backticks in `text`.
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
