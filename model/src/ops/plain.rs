//! Arithmetic on a backend's own tensors, so that a plain composition reads as its formula.

use std::ops::{Add, Div, Mul, Sub};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape, Slice};

/// A tensor of floats. Shapes broadcast as Burn's do.
pub(crate) struct Plain<B: Backend>(pub(crate) FloatTensor<B>);

impl<B: Backend> Clone for Plain<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $tensors:ident, $scalar:ident) => {
        impl<B: Backend> $trait for Plain<B> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                Self(B::$tensors(self.0, other.0))
            }
        }
        impl<B: Backend> $trait<f64> for Plain<B> {
            type Output = Self;
            fn $method(self, other: f64) -> Self {
                Self(B::$scalar(self.0, other.into()))
            }
        }
    };
}
operator!(Add, add, float_add, float_add_scalar);
operator!(Sub, sub, float_sub, float_sub_scalar);
operator!(Mul, mul, float_mul, float_mul_scalar);
operator!(Div, div, float_div, float_div_scalar);

impl<B: Backend> Plain<B> {
    pub(crate) fn dims<const D: usize>(&self) -> [usize; D] {
        self.0.shape().dims()
    }

    pub(crate) fn shape(&self) -> Shape {
        self.0.shape()
    }

    pub(crate) fn shaped(self, shape: Shape) -> Self {
        Self(B::float_reshape(self.0, shape))
    }

    /// The size of the last dimension.
    pub(crate) fn columns(&self) -> usize {
        let shape = self.0.shape();
        shape[shape.num_dims() - 1]
    }

    pub(crate) fn dtype(&self) -> DType {
        self.0.dtype()
    }

    pub(crate) fn reshape<const D: usize>(self, shape: [usize; D]) -> Self {
        Self(B::float_reshape(self.0, Shape::new(shape)))
    }

    /// The last two dimensions swapped.
    pub(crate) fn t(self) -> Self {
        Self(B::float_transpose(self.0))
    }

    pub(crate) fn swap(self, one: usize, other: usize) -> Self {
        Self(B::float_swap_dims(self.0, one, other))
    }

    pub(crate) fn matmul(self, other: Self) -> Self {
        Self(B::float_matmul(self.0, other.0))
    }

    pub(crate) fn exp(self) -> Self {
        Self(B::float_exp(self.0))
    }

    pub(crate) fn log(self) -> Self {
        Self(B::float_log(self.0))
    }

    pub(crate) fn sqrt(self) -> Self {
        Self(B::float_sqrt(self.0))
    }

    pub(crate) fn tanh(self) -> Self {
        Self(B::float_tanh(self.0))
    }

    pub(crate) fn erf(self) -> Self {
        Self(B::float_erf(self.0))
    }

    pub(crate) fn at_most(self, limit: f64) -> Self {
        Self(B::float_clamp_max(self.0, limit.into()))
    }

    pub(crate) fn at_least(self, limit: f64) -> Self {
        Self(B::float_clamp_min(self.0, limit.into()))
    }

    /// The sum over `dim`, which is left with one element.
    pub(crate) fn sum(self, dim: usize) -> Self {
        Self(B::float_sum_dim(self.0, dim))
    }

    pub(crate) fn mean(self, dim: usize) -> Self {
        Self(B::float_mean_dim(self.0, dim))
    }

    pub(crate) fn max(self, dim: usize) -> Self {
        Self(B::float_max_dim(self.0, dim))
    }

    /// Elements `start..start + count` of `dim`.
    pub(crate) fn narrow(self, dim: usize, start: usize, count: usize) -> Self {
        let shape = self.0.shape();
        let slices: Vec<Slice> = (0..shape.num_dims())
            .map(|of| match of == dim {
                true => Slice::from(start..start + count),
                false => Slice::from(0..shape[of]),
            })
            .collect();
        Self(B::float_slice(self.0, &slices))
    }

    pub(crate) fn cat(parts: Vec<Self>, dim: usize) -> Self {
        let parts = parts.into_iter().map(|part| part.0).collect();
        Self(B::float_cat(parts, dim))
    }

    pub(crate) fn cast(self, dtype: DType) -> Self {
        match self.dtype() == dtype {
            true => self,
            false => Self(B::float_cast(self.0, dtype.into())),
        }
    }

    /// In half precision made f32: for sums that are not worth having otherwise.
    pub(crate) fn at_least_f32(self) -> Self {
        let dtype = at_least_f32(self.dtype());
        self.cast(dtype)
    }
}

/// The precision of statistics: sums, means and what is made of them.
pub(crate) fn at_least_f32(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}
