//! A fit with everything that is said about it.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::gamma_ur;

use super::classical;
use super::condition::Condition;
use super::estimates::{QuantityEstimate, covariance, covariance_of, estimates};
use super::fit::{best_scale, fit, fit_with_scale};
use super::intervals::Problem;
use super::isoflop::Approaches;
use super::law::{Fitted, Law, Quantity, Variable};
use super::noise::NoiseSummary;
use super::objective::{VARIABLES, Vector, huber, objective, residuals, solve};
use super::observations::{Observation, groups, sample};
use super::prediction::HeldOut;
use super::run::{Convention, Floor, refused};
use crate::show::format::plural;
use crate::{Error, json};

/// Threshold of the Huber loss of log residuals (Hoffmann et al. 2022).
pub const THRESHOLD: f64 = 1e-3;

/// Largest width of the interval of an exponent a that is reported as a finding: it lies between 0 and 1.
const WIDEST: f64 = 0.5;

/// How the minimum of the objective is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Variable projection: a grid of exponents, non-negative least squares for the coefficients, Newton's method.
    Projection,
    /// L-BFGS from 4500 starts (Hoffmann et al. 2022), for Chinchilla's law.
    Classical,
}

/// How a law is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The law.
    pub law: Law,
    /// The counted parameters.
    pub convention: Convention,
    /// How the minimum is found.
    pub method: Method,
    /// Threshold of the Huber loss: of log residuals, or of log residuals over their fitted scale.
    pub threshold: f64,
    /// Whether the scale of the residuals is a parameter, too (Besiroglu et al. 2024).
    pub fits_scale: bool,
    /// Number of samples that are drawn from the fitted law.
    pub draws: usize,
    /// Number of samples of the bootstrap over runs.
    pub bootstrap: usize,
    /// Seed of both.
    pub seed: u64,
}

/// Comparison of the irreducible loss with a known least loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EntropyCheck {
    /// The least loss, in the unit of the losses.
    pub entropy: f64,
    /// Kind of the least loss.
    pub floor: Floor,
    /// Whether the interval of E contains it; `None` if the losses have no noise, or the data do not determine E and no end
    /// excludes it.
    pub inside: Option<bool>,
}

/// Test of given parameters against the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// The tested law.
    pub fitted: Fitted,
    /// The objective at it.
    pub objective: f64,
    /// Twice the difference of the log-likelihoods, each with its best scale of the residuals.
    #[serde(deserialize_with = "json::number")]
    pub likelihood_ratio: f64,
    /// Wald's statistic, with the covariance of the bootstrap over runs; scales are compared by their logarithms.
    pub wald: Option<f64>,
    /// Number of parameters, the degrees of freedom of both statistics.
    pub degrees: usize,
    /// Probability of such a likelihood ratio if the parameters are right.
    pub probability: f64,
}

impl EntropyCheck {
    /// Returns the verdict as a clause.
    pub fn verdict(&self) -> &'static str {
        match self.inside {
            Some(true) => "the interval of E contains it",
            Some(false) => "the interval of E does not contain it",
            None => "E has no closed interval, so that nothing follows",
        }
    }
}

/// A law fitted to observations. [`FitRecord::fit`] makes it; `fit.json` holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitRecord {
    /// How it was fitted.
    pub settings: Settings,
    /// The law's formula.
    pub formula: String,
    /// Number of groups of runs that differ only in their seed.
    pub groups: usize,
    /// The objective at its minimum: the sum of Huber losses of log residuals.
    pub objective: f64,
    /// Scale of the log residuals, if it was fitted.
    pub scale: Option<f64>,
    /// The law with its parameters.
    pub fitted: Fitted,
    /// The parameters, and what follows from them.
    pub estimates: Vec<QuantityEstimate>,
    /// Covariance of the parameters over the bootstrap, in the order of the formula.
    #[serde(deserialize_with = "json::curves")]
    pub covariance: Vec<Vec<f64>>,
    /// Condition numbers.
    pub condition: Condition,
    /// Noise of the losses.
    pub noise: NoiseSummary,
    /// Objective of variable projection, if the classical route was taken.
    pub projection_objective: Option<f64>,
    /// Approaches 1 and 2 to the compute-optimal size; `None` for a law without an optimum.
    pub approaches: Option<Approaches>,
    /// Runs that were not fitted, with their predictions.
    #[serde(default)]
    pub held_out: Vec<HeldOut>,
    /// Comparison with the known entropy.
    pub entropy: Option<EntropyCheck>,
    /// Test of given parameters.
    pub test: Option<Test>,
    /// Parameters of the fits of samples drawn from the law.
    pub draws: Vec<[f64; 5]>,
    /// Parameters of the fits of the bootstrap over runs.
    pub bootstrap: Vec<[f64; 5]>,
    /// The runs.
    pub observations: Vec<Observation>,
}

