//! Whatever is in a file: it is refused or loaded, and nothing panics.

use std::fs;

use burn::tensor::Device;
use foretoken_model::Pretrained;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::copy::Copy;
use crate::import;

/// Values that a key may have in a file that somebody else has written.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        (0u64..100).prop_map(|n| json!(n)),
        prop::num::f64::ANY.prop_map(|x| json!(x)),
        any::<bool>().prop_map(|b| json!(b)),
        Just(json!(u64::MAX)),
        Just(json!(null)),
        Just(json!([])),
        Just(json!({ "rope_type": "llama3", "factor": 0 })),
        Just(json!("")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..Default::default() })]

    /// Files with bytes changed and cut off are refused or loaded, whichever: nothing panics.
    #[test]
    fn no_bytes_panic(
        llama: bool,
        own: bool,
        weights: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut copy = Copy::of(if llama { "llama" } else { "gpt2" });
        if own {
            let folder = tempfile::tempdir().unwrap();
            import(copy.path(), folder.path()).unwrap();
            copy = Copy(folder);
        }
        let name = match (weights, own) {
            (true, _) => "model.safetensors",
            (false, true) => "model.json",
            (false, false) => "config.json",
        };
        let mut bytes = fs::read(copy.file(name)).unwrap();
        // Weights are any bytes: what is read is the header before them.
        let length = bytes.len().min(3000);
        for (index, byte) in changes {
            bytes[index.index(length)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(length));
        }
        fs::write(copy.file(name), bytes).unwrap();
        if let Ok(opened) = Pretrained::open(copy.path()) {
            opened.load(&Device::flex()).unwrap();
        }
    }

    /// Nor does any value of any key.
    #[test]
    fn no_value_panics(llama: bool, key: prop::sample::Index, value in any_value()) {
        let copy = Copy::of(if llama { "llama" } else { "gpt2" });
        let config = copy.config();
        let keys: Vec<&String> = config.as_object().unwrap().keys().collect();
        let copy = copy.with(keys[key.index(keys.len())], value);
        if let Ok(opened) = Pretrained::open(copy.path()) {
            opened.load(&Device::flex()).unwrap();
        }
    }
}
