//! What a run shows while it trains: burn-train's dashboard, plain lines, or nothing.

use std::collections::HashMap;
use std::panic;
use std::sync::Once;
use std::thread;
use std::time::Duration;

use burn::train::Interrupter;
use burn::train::logger::{EvaluationProgressLogger, MetricLogger, TrainingProgressLogger};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::show::terminal;
use crate::{Experiment, errln, outln};

/// What to show while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dashboard {
    /// burn-train's full-screen dashboard.
    Tui,
    /// One line per evaluation on standard output, and a progress bar on a terminal.
    Plain,
    /// As [`Plain`](Self::Plain), but on standard error: standard output is kept for machines.
    PlainOnStderr,
    /// Nothing.
    None,
}

/// The renderer of a run that stands at `step`, after `intervals_done` evaluation intervals if it is
/// resumed. `headline` says what is run.
pub(crate) fn init(
    dashboard: Dashboard,
    headline: String,
    experiment: &Experiment,
    step: usize,
    interrupter: Interrupter,
    intervals_done: Option<usize>,
) -> Box<dyn MetricsRenderer> {
    match dashboard {
        Dashboard::Tui => {
            silence_after_hang_up();
            let tui = TuiMetricsRendererWrapper::new(interrupter, intervals_done);
            terminal::opened(true);
            Box::new(tui)
        }
        Dashboard::Plain => Box::new(Lines::new(headline, experiment, step, Some(Stream::Stdout))),
        Dashboard::PlainOnStderr => {
            Box::new(Lines::new(headline, experiment, step, Some(Stream::Stderr)))
        }
        Dashboard::None => Box::new(Lines::new(headline, experiment, step, None)),
    }
}

/// burn-train's drawing thread panics when it cannot restore a terminal that is gone, and ratatui, unwinding, when
/// it cannot complain on standard error. So the terminal is let go of here, and the panic is not reported.
fn silence_after_hang_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let draws = thread::current().name() == Some("train-renderer");
            if !(draws && terminal::is_gone()) {
                hook(info);
            }
        }));
    });
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// A progress bar, and a line per evaluation.
struct Lines {
    headline: String,
    bar: ProgressBar,
    stream: Option<Stream>,
    names: HashMap<MetricId, String>,
    train: HashMap<String, f64>,
    valid: HashMap<String, f64>,
    validating: bool,
    steps: usize,
    step: usize,
    interval_start: usize,
}

impl Lines {
    fn new(headline: String, experiment: &Experiment, step: usize, stream: Option<Stream>) -> Self {
        let steps = experiment.train.steps;
        let bar = ProgressBar::with_draw_target(
            Some(steps as u64),
            match stream {
                Some(_) if terminal::has_screen(&std::io::stderr()) => {
                    ProgressDrawTarget::stderr_with_hz(4)
                }
                _ => ProgressDrawTarget::hidden(),
            },
        );
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:30} step {pos}/{len}  {msg}  {elapsed} elapsed, {eta} left",
        ) {
            bar.set_style(style);
        }
        bar.set_position(step as u64);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            headline,
            bar,
            stream,
            names: HashMap::new(),
            train: HashMap::new(),
            valid: HashMap::new(),
            validating: false,
            steps,
            step,
            interval_start: step,
        }
    }

    fn say(&self, line: &str) {
        match self.stream {
            Some(Stream::Stdout) => self.bar.suspend(|| outln!("{line}")),
            Some(Stream::Stderr) => self.bar.suspend(|| errln!("{line}")),
            None => {}
        }
    }

    fn value(values: &HashMap<String, f64>, name: &str) -> f64 {
        values.get(name).copied().unwrap_or(f64::NAN)
    }

    /// Loss in nats per token; speed over the interval.
    fn evaluation_line(&self) -> String {
        let width = self.steps.to_string().len();
        format!(
            "step {:>width$}/{}  valid loss {:.4}  train loss {:.4}  bits/byte {:.4}  perplexity {:.2}  accuracy {:.1} %  {:.0} tokens/s  MFU {:.1} %",
            self.step,
            self.steps,
            Self::value(&self.valid, "Loss"),
            Self::value(&self.train, "Loss"),
            Self::value(&self.valid, "Bits per byte"),
            Self::value(&self.valid, "Perplexity"),
            Self::value(&self.valid, "Accuracy"),
            Self::value(&self.train, "Tokens/s"),
            Self::value(&self.train, "MFU"),
        )
    }

    fn remember(
        names: &HashMap<MetricId, String>,
        values: &mut HashMap<String, f64>,
        state: MetricState,
    ) {
        if let MetricState::Numeric(entry, Some(number)) = state
            && let Some(name) = names.get(&entry.metric_id)
        {
            values.insert(name.clone(), number.current());
        }
    }
}

impl MetricsRendererTraining for Lines {
    fn update_train(&mut self, state: MetricState) {
        Self::remember(&self.names, &mut self.train, state);
    }

    fn update_valid(&mut self, state: MetricState) {
        Self::remember(&self.names, &mut self.valid, state);
    }
}

impl TrainingProgressLogger for Lines {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {
        self.say(&self.headline);
    }

    fn start_split(&mut self, split: &str, _total_items: usize) {
        self.validating = split != "train";
        self.interval_start = self.step;
    }

    fn update_split(&mut self, items_processed: usize) {
        if !self.validating {
            self.step = self.interval_start + items_processed;
            self.bar.set_position(self.step as u64);
            self.bar
                .set_message(format!("loss {:.4}", Self::value(&self.train, "Loss")));
        }
    }

    fn update_epoch(&mut self, _epoch: usize) {
        self.say(&self.evaluation_line());
    }

    fn end_split(&mut self) {
        self.validating = false;
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }

    fn log_event_training(&mut self, _event: String) {}
}

impl EvaluationProgressLogger for Lines {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRendererEvaluation for Lines {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl MetricsRenderer for Lines {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id, definition.name.to_string());
    }
}

/// The run directory's own `metrics.jsonl` is the log; burn-train's is not wanted beside it.
pub(crate) struct Discard;

impl MetricLogger for Discard {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}
