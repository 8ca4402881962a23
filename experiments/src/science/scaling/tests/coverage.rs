//! How often 95 % intervals hold the truth, on surfaces with noise.

use rayon::prelude::*;

use crate::science::random::Random;
use crate::science::scaling::observations::Observation;
use crate::science::scaling::predict::Predictor;
use crate::science::scaling::run::Convention;
use crate::science::scaling::study::{FitRecord, Method, Settings};
use crate::science::scaling::{Fitted, Law, Quantity};

/// Distribution of the noise of log losses.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Normal,
    /// Student's distribution with five degrees of freedom.
    Heavy,
    /// Normal, with a standard deviation that falls as N^-0.2 D^-0.2.
    Falling,
}

/// A design with its truth and its noise.
struct Study {
    name: &'static str,
    sizes: Vec<[f64; 3]>,
    truth: Fitted,
    noise: f64,
    shape: Shape,
    /// Standard deviation of what seeds share, and number of seeds.
    seeds: (f64, usize),
}

/// Ten isoFLOP budgets from 6e18 to 3e21 FLOPs, each with twelve sizes within a factor of 16 of 20 tokens per parameter,
/// on the law that fits Hoffmann's points.
fn chinchilla(shape: Shape) -> Study {
    let mut sizes = Vec::new();
    for i in 0..10 {
        let flops = 6e18 * 500f64.powf(f64::from(i) / 9.0);
        for j in 0..12 {
            let optimum = (flops / 120.0).sqrt();
            let parameters = optimum * 16f64.powf(f64::from(j) / 5.5 - 1.0);
            sizes.push([parameters, flops / (6.0 * parameters), flops]);
        }
    }
    Study {
        name: "Chinchilla-like, 120 runs",
        sizes,
        truth: Fitted::new(Law::Chinchilla, &[1.8172, 477.84, 2143.86, 0.3473, 0.3672]),
        noise: 0.008,
        shape,
        seeds: (0.0, 1),
    }
}

/// Five sizes from 1e5 to 1e7 parameters, each on six numbers of tokens from 1e6 to 2e8: 30 runs.
fn small(shape: Shape) -> Study {
    let mut sizes = Vec::new();
    for i in 0..5 {
        for j in 0..6 {
            let parameters = 1e5 * 100f64.powf(f64::from(i) / 4.0);
            let tokens = 1e6 * 200f64.powf(f64::from(j) / 5.0);
            sizes.push([parameters, tokens, 6.0 * parameters * tokens]);
        }
    }
    Study {
        name: "small, 30 runs",
        sizes,
        truth: Fitted::new(Law::Chinchilla, &[1.0, 63.0, 194.0, 0.35, 0.37]),
        noise: 0.005,
        shape,
        seeds: (0.0, 1),
    }
}

/// The small design with three seeds for each run, whose errors are half shared.
fn seeded() -> Study {
    Study {
        name: "small, 30 runs with 3 seeds",
        noise: 0.004,
        seeds: (0.004, 3),
        ..small(Shape::Normal)
    }
}

impl Study {
    /// Returns the noise of a run that its seed decides.
    fn draw(&self, size: [f64; 3], random: &mut Random) -> f64 {
        let centre = self.sizes[self.sizes.len() / 2];
        let noise = self.noise * random.normal();
        match self.shape {
            Shape::Normal => noise,
            Shape::Heavy => {
                let squares: f64 = (0..5).map(|_| random.normal().powi(2)).sum();
                noise / (squares / 3.0).sqrt()
            }
            Shape::Falling => noise * (size[0] * size[1] / (centre[0] * centre[1])).powf(-0.2),
        }
    }

    fn surface(&self, number: u64) -> Vec<Observation> {
        let mut random = Random::stream(77, number);
        let mut runs = Vec::new();
        for (index, size) in self.sizes.iter().enumerate() {
            let (shared, seeds) = self.seeds;
            let shared = shared * random.normal();
            for seed in 0..seeds {
                let noise = self.draw(*size, &mut random);
                let [parameters, tokens, flops] = *size;
                runs.push(Observation {
                    name: format!("{index}/{seed}"),
                    parameters,
                    tokens,
                    flops,
                    loss: self.truth.loss(parameters, tokens, flops) * (shared + noise).exp(),
                    curve: Vec::new(),
                });
            }
        }
        runs
    }

