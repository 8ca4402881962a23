//! With `transformers` at hand: models that it makes here and now, and whether it reads what is exported.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use foretoken_model::{
    Activation, Export, ModelConfig, Pretrained, RotaryScaling, Transformer, WeightType,
};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::bytes::assert_same_bytes;
use crate::copy::Copy;
use crate::devices::devices;
use crate::parity::{assert_parity, show};
use crate::{Expected, fixture, import, load, logits};

/// As far as logits in single precision may differ. They lie between -10 and 10.
const LOGITS: f64 = 1e-4;

/// `python3 peer.py ARGS` with `input`; what it prints.
fn peer(args: &[&str], input: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/huggingface/peer.py");
    let mut command = Command::new("python3");
    command
        .arg(script)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Exported models, and what they compute here.
#[derive(Default)]
struct Exported {
    cases: Vec<Value>,
    classes: Vec<&'static str>,
}

impl Exported {
    /// Notes a folder and the logits that the model in it has by our reckoning.
    fn add(&mut self, class: &'static str, folder: &Path, tokens: Tensor<2, Int>, logits: &[f32]) {
        let [batch, length] = tokens.dims();
        let vocab_size = logits.len() / (batch * length);
        let ids: Vec<i64> = tokens.try_into_vec_as().unwrap();
        let ids: Vec<u8> = ids.into_iter().flat_map(i64::to_le_bytes).collect();
        let logits: Vec<u8> = logits.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensors = [
            (
                "tokens",
                TensorView::new(Dtype::I64, vec![batch, length], &ids).unwrap(),
            ),
            (
                "logits",
                TensorView::new(Dtype::F32, vec![batch, length, vocab_size], &logits).unwrap(),
            ),
        ];
        let ours = folder.with_added_extension("ours");
        fs::write(&ours, safetensors::serialize(tensors, None).unwrap()).unwrap();
        self.cases.push(json!({ "model": folder, "ours": ours }));
        self.classes.push(class);
    }

    /// Has `transformers` read every folder.
    fn check(&self) {
        let answers: Vec<Value> =
            serde_json::from_str(&peer(&["check"], &json!(self.cases).to_string())).unwrap();
        assert_eq!(answers.len(), self.cases.len());
        for ((answer, case), class) in answers.iter().zip(&self.cases).zip(&self.classes) {
            assert_eq!(answer["architecture"], *class, "{case}");
            assert!(
                answer["difference"].as_f64().unwrap() <= LOGITS,
                "{case}: {answer}"
            );
            let folder = PathBuf::from(case["model"].as_str().unwrap());
            if folder.join("tokenizer.json").exists() {
                let text = "A sign – of what comes next.\n";
                assert_eq!(answer["text"], text, "{case}");
                assert_eq!(
                    answer["ids"].as_array().unwrap().len(),
                    text.len(),
                    "{case}"
                );
            }
        }
    }
}

/// Gives every parameter values of the size that they have in a trained model.
struct Disturb(usize);

impl ModuleMapper for Disturb {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let shape = tensor.shape();
            let value = |_| {
                self.0 += 1;
                (0.4 * (self.0 as f64 * 1.618).sin() + 0.1) as f32
            };
            let values: Vec<f32> = (0..shape.num_elements()).map(value).collect();
            Tensor::from_data(TensorData::new(values, shape), &tensor.device())
        })
    }
}

fn disturbed(config: &ModelConfig) -> Transformer {
    config
        .init(0, &Device::flex())
        .unwrap()
        .map(&mut Disturb(0))
}

/// Models that were never anywhere else, by the class that each becomes.
fn ours() -> Vec<(&'static str, &'static str, ModelConfig)> {
    let gpt2 = ModelConfig::new(257, 24, 2, 4, 32);
    let llama = ModelConfig::llama(257, 24, 2, 4, 2, 32);
    let bare = gpt2.clone().with_bias(false).with_tied_head(false);
    let stretched = ModelConfig {
        head_width: Some(6),
        rotary_theta: 100.0,
        rotary_scaling: Some(RotaryScaling {
            factor: 4.0,
            low_frequency_factor: 0.5,
            high_frequency_factor: 2.0,
            original_context: 16,
        }),
        ..llama.clone().with_bias(true).with_tied_head(true)
    };
    vec![
        ("GPT2LMHeadModel", "gpt2", gpt2.clone()),
        (
            "GPT2LMHeadModel",
            "bare",
            bare.with_activation(Activation::Gelu).with_hidden(40),
        ),
        (
            "GPT2LMHeadModel",
            "relu2",
            gpt2.with_activation(Activation::Relu2),
        ),
        ("LlamaForCausalLM", "llama", llama.clone()),
        ("LlamaForCausalLM", "stretched", stretched),
        (
            "MistralForCausalLM",
            "window",
            ModelConfig {
                window: Some(3),
                ..llama.clone()
            },
        ),
        (
            "Qwen3ForCausalLM",
            "qk-norm",
            ModelConfig {
                qk_norm: true,
                ..llama
            },
        ),
    ]
}