impl FitRecord {
    /// Fits a law and everything that is said about it. `origin` is named in errors.
    ///
    /// # Errors
    ///
    /// Returns an error if there are too few runs, or all of them have the same N or D.
    pub fn fit(
        origin: &str,
        observations: Vec<Observation>,
        settings: Settings,
    ) -> Result<Self, Error> {
        let law = settings.law;
        let groups = groups(&observations);
        check(origin, &observations, groups.len(), law)?;
        let sample = sample(&observations);
        let failed = || {
            refused(
                origin,
                "has losses that no parameters of the law fit; check the columns and their units",
            )
        };
        let (projection, scale) = match settings.fits_scale {
            true => {
                fit_with_scale(law, &sample, settings.threshold).map(|(m, scale)| (m, Some(scale)))
            }
            false => fit(law, &sample, settings.threshold).map(|minimum| (minimum, None)),
        }
        .ok_or_else(failed)?;
        let threshold = settings.threshold * scale.unwrap_or(1.0);
        let (minimum, projection_objective) = match settings.method {
            Method::Projection => (projection, None),
            Method::Classical if law != Law::Chinchilla => {
                let message = "classical is for --law chinchilla; leave out --method";
                return Err(refused("--method", message));
            }
            Method::Classical => {
                let minimum = classical::fit(&sample, threshold, 1).ok_or_else(failed)?;
                (minimum, Some(projection.objective))
            }
        };
        let problem = Problem {
            law,
            sample: &sample,
            groups: &groups,
            threshold,
            minimum,
        };
        let calibration = problem.calibrate(settings.draws, settings.seed);
        let bootstrap = problem.bootstrap(settings.bootstrap, settings.seed);
        let fitted = minimum.fitted(law, &sample);
        let noise = calibration.noise.summary();
        let mut estimates = estimates(&problem, &fitted, &calibration, &bootstrap);
        if noise.is_none() {
            estimates
                .iter_mut()
                .for_each(QuantityEstimate::forget_intervals);
        }
        Ok(Self {
            formula: law.formula(),
            groups: groups.len(),
            objective: minimum.objective,
            scale,
            fitted,
            estimates,
            covariance: covariance(&bootstrap, law.parameters()),
            condition: Condition::of(law, &sample, &minimum.point),
            noise,
            projection_objective,
            approaches: law
                .has_optimum()
                .then(|| Approaches::of(&observations, &fitted)),
            held_out: Vec::new(),
            entropy: None,
            test: None,
            draws: calibration
                .draws
                .iter()
                .map(|draw| draw.fitted.values)
                .collect(),
            bootstrap: bootstrap.iter().map(|fitted| fitted.values).collect(),
            observations,
            settings,
        })
    }

    /// Compares the irreducible loss with a known least loss in the unit of the losses. Does nothing for a law without
    /// E.
    pub fn compare_entropy(&mut self, floor: Floor, entropy: f64) {
        let e = self.estimate(Quantity::E);
        self.entropy = e.map(|e| {
            let [low, high] = e.interval;
            let contains =
                low.is_none_or(|low| low <= entropy) && high.is_none_or(|high| entropy <= high);
            let is_known = !self.is_exact() && (e.determined || !contains);
            EntropyCheck {
                entropy,
                floor,
                inside: is_known.then_some(contains),
            }
        });
    }

    /// Returns the exponent a of compute-optimal sizes, if the data determine it: both exponents of the law have
    /// intervals, and that of a is not wider than 0.5.
    pub fn optimal_exponent(&self) -> Option<&QuantityEstimate> {
        let exponents = [
            Quantity::Alpha,
            Quantity::Beta,
            Quantity::AlphaN,
            Quantity::AlphaD,
        ];
        let mut exponents = exponents.iter().filter_map(|q| self.estimate(*q));
        let a = self.estimate(Quantity::OptimalExponent)?;
        let [low, high] = a.interval;
        let is_narrow = high? - low? <= WIDEST;
        (is_narrow && exponents.all(|estimate| estimate.determined)).then_some(a)
    }

    /// Returns the quantities that the data do not determine.
    pub fn undetermined(&self) -> Vec<Quantity> {
        let open = self.estimates.iter().filter(|e| !e.determined);
        open.map(|estimate| estimate.quantity).collect()
    }

    /// Whether the law goes through all losses up to rounding, so that there is no noise to take intervals from.
    pub fn is_exact(&self) -> bool {
        self.noise.is_none()
    }

    /// Returns the estimate of a quantity; `None` if the law does not have it.
    pub fn estimate(&self, quantity: Quantity) -> Option<&QuantityEstimate> {
        self.estimates
            .iter()
            .find(|estimate| estimate.quantity == quantity)
    }

