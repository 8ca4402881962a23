//! The report as one page that needs nothing but itself.

use crate::verify::compare::{Comparison, Verdict};

use super::Run;
use super::data::Data;
use super::palette;
use super::plots::{Figure, Section};
use super::svg::{self, escape};
use super::table::{self, Cell, Table};
use super::words;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Nothing is fetched from anywhere; styles and scripts are those in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      img-src data: blob:";

/// The whole page.
pub(super) fn report(
    comparison: &Comparison,
    runs: &[Run<'_>],
    sections: &[Section],
    data: Data,
) -> String {
    let headline = escape(&words::headline(comparison, runs));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}: comparison of backends</title>\n<style>\n{}{}{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>{headline}</h1>\n<p class=\"subject\">{}</p>\n</header>\n",
        escape(&comparison.name),
        palette::properties(),
        svg::page_style(),
        escape(&words::subject(comparison)),
    );
    page += &verdicts(comparison, runs);
    for section in sections {
        page += &plots(section);
    }
    if let Some(environments) = table::environments(runs) {
        page += &format!(
            "<section>\n<h2>Environments</h2>\n{}</section>\n",
            table_of(&environments, "scrolls environments")
        );
    }
    page += &experiment(comparison);
    page += &format!(
        "</main>\n<noscript><p>Without scripts, plots do not zoom and have no downloads; the data is in {}.\
         </p></noscript>\n<script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        Comparison::FILE,
        data.into_script()
    );
    page
}

fn verdicts(comparison: &Comparison, runs: &[Run<'_>]) -> String {
    let table = table_of(&table::verdicts(comparison, runs), "verdicts");
    let mut section = format!(
        "<section>\n<h2>Verdicts</h2>\n{table}<div class=\"notes\">\n<h3>What the verdicts mean</h3>\n<dl>\n"
    );
    for (verdict, meaning) in words::meanings() {
        section += &format!(
            "<div><dt class=\"{}\"><span>{} {}</span></dt><dd>{}</dd></div>\n",
            table::verdict_class(verdict),
            escape(verdict.symbol()),
            escape(Verdict::words(verdict)),
            escape(meaning)
        );
    }
    section += "</dl>\n<h3>How they were measured</h3>\n";
    let paragraphs = words::envelopes(comparison).into_iter();
    for paragraph in paragraphs.chain([words::seeds(comparison)]) {
        section += &format!("<p>{}</p>\n", escape(&paragraph));
    }
    section + "</div>\n</section>\n"
}

fn plots(section: &Section) -> String {
    let beside = match section.figures.iter().all(|figure| figure.views.len() == 1) {
        true => " class=\"beside\"",
        false => "",
    };
    let intro = section.intro.map_or(String::new(), |intro| {
        format!("<p class=\"intro\">{}</p>\n", escape(intro))
    });
    let table = section.table.as_ref();
    let table = table.map_or(String::new(), |table| table_of(table, "scrolls"));
    let figures: String = section.figures.iter().map(figure).collect();
    format!(
        "<section>\n<h2>{}</h2>\n{intro}{table}<div{beside}>\n{figures}</div>\n</section>\n",
        escape(section.heading)
    )
}

fn figure(figure: &Figure) -> String {
    let id = escape(&figure.id);
    let views: String = figure
        .views
        .iter()
        .map(|(class, svg)| svg.inline(class))
        .collect();
    // A wide picture scrolls by itself, the page does not.
    let natural = figure.views.iter().map(|(_, svg)| svg.width);
    let natural = natural.fold(0.0, f64::max);
    let style = match figure.views.len() {
        1 => format!(" style=\"--natural:{natural:.0}px\""),
        _ => String::new(),
    };
    format!(
        "<figure id=\"{id}\">\n<div class=\"picture\"{style}>{views}</div>\n\
         <figcaption>{} <span class=\"downloads\"><a href=\"plots/{id}.svg\">SVG</a> \
         <button type=\"button\" data-csv=\"{id}\" hidden>CSV</button></span></figcaption>\n</figure>\n",
        escape(&figure.caption)
    )
}

fn experiment(comparison: &Comparison) -> String {
    let mut section = "<section>\n<h2>Experiment</h2>\n<dl class=\"identity\">\n".to_owned();
    for (name, value) in identity(comparison) {
        section += &format!(
            "<div><dt>{name}</dt><dd><code>{}</code></dd></div>\n",
            escape(&value)
        );
    }
    section += &format!(
        "</dl>\n<pre tabindex=\"0\" aria-label=\"Experiment file\"><code>{}</code></pre>\n</section>\n",
        escape(comparison.experiment.trim_end())
    );
    section
}

/// What must be the same for another comparison to be of the same thing.
pub(super) fn identity(comparison: &Comparison) -> [(&'static str, String); 5] {
    [
        ("experiment", comparison.experiment_hash.clone()),
        ("initial weights", comparison.initial_weights.clone()),
        ("data", comparison.data.clone()),
        ("foretoken", comparison.foretoken.clone()),
        ("created", comparison.created.clone()),
    ]
}

/// `class`: "verdicts" turns rows into cards on a narrow page, "scrolls" scrolls sideways by itself. Roles are
/// said because cards are no table to a browser.
fn table_of(table: &Table, class: &str) -> String {
    let caption = escape(table.caption);
    let mut html = format!(
        "<div class=\"table {class}\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n\
         <table role=\"table\">\n<caption>{caption}</caption>\n\
         <thead role=\"rowgroup\"><tr role=\"row\">"
    );
    for (column, (name, unit)) in table.headings.iter().enumerate() {
        let mut cells = table.rows.iter().filter_map(|row| row.get(column));
        let class = match cells.any(|cell| cell.class == table::NUMBER) {
            true => table::NUMBER,
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
                first.class,
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
                cell.class,
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
    let text = match cell.class.starts_with("verdict") {
        true => format!("<span>{text}</span>"),
        false => text,
    };
    // A long path may break where it has dots.
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
