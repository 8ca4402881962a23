//! Llama and two that differ from it in one thing each, Mistral by a window and Qwen3 by normalised queries
//! and keys: `config.json` and tensor names of `LlamaForCausalLM`, `MistralForCausalLM`, `Qwen3ForCausalLM`.

use serde_json::{Value, json};

use super::{Architecture, Keys, Names, Reading, counterpart, spelt};
use crate::config::{Activation, ModelConfig, Norm, Positions, RotaryScaling};
use crate::error::ModelError;

/// Linear weights are `[outputs, inputs]`, and queries, keys and values are apart.
pub(super) const NAMES: Names = Names {
    prefix: "model.",
    layers: "layers",
    modules: &[
        ("token_embedding", &["embed_tokens"]),
        ("attention_norm", &["input_layernorm"]),
        (
            "attention.qkv",
            &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        ),
        ("attention.query_norm", &["self_attn.q_norm"]),
        ("attention.key_norm", &["self_attn.k_norm"]),
        ("attention.output", &["self_attn.o_proj"]),
        ("feed_forward_norm", &["post_attention_layernorm"]),
        ("feed_forward.gate", &["mlp.gate_proj"]),
        ("feed_forward.up", &["mlp.up_proj"]),
        ("feed_forward.down", &["mlp.down_proj"]),
        ("final_norm", &["norm"]),
        ("head", &["lm_head"]),
    ],
    transposed: true,
    // The angles of rotary positions, which older files hold as tensors.
    buffers: &[".rotary_emb.inv_freq"],
};

/// What a key means that is not there, according to `LlamaConfig`, `MistralConfig` and `Qwen3Config`.
struct Defaults {
    vocab_size: usize,
    max_position_embeddings: usize,
    intermediate_size: usize,
    /// Without one, `num_attention_heads`.
    num_key_value_heads: Option<usize>,
    /// Without one, `hidden_size / num_attention_heads`.
    head_dim: Option<usize>,
}

impl Defaults {
    fn of(architecture: Architecture) -> Self {
        let llama = Self {
            vocab_size: 32_000,
            max_position_embeddings: 2048,
            intermediate_size: 11_008,
            num_key_value_heads: None,
            head_dim: None,
        };
        match architecture {
            Architecture::Mistral => Self {
                max_position_embeddings: 131_072,
                intermediate_size: 14_336,
                num_key_value_heads: Some(8),
                ..llama
            },
            Architecture::Qwen3 => Self {
                vocab_size: 151_936,
                max_position_embeddings: 32_768,
                intermediate_size: 22_016,
                num_key_value_heads: Some(32),
                head_dim: Some(128),
            },
            _ => llama,
        }
    }
}

pub(super) fn read(architecture: Architecture, keys: &Keys) -> Result<Reading, String> {
    let activation: String = keys.get("hidden_act", "silu".to_owned())?;
    if !["silu", "swish"].contains(&activation.as_str()) {
        return Err(format!(
            "hidden_act \"{activation}\" is not supported; only \"silu\" is"
        ));
    }
    let mut biases = [false; 2];
    if architecture != Architecture::Mistral {
        biases[0] = keys.get("attention_bias", false)?;
    }
    if architecture == Architecture::Llama {
        biases[1] = keys.get("mlp_bias", false)?;
    }
    let [bias, mlp_bias] = biases;
    if bias != mlp_bias {
        return Err(format!(
            "attention_bias {bias} and mlp_bias {mlp_bias} differ; only biases everywhere or nowhere are \
             supported"
        ));
    }
    let window = match architecture {
        Architecture::Mistral => keys.get("sliding_window", Some(4096))?,
        _ => None,
    };
    if architecture == Architecture::Qwen3 {
        keys.expect("use_sliding_window", false)?;
    }
    let dropout: f64 = keys.get("attention_dropout", 0.0)?;
    let note = format!(
        "attention_dropout is {dropout}, and here dropout is not for attention alone: it is set to 0"
    );

    let defaults = Defaults::of(architecture);
    let heads = keys.get("num_attention_heads", 32)?;
    let kv_heads = keys.get("num_key_value_heads", defaults.num_key_value_heads)?;
    let model = ModelConfig::llama(
        keys.get("vocab_size", defaults.vocab_size)?,
        keys.get("max_position_embeddings", defaults.max_position_embeddings)?,
        keys.get("num_hidden_layers", 32)?,
        heads,
        kv_heads.unwrap_or(heads),
        keys.get("hidden_size", 4096)?,
    );
    let usual = model.head_width();
    let head_width = keys.get("head_dim", defaults.head_dim)?;
    let (rotary_theta, rotary_scaling) = rotary(keys, model.context)?;
    let config = ModelConfig {
        head_width: head_width.filter(|width| *width != usual),
        hidden: keys.get("intermediate_size", defaults.intermediate_size)?,
        bias,
        tied_head: keys.get("tie_word_embeddings", false)?,
        norm_epsilon: keys.get("rms_norm_eps", 1e-6)?,
        rotary_theta,
        rotary_scaling,
        qk_norm: architecture == Architecture::Qwen3,
        window,
        ..model
    };
    Ok(Reading {
        config,
        note: (dropout != 0.0).then_some(note),
    })
}

