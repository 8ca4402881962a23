//! LayerNorm and RMSNorm: a cube has some rows, and some of its units have each.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{UNITS, buffer, cubes, empty, for_each, like, own, total, whole};
use crate::config::Norm;
use crate::ops::Rule;

/// Units that have a row.
const AMONG: u32 = 32;

/// Rows of a cube.
const TOGETHER: u32 = UNITS / AMONG;

/// Rows whose part of the parameters' gradients is added up at once.
const BLOCK: usize = 64;

/// The row of this unit, which may be none of `x`.
#[cube]
fn own_row() -> usize {
    CUBE_POS * TOGETHER as usize + (UNIT_POS / AMONG) as usize
}

/// Where the row begins; of one that `x` has not, the last, so that all units of a cube meet where they must.
#[cube]
fn start(row: usize, x: &[f32], width: usize) -> usize {
    min(row * width, x.len() - width)
}

/// The first column of this unit, which also has every further [`AMONG`]th.
#[cube]
fn own_column() -> usize {
    (UNIT_POS % AMONG) as usize
}

/// What is subtracted from the row that begins at `start`, and what it is then multiplied with.
#[cube]
fn statistics(
    x: &[f32],
    start: usize,
    width: usize,
    epsilon: f32,
    room: &mut Shared<[f32]>,
    #[comptime] centred: bool,
) -> (f32, f32) {
    let share = 1.0f32 / width as f32;
    let mut mean = 0.0f32;
    if centred {
        let mut sum = 0.0f32;
        for i in range_stepped(own_column(), width, AMONG as usize) {
            sum += x[start + i];
        }
        mean = total(sum, room, AMONG) * share;
    }
    let mut squares = 0.0f32;
    for i in range_stepped(own_column(), width, AMONG as usize) {
        let away = x[start + i] - mean;
        squares += away * away;
    }
    let variance = total(squares, room, AMONG) * share;
    (mean, 1.0f32 / (variance + epsilon).sqrt())
}

#[cube(launch_unchecked)]
fn forward_kernel(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    output: &mut [f32],
    width: usize,
    epsilon: f32,
    #[comptime] centred: bool,
    #[comptime] biased: bool,
) {
    let mut room = Shared::<[f32]>::new_slice(UNITS as usize);
    let row = own_row();
    let start = start(row, x, width);
    let (mean, scale) = statistics(x, start, width, epsilon, &mut room, centred);
    if row * width < x.len() {
        for i in range_stepped(own_column(), width, AMONG as usize) {
            let mut y = (x[start + i] - mean) * scale * gamma[i];
            if biased {
                y += beta[i];
            }
            output[start + i] = y;
        }
    }
}

/// The input's gradient, added to what is there where it is `added`; and for those of the parameters each row's mean and
/// scale, `[rows, 2]`.
#[cube(launch_unchecked)]
fn backward_kernel(
    x: &[f32],
    gamma: &[f32],
    grad: &[f32],
    of_x: &mut [f32],
    found: &mut [f32],
    width: usize,
    epsilon: f32,
    #[comptime] centred: bool,
    #[comptime] added: bool,
) {
    let mut room = Shared::<[f32]>::new_slice(UNITS as usize);
    let row = own_row();
    let start = start(row, x, width);
    let (mean, scale) = statistics(x, start, width, epsilon, &mut room, centred);
    let mut across = 0.0f32;
    let mut along = 0.0f32;
    for i in range_stepped(own_column(), width, AMONG as usize) {
        let g = grad[start + i] * gamma[i];
        across += g;
        along += g * ((x[start + i] - mean) * scale);
    }
    let share = 1.0f32 / width as f32;
    let along = total(along, &mut room, AMONG) * share;
    if centred {
        across = total(across, &mut room, AMONG) * share;
    } else {
        across = 0.0f32;
    }
    if row * width < x.len() {
        for i in range_stepped(own_column(), width, AMONG as usize) {
            let g = grad[start + i] * gamma[i];
            let normal = (x[start + i] - mean) * scale;
            let mut of = (g - across - normal * along) * scale;
            if added {
                of += of_x[start + i];
            }
            of_x[start + i] = of;
        }
        if own_column() == 0 {
            found[2 * row] = mean;
            found[2 * row + 1] = scale;
        }
    }
}

