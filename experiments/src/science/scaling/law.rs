//! Scaling laws: the loss as a function of parameters, tokens and FLOPs.
//!
//! Every law here is a power of a sum of power laws: `L = (Σ_j c_j x_j^(-e_j))^q` with coefficients `c ≥ 0`. For given
//! exponents the sum is linear in its coefficients, which is what variable projection uses.

use serde::{Deserialize, Serialize};

/// Variable of a power law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variable {
    /// Parameters N.
    Parameters,
    /// Training tokens D.
    Tokens,
    /// Training FLOPs C.
    Flops,
}

impl Variable {
    /// Returns the letter of the literature.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Parameters => "N",
            Self::Tokens => "D",
            Self::Flops => "C",
        }
    }

    /// Returns the name in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::Tokens => "tokens",
            Self::Flops => "FLOPs",
        }
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// A scaling law. Losses are in nats per token, or in the unit of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Law {
    /// `L = E + A / N^α + B / D^β` (Hoffmann et al. 2022, equation 2).
    Chinchilla,
    /// `L = ((N_c / N)^(α_N / α_D) + D_c / D)^α_D` (Kaplan et al. 2020, equation 1.5).
    Kaplan,
    /// `L = E + A / x^α` for one variable x.
    Power {
        /// The variable.
        over: Variable,
    },
    /// `L = A / x^α` for one variable x.
    PurePower {
        /// The variable.
        over: Variable,
    },
}

/// A quantity that a law determines. The parameters of a law come first, in the order of its formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Irreducible loss E.
    E,
    /// Coefficient A of the term in parameters, or of the only term.
    A,
    /// Coefficient B of the term in tokens.
    B,
    /// Exponent α.
    Alpha,
    /// Exponent β.
    Beta,
    /// Scale N_c of Kaplan's law.
    NC,
    /// Scale D_c of Kaplan's law.
    DC,
    /// Exponent α_N of Kaplan's law.
    AlphaN,
    /// Exponent α_D of Kaplan's law.
    AlphaD,
    /// Exponent a of the compute-optimal parameters, N ∝ C^a: β / (α + β), and for Kaplan's law 1 / (1 + α_N / α_D).
    OptimalExponent,
}

impl Quantity {
    /// Returns the symbol of the literature.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::E => "E",
            Self::A => "A",
            Self::B => "B",
            Self::Alpha => "α",
            Self::Beta => "β",
            Self::NC => "N_c",
            Self::DC => "D_c",
            Self::AlphaN => "α_N",
            Self::AlphaD => "α_D",
            Self::OptimalExponent => "a",
        }
    }

    /// Returns the name of the column in CSV files.
    pub fn column(self) -> &'static str {
        match self {
            Self::E => "E",
            Self::A => "A",
            Self::B => "B",
            Self::Alpha => "alpha",
            Self::Beta => "beta",
            Self::NC => "N_c",
            Self::DC => "D_c",
            Self::AlphaN => "alpha_N",
            Self::AlphaD => "alpha_D",
            Self::OptimalExponent => "a",
        }
    }

    /// Whether the quantity is a positive scale, whose intervals are those of its logarithm.
    pub(super) fn is_scale(self) -> bool {
        matches!(self, Self::A | Self::B | Self::NC | Self::DC)
    }
}

