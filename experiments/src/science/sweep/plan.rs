//! The plan of a sweep: a TOML file with a base experiment, axes and formulas.
//!
//! ```toml
//! experiment = "world.toml"                  # beside the plan; without it, the embedded experiment
//!
//! [set]                                      # keys that are the same in all runs
//! schedule.name = "wsd"
//!
//! [axes]                                     # one run for each combination
//! train.seed = [1, 2]
//! flops = { from = 1e12, to = 1e14, points = 5 }     # evenly spaced logarithms; a name without a dot is a variable
//!
//! [[tied]]                                   # one axis of several keys, whose values belong together
//! model.width = [32, 64]
//! model.heads = [2, 4]
//!
//! [derive]                                   # formulas over keys, variables and `BUILT_IN`
//! train.steps = "flops / (flops_per_token * tokens_per_step)"
//! ```

use std::path::{Path, PathBuf};

use foretoken_datasets::files::{self, printable};
use toml::de::DeTable;

use super::grid::{Axis, Derived};
use super::keys::Keys;
use super::plan_file::PlanFile;
use crate::Error;
use crate::experiment::Template;
use crate::spelling::nearest;

/// Name of the base experiment that the program contains.
const EMBEDDED: &str = "embedded";

/// Tables and keys of a plan.
const KEYS: [&str; 6] = ["name", "experiment", "set", "axes", "tied", "derive"];

/// A plan, whose keys are checked and whose values are not.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the sweep.
    pub name: String,
    pub(super) text: String,
    pub(super) base: Template,
    /// Keys with one value.
    pub(super) set: Vec<(String, toml::Value)>,
    /// In the order of the file, and tied axes after the others.
    pub(super) axes: Vec<Axis>,
    /// In an order in which each formula comes after those that it refers to.
    pub(super) derived: Vec<Derived>,
    origin: String,
}

impl Plan {
    /// Reads a plan, and the experiment that it names.
    ///
    /// # Errors
    ///
    /// Returns an error of one line if a file cannot be read, or a key, an axis or a formula is wrong.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let origin = path.display().to_string();
        let text =
            files::read_text(path, Template::LARGEST).map_err(|error| Error::Experiment {
                origin: origin.clone(),
                message: match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        "no such plan; `foretoken sweep --help` shows one".into()
                    }
                    _ => error.to_string(),
                },
            })?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy());
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &origin, &name.unwrap_or_default(), |file| {
            let base = folder.join(file);
            match base.exists() {
                true => Template::read(&base),
                false => Err(Error::Experiment {
                    origin: origin.clone(),
                    message: format!(
                        "experiment: {} does not exist; name an experiment beside the plan, or \"{EMBEDDED}\"",
                        base.display()
                    ),
                }),
            }
        })
    }

    /// Parses a plan. `open` reads the base experiment.
    pub(super) fn parse(
        text: &str,
        origin: &str,
        name: &str,
        open: impl FnOnce(&Path) -> Result<Template, Error>,
    ) -> Result<Self, Error> {
        let file = PlanFile { text, origin };
        let root = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            file.refused(at, &error.message().replace('\n', "; "))
        })?;
        let mut name = name.to_owned();
        let mut base = None;
        let (mut set, mut axes, mut tied, mut derived) = (vec![], vec![], vec![], vec![]);
        for (key, value) in file.in_order(root.get_ref()) {
            let at = key.span().start;
            match key.get_ref().as_ref() {
                "name" => name = file.text_of("name", value)?,
                "experiment" => base = Some(PathBuf::from(file.text_of("experiment", value)?)),
                "set" => set = file.leaves("set", at, value, false)?,
                "axes" => axes = file.leaves("axes", at, value, true)?,
                "derive" => derived = file.leaves("derive", at, value, false)?,
                "tied" => {
                    let tables = value.get_ref().as_array();
                    let expected =
                        "tied: expected [[tied]] tables, each with keys and their values";
                    for table in tables.ok_or_else(|| file.refused(at, expected))?.iter() {
                        let start = table.span().start;
                        tied.push((start, file.leaves("tied", start, table, true)?));
                    }
                }
                unknown => {
                    let guess = match nearest(unknown, KEYS) {
                        Some(known) => format!("did you mean `{known}`?"),
                        None => format!("a plan has {}", KEYS.join(", ")),
                    };
                    return Err(file.refused(at, &format!("unknown key `{unknown}`; {guess}")));
                }
            }
        }
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(file.refused(0, &format!("name: {name:?} cannot name a directory")));
        }
        let base = match base.as_deref() {
            None => Template::embedded(),
            Some(path) if path == Path::new(EMBEDDED) => Template::embedded(),
            Some(path) => open(path)?,
        };
        // A mistake in the base is not one of the plan's keys.
        base.unchecked(&[])?;
        let keys = Keys {
            file: &file,
            base: &base,
        };
        keys.refuse_repetitions(
            [&set, &axes, &derived]
                .into_iter()
                .chain(tied.iter().map(|(_, leaves)| leaves)),
        )?;
        let fixed = set
            .iter()
            .map(|leaf| keys.fixed(leaf))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut grid = Vec::new();
        for leaf in &axes {
            grid.push(keys.axis(leaf.at, std::slice::from_ref(leaf))?);
        }
        for (at, leaves) in &tied {
            grid.push(keys.axis(*at, leaves)?);
        }
        let derived = derived
            .iter()
            .map(|leaf| Ok((leaf.at, keys.derived(leaf)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let derived = keys.ordered(derived, &grid)?;
        keys.refuse_unused(&axes, &tied, &derived)?;
        Ok(Self {
            name,
            text: text.into(),
            base,
            set: fixed,
            axes: grid,
            derived,
            origin: origin.into(),
        })
    }

    /// Returns an error that names the plan.
    pub(super) fn refused(&self, message: impl std::fmt::Display) -> Error {
        Error::Experiment {
            origin: self.origin.clone(),
            message: printable(&message.to_string()),
        }
    }
}
