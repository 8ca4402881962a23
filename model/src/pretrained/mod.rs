//! Models in files: opening one, whoever wrote it, and loading it.
//!
//! Two kinds of folder hold a model. `foretoken import` writes
//!
//! ```text
//! model.json          the configuration, and where the weights come from
//! model.safetensors   every parameter under its path in the module tree, in the type that it came in
//! tokenizer.json      where the source has one
//! huggingface/        what else the source has, as it was: config.json, generation_config.json, …
//! ```
//!
//! and Hugging Face's tools write `config.json` beside one or several `.safetensors` files.

mod export;
mod folder;
pub(crate) mod layout;

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::files;
use crate::huggingface::{Architecture, HEAD, Keys, Reading};
use crate::transformer::Transformer;
use crate::weights::{WeightType, Weights};
use layout::{Parameter, Part};

pub use export::Export;

const DESCRIPTION: &str = "model.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
/// Hugging Face's description of a model, and the folder in which an imported model keeps it.
const CONFIG: &str = "config.json";
const KEPT: &str = "huggingface";

/// A model in files, opened: its configuration is known and every tensor is in its place. The weights
/// are memory-mapped and read when they are loaded.
///
/// The files must keep their bytes and their length while this lives: a changed file gives other weights, and
/// one that becomes shorter ends the process.
#[derive(Debug)]
pub struct Pretrained {
    folder: PathBuf,
    config: ModelConfig,
    /// Set where it comes from Hugging Face.
    architecture: Option<Architecture>,
    imported: bool,
    /// In the module tree's order, each with the type it is stored in.
    parameters: Vec<(Parameter, WeightType)>,
    weights: Weights,
    end_of_text: Vec<u32>,
    note: Option<String>,
}

/// What `model.json` says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// The `model_type` of the Hugging Face model that this was.
    source: String,
    config: ModelConfig,
    /// Ids after which the model has finished a text.
    end_of_text: Vec<u32>,
}