    /// Returns for each quantity the share of intervals that hold the truth, and the share of those of the percentile
    /// bootstrap over runs.
    fn coverage(&self, surfaces: u64, draws: usize) -> Vec<(String, f64, f64)> {
        let one = |number: u64| {
            let settings = Settings {
                law: Law::Chinchilla,
                convention: Convention::Total,
                method: Method::Projection,
                threshold: 1e-3,
                fits_scale: false,
                draws,
                bootstrap: draws,
                seed: number,
            };
            let record = FitRecord::fit("surface", self.surface(number), settings).unwrap();
            let mut hits = Vec::new();
            for estimate in &record.estimates {
                let truth = self.truth.get(estimate.quantity).unwrap();
                let [low, high] = estimate.interval;
                let inside =
                    low.is_none_or(|low| low <= truth) && high.is_none_or(|high| truth <= high);
                let [low, high] = estimate.bootstrap_interval.unwrap();
                hits.push((
                    estimate.quantity.symbol().to_owned(),
                    inside,
                    low <= truth && truth <= high,
                ));
            }
            // Predictions at ten times the largest compute.
            let largest = self.sizes.iter().map(|size| size[2]).fold(0.0, f64::max);
            let (parameters, tokens) = self.truth.optimum(10.0 * largest).unwrap();
            let predictor = Predictor::new(&record);
            let optimum = predictor.optimum(10.0 * largest).unwrap();
            let loss = predictor.loss(parameters, tokens, 10.0 * largest);
            let truth = self.truth.loss(parameters, tokens, 10.0 * largest);
            let holds = |[low, high]: [Option<f64>; 2], truth: f64| {
                low.is_some_and(|low| low <= truth) && high.is_some_and(|high| truth <= high)
            };
            hits.push((
                "N at 10 C".into(),
                holds(optimum.parameters.interval, parameters),
                true,
            ));
            hits.push(("L at 10 C".into(), holds(loss.loss.interval, truth), true));
            // The noise of a run there.
            let mut random = Random::stream(78, number);
            let measured = truth
                * self
                    .draw([parameters, tokens, 10.0 * largest], &mut random)
                    .exp();
            hits.push((
                "run at 10 C".into(),
                holds(loss.run_interval, measured),
                true,
            ));
            hits
        };
        let all: Vec<_> = (0..surfaces).into_par_iter().map(one).collect();
        (0..all[0].len())
            .map(|index| {
                let share = |pick: &dyn Fn(&(String, bool, bool)) -> bool| {
                    all.iter().filter(|hits| pick(&hits[index])).count() as f64 / surfaces as f64
                };
                (
                    all[0][index].0.clone(),
                    share(&|hit| hit.1),
                    share(&|hit| hit.2),
                )
            })
            .collect()
    }
}

fn is_tested(symbol: &str) -> bool {
    [
        Quantity::E,
        Quantity::Alpha,
        Quantity::Beta,
        Quantity::OptimalExponent,
    ]
    .iter()
    .any(|quantity| quantity.symbol() == symbol)
}

/// The share of 60 surfaces has a standard deviation of 2.8 %, so that this test finds intervals that are wrong and not
/// ones that are a little short. The full study is below.
#[test]
fn intervals_hold_the_truth_on_small_designs() {
    for (symbol, share, _) in small(Shape::Heavy).coverage(60, 99) {
        if is_tested(&symbol) {
            assert!((0.88..=1.0).contains(&share), "{symbol}: {share}");
        }
    }
}

/// The table of the guide: 500 surfaces each.
#[test]
#[ignore = "fits 1500000 samples, which takes minutes"]
fn intervals_hold_the_truth_in_500_surfaces() {
    let mut failures = Vec::new();
    let studies = [
        small(Shape::Normal),
        small(Shape::Heavy),
        small(Shape::Falling),
        seeded(),
        chinchilla(Shape::Normal),
        chinchilla(Shape::Falling),
    ];
    for study in studies {
        let start = std::time::Instant::now();
        let coverage = study.coverage(500, 199);
        println!("{}, {:?}: {:.0?}", study.name, study.shape, start.elapsed());
        for (symbol, share, percentile) in coverage {
            println!(
                "  {symbol:<12} {:.1} %   percentile bootstrap {:.1} %",
                100.0 * share,
                100.0 * percentile
            );
            if is_tested(&symbol) && !(0.93..=0.97).contains(&share) {
                failures.push(format!(
                    "{}, {:?}: {symbol} {share}",
                    study.name, study.shape
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
