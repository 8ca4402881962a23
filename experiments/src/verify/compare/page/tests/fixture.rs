//! Fictitious comparison for tests. Every number in it is made up: no backend was measured.

use super::{
    Backend, Check, Checked, Comparison, Computation, Entrant, Entry, Envelope, Environment,
    Invariance, Precision, Reference, Seeds, Verdict,
};

/// Generator of pseudorandom numbers between −1 and 1, the same in every run.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

const F32: f64 = 6e-8;
const BF16: f64 = 4e-3;

/// Returns losses that decrease from 4.6 towards 0.9.
fn losses(steps: usize, seed: u64) -> Vec<f64> {
    let mut noise = Noise(seed);
    (0..steps)
        .map(|step| {
            let at = step as f64 / steps.max(1) as f64;
            let level = 0.9 + 3.7 / (1.0 + 24.0 * at);
            f64::from((level * (1.0 + 0.03 * noise.draw())) as f32)
        })
        .collect()
}

/// Returns the effect of one rounding on the loss at a step.
fn growth(step: usize, steps: usize, unit: f64) -> f64 {
    let at = step as f64 / steps.max(1) as f64;
    (unit * 2.0 * (1.0 + 300.0 * at) * (4.0 * at).exp()).min(0.05)
}

fn moved(losses: &[f64], unit: f64, seed: u64) -> Vec<f64> {
    let mut noise = Noise(seed);
    let steps = losses.len();
    let shift = |(step, loss)| loss + noise.draw() * growth(step, steps, unit);
    losses.iter().copied().enumerate().map(shift).collect()
}

const BLOCK: [&str; 12] = [
    "attention_norm.gamma",
    "attention_norm.beta",
    "attention.qkv.weight",
    "attention.qkv.bias",
    "attention.output.weight",
    "attention.output.bias",
    "feed_forward_norm.gamma",
    "feed_forward_norm.beta",
    "feed_forward.up.weight",
    "feed_forward.up.bias",
    "feed_forward.down.weight",
    "feed_forward.down.bias",
];

/// Returns the checks of a model of 12 blocks. Gradients are wrong in layer `wrong` and all layers before it.
fn checks(unit: f64, wrong: Option<usize>, seed: u64) -> Vec<Check> {
    let mut noise = Noise(seed);
    let mut made = vec![
        Check {
            step: 0,
            of: Checked::Loss,
            path: None,
            error: unit * 0.2,
            bound: unit * 2.0,
        },
        Check {
            step: 0,
            of: Checked::Logits,
            path: None,
            error: unit * 0.7,
            bound: unit * 4.0,
        },
    ];
    let mut paths = vec!["token_embedding.weight".to_owned()];
    paths.push("position_embedding.weight".into());
    for layer in 0..12 {
        paths.extend(BLOCK.map(|name| format!("blocks.{layer}.{name}")));
    }
    paths.extend(["final_norm.gamma", "final_norm.beta"].map(String::from));
    for of in [Checked::Gradient, Checked::Update] {
        for path in &paths {
            let layer = path.split('.').nth(1).and_then(|n| n.parse::<usize>().ok());
            let spoiled = match (wrong, layer) {
                (Some(from), Some(layer)) if layer <= from && of == Checked::Gradient => {
                    let worst = path.contains("attention");
                    if worst { 900.0 } else { 15.0 }
                }
                _ => 1.0,
            };
            let bound = unit * 12.0;
            made.push(Check {
                step: 0,
                of,
                path: Some(path.clone()),
                error: bound * spoiled * 10f64.powf(-1.6 + noise.draw()),
                bound,
            });
        }
    }
    made
}

/// Returns results of the invariance checks in the order of [`Computation::ALL`], with these errors.
pub(super) fn invariance(unit: f64, errors: [f64; 3]) -> Vec<Invariance> {
    let bound = unit * 40.0;
    let of = |(of, error): (Computation, f64)| Invariance {
        of,
        verdict: match error {
            0.0 => Verdict::Identical,
            error if error <= bound => Verdict::Rounding,
            _ => Verdict::Differs,
        },
        error,
        bound,
        max_abs_difference: error * 9.0,
    };
    Computation::ALL.into_iter().zip(errors).map(of).collect()
}

