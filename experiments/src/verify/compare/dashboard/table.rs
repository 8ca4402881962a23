//! Table of backends: a row for the reference, for each backend under test, and for each backend that cannot run.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row as TableRow, StatefulWidget, Table, TableState};

use super::scene::{GREY, colour_of, frame};
use super::state::{Phase, Run, State};
use super::view::View;
use super::words;
use crate::show::format::{self, NONE};
use crate::verify::compare::{Entrant, Role, Verdict};

/// Row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row<'a> {
    Run(usize, &'a Run),
    Unavailable(Entrant, &'a str),
}

/// Returns all rows: the reference first, backends that cannot run last.
pub(super) fn rows(state: &State) -> Vec<Row<'_>> {
    let of = |wanted: fn(Role) -> bool| {
        let runs = state.runs.iter().enumerate();
        runs.filter(move |(_, run)| wanted(run.role))
            .map(|(index, run)| Row::Run(index, run))
    };
    let unavailable = state.plan.iter().flat_map(|plan| &plan.unavailable);
    of(|role| role == Role::Reference)
        .chain(of(|role| role == Role::Entrant))
        .chain(unavailable.map(|(entrant, reason)| Row::Unavailable(*entrant, reason)))
        .collect()
}

impl<'a> Row<'a> {
    pub(super) fn entrant(&self) -> Entrant {
        match self {
            Self::Run(_, run) => run.entrant,
            Self::Unavailable(entrant, _) => *entrant,
        }
    }

    /// Returns the reason of a verdict, a failure or unavailability.
    pub(super) fn reason(&self) -> Option<&'a str> {
        match self {
            Self::Unavailable(_, reason) => Some(reason),
            Self::Run(_, run) => match (&run.verdict, &run.phase) {
                (Some((_, reason)), _) => Some(reason),
                (None, Phase::Failed(reason)) => Some(reason),
                _ => None,
            },
        }
    }

    pub(super) fn status(&self, state: &State) -> (&'static str, &'static str) {
        match self {
            Self::Run(_, run) => words::status(state, run),
            Self::Unavailable(..) => (Verdict::Unavailable.symbol(), Verdict::Unavailable.name()),
        }
    }
}

/// Columns from left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    State,
    Step,
    Loss,
    Difference,
    Bound,
    Weights,
    Speed,
    Memory,
    Checks,
    Reason,
}

impl Column {
    const ALL: [Self; 11] = [
        Self::Name,
        Self::State,
        Self::Step,
        Self::Loss,
        Self::Difference,
        Self::Bound,
        Self::Weights,
        Self::Speed,
        Self::Memory,
        Self::Checks,
        Self::Reason,
    ];

    /// Columns by importance. On a narrow screen the last ones are left out.
    const BY_IMPORTANCE: [Self; 11] = [
        Self::Name,
        Self::State,
        Self::Difference,
        Self::Loss,
        Self::Speed,
        Self::Step,
        Self::Weights,
        Self::Memory,
        Self::Bound,
        Self::Checks,
        Self::Reason,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Name => "  backend",
            Self::State => "state",
            Self::Step => "step",
            Self::Loss => "loss",
            Self::Difference => "max |Δ|",
            Self::Bound => "bound",
            Self::Weights => "weights",
            Self::Speed => "tok/s",
            Self::Memory => "memory",
            Self::Checks => "checks",
            Self::Reason => "reason",
        }
    }

    fn width(self, names: u16, steps: usize) -> u16 {
        match self {
            Self::Name => names + 2,
            Self::State => 13,
            Self::Step => steps.to_string().len().clamp(4, 9) as u16,
            Self::Loss | Self::Difference | Self::Weights | Self::Bound => 7,
            Self::Speed => 6,
            Self::Memory => 8,
            Self::Checks => 9,
            // The column fills the remaining width if a few words fit.
            Self::Reason => 24,
        }
    }

    fn alignment(self) -> Alignment {
        match self {
            Self::Name | Self::State | Self::Reason => Alignment::Left,
            _ => Alignment::Right,
        }
    }

    fn text(self, state: &State, row: &Row) -> Option<String> {
        if self == Self::Reason {
            return row.reason().map(words::one_line);
        }
        let Row::Run(_, run) = row else { return None };
        match self {
            Self::Name | Self::State | Self::Reason => None,
            Self::Step => {
                let (step, _) = run.losses.last()?;
                Some(step.saturating_add(1).to_string())
            }
            Self::Loss => run.losses.last().map(|(_, loss)| format::short_loss(loss)),
            Self::Difference => run.worst.map(|(_, worst)| format::scientific(worst)),
            Self::Bound => {
                let (step, _) = run.worst?;
                let bounds = &state.envelope(run.entrant.dtype)?.loss;
                bounds.get(step).copied().map(format::scientific)
            }
            Self::Weights => run.weights_distance.map(format::scientific),
            Self::Speed => state.tokens_per_second(run).map(format::short_rate),
            Self::Memory => run
                .peak_memory_bytes
                .map(|bytes| format::plain(format::bytes(bytes))),
            Self::Checks => {
                let checks = run.checks.as_ref()?;
                let held = checks.iter().filter(|check| check.holds()).count();
                Some(format!("{held}/{}", checks.len()))
            }
        }
    }
}

