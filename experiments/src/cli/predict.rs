//! The command `foretoken predict`.

use std::process::ExitCode;

use anstyle::{Ansi256Color, Style};
use clap::Args;
use foretoken::Error;
use foretoken::record::source::Source;
use foretoken::show::format::Shown;
use foretoken::show::output;
use foretoken::text::predict::{NextToken, Surprisal, Surprisals, next_token, surprisals};
use foretoken_datasets::Tokenizer;
use serde::Serialize;

use super::model::{ModelArgs, refused};
use super::screen;

/// Largest default context; a model's own context may be longer.
const CONTEXT: usize = 1024;

/// Largest number of characters of a token's name in a chart or a table.
const NAME: usize = 20;

/// Show a model's predictions: the distribution of the next token, and the surprisal of a text
///
/// With --prompt, prints the most probable next tokens as a bar chart, and the entropy of the distribution. With
/// --target, prints the surprisal -log2 p of each of its tokens: coloured on a terminal, as a table elsewhere.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken predict gpt2/ --prompt 'The capital of France is'
  foretoken predict gpt2/ --prompt 'The capital of France is' --target ' Paris.'
  foretoken predict gpt2/ --target \"$(cat letter.txt)\"     a text without a prompt; its first token is not scored
  foretoken predict gpt2/ --prompt 'Once' --json | jq .next.entropy_bits

A text longer than --context is read in windows that overlap by half. Bits per byte divide by the bytes
of the scored tokens.")]
pub(super) struct PredictArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Text before the predicted token, with special tokens by their names
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Number of most probable tokens to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Text whose tokens are scored
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "prompt"
    )]
    target: Option<String>,
    /// Number of tokens that the model attends to [default: its context, at most 1024]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Print a table instead of the coloured text
    #[arg(long)]
    table: bool,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    model: String,
    backend: &'static str,
    context: usize,
    prompt: Option<String>,
    /// Distribution of the token after the prompt; absent without a prompt.
    next: Option<NextToken>,
    target: Option<String>,
    /// The first token of a target without a prompt, which has no prediction.
    not_judged: Option<String>,
    surprisals: Option<Surprisals>,
}

pub(super) fn run(args: PredictArgs) -> Result<ExitCode, Error> {
    let source = args.model.open()?;
    let tokenizer = source.tokenizer()?;
    let context = context(&args, source.config().context)?;
    let before = args
        .prompt
        .as_ref()
        .map(|text| source.prompt(text))
        .transpose()?;
    let scored = match &args.target {
        Some(target) => Some(ScoredText::new(&source, args.prompt.as_deref(), target)?),
        None => None,
    };

    let (backend, _) = args.model.backend()?;
    let model = args.model.load(&source)?;
    let next = before
        .map(|before| next_token(&model, tokenizer, &before, context, args.top))
        .transpose()?;
    let surprisals = scored
        .as_ref()
        .map(|scored| surprisals(&model, tokenizer, &scored.ids, scored.first, context))
        .transpose()?;
    let report = Report {
        model: source.description(),
        backend: backend.name(),
        context,
        prompt: args.prompt.clone(),
        next,
        target: args.target.clone(),
        not_judged: scored.and_then(|scored| scored.unscored_token(tokenizer)),
        surprisals,
    };
    let text = match args.json {
        true => serde_json::to_string(&report)? + "\n",
        false => text_of(&report, &args, tokenizer),
    };
    output::write_styled(&text);
    Ok(ExitCode::SUCCESS)
}

fn context(args: &PredictArgs, of_model: usize) -> Result<usize, Error> {
    match args.context.map(|context| context as usize) {
        Some(context) if context > of_model => Err(refused(
            "--context",
            format!(
                "{context} is more than the model's context of {of_model} tokens; choose a smaller one"
            ),
        )),
        Some(context) => Ok(context),
        None => Ok(of_model.min(CONTEXT)),
    }
}

/// A text that is scored from one of its tokens on.
struct ScoredText {
    ids: Vec<u32>,
    first: usize,
    /// Whether the target begins before the first scored token.
    cut: bool,
}

