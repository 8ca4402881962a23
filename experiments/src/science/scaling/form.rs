//! The form in which laws are fitted: exponents that are free or held, and a sum that is linear in its coefficients.

use super::law::{Fitted, Law, Quantity, Variable};

/// Largest number of free exponents of a law.
pub(super) const EXPONENTS: usize = 2;

/// Largest number of coefficients of a law.
pub(super) const COLUMNS: usize = 3;

/// An exponent during the fit: a constant, or `factor · exp(power · v[index])` for a free variable v.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Exponent {
    Fixed(f64),
    Free {
        index: usize,
        factor: f64,
        power: f64,
    },
}

impl Exponent {
    pub(super) fn free(index: usize) -> Self {
        Self::Free {
            index,
            factor: 1.0,
            power: 1.0,
        }
    }

    pub(super) fn value(self, v: &[f64; EXPONENTS]) -> f64 {
        match self {
            Self::Fixed(value) => value,
            Self::Free {
                index,
                factor,
                power,
            } => factor * (power * v[index]).exp(),
        }
    }
}

/// A term of the sum: `c · x^(-exponent)`, or the constant `c`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Column {
    /// `None` for the constant.
    pub variable: Option<Variable>,
    pub exponent: Exponent,
    /// The coefficient, if it is not fitted.
    pub fixed: Option<f64>,
}

/// A law as it is fitted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Form {
    pub columns: Vec<Column>,
    /// The power q of the sum.
    pub power: Exponent,
    /// Number of free exponents.
    pub exponents: usize,
}

/// A point of a form: logarithms of the free exponents, and coefficients for centred variables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub v: [f64; EXPONENTS],
    pub c: [f64; COLUMNS],
}

fn column(variable: Option<Variable>, exponent: Exponent) -> Column {
    Column {
        variable,
        exponent,
        fixed: None,
    }
}

impl Law {
    /// Returns the form of the law with all parameters free.
    pub(super) fn form(self) -> Form {
        let constant = column(None, Exponent::Fixed(0.0));
        let (columns, power, exponents) = match self {
            Self::Chinchilla => (
                vec![
                    constant,
                    column(Some(Variable::Parameters), Exponent::free(0)),
                    column(Some(Variable::Tokens), Exponent::free(1)),
                ],
                Exponent::Fixed(1.0),
                2,
            ),
            Self::Kaplan => (
                vec![
                    column(Some(Variable::Parameters), Exponent::free(0)),
                    column(Some(Variable::Tokens), Exponent::Fixed(1.0)),
                ],
                Exponent::free(1),
                2,
            ),
            Self::Power { over } => (
                vec![constant, column(Some(over), Exponent::free(0))],
                Exponent::Fixed(1.0),
                1,
            ),
            Self::PurePower { over } => (
                vec![column(Some(over), Exponent::free(0))],
                Exponent::Fixed(1.0),
                1,
            ),
        };
        Form {
            columns,
            power,
            exponents,
        }
    }

    /// Returns the form of the law with one quantity held at `value`; `None` for a scale, which is not profiled.
    pub(super) fn form_with(self, quantity: Quantity, value: f64) -> Option<Form> {
        let mut form = self.form();
        let fixed = Exponent::Fixed(value);
        let times = |factor: f64| Exponent::Free {
            index: 0,
            factor,
            power: 1.0,
        };
        match (self, quantity) {
            (Self::Chinchilla | Self::Power { .. }, Quantity::E) => {
                form.columns[0].fixed = Some(value);
                return Some(form);
            }
            (Self::Chinchilla, Quantity::Alpha) => {
                form.columns[1].exponent = fixed;
                form.columns[2].exponent = times(1.0);
            }
            (Self::Chinchilla, Quantity::Beta) => form.columns[2].exponent = fixed,
            (Self::Chinchilla, Quantity::OptimalExponent) => {
                form.columns[1].exponent = times(1.0 - value);
                form.columns[2].exponent = times(value);
            }
            // The power is free, and the exponent of N is α_N / α_D.
            (Self::Kaplan, Quantity::AlphaN) => {
                form.columns[0].exponent = Exponent::Free {
                    index: 0,
                    factor: value,
                    power: -1.0,
                };
                form.power = times(1.0);
            }
            (Self::Kaplan, Quantity::AlphaD) => form.power = fixed,
            (Self::Kaplan, Quantity::OptimalExponent) => {
                form.columns[0].exponent = Exponent::Fixed(1.0 / value - 1.0);
                form.power = times(1.0);
            }
            (Self::Power { .. }, Quantity::Alpha) => form.columns[1].exponent = fixed,
            (Self::PurePower { .. }, Quantity::Alpha) => form.columns[0].exponent = fixed,
            _ => return None,
        }
        form.exponents -= 1;
        Some(form)
    }

    /// Returns the point of the free form at which a restricted form has `point`.
    pub(super) fn release(self, restricted: &Form, point: &Point) -> Point {
        let form = self.form();
        let mut v = [0.0; EXPONENTS];
        let pairs = form.columns.iter().zip(&restricted.columns);
        let exponents = pairs.map(|(free, held)| (free.exponent, held.exponent));
        for (free, held) in exponents.chain([(form.power, restricted.power)]) {
            if let Exponent::Free { index, .. } = free {
                v[index] = held.value(&point.v).ln();
            }
        }
        Point { v, c: point.c }
    }
}

impl Fitted {
    /// Converts a point of the law's form, given the means of the logarithms of N, D and C that centre it.
    pub(super) fn of_point(law: Law, point: &Point, means: &[f64; 3]) -> Self {
        let form = law.form();
        let exponent = |index: usize| form.columns[index].exponent.value(&point.v);
        let scale = |index: usize| {
            let mean = form.columns[index]
                .variable
                .map_or(0.0, |x| means[x.index()]);
            point.c[index] * (exponent(index) * mean).exp()
        };
        match law {
            Law::Chinchilla => Self::new(
                law,
                &[point.c[0], scale(1), scale(2), exponent(1), exponent(2)],
            ),
            Law::Kaplan => {
                let (ratio, power) = (exponent(0), form.power.value(&point.v));
                let critical = scale(0).powf(1.0 / ratio);
                Self::new(law, &[critical, scale(1), ratio * power, power])
            }
            Law::Power { .. } => Self::new(law, &[point.c[0], scale(1), exponent(1)]),
            Law::PurePower { .. } => Self::new(law, &[scale(0), exponent(0)]),
        }
    }

    /// Converts into a point of the law's form.
    pub(super) fn point(&self, means: &[f64; 3]) -> Point {
        let [p0, p1, p2, p3, p4] = self.values;
        let centred = |scale: f64, exponent: f64, variable: Variable| {
            scale * (-exponent * means[variable.index()]).exp()
        };
        let (v, c) = match self.law {
            Law::Chinchilla => (
                [p3.ln(), p4.ln()],
                [
                    p0,
                    centred(p1, p3, Variable::Parameters),
                    centred(p2, p4, Variable::Tokens),
                ],
            ),
            Law::Kaplan => {
                let ratio = p2 / p3;
                (
                    [ratio.ln(), p3.ln()],
                    [
                        centred(p0.powf(ratio), ratio, Variable::Parameters),
                        centred(p1, 1.0, Variable::Tokens),
                        0.0,
                    ],
                )
            }
            Law::Power { over } => ([p2.ln(), 0.0], [p0, centred(p1, p2, over), 0.0]),
            Law::PurePower { over } => ([p1.ln(), 0.0], [centred(p0, p1, over), 0.0, 0.0]),
        };
        Point { v, c }
    }
}
