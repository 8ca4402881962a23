//! The command `foretoken generate`.

mod printer;
mod prompts;

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum};
use foretoken::record::source::Source;
use foretoken::show::output;
use foretoken::text::generation::{Continuation, Ending, Event, Generated, TextGeneration};
use foretoken::{Error, errln};
use foretoken_datasets::Tokenizer;
use foretoken_model::{GenerationConfig, ModelError, Overflow, SamplingConfig, Transformer};
use serde::Serialize;

use super::interrupt::on_ctrl_c;
use super::model::{ModelArgs, refused};
use printer::TextPrinter;
use prompts::{Prompt, Prompts};

/// Continue prompts with text that a model generates
///
/// Prints the prompt and its continuation while it is generated; the speed goes to standard error. The same seed
/// gives the same text.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken generate runs/world-flex-1 --prompt 'The capital of '
  foretoken generate gpt2/ --prompt 'Once upon a time' --temperature 0.8 --top-p 0.95
  foretoken generate gpt2/ --prompt 'Q: 2 + 2?' --greedy --stop 'Q:'
  foretoken generate gpt2/ --prompt 'A haiku:' --samples 4      four texts, drawn side by side
  foretoken generate gpt2/ --prompt - < letter.txt              the prompt from standard input
  foretoken generate gpt2/ --interactive                        one prompt after another

Settings apply in this order: repetition penalty, temperature, top-k, top-p, min-p. Ctrl-C ends the
text.")]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to continue, with special tokens by their names; - reads it from standard input. May be
    /// repeated; all prompts are continued side by side. Without a prompt, or with an empty one, a new
    /// text begins, if the tokenizer has a token that begins or ends texts
    #[arg(long = "prompt", value_name = "TEXT", allow_hyphen_values = true)]
    prompts: Vec<String>,
    /// Largest number of tokens to generate
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Temperature: below 1 sharpens the distribution, above 1 flattens it, 0 is --greedy [default: 1]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Keep only the K most probable tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Keep only the most probable tokens whose probabilities add up to P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Keep only tokens at least P times as probable as the most probable one
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f64>,
    /// Always take the most probable token
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "samples"])]
    greedy: bool,
    /// Repetition penalty: above 1 makes tokens that the text already contains less probable
    #[arg(
        long,
        value_name = "R",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    repetition_penalty: f64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End the text before this string; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Continue when the model ends its text
    #[arg(long)]
    ignore_eos: bool,
    /// Number of texts for each prompt, each from its own random numbers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Treatment of a text that is longer than the model's context
    #[arg(long, value_enum, default_value_t)]
    overflow: OverflowArg,
    /// Recompute the whole text for every token instead of using the key/value cache
    #[arg(long)]
    no_cache: bool,
    /// Ask for one prompt after another; Ctrl-D quits. If standard input is not a terminal, each line is
    /// a prompt
    #[arg(short, long, conflicts_with = "prompts")]
    interactive: bool,
    /// Print one JSON object (with --interactive: one per prompt) and nothing else on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Default, PartialEq, ValueEnum)]
enum OverflowArg {
    /// Drop its beginning
    #[default]
    Slide,
    /// Refuse to start
    Error,
}

impl GenerateArgs {
    /// Returns all settings, checked before any file is opened.
    fn settings(&self) -> Result<TextGeneration, Error> {
        let sampling = SamplingConfig {
            repetition_penalty: self.repetition_penalty,
            temperature: match self.greedy {
                true => 0.0,
                false => self.temperature.unwrap_or(1.0),
            },
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
        };
        sampling.validate().map_err(as_argument)?;
        if self.stop.iter().any(String::is_empty) {
            return Err(refused(
                "--stop",
                "is empty, so every text would end at once; give some text",
            ));
        }
        Ok(TextGeneration {
            generation: GenerationConfig {
                tokens: self.tokens as usize,
                cache: !self.no_cache,
                overflow: match self.overflow {
                    OverflowArg::Slide => Overflow::Slide,
                    OverflowArg::Error => Overflow::Error,
                },
            },
            sampling,
            seed: self.seed,
            samples: self.samples as usize,
            stop: self.stop.clone(),
            end_of_text: Vec::new(),
        })
    }
}

