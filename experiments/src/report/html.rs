//! The report as a self-contained HTML page.

use super::data;
use super::figure::{caption, is_small, views};
use super::page::{
    Block, Cell, Code, Figure, Kind, Layout, Legend, Page, Section, Table, Tile, Tone,
};
use super::palette;
use super::svg::{self, escape};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = concat!(include_str!("ticks.js"), include_str!("report.js"));

/// Content security policy: the page fetches nothing, and only its inline styles and scripts apply.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      img-src data: blob:";

/// Returns the complete page.
pub(super) fn report(page: &Page) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{}{}{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>{}</h1>\n<p class=\"subject\">{}</p>\n</header>\n",
        escape(&page.title),
        palette::properties(),
        svg::page_style(),
        escape(&page.headline),
        escape(&page.lead),
    );
    for part in &page.sections {
        html += &section(part, page);
    }
    html += &format!(
        "</main>\n<noscript><p>Scripts are disabled, so plots do not zoom and have no downloads; the data is in {}.\
         </p></noscript>\n<script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        page.data_file,
        data::script(page.figures())
    );
    html
}

fn section(section: &Section, page: &Page) -> String {
    let blocks = section.blocks.iter().map(|part| block(part, page));
    let blocks: String = blocks.collect();
    let heading = escape(&section.heading);
    match section.folded {
        true => format!(
            "<section>\n<details>\n<summary><h2>{heading}</h2></summary>\n{blocks}</details>\n</section>\n"
        ),
        false => format!("<section>\n<h2>{heading}</h2>\n{blocks}</section>\n"),
    }
}

fn block(block: &Block, page: &Page) -> String {
    match block {
        Block::Text(text) => format!("<p class=\"intro\">{}</p>\n", escape(text)),
        Block::Tiles(tiles) => {
            let tiles: String = tiles.iter().map(tile).collect();
            format!("<dl class=\"tiles\">\n{tiles}</dl>\n")
        }
        Block::Table(content) => table(content),
        Block::Legend(content) => legend(content),
        Block::Figures(figures) => {
            let beside = match figures.iter().all(is_small) {
                true => " class=\"beside\"",
                false => "",
            };
            let figures: String = figures.iter().map(|one| figure(one, page)).collect();
            format!("<div{beside}>\n{figures}</div>\n")
        }
        Block::Facts(facts) => {
            let facts = facts.iter().map(|(name, value)| {
                let value = escape(value);
                format!("<div><dt>{name}</dt><dd><code>{value}</code></dd></div>\n")
            });
            let facts: String = facts.collect();
            format!("<dl class=\"identity\">\n{facts}</dl>\n")
        }
        Block::Code(content) => code(content),
    }
}

fn tile(tile: &Tile) -> String {
    let detail = match tile.detail.is_empty() {
        true => String::new(),
        false => format!(" <small>{}</small>", escape(&tile.detail)),
    };
    format!(
        "<div><dt>{}</dt><dd>{}{detail}</dd></div>\n",
        escape(tile.label),
        escape(&tile.value)
    )
}

fn legend(legend: &Legend) -> String {
    let mut html = format!(
        "<div class=\"notes\">\n<h3>{}</h3>\n<dl>\n",
        escape(legend.heading)
    );
    for (tone, term, meaning) in &legend.entries {
        html += &format!(
            "<div><dt class=\"{}\"><span>{}</span></dt><dd>{}</dd></div>\n",
            badge(*tone),
            escape(term),
            escape(meaning)
        );
    }
    html += &format!("</dl>\n<h3>{}</h3>\n", escape(legend.notes_heading));
    for note in &legend.notes {
        html += &format!("<p>{}</p>\n", escape(note));
    }
    html + "</div>\n"
}

fn code(code: &Code) -> String {
    let class = if code.wraps { " class=\"wraps\"" } else { "" };
    format!(
        "<pre{class} tabindex=\"0\" aria-label=\"{}\"><code>{}</code></pre>\n",
        escape(&code.label),
        escape(code.text.trim_end())
    )
}

