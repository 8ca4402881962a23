//! Hugging Face's conventions: what `config.json` says, and which tensors hold which parameter.
//!
//! One file per architecture, holding its names and its keys; what they have in common is here. Reading and
//! writing use the same table of names, so that they cannot disagree.

mod gpt2;
mod llama;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::config::{ModelConfig, Positions};
use crate::error::ModelError;
use crate::pretrained::layout::{Parameter, Part};
use crate::weights::{WeightType, Weights};

/// An architecture with a class of its own in `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    Gpt2,
    Llama,
    Mistral,
    Qwen3,
}

/// A `config.json` in our terms.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) config: ModelConfig,
    /// What was read and has no place here.
    pub(crate) note: Option<String>,
}

/// How an architecture names its tensors: `prefix`, then for what is in a block `layers.N.`, then the module,
/// then `weight` or `bias`. The head stands outside the prefix.
struct Names {
    prefix: &'static str,
    layers: &'static str,
    /// Our modules and theirs; several of theirs lie side by side in ours.
    modules: &'static [(&'static str, &'static [&'static str])],
    /// Whether linear weights are stored `[outputs, inputs]`. The head's always is.
    transposed: bool,
    /// Ends of the names of tensors that are no parameters and that follow from the configuration.
    buffers: &'static [&'static str],
}

impl Architecture {
    const ALL: [Self; 4] = [Self::Gpt2, Self::Llama, Self::Mistral, Self::Qwen3];

    /// The architecture of that name in `config.json`.
    pub(crate) fn named(model_type: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.model_type() == model_type)
    }

    /// Its name in `config.json`.
    pub(crate) fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen3 => "qwen3",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Gpt2 => gpt2::CLASS,
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    fn names(self) -> &'static Names {
        match self {
            Self::Gpt2 => &gpt2::NAMES,
            Self::Llama | Self::Mistral | Self::Qwen3 => &llama::NAMES,
        }
    }

    /// What a `config.json` describes.
    ///
    /// # Errors
    /// Says, in one line without the file's name, what is wrong with it or not supported.
    pub(crate) fn read(keys: &Keys) -> Result<(Self, Reading), String> {
        let model_type: String = keys.require("model_type")?;
        let architecture = Self::named(&model_type).ok_or_else(|| {
            let supported = Self::ALL.map(Self::model_type).join(", ");
            format!("model_type \"{model_type}\" is not supported; these are: {supported}")
        })?;
        if keys.inner("quantization_config")?.is_some() {
            return Err(
                "quantization_config: quantised weights are not supported; save them as f32, f16 or bf16".into(),
            );
        }
        let layer_types: Vec<String> = keys.get("layer_types", Vec::new())?;
        if let Some(other) = layer_types.iter().find(|kind| *kind != "full_attention") {
            return Err(format!(
                "layer_types has \"{other}\"; only \"full_attention\" is supported"
            ));
        }
        let reading = match architecture {
            Self::Gpt2 => gpt2::read(keys)?,
            llama => llama::read(llama, keys)?,
        };
        reading
            .config
            .validate()
            .map_err(|error| error.to_string())?;
        Ok((architecture, reading))
    }

    /// The architecture that can express a configuration, and the configuration as it expresses it.
    ///
    /// # Errors
    /// Names the field that none has.
    pub(crate) fn of(config: &ModelConfig) -> Result<(Self, ModelConfig), ModelError> {
        let architecture = match config.positions {
            Positions::Learned => Self::Gpt2,
            _ if config.qk_norm => Self::Qwen3,
            _ if config.window.is_some() => Self::Mistral,
            _ => Self::Llama,
        };
        let config = match architecture {
            Self::Gpt2 => gpt2::counterpart_of(config)?,
            llama => llama::counterpart_of(llama, config)?,
        };
        Ok((architecture, config))
    }

    /// A `config.json` for a model that [`of`](Self::of) has accepted.
    pub(crate) fn write(
        self,
        config: &ModelConfig,
        kind: WeightType,
        end_of_text: Option<u32>,
    ) -> Value {
        let mut json = match self {
            Self::Gpt2 => gpt2::write(config),
            llama => llama::write(llama, config),
        };
        json["architectures"] = [self.class()].as_slice().into();
        json["bos_token_id"] = Value::Null;
        json["dtype"] = kind.torch_name().into();
        json["eos_token_id"] = end_of_text.into();
        json["model_type"] = self.model_type().into();
        json["tie_word_embeddings"] = config.tied_head.into();
        json["vocab_size"] = config.vocab_size.into();
        json.sort_all_objects();
        json
    }

    /// Where the parameters of a model lie in files that `transformers` writes.
    pub(crate) fn layout(self, config: &ModelConfig) -> Vec<Parameter> {
        self.layout_with(self.names().prefix, config)
    }

    /// Where they lie in these files: those of a model without a head have no prefix.
    pub(crate) fn layout_in(self, weights: &Weights, config: &ModelConfig) -> Vec<Parameter> {
        let prefix = self.names().prefix;
        let prefixed = weights.iter().any(|(name, _)| name.starts_with(prefix));
        let bare = !prefixed && weights.len() > 0;
        self.layout_with(if bare { "" } else { prefix }, config)
    }

    fn layout_with(self, prefix: &str, config: &ModelConfig) -> Vec<Parameter> {
        let tensors = config.tensors().into_iter();
        let parameter = |(path, shape): (String, Vec<usize>)| Parameter {
            parts: self.names().parts(prefix, config, &path, &shape),
            path,
            shape,
        };
        tensors.map(parameter).collect()
    }

    /// Whether a tensor of this name is no parameter, and can be left out.
    pub(crate) fn is_buffer(self, name: &str) -> bool {
        self.names().buffers.iter().any(|end| name.ends_with(end))
    }
}