pub(super) fn run(args: GenerateArgs) -> Result<ExitCode, Error> {
    let mut settings = args.settings()?;
    // Installed before the line editor, whose raw mode would stay after an unhandled signal.
    let interrupted = on_ctrl_c(|| {});
    let source = args.model.open()?;
    if !args.ignore_eos {
        settings.end_of_text = source.end_of_text();
    }
    let mut prompts = Prompts::new(&args.prompts, args.interactive)?;
    let first = prompts.next(&source)?;
    let session = Session {
        model: args.model.load(&source)?,
        tokenizer: source.tokenizer()?,
        source: &source,
        settings,
        args: &args,
        interrupted,
    };
    let mut next = first;
    while let Some(batch) = next {
        let outcome = session.generate(&batch)?;
        if prompts.hung_up() {
            return Ok(ExitCode::from(130));
        }
        if !prompts.is_interactive() || outcome == Outcome::Unread {
            return Ok(match outcome {
                Outcome::Interrupted => ExitCode::from(130),
                Outcome::Complete | Outcome::Unread => ExitCode::SUCCESS,
            });
        }
        session.interrupted.store(false, Ordering::Relaxed);
        next = prompts.next(&source)?;
    }
    Ok(match prompts.hung_up() {
        true => ExitCode::from(130),
        false => ExitCode::SUCCESS,
    })
}

/// Turns an error of a setting into one of its argument.
fn as_argument(error: ModelError) -> Error {
    let argument = |name: &str| format!("--{}", name.replace('_', "-"));
    match error {
        ModelError::OutOfRange {
            name,
            value,
            expected,
        } => refused(
            &argument(name),
            format!("is {value}; it must be {expected}"),
        ),
        ModelError::Zero { name } => refused(&argument(name), "is 0; it must be at least 1"),
        error => error.into(),
    }
}

/// A loaded model and the settings of its texts.
struct Session<'a> {
    model: Transformer,
    tokenizer: &'a Tokenizer,
    source: &'a Source,
    settings: TextGeneration,
    args: &'a GenerateArgs,
    interrupted: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Complete,
    /// Ended by Ctrl-C.
    Interrupted,
    /// Standard output was closed.
    Unread,
}

impl Session<'_> {
    /// Continues a batch of prompts and prints the texts.
    fn generate(&self, prompts: &[Prompt]) -> Result<Outcome, Error> {
        let mut printer = TextPrinter::new(prompts, self.settings.samples, self.args.json);
        let ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        let mut read = printer.start();
        let interrupted = || self.interrupted.load(Ordering::Relaxed);
        let generated = self
            .settings
            .run(&self.model, self.tokenizer, &ids, |row, event| {
                read = read
                    && match event {
                        Event::Text(text) => printer.text(row, text),
                        Event::End => printer.end(row),
                    };
                match read && !interrupted() {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
        read = read && printer.finish();
        if self.args.json {
            read =
                output::write(&(serde_json::to_string(&self.report(prompts, &generated))? + "\n"));
        } else {
            errln!("{}", speeds(&generated));
        }
        Ok(match (read, interrupted()) {
            (false, _) => Outcome::Unread,
            (true, true) => Outcome::Interrupted,
            (true, false) => Outcome::Complete,
        })
    }

    fn report<'r>(&'r self, prompts: &'r [Prompt], generated: &'r Generated) -> Report<'r> {
        Report {
            model: self.source.description(),
            backend: self
                .args
                .model
                .backend()
                .map_or("", |(backend, _)| backend.name()),
            seed: self.settings.seed,
            sampling: &self.settings.sampling,
            prompts: prompts.iter().map(|prompt| prompt.text.as_str()).collect(),
            samples: &generated.continuations,
            prompt_tokens: generated.prompt_tokens,
            prefill_seconds: generated.prefill.as_secs_f64(),
            decode_seconds: generated.decode.as_secs_f64(),
            prefill_tokens_per_second: generated.prefill_speed(),
            tokens_per_second: generated.decode_speed(),
        }
    }
}

#[derive(Serialize)]
struct Report<'r> {
    model: String,
    backend: &'static str,
    seed: u64,
    sampling: &'r SamplingConfig,
    prompts: Vec<&'r str>,
    samples: &'r [Continuation],
    prompt_tokens: usize,
    prefill_seconds: f64,
    decode_seconds: f64,
    prefill_tokens_per_second: f64,
    tokens_per_second: Option<f64>,
}

/// Describes the speed, and why a single text ended.
fn speeds(generated: &Generated) -> String {
    let tokens: usize = generated
        .continuations
        .iter()
        .map(|text| text.tokens.len())
        .sum();
    let decode = match generated.decode_speed() {
        Some(speed) => format!(" at {} tokens/s", speed_digits(speed)),
        None => String::new(),
    };
    let ending = match generated.continuations.as_slice() {
        [text] => match text.ending {
            Ending::Length | Ending::Interrupted => "",
            Ending::Stop => "; ended by a stop string",
            Ending::EndOfText => "; the model ended the text",
        },
        _ => "",
    };
    format!(
        "[prompt: {} tokens at {} tokens/s; text: {tokens} tokens{decode}{ending}]",
        generated.prompt_tokens,
        speed_digits(generated.prefill_speed()),
    )
}

/// Writes a speed with about three significant digits.
fn speed_digits(speed: f64) -> String {
    let digits = match speed {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{speed:.digits$}")
}
