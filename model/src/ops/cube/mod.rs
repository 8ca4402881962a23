//! Kernels for wgpu, CUDA and what else CubeCL compiles for, in f32; in other precisions, and on a device whose cubes
//! have few units, the plain compositions run.
//!
//! They ask for no more than WebGPU has everywhere: 256 units and 16 KiB of shared memory a cube, and nothing of
//! planes. Each number is added up by one unit, or by the units of one cube in one order, never by atomics: the bits are
//! the same in every run.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;
use cubecl::std::tensor::TensorHandle;

use super::cross_entropy::{Losses, Of, Rows};
use super::{AdamW, Fused, Head, Heads, Kernels, Rule, Turn};
use crate::config::Activation;

mod activation;
mod adamw;
mod attention;
mod cross_entropy;
#[cfg(feature = "wgpu-tuned")]
mod fusion;
mod norm;
mod rotary;
mod rows;
#[cfg(all(test, feature = "flex", feature = "wgpu"))]
mod tests;

/// Units of a cube, where nothing asks for fewer.
const UNITS: u32 = 256;

/// Bytes of shared memory that kernels count on.
const SHARED: usize = 16 << 10;

/// Whether the kernels take these tensors.
fn f32s(tensors: &[&CubeTensor]) -> bool {
    tensors.iter().all(|tensor| {
        let hardware = &tensor.client.properties().hardware;
        tensor.dtype == DType::F32
            && hardware.max_units_per_cube >= UNITS
            && hardware.max_shared_memory_size >= SHARED
    })
}

/// The tensor by rows, without gaps.
fn whole(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// The same for a tensor that is to be changed in place, where nobody else holds it.
fn own(tensor: CubeTensor) -> CubeTensor {
    let tensor = whole(tensor);
    match tensor.can_mut() {
        true => tensor,
        false => whole(tensor.copy()),
    }
}

/// Room for a tensor beside another.
fn empty_of(beside: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    let (client, device) = (beside.client.clone(), beside.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), dtype)
}

/// The same in the other's precision.
fn empty(beside: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    empty_of(beside, shape, beside.dtype)
}

/// Room for a tensor like another.
fn like(other: &CubeTensor) -> CubeTensor {
    empty(other, other.meta.shape().clone())
}

/// What a kernel knows a tensor's type as.
fn elem(tensor: &CubeTensor) -> ElemType {
    TensorHandle::from(tensor.clone()).dtype
}

/// The numbers of a tensor that is [`whole`].
fn buffer(tensor: &CubeTensor) -> BufferArg {
    tensor.clone().into_buffer_arg()
}

/// At least so many cubes, which kernels count along all three dimensions: one alone may be too short for them.
fn cubes(tensor: &CubeTensor, count: usize) -> CubeCount {
    calculate_cube_count_elemwise(&tensor.client, count, CubeDim::new_single())
}

/// Cubes of [`UNITS`] that have a unit for each of so many elements.
fn for_each(tensor: &CubeTensor, elements: usize) -> CubeCount {
    cubes(tensor, elements.div_ceil(UNITS as usize))
}

/// The sum of a number of each of `among` units that follow one another, told to all of them; `room` has a place for
/// every unit of the cube.
#[cube]
fn total(number: f32, room: &mut Shared<[f32]>, #[comptime] among: u32) -> f32 {
    put(number, room);
    let unit = UNIT_POS % among;
    #[unroll]
    for halving in 1..comptime!(among.ilog2() + 1) {
        let half = among >> halving;
        if unit < half {
            room[UNIT_POS as usize] += room[(UNIT_POS + half) as usize];
        }
        sync_cube();
    }
    room[(UNIT_POS - unit) as usize]
}

/// The largest of the numbers of all units of a cube of [`UNITS`], told to all of them.
#[cube]
fn largest(number: f32, room: &mut Shared<[f32]>) -> f32 {
    put(number, room);
    #[unroll]
    for halving in 1..comptime!(UNITS.ilog2() + 1) {
        let half = UNITS >> halving;
        if UNIT_POS < half {
            let other = room[(UNIT_POS + half) as usize];
            room[UNIT_POS as usize] = max(room[UNIT_POS as usize], other);
        }
        sync_cube();
    }
    room[0]
}

/// Each unit's number to its place; what was there before has been read by then.
#[cube]
fn put(number: f32, room: &mut Shared<[f32]>) {
    sync_cube();
    room[UNIT_POS as usize] = number;
    sync_cube();
}

impl Fused for CubeBackend {}

impl Kernels for CubeBackend {
    fn norm_forward(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: Option<CubeTensor>,
        rule: Rule,
    ) -> CubeTensor {
        match f32s(&[&x, &gamma]) {
            true => norm::forward(x, gamma, beta, rule),
            false => super::norm::forward::<Self>(x, gamma, beta, rule),
        }
    }