fn environment(backend: Backend, device: &str, driver: Option<&str>) -> Environment {
    Environment {
        started: "2026-01-02T03:04:05Z".into(),
        step: 0,
        foretoken: "0.1.0".into(),
        burn: "0.22.1".into(),
        git_revision: "0123456789abcdef0123456789abcdef01234567".into(),
        rustc: "rustc 1.95.0 (made up 2026-01-01)".into(),
        features: ["flex", "ndarray", "libtorch", "wgpu"]
            .map(String::from)
            .into(),
        backend: backend.name().into(),
        device: device.into(),
        driver: driver.map(String::from),
        os: "Linux (Debian GNU/Linux 12)".into(),
        architecture: "x86_64".into(),
        cpu: "AMD EPYC 9B14".into(),
        logical_cores: 2,
        threads: [("rayon".to_owned(), 2)].into(),
        memory_bytes: 25_276_502_016,
    }
}

/// Returns the entry of a backend that ran.
fn entry(name: Backend, dtype: Precision, verdict: Verdict, losses: Vec<f64>, pace: f64) -> Entry {
    let mut noise = Noise(pace.to_bits());
    let steps = losses.len();
    Entry {
        entrant: Entrant { name, dtype },
        fused: true,
        verdict,
        reason: String::new(),
        judged_by: Vec::new(),
        comparable_steps: None,
        outcomes: Vec::new(),
        first_step: None,
        max_abs_loss_difference: None,
        envelope: None,
        final_loss: losses.last().copied().filter(|loss| loss.is_finite()),
        tokens_per_second: Some(512.0 / pace),
        peak_memory_bytes: Some((pace * 6e9) as u64 + 180_000_000),
        inside_seed_spread: Some(true),
        run: Some(format!("runs/compare-1/{name}-{dtype}").into()),
        environment: Some(environment(name, "AMD EPYC 9B14", None)),
        seconds: (0..steps)
            .map(|step| match step {
                0 => pace * 6.0,
                _ => pace * (1.0 + 0.1 * noise.draw() + 0.4 * noise.draw().powi(8)),
            })
            .collect(),
        gradient_norms: losses.iter().map(|loss| 0.3 * loss).collect(),
        weights_distance: Vec::new(),
        checks: Vec::new(),
        invariance: Vec::new(),
        losses,
    }
}

