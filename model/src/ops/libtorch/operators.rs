//! Operators of ATen that `tch` has no function for, by way of TorchScript: a few lines of it (`operators.py`,
//! `one_dnn.py`), packed the way libtorch reads a module and called by name.

use std::io::{Cursor, Error, Write};
use std::sync::LazyLock;

use tch::{CModule, IValue, Kind, TchError, Tensor};
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::ops::AdamW;

static OPERATORS: LazyLock<CModule> = LazyLock::new(|| {
    let module = load(include_str!("operators.py"));
    module.expect("libtorch has these operators in every build of 2.9")
});

/// `None` where libtorch is built without oneDNN.
static ONE_DNN: LazyLock<Option<CModule>> = LazyLock::new(|| {
    let module = tch::utils::has_mkldnn().then(|| load(include_str!("one_dnn.py")));
    module.and_then(Result::ok)
});

/// A module of the class `Operators` that `code` defines.
fn load(code: &str) -> Result<CModule, TchError> {
    CModule::load_data(&mut pack(code)?.as_slice())
}

/// <https://github.com/pytorch/pytorch/blob/v2.9.0/torch/csrc/jit/docs/serialization.md>
fn pack(code: &str) -> Result<Vec<u8>, Error> {
    // Pickled, protocol 2: an object of the class with no state, and no constants.
    let object = b"\x80\x02c__torch__\nOperators\n)\x81}b.".as_slice();
    let nothing = b"\x80\x02).".as_slice();
    let files = [
        ("data.pkl", object),
        ("code/__torch__.py", code.as_bytes()),
        ("constants.pkl", nothing),
        ("version", b"3\n"),
    ];
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = FileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in files {
        archive.start_file(format!("operators/{name}"), stored)?;
        archive.write_all(content)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// ATen's fused update, in place; of weights, moments and gradient that are of one type and lie alike.
///
/// Lists of one are given to the script rather than made in it: TorchScript takes a change of what is in a list of its
/// own for dead code.
pub(super) fn adamw([weights, gradient, first, second]: [&Tensor; 4], update: AdamW) {
    let step = Tensor::full([0; 0], update.time as f64, (Kind::Float, weights.device()));
    let one = |of: &Tensor| IValue::TensorList(vec![of.shallow_clone()]);
    let given = [
        one(weights),
        one(gradient),
        one(first),
        one(second),
        one(&step),
        IValue::Double(update.learning_rate),
        IValue::Double(update.beta_1),
        IValue::Double(update.beta_2),
        IValue::Double(update.weight_decay),
        IValue::Double(update.epsilon),
    ];
    call(&OPERATORS, "adamw", &given);
}

/// Gradients of input, gain and bias of a LayerNorm, where they are `wanted`.
pub(super) fn layer_norm_backward(
    [x, gamma, grad]: [&Tensor; 3],
    epsilon: f64,
    wanted: [bool; 3],
) -> [Option<Tensor>; 3] {
    let given = [
        tensor(x),
        tensor(gamma),
        tensor(grad),
        IValue::Double(epsilon),
        IValue::BoolList(wanted.to_vec()),
    ];
    let IValue::Tuple(of) = call(&OPERATORS, "layer_norm_backward", &given) else {
        unreachable!("operators.py returns a tuple");
    };
    let mut of = of.into_iter();
    wanted.map(|wanted| match of.next() {
        Some(IValue::Tensor(of)) => wanted.then_some(of),
        _ => None,
    })
}

/// `x · weightᵀ` by oneDNN, where it is there, on top of `bias` in each row and of `residual`.
pub(super) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
) -> Option<Tensor> {
    let one_dnn = ONE_DNN.as_ref()?;
    let bias = bias.map_or(IValue::None, tensor);
    let product = match residual {
        None => call(one_dnn, "linear", &[tensor(x), tensor(weight), bias]),
        Some(residual) => {
            let given = [tensor(x), tensor(residual), tensor(weight), bias];
            call(one_dnn, "linear_onto", &given)
        }
    };
    let IValue::Tensor(product) = product else {
        unreachable!("one_dnn.py returns a tensor");
    };
    Some(product)
}

fn tensor(tensor: &Tensor) -> IValue {
    IValue::Tensor(tensor.shallow_clone())
}

/// As `tch`'s own functions do, it panics with libtorch's message where that fails.
fn call(module: &CModule, name: &str, given: &[IValue]) -> IValue {
    let result = module.method_is(name, given);
    result.unwrap_or_else(|error| panic!("libtorch's {name}: {error}"))
}