    fn norm_backward(
        x: CubeTensor,
        gamma: CubeTensor,
        grad: CubeTensor,
        onto: Option<CubeTensor>,
        rule: Rule,
        wanted: [bool; 3],
    ) -> [Option<CubeTensor>; 3] {
        match f32s(&[&x, &gamma, &grad]) && onto.as_ref().is_none_or(|onto| f32s(&[onto])) {
            true => norm::backward(x, gamma, grad, onto, rule, wanted),
            false => super::norm::backward::<Self>(x, gamma, grad, onto, rule, wanted),
        }
    }

    fn activation_forward(x: CubeTensor, activation: Activation) -> CubeTensor {
        match f32s(&[&x]) {
            true => activation::forward(x, activation),
            false => super::activation::forward::<Self>(x, activation),
        }
    }

    fn activation_backward(x: CubeTensor, grad: CubeTensor, activation: Activation) -> CubeTensor {
        match f32s(&[&x, &grad]) {
            true => activation::backward(x, grad, activation),
            false => super::activation::backward::<Self>(x, grad, activation),
        }
    }

    fn swiglu_forward(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
        match f32s(&[&gate, &up]) {
            true => activation::swiglu_forward(gate, up),
            false => super::activation::swiglu_forward::<Self>(gate, up),
        }
    }

    fn swiglu_backward(gate: CubeTensor, up: CubeTensor, grad: CubeTensor) -> [CubeTensor; 2] {
        match f32s(&[&gate, &up, &grad]) {
            true => activation::swiglu_backward(gate, up, grad),
            false => super::activation::swiglu_backward::<Self>(gate, up, grad),
        }
    }

    fn rotate(qkv: CubeTensor, rotation: [CubeTensor; 2], heads: Heads, turn: Turn) -> CubeTensor {
        match f32s(&[&qkv, &rotation[0], &rotation[1]]) {
            true => rotary::rotate(qkv, rotation, heads, turn),
            false => super::rotary::rotate::<Self>(qkv, rotation, heads, turn),
        }
    }

    fn attention_forward(qkv: CubeTensor, heads: Heads) -> (CubeTensor, CubeTensor) {
        match f32s(&[&qkv]) {
            true => attention::forward(qkv, heads),
            false => super::attention::forward::<Self>(qkv, heads),
        }
    }

    fn attention_backward(
        qkv: CubeTensor,
        output: CubeTensor,
        log_total: CubeTensor,
        grad: CubeTensor,
        heads: Heads,
    ) -> CubeTensor {
        match f32s(&[&qkv, &output, &log_total, &grad]) {
            true => attention::backward(qkv, output, log_total, grad, heads),
            false => super::attention::backward::<Self>(qkv, output, log_total, grad, heads),
        }
    }

    fn cross_entropy_forward(rows: Rows<Self>, rule: Head) -> Losses<Self> {
        match f32s(&[&rows.hidden, &rows.head]) {
            true => cross_entropy::forward(rows, rule),
            false => super::cross_entropy::forward::<Self>(rows, rule),
        }
    }

    fn cross_entropy_backward(
        rows: Rows<Self>,
        log_total: CubeTensor,
        grad: CubeTensor,
        rule: Head,
    ) -> Of<Self> {
        match f32s(&[&rows.hidden, &rows.head, &log_total, &grad]) {
            true => cross_entropy::backward(rows, log_total, grad, rule),
            false => super::cross_entropy::backward::<Self>(rows, log_total, grad, rule),
        }
    }

    fn rows_backward(rows: usize, ids: CubeTensor, grad: CubeTensor) -> CubeTensor {
        match f32s(&[&grad]) {
            true => rows::backward(rows, ids, grad),
            false => super::embedding::backward::<Self>(rows, ids, grad),
        }
    }

    fn rows_added(sum: CubeTensor, ids: CubeTensor, grad: CubeTensor) -> CubeTensor {
        match f32s(&[&sum, &grad]) {
            true => rows::added(sum, ids, grad),
            false => super::embedding::added::<Self>(sum, ids, grad),
        }
    }

    fn sum_of_squares(x: CubeTensor) -> CubeTensor {
        match f32s(&[&x]) {
            true => rows::sum_of_squares(x),
            false => super::square::sum::<Self>(x),
        }
    }

    fn adamw(
        weights: CubeTensor,
        gradient: CubeTensor,
        moments: [CubeTensor; 2],
        scale: CubeTensor,
        update: AdamW,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        match f32s(&[&weights, &gradient, &moments[0], &moments[1], &scale]) {
            true => adamw::update(weights, gradient, moments, scale, update),
            false => super::adamw::update::<Self>(weights, gradient, moments, scale, update),
        }
    }
}
