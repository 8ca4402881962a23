//! One file of Rust that computes a case on every backend with Burn alone, and prints the results beside the
//! expected ones.

use std::fmt::Write;

use super::findings::{Culprit, Direction};
use super::formula::{Formula, casts};
use super::judge::{QuantityKind, value};
use super::reproduction::{Case, UpdateCase};
use crate::backend::Backend;
use crate::backend::precision::Precision;

/// Largest total length of numbers inside the source. Longer ones are written to files beside it.
const MAX_INLINE: usize = 4 << 20;

/// A result that a program prints.
struct PrintedResult {
    label: String,
    expression: String,
    expected: Vec<f64>,
    shape: Vec<usize>,
}

impl Case {
    pub(super) fn is_backward(&self) -> bool {
        self.kind.direction() == Direction::Backward
    }

    fn printed(&self) -> Vec<PrintedResult> {
        let printed =
            |label: String, kind: &QuantityKind, expression: String, shape: Vec<usize>| {
                let expected = match kind {
                    QuantityKind::Update => Some(self.recomputed.output.as_slice()),
                    _ => value(&self.recomputed, kind),
                };
                PrintedResult {
                    label,
                    expression,
                    expected: expected.unwrap_or_default().to_vec(),
                    shape,
                }
            };
        if self.kind == QuantityKind::Update {
            let shape = self.formula.output.clone();
            return vec![printed(
                "weight".into(),
                &QuantityKind::Update,
                "output".into(),
                shape,
            )];
        }
        let mut all = Vec::new();
        if let QuantityKind::Input(index) = &self.kind {
            let shape = self.place.inputs[*index].clone();
            all.push(printed(
                self.kind.to_string(),
                &self.kind,
                format!("input_{index}"),
                shape,
            ));
        }
        let shape = self.formula.output.clone();
        all.push(printed(
            "output".into(),
            &QuantityKind::Output,
            "output".into(),
            shape,
        ));
        if !self.is_backward() {
            return all;
        }
        let gradient = |variable: &str| format!("gradient({variable}.grad(&gradients))");
        for (index, shape) in self.place.inputs.iter().enumerate() {
            let kind = QuantityKind::InputGradient(index);
            let expression = gradient(&format!("input_{index}"));
            all.push(printed(kind.to_string(), &kind, expression, shape.clone()));
        }
        for (path, variable) in &self.formula.parameters {
            let shape = self.formula.numbers.iter().find(|n| n.name == *variable);
            let shape = shape
                .map(|numbers| numbers.shape.clone())
                .unwrap_or_default();
            let kind = QuantityKind::ParameterGradient(path.clone());
            let mut result = printed(
                format!("gradient of {variable}"),
                &kind,
                gradient(variable),
                shape,
            );
            // Position embeddings have only the rows that are read.
            result.expected.truncate(result.shape.iter().product());
            all.push(result);
        }
        all
    }

    /// Returns the program, and the names and contents of the files that it includes.
    pub(super) fn source(&self, culprit: &Culprit) -> (String, Vec<(String, String)>) {
        let printed = self.printed();
        let mut texts: Vec<(String, String)> = self
            .formula
            .numbers
            .iter()
            .map(|numbers| (numbers.name.to_uppercase(), self.text(&numbers.values)))
            .collect();
        if self.is_backward() {
            texts.push(("UPSTREAM".into(), self.text(&self.upstream)));
        }
        for (index, printed) in printed.iter().enumerate() {
            texts.push((
                format!("EXPECTED_{index}"),
                text_of(&printed.expected, Precision::F64),
            ));
        }
        let inline = texts.iter().map(|(_, text)| text.len()).sum::<usize>() <= MAX_INLINE;
        let mut included = Vec::new();
        let mut constants = String::new();
        for (name, text) in texts {
            let literal = match inline {
                true => format!("\"\\\n{text}\""),
                false => {
                    let file = format!("{}.txt", name.to_lowercase());
                    let literal = format!("include_str!({file:?})");
                    included.push((file, text));
                    literal
                }
            };
            let _ = writeln!(constants, "const {name}: &str = {literal};");
        }
        let program = format!(
            "{header}\n#![allow(deprecated)]\n#![recursion_limit = \"256\"]\n\n{imports}\n\
             /// The precision that the backends compute in.\nconst DTYPE: DType = DType::{dtype:?};\n\n\
             {run}\n{helpers}\n{main}\n{constants}",
            header = self.header(culprit),
            imports = self.imports(),
            dtype = self.precision.dtype(),
            run = self.run(&printed),
            helpers = self.helpers(),
            main = self.main(&printed),
        );
        (program, included)
    }

