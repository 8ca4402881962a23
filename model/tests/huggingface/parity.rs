//! The same logits and gradients as in `transformers`, on every backend that is compiled in.

use std::io::Write;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use crate::devices::devices;
use crate::parameters::read;
use crate::{Expected, fixture, largest_difference, load, logits, worst};

/// Absolute, in single precision. The logits lie between -10 and 10.
const LOGITS: f32 = 1e-4;

/// Relative to the largest gradient of the same parameter: small ones among large ones are sums that
/// cancel, as inaccurate as their terms. Single precision leaves some 1e-6; a wrong formula far more.
const GRADIENTS: f32 = 1e-3;

/// Largest difference of a logit, and of a gradient relative to the largest of its parameter.
fn parity(folder: &Path, device: &Device) -> (f32, f32) {
    let expected = Expected::read(folder);
    let model = load(folder, device).train();
    let device = model.device();
    let context = model.config().context;
    let whole = logits(&model, expected.columns(0, context, &device));
    let first = logits(&model, expected.columns(0, 1, &device));
    let logits = worst(
        [
            largest_difference(&whole, &expected.logits),
            largest_difference(&first, &expected.logits_1),
        ]
        .into_iter(),
    );

    // Their gradients, which lie in files as weights do, and are opened as weights are.
    let gradients = load(&folder.with_added_extension("gradients"), &Device::flex());
    let theirs = read::<f32>(&gradients, None);
    let inputs = expected.columns(0, context, &device);
    let targets = expected.columns(1, context, &device);
    let gradients = model.next_token_loss(inputs, targets).mean().backward();
    let ours = read(&model, Some(&gradients));
    assert_eq!(theirs.len(), model.config().tensors().len());
    let errors = theirs.iter().map(|(path, theirs)| {
        let largest = worst(theirs.iter().map(|value| value.abs()));
        assert!(largest > 0.0, "{path} has no gradient");
        largest_difference(&ours[path], theirs) / largest
    });
    (logits, worst(errors))
}

/// Past the test runner, which shows what `eprintln!` writes only of a test that fails.
pub(crate) fn show(line: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{line}").unwrap();
}

/// One row of the table.
pub(crate) fn assert_parity(name: &str, folder: &Path, (backend, device): &(&str, Device)) {
    let (logits, gradients) = parity(folder, device);
    let row = format!(
        "parity with transformers: {name:<22} × {backend:<8} → max |Δlogit| {logits:.1e}, max relative \
         gradient error {gradients:.1e}"
    );
    show(&row);
    // Written so that a NaN fails.
    assert!(logits <= LOGITS && gradients <= GRADIENTS, "{row}");
}

#[test]
fn the_fixtures_agree_on_every_backend() {
    for name in ["gpt2", "llama"] {
        for device in devices() {
            assert_parity(&format!("{name} (fixture)"), &fixture(name), &device);
        }
    }
}