/// The name of the head's weight, which files of a model with a tied head may hold a second time.
pub(crate) const HEAD: &str = "lm_head.weight";

impl Names {
    fn parts(&self, prefix: &str, config: &ModelConfig, path: &str, shape: &[usize]) -> Vec<Part> {
        let in_block = path
            .strip_prefix("blocks.")
            .and_then(|rest| rest.split_once('.'));
        let (start, rest) = match in_block {
            Some((layer, rest)) => (format!("{prefix}{}.{layer}.", self.layers), rest),
            None if path.starts_with("head.") => (String::new(), path),
            None => (prefix.to_owned(), path),
        };
        let (module, tensor) = rest.rsplit_once('.').unwrap_or((rest, ""));
        let theirs = self.modules.iter().find(|(ours, _)| *ours == module);
        let theirs = theirs
            .expect("the architecture has a module for every one of ours")
            .1;
        let tensor = match tensor {
            "weight" | "gamma" => "weight",
            _ => "bias",
        };
        let linear = shape.len() == 2 && !module.ends_with("embedding");
        let heads = [config.heads, config.kv_heads, config.kv_heads];
        let part = |(index, name): (usize, &&str)| Part {
            name: format!("{start}{name}.{tensor}"),
            columns: match theirs.len() {
                1 => shape.last().copied().unwrap_or_default(),
                _ => heads[index] * config.head_width(),
            },
            transposed: linear && (self.transposed || module == "head"),
        };
        theirs.iter().enumerate().map(part).collect()
    }
}

/// Refuses the first field, of `(field, value, whether it can be expressed)`, that `class` cannot express.
fn counterpart(
    class: &'static str,
    fields: &[(&'static str, String, bool)],
) -> Result<(), ModelError> {
    match fields.iter().find(|(_, _, fits)| !fits) {
        None => Ok(()),
        Some((field, value, _)) => Err(ModelError::NoCounterpart {
            field,
            value: value.clone(),
            architecture: class,
        }),
    }
}

/// A field's value as the configuration file spells it.
fn spelt(value: impl Serialize) -> String {
    let json = json!(value).to_string();
    json.trim_matches('"').to_owned()
}

/// The keys of a `config.json`.
#[derive(Debug, Default)]
pub(crate) struct Keys(Map<String, Value>);

impl Keys {
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json)
            .map(Self)
            .map_err(|error| format!("not a JSON object: {error}"))
    }

    /// The value of a key; `default` where it is missing, or null and that has no meaning of its own.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str, default: T) -> Result<T, String> {
        match self.0.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(serde_json::from_value(Value::Null).unwrap_or(default)),
            Some(value) => read(key, value),
        }
    }

    fn require<T: DeserializeOwned>(&self, key: &str) -> Result<T, String> {
        let value = self.0.get(key).ok_or_else(|| format!("{key} is missing"))?;
        read(key, value)
    }

    /// Refuses any other value of a key that would change what the model computes.
    fn expect<T>(&self, key: &str, expected: T) -> Result<(), String>
    where
        T: DeserializeOwned + PartialEq + Copy + std::fmt::Display,
    {
        match self.get(key, expected)? {
            value if value == expected => Ok(()),
            value => Err(format!("{key} is {value}; only {expected} is supported")),
        }
    }

    /// The object that is the value of a key.
    fn inner(&self, key: &str) -> Result<Option<Self>, String> {
        let inner = self.get(key, None::<Map<_, _>>)?;
        Ok(inner.map(Self))
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| format!("{key}: {error}"))
}
