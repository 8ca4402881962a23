//! Every parameter of a model, or its gradient, by path.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Element, Gradients, Tensor};
use foretoken_model::Transformer;

struct Read<'a, T> {
    gradients: Option<&'a Gradients>,
    path: Vec<String>,
    values: BTreeMap<String, Vec<T>>,
}

impl<T: Element> ModuleVisitor for Read<'_, T> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.gradients {
            Some(gradients) => param.val().grad(gradients).unwrap(),
            None => param.val(),
        };
        let values = tensor.try_into_vec_as().unwrap();
        assert!(self.values.insert(self.path.join("."), values).is_none());
    }
}

/// The values, row by row; with `gradients`, those in their place.
pub(crate) fn read<T: Element>(
    model: &Transformer,
    gradients: Option<&Gradients>,
) -> BTreeMap<String, Vec<T>> {
    let mut read = Read {
        gradients,
        path: Vec::new(),
        values: BTreeMap::new(),
    };
    model.visit(&mut read);
    read.values
}
