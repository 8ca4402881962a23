//! Records of a learner as files, written and read one tensor at a time. The bytes equal those of Burn's own records,
//! which would hold all tensors in memory at once, and again in a buffer.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bytes, DType, Tensor};
use burn_pack::{Reader, Writer};
use half::{bf16, f16};

use crate::Error;

/// Writes the parameters of a module, as `ModuleRecord` does.
pub(crate) fn write_module<M: Module>(module: &M, path: &Path) -> Result<(), Error> {
    let mut visitor = Parameters::new(|path, id, tensor| Some(tensor.deferred(path, id)));
    module.visit(&mut visitor);
    write(Writer::new(visitor.found), path)
}

/// Writes a pack, one tensor at a time.
pub(crate) fn write(pack: Writer, path: &Path) -> Result<(), Error> {
    pack.write_to_file_in_place(path)
        .map_err(|error| Error::io("write", path)(std::io::Error::other(error.to_string())))
}

/// Returns the path of the first parameter of a module with a value that is not finite.
pub(crate) fn first_non_finite_parameter<M: Module>(module: &M) -> Result<Option<String>, Error> {
    let mut failed = None;
    let mut visitor = Parameters::new(|path, _, tensor| match tensor.bytes() {
        Ok(bytes) => (!all_finite(tensor.dtype, &bytes)).then(|| path.to_owned()),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    module.visit(&mut visitor);
    let found = visitor.found.into_iter().next();
    match failed {
        Some(error) => Err(Error::device(error)),
        None => Ok(found),
    }
}

/// Returns whether a file holds a module's parameters, all of them finite.
pub(crate) fn weights_are_finite(path: &Path) -> bool {
    let Ok(tensors) = Reader::from_file_exact(path).and_then(Reader::into_tensors) else {
        return false;
    };
    tensors.into_iter().all(|tensor| {
        let dtype = tensor.dtype;
        tensor
            .into_bytes()
            .is_ok_and(|bytes| all_finite(dtype, &bytes))
    })
}

/// Returns whether all little-endian floating-point numbers are finite.
fn all_finite(dtype: DType, bytes: &[u8]) -> bool {
    let words = || {
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| u16::from_le_bytes(*word))
    };
    match dtype {
        DType::F64 => {
            let mut numbers = bytes.as_chunks().0.iter();
            numbers.all(|number| f64::from_le_bytes(*number).is_finite())
        }
        DType::F32 => {
            let mut numbers = bytes.as_chunks().0.iter();
            numbers.all(|number| f32::from_le_bytes(*number).is_finite())
        }
        DType::F16 => words().all(|word| f16::from_bits(word).is_finite()),
        DType::BF16 => words().all(|word| bf16::from_bits(word).is_finite()),
        _ => true,
    }
}

/// A tensor of any rank whose values are not read yet.
pub(crate) struct Handle {
    dtype: DType,
    shape: Vec<usize>,
    read: Box<dyn Fn() -> Result<Bytes, String> + Send + Sync>,
}

impl Handle {
    /// Returns a handle, which shares the tensor's buffer.
    pub(crate) fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        Self {
            dtype: tensor.dtype(),
            shape: tensor.dims().to_vec(),
            read: Box::new(move || match tensor.clone().try_into_data() {
                Ok(data) => Ok(data.into_parts().0),
                Err(error) => Err(error.to_string()),
            }),
        }
    }

    fn bytes(&self) -> Result<Bytes, String> {
        (self.read)()
    }

    /// Returns an entry of a pack, which reads the tensor when it is written.
    pub(crate) fn deferred(self, name: &str, id: u64) -> burn_pack::Tensor {
        let length = self.shape.iter().product::<usize>() * self.dtype.size();
        let read = self.read;
        burn_pack::Tensor::deferred(
            name.to_owned(),
            self.dtype,
            self.shape,
            Some(id),
            length,
            move || read().map_err(burn_pack::Error::IoError),
        )
    }
}

/// Visitor that collects the results of `map` for the path, id and saved tensor of each parameter.
struct Parameters<T, F> {
    path: Vec<String>,
    map: F,
    found: Vec<T>,
}

impl<T, F: FnMut(&str, u64, Handle) -> Option<T>> Parameters<T, F> {
    fn new(map: F) -> Self {
        Self {
            path: Vec::new(),
            map,
            found: Vec::new(),
        }
    }
}

impl<T, F: FnMut(&str, u64, Handle) -> Option<T>> ModuleVisitor for Parameters<T, F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = Handle::new(param.transform_for_save().val());
        let made = (self.map)(&self.path.join("."), param.id.val(), tensor);
        self.found.extend(made);
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::ModuleMapper;
    use burn::tensor::TensorData;
    use foretoken_model::ModelConfig;

    use super::*;
    use crate::backend::Backend;
    use crate::backend::precision::Precision;
    use crate::engine::language_model::LanguageModel;
    use crate::engine::parameters::in_precision;

    fn model(precision: Precision) -> LanguageModel {
        let device = Backend::Flex.device().expect("Flex is there").autodiff();
        let transformer = ModelConfig::new(17, 16, 2, 2, 32).init(3, &device);
        let transformer = transformer.expect("the sizes fit each other");
        in_precision(LanguageModel::new(transformer, 0), precision)
    }

    #[test]
    fn a_module_is_written_as_burn_records_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.bpk");
        for precision in [Precision::F32, Precision::BF16, Precision::F64] {
            let model = model(precision);
            write_module(&model, &path).unwrap();
            let expected = model.into_record().into_bytes().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), expected[..]);
            assert!(weights_are_finite(&path));
        }
    }

    /// Sets the last value of each bias of the last block's output.
    struct Spoil(Vec<String>, f64);

    impl ModuleMapper for Spoil {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.0.join(".") != SPOILT {
                return param;
            }
            param.map(|bias| {
                let (device, dtype, dims) = (bias.device(), bias.dtype(), bias.dims());
                let mut values = vec![0.5; dims.iter().product()];
                *values.last_mut().expect("a bias has elements") = self.1;
                Tensor::from_data(TensorData::new(values, dims), (&device, dtype))
            })
        }
    }

    const SPOILT: &str = "transformer.blocks.1.attention.output.bias";

    #[test]
    fn a_number_that_is_not_finite_is_found_wherever_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.bpk");
        for precision in Precision::ALL {
            let model = model(precision);
            assert_eq!(first_non_finite_parameter(&model).unwrap(), None);
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let model = model.clone().map(&mut Spoil(Vec::new(), bad));
                let found = first_non_finite_parameter(&model).unwrap();
                assert_eq!(found.as_deref(), Some(SPOILT));
                write_module(&model, &path).unwrap();
                assert!(!weights_are_finite(&path));
            }
        }
    }

    #[test]
    fn the_largest_numbers_are_finite() {
        assert!(all_finite(DType::F32, &f32::MAX.to_le_bytes()));
        assert!(all_finite(DType::F64, &f64::MIN.to_le_bytes()));
        for (dtype, largest, infinite) in
            [(DType::F16, 0x7bff, 0x7c00), (DType::BF16, 0x7f7f, 0xff80)]
        {
            assert!(all_finite(dtype, &u16::to_le_bytes(largest)));
            assert!(!all_finite(dtype, &u16::to_le_bytes(infinite)));
        }
        assert!(all_finite(DType::I32, &[0xff; 4]));
    }
}
