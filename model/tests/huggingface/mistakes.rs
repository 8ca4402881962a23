//! What is wrong with a file is said in one line that names the file, and the key or the tensor.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use foretoken_model::{
    Activation, Export, ModelConfig, ModelError, Norm, Positions, Pretrained, WeightType,
};
use safetensors::Dtype;
use serde_json::json;

use crate::copy::Copy;
use crate::{Expected, fixture, import, load, logits, refusal};

type Change = fn(&mut ModelConfig);

#[track_caller]
fn assert_names(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "no {part:?} in: {line}");
    }
}

#[test]
fn a_missing_extra_or_misshapen_tensor_is_named() {
    for (model, name, shape) in [
        ("gpt2", "transformer.h.1.attn.c_attn.bias", "[48]"),
        ("gpt2", "transformer.wpe.weight", "[24, 16]"),
        ("llama", "model.layers.0.self_attn.k_proj.weight", "[8, 16]"),
        ("llama", "model.layers.1.mlp.down_proj.weight", "[16, 24]"),
        ("llama", "lm_head.weight", "[257, 16]"),
    ] {
        let copy = Copy::of(model).with_tensors(|tensors| assert!(tensors.remove(name).is_some()));
        assert_names(
            &refusal(copy.path()),
            &["model.safetensors lacks", name, shape],
        );

        // Transposed: as many elements, in another order.
        let copy = Copy::of(model).with_tensors(|tensors| {
            let shape = &mut tensors.get_mut(name).unwrap().1;
            shape.reverse();
            shape.push(1);
        });
        let line = refusal(copy.path());
        assert_names(&line, &["model.safetensors", name, ", 1];", shape]);

        let copy = Copy::of(model).with_tensors(|tensors| {
            let (dtype, shape, bytes) = tensors.get_mut(name).unwrap();
            *dtype = Dtype::F64;
            *bytes = vec![0; 8 * shape.iter().product::<usize>()];
        });
        assert_names(
            &refusal(copy.path()),
            &["model.safetensors", name, "f64", "f32, f16, bf16"],
        );
    }
    for (model, name) in [
        ("gpt2", "transformer.h.2.ln_1.weight"),
        ("gpt2", "score.weight"),
        ("llama", "model.layers.0.self_attn.q_proj.bias"),
        ("llama", "model.layers.0.self_attn.q_norm.weight"),
    ] {
        let copy = Copy::of(model).with_tensors(|tensors| {
            tensors.insert(name.into(), (Dtype::F32, vec![3], vec![0; 12]));
        });
        assert_names(&refusal(copy.path()), &["holds the tensor", name, "[3]"]);
    }
    // What becomes one parameter is of one type.
    let (queries, values) = ["q", "v"]
        .map(|part| format!("model.layers.0.self_attn.{part}_proj.weight"))
        .into();
    let copy = Copy::of("llama").with_tensors(|tensors| {
        let (dtype, _, bytes) = tensors.get_mut(&values).unwrap();
        *dtype = Dtype::F16;
        bytes.truncate(bytes.len() / 2);
    });
    assert_names(&refusal(copy.path()), &[&values, "f16", "f32", &queries]);
}

