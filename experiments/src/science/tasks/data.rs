//! Items of a task from its files, with the faults of the files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use foretoken_datasets::{DataError, records};

use super::find::{Use, files};
use super::question::{Item, item};
use super::task::Task;
use crate::Error;
use crate::science::check;

/// Maximum number of items of a task, which are held in memory.
pub const MAX_ITEMS: usize = 1 << 20;

/// Maximum number of bytes of text of a task.
pub const MAX_TEXT_BYTES: usize = 1 << 30;

/// The questions of a task, and the items from which examples are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskData {
    /// The task.
    pub task: Task,
    /// Paths of the files with the questions.
    pub files: Vec<String>,
    /// All questions, in the order of the files.
    pub items: Vec<Item>,
    /// Items that examples are drawn from; empty if none are wanted.
    pub examples: Vec<Item>,
}

impl TaskData {
    /// Reads a task below the folder of all data, with the items for examples if `shots` are wanted.
    ///
    /// # Errors
    ///
    /// Returns an error if files are missing, cannot be read or are too large, or have a faulty or duplicate item, or
    /// fewer items than examples are wanted.
    pub fn read(
        data: &Path,
        task: Task,
        shots: usize,
        interrupt: &AtomicBool,
    ) -> Result<Self, Error> {
        let files = files(data, task, Use::Questions)?;
        let paths = files.iter().map(|file| file.path.display().to_string());
        let paths = paths.collect();
        let items = read_items(task, &files, interrupt)?;
        let mut examples = Vec::new();
        if shots > 0 && task.has_training_file() {
            let files = super::find::files(data, task, Use::Examples)?;
            examples = read_items(task, &files, interrupt)?;
        } else if shots > 0 && task.takes_examples() {
            examples = items.clone();
        }
        let needed = shots + usize::from(task.draws_spare_example());
        if shots > 0 && task.takes_examples() && examples.len() < needed {
            return Err(Error::Experiment {
                origin: "--shots".into(),
                message: format!(
                    "{task} has {} items to draw examples from, and {shots} examples need {needed}; choose fewer",
                    examples.len()
                ),
            });
        }
        Ok(Self {
            task,
            files: paths,
            items,
            examples,
        })
    }
}

/// Reads all items of files.
fn read_items(
    task: Task,
    files: &[foretoken_datasets::SourceFile],
    interrupt: &AtomicBool,
) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut bytes = 0;
    for file in files {
        let wrong = |place: &str, reason: String| DataError::Document {
            path: file.path.clone(),
            place: place.into(),
            reason: foretoken_datasets::files::printable(&reason),
        };
        for record in records(file, task.data_set().columns, &task.advice())? {
            check(interrupt)?;
            let record = record?;
            let place = &record.place;
            let mut item = item(task, &record)
                .map_err(|reason| wrong(place, format!("{reason} (a question of {task})")))?;
            item.place = format!("{}, {place}", file.path.display());
            if let Some(id) = &item.id
                && let Some(first) = seen.insert(id.clone(), item.place.clone())
            {
                let reason = format!(
                    "the id {id:?} is that of {first}, too; an item that is counted twice would bias the score, so \
                     remove one"
                );
                return Err(wrong(place, reason).into());
            }
            let choices = item.choices.iter();
            bytes += choices
                .map(|choice| choice.context.len() + choice.continuation.len())
                .sum::<usize>();
            if items.len() == MAX_ITEMS || bytes > MAX_TEXT_BYTES {
                let reason = format!(
                    "the files of {task} hold more than {MAX_ITEMS} items or {} MiB of text, the limit, because they \
                     are held in memory; give a part of them",
                    MAX_TEXT_BYTES >> 20
                );
                return Err(wrong(place, reason).into());
            }
            items.push(item);
        }
    }
    match (items.is_empty(), files) {
        (false, _) | (true, []) => Ok(items),
        (true, [file, ..]) => Err(DataError::Empty {
            pattern: file.path.display().to_string(),
        }
        .into()),
    }
}