impl Law {
    /// Returns the parameters in the order of the formula.
    pub fn parameters(self) -> &'static [Quantity] {
        match self {
            Self::Chinchilla => &[
                Quantity::E,
                Quantity::A,
                Quantity::B,
                Quantity::Alpha,
                Quantity::Beta,
            ],
            Self::Kaplan => &[
                Quantity::NC,
                Quantity::DC,
                Quantity::AlphaN,
                Quantity::AlphaD,
            ],
            Self::Power { .. } => &[Quantity::E, Quantity::A, Quantity::Alpha],
            Self::PurePower { .. } => &[Quantity::A, Quantity::Alpha],
        }
    }

    /// Whether the law has parameters and tokens in it, so that a compute budget can be divided between them.
    pub fn has_optimum(self) -> bool {
        matches!(self, Self::Chinchilla | Self::Kaplan)
    }

    /// Returns the parameters, and what follows from them.
    pub fn quantities(self) -> impl Iterator<Item = Quantity> {
        let optimum = self.has_optimum().then_some(Quantity::OptimalExponent);
        self.parameters().iter().copied().chain(optimum)
    }

    /// Returns the formula.
    pub fn formula(self) -> String {
        match self {
            Self::Chinchilla => "L = E + A/N^α + B/D^β".into(),
            Self::Kaplan => "L = ((N_c/N)^(α_N/α_D) + D_c/D)^α_D".into(),
            Self::Power { over } => format!("L = E + A/{}^α", over.letter()),
            Self::PurePower { over } => format!("L = A/{}^α", over.letter()),
        }
    }
}

/// A law with the values of its parameters, in the order of [`Law::parameters`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// The law.
    pub law: Law,
    /// Values of the parameters; those beyond the law's number are 0.
    pub values: [f64; 5],
}

impl Fitted {
    /// Returns a law with these values.
    pub fn new(law: Law, parameters: &[f64]) -> Self {
        let mut values = [0.0; 5];
        for (value, parameter) in values.iter_mut().zip(parameters) {
            // JSON has no infinities.
            *value = parameter.min(f64::MAX);
        }
        Self { law, values }
    }

    /// Returns a quantity; `None` if the law does not have it.
    pub fn get(&self, quantity: Quantity) -> Option<f64> {
        if quantity == Quantity::OptimalExponent {
            return match (self.law, &self.values) {
                (Law::Chinchilla, [_, _, _, alpha, beta]) => Some(beta / (alpha + beta)),
                (Law::Kaplan, [_, _, alpha_n, alpha_d, _]) => Some(1.0 / (1.0 + alpha_n / alpha_d)),
                _ => None,
            };
        }
        let mut parameters = self.law.parameters().iter();
        let index = parameters.position(|parameter| *parameter == quantity)?;
        Some(self.values[index])
    }

    /// Returns the loss of `parameters` N trained on `tokens` D with `flops` C.
    pub fn loss(&self, parameters: f64, tokens: f64, flops: f64) -> f64 {
        let [p0, p1, p2, p3, p4] = self.values;
        let variable = |over: Variable| [parameters, tokens, flops][over.index()];
        match self.law {
            Law::Chinchilla => p0 + p1 * parameters.powf(-p3) + p2 * tokens.powf(-p4),
            Law::Kaplan => ((p0 / parameters).powf(p2 / p3) + p1 / tokens).powf(p3),
            Law::Power { over } => p0 + p1 * variable(over).powf(-p2),
            Law::PurePower { over } => p0 * variable(over).powf(-p1),
        }
    }

    /// Returns the parameters N and tokens D with the lowest loss of all with `6 N D = flops`; `None` for a law that
    /// does not have both.
    ///
    /// With `L = E + A N^-α + B D^-β` and `G = (α A / (β B))^(1 / (α + β))` they are `N = G (C / 6)^a` and
    /// `D = (C / 6)^(1 - a) / G`, `a = β / (α + β)` (Hoffmann et al. 2022, equation 4). Kaplan's law has the optimum of
    /// the sum in it.
    pub fn optimum(&self, flops: f64) -> Option<(f64, f64)> {
        let (a, b, alpha, beta) = match (self.law, self.values) {
            (Law::Chinchilla, [_, a, b, alpha, beta]) => (a, b, alpha, beta),
            (Law::Kaplan, [critical_n, critical_d, alpha_n, alpha_d, _]) => {
                let ratio = alpha_n / alpha_d;
                (critical_n.powf(ratio), critical_d, ratio, 1.0)
            }
            _ => return None,
        };
        let log_g = (alpha * a / (beta * b)).ln() / (alpha + beta);
        let log_n = log_g + beta / (alpha + beta) * (flops / 6.0).ln();
        Some((log_n.exp(), ((flops / 6.0).ln() - log_n).exp()))
    }
}
