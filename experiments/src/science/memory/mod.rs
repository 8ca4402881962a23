//! Memorisation against generalisation: what a model can say of its training text, beside what it can say of text that it
//! has not seen.

mod canaries;
mod canary_page;
mod capacities;
mod capacity;
mod capacity_page;
mod counterfactual;
mod counterfactual_page;
mod documents;
mod extract;
mod gap;
mod groups;
mod page;
mod record;
mod sample;
mod sequences;
mod subset_runs;

pub use canaries::{CanaryGroup, CanaryRank, CanarySettings, CanaryTexts};
pub use canary_page::{CanaryRecord, EXPOSURE_OF_CHANCE, copies};
pub use capacities::{Capacities, Capacity, LowerBound};
pub use capacity::{CapacitySettings, Halfway, Memorised, refuse_immeasurable};
pub use capacity_page::CapacityRecord;
pub use counterfactual::{DocumentMemory, Quantile, Savings};
pub use counterfactual_page::CounterfactualRecord;
pub use extract::{ExtractSettings, Extraction};
pub use gap::{GapMeasurement, GapRecord, GapSettings};
pub use groups::{Discoverable, Group, Item};
pub use record::{Excess, ExtractRecord, PrefixRecord, SetRecord};
pub use sample::Texts;
pub use sequences::Sequences;
pub use subset_runs::{CounterfactualMeasurement, CounterfactualSettings, SubsetRuns};
