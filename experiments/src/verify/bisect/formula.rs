//! Source code for each operation in plain calls of Burn, as the network composes it, for a program that does not
//! depend on the network.

use foretoken_model::{Activation, ModelConfig, Norm, Operation};

use super::replay::{Problem, ReferenceValues};
use super::wiring::{source, split};
use crate::backend::precision::Precision;
use crate::engine::parameters::Parameters;

/// A constant tensor of a program.
pub(super) struct Numbers {
    /// The name of the variable.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// The source code of an operation.
pub(super) struct Formula {
    /// The constant tensors.
    pub(super) numbers: Vec<Numbers>,
    /// Token ids in the shape of the batch: name of the variable, and values.
    pub(super) ids: Option<(&'static str, Vec<i64>)>,
    /// Statements that define the operation's inputs as the variables `input_0`, ….
    pub(super) views: Vec<String>,
    /// Path and variable of each parameter.
    pub(super) parameters: Vec<(String, String)>,
    /// Statements that compute `output` from the inputs.
    pub(super) body: Vec<String>,
    /// The output's dimensions.
    pub(super) output: Vec<usize>,
}

/// Writes the source code of operation `index` of a problem. `parameters` must be rounded to the precision.
pub(super) fn formula(
    config: &ModelConfig,
    problem: &Problem,
    index: usize,
    parameters: &Parameters,
) -> Formula {
    let writer = Writer {
        config,
        problem,
        index,
        parameters,
        batch: problem.batch.rows,
        length: problem.batch.length,
    };
    writer.write()
}

/// Returns the calls that widen a tensor before statistics are computed from it and narrow the result again. Both
/// are empty except in half precision.
pub(super) fn casts(precision: Precision) -> [String; 2] {
    let computed = precision.of_statistics();
    match computed == precision {
        true => [String::new(), String::new()],
        false => [
            format!(".cast(DType::{:?})", computed.dtype()),
            ".cast(DTYPE)".to_owned(),
        ],
    }
}

struct Writer<'a> {
    config: &'a ModelConfig,
    problem: &'a Problem,
    index: usize,
    parameters: &'a Parameters,
    batch: usize,
    length: usize,
}

impl Writer<'_> {
    fn write(&self) -> Formula {
        let given = &self.problem.operations[self.index];
        let (batch, length) = (self.batch, self.length);
        let [rows, columns] = given.shape;
        let mut formula = Formula {
            numbers: Vec::new(),
            ids: None,
            views: Vec::new(),
            parameters: Vec::new(),
            body: Vec::new(),
            output: vec![rows, columns],
        };
        for input in 0..given.place.inputs.len() {
            self.input(&mut formula, input);
        }
        match given.place.operation {
            Operation::Embedding => {
                let weight = self.parameter(&mut formula, "token_embedding.weight");
                formula.ids = Some(("tokens", self.problem.batch.inputs.clone()));
                formula.body = lines(&format!(
                    "let output = embedding({weight}.clone(), tokens);"
                ));
                formula.output = vec![batch, length, columns];
            }
            Operation::Positions => {
                let weight = self.parameter(&mut formula, "position_embedding.weight");
                formula.body = lines(&format!(
                    "let positions = {weight}.clone().narrow(0, 0, {length}).unsqueeze();\n\
                     let output = input_0.clone() + positions;"
                ));
                formula.output = vec![batch, length, columns];
            }
            Operation::Norm => {
                self.norm(
                    &mut formula,
                    &given.place.path,
                    "input_0.clone()",
                    2,
                    "output",
                );
            }
            Operation::Linear => self.linear(&mut formula, &given.place.path),
            Operation::Turn => self.rotation(&mut formula, given),
            Operation::Scores => self.scores(&mut formula),
            Operation::Mix => self.attention_output(&mut formula),
            Operation::Activation => formula.body = activation(self.config.activation),
            Operation::Residual => {
                formula.body = lines("let output = input_0.clone() + input_1.clone();");
            }
            Operation::LogitCap => {
                let cap = self.config.logit_cap.unwrap_or(1.0);
                formula.body = lines(&format!(
                    "let output = (input_0.clone() / {cap:?}).clamp(-20.0, 20.0).tanh() * {cap:?};"
                ));
            }
            Operation::Loss => {
                formula.ids = Some(("targets", self.problem.batch.targets.clone()));
                let [wide, _] = casts(self.problem.precision);
                formula.body = lines(&format!(
                    "let logits = input_0.clone(){wide};\n\
                     let targets = targets.reshape([{batch}, {length}, 1]);\n\
                     let maximum = logits.clone().detach().max_dim(2);\n\
                     let target = logits.clone().gather(2, targets);\n\
                     let log_total = (logits - maximum.clone()).exp().sum_dim(2).log();\n\
                     let output = (maximum - target) + log_total;"
                ));
                formula.output = vec![batch, length, 1];
            }
        }
        formula
    }

