//! Sums: of squares, and of rows of a table's gradient, for which ids are sorted.

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

/// Ids and their places, and as many of neither as make the next power of two, which stand behind all ids when sorted.
#[cube(launch_unchecked)]
fn number_kernel<I: Int>(
    ids: &[I],
    sorted: &mut [u32],
    places: &mut [u32],
    #[define(I)] _integers: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place < sorted.len() {
        // What is sorted before no id.
        let mut id = 4294967295u32;
        if place < ids.len() {
            id = u32::cast_from(ids[place]);
        }
        sorted[place] = id;
        places[place] = place as u32;
    }
}

/// A step of Batcher's bitonic sort, of ids and then of their places: numbers `distance` apart are put in order, the
/// lower first where the bit `block` of their place is 0.
#[cube(launch_unchecked)]
fn sort_kernel(sorted: &mut [u32], places: &mut [u32], block: usize, distance: usize) {
    // The unit has the pair whose first place has the bit `distance` left out.
    let first = ABSOLUTE_POS / distance * (2 * distance) + ABSOLUTE_POS % distance;
    let second = first + distance;
    if second < sorted.len() {
        let (id, other) = (sorted[first], sorted[second]);
        let (place, other_place) = (places[first], places[second]);
        let above = id > other || (id == other && place > other_place);
        let upwards = first & block == 0;
        if (above && upwards) || (!above && !upwards) {
            sorted[first] = other;
            sorted[second] = id;
            places[first] = other_place;
            places[second] = place;
        }
    }
}

/// Adds, to a row of a table, all rows of the gradient that are its, in the order of their places: one unit has a column
/// of it.
#[cube(launch_unchecked)]
fn add_kernel(
    sum: &mut [f32],
    sorted: &[u32],
    places: &[u32],
    grad: &[f32],
    count: usize,
    width: usize,
) {
    let number = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if number < count {
        let id = sorted[number];
        let at = id as usize * width + column;
        let mut leads = at < sum.len();
        if number > 0 && sorted[max(number, 1usize) - 1] == id {
            leads = false;
        }
        if leads {
            let mut all = sum[at];
            let mut next = number;
            while next < count && sorted[min(next, count - 1)] == id {
                all += grad[places[next] as usize * width + column];
                next += 1usize;
            }
            sum[at] = all;
        }
    }
}

/// Ids in order, those that are equal by their places, and those places; with `n log² n` comparisons, and the same in every
/// run.
fn sorted(ids: &CubeTensor, beside: &CubeTensor) -> [CubeTensor; 2] {
    let count = ids.meta.num_elements().next_power_of_two();
    let [sorted, places] = [(); 2].map(|()| empty_of(beside, [count], DType::U32));
    let units = CubeDim::new_1d(UNITS);
    // SAFETY: places are bounded by the length of the tensors that they are places of.
    unsafe {
        number_kernel::launch_unchecked(
            &ids.client,
            for_each(ids, count),
            units,
            buffer(ids),
            buffer(&sorted),
            buffer(&places),
            elem(ids),
        );
        let mut block = 2;
        while block <= count {
            let mut distance = block / 2;
            while distance > 0 {
                sort_kernel::launch_unchecked(
                    &ids.client,
                    for_each(ids, count / 2),
                    units,
                    buffer(&sorted),
                    buffer(&places),
                    block,
                    distance,
                );
                distance /= 2;
            }
            block *= 2;
        }
    }
    [sorted, places]
}

pub(super) fn added(sum: CubeTensor, ids: CubeTensor, grad: CubeTensor) -> CubeTensor {
    let (sum, ids, grad) = (own(sum), whole(ids), whole(grad));
    let [count, width]: [usize; 2] = grad.meta.shape().dims();
    if count == 0 {
        return sum;
    }
    let [ids, places] = sorted(&ids, &grad);
    // SAFETY: sorted ids begin with `count` that there are, as many as rows of the gradient, and elements of the table are
    // bounded by its.
    unsafe {
        add_kernel::launch_unchecked(
            &sum.client,
            for_each(&sum, count * width),
            CubeDim::new_1d(UNITS),
            buffer(&sum),
            buffer(&ids),
            buffer(&places),
            buffer(&grad),
            count,
            width,
        );
    }
    sum
}

pub(super) fn backward(rows: usize, ids: CubeTensor, grad: CubeTensor) -> CubeTensor {
    let shape = Shape::new([rows, grad.meta.shape()[1]]);
    let nothing = CubeBackend::float_zeros(shape, &grad.device, grad.dtype.into());
    added(nothing, ids, grad)
}
