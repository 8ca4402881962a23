//! Flex's tensors as memory: views of matrices, their products, new ones.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use gemm::Parallelism;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
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

/// Where a product goes: rows of contiguous elements, `stride` apart.
pub(super) struct Target {
    pub(super) pointer: *mut f32,
    pub(super) stride: usize,
    /// Whether the product is added to what is there.
    pub(super) add: bool,
}

/// `target ← [target +] scale · a b`, each element in the same order of additions on any number of threads.
///
/// # Safety
/// `target` is valid for `a.rows` rows of `b.columns` elements, which nobody else uses meanwhile.
pub(super) unsafe fn product(
    target: Target,
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
            target.pointer,
            1,
            target.stride as isize,
            target.add,
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

/// `a b`, on all threads.
pub(super) fn multiplied(a: Matrix<'_>, b: Matrix<'_>) -> FlexTensor {
    let (rows, columns) = (a.rows, b.columns);
    let write = |output: &mut [MaybeUninit<f32>]| {
        let target = Target {
            pointer: output.as_mut_ptr().cast(),
            stride: columns,
            add: false,
        };
        // SAFETY: the output has room for the product.
        unsafe { product(target, a, b, 1.0, Parallelism::Rayon(0)) }
    };
    // SAFETY: a product writes all of its elements.
    unsafe { made([rows, columns], write) }
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

/// A new tensor of this shape, a row at a time: `write(number, row)` writes every element of it.
///
/// # Safety
/// `write` writes every element.
pub(super) unsafe fn made_by_rows<const D: usize>(
    shape: [usize; D],
    write: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
) -> FlexTensor {
    let width = shape[D - 1].max(1);
    let rows = (GRAIN / width).max(1);
    // SAFETY: the caller's promise.
    unsafe {
        made(shape, |output| {
            let blocks = output.par_chunks_mut(rows * width).enumerate();
            blocks.for_each(|(block, output)| {
                super::math::vectorized(
                    #[inline(always)]
                    || {
                        for (row, output) in output.chunks_exact_mut(width).enumerate() {
                            write(block * rows + row, output);
                        }
                    },
                );
            });
        })
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

/// The elements of a tensor, to be changed: a copy's where somebody else holds them.
pub(super) fn own(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.storage::<f32>().len() == tensor.shape().num_elements();
    match whole {
        true => tensor,
        false => {
            let shape = tensor.shape();
            let data = elements(&tensor.to_contiguous()).to_vec();
            FlexTensor::new(
                Bytes::from_elems(data),
                Layout::contiguous(shape),
                DType::F32,
            )
        }
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

    /// Elements from `start` on.
    ///
    /// # Safety
    /// They lie in the buffer, and nobody else uses them for as long.
    pub(super) unsafe fn part<'a>(self, start: usize, count: usize) -> &'a mut [MaybeUninit<f32>] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start).cast(), count) }
    }
}