impl Pretrained {
    /// Opens a folder that `foretoken import` has written, a Hugging Face folder (GPT-2, Llama, Mistral or
    /// Qwen3; f32, f16 or bf16), or a `.safetensors` file in one.
    ///
    /// # Errors
    /// When there is no model, a file is damaged, the architecture is not supported, or a tensor is missing,
    /// superfluous or of the wrong shape or type. The message names the file, and the key or tensor.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let (folder, file) = match path.is_dir() {
            true => (path, None),
            false if path.is_file() => {
                let parent = path.parent().filter(|parent| *parent != Path::new(""));
                (parent.unwrap_or(Path::new(".")), Some(path.to_path_buf()))
            }
            false => return Err(ModelError::NotAModel { path: path.into() }),
        };
        if let Some(file) = &file
            && file
                .extension()
                .is_none_or(|extension| extension != "safetensors")
        {
            return Err(ModelError::NotAModel { path: path.into() });
        }
        if folder.join(DESCRIPTION).is_file() {
            Self::open_imported(folder)
        } else if folder.join(CONFIG).is_file() {
            Self::open_huggingface(folder, file)
        } else {
            Err(ModelError::NotAModel { path: path.into() })
        }
    }

    fn open_imported(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(DESCRIPTION);
        let malformed = |error: &dyn ToString| ModelError::malformed(&path, error.to_string());
        let text = files::read_json(&path)?;
        let description: Description =
            serde_json::from_str(&text).map_err(|error| malformed(&error))?;
        description
            .config
            .validate()
            .map_err(|error| malformed(&error))?;
        let weights = Weights::open(&[folder.join(WEIGHTS)])?;
        let architecture = Architecture::named(&description.source);
        let own = |(path, shape): (String, Vec<usize>)| Parameter {
            parts: vec![Part {
                name: path.clone(),
                columns: shape.last().copied().unwrap_or_default(),
                transposed: false,
            }],
            path,
            shape,
        };
        check_layers(&description.config, &weights, &path)?;
        let layout = description.config.tensors().into_iter().map(own).collect();
        Ok(Self {
            folder: folder.to_path_buf(),
            parameters: locate(layout, &weights, |_| false)?,
            config: description.config,
            architecture,
            imported: true,
            weights,
            end_of_text: description.end_of_text,
            note: None,
        })
    }

    fn open_huggingface(folder: &Path, file: Option<PathBuf>) -> Result<Self, ModelError> {
        let path = folder.join(CONFIG);
        let malformed = |message: String| ModelError::malformed(&path, message);
        let keys = Keys::parse(&files::read_json(&path)?).map_err(malformed)?;
        let (architecture, reading) = Architecture::read(&keys).map_err(malformed)?;
        let Reading { mut config, note } = reading;
        let weights = Weights::open(&match file {
            Some(file) => vec![file],
            None => weight_files(folder)?,
        })?;
        check_layers(&config, &weights, &path)?;

        // A file may hold a tied head beside the embedding. Where they differ it is a head of its own,
        // as it is to `transformers`.
        let mut layout = architecture.layout_in(&weights, &config);
        if let (true, Some(head)) = (config.tied_head, weights.get(HEAD)) {
            let embedding = layout
                .first()
                .and_then(|first| weights.get(&first.parts[0].name));
            if embedding.is_some_and(|embedding| !weights.same(embedding, head)) {
                config.tied_head = false;
                layout = architecture.layout_in(&weights, &config);
            }
        }
        let tied = config.tied_head;
        let ignored = |name: &str| architecture.is_buffer(name) || (tied && name == HEAD);
        Ok(Self {
            folder: folder.to_path_buf(),
            parameters: locate(layout, &weights, ignored)?,
            config,
            architecture: Some(architecture),
            imported: false,
            weights,
            end_of_text: end_of_text(folder, &keys)?,
            note,
        })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Hugging Face's name for the architecture: `gpt2`, `llama`, `mistral` or `qwen3`.
    pub fn architecture(&self) -> Option<&'static str> {
        self.architecture.map(Architecture::model_type)
    }

    /// The model's `tokenizer.json`, where it has one.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        Some(self.folder.join(TOKENIZER)).filter(|path| path.is_file())
    }

    /// Token ids after which the model has finished a text; none where that is not said.
    pub fn end_of_text(&self) -> &[u32] {
        &self.end_of_text
    }

    /// The types that the weights are stored in, without repetition.
    pub fn weight_types(&self) -> Vec<WeightType> {
        let mut kinds: Vec<_> = self.parameters.iter().map(|(_, kind)| *kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// The weight files.
    pub fn files(&self) -> Vec<&Path> {
        self.weights.paths().collect()
    }

    /// Size of the weight files, in bytes.
    pub fn bytes_on_disk(&self) -> u64 {
        self.weights.bytes_on_disk()
    }

    /// Whether `foretoken import` has written it.
    pub fn is_imported(&self) -> bool {
        self.imported
    }

    /// What the source says and this model cannot express: a sentence for the user.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The model, on `device`, in the device's default floating-point type.
    ///
    /// One parameter after the other is read, converted and handed to the device, so that the process needs
    /// little more memory than the model.
    ///
    /// # Errors
    /// When the configuration does not [`validate`](ModelConfig::validate).
    pub fn load(&self, device: &Device) -> Result<Transformer, ModelError> {
        let parameters = self.parameters.iter();
        let mut loader = Loader {
            weights: &self.weights,
            parameters: parameters
                .map(|(p, kind)| (p.path.as_str(), (p, *kind)))
                .collect(),
            path: Vec::new(),
        };
        Ok(self.config.init(0, device)?.map(&mut loader))
    }
}

/// Replaces every parameter, which has not been drawn yet, by what the files hold.
struct Loader<'a> {
    weights: &'a Weights,
    parameters: HashMap<&'a str, (&'a Parameter, WeightType)>,
    path: Vec<String>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let (parameter, kind) = self.parameters[path.as_str()];
        let values = parameter.gather_f32(kind, self.weights);
        let data = TensorData::new(values, parameter.shape.clone());
        let device = param.lazy_device();
        let tensor = device
            .memory_persistent_allocations(data, |data| Tensor::<D>::from_data(data, &device));
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