    /// Returns what makes a record that was read unusable, if anything does.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let count = self.settings.law.parameters().len();
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let is_run = |run: &Observation| {
            [run.parameters, run.tokens, run.flops, run.loss]
                .into_iter()
                .all(positive)
        };
        let at_least_zero = |value: f64| value.is_finite() && value >= 0.0;
        let is_fit = |values: &[f64; 5]| values[..count].iter().all(|value| at_least_zero(*value));
        // Texts of numbers are read to within a unit in the last place.
        let is_fitted = |quantity: &Quantity| {
            let known = (self.estimate(*quantity), self.fitted.get(*quantity));
            matches!(known, (Some(estimate), Some(value)) if (estimate.value - value).abs() <= 1e-12 * value)
        };
        let noise = [Some(self.noise.deviation), self.noise.seeds];
        let mut draws = self.draws.iter().chain(&self.bootstrap);
        match self {
            _ if self.observations.is_empty() => Some("it has no runs"),
            _ if !self.observations.iter().all(is_run) => Some("a number of a run is not above 0"),
            _ if !is_fit(&self.fitted.values) || self.fitted.law != self.settings.law => {
                Some("its parameters are not those of its law")
            }
            _ if !self.settings.law.parameters().iter().all(is_fitted) => {
                Some("its estimates are not those of its parameters")
            }
            _ if !self.estimates.iter().all(QuantityEstimate::is_ordered) => {
                Some("an interval of an estimate is not one")
            }
            _ if !noise.into_iter().flatten().all(at_least_zero) => {
                Some("the noise of its losses is below 0")
            }
            _ if !draws.all(is_fit) => Some("a number of a draw is below 0"),
            _ => None,
        }
    }

    /// Tests given parameters of the same law.
    pub fn test(&mut self, fitted: Fitted) {
        let law = self.settings.law;
        let sample = sample(&self.observations);
        let form = law.form();
        let threshold = self.settings.threshold;
        let likelihood = |fitted: &Fitted| {
            let residuals = residuals(&form, &sample, &fitted.point(&sample.means));
            let scale = best_scale(&residuals, &sample.weights, threshold);
            let losses = residuals
                .iter()
                .map(|residual| huber(residual / scale, threshold));
            -losses.sum::<f64>() - sample.len() as f64 * scale.ln()
        };
        let degrees = law.parameters().len();
        let likelihood_ratio = 2.0 * (likelihood(&self.fitted) - likelihood(&fitted));
        self.test = Some(Test {
            objective: objective(
                &form,
                &sample,
                &fitted.point(&sample.means),
                threshold * self.scale.unwrap_or(1.0),
            ),
            likelihood_ratio,
            wald: self.wald(&fitted),
            degrees,
            probability: gamma_ur(degrees as f64 / 2.0, (likelihood_ratio / 2.0).max(1e-300)),
            fitted,
        });
    }

    fn wald(&self, other: &Fitted) -> Option<f64> {
        let parameters = self.settings.law.parameters();
        let scaled = |values: &[f64; 5]| {
            let mut scaled: Vector = [0.0; VARIABLES];
            for (index, quantity) in parameters.iter().enumerate() {
                scaled[index] = if quantity.is_scale() {
                    values[index].ln()
                } else {
                    values[index]
                };
            }
            scaled
        };
        let draws: Vec<Vector> = self.bootstrap.iter().map(scaled).collect();
        let covariance = covariance_of(&draws, parameters.len())?;
        let (ours, theirs) = (scaled(&self.fitted.values), scaled(&other.values));
        let mut difference: Vector = [0.0; VARIABLES];
        for index in 0..parameters.len() {
            difference[index] = theirs[index] - ours[index];
        }
        let free: Vec<usize> = (0..parameters.len()).collect();
        let solved = solve(&covariance, &difference, &free)?;
        Some(difference.iter().zip(solved).map(|(a, b)| a * b).sum())
    }

    /// Returns the log residuals of the observations.
    pub fn residuals(&self) -> Vec<f64> {
        let residual = |run: &Observation| {
            (run.loss / self.fitted.loss(run.parameters, run.tokens, run.flops)).ln()
        };
        self.observations.iter().map(residual).collect()
    }

    /// Returns the correlations of the parameters over the bootstrap, in the order of the formula.
    pub fn correlations(&self) -> Vec<Vec<f64>> {
        let rows = self.covariance.iter().enumerate();
        rows.map(|(i, row)| {
            let columns = row.iter().enumerate();
            columns
                .map(|(j, value)| value / (self.covariance[i][i] * self.covariance[j][j]).sqrt())
                .collect()
        })
        .collect()
    }
}

/// Refuses data that no law can be fitted to.
fn check(origin: &str, observations: &[Observation], groups: usize, law: Law) -> Result<(), Error> {
    let parameters = law.parameters().len();
    if groups < parameters + 1 {
        let message = format!(
            "has {}, and {} has {parameters} parameters; give at least {} runs",
            plural(groups, "different run"),
            law.formula(),
            parameters + 1
        );
        return Err(refused(origin, message));
    }
    let form = law.form();
    for variable in form.columns.iter().filter_map(|column| column.variable) {
        let value = |run: &Observation| match variable {
            Variable::Parameters => run.parameters,
            Variable::Tokens => run.tokens,
            Variable::Flops => run.flops,
        };
        let first = value(&observations[0]);
        if observations
            .iter()
            .all(|run| (value(run) / first - 1.0).abs() < 1e-9)
        {
            let message = format!(
                "has runs with {first} {} only, so that {} cannot be fitted; give runs that differ in them, or use --law power \
                 over another variable",
                variable.words(),
                law.formula()
            );
            return Err(refused(origin, message));
        }
    }
    Ok(())
}
