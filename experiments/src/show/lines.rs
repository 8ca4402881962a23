//! The plain display: a line for each evaluation, and a progress bar on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::metrics::Measure;
use super::{probes, terminal};
use crate::engine::event::{Evaluated, Evaluating, Event, Scope, Stepped};
use crate::engine::language_model::Figures;
use crate::engine::session::{Observer, Session};
use crate::{Error, errln, outln};

/// Minimum duration of a final evaluation that is announced if there is no progress bar.
const LONG_EVALUATION: Duration = Duration::from_secs(10);

/// Standard stream of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Observer that prints lines.
pub(crate) struct Lines {
    headline: String,
    bar: ProgressBar,
    /// `None` prints nothing.
    stream: Option<Stream>,
    seconds_per_token_at_peak: f64,
    /// Sums since the last evaluation.
    interval: Option<Figures>,
    /// Start of a final evaluation that is not announced yet.
    unannounced: Option<Instant>,
}

impl Lines {
    /// Returns the display of a run, which begins with its headline.
    pub(crate) fn new(
        headline: String,
        stream: Option<Stream>,
        seconds_per_token_at_peak: f64,
        session: &Session,
    ) -> Self {
        let has_screen = stream.is_some() && terminal::has_screen(&std::io::stderr());
        let bar = ProgressBar::with_draw_target(
            Some(session.experiment().train.steps as u64),
            match has_screen {
                true => ProgressDrawTarget::stderr_with_hz(4),
                false => ProgressDrawTarget::hidden(),
            },
        );
        set_template(
            &bar,
            "{bar:30} step {pos}/{len}  {msg}  {elapsed} elapsed, {eta} left",
        );
        bar.set_position(session.state().step as u64);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            headline,
            bar,
            stream,
            seconds_per_token_at_peak,
            interval: None,
            unannounced: None,
        }
    }

    fn print(&self, line: &str) {
        match self.stream {
            Some(Stream::Stdout) => self.bar.suspend(|| outln!("{line}")),
            Some(Stream::Stderr) => self.bar.suspend(|| errln!("{line}")),
            None => {}
        }
    }

    fn stepped(&mut self, stepped: &Stepped) {
        self.bar.set_position(stepped.step as u64 + 1);
        let loss = stepped.figures.totals.loss();
        self.bar.set_message(format!("loss {loss:.4}"));
        match &mut self.interval {
            Some(interval) => interval.add(&stepped.figures),
            None => self.interval = Some(stepped.figures),
        }
    }

    /// Displays a final evaluation, and announces a long one, which can read far more windows than earlier evaluations.
    fn evaluating(&mut self, evaluating: &Evaluating) {
        let what = match evaluating.scope {
            Scope::Interval => return,
            Scope::Last => "the last weights",
            Scope::Best => "the best weights",
        };
        let Evaluating { done, windows, .. } = *evaluating;
        if done == 0 {
            self.unannounced = Some(Instant::now());
            self.bar.set_length(windows as u64);
            set_template(
                &self.bar,
                "{bar:30} evaluating {msg}: window {pos}/{len}  {elapsed} elapsed, {eta} left",
            );
            self.bar.set_message(what);
            self.bar.reset();
            return;
        }
        self.bar.set_position(done as u64);
        if !self.bar.is_hidden() {
            return;
        }
        let Some(began) = self.unannounced else {
            return;
        };
        // The duration can be estimated after a second.
        let (elapsed, share) = (began.elapsed(), done as f64 / windows as f64);
        if elapsed > Duration::from_secs(1) {
            let total = elapsed.div_f64(share);
            if total > LONG_EVALUATION {
                self.print(&format!(
                    "evaluating {what} over {windows} windows of {} targets takes about {:.0} s; \
                     train.final_eval_windows limits the windows",
                    evaluating.context,
                    total.as_secs_f64()
                ));
            }
            self.unannounced = None;
        }
    }

    /// Returns the line of an evaluation, with losses in nats per token and the speed since the last evaluation.
    fn evaluation_line(&self, evaluated: &Evaluated, session: &Session) -> String {
        let steps = session.experiment().train.steps;
        let width = steps.to_string().len();
        let peak = self.seconds_per_token_at_peak;
        let train = |measure: Measure| {
            let interval = self.interval.as_ref();
            interval.map_or(f64::NAN, |figures| measure.of(figures, peak))
        };
        format!(
            "step {:>width$}/{steps}  valid loss {:.4}  train loss {:.4}  bits/byte {:.4}  perplexity {:.2}  accuracy {:.1} %  {:.0} tokens/s  MFU {:.1} %",
            evaluated.step,
            evaluated.totals.loss(),
            train(Measure::Loss),
            evaluated.totals.bits_per_byte(),
            evaluated.totals.perplexity(),
            100.0 * evaluated.totals.accuracy(),
            train(Measure::TokensPerSecond),
            train(Measure::Mfu),
        )
    }
}

impl Observer for Lines {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        match event {
            Event::Started => self.print(&self.headline),
            Event::Stepped(stepped) => self.stepped(stepped),
            Event::Evaluating(evaluating) => self.evaluating(evaluating),
            Event::Evaluated(evaluated) if evaluated.scope == Scope::Interval => {
                self.print(&self.evaluation_line(evaluated, session));
                self.interval = None;
            }
            Event::Probed(probed) => {
                let steps = session.experiment().train.steps;
                self.print(&probes::line(probed, steps));
            }
            Event::Ended(_) => self.bar.finish_and_clear(),
            Event::Evaluated(_) | Event::Saved => {}
        }
        Ok(())
    }
}

/// Removes the bar even if the run fails.
impl Drop for Lines {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