    /// Adds an input as the network provides it: the output that it comes from, and the views between the two.
    fn input(&self, formula: &mut Formula, input: usize) {
        let operations = &self.problem.operations;
        let dims = &operations[self.index].place.inputs[input];
        let source = source(operations, self.index, input);
        let given = &operations[source];
        let name = given.place.path.rsplit('.').next().unwrap_or("source");
        let name = format!("of_{name}");
        if !formula.numbers.iter().any(|numbers| numbers.name == name) {
            formula.numbers.push(Numbers {
                name: name.clone(),
                shape: given.shape.to_vec(),
                values: given.output.clone(),
            });
        }
        let (_, own) = split(&operations[self.index].place.path);
        let (_, from) = split(&given.place.path);
        let (heads, kv_heads) = (self.config.heads, self.config.kv_heads);
        let (batch, length) = (self.batch, self.length);
        let view = if from == "attention.qkv" && own.starts_with("attention.") {
            let (first, count) = match (own, input) {
                ("attention.queries", _) | ("attention.scores", 0) => (0, heads),
                ("attention.keys", _) | ("attention.scores", _) => (heads, kv_heads),
                _ => (heads + kv_heads, kv_heads),
            };
            let (all, width) = (heads + 2 * kv_heads, self.config.head_width());
            format!(
                "{name}.clone()\n    .reshape([{batch}, {length}, {all}, {width}])\n    \
                 .swap_dims(1, 2)\n    .narrow(1, {first}, {count})"
            )
        } else if from == "attention.mix" {
            let width = self.config.head_width();
            format!(
                "{name}.clone()\n    .reshape([{batch}, {heads}, {length}, {width}])\n    \
                 .swap_dims(1, 2)\n    .reshape({dims:?})"
            )
        } else {
            format!("{name}.clone().reshape({dims:?})")
        };
        formula.views.extend(lines(&format!(
            "let input_{input}: Tensor<{}> = {view};",
            dims.len()
        )));
    }

    /// Adds a parameter, and returns the name of its variable.
    fn parameter(&self, formula: &mut Formula, path: &str) -> String {
        let name = path.rsplit('.').next().unwrap_or(path).to_owned();
        let tensors = self.config.tensors();
        let shape = tensors.into_iter().find(|(of, _)| of == path);
        let mut shape = shape.map(|(_, shape)| shape).unwrap_or_default();
        let mut values = self.parameters.get(path).cloned().unwrap_or_default();
        if path == "position_embedding.weight" {
            // Only the rows that are read.
            shape[0] = self.length;
            values.truncate(self.length * shape[1]);
        }
        formula.numbers.push(Numbers {
            name: name.clone(),
            shape,
            values,
        });
        formula.parameters.push((path.to_owned(), name.clone()));
        name
    }

    fn norm(&self, formula: &mut Formula, path: &str, x: &str, rank: usize, result: &str) {
        let epsilon = self.config.norm_epsilon;
        let [wide, narrow] = casts(self.problem.precision);
        let gamma = self.parameter(formula, &format!("{path}.gamma"));
        let rms = self.config.norm == Norm::Rms || path.contains("attention.");
        let text = if rms {
            format!(
                "let x = {x}{wide};\n\
                 let mean_square = (x.clone() * x.clone()).mean_dim({});\n\
                 let x = x / (mean_square + {epsilon:?}).sqrt();\n\
                 let scaled = x * {gamma}.clone(){wide}.unsqueeze();\n\
                 let {result} = scaled{narrow};",
                rank - 1
            )
        } else {
            let path = format!("{path}.beta");
            let beta = match self.parameters.contains_key(&path) {
                true => format!("Some({}.clone(){wide})", self.parameter(formula, &path)),
                false => "None".into(),
            };
            format!(
                "let {result} = layer_norm({x}{wide}, {gamma}.clone(){wide}, {beta}, {epsilon:?}){narrow};"
            )
        };
        formula.body.extend(lines(&text));
    }

    fn linear(&self, formula: &mut Formula, path: &str) {
        let weight = format!("{path}.weight");
        if !self.parameters.contains_key(&weight) {
            // Tied embeddings: the head is the transposed token embedding.
            let weight = self.parameter(formula, "token_embedding.weight");
            formula.body = lines(&format!(
                "let output = linear(input_0.clone(), {weight}.clone().transpose(), None);"
            ));
            return;
        }
        let weight = self.parameter(formula, &weight);
        let bias = format!("{path}.bias");
        let bias = match self.parameters.contains_key(&bias) {
            true => format!("Some({}.clone())", self.parameter(formula, &bias)),
            false => "None".into(),
        };
        formula.body = lines(&format!(
            "let output = linear(input_0.clone(), {weight}.clone(), {bias});"
        ));
    }