/// Returns the columns that fit into `width`, from left to right, each with its width.
fn columns(state: &State, names: u16, width: u16) -> Vec<(Column, u16)> {
    let mut left = width;
    let mut chosen = Vec::new();
    for column in Column::BY_IMPORTANCE {
        if column == Column::Weights && !state.lockstep() {
            continue;
        }
        let gap = u16::from(!chosen.is_empty());
        let available = left.saturating_sub(gap);
        let width = column.width(names, state.steps());
        // A part of a name and the sign of a verdict are useful even if the rest does not fit.
        let minimum = match column {
            Column::Name | Column::State => 1,
            _ => width,
        };
        if available < minimum {
            break;
        }
        let width = width.min(available);
        chosen.push((column, width));
        left -= gap + width;
    }
    chosen.sort_by_key(|(column, _)| Column::ALL.iter().position(|other| other == column));
    chosen
}

/// Returns the height of the whole table on the screen.
pub(super) fn height(state: &State) -> u16 {
    u16::try_from(rows(state).len())
        .unwrap_or(u16::MAX)
        .max(1)
        .saturating_add(3)
}

/// Draws the table with its frame.
pub(super) fn draw(state: &State, view: &View, area: Rect, buffer: &mut Buffer) {
    let rows = rows(state);
    let inner = area.height.saturating_sub(3) as usize;
    let selected = view.selected.filter(|&row| row < rows.len());
    // The run that started last is visible unless another row is highlighted.
    let began = |row: &Row| matches!(row, Row::Run(_, run) if run.phase != Phase::Waiting);
    let all_at_once = state.lockstep() || state.runs.iter().all(Run::is_over);
    let last = rows.iter().rposition(began).filter(|_| !all_at_once);
    let focus = selected.or(last).unwrap_or(0);
    let offset = (focus + 1)
        .saturating_sub(inner)
        .min(rows.len().saturating_sub(inner));

    let mut block = frame(match rows.len() > inner {
        true => format!(
            "Backends: {}–{} of {}",
            offset + 1,
            (offset + inner).min(rows.len()),
            rows.len()
        ),
        false => "Backends".into(),
    });
    if let Some(row) = selected.and_then(|row| rows.get(row)) {
        block = block.title_bottom(reason_line(state, row, area.width));
    }

    let names = rows.iter().map(|row| row.entrant().to_string().len());
    let names = names.max().unwrap_or(0).max(7) as u16;
    let columns = columns(state, names, area.width.saturating_sub(2));
    let header = columns
        .iter()
        .map(|(column, _)| Cell::from(Line::from(column.title()).alignment(column.alignment())));
    let widths = columns.iter().map(|&(column, width)| match column {
        Column::Reason => Constraint::Fill(1),
        _ => Constraint::Length(width),
    });
    let body = rows.iter().enumerate().map(|(index, row)| {
        let cells = columns.iter().map(|&(column, _)| cell(state, column, row));
        let style = match selected == Some(index) {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        TableRow::new(cells).style(style)
    });
    let table = Table::new(body, widths)
        .header(TableRow::new(header).style(Style::new().yellow().bold()))
        .column_spacing(1)
        .block(block);
    let mut scroll = TableState::new().with_offset(offset);
    StatefulWidget::render(table, area, buffer, &mut scroll);
}

fn reason_line(state: &State, row: &Row, width: u16) -> Line<'static> {
    let (symbol, word) = row.status(state);
    let text = match row.reason() {
        Some(reason) => words::one_line(reason),
        None => word.into(),
    };
    let text = format!("{symbol} {}: {text}", row.entrant());
    Line::from(
        format!(
            " {} ",
            words::shortened(&text, width.saturating_sub(4).into())
        )
        .italic(),
    )
}

fn cell(state: &State, column: Column, row: &Row) -> Cell<'static> {
    match column {
        Column::Name => {
            let colour = match row {
                Row::Run(index, _) => colour_of(state, *index),
                Row::Unavailable(..) => GREY,
            };
            Cell::from(Line::from(vec![
                Span::from("━ ").fg(colour).bold(),
                Span::from(row.entrant().to_string()),
            ]))
        }
        Column::State => {
            let (symbol, word) = row.status(state);
            Cell::from(Span::from(format!("{symbol} {word}")).style(status_style(row, state)))
        }
        _ => {
            let text = column.text(state, row).unwrap_or_else(|| match column {
                Column::Reason => String::new(),
                _ => NONE.into(),
            });
            Cell::from(Line::from(text).alignment(column.alignment()))
        }
    }
}

fn status_style(row: &Row, state: &State) -> Style {
    let verdict = match row {
        Row::Unavailable(..) => return Style::new().fg(GREY),
        Row::Run(_, run) => match (&run.verdict, &run.phase) {
            (Some((verdict, _)), _) => *verdict,
            (None, Phase::Failed(_)) => Verdict::Failed,
            (None, _) if run.is_active() && state.first_outside(run).is_some() => Verdict::Differs,
            (None, _) if run.is_active() => return Style::new().bold(),
            (None, _) => return Style::new().fg(GREY),
        },
    };
    // Nearly all readers can distinguish blue and orange.
    match verdict {
        Verdict::Identical | Verdict::Rounding => Style::new().fg(Color::Indexed(75)).bold(),
        Verdict::Outcome => Style::new().yellow().bold(),
        Verdict::Differs | Verdict::Failed => Style::new().fg(Color::Indexed(202)).bold(),
        Verdict::Unavailable | Verdict::Own => Style::new().fg(GREY),
    }
}
