//! Rows of a table, and the gradient of the table: the sum, per row, over where it was taken.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

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
    let nothing = B::float_zeros(shape, &grad.device(), grad.dtype().into());
    B::float_select_assign(nothing, 0, ids, grad, IndexingUpdateOp::Add)
}

/// The gradient `sum` of a table and that of rows taken from it.
pub(crate) fn added<B: Backend>(
    sum: FloatTensor<B>,
    ids: IntTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_select_assign(sum, 0, ids, grad, IndexingUpdateOp::Add)
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
