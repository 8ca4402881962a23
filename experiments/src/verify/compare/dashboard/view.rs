//! What the reader has chosen to see, and the keys that choose it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The reader's choices.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// Whether the loss is on a logarithmic scale.
    pub(super) log: bool,
    /// The row of the table that is highlighted.
    pub(super) selected: Option<usize>,
    pub(super) popup: Popup,
}

/// What covers the screen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Popup {
    #[default]
    None,
    /// All keys.
    Keys,
    /// Everything about the selected row.
    Details,
}

/// What a key asks for, other than another view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Stop after the step under way.
    Stop,
    /// Ctrl-C, where it is a key and no signal.
    Interrupt,
    /// Something else wrote on the screen.
    Repaint,
}

/// The keys, and what they do.
pub(super) const KEYS: [(&str, &str); 7] = [
    ("q", "stop after the step under way"),
    ("Ctrl-C", "the same; once more, quit at once"),
    ("l", "loss on a logarithmic or linear scale"),
    ("↑ ↓", "highlight an entrant"),
    ("Enter", "its verdict and checks in full"),
    ("Esc", "highlight none, close this"),
    ("Ctrl-L", "paint the screen anew"),
];

impl View {
    /// Takes a key, while the table has so many rows.
    pub(super) fn key(&mut self, key: KeyEvent, rows: usize) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        let last = rows.checked_sub(1);
        let popup = std::mem::take(&mut self.popup);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Wish::Interrupt;
            }
            KeyCode::Char('l') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.popup = popup;
                return Wish::Repaint;
            }
            KeyCode::Char('q') if popup == Popup::None => return Wish::Stop,
            KeyCode::Char('l') => self.log = !self.log,
            KeyCode::Char('?') if popup != Popup::Keys => self.popup = Popup::Keys,
            KeyCode::Enter if popup != Popup::Details => {
                self.selected = self.selected.or(last.and(Some(0)));
                self.popup = match self.selected {
                    Some(_) => Popup::Details,
                    None => Popup::None,
                };
            }
            KeyCode::Esc if popup == Popup::None => self.selected = None,
            KeyCode::Up | KeyCode::Left | KeyCode::Down | KeyCode::Right => {
                self.popup = popup;
                let back = matches!(key.code, KeyCode::Up | KeyCode::Left);
                self.selected = last.map(|last| match (self.selected, back) {
                    (None, true) => last,
                    (None, false) => 0,
                    (Some(row), true) => row.checked_sub(1).unwrap_or(last),
                    (Some(row), false) if row >= last => 0,
                    (Some(row), false) => row + 1,
                });
            }
            _ => {}
        }
        Wish::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(view: &mut View, code: KeyCode, rows: usize) -> Wish {
        view.key(KeyEvent::new(code, KeyModifiers::NONE), rows)
    }

    #[test]
    fn the_highlight_goes_round() {
        let mut view = View::default();
        for expected in [0, 1, 2, 0] {
            press(&mut view, KeyCode::Down, 3);
            assert_eq!(view.selected, Some(expected));
        }
        press(&mut view, KeyCode::Up, 3);
        assert_eq!(view.selected, Some(2));
        press(&mut view, KeyCode::Esc, 3);
        assert_eq!(view.selected, None);
        press(&mut view, KeyCode::Down, 0);
        press(&mut view, KeyCode::Enter, 0);
        assert_eq!((view.selected, view.popup), (None, Popup::None));
    }

    #[test]
    fn popups_close_before_anything_stops() {
        let mut view = View::default();
        press(&mut view, KeyCode::Char('?'), 3);
        assert_eq!(view.popup, Popup::Keys);
        assert_eq!(press(&mut view, KeyCode::Char('q'), 3), Wish::Nothing);
        assert_eq!(view.popup, Popup::None);
        assert_eq!(press(&mut view, KeyCode::Char('q'), 3), Wish::Stop);
        press(&mut view, KeyCode::Enter, 3);
        assert_eq!((view.selected, view.popup), (Some(0), Popup::Details));
        press(&mut view, KeyCode::Enter, 3);
        assert_eq!(view.popup, Popup::None);
    }

    #[test]
    fn control_keys_are_not_letters() {
        let mut view = View::default();
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!(view.key(control('l'), 3), Wish::Repaint);
        assert_eq!(view.key(control('c'), 3), Wish::Interrupt);
        assert!(!view.log);
        press(&mut view, KeyCode::Char('l'), 3);
        assert!(view.log);
    }
}
