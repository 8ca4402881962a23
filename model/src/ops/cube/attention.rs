//! Attention tile by tile, as products of matrices that pass through shared memory.
//!
//! A cube has 32 queries of one head, or 32 keys on the way back, and a block of 32 × 32 scores at a time, of which
//! each of its 64 units has 4 × 4. Of matrices with more than 32 columns such blocks are summed up chunk by chunk, so
//! that shared memory is the same for heads of any width.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{buffer, cubes, empty, whole};
use crate::ops::Heads;

/// Rows and columns of a block.
const TILE: usize = 32;

/// Numbers from one row of a block to the next in shared memory: with one more than there are, rows begin in different
/// banks.
const PITCH: usize = TILE + 1;

/// Units of a cube along each side of a block.
const SIDE: usize = 8;

/// Rows, and columns, of a block that a unit has: every eighth.
const EACH: usize = TILE / SIDE;

/// Units of a cube.
const UNITS: usize = SIDE * SIDE;

/// Numbers of a block that a unit has.
const OWN: usize = EACH * EACH;

/// Below any score: what is not seen. Not minus infinity, on which WGSL leaves arithmetic to the driver.
const HIDDEN: f32 = -1e30;

/// Where heads lie; as [`Heads`].
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Layout {
    length: usize,
    heads: usize,
    kv_heads: usize,
    /// Columns of a head.
    width: usize,
    /// How many positions a query sees.
    window: usize,
    /// `1 / √width`
    scale: f32,
}

/// Some rows of a head in a matrix.
#[derive(CubeType, Clone, Copy)]
struct Rows {
    /// Where the first of them begins.
    start: usize,
    /// From one to the next.
    stride: usize,
    count: usize,
    /// Columns of a head.
    width: usize,
}

#[cube]
impl Layout {
    fn queries(&self, sequence: usize, head: usize, first: usize) -> Rows {
        self.rows(sequence, head, self.parts(), first)
    }

    fn keys(&self, sequence: usize, kv_head: usize, first: usize) -> Rows {
        self.rows(sequence, self.heads + kv_head, self.parts(), first)
    }

    fn values(&self, sequence: usize, kv_head: usize, first: usize) -> Rows {
        let part = self.heads + self.kv_heads + kv_head;
        self.rows(sequence, part, self.parts(), first)
    }

    fn output(&self, sequence: usize, head: usize, first: usize) -> Rows {
        self.rows(sequence, head, self.heads, first)
    }

    /// Heads of queries, keys and values.
    fn parts(&self) -> usize {
        self.heads + 2usize * self.kv_heads
    }

    /// A tile of positions, or as many as there are from `first` on, of one of so many parts of a matrix's columns.
    fn rows(&self, sequence: usize, part: usize, parts: usize, first: usize) -> Rows {
        let stride = parts * self.width;
        Rows {
            start: (sequence * self.length + first) * stride + part * self.width,
            stride,
            count: min(TILE, self.length - first),
            width: self.width,
        }
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        key <= query && query < key + self.window
    }

    /// The first position that the query at `position` sees.
    fn first_seen(&self, position: usize) -> usize {
        position + 1usize - min(self.window, position + 1usize)
    }

    fn tiles(&self) -> usize {
        self.length.div_ceil(TILE)
    }
}

/// The tile of queries that is a cube's.
#[derive(CubeType, Clone, Copy)]
struct Tile {
    /// The head's number among those of all sequences.
    head_of_all: usize,
    sequence: usize,
    head: usize,
    kv_head: usize,
    /// The first query.
    first: usize,
    /// The first position that it sees.
    first_seen: usize,
    /// Tiles of the positions that its queries see.
    blocks: usize,
}

#[cube]
impl Layout {
    /// Of a cube beyond the last head, none of any.
    fn tile(&self) -> Tile {
        let tiles = self.tiles();
        let head_of_all = CUBE_POS / tiles;
        let head = head_of_all % self.heads;
        // The last queries see most keys: they begin first.
        let first = (tiles - 1 - CUBE_POS % tiles) * TILE;
        let first_seen = self.first_seen(first);
        Tile {
            head_of_all,
            sequence: head_of_all / self.heads,
            head,
            kv_head: head / (self.heads / self.kv_heads),
            first,
            first_seen,
            blocks: (min(first + TILE, self.length) - first_seen).div_ceil(TILE),
        }
    }
}