    fn header(&self, culprit: &Culprit) -> String {
        let names: Vec<&str> = self.backends.iter().map(|backend| backend.name()).collect();
        let mut features = vec!["std", "simd", "rayon", "autodiff"];
        if self.update.is_some() {
            features.push("optim");
        }
        features.extend(self.backends.iter().map(|backend| crate_feature(*backend)));
        if self.backends.contains(&Backend::Wgpu) && cfg!(feature = "wgpu-tuned") {
            features.extend(["fusion", "autotune"]);
        }
        format!(
            "//! {culprit} on {first}: {of} at `{path}`, {direction}.\n\
             //!\n\
             //! Relative error of this case: {error:.1e}. Rounding explains {bound:.1e}.\n\
             //! Prints the results of {names} beside those that an f64 reference computed from the same numbers.\n\
             //!\n\
             //! Cargo.toml:\n\
             //! ```toml\n\
             //! [package]\n\
             //! name = \"reproduction\"\n\
             //! version = \"0.1.0\"\n\
             //! edition = \"2024\"\n\
             //!\n\
             //! [[bin]]\n\
             //! name = \"reproduction\"\n\
             //! path = \"reproduction.rs\"\n\
             //!\n\
             //! [dependencies.burn]\n\
             //! version = \"=0.22.1\"\n\
             //! default-features = false\n\
             //! features = {features:?}\n\
             //! ```\n",
            culprit = culprit.operation,
            first = culprit.backend,
            of = self.kind,
            path = self.place.path,
            direction = self.kind.direction().name(),
            error = self.error,
            bound = self.bound,
            names = names.join(" and "),
        )
    }

    fn imports(&self) -> String {
        let body = self.formula.body.join("\n");
        let modules = ["embedding", "layer_norm", "linear"];
        let used = modules
            .iter()
            .filter(|name| body.contains(&format!("{name}(")));
        let mut imports = String::new();
        if self.update.is_some() {
            imports += "use burn::optim::{AdamWConfig, Optimizer};\n";
        }
        for name in used {
            let _ = writeln!(imports, "use burn::tensor::module::{name};");
        }
        let int = if self.formula.ids.is_some() {
            ", Int"
        } else {
            ""
        };
        imports + &format!("use burn::tensor::{{DType, Device{int}, Tensor, TensorData}};\n")
    }

    fn run(&self, printed: &[PrintedResult]) -> String {
        let mut body = Vec::new();
        let leaf = |formula: &Formula, name: &str| {
            self.is_backward()
                && formula
                    .parameters
                    .iter()
                    .any(|(_, variable)| variable == name)
        };
        for numbers in &self.formula.numbers {
            let grad = if leaf(&self.formula, &numbers.name) {
                ".require_grad()"
            } else {
                ""
            };
            body.push(format!(
                "let {} = tensor::<{}>({}, {:?}, device){grad};",
                numbers.name,
                numbers.shape.len(),
                numbers.name.to_uppercase(),
                numbers.shape
            ));
        }
        if let Some((name, ids)) = &self.formula.ids {
            let shape = [ids.len() / self.length(), self.length()];
            body.push(format!("let {name}: Vec<i64> = vec!{ids:?};"));
            body.push(format!(
                "let {name} = Tensor::<2, Int>::from_data(TensorData::new({name}, {shape:?}), device);"
            ));
        }
        body.extend(self.formula.views.clone());
        if self.is_backward() {
            for index in 0..self.place.inputs.len() {
                body.push(format!(
                    "let input_{index} = input_{index}.detach().require_grad();"
                ));
            }
        }
        body.extend(self.formula.body.clone());
        if self.is_backward() {
            body.push(format!(
                "let upstream = tensor::<{}>(UPSTREAM, {:?}, device).cast(output.dtype());",
                self.formula.output.len(),
                self.formula.output
            ));
            body.push("let gradients = (output.clone() * upstream).sum().backward();".into());
        }
        let results: Vec<String> = printed
            .iter()
            .map(
                |printed| match printed.expression.starts_with("gradient(") {
                    true => printed.expression.clone(),
                    false => format!("numbers({})", printed.expression),
                },
            )
            .collect();
        body.push(format!("vec![{}]", results.join(", ")));
        let body: String = body
            .iter()
            .flat_map(|statement| statement.lines())
            .map(|line| format!("    {line}\n"))
            .collect();
        format!(
            "/// Computes the operation as the network composes it, on one device.\n\
             fn run(device: &Device) -> Vec<Vec<f64>> {{\n{body}}}\n"
        )
    }

