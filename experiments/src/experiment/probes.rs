//! The section `[probes]`: items that are put to the model while it trains.

use foretoken_datasets::world::{Family, WorldKind};
use serde::{Deserialize, Serialize};

/// The section `[probes]`. An experiment without it has no probes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbesSection {
    /// Families of items. Empty stands for all that the world has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<Family>,
    /// Steps after which the model is probed, besides the last one.
    pub every: ProbeSteps,
    /// Number of items of each family.
    pub items: usize,
}

impl Default for ProbesSection {
    fn default() -> Self {
        Self {
            families: Vec::new(),
            every: ProbeSteps::default(),
            items: 16,
        }
    }
}

/// Steps after which the model is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number N for every N steps, or \"log\" for the steps 1, 2, 4, 8 and so on"
)]
pub enum ProbeSteps {
    /// Every step that is a multiple of this number.
    Every(usize),
    /// Powers of two.
    Spaced(Spacing),
}

/// Spacing of steps by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Powers of two.
    Log,
}

impl Default for ProbeSteps {
    fn default() -> Self {
        Self::Spaced(Spacing::Log)
    }
}

impl ProbeSteps {
    /// Returns whether the model is probed after `step` of `last` steps.
    pub fn contains(self, step: usize, last: usize) -> bool {
        step == last
            || step > 0
                && match self {
                    Self::Every(period) => step.is_multiple_of(period),
                    Self::Spaced(Spacing::Log) => step.is_power_of_two(),
                }
    }
}

impl ProbesSection {
    /// Most items of a family.
    pub const MAX_ITEMS: usize = 10_000;

    /// Returns the families that are probed in a world of a kind.
    pub fn families_in(&self, kind: WorldKind) -> Vec<Family> {
        match self.families.is_empty() {
            true => Family::of(kind).to_vec(),
            false => self.families.clone(),
        }
    }

    /// Checks the values for a world of this kind; `None` for other data. The error names the key.
    pub(crate) fn validate(&self, world: Option<WorldKind>) -> Result<(), (&'static str, String)> {
        let Some(kind) = world.filter(|kind| !Family::of(*kind).is_empty()) else {
            let message = "needs a world whose facts are known: set data.world.kind to \"grammar\" or \"facts\", or remove \
                           the section";
            return Err(("probes", message.into()));
        };
        let known = Family::of(kind);
        if let Some(family) = self.families.iter().find(|family| !known.contains(family)) {
            let names: Vec<&str> = known.iter().map(|family| family.name()).collect();
            let message = format!(
                "a world of the kind {:?} has no {family}; its families are {}",
                kind.name(),
                names.join(", ")
            );
            return Err(("probes.families", message));
        }
        if self.every == ProbeSteps::Every(0) {
            let message = "must be at least 1, or \"log\" for the steps 1, 2, 4, 8 and so on";
            return Err(("probes.every", message.into()));
        }
        match self.items {
            1..=Self::MAX_ITEMS => Ok(()),
            items => {
                let message = format!("is {items}; it must be from 1 to {}", Self::MAX_ITEMS);
                Err(("probes.items", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_multiples_or_powers_of_two_and_the_last() {
        let steps = |every: ProbeSteps| -> Vec<usize> {
            (0..=20).filter(|step| every.contains(*step, 19)).collect()
        };
        assert_eq!(steps(ProbeSteps::default()), [1, 2, 4, 8, 16, 19]);
        assert_eq!(steps(ProbeSteps::Every(7)), [7, 14, 19]);
    }

    #[test]
    fn families_default_to_those_of_the_world() {
        let section = ProbesSection::default();
        assert_eq!(section.families_in(WorldKind::Grammar), Family::ALL);
        assert_eq!(
            section.families_in(WorldKind::Facts),
            [Family::Facts, Family::Recall]
        );
        assert!(section.validate(None).is_err());
        assert!(section.validate(Some(WorldKind::Markov)).is_err());
    }
}
