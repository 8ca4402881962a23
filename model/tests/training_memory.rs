//! The estimate of a training step's memory against what a step really allocates.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Int, Tensor};
use foretoken_model::{Activation, Dropout, ModelConfig, Pass};

/// Counts what is allocated. Flex keeps its tensors in ordinary memory. Buffers into which a matrix product packs its
/// operands are not counted: their size depends on the processor's caches and instructions.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Alignment of the buffers of `gemm`, which no tensor has.
const PACKED: usize = 128;

impl Counting {
    fn grow(layout: Layout) {
        if layout.align() < PACKED {
            let bytes = layout.size();
            let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
            PEAK.fetch_max(live, Ordering::Relaxed);
        }
    }
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grow(layout);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::grow(layout);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if layout.align() < PACKED {
            LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that a forward and a backward pass allocate at once, the weights not among them.
fn measured(config: &ModelConfig, batch: usize, length: usize) -> usize {
    let device = Device::flex().autodiff();
    let model = config.init(1, &device).unwrap();
    let tokens = || Tensor::<2, Int>::zeros([batch, length], &device);
    let step = |model: &foretoken_model::Transformer| {
        let loss =
            model.next_token_loss_in(Pass::training(&Dropout::new(1, 0)), tokens(), tokens());
        loss.mean().backward()
    };
    // Draws the weights.
    drop(step(&model));
    // The least of several: a thread that works for the first time makes buffers that it keeps.
    let peaks = (0..3).map(|_| {
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        drop(step(&model));
        PEAK.load(Ordering::Relaxed) - before
    });
    peaks.min().unwrap()
}

#[test]
fn the_estimate_of_activations_is_near_what_a_step_allocates() {
    let gpt2 = ModelConfig::new(300, 128, 3, 4, 64);
    let llama = ModelConfig::llama(300, 128, 3, 8, 2, 64);
    let configs = [
        ("gpt2", gpt2.clone()),
        (
            "gpt2, large vocabulary",
            ModelConfig::new(5000, 128, 2, 4, 64),
        ),
        ("llama", llama.clone()),
        (
            "llama, qk-norm",
            ModelConfig {
                qk_norm: true,
                ..llama
            },
        ),
        ("gelu", gpt2.clone().with_activation(Activation::Gelu)),
        ("relu2", gpt2.clone().with_activation(Activation::Relu2)),
        (
            "qk-norm",
            ModelConfig {
                qk_norm: true,
                ..gpt2.clone()
            },
        ),
        (
            "dropout",
            ModelConfig {
                dropout: 0.1,
                ..gpt2.clone()
            },
        ),
        (
            "cap",
            ModelConfig {
                logit_cap: Some(30.0),
                ..gpt2
            },
        ),
    ];
    for (name, config) in configs {
        // As the guide says (docs/src/inspect.md); what the norms of single heads keep is not counted to the last number.
        let tolerance: f64 = if config.qk_norm { 1.05 } else { 1.03 };
        // Many short windows, and few long ones, in which scores outweigh the rest.
        for (batch, length) in [(32, 16), (8, 128)] {
            // The gradient of a tied head is there first of all gradients.
            let head = 4 * config.vocab_size * config.width;
            let estimate = config.training_memory(batch, length).activations as f64 + head as f64;
            let measured = measured(&config, batch, length) as f64;
            let ratio = measured / estimate;
            println!(
                "{name:24} {batch:2} × {length:3}: measured {measured:9.0} / estimated {estimate:9.0} = {ratio:.3}"
            );
            assert!(ratio.ln().abs() < tolerance.ln(), "{name}: {ratio}");
        }
    }
}
