//! Standard benchmarks: which of several continuations a model finds most probable.
//!
//! Tasks, prompts, scores and their standard errors are those of EleutherAI's lm-evaluation-harness (Gao et al.,
//! <https://github.com/EleutherAI/lm-evaluation-harness>), so that results can be compared with published ones item by
//! item. Data sets are read from local files with the columns of Hugging Face's hub.

mod data;
mod evaluate;
mod fields;
mod find;
mod page;
mod paired;
mod question;
mod record;
mod request;
mod result;
mod shots;
mod task;
#[cfg(test)]
mod tests;
mod text;

pub use data::{MAX_ITEMS, MAX_TEXT_BYTES, TaskData};
pub use evaluate::{TaskSettings, evaluate};
pub use fields::MAX_CHOICES;
pub use paired::{McNemar, RESAMPLES, TaskDifference, differences};
pub use question::{Choice, Item};
pub use record::{TasksAgainst, TasksModel, TasksRecord};
pub use request::PairEncoder;
pub use result::{ChoiceResult, GroupResult, ItemResult, TaskResult};
pub use task::{Measure, Task};
