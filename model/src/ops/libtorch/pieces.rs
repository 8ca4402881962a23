//! Rows, some at a time: so many that what is computed of them, pass after pass, stays in the processor's caches.

use tch::{Device, Tensor};

/// Elements per thread of each tensor that takes part.
const ELEMENTS: usize = 1 << 17;

/// Some rows: elements of the first dimension.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    start: i64,
    rows: i64,
}

impl Piece {
    /// These rows of a tensor, where they lie.
    pub(super) fn of(self, tensor: &Tensor) -> Tensor {
        tensor.narrow(0, self.start, self.rows)
    }

    pub(super) fn is_first(self) -> bool {
        self.start == 0
    }
}

/// The pieces of all tensors that are shaped like this one. A GPU gets all rows at once.
pub(super) fn pieces(of: &Tensor) -> impl Iterator<Item = Piece> + use<> {
    let rows = of.size()[0];
    let held = match of.device() {
        Device::Cpu => {
            let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
            let row = of.numel() / usize::try_from(rows).unwrap_or(1).max(1);
            (ELEMENTS * threads / row.max(1)) as i64
        }
        _ => rows,
    };
    by(rows, held.max(1))
}

/// Pieces of `held` rows, the last perhaps of fewer.
pub(super) fn by(rows: i64, held: i64) -> impl Iterator<Item = Piece> {
    let starts = (0..rows).step_by(usize::try_from(held).unwrap_or(1));
    starts.map(move |start| Piece {
        start,
        rows: held.min(rows - start),
    })
}
