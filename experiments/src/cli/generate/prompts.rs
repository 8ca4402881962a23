//! Prompts from arguments, standard input, or a line editor.

use std::io::{IsTerminal, Read};

use foretoken::record::source::Source;
use foretoken::show::terminal;
use foretoken::{Error, errln};
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use crate::cli::model::refused;

/// A prompt as the user typed it, and as the model reads it.
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
    /// Whether the user typed it on the screen.
    pub(super) on_screen: bool,
}

/// The prompts of one call, batch by batch.
pub(super) enum Prompts {
    /// One batch of prompts from the arguments.
    Given(Vec<String>),
    /// A batch for every line of input.
    Interactive(Box<DefaultEditor>),
}

impl Prompts {
    pub(super) fn new(given: &[String], interactive: bool) -> Result<Self, Error> {
        if interactive {
            let config = Config::builder().auto_add_history(true).build();
            let editor = DefaultEditor::with_config(config);
            return match editor {
                Ok(editor) => Ok(Self::Interactive(Box::new(editor))),
                Err(error) => Err(refused("--interactive", error)),
            };
        }
        if given.iter().filter(|text| *text == "-").count() > 1 {
            return Err(refused(
                "--prompt -",
                "standard input can be read only once; give `--prompt -` only once",
            ));
        }
        let texts = given.iter().map(|text| match text.as_str() {
            "-" => standard_input(),
            text => Ok(text.to_string()),
        });
        let mut texts = texts.collect::<Result<Vec<_>, _>>()?;
        if texts.is_empty() {
            texts.push(String::new());
        }
        Ok(Self::Given(texts))
    }

    /// Returns whether prompts come one after another.
    pub(super) fn is_interactive(&self) -> bool {
        matches!(self, Self::Interactive(_))
    }

    /// Returns whether prompts come from a terminal that was closed.
    pub(super) fn hung_up(&self) -> bool {
        self.is_interactive() && terminal::input_is_gone()
    }

    /// Returns the next batch; `None` if the user quits.
    pub(super) fn next(&mut self, source: &Source) -> Result<Option<Vec<Prompt>>, Error> {
        match self {
            Self::Given(texts) => {
                let prompt = |text: &String| {
                    Ok(Prompt {
                        ids: source.prompt(text)?,
                        text: text.clone(),
                        on_screen: false,
                    })
                };
                texts.iter().map(prompt).collect::<Result<_, _>>().map(Some)
            }
            Self::Interactive(editor) => loop {
                let text = match editor.readline("> ") {
                    Ok(text) => text,
                    Err(_) if terminal::input_is_gone() => return Ok(None),
                    Err(ReadlineError::Interrupted) => continue,
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return Err(refused("--interactive", error)),
                };
                if text.is_empty() {
                    continue;
                }
                match source.prompt(&text) {
                    Ok(ids) => {
                        let on_screen = std::io::stdin().is_terminal();
                        return Ok(Some(vec![Prompt {
                            text,
                            ids,
                            on_screen,
                        }]));
                    }
                    // The user can retype a prompt, for example one with a character that the tokenizer lacks.
                    Err(error) if std::io::stdin().is_terminal() => errln!("error: {error}"),
                    Err(error) => return Err(error),
                }
            },
        }
    }
}

/// Reads standard input without a line break at its end.
fn standard_input() -> Result<String, Error> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| refused("--prompt -", format!("cannot read standard input: {error}")))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
