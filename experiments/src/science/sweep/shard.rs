//! Shards: fixed parts of a sweep for the tasks of a job array.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::index::Entry;

/// One of several parts, written `i/n` with i from 1 to n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parsed {
            None => Err("expected i/n, such as 1/4 for the first of four parts".into()),
            Some((_, 0)) => Err("there are no 0 parts; expected i/n, such as 1/4".into()),
            Some((0, count)) => Err(format!(
                "parts are counted from 1: the first of {count} is 1/{count} (a job array begins with --array=1-{count})"
            )),
            Some((index, count)) if index > count => Err(format!(
                "there is no part {index} of {count}; the last is {count}/{count}"
            )),
            Some((index, count)) => Ok(Self { index, count }),
        }
    }
}

impl Shard {
    /// Returns the names of its runs. The units of a sweep, ladders and single runs, are dealt out by their cost, the
    /// largest first, each to the shard that has the least so far.
    pub(super) fn names(self, entries: &[Entry]) -> Vec<String> {
        let mut costs = vec![0.0; self.count];
        let mut ours = Vec::new();
        for (flops, names) in units(entries) {
            let least = (0..self.count).min_by(|a, b| f64::total_cmp(&costs[*a], &costs[*b]));
            let least = least.unwrap_or(0);
            costs[least] += flops;
            if least + 1 == self.index {
                ours.extend(names);
            }
        }
        ours
    }
}

/// Returns the number of units of a sweep, which is the largest number of shards that all have work.
pub(super) fn unit_count(entries: &[Entry]) -> usize {
    units(entries).len()
}

/// Returns the units with their floating-point operations, the largest first.
fn units(entries: &[Entry]) -> Vec<(f64, Vec<String>)> {
    let mut units: BTreeMap<&str, (f64, Vec<String>)> = BTreeMap::new();
    for entry in entries {
        let trunk = entry.shared.as_ref().map(|shared| shared.trunk.as_str());
        let (flops, names) = units.entry(trunk.unwrap_or(&entry.name)).or_default();
        *flops += entry.own_flops();
        names.push(entry.name.clone());
    }
    let mut units: Vec<_> = units.into_values().collect();
    // The sort is stable, so that equal units stay in the order of their names.
    units.sort_by(|a, b| b.0.total_cmp(&a.0));
    units
}
