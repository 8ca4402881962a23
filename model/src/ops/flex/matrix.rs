//! Flex's tensors as memory: views of matrices, their products, new ones.

use std::mem::MaybeUninit;

use crate::vectors::vectorized;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use gemm::Parallelism;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

/// Elements that a thread works on before it looks for more.
pub(super) const GRAIN: usize = 1 << 14;

/// A matrix somewhere in memory.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Of a tensor of rank 2 in f32.
    pub(super) fn of(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        let [rows, columns] = layout.shape().dims();
        let strides = layout.strides();
        let [row_stride, column_stride] = [strides[0] as usize, strides[1] as usize];
        let data = &tensor.storage::<f32>()[layout.start_offset()..];
        Self::new(data, [rows, columns], [row_stride, column_stride])
    }

    /// # Panics
    /// When the last element would lie beyond the data.
    pub(super) fn new(data: &'a [f32], shape: [usize; 2], strides: [usize; 2]) -> Self {
        let [rows, columns] = shape;
        let [row_stride, column_stride] = strides;
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * row_stride + (columns - 1) * column_stride;
            assert!(last < data.len(), "a matrix lies in its data");
        }
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride,
        }
    }

    /// Contiguous rows.
    pub(super) fn dense(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::new(data, [rows, columns], [columns, 1])
    }

    /// Elements from one row to the next, and from one column to the next.
    pub(super) fn strides(self) -> [usize; 2] {
        [self.row_stride, self.column_stride]
    }

    /// Whether each row is a slice of the data.
    pub(super) fn has_contiguous_rows(self) -> bool {
        self.column_stride == 1
    }

    /// A contiguous row.
    pub(super) fn row(self, row: usize) -> &'a [f32] {
        &self.data[row * self.row_stride..][..self.columns]
    }

    /// The data from an element on.
    pub(super) fn data_from(self, row: usize, column: usize) -> &'a [f32] {
        &self.data[row * self.row_stride + column * self.column_stride..]
    }

    /// One head of a sequence, `[rows, columns]`, of a tensor in f32 `[batch, heads, rows, columns]`.
    pub(super) fn of_head(tensor: &'a FlexTensor, sequence: usize, head: usize) -> Self {
        let layout = tensor.layout();
        let [_, _, rows, columns]: [usize; 4] = layout.shape().dims();
        let stride = |dim: usize| layout.strides()[dim] as usize;
        let start = layout.start_offset() + sequence * stride(0) + head * stride(1);
        let data = &tensor.storage::<f32>()[start..];
        Self::new(data, [rows, columns], [stride(2), stride(3)])
    }

    /// `count` rows from `start` on.
    pub(super) fn rows_from(self, start: usize, count: usize) -> Self {
        assert!(start + count <= self.rows, "the rows are there");
        Self {
            data: &self.data[start * self.row_stride..],
            rows: count,
            ..self
        }
    }

    /// `count` columns from `start` on.
    pub(super) fn columns_from(self, start: usize, count: usize) -> Self {
        assert!(start + count <= self.columns, "the columns are there");
        Self {
            data: &self.data[start * self.column_stride..],
            columns: count,
            ..self
        }
    }

    /// Transposed.
    pub(super) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// `target ← [target +] scale · a b`, each element in the same order of additions on any number of threads; added to