#[test]
#[ignore = "needs python3 with torch and transformers: source .ci/env.sh"]
fn transformers_agrees() {
    let root = tempfile::tempdir().unwrap();
    let made = root.path().join("made");
    fs::create_dir(&made).unwrap();
    let version = peer(&["make", made.to_str().unwrap()], "");
    show(&format!("transformers {}", version.trim()));

    let mut exported = Exported::default();
    for (name, class, everywhere, canonical) in [
        ("gpt2", "GPT2LMHeadModel", true, true),
        ("gpt2-untied", "GPT2LMHeadModel", false, true),
        ("gpt2-f16", "GPT2LMHeadModel", false, true),
        ("gpt2-bf16-sharded", "GPT2LMHeadModel", false, false),
        ("gpt2-old-names", "GPT2LMHeadModel", false, false),
        ("llama-gqa", "LlamaForCausalLM", true, true),
        ("llama-tied-biased-mqa", "LlamaForCausalLM", false, true),
        ("llama-3-rope", "LlamaForCausalLM", true, true),
        ("llama-3-rope-old-keys", "LlamaForCausalLM", false, true),
        ("llama-bf16-sharded", "LlamaForCausalLM", false, false),
        ("mistral-window", "MistralForCausalLM", false, true),
        ("qwen3", "Qwen3ForCausalLM", false, true),
    ] {
        let folder = made.join(name);
        for device in &devices()[..if everywhere { devices().len() } else { 1 }] {
            assert_parity(name, &folder, device);
        }
        let imported = root.path().join(name);
        import(&folder, &imported).unwrap();
        let opened = Pretrained::open(&imported).unwrap();
        let out = root.path().join(format!("{name}-exported"));
        opened.export(&out, None, &mut |_, _| {}).unwrap();
        if canonical {
            assert_same_bytes(&folder, &out);
        }
        let expected = Expected::read(&folder);
        let tokens = expected.columns(0, 24, &Device::flex());
        exported.add(class, &out, tokens, &expected.logits);
    }

    // Before version 5 of `transformers` the same was said in other keys.
    let config = |name: &str| Pretrained::open(&made.join(name)).unwrap().config().clone();
    assert_eq!(config("llama-3-rope-old-keys"), config("llama-3-rope"));
    assert_ne!(config("llama-3-rope").rotary_scaling, None);

    // A head that is said to be tied, and differs: neither side ties it.
    let other = Copy::of("gpt2").with_tensors(|tensors| {
        let mut head = tensors["transformer.wte.weight"].clone();
        head.2.rotate_left(64);
        tensors.insert("lm_head.weight".into(), head);
    });
    let out = root.path().join("head-of-its-own");
    let opened = Pretrained::open(other.path()).unwrap();
    opened.export(&out, None, &mut |_, _| {}).unwrap();
    let expected = Expected::read(&fixture("gpt2"));
    let tokens = || expected.columns(0, 24, &Device::flex());
    let separate = logits(&load(&out, &Device::flex()), tokens());
    exported.add("GPT2LMHeadModel", &out, tokens(), &separate);

    let tokenizer = fixture("gpt2").join("tokenizer.json");
    for (class, name, config) in ours() {
        for weight_type in [WeightType::F32, WeightType::BF16] {
            let out = root.path().join(format!("ours-{name}-{weight_type}"));
            let export = Export {
                weight_type,
                tokenizer: Some(&tokenizer),
                end_of_text: Some(256),
            };
            let model = disturbed(&config);
            export.write(&model, &out).unwrap();
            // What is in the file, which in bf16 is no longer what it was.
            let read = load(&out, &Device::flex());
            let ids: Vec<i64> = (0..48).map(|i| (i * i * 7 + 3 * i) % 257).collect();
            let tokens =
                || Tensor::from_data(TensorData::new(ids.clone(), [2, 24]), &Device::flex());
            let ours = logits(&read, tokens());
            if weight_type == WeightType::F32 {
                assert_eq!(ours, logits(&model, tokens()), "{name}");
            }
            exported.add(class, &out, tokens(), &ours);
        }
    }
    exported.check();
}
