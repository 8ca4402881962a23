//! Plots of curves over steps, in Braille dots.
//!
//! Curves that agree lie on top of each other, and a simple chart would show only the last one. Here a cell that
//! several curves cross has the dots of all of them, and its colour alternates between them: agreement is striped.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::{Marker, line};
use ratatui::text::{Line, Span};
use ratatui::widgets::canvas::{Canvas, Line as Stroke, Points};
use ratatui::widgets::{Block, Widget};

use super::scale::Scale;

/// Plot without a frame.
pub(super) struct Plot<'a> {
    pub(super) scale: &'a Scale,
    /// The step at the right end; the left end is step 0.
    pub(super) last_step: usize,
    pub(super) curves: Vec<Curve>,
    pub(super) legend: Corner,
}

pub(super) struct Curve {
    /// Name in the legend; `None` leaves the curve out of it.
    pub(super) name: Option<String>,
    pub(super) colour: Color,
    pub(super) level: Level,
    /// Lines from [`Scale::lines`].
    pub(super) lines: Vec<Vec<(f64, f64)>>,
}

/// Order of curves in a cell that several of them cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Behind,
    /// Curves of this level share the cell, and its colour alternates between them.
    Shared,
    Above,
}

/// Corner of the legend, if no curve is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Corner {
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

impl Corner {
    const ALL: [Self; 4] = [
        Self::TopRight,
        Self::TopLeft,
        Self::BottomLeft,
        Self::BottomRight,
    ];

    fn of(self, graph: Rect, width: u16, height: u16) -> Rect {
        let (left, right) = (graph.left(), graph.right() - width);
        let (top, bottom) = (graph.top(), graph.bottom() - height);
        let (x, y) = match self {
            Self::TopLeft => (left, top),
            Self::TopRight => (right, top),
            Self::BottomLeft => (left, bottom),
            Self::BottomRight => (right, bottom),
        };
        Rect::new(x, y, width, height)
    }
}

/// Number of columns that a curve colours before the next one does.
const STRIPE: usize = 2;

const BRAILLE: std::ops::RangeInclusive<u32> = 0x2801..=0x28ff;

impl Widget for Plot<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let ticks = self.scale.ticks.iter();
        let labels = ticks.map(|(_, label)| label.chars().count());
        let gutter = labels.max().unwrap_or(0) as u16 + 1;
        if area.width < gutter + 4 || area.height < 4 {
            return;
        }
        let graph = Rect {
            x: area.x + gutter,
            width: area.width - gutter,
            height: area.height - 2,
            ..area
        };
        self.draw_axes(area, graph, buffer);
        self.draw_curves(graph, buffer);
        self.draw_legend(graph, buffer);
    }
}

