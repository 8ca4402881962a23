//! Stop strings, which end a text and may span several tokens.

/// A filter that passes a text on up to the first stop string. Text that may begin one is held back.
pub(super) struct StopStrings<S> {
    strings: S,
    held: String,
}

impl<S: AsRef<[String]>> StopStrings<S> {
    /// Creates a filter; no string may be empty.
    pub(super) fn new(strings: S) -> Self {
        Self {
            strings,
            held: String::new(),
        }
    }

    /// Adds text. Returns the text that cannot belong to a stop string, and whether one is complete.
    pub(super) fn push(&mut self, text: &str) -> (String, bool) {
        self.held += text;
        let strings = self.strings.as_ref();
        let found = strings.iter().filter_map(|stop| self.held.find(stop));
        if let Some(start) = found.min() {
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let begins = |start: &usize| {
            let tail = &self.held[*start..];
            strings.iter().any(|stop| stop.starts_with(tail))
        };
        let mut starts = self.held.char_indices().map(|(start, _)| start);
        let certain = starts.find(begins).unwrap_or(self.held.len());
        let held = self.held.split_off(certain);
        (std::mem::replace(&mut self.held, held), false)
    }

    /// Returns the text that was held back, at the end of the input.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Filters pieces of text; returns the text that passes, and whether a stop string was found.
    fn filter(stop: &[String], pieces: &[String]) -> (Vec<String>, bool) {
        let mut filter = StopStrings::new(stop);
        let mut passed = Vec::new();
        for piece in pieces {
            let (text, stopped) = filter.push(piece);
            passed.push(text);
            if stopped {
                return (passed, true);
            }
        }
        passed.push(filter.finish());
        (passed, false)
    }

    #[test]
    fn a_possible_stop_string_is_held_back_until_it_is_ruled_out() {
        let [stop, pieces] = [
            vec!["END", "\n\n"],
            vec!["a", "E", "N", "x E", "\n", "b\n", "\nc"],
        ]
        .map(|strings| strings.into_iter().map(String::from).collect::<Vec<_>>());
        let (passed, stopped) = filter(&stop, &pieces);
        assert_eq!(passed, ["a", "", "", "ENx ", "E", "\nb", ""]);
        assert!(stopped);
    }

    proptest! {
        #[test]
        fn a_text_ends_before_its_first_stop_string(
            stop in prop::collection::vec("[abé]{1,3}", 0..3),
            pieces in prop::collection::vec("[abé]{0,3}", 0..20),
        ) {
            let mut text = String::new();
            let mut first = None;
            for piece in &pieces {
                text += piece;
                first = stop.iter().filter_map(|stop| text.find(stop)).min();
                if first.is_some() {
                    break;
                }
            }
            let (passed, stopped) = filter(&stop, &pieces);
            prop_assert_eq!(stopped, first.is_some());
            prop_assert_eq!(passed.concat(), &text[..first.unwrap_or(text.len())]);
        }
    }
}
