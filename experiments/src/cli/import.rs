//! The command `foretoken import`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foretoken::record::run::claim_name;
use foretoken::show::format::Shown;
use foretoken::show::progress::bytes_bar;
use foretoken::{Error, json, outln};
use foretoken_model::{ModelConfig, Pretrained, WeightType};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

/// Import a model from Hugging Face
///
/// Reads a folder with config.json and one or more .safetensors files: GPT-2, Llama, Mistral or Qwen3, in f32, f16 or
/// bf16. Writes a folder that generate, predict, inspect and export take as MODEL and that training can start from:
/// model.json, model.safetensors (unchanged weights under foretoken's names) and tokenizer.json. The source's other
/// metadata is kept beside them, so that export gives the same bytes back. A tensor that is missing, superfluous or
/// of the wrong shape is reported by name.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken import gpt2/ --out models/gpt2
  foretoken import Llama-3.2-1B/ --out models/llama --json
  foretoken import gpt2/model.safetensors --out models/gpt2    # config.json is read beside it
  foretoken generate models/gpt2 --prompt 'Once upon a time'
  foretoken export models/gpt2 --out gpt2-again

Commands that take a MODEL also read Hugging Face folders directly, without an import.")]
pub(super) struct ImportArgs {
    /// Folder with config.json and .safetensors files, or a .safetensors file in such a folder
    #[arg(value_name = "DIR_OR_FILE")]
    source: PathBuf,
    /// Folder to write; it must be absent or empty
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Print a description of the model as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Imported<'a> {
    #[serde(serialize_with = "json::path")]
    out: PathBuf,
    architecture: Option<&'a str>,
    parameters: usize,
    weight_types: Vec<WeightType>,
    files: usize,
    bytes: u64,
    tokenizer: bool,
    end_of_text: &'a [u32],
    note: Option<&'a str>,
    config: &'a ModelConfig,
}

pub(super) fn run(args: ImportArgs) -> Result<ExitCode, Error> {
    let model = Pretrained::open(&args.source)?;
    let _claim = claim_name(&args.out)?;
    let bar = bytes_bar("importing");
    model.save(&args.out, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();

    let config = model.config();
    let imported = Imported {
        out: args.out,
        architecture: model.architecture(),
        parameters: config.parameters(),
        weight_types: model.weight_types(),
        files: model.files().len(),
        bytes: model.bytes_on_disk(),
        tokenizer: model.tokenizer().is_some(),
        end_of_text: model.end_of_text(),
        note: model.note(),
        config,
    };
    if args.json {
        let json = serde_json::to_string_pretty(&imported)?;
        outln!("{json}");
    } else {
        print(&imported);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(imported: &Imported) {
    let Imported { config, .. } = imported;
    let kinds: Vec<_> = imported
        .weight_types
        .iter()
        .map(|kind| kind.name())
        .collect();
    outln!(
        "{}: {} parameters in {}, {} in {}",
        imported.architecture.unwrap_or("foretoken"),
        HumanCount(imported.parameters as u64),
        kinds.join(" and "),
        HumanBytes(imported.bytes),
        match imported.files {
            1 => "1 file".to_owned(),
            files => format!("{files} files"),
        },
    );
    outln!(
        "  {} layers of width {}, {} heads ({} of keys and values), context {}, {} token ids, {} head",
        config.layers,
        config.width,
        config.heads,
        config.kv_heads,
        config.context,
        config.vocab_size,
        if config.tied_head { "tied" } else { "separate" },
    );
    if !imported.tokenizer {
        outln!("  no tokenizer.json: to generate text, pass --tokenizer FILE");
    }
    if let Some(note) = imported.note {
        outln!("  note: {note}");
    }
    outln!("written to {}", imported.out.shown());
}
