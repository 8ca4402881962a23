//! Writing models: an imported one's folder, and Hugging Face's.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::layout::Parameter;
use super::{CONFIG, DESCRIPTION, Description, KEPT, Pretrained, TOKENIZER, WEIGHTS, folder};
use crate::error::ModelError;
use crate::files;
use crate::host::parameters;
use crate::huggingface::{Architecture, Keys};
use crate::transformer::Transformer;
use crate::weights::{self, Pending, WeightType};

/// What a Hugging Face folder may hold besides weights and `tokenizer.json`, and that is handed on as it is.
const COMPANIONS: [&str; 9] = [
    CONFIG,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
];

/// Called with the bytes done and the bytes in all.
type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// How a model trained here becomes a Hugging Face folder.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// How weights are stored, rounded to the nearest.
    pub weight_type: WeightType,
    /// The `tokenizer.json` that the model was trained with.
    pub tokenizer: Option<&'a Path>,
    /// The id after which the model has finished a text.
    pub end_of_text: Option<u32>,
}

impl Export<'_> {
    /// Writes `config.json`, `model.safetensors` and the tokenizer's files: what
    /// `transformers.AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` read. A GPT-2
    /// without biases is written with biases of zero, a Llama without its dropout.
    ///
    /// # Errors
    /// When no class of Hugging Face has the model's architecture, naming the field that it lacks; when `out`
    /// already holds something, or cannot be written; or when a weight is too large for `f16`.
    pub fn write(&self, model: &Transformer, out: &Path) -> Result<(), ModelError> {
        let (architecture, config) = Architecture::of(model.config())?;
        let parameters = parameters(model)?;
        let source = Source::Host(&parameters);
        let kind = self.weight_type;
        folder::write(out, |out| {
            write_json(
                &out.join(CONFIG),
                &architecture.write(&config, kind, self.end_of_text),
            )?;
            if let Some(tokenizer) = self.tokenizer {
                copy(tokenizer, &out.join(TOKENIZER))?;
                let json = json!({
                    "clean_up_tokenization_spaces": false,
                    "model_max_length": config.context,
                    "tokenizer_class": "PreTrainedTokenizerFast",
                });
                write_json(&out.join("tokenizer_config.json"), &json)?;
            }
            source.write(
                architecture.layout(&config),
                Some(kind),
                out,
                &mut |_, _| {},
            )
        })
    }
}

impl Pretrained {
    /// Writes the model as a folder of our own, from which it is opened without knowing what it was: weights
    /// in the type that they have, under our names; everything else as the source has it. Complete or
    /// absent.
    ///
    /// # Errors
    /// When `out` already holds something, or cannot be written.
    pub fn save(&self, out: &Path, progress: Progress<'_>) -> Result<(), ModelError> {
        let description = Description {
            source: self.architecture().unwrap_or_default().to_owned(),
            config: self.config.clone(),
            end_of_text: self.end_of_text.clone(),
        };
        folder::write(out, |out| {
            let kept = out.join(KEPT);
            fs::create_dir(&kept).map_err(ModelError::write(&kept))?;
            self.copy_companions(out, &kept)?;
            write_json(&out.join(DESCRIPTION), &json!(description))?;
            let step = stepper(self.size(None), progress);
            let tensors = self.parameters.iter().map(|(parameter, kind)| {
                let bytes = || {
                    let bytes = self.gather(parameter, *kind);
                    step(bytes.len());
                    bytes
                };
                let pending = Pending {
                    kind: *kind,
                    shape: parameter.shape.clone(),
                    bytes: Box::new(bytes),
                };
                (parameter.path.clone(), pending)
            });
            weights::write(&out.join(WEIGHTS), tensors.collect(), None)
        })
    }

    /// Writes a Hugging Face folder: one file of weights, in their own type or another, and the source's
    /// `config.json` and tokenizer as they were. What `transformers` has saved in one file and `foretoken
    /// import` has read comes out with the same bytes.
    ///
    /// # Errors
    /// When `out` already holds something, or cannot be written; when a weight is too large for `f16`; or when an
    /// imported model's `config.json` no longer describes it.
    pub fn export(
        &self,
        out: &Path,
        weight_type: Option<WeightType>,
        progress: Progress<'_>,
    ) -> Result<(), ModelError> {
        let source = self.source_folder();
        let config = source.join(CONFIG);
        let malformed = |message: String| ModelError::malformed(&config, message);
        let text = files::read_json(&config)?;
        let (architecture, mut reading) = Keys::parse(&text)
            .and_then(|keys| Architecture::read(&keys))
            .map_err(malformed)?;
        // That the head is not tied can have been learnt from the weights.
        reading.config.tied_head = self.config.tied_head;
        if reading.config != self.config {
            let message = format!("describes another model than {DESCRIPTION} beside its folder");
            return Err(malformed(message));
        }
        folder::write(out, |out| {
            self.copy_companions(out, out)?;
            let other = weight_type.filter(|kind| self.weight_types() != [*kind]);
            if let Some(kind) = other {
                let mut json: Value =
                    serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
                // The key's name before version 5 of `transformers`.
                let old = json.get("dtype").is_none() && json.get("torch_dtype").is_some();
                json[if old { "torch_dtype" } else { "dtype" }] = kind.torch_name().into();
                write_json(&out.join(CONFIG), &json)?;
            }
            let layout = architecture.layout(&self.config);
            Source::Files(self).write(layout, weight_type, out, progress)
        })
    }