    /// Returns the number of tokens in a sequence of this case.
    fn length(&self) -> usize {
        self.formula.output.get(1).copied().unwrap_or(1).max(1)
    }

    fn helpers(&self) -> String {
        let (digits, bits) = match self.precision {
            Precision::F64 => ("u64", "f64::from_bits(bits)"),
            _ => ("u32", "f64::from(f32::from_bits(bits))"),
        };
        let mut helpers = format!(
            "/// Makes a tensor from the bits of its numbers.\n\
             fn tensor<const D: usize>(text: &str, shape: [usize; D], device: &Device) -> Tensor<D> {{\n    \
                 let bits = text.split_whitespace().map(|bits| {digits}::from_str_radix(bits, 16));\n    \
                 let values = bits.map(|bits| bits.expect(\"hexadecimal digits\"));\n    \
                 let values: Vec<f64> = values.map(|bits| {bits}).collect();\n    \
                 Tensor::from_data(TensorData::new(values, shape), (device, DTYPE))\n\
             }}\n\n\
             fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {{\n    \
                 tensor.try_into_vec_as().expect(\"numbers\")\n\
             }}\n"
        );
        if self.is_backward() {
            helpers += "\n/// Returns the gradient; empty if there is none.\n\
                        fn gradient<const D: usize>(gradient: Option<Tensor<D>>) -> Vec<f64> {\n    \
                            gradient.map(numbers).unwrap_or_default()\n\
                        }\n";
        }
        helpers
    }

    fn main(&self, printed: &[PrintedResult]) -> String {
        let devices: String = self
            .backends
            .iter()
            .map(|backend| {
                format!(
                    "        ({:?}, {}),\n",
                    backend.name(),
                    constructor(*backend)
                )
            })
            .collect();
        let results: String = printed
            .iter()
            .enumerate()
            .map(|(index, printed)| {
                format!(
                    "        ({:?}, vec!{:?}, EXPECTED_{index}),\n",
                    printed.label, printed.shape
                )
            })
            .collect();
        format!(
            r#"fn main() {{
    let devices = [
{devices}    ];
    let results: Vec<(&str, Vec<Vec<f64>>)> = devices
        .into_iter()
        .map(|(name, device)| (name, run(&device.autodiff())))
        .collect();
    let expected: Vec<(&str, Vec<usize>, &str)> = vec![
{results}    ];
    for (index, (label, shape, text)) in expected.into_iter().enumerate() {{
        let expected: Vec<f64> = text
            .split_whitespace()
            .map(|bits| f64::from_bits(u64::from_str_radix(bits, 16).expect("hexadecimal digits")))
            .collect();
        println!("{{label}} {{shape:?}}");
        // Scores of masked keys count as equal.
        let clamped = |y: f64| if y <= -1e8 {{ -1e8 }} else {{ y }};
        let size = expected.iter().filter(|y| **y > -1e8).map(|y| y * y).sum::<f64>().sqrt();
        let (kind, size) = if size > 0.0 {{ ("relative", size) }} else {{ ("absolute", 1.0) }};
        for (name, results) in &results {{
            let found = &results[index];
            let differences = found.iter().zip(&expected).map(|(a, y)| clamped(*a) - clamped(*y));
            let error = differences.map(|d| d * d).sum::<f64>().sqrt() / size;
            match found.is_empty() {{
                true => println!("  {{name:<12}} nothing came"),
                false => println!("  {{name:<12}} {{kind}} error {{error:.3e}}"),
            }}
        }}
        // The elements with the largest errors on any device.
        let off = |at: usize| {{
            let of = |results: &Vec<Vec<f64>>| results[index].get(at).map_or(0.0, |a| (clamped(*a) - clamped(expected[at])).abs());
            results.iter().map(|(_, results)| of(results)).fold(0.0, f64::max)
        }};
        let mut order: Vec<usize> = (0..expected.len()).collect();
        order.sort_by(|a, b| off(*b).total_cmp(&off(*a)));
        for at in order.into_iter().take(4) {{
            print!("  [{{at}}] expected {{:.9e}}", expected[at]);
            for (name, results) in &results {{
                if let Some(value) = results[index].get(at) {{
                    print!(", {{name}} {{value:.9e}}");
                }}
            }}
            println!();
        }}
    }}
}}
"#
        )
    }

    fn text(&self, values: &[f64]) -> String {
        text_of(values, self.precision)
    }
}

