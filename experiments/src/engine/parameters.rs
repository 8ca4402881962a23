//! Parameters and gradients of a network on the host, by path.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};

use crate::Error;
use crate::backend::precision::Precision;

/// Values of parameters in row-major order, by path, such as `blocks.0.attention.qkv.weight`.
pub(crate) type Parameters = BTreeMap<String, Vec<f64>>;

/// Reads the weights.
pub(crate) fn weights<M: Module>(model: &M) -> Result<Parameters, Error> {
    read(model, None, 1.0)
}

/// Reads the gradients, multiplied by `factor`. Parameters without a gradient are omitted.
pub(crate) fn gradients<M: Module>(
    model: &M,
    gradients: &GradientsParams,
    factor: f64,
) -> Result<Parameters, Error> {
    read(model, Some(gradients), factor)
}

fn read<M: Module>(
    model: &M,
    gradients: Option<&GradientsParams>,
    factor: f64,
) -> Result<Parameters, Error> {
    let mut read = Read {
        gradients,
        factor,
        path: Vec::new(),
        values: Ok(Parameters::new()),
    };
    model.visit(&mut read);
    read.values
}

struct Read<'a> {
    gradients: Option<&'a GradientsParams>,
    factor: f64,
    path: Vec<String>,
    values: Result<Parameters, Error>,
}

impl ModuleVisitor for Read<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id),
            None => Some(param.val()),
        };
        let Some(tensor) = tensor else { return };
        let Ok(values) = &mut self.values else { return };
        match tensor.try_into_vec_as::<f64>() {
            Ok(mut read) => {
                if self.factor != 1.0 {
                    read.iter_mut().for_each(|value| *value *= self.factor);
                }
                values.insert(self.path.join("."), read);
            }
            Err(error) => self.values = Err(Error::device(error)),
        }
    }
}

/// Returns gradients for a network's optimizer, rounded to `precision`. Parameters without values have no gradient.
pub(crate) fn to_gradients<M: Module>(
    model: &M,
    values: &Parameters,
    precision: Precision,
) -> GradientsParams {
    let mut write = Write {
        values,
        precision,
        path: Vec::new(),
        gradients: GradientsParams::new(),
    };
    model.visit(&mut write);
    write.gradients
}

struct Write<'a> {
    values: &'a Parameters,
    precision: Precision,
    path: Vec<String>,
    gradients: GradientsParams,
}

impl ModuleVisitor for Write<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(values) = self.values.get(&self.path.join(".")) {
            let data = TensorData::new(values.clone(), param.lazy_shape());
            let device = param.lazy_device().without_autodiff();
            let gradient = Tensor::<D>::from_data(data, (&device, self.precision.dtype()));
            self.gradients.register(param.id, gradient);
        }
    }
}

/// Returns the module with every parameter's values changed on the host. Types and devices are kept.
pub(crate) fn changed<M: Module>(module: M, change: impl FnMut(Vec<f64>) -> Vec<f64>) -> M {
    struct Change<F>(F);
    impl<F: FnMut(Vec<f64>) -> Vec<f64>> ModuleMapper for Change<F> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = param.val();
            let (device, dtype) = (value.device(), value.dtype());
            let trained = value.is_require_grad();
            let data = value.detach().into_data();
            let shape = data.shape().clone();
            let values = (self.0)(data.iter::<f64>().collect());
            let data = TensorData::new(values, shape);
            let changed = Tensor::<D>::from_data(data, (&device, dtype));
            Param::initialized(param.id, changed.set_require_grad(trained))
        }
    }
    module.map(&mut Change(change))
}

/// Returns the module with its weights rounded to another precision.
pub(crate) fn in_precision<M: Module>(module: M, precision: Precision) -> M {
    struct Cast(DType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = param.val();
            if value.dtype() == self.0 {
                return param;
            }
            let trained = value.is_require_grad();
            let cast = value.detach().cast(self.0).detach();
            Param::initialized(param.id, cast.set_require_grad(trained))
        }
    }
    module.map(&mut Cast(precision.dtype()))
}

/// Computes ‖a − b‖ / ‖b‖ over all values, in the Euclidean norm; NaN if any value is NaN.
pub(crate) fn distance<'a>(pairs: impl IntoIterator<Item = (&'a [f64], &'a [f64])>) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    for (a, b) in pairs {
        if a.len() != b.len() {
            return f64::INFINITY;
        }
        for (a, b) in a.iter().zip(b) {
            difference += (a - b) * (a - b);
            size += b * b;
        }
    }
    match difference == 0.0 {
        true => 0.0,
        false => (difference / size).sqrt(),
    }
}

/// Computes the [`distance`] over all parameters.
pub(crate) fn total_distance(a: &Parameters, b: &Parameters) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    distance(
        a.values()
            .map(Vec::as_slice)
            .zip(b.values().map(Vec::as_slice)),
    )
}
