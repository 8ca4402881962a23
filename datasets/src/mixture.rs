//! Mixture of several datasets into one sequence of rows.

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    DataError,
    permutation::{Permutation, random_of},
};

/// Number of rows in a block, over which the shares of the datasets are exact.
const BLOCK: u64 = 65_536;

/// Assignment of rows to datasets in proportion to their weights.
///
/// Rows are divided into blocks of 65536. Every block has the same number of rows of each dataset: the share of its
/// weight, rounded by the largest-remainder method. A permutation keyed by (seed, block) decides their order. The rows
/// of one dataset keep their own order, so its epochs are the same as without the others. The assignment of a row
/// depends on (seed, row) only.
#[derive(Debug)]
pub struct Mixture {
    /// Number of rows of each dataset in a block.
    shares: Vec<u64>,
    seed: u64,
    /// Most recent block, which usually has the next row too.
    latest: Mutex<Option<Arc<Block>>>,
}

/// Assignment of all rows of a block.
#[derive(Debug)]
struct Block {
    number: u64,
    /// Dataset of each row, and the number of earlier rows of that dataset in the block.
    rows: Vec<(u16, u16)>,
}

impl Mixture {
    /// Creates a mixture of datasets, each given by its name and its weight.
    ///
    /// # Errors
    ///
    /// No dataset, a weight that is not a positive finite number, and a weight too small for one row per block.
    pub fn new(datasets: &[(&str, f64)], seed: u64) -> Result<Self, DataError> {
        let wrong = |name: &str, reason: String| DataError::Dataset {
            path: PathBuf::from(name),
            reason,
        };
        if datasets.is_empty() {
            let reason = "there is no dataset to train on: give at least one";
            return Err(wrong("mixture", reason.into()));
        }
        for (name, weight) in datasets {
            if !(weight.is_finite() && *weight > 0.) {
                let reason =
                    format!("a weight of {weight} in the mixture: give a number larger than 0");
                return Err(wrong(name, reason));
            }
        }
        let shares = shares(
            &datasets
                .iter()
                .map(|(_, weight)| *weight)
                .collect::<Vec<_>>(),
        );
        if let Some(empty) = shares.iter().position(|&share| share == 0) {
            let (name, weight) = datasets[empty];
            let reason = format!(
                "a weight of {weight} is less than one row in {BLOCK} of the mixture: give a larger \
                 one, or leave this dataset out"
            );
            return Err(wrong(name, reason));
        }
        Ok(Self {
            shares,
            seed,
            latest: Mutex::new(None),
        })
    }

    /// Returns the number of rows of each dataset in a block of 65536 rows.
    pub fn shares(&self) -> &[u64] {
        &self.shares
    }

    /// Returns the dataset of row `row`, and the index of the row within that dataset.
    pub fn place(&self, row: u64) -> (usize, u64) {
        if self.shares.len() == 1 {
            return (0, row);
        }
        let block = self.block(row / BLOCK);
        let (dataset, rank) = block.rows[(row % BLOCK) as usize];
        let dataset = usize::from(dataset);
        let before = block.number * self.shares[dataset];
        (dataset, before + u64::from(rank))
    }

    fn block(&self, number: u64) -> Arc<Block> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some(block) if block.number == number => block.clone(),
            _ => latest.insert(Arc::new(self.assign(number))).clone(),
        }
    }

    fn assign(&self, number: u64) -> Block {
        // Dataset d has the positions from `ends[d - 1]` up to `ends[d]` of the permutation.
        let ends: Vec<u64> = self
            .shares
            .iter()
            .scan(0, |end, share| {
                *end += share;
                Some(*end)
            })
            .collect();
        let purpose = b"foretoken/mixture/order.";
        let permutation = Permutation::draw(BLOCK, &mut random_of(purpose, self.seed, number));
        let mut ranks = vec![0u32; ends.len()];
        let row = |row| {
            let place = permutation.apply(row);
            let dataset = ends.partition_point(|&end| end <= place);
            let rank = ranks[dataset];
            ranks[dataset] += 1;
            // Both are below BLOCK: there are at least two datasets, and each has at least one row.
            (dataset as u16, rank as u16)
        };
        Block {
            number,
            rows: (0..BLOCK).map(row).collect(),
        }
    }
}

/// Divides the rows of a block by weight, with the largest-remainder method; ties go to the first dataset.
fn shares(weights: &[f64]) -> Vec<u64> {
    // Relative to the largest, so that the sum stays finite.
    let largest = weights.iter().copied().fold(0., f64::max);
    let total: f64 = weights.iter().map(|weight| weight / largest).sum();
    let exact: Vec<f64> = weights
        .iter()
        .map(|weight| weight / largest / total * BLOCK as f64)
        .collect();
    let mut shares: Vec<u64> = exact.iter().map(|share| share.floor() as u64).collect();
    let left = BLOCK.saturating_sub(shares.iter().sum());
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    for &dataset in by_remainder.iter().take(left as usize) {
        shares[dataset] += 1;
    }
    shares
}