#[test]
fn what_is_not_computed_here_is_refused() {
    for (model, key, value, expected) in [
        (
            "gpt2",
            "model_type",
            json!("gpt_neox"),
            "gpt2, llama, mistral, qwen3",
        ),
        (
            "gpt2",
            "activation_function",
            json!("quick_gelu"),
            "gelu_new",
        ),
        ("gpt2", "scale_attn_weights", json!(false), "only true"),
        (
            "gpt2",
            "scale_attn_by_inverse_layer_idx",
            json!(true),
            "only false",
        ),
        ("gpt2", "add_cross_attention", json!(true), "only false"),
        (
            "gpt2",
            "quantization_config",
            json!({ "bits": 4 }),
            "quantised",
        ),
        (
            "gpt2",
            "n_head",
            json!(3),
            "width 16 is not divisible by heads 3",
        ),
        ("gpt2", "n_head", json!("four"), "n_head: invalid type"),
        ("gpt2", "n_layer", json!(60_000), "28 tensors"),
        (
            "gpt2",
            "n_layer",
            json!(1u64 << 60),
            "it must be at most 4294967295",
        ),
        (
            "gpt2",
            "n_embd",
            json!(u64::MAX),
            "width is 18446744073709551615; it must be at most",
        ),
        (
            "gpt2",
            "n_embd",
            json!(u64::MAX / 2),
            "it must be at most 4294967295",
        ),
        (
            "gpt2",
            "n_embd",
            json!(1u64 << 29),
            "parameters, beyond the",
        ),
        (
            "llama",
            "hidden_size",
            json!(u64::MAX / 4),
            "it must be at most 4294967295",
        ),
        ("llama", "head_dim", json!(u64::MAX), "head_width is"),
        (
            "llama",
            "num_key_value_heads",
            json!(u64::MAX),
            "kv_heads is",
        ),
        ("gpt2", "n_embd", json!(-16), "n_embd: invalid value"),
        ("gpt2", "vocab_size", json!(0), "vocab_size is 0"),
        ("llama", "hidden_act", json!("gelu"), "only \"silu\""),
        (
            "llama",
            "mlp_bias",
            json!(true),
            "attention_bias false and mlp_bias true",
        ),
        ("llama", "num_key_value_heads", json!(3), "kv_heads 3"),
        ("llama", "head_dim", json!(5), "head_width 5"),
        (
            "llama",
            "rope_parameters",
            json!({ "rope_type": "yarn" }),
            "yarn",
        ),
        (
            "llama",
            "rope_scaling",
            json!({ "type": "dynamic", "factor": 2.0 }),
            "dynamic",
        ),
        (
            "llama",
            "rope_scaling",
            json!({ "rope_type": "llama3" }),
            "factor is missing",
        ),
        ("llama", "partial_rotary_factor", json!(0.5), "only 1"),
        (
            "llama",
            "layer_types",
            json!(["sliding_attention"]),
            "sliding_attention",
        ),
    ] {
        let line = refusal(Copy::of(model).with(key, value).path());
        assert_names(&line, &["config.json: ", expected]);
    }
}

#[test]
fn damaged_and_absent_files_are_named() {
    let bytes = fs::read(fixture("gpt2").join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    for length in [0, 7, 8, 8 + header / 2, 8 + header, bytes.len() - 1] {
        let copy = Copy::of("gpt2");
        fs::write(copy.file("model.safetensors"), &bytes[..length]).unwrap();
        assert_names(
            &refusal(copy.path()),
            &["model.safetensors: not a complete .safetensors"],
        );
    }

    let copy = Copy::of("gpt2");
    fs::write(copy.file("config.json"), "[1, 2]").unwrap();
    assert_names(&refusal(copy.path()), &["config.json: not a JSON object"]);
    fs::remove_file(copy.file("config.json")).unwrap();
    assert_names(&refusal(copy.path()), &["is not a model", "config.json"]);

    let copy = Copy::of("gpt2");
    fs::remove_file(copy.file("model.safetensors")).unwrap();
    assert_names(
        &refusal(copy.path()),
        &["no .safetensors file", "save_pretrained"],
    );
    let index = copy.file("model.safetensors.index.json");
    let write = |file: &str| fs::write(&index, json!({ "weight_map": { "x": file } }).to_string());
    write("absent.safetensors").unwrap();
    assert_names(
        &refusal(copy.path()),
        &["cannot read", "absent.safetensors"],
    );
    write("../weights.safetensors").unwrap();
    assert_names(
        &refusal(copy.path()),
        &["index.json", "../weights.safetensors"],
    );
    fs::write(&index, "{}").unwrap();
    assert_names(&refusal(copy.path()), &["index.json", "names no file"]);

    let imported = copy.file("imported");
    import(&fixture("gpt2"), &imported).unwrap();
    fs::write(imported.join("model.json"), "{}").unwrap();
    assert_names(&refusal(&imported), &["model.json: missing field"]);
}

/// Nothing is half-written: neither over something, nor after a failure.
#[test]
fn a_folder_is_complete_or_absent() {
    let root = tempfile::tempdir().unwrap();
    // What a process that was killed has left.
    let partial = root.path().join("deep/er/.out.partial");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("model.safetensors"), "half").unwrap();
    let out = root.path().join("deep/er/out");
    import(&fixture("gpt2"), &out).unwrap();
    assert!(!partial.exists());
    let again = import(&fixture("llama"), &out);
    assert_eq!(again, Err(ModelError::Occupied { path: out.clone() }));
    assert_eq!(Pretrained::open(&out).unwrap().architecture(), Some("gpt2"));

    // A number that f16 does not have is noticed once it is to be written.
    let name = "transformer.h.1.mlp.c_fc.bias";
    let copy = Copy::of("gpt2").with_tensors(|tensors| {
        tensors.get_mut(name).unwrap().2[..4].copy_from_slice(&70_000f32.to_le_bytes());
    });
    let opened = Pretrained::open(copy.path()).unwrap();
    let half = root.path().join("half");
    fs::create_dir(&half).unwrap();
    let export = |kind| opened.export(&half, Some(kind), &mut |_, _| {});
    let too_large = ModelError::TooLargeForF16 { name: name.into() };
    assert_eq!(export(WeightType::F16), Err(too_large));
    assert_eq!(fs::read_dir(&half).unwrap().count(), 0);
    assert_eq!(export(WeightType::BF16), Ok(()));
    let left = fs::read_dir(root.path()).unwrap().count();
    assert_eq!(left, 2, "deep and half");
}