/// The `i`th row of a block that a unit has.
#[cube]
fn row(i: usize) -> usize {
    UNIT_POS as usize / SIDE + SIDE * i
}

/// The `j`th column of a block that a unit has.
#[cube]
fn column(j: usize) -> usize {
    UNIT_POS as usize % SIDE + SIDE * j
}

/// So many numbers in registers, all 0.
#[cube]
fn zeros(#[comptime] count: usize) -> Array<f32> {
    let mut numbers = Array::<f32>::new(count);
    #[unroll]
    for i in 0..count {
        numbers[i] = 0.0f32;
    }
    numbers
}

/// Reads a block of `rows`, the columns of a chunk of them, with 0 where there is nothing.
#[cube]
fn load(to: &mut Shared<[f32]>, from: &[f32], rows: &Rows, chunk: usize) {
    let unit = UNIT_POS as usize;
    let to_column = unit % TILE;
    let from_column = chunk * TILE + to_column;
    for i in 0..TILE * TILE / UNITS {
        let row = unit / TILE + i * (UNITS / TILE);
        let mut number = 0.0f32;
        if row < rows.count && from_column < rows.width {
            number = from[rows.start + row * rows.stride + from_column];
        }
        to[row * PITCH + to_column] = number;
    }
}

/// `a bᵀ` of all columns of two matrices' rows; `a` and `b` are room for blocks of them.
#[cube]
fn product_t(
    a: &mut Shared<[f32]>,
    b: &mut Shared<[f32]>,
    left: &[f32],
    left_rows: &Rows,
    right: &[f32],
    right_rows: &Rows,
    #[comptime] chunks: usize,
) -> Array<f32> {
    let mut sums = zeros(OWN);
    for chunk in 0..chunks {
        sync_cube();
        load(a, left, left_rows, chunk);
        load(b, right, right_rows, chunk);
        sync_cube();
        for k in 0..TILE {
            let mut of_a = Array::<f32>::new(EACH);
            let mut of_b = Array::<f32>::new(EACH);
            #[unroll]
            for i in 0..EACH {
                of_a[i] = a[row(i) * PITCH + k];
                of_b[i] = b[column(i) * PITCH + k];
            }
            #[unroll]
            for i in 0..EACH {
                #[unroll]
                for j in 0..EACH {
                    sums[i * EACH + j] += of_a[i] * of_b[j];
                }
            }
        }
    }
    sums
}

/// Adds `a b` to `sums`: a block times rows of a matrix with all their columns; `b` is room for a block of those.
#[cube]
fn add_product(
    sums: &mut Array<f32>,
    a: &Shared<[f32]>,
    b: &mut Shared<[f32]>,
    right: &[f32],
    right_rows: &Rows,
    #[comptime] chunks: usize,
) {
    #[unroll]
    for chunk in 0..chunks {
        sync_cube();
        load(b, right, right_rows, chunk);
        sync_cube();
        for k in 0..TILE {
            let mut of_a = Array::<f32>::new(EACH);
            let mut of_b = Array::<f32>::new(EACH);
            #[unroll]
            for i in 0..EACH {
                of_a[i] = a[row(i) * PITCH + k];
                of_b[i] = b[k * PITCH + column(i)];
            }
            #[unroll]
            for i in 0..EACH {
                #[unroll]
                for j in 0..EACH {
                    sums[chunk * OWN + i * EACH + j] += of_a[i] * of_b[j];
                }
            }
        }
    }
}

/// Writes what `add_product` has summed up.
#[cube]
fn store(to: &mut [f32], rows: &Rows, sums: &Array<f32>, #[comptime] chunks: usize) {
    #[unroll]
    for i in 0..EACH {
        if row(i) < rows.count {
            let start = rows.start + row(i) * rows.stride;
            #[unroll]
            for chunk in 0..chunks {
                #[unroll]
                for j in 0..EACH {
                    let column = chunk * TILE + column(j);
                    if column < rows.width {
                        to[start + column] = sums[chunk * OWN + i * EACH + j];
                    }
                }
            }
        }
    }
}