/// Checks that every parameter is there, and nothing else but what is `ignored`.
fn locate(
    layout: Vec<Parameter>,
    weights: &Weights,
    ignored: impl Fn(&str) -> bool,
) -> Result<Vec<(Parameter, WeightType)>, ModelError> {
    let located: Vec<_> = layout
        .into_iter()
        .map(|parameter| {
            let kind = parameter.check(weights)?;
            Ok((parameter, kind))
        })
        .collect::<Result<_, ModelError>>()?;
    let parts = located.iter().flat_map(|(parameter, _)| &parameter.parts);
    let known: std::collections::HashSet<&str> = parts.map(|part| part.name.as_str()).collect();
    let extra = weights
        .iter()
        .find(|(name, _)| !known.contains(name) && !ignored(name));
    match extra {
        None => Ok(located),
        Some((name, stored)) => Err(ModelError::ExtraTensor {
            path: weights.path(stored).to_path_buf(),
            name: name.to_owned(),
            shape: stored.shape.clone(),
        }),
    }
}

/// A configuration may name any number of layers; only so many have their tensors listed.
fn check_layers(config: &ModelConfig, weights: &Weights, path: &Path) -> Result<(), ModelError> {
    match config.layers <= weights.len() {
        true => Ok(()),
        false => Err(ModelError::malformed(
            path,
            format!(
                "{} layers, but {} holds only {} tensors",
                config.layers,
                weights.place().display(),
                weights.len()
            ),
        )),
    }
}

/// The files that Hugging Face's index names, or the only one.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = folder.join(WEIGHTS);
    let index = folder.join("model.safetensors.index.json");
    if single.is_file() {
        return Ok(vec![single]);
    }
    if index.is_file() {
        let malformed = |message: String| ModelError::malformed(&index, message);
        let keys = Keys::parse(&files::read_json(&index)?).map_err(malformed)?;
        let map: HashMap<String, PathBuf> =
            keys.get("weight_map", HashMap::new()).map_err(malformed)?;
        let mut names: Vec<PathBuf> = map.into_values().collect();
        names.sort();
        names.dedup();
        let plain = |name: &PathBuf| {
            let mut components = name.components();
            matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none()
        };
        // A name stands in messages, which are one line.
        let printable = |name: &PathBuf| !name.to_string_lossy().contains(char::is_control);
        if let Some(name) = names.iter().find(|name| !plain(name) || !printable(name)) {
            return Err(malformed(format!(
                "{} is not the name of a file beside it",
                name.display()
            )));
        }
        if names.is_empty() {
            return Err(malformed("weight_map names no file".to_owned()));
        }
        return Ok(names.into_iter().map(|name| folder.join(name)).collect());
    }
    let entries = fs::read_dir(folder).map_err(ModelError::read(folder))?;
    let mut found = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "safetensors")
        });
    match (found.next(), found.next()) {
        (Some(file), None) => Ok(vec![file]),
        (None, _) => Err(ModelError::malformed(
            folder,
            "no .safetensors file beside config.json; from Python, save_pretrained writes one",
        )),
        (Some(_), Some(_)) => Err(ModelError::malformed(
            folder,
            "several .safetensors files and no model.safetensors.index.json; name one of them",
        )),
    }
}

/// Of `generation_config.json`, or else of `config.json`: one id, several or none.
fn end_of_text(folder: &Path, config: &Keys) -> Result<Vec<u32>, ModelError> {
    let generation = folder.join("generation_config.json");
    let own = match generation.is_file() {
        true => {
            let keys = Keys::parse(&files::read_json(&generation)?);
            Some(keys.map_err(|message| ModelError::malformed(&generation, message))?)
        }
        false => None,
    };
    let ids = |keys: &Keys| -> Vec<u32> {
        let value = keys.get("eos_token_id", Value::Null).unwrap_or_default();
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let id = |value: &Value| value.as_u64()?.try_into().ok();
        values.iter().filter_map(id).collect()
    };
    let ids_of_own = own.as_ref().map(ids).unwrap_or_default();
    Ok(match ids_of_own.is_empty() {
        true => ids(config),
        false => ids_of_own,
    })
}