#[test]
fn an_architecture_without_a_class_is_refused_by_its_field() {
    let gpt2 = ModelConfig::new(7, 5, 1, 2, 4);
    let llama = ModelConfig::llama(7, 5, 1, 2, 1, 4);
    let refused = |change: Change, config: &ModelConfig| {
        let mut config = config.clone();
        change(&mut config);
        let export = Export {
            weight_type: WeightType::F32,
            tokenizer: None,
            end_of_text: None,
        };
        let model = config.init(0, &Device::flex()).unwrap();
        let error = export.write(&model, Path::new("not written")).unwrap_err();
        assert!(!Path::new("not written").exists());
        error.to_string()
    };
    let gpt2_fields: [(Change, &str); 7] = [
        (|c| c.norm = Norm::Rms, "norm rms"),
        (|c| c.kv_heads = 1, "kv_heads 1"),
        (|c| c.head_width = Some(6), "head_width 6"),
        (|c| c.qk_norm = true, "qk_norm true"),
        (|c| c.window = Some(3), "window 3"),
        (|c| c.activation = Activation::SwiGlu, "activation swiglu"),
        (|c| c.logit_cap = Some(30.0), "logit_cap 30"),
    ];
    for (change, field) in gpt2_fields {
        assert_names(&refused(change, &gpt2), &[field, "GPT2LMHeadModel"]);
    }
    let llama_fields: [(Change, &str); 7] = [
        (|c| c.positions = Positions::None, "positions none"),
        (|c| c.norm = Norm::Layer, "norm layer"),
        (
            |c| c.activation = Activation::GeluTanh,
            "activation gelu-tanh",
        ),
        (|c| c.logit_cap = Some(30.0), "logit_cap 30"),
        (|c| (c.width, c.head_width) = (5, Some(2)), "heads 2"),
        (|c| (c.qk_norm, c.window) = (true, Some(3)), "window 3"),
        (|c| (c.bias, c.window) = (true, Some(3)), "bias true"),
    ];
    for (change, field) in llama_fields {
        assert_names(&refused(change, &llama), &[field, "ForCausalLM"]);
    }
}

/// What the source says without computing with it, or says twice.
#[test]
fn the_head_and_dropout_are_what_the_source_makes_of_them() {
    let head = "lm_head.weight";
    let twice = Copy::of("gpt2").with_tensors(|tensors| {
        tensors.insert(head.into(), tensors["transformer.wte.weight"].clone());
    });
    let opened = Pretrained::open(twice.path()).unwrap();
    assert!(opened.config().tied_head && opened.note().is_none());
    let other = Copy::of("gpt2").with_tensors(|tensors| {
        let mut embedding = tensors["transformer.wte.weight"].clone();
        embedding.2.rotate_left(64);
        tensors.insert(head.into(), embedding);
    });
    assert!(!Pretrained::open(other.path()).unwrap().config().tied_head);
    // Every row of the head has moved up by one.
    let expected = Expected::read(&fixture("gpt2"));
    let [tied, separate] = [twice.path(), other.path()].map(|path| {
        let model = load(path, &Device::flex());
        logits(&model, expected.columns(0, 1, &Device::flex()))
    });
    for (tied, separate) in tied.chunks(257).zip(separate.chunks(257)) {
        for id in 0..257 {
            assert!((tied[(id + 1) % 257] - separate[id]).abs() < 1e-5);
        }
    }

    let rates = |embedding: f64| {
        let copy = Copy::of("gpt2").with("embd_pdrop", json!(embedding));
        let copy = copy
            .with("attn_pdrop", json!(0.25))
            .with("resid_pdrop", json!(0.25));
        let opened = Pretrained::open(copy.path()).unwrap();
        (opened.config().dropout, opened.note().map(str::to_owned))
    };
    assert_eq!(rates(0.25), (0.25, None));
    let (rate, note) = rates(0.1);
    assert_eq!(rate, 0.0);
    assert_names(
        &note.unwrap(),
        &["embd_pdrop 0.1", "attn_pdrop 0.25", "set to 0"],
    );
    let llama = Copy::of("llama").with("attention_dropout", json!(0.1));
    let llama = Pretrained::open(llama.path()).unwrap();
    assert_eq!(llama.config().dropout, 0.0);
    assert_names(llama.note().unwrap(), &["attention_dropout is 0.1"]);
}
