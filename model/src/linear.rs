//! Linear layers, and their product with few rows, which generation spends its time on.

use burn::backend::Dispatch;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module::linear;

use crate::ops;
use crate::watch::{Operation, Pass};

/// `x weight + bias`: `[rows, inputs] -> [rows, outputs]`, the weight `[inputs, outputs]`.
///
/// With few rows it takes as long as reading the weight once. Flex's matrix product does not come near that: it
/// reads the weight on one thread. So there, where no gradient is asked for, such a product is our own.
pub(crate) fn product(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    pass: Pass<'_>,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if x.dims()[0] <= flex::FEW_ROWS
        && let Some(product) = flex::few_rows(&x, &weight, bias.as_ref())
    {
        return product;
    }
    match pass.is_fused() {
        true => ops::linear(x, weight, bias),
        false => linear(x, weight, bias),
    }
}

/// [`forward`] as an operation of this name.
pub(crate) fn watched(layer: &Linear, name: &str, pass: Pass<'_>, x: Tensor<2>) -> Tensor<2> {
    pass.operation(name, Operation::Linear, [x], |[x]| forward(layer, x, pass))
}

/// [`product`] with the layer's parameters.
pub(crate) fn forward(layer: &Linear, x: Tensor<2>, pass: Pass<'_>) -> Tensor<2> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    product(x, layer.weight.val(), bias, pass)
}

/// As a fused operation takes them.
pub(crate) fn parameters(layer: &Linear) -> ops::Layer<Dispatch> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    ops::Layer::of(layer.weight.val(), bias)
}

#[cfg(feature = "flex")]
mod flex {
    use std::ops::Range;

    use burn::backend::flex::FlexTensor;
    use burn::backend::{BackendTensor, DispatchTensorKind};
    use burn::tensor::{DType, Tensor, TensorData};
    use rayon::iter::{IntoParallelIterator, ParallelIterator};

    /// Rows from which on a matrix product is faster.
    pub(super) const FEW_ROWS: usize = 4;

    /// Elements of the weight below which a second thread does not pay.
    const SMALL: usize = 1 << 16;

    /// `x weight + bias` in f32 on Flex without autodiff; `None` for everything else.
    ///
    /// Each output is summed in an order that follows from the weight's layout alone, so that the number of
    /// threads does not change a bit of it.
    pub(super) fn few_rows(
        x: &Tensor<2>,
        weight: &Tensor<2>,
        bias: Option<&Tensor<1>>,
    ) -> Option<Tensor<2>> {
        let device = x.device();
        let [rows, inputs] = x.dims();
        let [_, outputs] = weight.dims();
        let (x, weight) = (primitive(x)?, primitive(weight)?);
        let bias = match bias {
            Some(bias) => Some(primitive(bias)?.to_contiguous()),
            None => None,
        };
        let x = x.to_contiguous();
        let x = &x.storage::<f32>()[..rows * inputs];
        let bias = bias.as_ref().map(|bias| &bias.storage::<f32>()[..outputs]);
        let layout = weight.layout();
        let weights = &weight.storage::<f32>()[layout.start_offset()..];

        let threads = match inputs * outputs < SMALL {
            true => 1,
            false => rayon::current_num_threads(),
        };
        let width = outputs.div_ceil(threads).next_multiple_of(16);
        let columns = |part: usize| part * width..outputs.min((part + 1) * width);
        let part: &(dyn Fn(Range<usize>) -> Vec<f32> + Sync) = match *layout.strides() {
            [stride, 1] => &move |columns| {
                let stride = stride as usize;
                let weights = |input: usize| &weights[input * stride..][columns.clone()];
                let start = match bias {
                    Some(bias) => bias[columns.clone()].to_vec(),
                    None => vec![0.0; columns.len()],
                };
                let rows = x.chunks_exact(inputs);
                rows.flat_map(|x| add_multiples(start.clone(), x, weights))
                    .collect()
            },
            // A transposed weight, as a head that is the token embedding: its columns are contiguous.
            [1, stride] => &move |columns| {
                let column = |output: usize| &weights[output * stride as usize..][..inputs];
                let at = |x: &[f32], output: usize| {
                    dot(x, column(output)) + bias.map_or(0.0, |bias| bias[output])
                };
                let rows = x.chunks_exact(inputs);
                rows.flat_map(|x| columns.clone().map(move |output| at(x, output)))
                    .collect()
            },
            _ => return None,
        };
        let parts: Vec<Vec<f32>> = (0..outputs.div_ceil(width))
            .into_par_iter()
            .map(|number| part(columns(number)))
            .collect();
        let product: Vec<f32> = (0..rows)
            .flat_map(|row| {
                parts.iter().flat_map(move |part| {
                    let width = part.len() / rows;
                    part[row * width..(row + 1) * width].iter().copied()
                })
            })
            .collect();
        let data = TensorData::new(product, [rows, outputs]);
        Some(Tensor::from_data(data, &device))
    }

