//! Parameters on the host.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::error::ModelError;
use crate::transformer::Transformer;

/// Reads every parameter of a model from its device, in f32, by its path in the module tree.
///
/// # Errors
///
/// Returns [`ModelError::Read`] if the device fails.
pub(crate) fn parameters(model: &Transformer) -> Result<HashMap<String, Vec<f32>>, ModelError> {
    let mut reader = Reader {
        path: Vec::new(),
        parameters: Ok(HashMap::new()),
    };
    model.visit(&mut reader);
    reader.parameters
}

struct Reader {
    path: Vec<String>,
    parameters: Result<HashMap<String, Vec<f32>>, ModelError>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(parameters) = &mut self.parameters else {
            return;
        };
        match param.val().try_into_vec_as() {
            Ok(values) => {
                parameters.insert(self.path.join("."), values);
            }
            Err(error) => self.parameters = Err(ModelError::Read(error.to_string())),
        }
    }
}
