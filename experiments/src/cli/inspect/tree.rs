//! The module tree of a model, with the shapes of each module's tensors. All blocks are alike and shown once.

use foretoken_model::ModelConfig;
use indicatif::HumanCount;

/// A module: its name, its own tensors' shapes, and the modules in it.
#[derive(Default)]
struct Module {
    name: String,
    shapes: Vec<Vec<usize>>,
    modules: Vec<Module>,
}

impl Module {
    fn insert(&mut self, path: &[&str], shape: Vec<usize>) {
        match path {
            // The last name is the tensor's: weight, bias, gamma, beta.
            [] | [_] => self.shapes.push(shape),
            [name, rest @ ..] => {
                if self.modules.last().is_none_or(|last| last.name != *name) {
                    self.modules.push(Self {
                        name: (*name).into(),
                        ..Self::default()
                    });
                }
                if let Some(module) = self.modules.last_mut() {
                    module.insert(rest, shape);
                }
            }
        }
    }

    fn parameters(&self) -> usize {
        let own: usize = self
            .shapes
            .iter()
            .map(|shape| shape.iter().product::<usize>())
            .sum();
        own + self.modules.iter().map(Self::parameters).sum::<usize>()
    }

    /// Appends a line for this module and for each module in it. `stem` is drawn before the inner ones.
    fn lines(&self, branch: &str, stem: &str, note: &str, lines: &mut String) {
        let shapes: Vec<String> = self
            .shapes
            .iter()
            .map(|shape| format!("{shape:?}"))
            .collect();
        let shapes = shapes.join(" + ") + note;
        let parameters = HumanCount(self.parameters() as u64).to_string();
        let name = format!("{branch}{}", self.name);
        *lines += format!("{name:<30} {shapes:<30} {parameters:>18}").trim_end();
        *lines += "\n";
        let last = self.modules.len().saturating_sub(1);
        for (i, module) in self.modules.iter().enumerate() {
            let (branch, next) = match i == last {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            module.lines(
                &format!("{stem}{branch}"),
                &format!("{stem}{next}"),
                "",
                lines,
            );
        }
    }
}

/// Draws the tree with a line for each module: name, shapes, parameters.
pub(super) fn draw(config: &ModelConfig) -> String {
    let mut root = Module::default();
    for (path, shape) in config.tensors() {
        let names: Vec<&str> = path.split('.').collect();
        match names[..] {
            // `blocks.0.…` represents every block.
            ["blocks", "0", ref rest @ ..] => {
                let blocks = match config.layers {
                    1 => "blocks.0".to_string(),
                    layers => format!("blocks.0–{}", layers - 1),
                };
                root.insert(&[&[blocks.as_str()], rest].concat(), shape);
            }
            ["blocks", ..] => {}
            _ => root.insert(&names, shape),
        }
    }
    let mut lines = String::new();
    for module in &root.modules {
        let note = match module.name.starts_with("blocks") && config.layers > 1 {
            true => format!("{} alike, each", config.layers),
            false => String::new(),
        };
        module.lines("", "", &note, &mut lines);
    }
    if config.tied_head {
        lines += "head                           token_embedding, transposed\n";
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_shown_once_and_every_module_has_its_parameters() {
        let config = ModelConfig::new(7, 5, 3, 2, 4).with_bias(false);
        let expected = "\
token_embedding                [7, 4]                                         28
position_embedding             [5, 4]                                         20
blocks.0–2                     3 alike, each                                 200
├─ attention_norm              [4]                                             4
├─ attention                                                                  64
│  ├─ qkv                      [4, 12]                                        48
│  └─ output                   [4, 4]                                         16
├─ feed_forward_norm           [4]                                             4
└─ feed_forward                                                              128
   ├─ up                       [4, 16]                                        64
   └─ down                     [16, 4]                                        64
final_norm                     [4]                                             4
head                           token_embedding, transposed
";
        assert_eq!(draw(&config), expected);
        // A module's own tensors share a line, and an untied head is a module.
        let config = ModelConfig::new(7, 5, 1, 2, 4).with_tied_head(false);
        let shown = draw(&config);
        assert!(
            shown.contains("│  ├─ qkv                      [4, 12] + [12]"),
            "{shown}"
        );
        assert!(shown.contains("\nblocks.0 "), "{shown}");
        assert!(
            shown.contains("\nhead                           [4, 7] "),
            "{shown}"
        );
    }

    #[test]
    fn the_tree_of_every_preset_fits_80_columns() {
        for name in ModelConfig::PRESETS {
            for line in draw(&ModelConfig::preset(name).unwrap()).lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}
