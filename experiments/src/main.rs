//! `foretoken`: train decoder-only transformers on the next token, on every Burn backend.

mod cli;

fn main() -> std::process::ExitCode {
    foretoken::engine::memory::keep_freed_memory();
    cli::run()
}
