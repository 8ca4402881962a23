//! Texts on standard output while they grow. One at a time is seen growing; those after it wait their turn.

use std::collections::HashMap;

use anstyle::Style;
use foretoken::show::output;

use super::prompts::Prompt;
use crate::cli::screen;

/// The texts of one batch, in the order in which they are shown.
pub(super) struct Shown<'p> {
    prompts: &'p [Prompt],
    samples: usize,
    /// Number of texts.
    rows: usize,
    /// Nothing is printed.
    silent: bool,
    colours: bool,
    /// The text that is seen growing.
    current: usize,
    /// Text of the current row and of those after it that is not printed yet, and whether the row is complete.
    waiting: HashMap<usize, (String, bool)>,
    /// Whether the cursor stands at the start of a line.
    line_start: bool,
}

impl<'p> Shown<'p> {
    pub(super) fn new(prompts: &'p [Prompt], samples: usize, silent: bool) -> Self {
        Self {
            prompts,
            samples,
            rows: prompts.len().saturating_mul(samples),
            silent,
            colours: screen::has_colours(),
            current: 0,
            waiting: HashMap::new(),
            line_start: true,
        }
    }

    /// Shows the first prompt. This and the others say whether anybody still reads.
    pub(super) fn start(&mut self) -> bool {
        self.open(0)
    }

    /// More of a text.
    pub(super) fn text(&mut self, row: usize, text: &str) -> bool {
        if row != self.current {
            self.waiting.entry(row).or_default().0 += text;
            return true;
        }
        self.write(text)
    }

    /// The end of a text.
    pub(super) fn end(&mut self, row: usize) -> bool {
        self.waiting.entry(row).or_default().1 = true;
        let mut read = true;
        while read
            && self
                .waiting
                .get(&self.current)
                .is_some_and(|(_, ended)| *ended)
        {
            self.current += 1;
            read = self.open(self.current);
        }
        read
    }

    /// Ends the line, wherever the texts were cut off.
    pub(super) fn finish(&mut self) -> bool {
        self.line_start || self.write("\n")
    }

    /// Shows a row's heading, its prompt and what has come of it.
    fn open(&mut self, row: usize) -> bool {
        let rows = self.rows;
        if row >= rows {
            return true;
        }
        let prompt = &self.prompts[row / self.samples];
        let (dim, bold) = match self.colours {
            true => (Style::new().dimmed(), Style::new().bold()),
            false => (Style::new(), Style::new()),
        };
        let mut opening = String::new();
        if !self.line_start {
            opening += "\n";
        }
        if row > 0 {
            opening += "\n";
        }
        if rows > 1 {
            opening += &format!("{dim}--- {} of {rows} ---{dim:#}\n", row + 1);
        }
        if !prompt.on_screen && !prompt.text.is_empty() {
            opening += &format!("{bold}{}{bold:#}", prompt.text);
        }
        if let Some((text, _)) = self.waiting.get_mut(&row) {
            opening += &std::mem::take(text);
        }
        self.write(&opening)
    }

    fn write(&mut self, text: &str) -> bool {
        if self.silent || text.is_empty() {
            return true;
        }
        self.line_start = text.ends_with('\n');
        output::write(text)
    }
}
