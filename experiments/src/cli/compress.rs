//! The commands `foretoken compress` and `foretoken decompress`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::module::Module;
use clap::Args;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::record::run::claim_name;
use foretoken::record::source::Source;
use foretoken::science::compress::{
    ComparisonTable, Compressed, Compressor, PORTABLE, Progress, Sizes, TableRow, backend_of,
};
use foretoken::show::format::{self, Shown, count, plural};
use foretoken::show::output;
use foretoken::show::progress::targets_bar;
use foretoken::{Error, json};
use foretoken_datasets::files::{is_device, write_atomically};
use foretoken_model::Transformer;
use serde::Serialize;

use super::interrupt::on_ctrl_c;
use super::model::{ModelArgs, refused};

/// Extension of compressed files.
const EXTENSION: &str = "ftz";

/// Compress files with a model, to the size that its loss predicts
///
/// Codes each token in −log₂ of the probability that the model gives it, so that the size of the compressed file is the
/// cross-entropy of the text under the model. Any file comes back byte for byte; what the tokenizer cannot represent is
/// stored beside the tokens. The file is cut into --streams pieces that are coded side by side, which is faster and costs
/// some size, because each piece starts without context. `foretoken decompress` needs the same model on the same backend:
/// other bits in a probability would give other text, which is found by checksums and refused. With --portable it needs the
/// model alone: the file has the same bytes on every machine.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken compress runs/world-flex-1 notes.txt                 writes notes.txt.ftz
  foretoken compress runs/world-flex-1 *.txt --verify --json     decompresses again, and compares
  foretoken compress gpt2/ book.txt --streams 1                  smallest and slowest
  foretoken compress gpt2/ book.txt --portable                   decompresses on any machine
  foretoken compress --table gpt2/ book.txt essays/*.txt         beside gzip, xz and zstd; writes no file")]
pub(super) struct CompressArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Files to compress
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Compressed file, for one FILE [default: FILE.ftz]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Pieces that are coded side by side [default: one for each 16 KiB, at most 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    streams: Option<u32>,
    /// Compute probabilities whose bits are the same on every machine: on the processor, in f64, usually slower
    #[arg(long, conflicts_with = "backend")]
    portable: bool,
    /// Decompress again, and compare with the file
    #[arg(long)]
    verify: bool,
    /// Print bits per byte beside gzip -9, xz -9e and zstd -19 as a Markdown table, and write no file
    #[arg(long, conflicts_with = "out")]
    table: bool,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// Bring back a file that `foretoken compress` has written
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken decompress runs/world-flex-1 notes.txt.ftz                  writes notes.txt
  foretoken decompress runs/world-flex-1 notes.txt.ftz --out copy.txt")]
pub(super) struct DecompressArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Compressed file
    file: PathBuf,
    /// File to write [default: FILE without .ftz]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// The output of `compress --json`.
#[derive(Serialize)]
struct Report {
    model: String,
    backend: String,
    files: Vec<FileReport>,
}

/// A compressed file.
#[derive(Serialize)]
struct FileReport {
    #[serde(serialize_with = "json::path")]
    file: PathBuf,
    #[serde(serialize_with = "json::path")]
    out: PathBuf,
    #[serde(flatten)]
    sizes: Sizes,
    seconds: f64,
    tokens_per_second: f64,
    /// Whether it was decompressed again to the same bytes.
    verified: bool,
}

/// The output of `decompress --json`.
#[derive(Serialize)]
struct Decompressed {
    model: String,
    backend: String,
    #[serde(serialize_with = "json::path")]
    file: PathBuf,
    #[serde(serialize_with = "json::path")]
    out: PathBuf,
    bytes: u64,
    seconds: f64,
}

/// A loaded model, and what decides its probabilities.
struct Loaded {
    source: Source,
    model: Transformer,
    precision: Precision,
    backend: String,
}

impl Loaded {
    /// Loads a model. One for portable probabilities keeps its weights as f32.
    fn new(args: &ModelArgs, portable: bool) -> Result<Self, Error> {
        let source = args.open()?;
        source.tokenizer()?;
        let (backend, precision) = match portable {
            true => (Backend::default_backend(), Precision::default()),
            false => args.backend()?,
        };
        let model = source.load_in(&backend.device_for(precision)?, precision)?;
        Ok(Self {
            source,
            model,
            precision,
            backend: match portable {
                true => PORTABLE.into(),
                false => format!("{}:{}", backend.name(), precision.name()),
            },
        })
    }

    fn compressor(&self) -> Result<Compressor<'_>, Error> {
        let start = self.source.start_of_text()?;
        let tokenizer = self.source.tokenizer()?;
        Compressor::new(&self.model, tokenizer, start, self.backend.clone())
    }
}

pub(super) fn run(args: CompressArgs) -> Result<ExitCode, Error> {
    if args.table {
        return table(&args);
    }
    let outs = outs(&args)?;
    // A name that is wrong ends the command before the first file is written.
    args.files.iter().try_for_each(|path| check(path))?;
    let loaded = Loaded::new(&args.model, args.portable)?;
    let compressor = loaded.compressor()?;
    let interrupt = on_ctrl_c(|| {});
    let mut files = Vec::new();
    for (path, out) in args.files.iter().zip(outs) {
        // No other process writes the same name meanwhile.
        let _lock = claim_name(&out)?;
        let file = read(path)?;
        let (compressed, seconds) = compress(&args, &compressor, path, &file, &interrupt)?;
        write(&out, &compressed.file)?;
        files.push(FileReport {
            file: path.clone(),
            out,
            sizes: compressed.sizes,
            seconds,
            tokens_per_second: compressed.sizes.tokens as f64 / seconds,
            verified: args.verify,
        });
    }
    let report = Report {
        model: loaded.source.description(),
        backend: loaded.backend.clone(),
        files,
    };
    output::write(&match args.json {
        true => serde_json::to_string(&report)? + "\n",
        false => format::plain(shown(&report)),
    });
    Ok(ExitCode::SUCCESS)
}

/// Compresses a file, and brings it back if that is asked for. Returns the seconds that compression takes, too.
fn compress(
    args: &CompressArgs,
    compressor: &Compressor<'_>,
    path: &Path,
    file: &[u8],
    interrupt: &AtomicBool,
) -> Result<(Compressed, f64), Error> {
    let streams = args.streams.map(|streams| streams as usize);
    let began = Instant::now();
    let compressed = with_bar("compressing", |progress| match args.table {
        // The table compares the model, at whatever cost.
        true => compressor.compress_with_model(file, streams, interrupt, progress),
        false => compressor.compress(file, streams, interrupt, progress),
    })?;
    let seconds = began.elapsed().as_secs_f64();
    if args.verify {
        verify(compressor, path, file, &compressed.file, interrupt)?;
    }
    Ok((compressed, seconds))
}

/// Prints the table of --table.
fn table(args: &CompressArgs) -> Result<ExitCode, Error> {
    args.files.iter().try_for_each(|path| check(path))?;
    let loaded = Loaded::new(&args.model, args.portable)?;
    let compressor = loaded.compressor()?;
    let interrupt = on_ctrl_c(|| {});
    let model_bytes = (loaded.model.num_params() * loaded.precision.dtype().size()) as u64;
    let mut files = Vec::new();
    for path in &args.files {
        let file = read(path)?;
        let (compressed, _) = compress(args, &compressor, path, &file, &interrupt)?;
        let row = TableRow::new(path.clone(), &file, &compressed.sizes, model_bytes);
        files.push(row.map_err(|source| Error::Io {
            action: "compress",
            path: path.clone(),
            source,
        })?);
    }
    let model = loaded.source.description();
    let table = ComparisonTable::new(model, loaded.backend.clone(), model_bytes, files);
    output::write(&match args.json {
        true => serde_json::to_string(&table)? + "\n",
        false => format!(
            "{}\nThe model is {} on {}. Adjusted sizes add its weights, {} bytes.\n",
            table.to_markdown(),
            table.model,
            table.backend,
            count(model_bytes)
        ),
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn decompress(args: DecompressArgs) -> Result<ExitCode, Error> {
    let out = match (args.out, args.file.extension()) {
        (Some(out), _) => out,
        (None, Some(extension)) if extension == EXTENSION => args.file.with_extension(""),
        (None, _) => {
            let message = format!(
                "name the file to write, because {} does not end in .{EXTENSION}",
                args.file.shown()
            );
            return Err(refused("--out", message));
        }
    };
    refuse_existing(&out)?;
    let file = read(&args.file)?;
    let name = args.file.shown();
    let backend = backend_of(&name, &file)?;
    let portable = backend == PORTABLE;
    let model = match args.model.names_backend() {
        true if portable => {
            let message = format!("leave it out: {name} is portable, so that no backend is used");
            return Err(refused("--backend", message));
        }
        true => args.model,
        false if portable => args.model,
        false => args.model.with(None, None, Some((backend, name.clone()))),
    };
    let loaded = Loaded::new(&model, portable)?;
    let compressor = loaded.compressor()?;
    let interrupt = on_ctrl_c(|| {});
    let _lock = claim_name(&out)?;
    let began = Instant::now();
    let restored = with_bar("decompressing", |progress| {
        compressor.decompress(&name, &file, &interrupt, progress)
    })?;
    write(&out, &restored)?;
    let report = Decompressed {
        model: loaded.source.description(),
        backend: loaded.backend.clone(),
        file: args.file,
        out,
        bytes: restored.len() as u64,
        seconds: began.elapsed().as_secs_f64(),
    };
    output::write(&match args.json {
        true => serde_json::to_string(&report)? + "\n",
        false => format::plain(format!(
            "{}: {} bytes, in {}\n",
            report.out.shown(),
            count(report.bytes),
            format::seconds(report.seconds)
        )),
    });
    Ok(ExitCode::SUCCESS)
}

/// Returns the compressed files, none of which exists.
fn outs(args: &CompressArgs) -> Result<Vec<PathBuf>, Error> {
    let outs: Vec<PathBuf> = match (&args.out, args.files.as_slice()) {
        (Some(out), [_]) => vec![out.clone()],
        (Some(_), _) => {
            let message = "names one compressed file; leave it out for several files, each of which gets one of its own";
            return Err(refused("--out", message));
        }
        (None, files) => files
            .iter()
            .map(|file| {
                let mut name = file.clone().into_os_string();
                name.push(".");
                name.push(EXTENSION);
                name.into()
            })
            .collect(),
    };
    let file = |out: &PathBuf| std::path::absolute(out).unwrap_or_else(|_| out.clone());
    for (index, out) in outs.iter().enumerate() {
        if outs[..index].iter().any(|other| file(other) == file(out)) {
            return Err(refused(
                "FILE",
                format!("{} is named twice", args.files[index].shown()),
            ));
        }
        refuse_existing(out)?;
    }
    Ok(outs)
}

fn refuse_existing(out: &Path) -> Result<(), Error> {
    let message = match fs::metadata(out) {
        Ok(metadata) if metadata.is_dir() => "is a directory; name a file in it",
        Ok(metadata) if !metadata.is_file() => {
            "is a device or a pipe, and only a new file is written; name one with --out"
        }
        Ok(_) => "already exists; remove it, or name another --out",
        // A symbolic link that leads nowhere.
        Err(_) if out.symlink_metadata().is_ok() => {
            "already exists; remove it, or name another --out"
        }
        Err(_) => return Ok(()),
    };
    Err(Error::RunDirectory {
        path: out.into(),
        message: message.into(),
    })
}

/// Refuses what is not a file that can be read.
fn check(path: &Path) -> Result<(), Error> {
    let refuse = |message: String| Error::Experiment {
        origin: path.shown(),
        message,
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(refuse("is a directory; name files".into())),
        Ok(metadata) if is_device(metadata.file_type()) => Err(refuse(
            "is a device, which may have no end; name files".into(),
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(refuse("there is no such file".into()))
        }
        Err(error) => Err(refuse(format!("cannot be read: {error}"))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    check(path)?;
    fs::read(path).map_err(|source| Error::Io {
        action: "read",
        path: path.into(),
        source,
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    // It may have appeared in the meantime.
    refuse_existing(path)?;
    write_atomically(path, bytes).map_err(|source| Error::Io {
        action: "write",
        path: path.into(),
        source,
    })
}

fn verify(
    compressor: &Compressor<'_>,
    path: &Path,
    file: &[u8],
    compressed: &[u8],
    interrupt: &AtomicBool,
) -> Result<(), Error> {
    let name = path.shown();
    let restored = with_bar("verifying", |progress| {
        compressor.decompress(&name, compressed, interrupt, progress)
    })?;
    match restored == file {
        true => Ok(()),
        false => Err(Error::Evaluation(format!(
            "{name} does not come back: this is an error of foretoken"
        ))),
    }
}

/// Runs `work` with a bar for its progress.
fn with_bar<R>(label: &str, work: impl FnOnce(&mut dyn FnMut(Progress)) -> R) -> R {
    let bar = targets_bar(label);
    let result = work(&mut |progress| match progress {
        Progress::Total(tokens) => bar.set_length(tokens),
        Progress::Done(tokens) => bar.inc(tokens as u64),
    });
    bar.finish_and_clear();
    result
}

fn shown(report: &Report) -> String {
    let mut shown = format!("{} on {}\n\n", report.model.shown(), report.backend);
    shown += &format!(
        "{:>12} {:>12} {:>10} {:>8} {:>12}  file\n",
        "bytes", "compressed", "bits/byte", "streams", "tokens/s"
    );
    for file in &report.files {
        let sizes = &file.sizes;
        shown += &format!(
            "{:>12} {:>12} {:>10} {:>8} {:>12}  {}{}\n",
            count(sizes.bytes),
            count(sizes.compressed_bytes),
            per_byte(sizes.compressed_bytes, sizes.bytes),
            sizes.streams,
            format::rate(file.tokens_per_second),
            name(&file.out),
            if file.verified { ", verified" } else { "" }
        );
    }
    for file in &report.files {
        shown += &format!("\n{}: {}\n", name(&file.out), parts(&file.sizes));
    }
    shown
}

/// Returns the name of a file for a line of text.
fn name(path: &Path) -> String {
    path.shown()
}

/// Describes in words what a compressed file is made of.
fn parts(sizes: &Sizes) -> String {
    let Sizes {
        bytes,
        compressed_bytes,
        tokens,
        streams,
        stream_bytes,
        header_bytes,
        edit_bytes,
        edited_bytes,
        ..
    } = *sizes;
    let header = format!("{} for the header", count(header_bytes));
    if tokens == 0 {
        return match bytes {
            0 => header,
            _ => format!(
                "{} bytes by zstd, because with the model it would be larger than before,\n{header}",
                count(edit_bytes)
            ),
        };
    }
    let mut parts = vec![format!(
        "{} bytes for its tokens ({} bits per byte)",
        count(stream_bytes),
        per_byte(stream_bytes, bytes)
    )];
    if edited_bytes > 0 {
        parts.push(format!(
            "{} for {} that no token stands for",
            count(edit_bytes),
            plural(edited_bytes as usize, "byte")
        ));
    }
    parts.push(header);
    let mut text = parts.join(",\n");
    if streams > 1 {
        let share = 100.0 * sizes.streams_cost_bytes / compressed_bytes as f64;
        text += &format!(
            "\n{streams} streams cost about {} % of this size; --streams 1 is smaller and slower",
            format::significant(share, 2)
        );
    }
    text
}

fn per_byte(compressed: u64, bytes: u64) -> String {
    match bytes {
        0 => format::NONE.into(),
        _ => format!("{:.4}", 8.0 * compressed as f64 / bytes as f64),
    }
}