fn figure(figure: &Figure, page: &Page) -> String {
    let id = escape(&figure.id);
    let views = views(figure);
    let pictures: String = views.iter().map(|(class, svg)| svg.inline(class)).collect();
    // A wide picture scrolls on its own, so that the page does not.
    let natural = views.first().filter(|_| is_small(figure));
    let style = natural.map_or(String::new(), |(_, svg)| {
        format!(" style=\"--natural:{:.0}px\"", svg.width)
    });
    format!(
        "<figure id=\"{id}\">\n<div class=\"picture\"{style}>{pictures}</div>\n\
         <figcaption>{} <span class=\"downloads\"><a href=\"plots/{id}.svg\">SVG</a> \
         <button type=\"button\" data-csv=\"{id}\" hidden>CSV</button></span></figcaption>\n</figure>\n",
        escape(&caption(figure, page))
    )
}

/// Returns the class of a badge.
fn badge(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "verdict good",
        Tone::Fair => "verdict fair",
        Tone::Bad => "verdict bad",
        Tone::Neutral => "verdict none",
    }
}

fn class(cell: &Cell) -> &'static str {
    match cell.kind {
        Kind::Text => "",
        Kind::Number => NUMBER,
        Kind::Missing => "number empty",
        Kind::Badge(tone) => badge(tone),
        Kind::Differs => "differs",
    }
}

/// Class of numbers and of the headings of their columns.
const NUMBER: &str = "number";

/// Returns a table with explicit roles, because browsers do not treat rows as a table when they are shown as cards.
fn table(table: &Table) -> String {
    let layout = match table.layout {
        Layout::Cards => "verdicts",
        Layout::Scrolling => "scrolls",
        Layout::Columns => "scrolls environments",
    };
    let caption = escape(table.caption);
    let mut html = format!(
        "<div class=\"table {layout}\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n\
         <table role=\"table\">\n<caption>{caption}</caption>\n\
         <thead role=\"rowgroup\"><tr role=\"row\">"
    );
    for (column, (name, unit)) in table.headings.iter().enumerate() {
        let mut cells = table.rows.iter().filter_map(|row| row.get(column));
        let class = match cells.any(|cell| cell.kind == Kind::Number) {
            true => NUMBER,
            false => "",
        };
        let unit = match unit.is_empty() {
            true => String::new(),
            false => format!(" <small>{}</small>", escape(unit)),
        };
        html += &format!(
            "<th scope=\"col\" role=\"columnheader\" class=\"{class}\">{}{unit}</th>",
            escape(name)
        );
    }
    html += "</tr></thead>\n<tbody role=\"rowgroup\">\n";
    for row in &table.rows {
        html += "<tr role=\"row\">";
        let mut cells = row.iter().zip(&table.headings);
        if let Some((first, _)) = cells.next() {
            html += &format!(
                "<th scope=\"row\" role=\"rowheader\" class=\"{}\">{}</th>",
                class(first),
                content(first)
            );
        }
        for (cell, (heading, unit)) in cells {
            let span = match cell.more_columns {
                0 => String::new(),
                more => format!(" colspan=\"{}\"", more + 1),
            };
            let label = match unit.is_empty() {
                true => heading.clone(),
                false => format!("{heading}, {unit}"),
            };
            html += &format!(
                "<td role=\"cell\" class=\"{}\"{span} data-label=\"{}\">{}</td>",
                class(cell),
                escape(&label),
                content(cell)
            );
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table>\n</div>\n"
}

fn content(cell: &Cell) -> String {
    let text = escape(&cell.text);
    let text = match cell.kind {
        Kind::Badge(_) => format!("<span>{text}</span>"),
        _ => text,
    };
    // Long paths can break after dots.
    let detail = escape(&cell.detail).replace('.', ".<wbr>");
    let text = match detail.is_empty() {
        true => text,
        false => format!("{text}<small>{detail}</small>"),
    };
    match &cell.swatch {
        Some(class) => {
            let class = match class.as_str() {
                "reference" => "line reference".into(),
                class => format!("line run {class}"),
            };
            format!(
                "<svg class=\"plot swatch\" viewBox=\"0 0 26 8\" aria-hidden=\"true\">\
                 <line class=\"{class}\" x1=\"1\" y1=\"4\" x2=\"25\" y2=\"4\"/></svg>{text}"
            )
        }
        None => text,
    }
}
