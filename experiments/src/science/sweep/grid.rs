//! The axes and formulas of a plan.

use super::formula::Formula;
use crate::Error;

/// Most values of an axis.
pub(super) const MAX_VALUES: usize = 10_000;

/// Name in formulas of the training tokens of a step.
pub(super) const TOKENS_PER_STEP: &str = "tokens_per_step";

/// Names in formulas that every run has.
pub(super) const BUILT_IN: [&str; 4] = [
    "parameters",
    "non_embedding_parameters",
    "flops_per_token",
    TOKENS_PER_STEP,
];

/// One dimension of the grid: a key or a variable with its values, or several that change together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) columns: Vec<Column>,
}

impl Axis {
    /// Returns the axis with its points in the order of the numbers of its first column. Other values keep the order of
    /// the plan.
    pub(super) fn new(mut columns: Vec<Column>) -> Self {
        let number = |value: &toml::Value| match value {
            toml::Value::Integer(whole) => Some(*whole as f64),
            other => other.as_float(),
        };
        let first = columns.first().map_or(&[][..], |column| &column.values);
        if let Some(numbers) = first.iter().map(number).collect::<Option<Vec<_>>>() {
            let mut order: Vec<usize> = (0..numbers.len()).collect();
            order.sort_by(|one, other| numbers[*one].total_cmp(&numbers[*other]));
            for column in &mut columns {
                column.values = order
                    .iter()
                    .filter_map(|at| column.values.get(*at).cloned())
                    .collect();
            }
        }
        Self { columns }
    }
}

/// A key or a variable with one value for each point of its axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) key: String,
    pub(super) values: Vec<toml::Value>,
}

/// A key or a variable that is computed for each run.
#[derive(Debug, Clone)]
pub(super) struct Derived {
    pub(super) key: String,
    pub(super) formula: Formula,
    /// Whether the value is rounded to a whole number.
    pub(super) whole: bool,
}

/// Whether a name without a dot stands for a number of the plan, and not for a key of the experiment.
pub(super) fn is_variable(key: &str) -> bool {
    !key.contains('.')
}

impl Axis {
    /// Returns the number of its points.
    pub(super) fn points(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }
}

/// Returns the message of an error without the override that it names.
pub(super) fn without_origin(error: &Error) -> String {
    match error {
        Error::Experiment { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