/// Queries of a tile of one head against their keys and values, the scores' maximum and the sum of their exponentials
/// kept up with as the tiles of keys pass by.
#[cube(launch_unchecked)]
fn forward_kernel(
    qkv: &[f32],
    output: &mut [f32],
    log_total: &mut [f32],
    layout: &Layout,
    #[comptime] chunks: usize,
) {
    let tile = layout.tile();
    if tile.head_of_all * layout.length >= log_total.len() {
        terminate!();
    }
    let queries = layout.queries(tile.sequence, tile.head, tile.first);

    let mut a = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut b = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut weights = Shared::<[f32]>::new_slice(TILE * PITCH);
    // What the units of a row tell each other.
    let mut told = Shared::<[f32]>::new_slice(TILE * SIDE);
    let mut maxima = Array::<f32>::new(EACH);
    #[unroll]
    for i in 0..EACH {
        maxima[i] = HIDDEN;
    }
    // Of the columns that are this unit's.
    let mut totals = zeros(EACH);
    let mut mixed = zeros(chunks * OWN);

    for block in 0..tile.blocks {
        let first_key = tile.first_seen + block * TILE;
        let keys = layout.keys(tile.sequence, tile.kv_head, first_key);
        let mut scores = product_t(&mut a, &mut b, qkv, &queries, qkv, &keys, chunks);
        #[unroll]
        for i in 0..EACH {
            let mut largest = f32::new(HIDDEN);
            #[unroll]
            for j in 0..EACH {
                let seen = layout.sees(tile.first + row(i), first_key + column(j));
                let score = select(seen, scores[i * EACH + j] * layout.scale, HIDDEN);
                scores[i * EACH + j] = score;
                largest = max(largest, score);
            }
            told[row(i) * SIDE + column(0)] = largest;
        }
        sync_cube();
        #[unroll]
        for i in 0..EACH {
            let mut largest = maxima[i];
            #[unroll]
            for unit in 0..SIDE {
                largest = max(largest, told[row(i) * SIDE + unit]);
            }
            let kept = (maxima[i] - largest).exp();
            maxima[i] = largest;
            totals[i] *= kept;
            #[unroll]
            for j in 0..EACH {
                let score = scores[i * EACH + j];
                let weight = select(score <= HIDDEN, 0.0f32, (score - largest).exp());
                weights[row(i) * PITCH + column(j)] = weight;
                totals[i] += weight;
            }
            #[unroll]
            for chunk in 0..chunks {
                #[unroll]
                for j in 0..EACH {
                    mixed[chunk * OWN + i * EACH + j] *= kept;
                }
            }
        }
        let values = layout.values(tile.sequence, tile.kv_head, first_key);
        add_product(&mut mixed, &weights, &mut b, qkv, &values, chunks);
    }

    #[unroll]
    for i in 0..EACH {
        told[row(i) * SIDE + column(0)] = totals[i];
    }
    sync_cube();
    #[unroll]
    for i in 0..EACH {
        let mut total = 0.0f32;
        #[unroll]
        for unit in 0..SIDE {
            total += told[row(i) * SIDE + unit];
        }
        if column(0) == 0 && row(i) < queries.count {
            let query = tile.head_of_all * layout.length + tile.first + row(i);
            log_total[query] = maxima[i] + total.ln();
        }
        #[unroll]
        for chunk in 0..chunks {
            #[unroll]
            for j in 0..EACH {
                mixed[chunk * OWN + i * EACH + j] /= total;
            }
        }
    }
    let rows = layout.output(tile.sequence, tile.head, tile.first);
    store(output, &rows, &mixed, chunks);
}

/// `do_t · out_t` of every query, `[batch, heads, length]`.
#[cube(launch_unchecked)]
fn along_kernel(output: &[f32], grad: &[f32], along: &mut [f32], layout: &Layout) {
    let query = ABSOLUTE_POS;
    if query < along.len() {
        let head_of_all = query / layout.length;
        let position = query % layout.length;
        let sequence = head_of_all / layout.heads;
        let rows = layout.output(sequence, head_of_all % layout.heads, position);
        let mut sum = 0.0f32;
        for column in 0..layout.width {
            sum += grad[rows.start + column] * output[rows.start + column];
        }
        along[query] = sum;
    }
}

