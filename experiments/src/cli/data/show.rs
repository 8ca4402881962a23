//! The command `foretoken data show`.

use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::Args;
use foretoken::show::format::Shown;
use foretoken::show::output;
use foretoken::{Error, outln};
use foretoken_datasets::{Corpus, Manifest, Split, Tokenizer, TokensEntry, WindowOrder, Windows};
use serde::Serialize;

use super::grouped;
use crate::cli::screen;

/// Largest number of training tokens that are counted for the list of the most frequent ones.
const COUNTED: usize = 50_000_000;

/// Show the contents of a folder of tokens
///
/// Prints statistics, the most frequent tokens, and one training window with the borders of its tokens: on a
/// terminal tokens alternate in colour, elsewhere a bar separates them.
#[derive(Args)]
pub(in crate::cli) struct ShowArgs {
    /// Folder written by `foretoken data build`, or one of nanoGPT's or llm.c's .bin files
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Show the window that a run with batches of one reads at this step
    #[arg(long, default_value_t = 0)]
    step: usize,
    /// Seed of that run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tokens in the window
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    context: u32,
    /// Number of most frequent tokens to list
    #[arg(long, default_value_t = 20)]
    top: usize,
    /// Tokenizer.json that .bin files were made with [default: the one in the folder]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Bytes of an id in .bin files without a header, 2 or 4 [default: detected, if the ids leave no doubt]
    #[arg(long, value_name = "BYTES", value_parser = super::id_bytes)]
    id_bytes: Option<usize>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Contents {
    /// Absent for token files of other programs.
    manifest: Option<Manifest>,
    vocab_size: usize,
    train_tokens: usize,
    valid_tokens: usize,
    /// Number of training tokens that were counted, from the start.
    counted_tokens: usize,
    /// Number of distinct ids among them.
    distinct: usize,
    most_frequent: Vec<TokenCount>,
    window: Option<TextWindow>,
}

#[derive(Serialize)]
struct TokenCount {
    id: u32,
    text: String,
    count: u64,
}

#[derive(Serialize)]
struct TextWindow {
    offset: usize,
    ids: Vec<u32>,
    tokens: Vec<String>,
}

pub(super) fn run(args: ShowArgs) -> Result<ExitCode, Error> {
    let built = args.folder.join(Manifest::FILE).exists() || !Corpus::is_tokens(&args.folder)?;
    let (corpus, manifest) = if built && args.id_bytes.is_none() {
        let (corpus, manifest) = Corpus::open_built(&args.folder)?;
        (corpus, Some(manifest))
    } else {
        let tokenizer = args.tokenizer.as_deref();
        (
            Corpus::open_with(&args.folder, tokenizer, args.id_bytes)?,
            None,
        )
    };
    let tokenizer = &corpus.tokenizer;
    let (counts, counted_tokens) = count(&corpus.train, tokenizer.vocab_size())?;
    let shown = Contents {
        vocab_size: tokenizer.vocab_size(),
        train_tokens: corpus.train.tokens(),
        valid_tokens: corpus.valid.tokens(),
        counted_tokens,
        distinct: counts.iter().filter(|count| **count > 0).count(),
        most_frequent: most_frequent(&counts, args.top, tokenizer),
        window: window(&corpus.train, &args, tokenizer)?,
        manifest,
    };
    if args.json {
        let json = serde_json::to_string_pretty(&shown)?;
        outln!("{json}");
    } else {
        print(&shown, &args);
    }
    Ok(ExitCode::SUCCESS)
}

fn count(split: &Split, vocab_size: usize) -> Result<(Vec<u64>, usize), Error> {
    let mut counts = vec![0; vocab_size];
    let counted = split.tokens().min(COUNTED);
    let mut start = 0;
    while start < counted {
        let end = counted.min(start + (1 << 20));
        for id in split.to_vec(start..end)? {
            counts[id as usize] += 1;
        }
        start = end;
    }
    Ok((counts, counted))
}

fn most_frequent(counts: &[u64], top: usize, tokenizer: &Tokenizer) -> Vec<TokenCount> {
    let mut ids: Vec<u32> = (0..counts.len() as u32).collect();
    ids.sort_by_key(|&id| (std::cmp::Reverse(counts[id as usize]), id));
    ids.into_iter()
        .take(top)
        .map(|id| TokenCount {
            id,
            text: tokenizer.token_text(id),
            count: counts[id as usize],
        })
        .take_while(|frequent| frequent.count > 0)
        .collect()
}

/// Returns the window of a step; `None` if the split is too short.
fn window(
    split: &Split,
    args: &ShowArgs,
    tokenizer: &Tokenizer,
) -> Result<Option<TextWindow>, Error> {
    let context = args.context as usize;
    if split.tokens() <= context {
        return Ok(None);
    }
    let windows = Windows::new(&WindowOrder::Epoch, split.tokens(), context, 1, args.seed)?;
    let offset = windows.window(args.step, 0).offset;
    let ids = split.to_vec(offset..offset + context)?;
    let tokens = ids.iter().map(|&id| tokenizer.token_text(id)).collect();
    Ok(Some(TextWindow {
        offset,
        ids,
        tokens,
    }))
}

fn print(shown: &Contents, args: &ShowArgs) {
    let colour = screen::has_colours();
    outln!("{}", args.folder.shown());
    match &shown.manifest {
        Some(manifest) => print_manifest(manifest),
        None => outln!(
            "token files of another program: {} training and {} validation tokens, {} ids",
            grouped(shown.train_tokens as u64),
            grouped(shown.valid_tokens as u64),
            grouped(shown.vocab_size as u64)
        ),
    }

    outln!(
        "\nMost frequent of {} training tokens, in which {} of {} ids occur:",
        grouped(shown.counted_tokens as u64),
        grouped(shown.distinct as u64),
        grouped(shown.vocab_size as u64)
    );
    outln!("{:>8} {:>14} {:>7}  token", "id", "count", "%");
    for TokenCount { id, text, count } in &shown.most_frequent {
        outln!(
            "{id:>8} {:>14} {:>7.3}  {}",
            grouped(*count),
            100.0 * *count as f64 / shown.counted_tokens as f64,
            visible(text)
        );
    }

    match &shown.window {
        Some(window) => {
            outln!(
                "\nStep {}, seed {}: {} tokens from token {} on:\n",
                args.step,
                args.seed,
                window.tokens.len(),
                grouped(window.offset as u64)
            );
            output::write_styled(&format!("{}\n", with_borders(&window.tokens, colour)));
        }
        None => outln!("\nToo short for a window of {} tokens.", args.context),
    }
}

fn print_manifest(manifest: &Manifest) {
    let recipe = &manifest.recipe;
    outln!(
        "tokenizer {}, {} ids{}; tokenizer.json {}…",
        recipe.tokenizer,
        grouped(manifest.tokenizer.vocab_size as u64),
        match manifest.tokenizer.end_of_text {
            Some(id) => format!(", {id} between documents"),
            None => String::new(),
        },
        &manifest.tokenizer.sha256[..8.min(manifest.tokenizer.sha256.len())]
    );
    outln!(
        "{:<6} {:>12} {:>15} {:>15} {:>12} {:>7}",
        "",
        "documents",
        "tokens",
        "bytes",
        "bytes/token",
        "files"
    );
    for (name, split) in [("train", &manifest.train), ("valid", &manifest.valid)] {
        outln!(
            "{name:<6} {:>12} {:>15} {:>15} {:>12} {:>7}",
            grouped(split.documents),
            grouped(split.tokens),
            grouped(split.bytes),
            bytes_per_token(split),
            split.shards.len()
        );
    }
    let from: u64 = manifest.sources.iter().map(|source| source.bytes).sum();
    outln!(
        "from {} {}, {} bytes on disk: {}{}",
        manifest.sources.len(),
        if manifest.sources.len() == 1 {
            "file"
        } else {
            "files"
        },
        grouped(from),
        manifest
            .sources
            .iter()
            .take(3)
            .map(|source| source.path.shown())
            .collect::<Vec<_>>()
            .join(", "),
        if manifest.sources.len() > 3 {
            ", …"
        } else {
            ""
        }
    );
    let text = &manifest.text;
    for (count, what) in [
        (text.empty_documents, "empty documents skipped"),
        (
            text.replaced_documents,
            "documents that are not UTF-8, repaired with U+FFFD",
        ),
        (
            text.inexact_documents,
            "documents that the tokenizer changes",
        ),
    ] {
        if count > 0 {
            outln!("{} {what}", grouped(count));
        }
    }
}

fn bytes_per_token(split: &TokensEntry) -> String {
    match split.tokens {
        0 => "-".into(),
        tokens => format!("{:.3}", split.bytes as f64 / tokens as f64),
    }
}

/// Returns the text of a token with visible white space and control characters.
fn visible(text: &str) -> String {
    format!("{text:?}")
}

/// Joins tokens with visible borders: two alternating backgrounds, or bars.
fn with_borders(tokens: &[String], colour: bool) -> String {
    if !colour {
        return tokens.join("|");
    }
    let styles = [AnsiColor::Blue, AnsiColor::Magenta].map(|background| {
        Style::new()
            .fg_color(Some(AnsiColor::BrightWhite.into()))
            .bg_color(Some(background.into()))
    });
    let mut shown = String::new();
    for (token, style) in tokens.iter().zip(styles.iter().cycle()) {
        // A line break inside a style would colour the rest of the line, so a symbol is coloured and the break
        // follows.
        for (i, line) in token.split('\n').enumerate() {
            if i > 0 {
                shown += &format!("{style}⏎{style:#}\n");
            }
            if !line.is_empty() {
                shown += &format!("{style}{line}{style:#}");
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_visible_with_and_without_colour() {
        let tokens = ["To", " be", ",\n", "or"].map(String::from);
        assert_eq!(with_borders(&tokens, false), "To| be|,\n|or");
        let coloured = with_borders(&tokens, true);
        assert_eq!(coloured.matches("\u{1b}[0m").count(), 5);
        assert_eq!(coloured.lines().count(), 2);
        let plain = anstream::adapter::strip_str(&coloured).to_string();
        assert_eq!(plain, "To be,⏎\nor");
    }
}
