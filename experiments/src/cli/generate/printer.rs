//! Prints texts to standard output while they grow. Only one grows on screen; later ones wait until it ends.

use std::collections::HashMap;

use anstyle::Style;
use foretoken::show::output;

use super::prompts::Prompt;
use crate::cli::screen;

/// Printer of the texts of one batch, in order.
pub(super) struct TextPrinter<'p> {
    prompts: &'p [Prompt],
    samples: usize,
    /// Number of texts.
    rows: usize,
    /// Whether nothing is printed.
    silent: bool,
    colours: bool,
    /// The text that grows on screen.
    current: usize,
    /// Text of the current and later rows that is not printed yet, and whether the row is complete.
    waiting: HashMap<usize, (String, bool)>,
    /// Whether the cursor is at the start of a line.
    line_start: bool,
}

impl<'p> TextPrinter<'p> {
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

    /// Prints the first prompt. This and the following methods return whether standard output is still open.
    pub(super) fn start(&mut self) -> bool {
        self.open(0)
    }

    /// Adds to a text.
    pub(super) fn text(&mut self, row: usize, text: &str) -> bool {
        if row != self.current {
            self.waiting.entry(row).or_default().0 += text;
            return true;
        }
        self.write(text)
    }

    /// Ends a text, and prints the texts that waited for it.
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

    /// Ends the line if a text was cut off inside one.
    pub(super) fn finish(&mut self) -> bool {
        self.line_start || self.write("\n")
    }

    /// Prints a row's heading, its prompt, and its text so far.
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
        output::write_text(text)
    }
}