    fn rotation(&self, formula: &mut Formula, given: &ReferenceValues) {
        formula.output = given.place.inputs[0].clone();
        let path = &given.place.path;
        let norm = match path.ends_with("queries") {
            true => path.replace("attention.queries", "attention.query_norm"),
            false => path.replace("attention.keys", "attention.key_norm"),
        };
        let mut x = "input_0.clone()";
        if self.config.qk_norm {
            let rotated = self.config.positions == foretoken_model::Positions::Rotary;
            let result = if rotated { "normed" } else { "output" };
            self.norm(formula, &norm, x, 4, result);
            if !rotated {
                return;
            }
            x = "normed";
        }
        let frequencies = self.config.rotary_frequencies();
        let angles = (0..self.length)
            .flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
        let (sines, cosines): (Vec<f64>, Vec<f64>) = angles.map(f64::sin_cos).unzip();
        let half = frequencies.len();
        for (name, values) in [("cosines", cosines), ("sines", sines)] {
            formula.numbers.push(Numbers {
                name: name.into(),
                shape: vec![1, 1, self.length, half],
                values,
            });
        }
        formula.body.extend(lines(&format!(
            "let first = {x}.clone().narrow(3, 0, {half});\n\
             let second = {x}.clone().narrow(3, {half}, {half});\n\
             let output = Tensor::cat(\n    \
                 vec![\n        \
                     first.clone() * cosines.clone() - second.clone() * sines.clone(),\n        \
                     second * cosines.clone() + first * sines.clone(),\n    \
                 ],\n    3,\n);",
            x = x.trim_end_matches(".clone()")
        )));
    }

    /// Returns the reshapes that turn query heads which share keys and values into rows of one product, and back.
    fn grouping(&self) -> [String; 2] {
        let (heads, kv_heads) = (self.config.heads, self.config.kv_heads);
        let (batch, length) = (self.batch, self.length);
        let columns = |rows: usize, heads: usize, columns: &str| {
            format!(".reshape([{batch}, {heads}, {rows}, {columns}])")
        };
        match heads / kv_heads {
            1 => [String::new(), String::new()],
            group => [
                columns(group * length, kv_heads, "COLUMNS"),
                columns(length, heads, "COLUMNS"),
            ],
        }
    }

    fn scores(&self, formula: &mut Formula) {
        let length = self.length;
        let width = self.config.head_width();
        let [grouped, ungrouped] = self.grouping();
        let grouped = grouped.replace("COLUMNS", &width.to_string());
        let ungrouped = ungrouped.replace("COLUMNS", &length.to_string());
        let mut text = format!(
            "let queries = input_0.clone() * {:?};\n\
             let scores = queries{grouped}.matmul(input_1.clone().swap_dims(2, 3)){ungrouped};\n",
            (width as f64).powf(-0.5)
        );
        let mut masks = Vec::new();
        let low = match self.problem.precision {
            Precision::F16 => "-32768.0",
            _ => "-1e9",
        };
        let masked = format!("Tensor::<2>::full([{length}, {length}], {low}, (device, DTYPE))");
        if length > 1 {
            masks.push(format!("{masked}.triu(1).unsqueeze::<4>()"));
        }
        if let Some(window) = self.config.window.filter(|window| length > *window) {
            masks.push(format!("{masked}.tril(-{window}).unsqueeze::<4>()"));
        }
        text += &match masks.is_empty() {
            true => "let output = scores;".to_owned(),
            false => format!(
                "let mask = {};\nlet output = scores + mask;",
                masks.join("\n    + ")
            ),
        };
        formula.body = lines(&text);
        formula.output = vec![self.batch, self.config.heads, length, length];
    }

    fn attention_output(&self, formula: &mut Formula) {
        let (length, width) = (self.length, self.config.head_width());
        let [grouped, ungrouped] = self.grouping();
        let grouped = grouped.replace("COLUMNS", &length.to_string());
        let ungrouped = ungrouped.replace("COLUMNS", &width.to_string());
        let [wide, narrow] = casts(self.problem.precision);
        let output = match wide.is_empty() {
            true => format!("weights{grouped}.matmul(input_1.clone()){ungrouped} / total"),
            false => {
                format!("(weights / total){narrow}{grouped}.matmul(input_1.clone()){ungrouped}")
            }
        };
        formula.body = lines(&format!(
            "let scores = input_0.clone(){wide};\n\
             let maximum = scores.clone().detach().max_dim(3);\n\
             let weights = (scores - maximum).exp();\n\
             let total = weights.clone().sum_dim(3);\n\
             let output = {output};"
        ));
        formula.output = vec![self.batch, self.config.heads, length, width];
    }
}

fn activation(activation: Activation) -> Vec<String> {
    lines(match activation {
        Activation::Gelu => {
            "let x = input_0.clone();\n\
             let output = ((x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * x * 0.5;"
        }
        Activation::GeluTanh => {
            "let x = input_0.clone();\n\
             let scale = -2.0 * std::f64::consts::FRAC_2_PI.sqrt();\n\
             let square = x.clone() * x.clone();\n\
             let exponent = (square * (0.044715 * scale) + scale) * x.clone();\n\
             let output = x / (exponent.clamp_max(60.0).exp() + 1.0);"
        }
        Activation::SwiGlu => {
            "let gate = input_0.clone();\n\
             let silu = gate.clone() / ((-gate).clamp_max(60.0).exp() + 1.0);\n\
             let output = silu * input_1.clone();"
        }
        Activation::Relu2 => {
            "let x = burn::tensor::activation::relu(input_0.clone());\n\
             let output = x.clone() * x;"
        }
    })
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}
