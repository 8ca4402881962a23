//! Compares backends on two models of your own, a convolutional network and a multilayer perceptron, on made images:
//! `cargo run --release --example compare_my_model --features ndarray`
use std::process::ExitCode;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use foretoken::verify::compare::{CompareOptions, Subject, Target, print_comparison};

#[derive(Module, Debug)]
struct Network {
    convolution: Option<Conv2d>,
    head: Linear,
}

/// Tells stripes along rows from stripes along columns, with a convolution or without.
struct Stripes(bool);

impl Subject for Stripes {
    type Module = Network;
    type Batch = (Tensor<4>, Tensor<2, Int>);

    fn name(&self) -> String {
        if self.0 { "cnn" } else { "mlp" }.into()
    }

    fn module(&self, device: &Device) -> Network {
        let (pixels, kernels) = if self.0 { (36 * 8, 8) } else { (64, 0) };
        Network {
            convolution: self
                .0
                .then(|| Conv2dConfig::new([1, kernels], [3, 3]).init(device)),
            head: LinearConfig::new(pixels, 2).init(device),
        }
    }

    fn batch(&self, step: usize, seed: u64, target: &Target) -> Self::Batch {
        let noise = |i: usize| ((i + 97 * step) as f32 * 12.9898 + seed as f32).sin();
        let stripe = |i: usize| (i >> if (i / 64).is_multiple_of(2) { 0 } else { 3 } & 1) as f32;
        let pixels: Vec<f32> = (0..32 * 64).map(|i| stripe(i) + noise(i)).collect();
        let images = target.floats(TensorData::new(pixels, [32, 1, 8, 8]));
        let classes: Vec<i64> = (0..32).map(|i| i % 2).collect();
        (
            images,
            Tensor::from_data(TensorData::new(classes, [32, 1]), &target.device),
        )
    }

    fn loss(&self, network: &Network, (images, classes): Self::Batch) -> Tensor<1> {
        let features = match &network.convolution {
            Some(convolution) => relu(convolution.forward(images)),
            None => images,
        };
        let logits = network.head.forward(features.flatten(1, 3));
        log_softmax(logits, 1).gather(1, classes).mean().neg()
    }

    fn items(&self) -> usize {
        32
    }
}

fn main() -> Result<ExitCode, foretoken::Error> {
    let options = CompareOptions {
        steps: 40,
        ..CompareOptions::for_this_build()
    };
    print_comparison(&Stripes(true), &options)?;
    print_comparison(&Stripes(false), &options)
}
