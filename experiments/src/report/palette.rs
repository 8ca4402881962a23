//! Colours of a report: the Okabe–Ito palette, which colour-blind readers can distinguish, and greys.

/// Number of colours of runs. Further runs repeat them with another dash pattern.
pub(super) const RUN_COLOURS: usize = 7;

/// Number of dash patterns.
const DASHES: usize = 5;

/// Colours: name, value on light pages and on paper, value on dark pages.
const COLOURS: [(&str, &str, &str); 36] = [
    ("page", "#ffffff", "#14171a"),
    ("panel", "#f6f7f8", "#1c2024"),
    ("ink", "#1a1d21", "#e6e8ea"),
    ("muted", "#5c646d", "#9aa3ad"),
    ("rule", "#dde1e5", "#30363c"),
    ("grid", "#e9ecef", "#262b30"),
    ("axis", "#8b949e", "#6b747d"),
    ("link", "#005f99", "#6cb8ec"),
    ("run-0", "#0072b2", "#3f9fdc"),
    ("run-1", "#d55e00", "#ef7f2e"),
    ("run-2", "#009e73", "#1fbf93"),
    ("run-3", "#cc79a7", "#de93bd"),
    ("run-4", "#e69f00", "#f0b429"),
    ("run-5", "#56b4e9", "#9ad7fa"),
    ("run-6", "#7a7313", "#f0e442"),
    ("reference", "#1a1d21", "#e6e8ea"),
    ("seed", "#9aa3ad", "#7a838c"),
    ("band-0", "#e6ecf1", "#262d34"),
    ("band-1", "#d3dce4", "#343e47"),
    ("band-2", "#bcc8d3", "#46525d"),
    ("band-edge", "#6f7d8a", "#8d9aa6"),
    ("good", "#00694d", "#41cfa4"),
    ("fair", "#005f99", "#6cb8ec"),
    ("bad", "#a84300", "#ff9a56"),
    ("good-tint", "#e5f4ef", "#12312a"),
    ("fair-tint", "#e4f0f8", "#14293a"),
    ("bad-tint", "#fbece2", "#3a2314"),
    ("heat-0", "#eff5fa", "#1d2731"),
    ("heat-1", "#d3e5f2", "#20394d"),
    ("heat-2", "#a6cce6", "#25557a"),
    ("heat-3", "#6aaad6", "#2c76ac"),
    ("heat-4", "#2f80ba", "#4a9fdb"),
    ("heat-5", "#f2b36b", "#c9822b"),
    ("heat-6", "#e07a2b", "#e8803a"),
    ("heat-7", "#b54708", "#ff9d66"),
    ("heat-nan", "#1a1d21", "#f4f6f8"),
];

/// Returns the classes of the line of the run at `index`: a colour and a dash pattern. The first 35 pairs are distinct.
pub(crate) fn run_class(index: usize) -> String {
    let colour = index % RUN_COLOURS;
    let dash = (index + index / RUN_COLOURS) % DASHES;
    format!("c{colour} d{dash}")
}

/// Returns the colours as CSS custom properties, for light and dark screens and for paper.
pub(super) fn properties() -> String {
    let list = |pick: fn(&(&str, &str, &str)) -> String| -> String {
        COLOURS.iter().map(pick).collect::<Vec<_>>().join(";")
    };
    let light = list(|(name, light, _)| format!("--{name}:{light}"));
    let dark = list(|(name, _, dark)| format!("--{name}:{dark}"));
    format!(":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n")
}

/// Returns a style sheet with its custom properties replaced by the colours of paper.
pub(super) fn resolved(style: &str) -> String {
    COLOURS
        .iter()
        .fold(style.to_owned(), |style, (name, light, _)| {
            style.replace(&format!("var(--{name})"), light)
        })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn classes_of_the_first_runs_are_distinct() {
        let classes: HashSet<_> = (0..RUN_COLOURS * DASHES).map(run_class).collect();
        assert_eq!(classes.len(), RUN_COLOURS * DASHES);
    }

    #[test]
    fn paper_style_has_no_variables() {
        let style = resolved(super::super::svg::page_style());
        assert!(!style.contains("var("), "{style}");
    }
}
