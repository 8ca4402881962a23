//! `foretoken evaluate --tasks`: standard benchmarks.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Args;
use foretoken::Error;
use foretoken::record::source::Source;
use foretoken::science::tasks::{
    PairEncoder, Task, TaskData, TaskResult, TaskSettings, TasksAgainst, TasksModel, TasksRecord,
    differences, evaluate,
};
use foretoken::show::progress::targets_bar;

use super::super::interrupt::on_ctrl_c;
use super::super::model::{ModelArgs, refuse_repeated, refused};
use super::super::report_args::print_and_write;
use super::task_words::shown;
use super::{EvaluateArgs, context};

/// Arguments of an evaluation on tasks.
#[derive(Args)]
pub(super) struct TaskArgs {
    /// Standard benchmarks whose files are in the folder --data: hellaswag, arc_easy, arc_challenge, piqa, winogrande,
    /// lambada, blimp
    #[arg(
        long,
        value_name = "TASK,…",
        value_delimiter = ',',
        requires = "data",
        conflicts_with_all = [
            "texts", "stride", "by", "format", "text_field", "separator", "invalid_utf8"]
    )]
    pub(super) tasks: Vec<Task>,
    /// Number of examples with their answers before each question of --tasks [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1000))]
    shots: Option<u32>,
    /// Seed of the draw of examples [default: 1234, with which lm-evaluation-harness draws the same ones]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Maximum number of questions of each of --tasks, the first ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl TaskArgs {
    fn shots(&self) -> usize {
        self.shots.unwrap_or(0) as usize
    }

    fn seed(&self) -> u64 {
        self.seed.unwrap_or(1234)
    }

    fn limit(&self) -> Option<usize> {
        self.limit.map(|limit| limit as usize)
    }

    /// Refuses what belongs to tasks where there are none.
    pub(super) fn refuse_without_tasks(&self) -> Result<(), Error> {
        let given = [
            ("--shots", self.shots.is_some()),
            ("--seed", self.seed.is_some()),
            ("--limit", self.limit.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(refused(name, "is for --tasks; name some, or leave it out")),
            None => Ok(()),
        }
    }
}

pub(super) fn run(args: &EvaluateArgs) -> Result<ExitCode, Error> {
    let source = args.model.open()?;
    let second = args.second();
    let second = match &second {
        Some(second) => Some((second, second.open()?)),
        None => None,
    };
    // What can be refused is refused before anything long.
    let settings = settings(args, &source)?;
    let second_settings = match &second {
        Some((_, source)) => Some(self::settings(args, source)?),
        None => None,
    };
    let interrupt = on_ctrl_c(|| {});
    let directory = args.report.claim("tasks-")?;
    let began = Instant::now();
    let data = read(args, &interrupt)?;
    let first = evaluated(&args.model, &source, &data, &settings, &interrupt)?;
    let against = match (second, second_settings) {
        (Some((model, source)), Some(settings)) => {
            let second = evaluated(model, &source, &data, &settings, &interrupt)?;
            Some(TasksAgainst {
                differences: differences(&first.tasks, &second.tasks),
                second,
            })
        }
        _ => None,
    };
    let record = TasksRecord {
        first,
        seed: args.task.seed(),
        limit: args.task.limit(),
        seconds: began.elapsed().as_secs_f64(),
        against,
    };
    print_and_write(&record, args.json, shown, directory, TasksRecord::write)?;
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &EvaluateArgs, source: &Source) -> Result<TaskSettings, Error> {
    source.tokenizer()?;
    Ok(TaskSettings {
        shots: args.task.shots(),
        seed: args.task.seed(),
        limit: args.task.limit(),
        context: context(args, source.config().context)?,
        batch: args.batch.map(|batch| batch as usize),
    })
}

/// Reads the data of all tasks.
fn read(args: &EvaluateArgs, interrupt: &AtomicBool) -> Result<Vec<TaskData>, Error> {
    let data = args.data.clone().unwrap_or_else(|| PathBuf::from("."));
    let tasks = args.task.tasks.iter().copied();
    refuse_repeated("--tasks", &args.task.tasks, ToString::to_string)?;
    let shots = args.task.shots();
    let read = |task| TaskData::read(&data, task, shots, interrupt);
    tasks.map(read).collect()
}

/// Evaluates a model on all tasks.
fn evaluated(
    args: &ModelArgs,
    source: &Source,
    data: &[TaskData],
    settings: &TaskSettings,
    interrupt: &AtomicBool,
) -> Result<TasksModel, Error> {
    let (backend, precision) = args.backend()?;
    let model = args.load(source)?;
    let mut encoder = PairEncoder::new(
        source.tokenizer()?,
        source.start_of_text()?,
        &source.end_of_text(),
        settings.context,
    );
    let bar = targets_bar("evaluating");
    let mut results: Vec<TaskResult> = Vec::new();
    for data in data {
        bar.set_prefix(data.task.name());
        let mut progress = |found: usize, done: usize| {
            bar.inc_length(found as u64);
            bar.inc(done as u64);
        };
        let result = evaluate(
            &model,
            &mut encoder,
            data,
            settings,
            interrupt,
            &mut progress,
        )?;
        results.push(result);
    }
    bar.finish_and_clear();
    Ok(TasksModel {
        model: source.description(),
        backend: backend.name(),
        precision: precision.name(),
        context: settings.context,
        tasks: results,
    })
}
