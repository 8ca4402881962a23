//! The sections `[optimizer]` and `[schedule]`: rules for updates, and the learning rate over a run.

use serde::{Deserialize, Serialize};

/// Rules that turn gradients into updates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101).
    #[default]
    AdamW,
}

impl OptimizerName {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The section `[optimizer]`, with the defaults of GPT-3 and nanoGPT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The rule that turns gradients into updates.
    #[serde(skip_serializing_if = "OptimizerName::is_default")]
    pub name: OptimizerName,
    /// Peak learning rate, reached at the end of warm-up.
    pub learning_rate: f64,
    /// Learning rate of the last step, unless the schedule is constant.
    pub min_learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Constant added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay on parameters of rank 2 and more (Loshchilov & Hutter 2019).
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 switches clipping off.
    pub clip: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            name: OptimizerName::default(),
            learning_rate: 1e-3,
            min_learning_rate: 1e-4,
            warmup: 100,
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip: 1.0,
        }
    }
}

impl OptimizerConfig {
    /// Checks every value. The error names the first invalid key, and the reason.
    pub(crate) fn validate(&self) -> Result<(), (&'static str, String)> {
        let non_negative = [
            ("optimizer.learning_rate", self.learning_rate),
            ("optimizer.min_learning_rate", self.min_learning_rate),
            ("optimizer.epsilon", self.epsilon),
            ("optimizer.weight_decay", self.weight_decay),
            ("optimizer.clip", self.clip),
        ];
        for (key, value) in non_negative {
            // The value must be finite in f32 too, because most models train in it.
            if !(value as f32).is_finite() || value < 0.0 {
                return Err((
                    key,
                    format!("is {value}; it must be a finite number that is not negative"),
                ));
            }
        }
        for (key, value) in [
            ("optimizer.beta_1", self.beta_1),
            ("optimizer.beta_2", self.beta_2),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err((
                    key,
                    format!("is {value}; it must be at least 0 and below 1"),
                ));
            }
        }
        if self.min_learning_rate > self.learning_rate {
            return Err((
                "optimizer.min_learning_rate",
                format!(
                    "is {}; it must be at most optimizer.learning_rate, which is {}",
                    self.min_learning_rate, self.learning_rate
                ),
            ));
        }
        Ok(())
    }
}

/// The section `[schedule]`: the learning rate after warm-up, from `optimizer.learning_rate` to
/// `optimizer.min_learning_rate`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleSection {
    /// The curve of the learning rate.
    pub name: ScheduleName,
    /// Share of all steps over which `wsd` decays the learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// Curve of that decay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_shape: Option<DecayShape>,
}

/// Curves of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// Half a cosine down to the last step (Loshchilov & Hutter 2017, arXiv 1608.03983).
    #[default]
    Cosine,
    /// The peak until the end.
    Constant,
    /// A straight line down to the last step.
    Linear,
    /// Warm-up, stable, decay: the peak, then down over the last steps (Hägele et al. 2024, arXiv 2405.18392).
    Wsd,
}

/// Curves of the decay of [`ScheduleName::Wsd`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayShape {
    /// A straight line.
    Linear,
    /// 1 − √progress, which Hägele et al. found better than a line.
    #[default]
    OneMinusSqrt,
}

impl ScheduleSection {
    /// Default share of all steps over which `wsd` decays.
    pub const DEFAULT_DECAY: f64 = 0.2;

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the share of all steps over which `wsd` decays.
    pub fn decay(&self) -> f64 {
        self.decay.unwrap_or(Self::DEFAULT_DECAY)
    }

    /// Checks every value. The error names the first invalid key, and the reason.
    pub(crate) fn validate(&self) -> Result<(), (&'static str, String)> {
        let given = [
            ("schedule.decay", self.decay.is_some()),
            ("schedule.decay_shape", self.decay_shape.is_some()),
        ];
        if self.name != ScheduleName::Wsd
            && let Some((key, _)) = given.into_iter().find(|(_, given)| *given)
        {
            return Err((key, "is only for schedule.name = \"wsd\"; remove it".into()));
        }
        match self.decay() {
            decay if decay > 0.0 && decay <= 1.0 => Ok(()),
            decay => Err((
                "schedule.decay",
                format!("is {decay}; it must be a share above 0 and at most 1, such as 0.2"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_an_invalid_value_names_its_key() {
        let key = |config: OptimizerConfig| config.validate().unwrap_err().0;
        assert_eq!(
            key(OptimizerConfig {
                learning_rate: f64::NAN,
                ..Default::default()
            }),
            "optimizer.learning_rate"
        );
        assert_eq!(
            key(OptimizerConfig {
                beta_2: 1.0,
                ..Default::default()
            }),
            "optimizer.beta_2"
        );
        assert_eq!(
            key(OptimizerConfig {
                min_learning_rate: 1.0,
                ..Default::default()
            }),
            "optimizer.min_learning_rate"
        );
        assert!(OptimizerConfig::default().validate().is_ok());
    }

    #[test]
    fn a_schedule_refuses_keys_of_another_schedule() {
        let wsd = |decay| ScheduleSection {
            name: ScheduleName::Wsd,
            decay,
            ..Default::default()
        };
        for decay in [None, Some(0.1), Some(1.0)] {
            assert!(wsd(decay).validate().is_ok());
        }
        for decay in [0.0, -0.1, 1.1, f64::NAN] {
            assert_eq!(wsd(Some(decay)).validate().unwrap_err().0, "schedule.decay");
        }
        let cosine = ScheduleSection {
            decay_shape: Some(DecayShape::Linear),
            ..Default::default()
        };
        assert_eq!(cosine.validate().unwrap_err().0, "schedule.decay_shape");
    }
}
