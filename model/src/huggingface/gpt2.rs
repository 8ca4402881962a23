//! GPT-2: `config.json` and tensor names of `GPT2LMHeadModel`.

use serde_json::{Value, json};

use super::{Keys, Names, Reading, counterpart, spelt};
use crate::config::{Activation, ModelConfig, Norm};
use crate::error::ModelError;

pub(super) const CLASS: &str = "GPT2LMHeadModel";

/// OpenAI's Conv1D: linear weights are `[inputs, outputs]`, as ours are.
pub(super) const NAMES: Names = Names {
    prefix: "transformer.",
    layers: "h",
    modules: &[
        ("token_embedding", &["wte"]),
        ("position_embedding", &["wpe"]),
        ("attention_norm", &["ln_1"]),
        ("attention.qkv", &["attn.c_attn"]),
        ("attention.output", &["attn.c_proj"]),
        ("feed_forward_norm", &["ln_2"]),
        ("feed_forward.up", &["mlp.c_fc"]),
        ("feed_forward.down", &["mlp.c_proj"]),
        ("final_norm", &["ln_f"]),
        ("head", &["lm_head"]),
    ],
    transposed: false,
    // The causal mask, and what it hides with, which older files hold as tensors.
    buffers: &[".attn.bias", ".attn.masked_bias"],
};

/// Its names of activations, and ours; the first of several is the one written.
const ACTIVATIONS: [(&str, Activation); 8] = [
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("relu2", Activation::Relu2),
];

/// The defaults are those of `GPT2Config`.
pub(super) fn read(keys: &Keys) -> Result<Reading, String> {
    keys.expect("scale_attn_weights", true)?;
    keys.expect("scale_attn_by_inverse_layer_idx", false)?;
    keys.expect("add_cross_attention", false)?;
    let name: String = keys.get("activation_function", "gelu_new".to_owned())?;
    let known = ACTIVATIONS.iter().find(|(theirs, _)| *theirs == name);
    let Some(&(_, activation)) = known else {
        let known = ACTIVATIONS.map(|(theirs, _)| theirs).join(", ");
        return Err(format!(
            "activation_function \"{name}\" is not supported; these are: {known}"
        ));
    };

    let model = ModelConfig::new(
        keys.get("vocab_size", 50_257)?,
        keys.get("n_positions", 1024)?,
        keys.get("n_layer", 12)?,
        keys.get("n_head", 12)?,
        keys.get("n_embd", 768)?,
    );
    let rates: [f64; 3] = [
        keys.get("embd_pdrop", 0.1)?,
        keys.get("attn_pdrop", 0.1)?,
        keys.get("resid_pdrop", 0.1)?,
    ];
    let [embedding, attention, residual] = rates;
    let alike = rates == [embedding; 3];
    let note = format!(
        "embd_pdrop {embedding}, attn_pdrop {attention} and resid_pdrop {residual} differ, and here is one \
         dropout rate for all: it is set to 0"
    );
    let config = ModelConfig {
        hidden: keys.get("n_inner", model.hidden)?,
        activation,
        norm_epsilon: keys.get("layer_norm_epsilon", 1e-5)?,
        tied_head: keys.get("tie_word_embeddings", true)?,
        dropout: if alike { embedding } else { 0.0 },
        ..model
    };
    Ok(Reading {
        config,
        note: (!alike).then_some(note),
    })
}

/// The model as this architecture has it: with biases, which are zeros where it has none.
pub(super) fn counterpart_of(config: &ModelConfig) -> Result<ModelConfig, ModelError> {
    let head_width = config.head_width();
    counterpart(
        CLASS,
        &[
            ("norm", spelt(config.norm), config.norm == Norm::Layer),
            (
                "kv_heads",
                spelt(config.kv_heads),
                config.kv_heads == config.heads,
            ),
            (
                "head_width",
                spelt(head_width),
                head_width * config.heads == config.width,
            ),
            ("qk_norm", spelt(config.qk_norm), !config.qk_norm),
            ("window", spelt(config.window), config.window.is_none()),
            (
                "activation",
                spelt(config.activation),
                config.activation != Activation::SwiGlu,
            ),
            (
                "logit_cap",
                spelt(config.logit_cap),
                config.logit_cap.is_none(),
            ),
        ],
    )?;
    Ok(config.clone().with_bias(true))
}

pub(super) fn write(config: &ModelConfig) -> Value {
    let known = ACTIVATIONS
        .iter()
        .find(|(_, ours)| *ours == config.activation);
    json!({
        "activation_function": known.map(|(theirs, _)| theirs),
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "layer_norm_epsilon": config.norm_epsilon,
        "n_embd": config.width,
        "n_head": config.heads,
        "n_inner": config.hidden,
        "n_layer": config.layers,
        "n_positions": config.context,
        "resid_pdrop": config.dropout,
    })
}