/// The probability that a score stands for: 0 where it is not `seen`.
#[cube]
fn probability(seen: bool, score: f32, log_total: f32) -> f32 {
    // Of a score that is not seen the exponential may overflow.
    let exponent = select(seen, score - log_total, 0.0f32);
    select(seen, exponent.exp(), 0.0f32)
}

/// Gradients of the queries of a tile of one head.
#[cube(launch_unchecked)]
fn queries_kernel(
    qkv: &[f32],
    grad: &[f32],
    log_total: &[f32],
    along: &[f32],
    of_qkv: &mut [f32],
    layout: &Layout,
    #[comptime] chunks: usize,
) {
    let tile = layout.tile();
    if tile.head_of_all * layout.length >= log_total.len() {
        terminate!();
    }
    let queries = layout.queries(tile.sequence, tile.head, tile.first);
    let grads = layout.output(tile.sequence, tile.head, tile.first);

    let mut a = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut b = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut of_scores = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut of_queries = zeros(chunks * OWN);
    let mut log_totals = zeros(EACH);
    let mut alongs = zeros(EACH);
    #[unroll]
    for i in 0..EACH {
        if row(i) < queries.count {
            let query = tile.head_of_all * layout.length + tile.first + row(i);
            log_totals[i] = log_total[query];
            alongs[i] = along[query];
        }
    }

    for block in 0..tile.blocks {
        let first_key = tile.first_seen + block * TILE;
        let keys = layout.keys(tile.sequence, tile.kv_head, first_key);
        let values = layout.values(tile.sequence, tile.kv_head, first_key);
        let scores = product_t(&mut a, &mut b, qkv, &queries, qkv, &keys, chunks);
        let of_weights = product_t(&mut a, &mut b, grad, &grads, qkv, &values, chunks);
        #[unroll]
        for i in 0..EACH {
            #[unroll]
            for j in 0..EACH {
                let seen = layout.sees(tile.first + row(i), first_key + column(j));
                let score = scores[i * EACH + j] * layout.scale;
                let weight = probability(seen, score, log_totals[i]);
                of_scores[row(i) * PITCH + column(j)] =
                    weight * (of_weights[i * EACH + j] - alongs[i]) * layout.scale;
            }
        }
        add_product(&mut of_queries, &of_scores, &mut b, qkv, &keys, chunks);
    }
    store(of_qkv, &queries, &of_queries, chunks);
}

/// Gradients of a tile of one head's keys and values: of all queries that see them, head by head.
#[cube(launch_unchecked)]
fn keys_kernel(
    qkv: &[f32],
    grad: &[f32],
    log_total: &[f32],
    along: &[f32],
    of_qkv: &mut [f32],
    layout: &Layout,
    #[comptime] chunks: usize,
) {
    let tiles = layout.tiles();
    let group = layout.heads / layout.kv_heads;
    let head_of_all = CUBE_POS / tiles;
    if head_of_all * group * layout.length >= log_total.len() {
        terminate!();
    }
    let sequence = head_of_all / layout.kv_heads;
    let kv_head = head_of_all % layout.kv_heads;
    // The first keys are seen by most queries.
    let first = CUBE_POS % tiles * TILE;
    let keys = layout.keys(sequence, kv_head, first);
    let values = layout.values(sequence, kv_head, first);

    let mut a = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut b = Shared::<[f32]>::new_slice(TILE * PITCH);
    // Keys by queries.
    let mut block = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut of_keys = zeros(chunks * OWN);
    let mut of_values = zeros(chunks * OWN);

    let last_query = min(layout.length, first + keys.count - 1 + layout.window);
    let blocks = (last_query - first).div_ceil(TILE);
    for step in 0..group * blocks {
        let head = kv_head * group + step / blocks;
        let first_query = first + step % blocks * TILE;
        let queries = layout.queries(sequence, head, first_query);
        let grads = layout.output(sequence, head, first_query);
        let scores = product_t(&mut a, &mut b, qkv, &keys, qkv, &queries, chunks);
        let mut of_scores = product_t(&mut a, &mut b, qkv, &values, grad, &grads, chunks);
        #[unroll]
        for j in 0..EACH {
            let mut total = 0.0f32;
            let mut along_query = 0.0f32;
            if column(j) < queries.count {
                let query =
                    (sequence * layout.heads + head) * layout.length + first_query + column(j);
                total = log_total[query];
                along_query = along[query];
            }
            #[unroll]
            for i in 0..EACH {
                let seen = layout.sees(first_query + column(j), first + row(i));
                let score = scores[i * EACH + j] * layout.scale;
                let weight = probability(seen, score, total);
                block[row(i) * PITCH + column(j)] = weight;
                of_scores[i * EACH + j] =
                    weight * (of_scores[i * EACH + j] - along_query) * layout.scale;
            }
        }
        add_product(&mut of_values, &block, &mut b, grad, &grads, chunks);
        sync_cube();
        #[unroll]
        for i in 0..EACH {
            #[unroll]
            for j in 0..EACH {
                block[row(i) * PITCH + column(j)] = of_scores[i * EACH + j];
            }
        }
        add_product(&mut of_keys, &block, &mut b, qkv, &queries, chunks);
    }
    store(of_qkv, &keys, &of_keys, chunks);
    store(of_qkv, &values, &of_values, chunks);
}