impl ScoredText {
    fn new(source: &Source, prompt: Option<&str>, target: &str) -> Result<Self, Error> {
        let start = source.start_of_text()?;
        let before = match prompt {
            Some(prompt) => source.prompt(prompt)?,
            None => start,
        };
        let whole = match prompt {
            // Prompt and target are encoded in one piece, as in training, if the border falls between two tokens.
            Some(prompt) if !prompt.is_empty() => source.prompt(&format!("{prompt}{target}"))?,
            _ => before.clone(),
        };
        let ids = match whole.starts_with(&before) && whole.len() > before.len() {
            true => whole,
            false => {
                let target = source.tokenizer()?.encode_with_special_tokens(target)?;
                [&before[..], &target].concat()
            }
        };
        let first = before.len().max(1);
        if first >= ids.len() {
            let message = "has no token with another one before it, so there is nothing to predict; \
                           give a longer text, or a --prompt";
            return Err(refused("--target", message));
        }
        Ok(Self {
            first,
            cut: before.is_empty(),
            ids,
        })
    }

    fn unscored_token(&self, tokenizer: &Tokenizer) -> Option<String> {
        self.cut.then(|| tokenizer.token_text(self.ids[0]))
    }
}

fn text_of(report: &Report, args: &PredictArgs, tokenizer: &Tokenizer) -> String {
    let mut shown = format!("{} on {}\n", report.model.shown(), report.backend);
    if let Some(next) = &report.next {
        shown += "\n";
        shown += &chart(next, tokenizer, screen::columns());
    }
    if let Some(surprisals) = &report.surprisals {
        shown += "\n";
        if let Some(first) = &report.not_judged {
            shown += &format!("Not scored, because no token comes before it: {first:?}\n");
        }
        if surprisals.windows > 1 {
            shown += &format!(
                "Read in {} windows of {} tokens that overlap by half.\n",
                surprisals.windows, report.context
            );
        }
        shown += &match screen::has_colours() && !args.table {
            true => coloured(
                report.prompt.as_deref().or(report.not_judged.as_deref()),
                &surprisals.tokens,
            ),
            false => table(&surprisals.tokens, tokenizer),
        };
        shown += &totals(surprisals);
    }
    shown
}

/// Draws the most probable tokens with proportional bars. The bar of the first one fills the line.
fn chart(next: &NextToken, tokenizer: &Tokenizer, columns: usize) -> String {
    let width = columns
        .saturating_sub("  12.345 %  12.34 bits    ".len() + NAME)
        .max(8);
    let highest = next.top.first().map_or(1.0, |first| first.probability);
    let mut chart = String::new();
    for candidate in &next.top {
        let name = screen::token_name(&candidate.text, tokenizer.token_bytes(candidate.id));
        chart += &format!(
            "{:>8.3} %  {:>5.2} bits  {}  {}\n",
            100.0 * candidate.probability,
            candidate.bits,
            bar(candidate.probability / highest, width),
            screen::shortened(name, NAME)
        );
    }
    if next.rest > 0.0 {
        chart += &format!("{:>8.3} %  all other tokens together\n", 100.0 * next.rest);
    }
    chart
        + &format!(
            "\nEntropy {:.3} bits, that of {:.2} equally probable tokens (the perplexity).\n",
            next.entropy_bits, next.perplexity
        )
}

/// Draws a bar over a share of `width` columns, in eighths of a column.
fn bar(share: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share * 8.0 * width as f64).round() as usize;
    let bar = "█".repeat(eighths / 8) + PARTS[eighths % 8];
    format!("{bar:<width$}")
}

/// Classes of surprisal: lowest number of bits, and name.
const CLASSES: [(f64, &str); 5] = [
    (0.0, "below 1"),
    (1.0, "1 to 3"),
    (3.0, "3 to 6"),
    (6.0, "6 to 10"),
    (10.0, "10 and above"),
];

