//! Sums: of squares, and of rows of a table's gradient.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{UNITS, buffer, cubes, elem, empty, empty_of, for_each, own, total, whole};

/// Cubes that sum up at most.
const CUBES: usize = 1024;

/// Of `count` cubes each sums up what its units come upon in as long steps as all of them are.
#[cube(launch_unchecked)]
fn squares_kernel(x: &[f32], sums: &mut [f32]) {
    let mut room = Shared::<[f32]>::new_slice(UNITS as usize);
    let step = sums.len() * UNITS as usize;
    let mut sum = 0.0f32;
    for i in range_stepped(ABSOLUTE_POS, x.len(), step) {
        sum += x[i] * x[i];
    }
    let sum = total(sum, &mut room, UNITS);
    if UNIT_POS == 0 && CUBE_POS < sums.len() {
        sums[CUBE_POS] = sum;
    }
}

/// One cube's sum.
#[cube(launch_unchecked)]
fn sum_kernel(x: &[f32], sum: &mut [f32]) {
    let mut room = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut mine = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, x.len(), UNITS as usize) {
        mine += x[i];
    }
    let all = total(mine, &mut room, UNITS);
    if UNIT_POS == 0 {
        sum[0] = all;
    }
}

pub(super) fn sum_of_squares(x: CubeTensor) -> CubeTensor {
    let x = whole(x);
    let units = CubeDim::new_1d(UNITS);
    let count = x.meta.num_elements().div_ceil(16 * UNITS as usize);
    let count = count.clamp(1, CUBES);
    let (parts, sum) = (empty(&x, [count]), empty(&x, [1]));
    // SAFETY: loops end with the tensors that they are about.
    unsafe {
        squares_kernel::launch_unchecked(
            &x.client,
            cubes(&x, count),
            units,
            buffer(&x),
            buffer(&parts),
        );
        let one = CubeCount::new_single();
        sum_kernel::launch_unchecked(&x.client, one, units, buffer(&parts), buffer(&sum));
    }
    sum
}

/// For each of the ids, whether none before it is the same, and the place of the next that is, or of the end.
#[cube(launch_unchecked)]
fn same_kernel<I: Int>(
    ids: &[I],
    leads: &mut [u32],
    next: &mut [u32],
    #[define(I)] _integers: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place < ids.len() {
        let id = ids[place];
        let mut first = 1u32;
        let mut after = ids.len() as u32;
        for back in 0..ids.len() {
            // From the end, so that of those behind it the nearest is met last.
            let other = ids.len() - 1 - back;
            if ids[other] == id {
                if other < place {
                    first = 0u32;
                } else if other > place {
                    after = other as u32;
                }
            }
        }
        leads[place] = first;
        next[place] = after;
    }
}

/// Adds, to a row of a table, all rows of the gradient that are its: one unit has a column of it.
#[cube(launch_unchecked)]
fn add_kernel<I: Int>(
    sum: &mut [f32],
    ids: &[I],
    leads: &[u32],
    next: &[u32],
    grad: &[f32],
    width: usize,
    #[define(I)] _integers: ElemType,
) {
    let place = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if place < ids.len() && leads[place] == 1u32 {
        let at = usize::cast_from(ids[place]) * width + column;
        if at < sum.len() {
            let mut all = sum[at];
            let mut row = place;
            while row < ids.len() {
                all += grad[row * width + column];
                row = next[row] as usize;
            }
            sum[at] = all;
        }
    }
}

pub(super) fn added(sum: CubeTensor, ids: CubeTensor, grad: CubeTensor) -> CubeTensor {
    let (sum, ids, grad) = (own(sum), whole(ids), whole(grad));
    let [count, width]: [usize; 2] = grad.meta.shape().dims();
    let units = CubeDim::new_1d(UNITS);
    let [leads, next] = [(); 2].map(|()| empty_of(&grad, [count], DType::U32));
    // SAFETY: places are bounded by the ids' number, which the gradient has of rows, and elements of the table by its.
    unsafe {
        same_kernel::launch_unchecked(
            &sum.client,
            for_each(&sum, count),
            units,
            buffer(&ids),
            buffer(&leads),
            buffer(&next),
            elem(&ids),
        );
        add_kernel::launch_unchecked(
            &sum.client,
            for_each(&sum, count * width),
            units,
            buffer(&sum),
            buffer(&ids),
            buffer(&leads),
            buffer(&next),
            buffer(&grad),
            width,
            elem(&ids),
        );
    }
    sum
}

pub(super) fn backward(rows: usize, ids: CubeTensor, grad: CubeTensor) -> CubeTensor {
    let shape = Shape::new([rows, grad.meta.shape()[1]]);
    let nothing = CubeBackend::float_zeros(shape, &grad.device, grad.dtype.into());
    added(nothing, ids, grad)
}