    /// Where the source's own files lie.
    fn source_folder(&self) -> std::path::PathBuf {
        match self.imported {
            true => self.folder.join(KEPT),
            false => self.folder.clone(),
        }
    }

    fn copy_companions(&self, top: &Path, rest: &Path) -> Result<(), ModelError> {
        let source = self.source_folder();
        for name in COMPANIONS {
            if source.join(name).is_file() {
                copy(&source.join(name), &rest.join(name))?;
            }
        }
        match self.tokenizer() {
            Some(tokenizer) => copy(&tokenizer, &top.join(TOKENIZER)),
            None => Ok(()),
        }
    }

    /// Of all parameters, in bytes.
    fn size(&self, weight_type: Option<WeightType>) -> u64 {
        let bytes = |(parameter, kind): &(Parameter, WeightType)| {
            let elements: usize = parameter.shape.iter().product();
            (elements * weight_type.unwrap_or(*kind).bytes()) as u64
        };
        self.parameters.iter().map(bytes).sum()
    }

    fn gather(&self, parameter: &Parameter, kind: WeightType) -> Vec<u8> {
        match kind.bytes() {
            4 => parameter
                .gather(&self.weights, |b: [u8; 4]| b)
                .into_flattened(),
            _ => parameter
                .gather(&self.weights, |b: [u8; 2]| b)
                .into_flattened(),
        }
    }
}

/// Where exported weights come from.
enum Source<'a> {
    Files(&'a Pretrained),
    /// Values by path.
    Host(&'a HashMap<String, Vec<f32>>),
}

impl Source<'_> {
    /// Writes the tensors of a layout, each in the type wanted or, without one, in its own.
    fn write(
        &self,
        layout: Vec<Parameter>,
        weight_type: Option<WeightType>,
        out: &Path,
        progress: Progress<'_>,
    ) -> Result<(), ModelError> {
        let total = match self {
            Self::Files(files) => files.size(weight_type),
            Self::Host(_) => 0,
        };
        let step = stepper(total, progress);
        let too_large = Cell::new(None);
        let mut tensors = Vec::new();
        for parameter in &layout {
            let own = self.weight_type(&parameter.path);
            let kind = weight_type.unwrap_or(own);
            for (index, part) in parameter.parts.iter().enumerate() {
                let (step, too_large) = (&step, &too_large);
                let bytes = move || {
                    let (bytes, fits) = self.part(parameter, index, own, kind);
                    if !fits {
                        too_large.set(Some(part.name.clone()));
                    }
                    step(bytes.len());
                    bytes
                };
                let pending = Pending {
                    kind,
                    shape: parameter.part_shape(part),
                    bytes: Box::new(bytes),
                };
                tensors.push((part.name.clone(), pending));
            }
        }
        weights::write(&out.join(WEIGHTS), tensors, Some("pt"))?;
        match too_large.take() {
            None => Ok(()),
            Some(name) => Err(ModelError::TooLargeForF16 { name }),
        }
    }

    fn weight_type(&self, path: &str) -> WeightType {
        match self {
            Self::Files(files) => files.parameter(path).1,
            Self::Host(_) => WeightType::F32,
        }
    }

    /// The elements of one part, and whether none of them has become infinite.
    fn part(
        &self,
        parameter: &Parameter,
        index: usize,
        own: WeightType,
        kind: WeightType,
    ) -> (Vec<u8>, bool) {
        let values: Cow<'_, [f32]> = match self {
            Self::Files(files) => {
                let stored = &files.parameter(&parameter.path).0;
                if own == kind && kind.bytes() == 4 {
                    let elements = stored.gather(&files.weights, |b: [u8; 4]| b);
                    return (parameter.extract(index, &elements).into_flattened(), true);
                } else if own == kind {
                    let elements = stored.gather(&files.weights, |b: [u8; 2]| b);
                    return (parameter.extract(index, &elements).into_flattened(), true);
                }
                stored.gather_f32(own, &files.weights).into()
            }
            Self::Host(values) => match values.get(&parameter.path) {
                Some(values) => values.into(),
                // A bias that the architecture has and the model does not.
                None => vec![0.0; parameter.shape.iter().product()].into(),
            },
        };
        let values = parameter.extract(index, &values);
        let largest = half::f16::MAX.to_f32();
        let fits = kind != WeightType::F16
            || values
                .iter()
                .all(|value| !value.is_finite() || value.abs() <= largest);
        (kind.encode(&values), fits)
    }
}

impl Pretrained {
    fn parameter(&self, path: &str) -> &(Parameter, WeightType) {
        let found = self
            .parameters
            .iter()
            .find(|(parameter, _)| parameter.path == path);
        found.expect("both layouts are of the same configuration")
    }
}

/// A function to call with the number of bytes that have been written.
fn stepper<'a>(total: u64, progress: Progress<'a>) -> impl Fn(usize) + 'a {
    let state = RefCell::new((0, progress));
    move |bytes| {
        let (done, progress) = &mut *state.borrow_mut();
        *done += bytes as u64;
        progress(*done, total);
    }
}

fn write_json(path: &Path, json: &Value) -> Result<(), ModelError> {
    fs::write(path, format!("{json:#}\n")).map_err(ModelError::write(path))
}

/// The bytes alone: the copy belongs to whoever makes it.
fn copy(from: &Path, to: &Path) -> Result<(), ModelError> {
    let mut file = files::open(from)?;
    let mut copy = fs::File::create(to).map_err(ModelError::write(to))?;
    std::io::copy(&mut file, &mut copy).map_err(ModelError::write(to))?;
    Ok(())
}
