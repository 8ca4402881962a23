//! Where the model's parameters lie in weight files: which tensors, in which orientation.

use half::{bf16, f16};

use crate::error::ModelError;
use crate::weights::{WeightType, Weights};

/// Rows of a stored tensor that are moved at once: whole cache lines of both sides of a transposition, and
/// little memory beside the result.
const BLOCK: usize = 32;

/// Bytes of a file that are given back at once after they have been read. Systems map more than the page
/// that is touched, also behind it: given back in small pieces, much of a file would stay.
const RELEASE: usize = 4 << 20;

/// A parameter of the model, and the tensors of a file that hold it side by side along its last dimension.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// Its path in the module tree.
    pub(crate) path: String,
    /// Its shape in the module tree.
    pub(crate) shape: Vec<usize>,
    pub(crate) parts: Vec<Part>,
}

/// A tensor of a file.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its name in the file.
    pub(crate) name: String,
    /// How many of the parameter's columns it holds.
    pub(crate) columns: usize,
    /// Whether it is stored with the parameter's columns as its rows.
    pub(crate) transposed: bool,
}

impl Parameter {
    fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// A vector is one row.
    fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// The shape of a part as it is stored.
    pub(crate) fn part_shape(&self, part: &Part) -> Vec<usize> {
        match *self.shape {
            [rows, _] if part.transposed => vec![part.columns, rows],
            [rows, _] => vec![rows, part.columns],
            _ => vec![part.columns],
        }
    }

    /// How the elements are stored.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or not of a type that weights have; or when the parts are of
    /// different types.
    pub(crate) fn check(&self, weights: &Weights) -> Result<WeightType, ModelError> {
        let mut kind = None;
        for part in &self.parts {
            let expected = self.part_shape(part);
            let Some(stored) = weights.get(&part.name) else {
                return Err(ModelError::MissingTensor {
                    path: weights.place().to_path_buf(),
                    name: part.name.clone(),
                    shape: expected,
                });
            };
            if stored.shape != expected {
                return Err(ModelError::TensorShape {
                    path: weights.path(stored).to_path_buf(),
                    name: part.name.clone(),
                    shape: stored.shape.clone(),
                    expected,
                });
            }
            let found = weights.weight_type(&part.name, stored)?;
            let first = *kind.get_or_insert(found);
            if found != first {
                return Err(ModelError::TensorType {
                    path: weights.path(stored).to_path_buf(),
                    name: part.name.clone(),
                    dtype: found.to_string(),
                    expected: format!("{first} in {}, its neighbour", self.parts[0].name),
                });
            }
        }
        Ok(kind.unwrap_or(WeightType::F32))
    }

    /// The parameter's elements, row by row, as numbers.
    ///
    /// # Panics
    /// When the parameter does not [`check`](Self::check).
    pub(crate) fn gather_f32(&self, kind: WeightType, weights: &Weights) -> Vec<f32> {
        match kind {
            WeightType::F32 => self.gather(weights, f32::from_le_bytes),
            WeightType::F16 => self.gather(weights, |b| f16::from_le_bytes(b).to_f32()),
            WeightType::BF16 => self.gather(weights, |b| bf16::from_le_bytes(b).to_f32()),
        }
    }

    /// The parameter's elements, row by row, made of the `N` bytes that each is stored in.
    ///
    /// # Panics
    /// When the parameter does not [`check`](Self::check).
    pub(crate) fn gather<const N: usize, T: Copy + Default>(
        &self,
        weights: &Weights,
        element: impl Fn([u8; N]) -> T,
    ) -> Vec<T> {
        let (rows, columns) = (self.rows(), self.columns());
        let mut values = vec![T::default(); rows * columns];
        let mut first = 0;
        for part in &self.parts {
            let stored = weights.get(&part.name).expect("checked when it was opened");
            // In elements, of the tensor as it is stored.
            let width = if part.transposed { rows } else { part.columns };
            let bytes = weights.bytes(stored);
            let (mut read, mut released) = (0, 0);
            for (index, block) in bytes.chunks((BLOCK * width * N).max(1)).enumerate() {
                let elements = block.as_chunks::<N>().0;
                let start = index * BLOCK;
                if part.transposed {
                    let count = elements.len() / width;
                    for row in 0..rows {
                        let target = row * columns + first + start;
                        for (i, value) in values[target..][..count].iter_mut().enumerate() {
                            *value = element(elements[i * width + row]);
                        }
                    }
                } else {
                    for (i, source) in elements.chunks_exact(width).enumerate() {
                        let target = (start + i) * columns + first;
                        let target = &mut values[target..][..width];
                        target
                            .iter_mut()
                            .zip(source)
                            .for_each(|(to, from)| *to = element(*from));
                    }
                }
                read += block.len();
                if read - released >= RELEASE || read == bytes.len() {
                    weights.release(stored, released..read);
                    released = read;
                }
            }
            first += part.columns;
        }
        values
    }

    /// The elements of part number `index`, as it is stored, out of the parameter's own: the inverse of
    /// [`gather`](Self::gather).
    pub(crate) fn extract<T: Copy>(&self, index: usize, values: &[T]) -> Vec<T> {
        let (rows, columns) = (self.rows(), self.columns());
        let first: usize = self.parts[..index].iter().map(|part| part.columns).sum();
        let part = &self.parts[index];
        let mut elements = Vec::with_capacity(rows * part.columns);
        if part.transposed {
            for column in first..first + part.columns {
                elements.extend((0..rows).map(|row| values[row * columns + column]));
            }
        } else {
            for row in values.chunks_exact(columns) {
                elements.extend_from_slice(&row[first..first + part.columns]);
            }
        }
        elements
    }
}
