//! What positions mean to attention: who sees whom, and how far queries and keys are turned.

use std::f64::consts::TAU;
use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::config::{ModelConfig, Positions};

/// Where a batch of sequences stands. Columns are counted from the first column of the batch; a sequence
/// shorter than the others is padded on its left, and its positions count from its first token.
#[derive(Clone, Copy)]
pub(crate) struct Placement<'a> {
    /// Number of sequences.
    pub(crate) batch: usize,
    /// Columns already seen.
    pub(crate) seen: usize,
    /// Columns to compute.
    pub(crate) length: usize,
    /// Per sequence, the columns before its first token; empty where no sequence is padded.
    pub(crate) padding: &'a [usize],
}

impl Placement<'_> {
    /// The position of each column to compute, sequence by sequence; of one sequence where all agree.
    pub(crate) fn positions(&self) -> Vec<Vec<usize>> {
        let columns = self.columns();
        match self.padding {
            [] => vec![columns.collect()],
            // What a padded column computes is never looked at.
            padding => padding
                .iter()
                .map(|pad| columns.clone().map(|c| c.saturating_sub(*pad)).collect())
                .collect(),
        }
    }

    pub(crate) fn columns(&self) -> Range<usize> {
        self.seen..self.seen + self.length
    }
}

/// What every layer's attention needs besides its input.
pub(crate) struct Sight {
    pub(crate) batch: usize,
    pub(crate) length: usize,
    /// Columns already seen.
    #[cfg(feature = "flex")]
    pub(crate) seen: usize,
    /// As in [`Placement`].
    #[cfg(feature = "flex")]
    pub(crate) padding: Vec<usize>,
    /// Added to attention scores: 0 where a query sees a key and, where it does not, a number so low that
    /// its exponential is exactly 0. `[1 or batch, 1, length, seen + length]`; `None` where all is seen.
    pub(crate) mask: Option<Tensor<4>>,
    /// Whether attention is one operation, which needs no mask.
    pub(crate) fused: bool,
    /// How many positions a query sees, its own among them.
    pub(crate) window: Option<usize>,
    /// Cosines and sines of the angles that queries and keys are turned by, each
    /// `[1 or batch, 1, length, head_width / 2]`.
    pub(crate) rotation: Option<[Tensor<4>; 2]>,
    /// Share of activations that training leaves out.
    pub(crate) dropout: f64,
}

impl Sight {
    pub(crate) fn new(
        config: &ModelConfig,
        placement: &Placement<'_>,
        fused: bool,
        device: &Device,
        dtype: DType,
    ) -> Self {
        Self {
            batch: placement.batch,
            length: placement.length,
            #[cfg(feature = "flex")]
            seen: placement.seen,
            #[cfg(feature = "flex")]
            padding: placement.padding.to_vec(),
            fused,
            window: config.window,
            mask: match fused {
                true => None,
                false => mask(config.window, placement, device, dtype),
            },
            rotation: (config.positions == Positions::Rotary)
                .then(|| rotation(config, placement, device, dtype)),
            dropout: config.dropout,
        }
    }
}

#[cfg(feature = "flex")]
impl Sight {
    /// The columns that row `row` of a sequence sees; none where the row is padding.
    pub(crate) fn columns_seen(&self, sequence: usize, row: usize) -> Range<usize> {
        let end = self.seen + row + 1;
        let pad = self.padding.get(sequence).copied().unwrap_or(0);
        let start = self.window.map_or(0, |window| end.saturating_sub(window));
        let start = start.max(pad);
        start..end.max(start)
    }
}

/// Added to scores of keys that a query does not see: so low that the exponential is 0 beside any score that is seen.
///
/// Not minus infinity: WGSL leaves it to the driver what arithmetic on infinities gives, and a padded column, which
/// sees nothing, would be NaN. In f16 it leaves room for scores as low as itself.
fn hidden(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => -32768.0,
        _ => -1e9,
    }
}

fn mask(
    window: Option<usize>,
    placement: &Placement<'_>,
    device: &Device,
    dtype: DType,
) -> Option<Tensor<4>> {
    let Placement { seen, length, .. } = *placement;
    let keys = seen + length;
    let all_seen = length == 1 && window.is_none_or(|window| keys <= window);
    if all_seen && placement.padding.is_empty() {
        return None;
    }
    // No number is added twice: in f16 the sum would be infinite.
    let padding = match placement.padding {
        [] => &[0],
        padding => padding,
    };
    let sees = |query: usize, key: usize, pad: usize| {
        key <= query && key >= pad && window.is_none_or(|window| query - key < window)
    };
    let hidden = hidden(dtype);
    let mut numbers = Vec::with_capacity(padding.len() * length * keys);
    for pad in padding {
        for query in placement.columns() {
            let keys = (0..keys).map(|key| if sees(query, key, *pad) { 0.0 } else { hidden });
            numbers.extend(keys);
        }
    }
    let data = TensorData::new(numbers, [padding.len(), 1, length, keys]);
    Some(Tensor::from_data(data, (device, dtype)))
}

/// `angle = position · frequency`, computed in f64 on the host: the same on every backend, and exact at
/// positions where f32 no longer tells neighbouring angles apart.
fn rotation(
    config: &ModelConfig,
    placement: &Placement<'_>,
    device: &Device,
    dtype: DType,
) -> [Tensor<4>; 2] {
    let frequencies = config.rotary_frequencies();
    let positions = placement.positions();
    let shape = [positions.len(), 1, placement.length, frequencies.len()];
    let (sines, cosines): (Vec<f64>, Vec<f64>) = positions
        .iter()
        .flatten()
        .flat_map(|position| frequencies.iter().map(|f| *position as f64 * f))
        .map(libm::sincos)
        .unzip();
    [cosines, sines]
        .map(|values| Tensor::from_data(TensorData::new(values, shape), (device, dtype)))
}

impl ModelConfig {
    /// Radians per position of each pair of a head's elements, fastest first: `theta^(-2i / head_width)`,
    /// stretched as Llama 3 does where the configuration says so.
    pub fn rotary_frequencies(&self) -> Vec<f64> {
        let head_width = self.head_width();
        let plain = |pair: usize| {
            let exponent = -2.0 * pair as f64 / head_width as f64;
            libm::pow(self.rotary_theta, exponent)
        };
        let stretched = |frequency: f64| {
            let Some(scaling) = self.rotary_scaling else {
                return frequency;
            };
            let turns = scaling.original_context as f64 * frequency / TAU;
            let (low, high) = (scaling.low_frequency_factor, scaling.high_frequency_factor);
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            kept * frequency + (1.0 - kept) * frequency / scaling.factor
        };
        (0..head_width / 2).map(plain).map(stretched).collect()
    }
}

/// Turns pairs of elements, `i` and `i + head_width / 2`: `[batch, heads, length, head_width]`, unchanged
/// in shape.
pub(crate) fn rotate(x: Tensor<4>, [cosines, sines]: [Tensor<4>; 2]) -> Tensor<4> {
    let half = x.dims()[3] / 2;
    let first = x.clone().narrow(3, 0, half);
    let second = x.narrow(3, half, half);
    Tensor::cat(
        vec![
            first.clone() * cosines.clone() - second.clone() * sines.clone(),
            second * cosines + first * sines,
        ],
        3,
    )
}
