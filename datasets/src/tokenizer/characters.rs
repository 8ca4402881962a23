//! Characters that occur in texts.

/// Set of the characters of some texts, as a table by code point.
pub(super) struct Characters(Vec<bool>);

impl Default for Characters {
    fn default() -> Self {
        Self(vec![false; char::MAX as usize + 1])
    }
}

impl Characters {
    /// Adds the characters of a text.
    pub(super) fn add(&mut self, text: &str) {
        for character in text.chars() {
            self.0[character as usize] = true;
        }
    }

    /// Returns the characters in the order of code points.
    pub(super) fn sorted(&self) -> Vec<char> {
        ('\0'..=char::MAX)
            .filter(|&character| self.0[character as usize])
            .collect()
    }
}
