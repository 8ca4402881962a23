//! Copies of the fixtures, to be spoilt.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::fixture;

/// Type, shape and bytes by name.
pub(crate) type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The configuration and the weights of a fixture, in a folder of their own.
pub(crate) struct Copy(pub(crate) tempfile::TempDir);

impl Copy {
    pub(crate) fn of(name: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(fixture(name).join(file), root.path().join(file)).unwrap();
        }
        Self(root)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.file("config.json")).unwrap()).unwrap()
    }

    pub(crate) fn with(self, key: &str, value: Value) -> Self {
        let mut config = self.config();
        config[key] = value;
        fs::write(self.file("config.json"), config.to_string()).unwrap();
        self
    }

    pub(crate) fn with_tensors(self, change: impl FnOnce(&mut Tensors)) -> Self {
        let bytes = fs::read(self.file("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| {
            let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            (name.to_owned(), tensor)
        });
        let mut tensors: Tensors = tensors.collect();
        change(&mut tensors);
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        fs::write(self.file("model.safetensors"), bytes).unwrap();
        self
    }
}