/// Returns a comparison of `steps` steps with a backend of every verdict.
pub(super) fn comparison(steps: usize) -> Comparison {
    let reference = losses(steps, 1);
    let at = |share: f64| (share * steps as f64) as usize;
    let distance = |unit: f64, seed: u64| -> Vec<f64> {
        let mut noise = Noise(seed);
        let place = |step| growth(step, steps, unit) * (0.4 + 0.02 * noise.draw());
        (0..steps).map(place).collect()
    };

    let mut flex = entry(
        Backend::Flex,
        Precision::F64,
        Verdict::Own,
        reference.clone(),
        0.029,
    );
    flex.reason =
        "every loss and gradient norm has the same bits; no evidence about another backend".into();
    flex.max_abs_loss_difference = Some(0.0);
    flex.weights_distance = vec![0.0; steps];
    flex.checks = checks(1e-16, None, 5);
    flex.invariance = invariance(1e-16, [3e-16, 0.0, 5e-16]);

    let mut ndarray = entry(
        Backend::NdArray,
        Precision::F32,
        Verdict::Rounding,
        moved(&reference, F32, 2),
        0.041,
    );
    ndarray.reason = "the largest difference is 22 % of the envelope".into();
    ndarray.max_abs_loss_difference = Some(2.1e-3);
    ndarray.envelope = Some(9.4e-3);
    ndarray.weights_distance = distance(F32, 2);
    ndarray.checks = checks(F32, None, 6);
    ndarray.invariance = invariance(F32, [2.9e-7, 1.4e-7, 3.1e-7]);

    let mut libtorch = entry(
        Backend::LibTorch,
        Precision::F32,
        Verdict::Outcome,
        moved(&reference, F32 * 8.0, 3),
        0.018,
    );
    libtorch.reason = format!(
        "step {}: the loss leaves the envelope; it ends as other seeds do",
        at(0.3)
    );
    libtorch.first_step = Some(at(0.3));
    libtorch.max_abs_loss_difference = Some(1.3e-2);
    libtorch.envelope = Some(9.9e-3);
    libtorch.weights_distance = distance(F32 * 6.0, 3);
    libtorch.checks = checks(F32 * 1.1, None, 7);

    let mut half = entry(
        Backend::LibTorch,
        Precision::BF16,
        Verdict::Identical,
        moved(&reference, BF16 * 0.1, 4),
        0.013,
    );
    half.reason = "every loss and gradient norm has the same bits".into();
    half.max_abs_loss_difference = Some(0.11);
    half.envelope = Some(0.4);
    half.weights_distance = distance(BF16 * 0.1, 4);
    half.checks = checks(BF16, None, 8);
    half.invariance = invariance(BF16, [0.02, 0.0, 0.03]);
    half.invariance[2].verdict = Verdict::Unavailable;
    half.invariance[2].bound = 1.3;

    let mut wgpu_losses = moved(&reference, F32, 9);
    for (step, loss) in wgpu_losses.iter_mut().enumerate().skip(at(0.12)) {
        *loss += 0.35 * (1.0 - (-8.0 * (step as f64 / steps as f64 - 0.12)).exp());
    }
    let mut wgpu = entry(
        Backend::Wgpu,
        Precision::F32,
        Verdict::Differs,
        wgpu_losses,
        0.93,
    );
    wgpu.reason = "step 0: the gradient of blocks.4.attention.qkv.weight is off by 1.6e-5, and rounding explains \
                   7.2e-7"
        .into();
    wgpu.first_step = Some(0);
    wgpu.max_abs_loss_difference = Some(0.36);
    wgpu.envelope = Some(8.1e-3);
    wgpu.inside_seed_spread = Some(false);
    wgpu.peak_memory_bytes = None;
    wgpu.weights_distance = distance(F32 * 4e4, 9);
    wgpu.checks = checks(F32, Some(4), 9);
    wgpu.invariance = invariance(F32, [0.031, 2e-7, 0.2]);
    let driver = Some("SwiftShader driver 5.0.0");
    wgpu.environment = Some(environment(
        Backend::Wgpu,
        "SwiftShader Device (LLVM 10.0.0)",
        driver,
    ));

    let mut broken_losses = moved(&reference[..at(0.62)], F32, 10);
    broken_losses.push(f64::INFINITY);
    broken_losses.push(f64::NAN);
    broken_losses.truncate(steps);
    let mut broken = entry(
        Backend::CubeclCpu,
        Precision::F32,
        Verdict::Failed,
        broken_losses,
        0.35,
    );
    broken.reason = format!("the loss is NaN at step {}", at(0.62) + 1);
    broken.final_loss = None;
    broken.inside_seed_spread = None;
    broken.max_abs_loss_difference = Some(f64::NAN);
    broken.checks = checks(F32, None, 11);
    broken.checks[0].error = f64::NAN;

    let mut absent = entry(
        Backend::Cuda,
        Precision::F32,
        Verdict::Unavailable,
        Vec::new(),
        1.0,
    );
    absent.reason = "backend cuda is not compiled in: rebuild with --features cuda".into();
    absent.tokens_per_second = None;
    absent.peak_memory_bytes = None;
    absent.inside_seed_spread = None;
    absent.run = None;
    absent.environment = None;

    let envelope = |dtype, unit: f64, factor: f64| Envelope {
        of: Entrant {
            name: Backend::Flex,
            dtype,
        },
        runs: 4,
        quantile: 0.99,
        comparable: Some(steps),
        losses: Vec::new(),
        final_losses: Vec::new(),
        factor,
        loss: (0..steps)
            .map(|step| factor * 0.3 * growth(step, steps, unit))
            .collect(),
        weights: (0..steps)
            .map(|step| factor * 0.15 * growth(step, steps, unit))
            .collect(),
    };
    let seeds = [1, 2, 3];
    let seed_losses: Vec<Vec<f64>> = seeds
        .iter()
        .map(|seed| moved(&losses(steps, *seed), 1e-5, *seed))
        .collect();
    Comparison {
        reference: Reference {
            entrant: flex.entrant,
            final_loss: reference.last().copied(),
            losses: reference,
            invariance: flex.invariance.clone(),
        },
        experiment_hash: "3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b".into(),
        backends: vec![flex, ndarray, libtorch, half, wgpu, broken, absent],
        foretoken: "0.1.0".into(),
        created: "2026-01-02T03:09:11Z".into(),
        name: "fixture".into(),
        initial_weights: "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c".into(),
        data: "7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730".into(),
        experiment: "# Made up, for tests.\nname = \"fixture\"\n\n[data]\ntokenizer = \"char\"\n\n\
                     [data.world]\nseed = 1\n\n[model]\nlayers = 12\nheads = 8\nwidth = 64\n\n\
                     [train]\nsteps = 400\nbatch = 4\n"
            .into(),
        steps,
        unit: Default::default(),
        tokens_per_step: 512,
        lockstep: true,
        envelopes: vec![
            envelope(Precision::F32, F32, 10.0),
            envelope(Precision::BF16, BF16 * 0.1, 10.0),
        ],
        seeds: Some(Seeds {
            final_losses: vec![1.0437, 1.0561, 1.0312],
            losses: seed_losses,
            seeds: seeds.into(),
            spread: 0.0249,
            dtype: Some(Precision::F32),
        }),
    }
}