/// Returns the style of a class, from none through yellow to red. Dark text on light backgrounds is legible whatever
/// the terminal's own colours.
fn style(bits: f64) -> Style {
    let class = CLASSES
        .iter()
        .rposition(|(from, _)| bits >= *from)
        .unwrap_or(0);
    let on = |background: u8, text: u8| {
        Style::new()
            .bg_color(Some(Ansi256Color(background).into()))
            .fg_color(Some(Ansi256Color(text).into()))
    };
    match class {
        0 => Style::new(),
        1 => on(229, 16),
        2 => on(222, 16),
        3 => on(209, 16),
        _ => on(160, 231),
    }
}

/// Colours each token by its surprisal. `before` is the text that is not scored.
fn coloured(before: Option<&str>, tokens: &[Surprisal]) -> String {
    let dim = Style::new().dimmed();
    let mut shown = match before {
        Some(before) => format!("{dim}{before}{dim:#}"),
        None => String::new(),
    };
    for token in tokens {
        let style = style(token.bits);
        // A line break inside a style would colour the rest of the line, so a symbol is coloured and the break
        // follows.
        for (i, line) in token.text.split('\n').enumerate() {
            if i > 0 {
                shown += &format!("{style}⏎{style:#}\n");
            }
            if !line.is_empty() {
                shown += &format!("{style}{line}{style:#}");
            }
        }
    }
    shown += "\n\nSurprisal in bits: ";
    for (from, name) in CLASSES {
        let style = style(from);
        shown += &format!("{style} {name} {style:#} ");
    }
    shown.trim_end().to_string() + "\n"
}

fn table(tokens: &[Surprisal], tokenizer: &Tokenizer) -> String {
    let mut table = format!(
        "{:>9} {:>9} {:>8} {:>13}  token\n",
        "bits", "p", "rank", "expected bits"
    );
    for token in tokens {
        let name = screen::token_name(&token.text, tokenizer.token_bytes(token.id));
        table += &format!(
            "{:>9.3} {:>9.6} {:>8} {:>13.3}  {}\n",
            token.bits,
            token.probability,
            token.rank,
            token.entropy_bits,
            screen::shortened(name, NAME)
        );
    }
    table
}

fn totals(surprisals: &Surprisals) -> String {
    let tokens = surprisals.tokens.len();
    let per_byte = match surprisals.bits_per_byte {
        Some(bits) => format!(", {bits:.4} bits/byte"),
        None => String::new(),
    };
    format!(
        "\n{tokens} {}, {} bytes, {:.3} bits:\n{:.4} bits/token (perplexity {:.3}){per_byte}\n",
        if tokens == 1 { "token" } else { "tokens" },
        surprisals.bytes,
        surprisals.total_bits,
        surprisals.bits_per_token,
        surprisals.perplexity,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surprisal(text: &str, bits: f64) -> Surprisal {
        Surprisal {
            id: 0,
            text: text.into(),
            bits,
            probability: (-bits).exp2(),
            rank: 1,
            entropy_bits: 1.0,
        }
    }

    #[test]
    fn bars_are_proportional_to_their_share() {
        assert_eq!(bar(0.5, 4), "██  ");
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.0, 4), "    ");
        assert_eq!(bar(0.4, 4), "█▋  ");
    }

    #[test]
    fn surprisal_is_coloured_and_the_text_is_unchanged() {
        let tokens = [("To", 0.1), (" be", 4.0), (",\n", 2.0), ("or", 12.0)];
        let shown = coloured(
            Some("> "),
            &tokens.map(|(text, bits)| surprisal(text, bits)),
        );
        let plain = anstream::adapter::strip_str(&shown).to_string();
        assert!(
            plain.starts_with("> To be,⏎\nor\n\nSurprisal in bits:"),
            "{plain}"
        );
        for (from, _) in CLASSES {
            assert!(shown.contains(&style(from).to_string()));
        }
        assert!(shown.contains(&format!("{}or", style(12.0))));
        let plainly = format!("{:#}To", Style::new().dimmed());
        assert!(shown.contains(&plainly), "expected tokens have no colour");
        for line in plain.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
