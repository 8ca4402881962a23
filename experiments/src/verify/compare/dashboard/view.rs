//! View options of the full screen, and the keys that change them.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// View options chosen by the user.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// Whether the loss is on a logarithmic scale.
    pub(super) log: bool,
    /// The highlighted row of the table.
    pub(super) selected: Option<usize>,
    pub(super) popup: Popup,
}

/// Popup over the screen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Popup {
    #[default]
    None,
    /// All keys.
    Keys,
    /// Everything about the selected row.
    Details,
}

/// Action requested by a key, besides a change of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    None,
    /// Stop after the step under way.
    Stop,
    /// Stop after the step under way; the second time, quit at once. Ctrl-C on systems where it is a key and no signal.
    Interrupt,
    /// Repaint the screen, after another program wrote on it.
    Repaint,
}

/// All keys with their descriptions.
pub(super) const KEYS: [(&str, &str); 7] = [
    ("q", "stop after the step under way"),
    ("Ctrl-C", "stop after the step; again, quit at once"),
    ("l", "loss on a logarithmic or linear scale"),
    ("↑ ↓", "highlight a backend"),
    ("Enter", "show its verdict and checks in full"),
    ("Esc", "close this, remove the highlight"),
    ("Ctrl-L", "repaint the screen"),
];

impl View {
    /// Handles a key, while the table has `rows` rows.
    pub(super) fn key(&mut self, key: KeyEvent, rows: usize) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::None;
        }
        let last = rows.checked_sub(1);
        let popup = std::mem::take(&mut self.popup);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Action::Interrupt;
            }
            KeyCode::Char('l') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.popup = popup;
                return Action::Repaint;
            }
            KeyCode::Char('q') if popup == Popup::None => return Action::Stop,
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
        Action::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(view: &mut View, code: KeyCode, rows: usize) -> Action {
        view.key(KeyEvent::new(code, KeyModifiers::NONE), rows)
    }

    #[test]
    fn highlight_wraps_around() {
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
    fn key_q_closes_a_popup_before_it_stops_the_comparison() {
        let mut view = View::default();
        press(&mut view, KeyCode::Char('?'), 3);
        assert_eq!(view.popup, Popup::Keys);
        assert_eq!(press(&mut view, KeyCode::Char('q'), 3), Action::None);
        assert_eq!(view.popup, Popup::None);
        assert_eq!(press(&mut view, KeyCode::Char('q'), 3), Action::Stop);
        press(&mut view, KeyCode::Enter, 3);
        assert_eq!((view.selected, view.popup), (Some(0), Popup::Details));
        press(&mut view, KeyCode::Enter, 3);
        assert_eq!(view.popup, Popup::None);
    }

    #[test]
    fn control_keys_differ_from_letters() {
        let mut view = View::default();
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!(view.key(control('l'), 3), Action::Repaint);
        assert_eq!(view.key(control('c'), 3), Action::Interrupt);
        assert!(!view.log);
        press(&mut view, KeyCode::Char('l'), 3);
        assert!(view.log);
    }
}
