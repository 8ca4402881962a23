//! The element types that a model can be trained in.

use std::fmt;
use std::str::FromStr;

use burn::tensor::DType;
use serde::{Deserialize, Serialize};

/// The precision of weights, activations and gradients. Statistics (means and squares of norms, softmax, losses, sums
/// of squares) and the optimizer's moments and arithmetic are in f32 if that is more precise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    #[default]
    F32,
    /// The upper half of single precision: its range, with 8 significant bits.
    BF16,
    /// IEEE half precision.
    F16,
}

impl Precision {
    /// Every precision, widest first.
    pub const ALL: [Self; 4] = [Self::F64, Self::F32, Self::BF16, Self::F16];

    /// Returns the name on the command line and in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Returns Burn's element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F64 => DType::F64,
            Self::F32 => DType::F32,
            Self::BF16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    /// Returns the precision of statistics and of the optimizer, which is at least f32.
    pub fn of_statistics(self) -> Self {
        match self {
            Self::F64 => Self::F64,
            Self::F32 | Self::BF16 | Self::F16 => Self::F32,
        }
    }

    /// Returns the number of bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::BF16 | Self::F16 => 2,
        }
    }

    /// Returns half the distance from 1 to the next number, which is the largest relative error of one rounding.
    pub fn unit_roundoff(self) -> f64 {
        let significant_bits = match self {
            Self::F64 => 53,
            Self::F32 => 24,
            Self::F16 => 11,
            Self::BF16 => 8,
        };
        2f64.powi(-significant_bits)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown precision \"{name}\"; the precisions are {names}")
        })
    }
}