/// What kernels are told about heads that are so wide.
fn layout(heads: Heads, width: usize) -> LayoutLaunch {
    LayoutLaunch::new(
        heads.length,
        heads.heads,
        heads.kv_heads,
        width,
        heads
            .window
            .map_or(heads.length, |window| window.min(heads.length)),
        (width as f64).powf(-0.5) as f32,
    )
}

/// Cubes that have a tile of each of so many heads.
fn tiles(tensor: &CubeTensor, heads: Heads, of: usize) -> CubeCount {
    cubes(tensor, heads.batch * of * heads.length.div_ceil(TILE))
}

pub(super) fn forward(qkv: CubeTensor, heads: Heads) -> (CubeTensor, CubeTensor) {
    let qkv = whole(qkv);
    let width = heads.head_width(qkv.meta.shape()[1]);
    let output = empty(&qkv, [heads.batch * heads.length, heads.heads * width]);
    let log_total = empty(&qkv, [heads.batch, heads.heads, heads.length]);
    // SAFETY: rows and columns are bounded by those that the layout has, and the tensors have it.
    unsafe {
        forward_kernel::launch_unchecked(
            &qkv.client,
            tiles(&qkv, heads, heads.heads),
            CubeDim::new_1d(UNITS as u32),
            buffer(&qkv),
            buffer(&output),
            buffer(&log_total),
            layout(heads, width),
            width.div_ceil(TILE),
        );
    }
    (output, log_total)
}

pub(super) fn backward(
    qkv: CubeTensor,
    output: CubeTensor,
    log_total: CubeTensor,
    grad: CubeTensor,
    heads: Heads,
) -> CubeTensor {
    let [qkv, output, log_total, grad] = [qkv, output, log_total, grad].map(whole);
    let width = heads.head_width(qkv.meta.shape()[1]);
    let chunks = width.div_ceil(TILE);
    let along = empty(&qkv, [heads.batch, heads.heads, heads.length]);
    let of_qkv = empty(&qkv, [heads.batch * heads.length, qkv.meta.shape()[1]]);
    let units = CubeDim::new_1d(UNITS as u32);
    let queries = heads.batch * heads.heads * heads.length;
    // SAFETY: as in `forward`. Every head of every position is written by one cube of either kernel.
    unsafe {
        along_kernel::launch_unchecked(
            &qkv.client,
            cubes(&qkv, queries.div_ceil(UNITS)),
            units,
            buffer(&output),
            buffer(&grad),
            buffer(&along),
            layout(heads, width),
        );
        queries_kernel::launch_unchecked(
            &qkv.client,
            tiles(&qkv, heads, heads.heads),
            units,
            buffer(&qkv),
            buffer(&grad),
            buffer(&log_total),
            buffer(&along),
            buffer(&of_qkv),
            layout(heads, width),
            chunks,
        );
        keys_kernel::launch_unchecked(
            &qkv.client,
            tiles(&qkv, heads, heads.kv_heads),
            units,
            buffer(&qkv),
            buffer(&grad),
            buffer(&log_total),
            buffer(&along),
            buffer(&of_qkv),
            layout(heads, width),
            chunks,
        );
    }
    of_qkv
}
