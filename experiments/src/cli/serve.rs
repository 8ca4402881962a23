//! The command `foretoken serve`.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use clap::Args;
use foretoken::serve::{Server, Settings};
use foretoken::show::format::{Shown, plural};
use foretoken::show::output;
use foretoken::show::signals::{self, Unsaved};
use foretoken::{Error, errln, outln};

use super::interrupt::on_ctrl_c;
use super::model::ModelArgs;

/// Serve a model to other programs, with the interface of OpenAI's /v1/completions
///
/// Answers prompts as strings or token ids, several in a request, with echo, logprobs, n, seed, stop, temperature, top_p and
/// stream, and lists the model under /v1/models. Requests that wait are computed together. The server listens on this
/// machine only, unless --host says otherwise. Ctrl-C ends it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken serve runs/world-flex-1
  foretoken serve gpt2/ --port 8080 --backend libtorch
  curl http://127.0.0.1:8000/v1/completions -d '{\"prompt\": \"The capital of \", \"max_tokens\": 5}'
  lm_eval --model local-completions --tasks lambada_openai --model_args \\
    max_length=1024,tokenizer_backend=remote,model=m,base_url=http://127.0.0.1:8000/v1/completions

There is no password and no encryption: with another --host, whoever reaches the port can use the model.")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,
    /// Number of texts that are continued side by side
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=1024)
    )]
    batch: u32,
    /// Memory that answers may take together until they are sent, in MiB; further requests are told to come back
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..=1 << 20)
    )]
    answer_memory: u32,
}

pub(super) fn run(args: ServeArgs) -> Result<ExitCode, Error> {
    let source = args.model.open()?;
    let (backend, precision) = args.model.backend()?;
    let settings = Settings {
        host: args.host,
        port: args.port,
        batch: args.batch as usize,
        answer_memory: (args.answer_memory as usize).saturating_mul(1 << 20),
    };
    let server = Server::bind(source, settings)?;
    let interrupt = on_ctrl_c(|| {});
    let model = args.model.load(server.source())?;
    if !args.host.is_loopback() {
        errln!("warning: whoever reaches this port can use the model: there is no password");
    }
    outln!(
        "{} on {} in {}\nhttp://{}/v1/completions (Ctrl-C ends)",
        server.source().description().shown(),
        backend.name(),
        precision.name(),
        server.address()?
    );
    // From here on a request to stop ends with success: the server stops within a second.
    std::mem::forget(Unsaved::begin());
    let stopped = server.run(model, &interrupt)?;
    outln!("Answered {}.", plural(stopped.answered, "request"));
    if stopped.is_computing {
        output::finish()?;
        signals::leave();
    }
    Ok(ExitCode::SUCCESS)
}
