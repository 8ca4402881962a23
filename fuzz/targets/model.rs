//! Bodies of the fuzz targets of `foretoken-model`: weight files and their descriptions.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use foretoken_model::{Export, ModelConfig, Pretrained, WeightType};

use crate::target::{Target, accepted};

pub(crate) const TARGETS: [Target; 5] = [
    Target::new(
        "safetensors",
        || files("model.safetensors"),
        |bytes| HUGGING_FACE.with(|folders| open(folders, "model.safetensors", bytes)),
    ),
    Target::new(
        "config",
        || files("config.json"),
        |bytes| HUGGING_FACE.with(|folders| open(folders, "config.json", bytes)),
    ),
    Target::new("generation_config", generation_config_seeds, |bytes| {
        HUGGING_FACE.with(|folders| open(folders, "generation_config.json", bytes))
    }),
    Target::new("weights_index", weights_index_seeds, |bytes| {
        INDEXED.with(|folders| open(folders, "model.safetensors.index.json", bytes))
    }),
    Target::new("model_description", model_description_seeds, |bytes| {
        IMPORTED.with(|folders| open(folders, "model.json", bytes))
    }),
];

type Folders = [tempfile::TempDir; 2];

thread_local! {
    /// Minimal GPT-2 and Llama in Hugging Face's format.
    static HUGGING_FACE: Folders = exported();
    /// Both models, with weights that an index must name.
    static INDEXED: Folders = indexed();
    /// Both models, imported.
    static IMPORTED: Folders = imported();
}

fn exported() -> Folders {
    [
        ModelConfig::new(5, 4, 1, 2, 4),
        ModelConfig::llama(5, 4, 1, 2, 1, 4),
    ]
    .map(|config| {
        let folder = tempfile::tempdir().unwrap();
        let model = config.init(0, &Device::flex()).unwrap();
        let export = Export {
            weight_type: WeightType::F32,
            tokenizer: None,
            end_of_text: Some(1),
        };
        export.write(&model, folder.path()).unwrap();
        folder
    })
}

fn indexed() -> Folders {
    exported().map(|folder| {
        let weights = folder.path().join("model.safetensors");
        fs::rename(weights, folder.path().join("part.safetensors")).unwrap();
        folder
    })
}

fn imported() -> Folders {
    exported().map(|folder| {
        let imported = tempfile::tempdir().unwrap();
        let opened = Pretrained::open(folder.path()).unwrap();
        opened.save(imported.path(), &mut |_, _| {}).unwrap();
        imported
    })
}

fn read_all(folders: &Folders, name: &str) -> Vec<Vec<u8>> {
    let files = folders.iter().map(|folder| folder.path().join(name));
    files.map(|file| fs::read(file).unwrap()).collect()
}

fn files(name: &str) -> Vec<Vec<u8>> {
    HUGGING_FACE.with(|folders| read_all(folders, name))
}

fn generation_config_seeds() -> Vec<Vec<u8>> {
    ["{\"eos_token_id\": 3}", "{\"eos_token_id\": [1, 2]}"]
        .map(|json| json.as_bytes().to_vec())
        .into()
}

fn weights_index_seeds() -> Vec<Vec<u8>> {
    let json = "{\"metadata\": {\"total_size\": 4}, \"weight_map\": {\"x\": \"part.safetensors\"}}";
    vec![json.as_bytes().to_vec()]
}

fn model_description_seeds() -> Vec<Vec<u8>> {
    IMPORTED.with(|folders| read_all(folders, "model.json"))
}

/// Opens each model with one of its files replaced, and loads it if it is accepted.
fn open(folders: &Folders, name: &str, bytes: &[u8]) -> bool {
    let accepted = folders.each_ref().map(|folder| {
        let path = folder.path().join(name);
        let original = fs::read(&path).ok();
        fs::write(&path, bytes).unwrap();
        let accepted = load(folder.path());
        match original {
            Some(original) => fs::write(&path, original).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        accepted
    });
    accepted.contains(&true)
}

fn load(folder: &Path) -> bool {
    let Some(model) = accepted(Pretrained::open(folder)) else {
        return false;
    };
    // An accepted model can be loaded.
    model.load(&Device::flex()).unwrap();
    true
}
