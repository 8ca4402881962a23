//! Learning rate schedules: pure functions of the step, the experiment and its number of steps.
//!
//! A new schedule needs a name in [`ScheduleName`] and an arm of `Schedule::after_warmup`.

use std::f64::consts::PI;

use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};

use crate::Experiment;
use crate::experiment::{DecayShape, OptimizerConfig, ScheduleName, ScheduleSection};

/// The learning rates of a run, and its next step.
#[derive(Debug, Clone)]
pub struct Schedule {
    optimizer: OptimizerConfig,
    section: ScheduleSection,
    steps: usize,
    next: usize,
}

impl Schedule {
    /// Returns the schedule of an experiment, before its first step.
    pub fn new(experiment: &Experiment) -> Self {
        Self {
            optimizer: experiment.optimizer.clone(),
            section: experiment.schedule.clone(),
            steps: experiment.train.steps,
            next: 0,
        }
    }

    /// Returns the learning rate of `step`, counted from 0. It rises linearly over `optimizer.warmup` steps and then
    /// follows the curve `schedule.name`. A run of at most `warmup` + 1 steps ends while the rate rises.
    pub fn rate(&self, step: usize) -> f64 {
        let peak = self.optimizer.learning_rate;
        let warmup = self.optimizer.warmup;
        if step < warmup {
            return peak * (step + 1) as f64 / (warmup as f64 + 1.0);
        }
        let least = self.optimizer.min_learning_rate;
        least + self.after_warmup(step) * (peak - least)
    }

    /// Returns the rate as a share between the minimum and the peak: 1 at the end of warm-up, and 0 at the last step
    /// unless the schedule is constant.
    fn after_warmup(&self, step: usize) -> f64 {
        let warmup = self.optimizer.warmup;
        let falling = self.steps.saturating_sub(warmup).saturating_sub(1).max(1);
        let progress = ((step - warmup) as f64 / falling as f64).min(1.0);
        match self.section.name {
            ScheduleName::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            ScheduleName::Linear => 1.0 - progress,
            ScheduleName::Constant => 1.0,
            ScheduleName::Wsd => {
                // The decay does not begin before the end of warm-up.
                let decaying = (self.section.decay() * self.steps as f64).ceil() as usize;
                let decaying = decaying.min(self.steps.saturating_sub(warmup));
                let stable = self.steps.saturating_sub(decaying);
                let decayed = (step + 1).saturating_sub(stable) as f64;
                let progress = (decayed / decaying.max(1) as f64).min(1.0);
                match self.section.decay_shape.unwrap_or_default() {
                    DecayShape::Linear => 1.0 - progress,
                    DecayShape::OneMinusSqrt => 1.0 - progress.sqrt(),
                }
            }
        }
    }
}

impl LrScheduler for Schedule {
    fn step(&mut self) -> f64 {
        let rate = self.rate(self.next);
        self.next += 1;
        rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("next", self.next as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(next) = record.scalar::<u64>("next") {
            self.next = next as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(name: ScheduleName, warmup: usize, steps: usize) -> Schedule {
        Schedule {
            optimizer: OptimizerConfig {
                warmup,
                ..Default::default()
            },
            section: ScheduleSection {
                name,
                ..Default::default()
            },
            steps,
            next: 0,
        }
    }

    #[test]
    fn cosine_rises_to_the_peak_and_falls_to_the_minimum() {
        let cosine = schedule(ScheduleName::Cosine, 10, 110);
        let rate = |step| cosine.rate(step);
        assert!((rate(0) - 1e-3 / 11.0).abs() < 1e-15);
        assert!((0..10).all(|step| rate(step) < rate(step + 1)));
        assert!((rate(10) - 1e-3).abs() < 1e-15);
        assert!((10..109).all(|step| rate(step) > rate(step + 1)));
        // The middle of the 99 falling steps is between two steps.
        let middle = 0.5 * (rate(59) + rate(60));
        assert!((middle - (1e-4 + 0.5 * 9e-4)).abs() < 1e-12, "{middle}");
        assert!((rate(109) - 1e-4).abs() < 1e-15, "the last step");
        assert!((rate(500) - 1e-4).abs() < 1e-15, "stays at the minimum");
        // The shortest falling schedule has one step at the peak and one at the minimum.
        let short = [10, 11].map(|step| schedule(ScheduleName::Cosine, 10, 12).rate(step));
        assert!((short[0] - 1e-3).abs() < 1e-15 && (short[1] - 1e-4).abs() < 1e-15);
        assert!(schedule(ScheduleName::Cosine, usize::MAX, 10).rate(0) > 0.0);
        // Shorter runs end while the rate rises.
        for steps in 1..=11 {
            let shorter = schedule(ScheduleName::Cosine, 10, steps);
            assert_eq!(shorter.rate(steps - 1), rate(steps - 1));
        }
    }

    #[test]
    fn constant_stays_at_the_peak_and_linear_falls_evenly() {
        let constant = schedule(ScheduleName::Constant, 10, 110);
        assert!((10..200).all(|step| (constant.rate(step) - 1e-3).abs() < 1e-15));
        let linear = schedule(ScheduleName::Linear, 10, 110);
        let fall = 9e-4 / 99.0;
        for step in 10..109 {
            let expected = 1e-3 - (step - 10) as f64 * fall;
            assert!((linear.rate(step) - expected).abs() < 1e-15);
        }
        assert!((linear.rate(109) - 1e-4).abs() < 1e-15);
    }

    #[test]
    fn wsd_is_stable_and_then_decays_to_the_minimum() {
        let mut wsd = schedule(ScheduleName::Wsd, 10, 100);
        // The last 20 of 100 steps decay.
        assert!((10..80).all(|step| (wsd.rate(step) - 1e-3).abs() < 1e-15));
        let expected = |progress: f64| 1e-4 + 9e-4 * (1.0 - progress.sqrt());
        for step in 80..100 {
            let progress = (step - 79) as f64 / 20.0;
            assert!(
                (wsd.rate(step) - expected(progress)).abs() < 1e-15,
                "{step}"
            );
        }
        assert!((wsd.rate(99) - 1e-4).abs() < 1e-15);
        wsd.section.decay_shape = Some(DecayShape::Linear);
        assert!((wsd.rate(89) - 5.5e-4).abs() < 1e-15);
        // A decay over all steps begins after warm-up, and a decay has at least one step.
        wsd.section.decay = Some(1.0);
        assert!(wsd.rate(10) < 1e-3 && wsd.rate(9) < wsd.rate(10));
        wsd.section.decay = Some(1e-9);
        assert!((wsd.rate(98) - 1e-3).abs() < 1e-15);
        assert!((wsd.rate(99) - 1e-4).abs() < 1e-15);
    }

    #[test]
    fn restored_schedule_continues_at_its_step() {
        let mut first = schedule(ScheduleName::Cosine, 10, 50);
        for _ in 0..17 {
            first.step();
        }
        let mut restored = schedule(ScheduleName::Cosine, 10, 50);
        restored.load_record(first.to_record());
        assert_eq!(restored.step(), first.step());
    }
}
