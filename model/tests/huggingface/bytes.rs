//! Import and export: the same bytes come out.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use foretoken_model::{Pretrained, WeightType};

use crate::{Expected, fixture, import, load, logits};

/// Exports, and asserts that every file of `source` comes out as it is.
pub(crate) fn assert_same_bytes(source: &Path, exported: &Path) {
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(source), names(exported));
    for name in names(source) {
        let [theirs, ours] = [source, exported].map(|folder| fs::read(folder.join(&name)).unwrap());
        assert!(theirs == ours, "{} of {}", name.display(), source.display());
    }
}

#[test]
fn import_and_export_give_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    for name in ["gpt2", "llama"] {
        let imported = root.path().join(name);
        import(&fixture(name), &imported).unwrap();
        let opened = Pretrained::open(&imported).unwrap();
        assert!(opened.is_imported());
        assert_eq!(opened.architecture(), Some(name));
        assert_eq!(opened.end_of_text(), [256]);
        assert_eq!(opened.tokenizer(), Some(imported.join("tokenizer.json")));
        assert_eq!(
            opened.config(),
            Pretrained::open(&fixture(name)).unwrap().config()
        );

        let exported = root.path().join(format!("{name}-exported"));
        opened.export(&exported, None, &mut |_, _| {}).unwrap();
        assert_same_bytes(&fixture(name), &exported);
        // Without the detour, too.
        let direct = root.path().join(format!("{name}-direct"));
        let opened = Pretrained::open(&fixture(name)).unwrap();
        opened.export(&direct, None, &mut |_, _| {}).unwrap();
        assert_same_bytes(&fixture(name), &direct);
    }
}

#[test]
fn an_imported_model_is_the_same_model() {
    let root = tempfile::tempdir().unwrap();
    for name in ["gpt2", "llama"] {
        let imported = root.path().join(name);
        import(&fixture(name), &imported).unwrap();
        let expected = Expected::read(&fixture(name));
        let bits = |path: &Path| -> Vec<u32> {
            let model = load(path, &Device::flex());
            let tokens = expected.columns(0, 24, &model.device());
            logits(&model, tokens)
                .into_iter()
                .map(f32::to_bits)
                .collect()
        };
        assert_eq!(bits(&imported), bits(&fixture(name)));
        assert_eq!(bits(&imported.join("model.safetensors")), bits(&imported));
    }
}

/// Weights in another type are rounded once, and the configuration says so.
#[test]
fn weights_can_be_exported_in_another_type() {
    let root = tempfile::tempdir().unwrap();
    for kind in [WeightType::F16, WeightType::BF16] {
        let [once, twice, back] =
            ["once", "twice", "back"].map(|name| root.path().join(format!("{name}-{kind}")));
        let export = |from: &Path, to: &Path, kind| {
            let opened = Pretrained::open(from).unwrap();
            opened.export(to, Some(kind), &mut |_, _| {}).unwrap();
        };
        export(&fixture("llama"), &once, kind);
        assert_eq!(Pretrained::open(&once).unwrap().weight_types(), [kind]);
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(once.join("config.json")).unwrap()).unwrap();
        let name = if kind == WeightType::F16 {
            "float16"
        } else {
            "bfloat16"
        };
        assert_eq!(config["dtype"], name);
        // A number that has been rounded stays what it is, in single precision, too.
        export(&once, &back, WeightType::F32);
        export(&back, &twice, kind);
        let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
        assert!(weights(&once) == weights(&twice));
        assert!(weights(&once).len() < weights(&fixture("llama")).len() * 3 / 5);
        // And by no more than rounding: 11 and 8 significant bits.
        let relative = if kind == WeightType::F16 {
            2f32.powi(-11)
        } else {
            2f32.powi(-8)
        };
        let values = |folder: &Path| {
            let bytes = weights(folder);
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let data = file
                .tensor("model.layers.1.self_attn.k_proj.weight")
                .unwrap()
                .data();
            let floats = data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            floats.collect::<Vec<f32>>()
        };
        for (rounded, exact) in values(&back).iter().zip(values(&fixture("llama"))) {
            assert!(
                (rounded - exact).abs() <= relative * exact.abs(),
                "{rounded} of {exact}"
            );
        }
    }
}