impl UpdateCase {
    pub(super) fn body(&self, precision: Precision) -> Vec<String> {
        let optimizer = &self.optimizer;
        let [wide, narrow] = casts(precision);
        let decay = if self.matrix {
            optimizer.weight_decay
        } else {
            0.0
        };
        let mut text = format!(
            "let adamw = AdamWConfig::new()\n    .with_beta_1({:?})\n    .with_beta_2({:?})\n    \
             .with_epsilon({:e})\n    .with_weight_decay({:?})\n    .build();\n\
             let (output, state) = (weight, None);\n",
            optimizer.beta_1 as f32,
            optimizer.beta_2 as f32,
            optimizer.epsilon as f32,
            decay as f32
        );
        for (step, ((_, norm), rate)) in self.gradients.iter().zip(&self.rates).enumerate() {
            let clipped = match optimizer.clip > 0.0 {
                true => (optimizer.clip / (norm + 1e-6)).min(1.0),
                false => 1.0,
            };
            let _ = writeln!(
                text,
                "let gradient = gradient_{step}{wide} * {clipped:?};\n\
                 let (output, state) = adamw.step({rate:?}, output{wide}, gradient, state);"
            );
            if !narrow.is_empty() {
                let _ = writeln!(text, "let output = output{narrow};");
            }
        }
        text += "let _ = state;";
        text.lines().map(str::to_owned).collect()
    }
}

/// Returns the bits of numbers as hexadecimal digits, eight numbers a line.
fn text_of(values: &[f64], precision: Precision) -> String {
    let digits = |value: &f64| match precision {
        Precision::F64 => format!("{:016x}", value.to_bits()),
        // Every other precision is exact in f32.
        _ => format!("{:08x}", (*value as f32).to_bits()),
    };
    let lines = values.chunks(8).map(|line| {
        let line: Vec<String> = line.iter().map(digits).collect();
        line.join(" ") + "\n"
    });
    lines.collect()
}

/// Returns the feature of the crate `burn` that enables a backend.
fn crate_feature(backend: Backend) -> &'static str {
    match backend {
        Backend::LibTorch => "tch",
        Backend::CubeclCpu => "cpu",
        other => other.name(),
    }
}

/// Returns the expression that opens a backend's device.
fn constructor(backend: Backend) -> &'static str {
    match backend {
        Backend::Flex => "Device::flex()",
        Backend::NdArray => "Device::ndarray()",
        Backend::LibTorch => "Device::libtorch()",
        Backend::Wgpu => "Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)",
        Backend::Cuda => "Device::cuda(0)",
        Backend::Rocm => "Device::rocm(0)",
        Backend::CubeclCpu => "Device::cpu()",
    }
}