    fn primitive<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
        match tensor.clone().into_dispatch().kind {
            DispatchTensorKind::Flex(BackendTensor::Float(tensor))
                if tensor.dtype() == DType::F32 =>
            {
                Some(tensor)
            }
            _ => None,
        }
    }

    /// `sum + Σ x[i] weights(i)`, eight rows of the weight at a time, so that the sum is read and written an
    /// eighth as often.
    fn add_multiples<'a>(
        mut sum: Vec<f32>,
        x: &[f32],
        weights: impl Fn(usize) -> &'a [f32],
    ) -> Vec<f32> {
        let length = sum.len();
        let (eights, rest) = x.as_chunks::<8>();
        for (block, x) in eights.iter().enumerate() {
            // Of the sum's length, which lets the compiler drop the checks of the inner loop.
            let w: [&[f32]; 8] = std::array::from_fn(|i| &weights(8 * block + i)[..length]);
            for j in 0..length {
                sum[j] += (x[0] * w[0][j] + x[1] * w[1][j])
                    + (x[2] * w[2][j] + x[3] * w[3][j])
                    + ((x[4] * w[4][j] + x[5] * w[5][j]) + (x[6] * w[6][j] + x[7] * w[7][j]));
            }
        }
        for (i, x) in rest.iter().enumerate() {
            let weights = weights(8 * eights.len() + i);
            sum.iter_mut()
                .zip(weights)
                .for_each(|(sum, w)| *sum += x * w);
        }
        sum
    }

    /// In 32 partial sums, which fill the vector registers.
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        const LANES: usize = 32;
        let mut sums = [0.0; LANES];
        let (a, rest_a) = a.as_chunks::<LANES>();
        let (b, rest_b) = b.as_chunks::<LANES>();
        for (a, b) in a.iter().zip(b) {
            for lane in 0..LANES {
                sums[lane] += a[lane] * b[lane];
            }
        }
        let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
        sums.iter().sum::<f32>() + rest
    }

    #[cfg(test)]
    mod tests {
        use burn::tensor::Device;

        use super::*;
        use crate::random;

        fn matrix(name: &str, shape: [usize; 2]) -> (Vec<f64>, Tensor<2>) {
            let values = random::normals(&mut random::stream(1, name), shape[0] * shape[1]);
            let values: Vec<f64> = values.iter().map(|z| f64::from(*z as f32)).collect();
            let data = TensorData::new(values.clone(), shape);
            let tensor = Tensor::from_data(data, (&Device::flex(), DType::F32));
            (values, tensor)
        }

        #[test]
        fn few_rows_are_multiplied_as_in_f64() {
            for (rows, inputs, outputs) in [
                (1, 1, 1),
                (1, 7, 5),
                (2, 8, 16),
                (3, 37, 301),
                (4, 400, 333),
            ] {
                let (x, x_tensor) = matrix("x", [rows, inputs]);
                let (bias, bias_tensor) = matrix("bias", [1, outputs]);
                let (w, w_tensor) = matrix("w", [inputs, outputs]);
                // The same matrix, laid out by columns, and amid another.
                let by_columns: Vec<f64> = (0..inputs * outputs)
                    .map(|i| w[i % inputs * outputs + i / inputs])
                    .collect();
                let data = TensorData::new(by_columns, [outputs, inputs]);
                let by_columns = Tensor::<2>::from_data(data, (&Device::flex(), DType::F32));
                let around = Tensor::cat(vec![by_columns.clone(), w_tensor.clone().transpose()], 0);
                for weight in [
                    w_tensor.clone(),
                    by_columns.transpose(),
                    around.narrow(0, outputs, outputs).transpose(),
                ] {
                    for bias_tensor in [None, Some(bias_tensor.clone().reshape([outputs]))] {
                        let product = few_rows(&x_tensor, &weight, bias_tensor.as_ref()).unwrap();
                        assert_eq!(product.dims(), [rows, outputs]);
                        let product: Vec<f64> = product.try_into_vec_as().unwrap();
                        for (at, product) in product.into_iter().enumerate() {
                            let (row, output) = (at / outputs, at % outputs);
                            let terms = (0..inputs)
                                .map(|i| x[row * inputs + i] * w[i * outputs + output])
                                .chain(bias_tensor.as_ref().map(|_| bias[output]));
                            let exact: f64 = terms.clone().sum();
                            // Whatever the order, each term is rounded at most once for itself and once
                            // for each of the others.
                            let magnitude: f64 = terms.map(f64::abs).sum();
                            let bound = (inputs as f64 + 1.0) * 2f64.powi(-24) * magnitude;
                            assert!((product - exact).abs() <= bound, "{product}, {exact}");
                        }
                    }
                }
            }
        }

        #[test]
        fn threads_change_no_bit() {
            let (_, x) = matrix("x", [2, 300]);
            let (_, w) = matrix("w", [300, 1000]);
            let (_, transposed) = matrix("w", [1000, 300]);
            for weight in [w, transposed.transpose()] {
                let on = |threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                    let pool = pool.build().unwrap();
                    let product = pool.install(|| few_rows(&x, &weight, None).unwrap());
                    let product: Vec<f32> = product.try_into_vec_as().unwrap();
                    product.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let one = on(1);
                for threads in [2, 3, 7] {
                    assert_eq!(on(threads), one, "{threads} threads");
                }
            }
        }

        #[test]
        fn gradients_take_the_usual_way() {
            let (_, x) = matrix("x", [1, 3]);
            let (_, w) = matrix("w", [3, 2]);
            let w =
                Tensor::<2>::from_data(w.into_data(), &Device::flex().autodiff()).require_grad();
            assert!(few_rows(&x, &w, None).is_none());
        }
    }
}
