//! The least loss that cut windows allow: a window that begins inside a document does not show how the document began.

use std::sync::Arc;

use rayon::prelude::*;

use super::oracle::{Oracle, SYMBOLS};
use super::process::{Process, State, merge};
use crate::windows::{EvaluationWindows, Window};

/// Maximum number of states of a process whose windows are computed.
const MAX_STATES: usize = 4_000_000;

/// Maximum number of states that the first symbols of all windows allow, taken together.
const MAX_WORK: usize = 200_000_000;

/// Computes `−log₂ P` of the counted targets of all windows, for a predictor that knows the process and sees only the
/// inputs of each window; `None` if that takes too much memory or time.
///
/// A window begins at a random place of an endless text, where the probability of each state is proportional to its
/// [visits](Process::visits). The sum is the log-loss of the Bayesian predictor with that prior. In expectation, no
/// predictor has less.
pub(super) fn bits_in_windows(
    process: &Arc<dyn Process>,
    text: &[u8],
    windows: &EvaluationWindows,
) -> Option<f64> {
    let beliefs = after_one_symbol(&**process)?;
    let belief = |window: &Window| &beliefs[usize::from(text[window.offset])];
    let all: Vec<Window> = (0..windows.count()).map(|i| windows.window(i)).collect();
    let work: usize = all.iter().map(|window| belief(window).len()).sum();
    if work > MAX_WORK {
        return None;
    }
    let bits = |window: Window| {
        let mut oracle = Oracle::new(process.clone());
        oracle.believe(belief(&window));
        let targets = &text[window.offset + 1..][..window.counted.end];
        let logarithms = targets.iter().map(|symbol| oracle.advance(*symbol));
        -logarithms.skip(window.counted.start).sum::<f64>()
    };
    let bits: Vec<f64> = all.into_par_iter().map(bits).collect();
    Some(bits.iter().sum())
}

/// Returns the probabilities of the states after a symbol at a random place, for each symbol.
fn after_one_symbol(process: &dyn Process) -> Option<Vec<Vec<(State, f64)>>> {
    let mut beliefs = vec![Vec::new(); SYMBOLS];
    let mut steps = Vec::new();
    for (state, visits) in process.visits(MAX_STATES)? {
        steps.clear();
        process.steps(state, &mut steps);
        for step in &steps {
            beliefs[usize::from(step.symbol)].push((step.next, visits * step.probability));
        }
    }
    for belief in &mut beliefs {
        merge(belief);
        let total: f64 = belief.iter().map(|(_, weight)| weight).sum();
        for (_, weight) in belief {
            *weight /= total;
        }
    }
    Some(beliefs)
}
