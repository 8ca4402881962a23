//! Where prompts come from: arguments, standard input, or a line editor.

use std::io::{IsTerminal, Read};

use foretoken::record::source::Source;
use foretoken::show::terminal;
use foretoken::{Error, errln};
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use crate::cli::model::refused;

/// What the user typed, and what the model reads.
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
    /// Whether the user sees it already.
    pub(super) on_screen: bool,
}

/// The prompts of one call, batch by batch.
pub(super) enum Prompts {
    /// One batch.
    Given(Vec<String>),
    /// A batch for every line.
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
                "standard input can be read only once",
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

    /// Whether there is another batch to ask for.
    pub(super) fn go_on(&self) -> bool {
        matches!(self, Self::Interactive(_))
    }

    /// Whether prompts came from a terminal that is gone.
    pub(super) fn hung_up(&self) -> bool {
        self.go_on() && terminal::input_is_gone()
    }

    /// The next batch; nothing where the user leaves.
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
                    // A typing mistake, such as a character that the tokenizer does not have.
                    Err(error) if std::io::stdin().is_terminal() => errln!("error: {error}"),
                    Err(error) => return Err(error),
                }
            },
        }
    }
}

/// All of it, but for a line break at its end.
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