/// Of `rope_parameters`, or `rope_theta` and `rope_scaling` as `transformers` wrote them before version 5.
fn rotary(keys: &Keys, context: usize) -> Result<(f64, Option<RotaryScaling>), String> {
    let inner = match keys.inner("rope_scaling")? {
        Some(inner) => inner,
        None => keys.inner("rope_parameters")?.unwrap_or_default(),
    };
    let theta = inner.get("rope_theta", keys.get("rope_theta", 10_000.0)?)?;
    for keys in [keys, &inner] {
        keys.expect("partial_rotary_factor", 1.0)?;
    }
    let kind: String = inner.get("rope_type", inner.get("type", "default".to_owned())?)?;
    let scaling = match kind.as_str() {
        "default" => None,
        "llama3" => Some(RotaryScaling {
            factor: inner.require("factor")?,
            low_frequency_factor: inner.require("low_freq_factor")?,
            high_frequency_factor: inner.require("high_freq_factor")?,
            original_context: inner.get("original_max_position_embeddings", context)?,
        }),
        other => {
            return Err(format!(
                "rope_type \"{other}\" is not supported; \"default\" and \"llama3\" are"
            ));
        }
    };
    Ok((theta, scaling))
}

/// The model as this architecture has it.
pub(super) fn counterpart_of(
    architecture: Architecture,
    config: &ModelConfig,
) -> Result<ModelConfig, ModelError> {
    let llama = architecture == Architecture::Llama;
    let mistral = architecture == Architecture::Mistral;
    counterpart(
        architecture.class(),
        &[
            (
                "positions",
                spelt(config.positions),
                config.positions == Positions::Rotary,
            ),
            ("norm", spelt(config.norm), config.norm == Norm::Rms),
            (
                "activation",
                spelt(config.activation),
                config.activation == Activation::SwiGlu,
            ),
            ("bias", spelt(config.bias), llama || !config.bias),
            (
                "window",
                spelt(config.window),
                mistral || config.window.is_none(),
            ),
            (
                "logit_cap",
                spelt(config.logit_cap),
                config.logit_cap.is_none(),
            ),
            // Its configuration insists on it, whatever the width of a head.
            (
                "heads",
                spelt(config.heads),
                !llama || config.width.is_multiple_of(config.heads),
            ),
        ],
    )?;
    Ok(config.clone())
}

/// Positions are written both as `transformers` 5 and as earlier versions read them. Dropout, which a Llama has
/// for attention alone, is left out.
pub(super) fn write(architecture: Architecture, config: &ModelConfig) -> Value {
    let scaling = config.rotary_scaling.map(|scaling| {
        json!({
            "factor": scaling.factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "low_freq_factor": scaling.low_frequency_factor,
            "original_max_position_embeddings": scaling.original_context,
            "rope_theta": config.rotary_theta,
            "rope_type": "llama3",
        })
    });
    let plain = json!({ "rope_theta": config.rotary_theta, "rope_type": "default" });
    let mut json = json!({
        "attention_bias": config.bias,
        "attention_dropout": 0.0,
        "head_dim": config.head_width(),
        "hidden_act": "silu",
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.context,
        "mlp_bias": config.bias,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": scaling.clone().unwrap_or(plain),
        "rope_scaling": scaling,
        "rope_theta": config.rotary_theta,
    });
    if architecture == Architecture::Mistral {
        json["sliding_window"] = json!(config.window);
    }
    json
}
