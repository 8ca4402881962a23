//! Rows of a table, and the gradient of the table: the sum, per row, over where it was taken.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::plain::{Plain, at_least_f32};
use super::{Fused, Kernels};

/// The rows `ids`, `[rows]`, of `table`, `[ids, width]`: `[rows, width]`.
pub(crate) fn embedding(table: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    let (table, ids) = (table.into_dispatch(), ids.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Fused>::fused_embedding(table, ids))
}

pub(crate) fn forward<B: Backend>(table: FloatTensor<B>, ids: IntTensor<B>) -> FloatTensor<B> {
    B::float_select(table, 0, ids)
}

/// The gradient of a table of so many rows.
pub(crate) fn backward<B: Backend>(
    rows: usize,
    ids: IntTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let shape = [rows, grad.shape()[1]].into();
    let nothing = B::float_zeros(shape, &grad.device(), at_least_f32(grad.dtype()).into());
    let dtype = grad.dtype();
    Plain::<B>(nothing).plus_rows(ids, grad).cast(dtype).0
}

/// The gradient `sum` of a table and that of rows taken from it.
pub(crate) fn added<B: Backend>(
    sum: FloatTensor<B>,
    ids: IntTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let sum = Plain::<B>(sum);
    let dtype = sum.dtype();
    sum.at_least_f32().plus_rows(ids, grad).cast(dtype).0
}

impl<B: Backend> Plain<B> {
    /// With each row of `rows` added to the row that its id names. In half precision the sum of rows of a frequent token
    /// would stand still: `self` is in f32 at least.
    fn plus_rows(self, ids: IntTensor<B>, rows: FloatTensor<B>) -> Self {
        let rows = Self(rows).at_least_f32();
        let added = IndexingUpdateOp::Add;
        Self(B::float_select_assign(self.0, 0, ids, rows.0, added))
    }
}

#[derive(Debug)]
pub(super) struct EmbeddingBackward;

impl<B: Kernels> Backward<B, 1> for EmbeddingBackward {
    /// The table, as autodiff knows it, and the ids.
    type State = (FloatTensor<Autodiff<B>>, IntTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (table, ids) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        // A head that is the same table has left its gradient already: another as large would be mostly 0.
        let of = match grads.remove::<B>(&table) {
            Some(sum) => B::rows_added(sum, ids, grad),
            None => B::rows_backward(table.shape()[0], ids, grad),
        };
        register!(B, ops.parents, [Some(of)], grads);
    }
}