/// what is there where `add` says so.
///
/// # Safety
/// `target` is valid for `a.rows` rows of `b.columns` elements, which nobody else uses meanwhile.
unsafe fn product(
    target: *mut f32,
    add: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    parallelism: Parallelism,
) {
    assert_eq!(a.columns, b.rows, "inner sizes of a product");
    // SAFETY: matrices lie in their data, the target is the caller's promise.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            target,
            1,
            b.columns as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// The same with the target at the beginning of a buffer.
pub(super) fn product_into(
    target: &mut [f32],
    add: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    parallelism: Parallelism,
) {
    assert!(
        target.len() >= a.rows * b.columns,
        "there is room for a product"
    );
    // SAFETY: there is room for it, and it is borrowed.
    unsafe { product(target.as_mut_ptr(), add, a, b, scale, parallelism) }
}

/// `a b`, on all threads.
pub(super) fn multiplied(a: Matrix<'_>, b: Matrix<'_>) -> FlexTensor {
    let write = |output: &mut [MaybeUninit<f32>]| {
        let target = output.as_mut_ptr().cast();
        // SAFETY: the output has room for the product.
        unsafe { product(target, false, a, b, 1.0, Parallelism::Rayon(0)) }
    };
    // SAFETY: a product writes all of its elements.
    unsafe { made([a.rows, b.columns], write) }
}

/// A new tensor that `write` fills.
///
/// # Safety
/// `write` writes every element.
pub(super) unsafe fn made<const D: usize>(
    shape: [usize; D],
    write: impl FnOnce(&mut [MaybeUninit<f32>]),
) -> FlexTensor {
    let count = shape.iter().product();
    let mut data = Vec::with_capacity(count);
    write(&mut data.spare_capacity_mut()[..count]);
    // SAFETY: written, as the caller promises.
    unsafe { data.set_len(count) };
    tensor(data, shape)
}

pub(super) fn tensor<const D: usize>(data: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    let layout = Layout::contiguous(Shape::new(shape));
    FlexTensor::new(Bytes::from_elems(data), layout, DType::F32)
}

/// A new tensor of this shape, `block` elements at a time, on all threads: `write(start, elements)` writes those from
/// `start` on.
///
/// # Safety
/// `write` writes every element.
pub(super) unsafe fn made_by_blocks<const D: usize>(
    shape: [usize; D],
    block: usize,
    write: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
) -> FlexTensor {
    let write = |output: &mut [MaybeUninit<f32>]| {
        let blocks = output.par_chunks_mut(block).enumerate();
        blocks.for_each(|(number, output)| {
            vectorized(
                #[inline(always)]
                || write(number * block, output),
            );
        });
    };
    // SAFETY: the caller's promise.
    unsafe { made(shape, write) }
}

/// Rows of so many elements that make up a block.
pub(super) fn rows_of_a_block(width: usize) -> usize {
    (GRAIN / width.max(1)).max(1)
}

/// A new matrix, a row at a time: `write(number, row)`.
///
/// # Safety
/// `write` writes every element.
pub(super) unsafe fn made_by_rows(
    shape: [usize; 2],
    write: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
) -> FlexTensor {
    let width = shape[1].max(1);
    // SAFETY: the caller's promise.
    unsafe {
        made_by_blocks(
            shape,
            rows_of_a_block(width) * width,
            #[inline(always)]
            |start, output| {
                for (row, output) in output.chunks_exact_mut(width).enumerate() {
                    write(start / width + row, output);
                }
            },
        )
    }
}

/// All elements of a tensor in f32, in order; where it is not contiguous, of a copy.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    match tensor.as_slice::<f32>() {
        Some(_) => tensor,
        None => tensor.to_contiguous(),
    }
}

/// The elements of a [`contiguous`] tensor.
pub(super) fn elements(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("it is contiguous")
}

/// Numbers in the integers of `like` and in its shape.
pub(super) fn integers(numbers: impl Iterator<Item = usize>, like: &FlexTensor) -> FlexTensor {
    let bytes = match like.dtype() {
        DType::I32 => Bytes::from_elems(numbers.map(|number| number as i32).collect::<Vec<_>>()),
        _ => Bytes::from_elems(numbers.map(|number| number as i64).collect::<Vec<_>>()),
    };
    FlexTensor::new(
        bytes,
        Layout::contiguous(like.layout().shape().clone()),
        like.dtype(),
    )
}

/// A tensor whose storage is its elements in order, to be changed: a copy where it is not, and a copy is made too
/// where somebody else holds it.
pub(super) fn own(tensor: FlexTensor) -> FlexTensor {
    tensor.to_contiguous()
}

/// The one value of all elements, if there is one.
pub(super) fn common_value(tensor: &FlexTensor) -> Option<f64> {
    let tensor = contiguous(tensor.clone());
    let numbers = elements(&tensor);
    let first = *numbers.first()?;
    let same = numbers.par_iter().with_min_len(GRAIN).all(|x| *x == first);
    same.then_some(f64::from(first))
}

/// `tensor · factor`
pub(super) fn scaled(tensor: FlexTensor, factor: f64) -> FlexTensor {
    let mut tensor = own(tensor);
    let factor = factor as f32;
    let blocks = tensor.storage_mut::<f32>().par_chunks_mut(GRAIN);
    blocks.for_each(|block| {
        vectorized(
            #[inline(always)]
            || block.iter_mut().for_each(|x| *x *= factor),
        );
    });
    tensor
}

/// Whether token ids can be [read](ids).
pub(super) fn readable(ids: &FlexTensor) -> bool {
    matches!(ids.dtype(), DType::I64 | DType::I32)
}

/// Token ids.
pub(super) fn ids(tensor: &FlexTensor) -> Vec<i64> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I32 => {
            let ids = tensor.storage::<i32>();
            ids.iter().map(|id| i64::from(*id)).collect()
        }
        _ => tensor.storage::<i64>().to_vec(),
    }
}

/// Lets threads write to parts of one buffer that do not overlap.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: whoever dereferences it sees to it that no two threads use the same element.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(buffer: &mut [MaybeUninit<f32>]) -> Self {
        Self(buffer.as_mut_ptr().cast())
    }

    /// Over numbers that are there already.
    pub(super) fn over(buffer: &mut [f32]) -> Self {
        Self(buffer.as_mut_ptr())
    }

    /// Elements from `start` on.
    ///
    /// # Safety
    /// They lie in the buffer, and nobody else uses them for as long.
    pub(super) unsafe fn part<'a>(self, start: usize, count: usize) -> &'a mut [MaybeUninit<f32>] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start).cast(), count) }
    }
}