/// What each block of rows adds to the gradients of gain and bias, `[blocks, width]`: one unit has a column of it.
#[cube(launch_unchecked)]
fn blocks_kernel(
    x: &[f32],
    grad: &[f32],
    found: &[f32],
    of_gamma: &mut [f32],
    of_beta: &mut [f32],
    width: usize,
) {
    if ABSOLUTE_POS < of_gamma.len() {
        let column = ABSOLUTE_POS % width;
        let first = ABSOLUTE_POS / width * BLOCK;
        let mut gamma = 0.0f32;
        let mut beta = 0.0f32;
        for row in first..min(first + BLOCK, x.len() / width) {
            let g = grad[row * width + column];
            gamma += g * ((x[row * width + column] - found[2 * row]) * found[2 * row + 1]);
            beta += g;
        }
        of_gamma[ABSOLUTE_POS] = gamma;
        of_beta[ABSOLUTE_POS] = beta;
    }
}

/// The sums of two matrices' rows.
#[cube(launch_unchecked)]
fn sums_kernel(
    of_gamma: &[f32],
    of_beta: &[f32],
    gamma: &mut [f32],
    beta: &mut [f32],
    width: usize,
) {
    let column = ABSOLUTE_POS;
    if column < width {
        let mut gammas = 0.0f32;
        let mut betas = 0.0f32;
        for block in 0..of_gamma.len() / width {
            gammas += of_gamma[block * width + column];
            betas += of_beta[block * width + column];
        }
        gamma[column] = gammas;
        beta[column] = betas;
    }
}

fn centred(rule: Rule) -> bool {
    matches!(rule.norm, Norm::Layer)
}

pub(super) fn forward(
    x: CubeTensor,
    gamma: CubeTensor,
    beta: Option<CubeTensor>,
    rule: Rule,
) -> CubeTensor {
    let (x, gamma, beta) = (whole(x), whole(gamma), beta.map(whole));
    let [rows, width]: [usize; 2] = x.meta.shape().dims();
    let output = like(&x);
    // SAFETY: rows that `x` has not are neither read nor written, and gain and bias have as many columns.
    unsafe {
        forward_kernel::launch_unchecked(
            &x.client,
            cubes(&x, rows.div_ceil(TOGETHER as usize)),
            CubeDim::new_1d(UNITS),
            buffer(&x),
            buffer(&gamma),
            buffer(beta.as_ref().unwrap_or(&gamma)),
            buffer(&output),
            width,
            rule.epsilon as f32,
            centred(rule),
            beta.is_some(),
        );
    }
    output
}

pub(super) fn backward(
    x: CubeTensor,
    gamma: CubeTensor,
    grad: CubeTensor,
    onto: Option<CubeTensor>,
    rule: Rule,
    wanted: [bool; 3],
) -> [Option<CubeTensor>; 3] {
    let (x, gamma, grad) = (whole(x), whole(gamma), whole(grad));
    let [rows, width]: [usize; 2] = x.meta.shape().dims();
    let units = CubeDim::new_1d(UNITS);
    let added = onto.is_some();
    let of_x = onto.map_or_else(|| like(&x), own);
    let found = empty(&x, [rows, 2]);
    // SAFETY: as in `forward`.
    unsafe {
        backward_kernel::launch_unchecked(
            &x.client,
            cubes(&x, rows.div_ceil(TOGETHER as usize)),
            units,
            buffer(&x),
            buffer(&gamma),
            buffer(&grad),
            buffer(&of_x),
            buffer(&found),
            width,
            rule.epsilon as f32,
            centred(rule),
            added,
        );
    }
    let [of_gamma, of_beta] = match wanted[1] || wanted[2] {
        true => parameters(&x, &grad, &found).map(Some),
        false => [None, None],
    };
    [
        wanted[0].then_some(of_x),
        of_gamma.filter(|_| wanted[1]),
        of_beta.filter(|_| wanted[2]),
    ]
}

/// Gradients of gain and bias, given each row's mean and scale.
fn parameters(x: &CubeTensor, grad: &CubeTensor, found: &CubeTensor) -> [CubeTensor; 2] {
    let [rows, width]: [usize; 2] = x.meta.shape().dims();
    let units = CubeDim::new_1d(UNITS);
    let blocks = rows.div_ceil(BLOCK);
    let parts = [(); 2].map(|()| empty(x, [blocks, width]));
    let sums = [(); 2].map(|()| empty(x, [width]));
    // SAFETY: units beyond the last column of the last block have nothing to do, and rows end with the last of them.
    unsafe {
        blocks_kernel::launch_unchecked(
            &x.client,
            for_each(x, blocks * width),
            units,
            buffer(x),
            buffer(grad),
            buffer(found),
            buffer(&parts[0]),
            buffer(&parts[1]),
            width,
        );
        sums_kernel::launch_unchecked(
            &x.client,
            for_each(x, width),
            units,
            buffer(&parts[0]),
            buffer(&parts[1]),
            buffer(&sums[0]),
            buffer(&sums[1]),
            width,
        );
    }
    sums
}
