//! The files of a case: its numbers, and a program that shows the error. Both can be attached to a bug report.

use std::path::Path;

use foretoken_model::Place;
use serde::Serialize;

use super::findings::Culprit;
use super::formula::{Formula, Numbers};
use super::judge::{Measurement, QuantityKind};
use super::replay::Recomputation;
use crate::Error;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::experiment::OptimizerConfig;
use crate::record::run::write_atomically;

/// The smallest case that shows an error.
pub(super) struct Case {
    pub(super) place: Place,
    pub(super) formula: Formula,
    pub(super) upstream: Vec<f64>,
    /// The reference's results.
    pub(super) recomputed: Recomputation,
    /// The result that is wrong.
    pub(super) kind: QuantityKind,
    /// Its error in this case.
    pub(super) error: f64,
    pub(super) bound: f64,
    pub(super) precision: Precision,
    /// The backends to run. The first is the one that is wrong.
    pub(super) backends: Vec<Backend>,
    pub(super) update: Option<UpdateCase>,
}

/// A few elements of a parameter, and everything that their update depends on.
pub(super) struct UpdateCase {
    pub(super) weight: Vec<f64>,
    /// The elements' gradients in each update, with the norm over all parameters.
    pub(super) gradients: Vec<(Vec<f64>, f64)>,
    pub(super) expected: Vec<f64>,
    /// Whether the parameter is a matrix, to which weight decay applies.
    pub(super) matrix: bool,
    pub(super) optimizer: OptimizerConfig,
    /// The learning rate of each update.
    pub(super) rates: Vec<f64>,
}

#[derive(Serialize)]
struct Input<'a> {
    name: &'a str,
    shape: &'a [usize],
    /// The exact values in `dtype`; null if not finite.
    values: &'a [f64],
}

#[derive(Serialize)]
struct Inputs<'a> {
    path: &'a str,
    operation: &'a str,
    of: String,
    dtype: Precision,
    tensors: Vec<Input<'a>>,
    ids: Option<&'a [i64]>,
}

impl Case {
    pub(super) fn of_update(
        update: UpdateCase,
        path: &str,
        measured: Measurement,
        precision: Precision,
        backends: Vec<Backend>,
    ) -> Self {
        let shape = vec![update.weight.len()];
        let gradients = update.gradients.iter().enumerate();
        let gradients = gradients.map(|(index, (values, _))| (format!("gradient_{index}"), values));
        let numbers = [("weight".to_owned(), &update.weight)]
            .into_iter()
            .chain(gradients);
        let numbers = numbers.map(|(name, values)| Numbers {
            name,
            shape: shape.clone(),
            values: values.clone(),
        });
        Self {
            place: Place {
                path: path.into(),
                // The report of an update names only the path, so the operation does not matter.
                operation: foretoken_model::Operation::Residual,
                inputs: vec![shape.clone()],
            },
            formula: Formula {
                numbers: numbers.collect(),
                ids: None,
                views: Vec::new(),
                parameters: Vec::new(),
                body: update.body(precision),
                output: shape,
            },
            upstream: Vec::new(),
            recomputed: Recomputation {
                output: update.expected.clone(),
                ..Recomputation::default()
            },
            kind: QuantityKind::Update,
            error: measured.error,
            bound: measured.bound,
            precision,
            backends,
            update: Some(update),
        }
    }

    /// Writes `input.json` and `reproduction.rs`, and records their paths in the culprit.
    pub(super) fn write(&self, directory: &Path, culprit: &mut Culprit) -> Result<(), Error> {
        let numbers = self.formula.numbers.iter();
        let mut tensors: Vec<Input<'_>> = numbers
            .map(|numbers| Input {
                name: &numbers.name,
                shape: &numbers.shape,
                values: &numbers.values,
            })
            .collect();
        if self.is_backward() {
            tensors.push(Input {
                name: "upstream",
                shape: &self.formula.output,
                values: &self.upstream,
            });
        }
        let inputs = Inputs {
            path: &self.place.path,
            operation: &culprit.operation,
            of: self.kind.to_string(),
            dtype: self.precision,
            tensors,
            ids: self.formula.ids.as_ref().map(|(_, ids)| ids.as_slice()),
        };
        let input = directory.join("input.json");
        write_atomically(&input, &serde_json::to_vec(&inputs)?)?;
        let (source, included) = self.source(culprit);
        for (name, text) in included {
            write_atomically(&directory.join(name), text.as_bytes())?;
        }
        let reproduction = directory.join("reproduction.rs");
        write_atomically(&reproduction, source.as_bytes())?;
        culprit.smallest = Some(self.place.inputs.clone());
        culprit.input = Some(input);
        culprit.reproduction = Some(reproduction);
        Ok(())
    }
}