impl Plot<'_> {
    fn draw_axes(&self, area: Rect, graph: Rect, buffer: &mut Buffer) {
        for y in graph.top()..graph.bottom() {
            buffer[(graph.x - 1, y)].set_symbol(line::VERTICAL);
        }
        for x in graph.left()..graph.right() {
            buffer[(x, graph.bottom())].set_symbol(line::HORIZONTAL);
        }
        buffer[(graph.x - 1, graph.bottom())].set_symbol(line::BOTTOM_LEFT);
        let [low, high] = self.scale.bounds;
        let mut lowest_free = graph.bottom();
        for (place, label) in &self.scale.ticks {
            let up = f64::from(graph.height - 1) * (place - low) / (high - low);
            let y = graph.bottom() - 1 - up.round() as u16;
            if y < lowest_free {
                lowest_free = y;
                let x = graph.x - 1 - label.chars().count() as u16;
                buffer.set_string(x, y, label, Style::new().bold());
            }
        }
        let last = self.last_step.to_string();
        let y = area.bottom() - 1;
        buffer.set_string(graph.x, y, "0", Style::new().bold());
        if last.len() + 2 <= usize::from(graph.width) {
            let x = graph.right() - last.len() as u16;
            buffer.set_string(x, y, last, Style::new().bold());
        }
        if graph.width >= 24 {
            let x = graph.x + graph.width / 2 - 2;
            buffer.set_string(x, y, "step", Style::new().italic());
        }
    }

    fn draw_curves(&self, graph: Rect, buffer: &mut Buffer) {
        // Each cell has the highest level of its curves, and only the dots and colours of that level.
        let mut cells: Vec<(Level, u32, Vec<Color>)> =
            vec![(Level::Behind, 0, Vec::new()); graph.area() as usize];
        let mut sheet = Buffer::empty(graph);
        let right = (self.last_step as f64).max(1.0);
        for curve in &self.curves {
            sheet.reset();
            Canvas::default()
                .marker(Marker::Braille)
                .x_bounds([0.0, right])
                .y_bounds(self.scale.bounds)
                .paint(|context| {
                    for line in &curve.lines {
                        context.draw(&Points {
                            coords: line,
                            color: curve.colour,
                        });
                        for ends in line.windows(2) {
                            let ((x1, y1), (x2, y2)) = (ends[0], ends[1]);
                            context.draw(&Stroke::new(x1, y1, x2, y2, curve.colour));
                        }
                    }
                })
                .render(graph, &mut sheet);
            for (cell, drawn) in cells.iter_mut().zip(&sheet.content) {
                let dots = drawn.symbol().chars().next().map_or(0, u32::from);
                if !BRAILLE.contains(&dots) {
                    continue;
                }
                if curve.level > cell.0 {
                    *cell = (curve.level, 0, Vec::new());
                }
                if curve.level == cell.0 {
                    cell.1 |= dots;
                    cell.2.push(curve.colour);
                }
            }
        }
        let width = usize::from(graph.width);
        for (index, (_, dots, colours)) in cells.into_iter().enumerate() {
            let Some(symbol) = char::from_u32(dots).filter(|_| !colours.is_empty()) else {
                continue;
            };
            let colour = colours[(index % width) / STRIPE % colours.len()];
            let (x, y) = sheet.pos_of(index);
            buffer[(x, y)].set_char(symbol).set_fg(colour);
        }
    }

    fn draw_legend(&self, graph: Rect, buffer: &mut Buffer) {
        let lines: Vec<Line> = self
            .curves
            .iter()
            .filter_map(|curve| {
                let name = curve.name.as_deref()?;
                Some(Line::from(Span::from(name).fg(curve.colour)))
            })
            .collect();
        let width = lines.iter().map(Line::width).max().unwrap_or(0) as u16 + 2;
        let height = lines.len() as u16 + 2;
        // The table names the colours as well, so that curves have priority on a small plot.
        if lines.is_empty() || width > graph.width / 2 || height > graph.height / 2 {
            return;
        }
        let is_free = |area: &Rect| {
            let mut cells = area.positions();
            cells.all(|at| buffer[at].symbol().trim().is_empty())
        };
        let corners = std::iter::once(self.legend).chain(Corner::ALL);
        let mut areas = corners.map(|corner| corner.of(graph, width, height));
        let Some(area) = areas.find(is_free) else {
            return;
        };
        let block = Block::bordered();
        let inner = block.inner(area);
        block.render(area, buffer);
        for (line, row) in lines.iter().zip(inner.rows()) {
            line.render(row, buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(curves: Vec<Curve>) -> Buffer {
        let scale = Scale::linear([0.0, 1.0].into_iter(), 2).expect("two values");
        let area = Rect::new(0, 0, 44, 12);
        let mut buffer = Buffer::empty(area);
        let plot = Plot {
            scale: &scale,
            last_step: 9,
            curves,
            legend: Corner::TopRight,
        };
        plot.render(area, &mut buffer);
        buffer
    }

    fn flat(colour: Color, level: Level) -> Curve {
        Curve {
            name: None,
            colour,
            level,
            lines: vec![vec![(0.0, 0.5), (9.0, 0.5)]],
        }
    }

    fn columns_of(buffer: &Buffer, colour: Color) -> usize {
        let cells = buffer.content.iter();
        cells.filter(|cell| cell.fg == colour).count()
    }

    #[test]
    fn curves_that_agree_are_all_visible() {
        let alone = columns_of(&plot(vec![flat(Color::Red, Level::Shared)]), Color::Red);
        let both = plot(vec![
            flat(Color::Red, Level::Shared),
            flat(Color::Blue, Level::Shared),
        ]);
        let (red, blue) = (
            columns_of(&both, Color::Red),
            columns_of(&both, Color::Blue),
        );
        assert_eq!(alone, 40);
        assert_eq!((red, blue), (20, 20));
    }

    #[test]
    fn higher_levels_hide_lower_levels() {
        let buffer = plot(vec![
            flat(Color::Red, Level::Above),
            flat(Color::Blue, Level::Shared),
            flat(Color::Green, Level::Behind),
        ]);
        assert_eq!(columns_of(&buffer, Color::Red), 40);
        assert_eq!(columns_of(&buffer, Color::Blue), 0);
        assert_eq!(columns_of(&buffer, Color::Green), 0);
    }

    #[test]
    fn legend_covers_no_curve() {
        let text = |lines| {
            let mut curve = flat(Color::Red, Level::Shared);
            curve.name = Some("flex:f32".into());
            curve.lines = lines;
            let buffer = plot(vec![curve]);
            let symbols = buffer.content.iter().map(|cell| cell.symbol());
            let text: String = symbols.collect();
            let at = text
                .find("flex:f32")
                .map(|byte| text[..byte].chars().count());
            at.map(|at| (at % 44, at / 44))
        };
        assert_eq!(text(vec![vec![(0.0, 0.5)]]), Some((35, 1)));
        assert_eq!(text(vec![vec![(0.0, 0.5), (9.0, 1.0)]]), Some((5, 1)));
        let across = vec![vec![(0.0, 0.0), (9.0, 1.0)], vec![(0.0, 1.0), (9.0, 0.0)]];
        assert_eq!(text(across), None);
    }

    #[test]
    fn single_point_is_drawn() {
        let mut curve = flat(Color::Red, Level::Shared);
        curve.lines = vec![vec![(4.0, 0.5)]];
        assert_eq!(columns_of(&plot(vec![curve]), Color::Red), 1);
    }
}
