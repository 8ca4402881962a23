//! From a plan to its runs: every combination of the axes, with its formulas computed and its cost counted.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_datasets::{DataError, Monitor};
use foretoken_model::ModelConfig;
use sha2::{Digest, Sha256};

use super::grid::{BUILT_IN, Column, Derived, TOKENS_PER_STEP, is_variable, without_origin};
use super::ladder;
use super::plan::Plan;
use super::range::MAX_WHOLE;
use super::run::{Cost, Run, non_embedding_parameters, positions_per_step};
use crate::engine::data::Data;
use crate::experiment::{DataSection, ModelSection, WindowKind};
use crate::record::source::{Checkpoint, Source};
use crate::{Error, Experiment};

/// Most runs of a sweep.
const MAX_RUNS: usize = 10_000;

/// Longest name of a run. Longer ones are cut and get a hash.
const MAX_NAME: usize = 80;

/// Returns the runs of a plan, in the order of its axes: the last one varies fastest.
///
/// # Errors
///
/// Returns an error if there are too many runs, a value has the wrong type, a formula has no finite value, two runs are
/// the same, or the data cannot be read.
pub fn expand(plan: &Plan, monitor: Monitor<'_>) -> Result<Vec<Run>, Error> {
    let points = plan.axes.iter().map(|axis| axis.points());
    let count = points.clone().try_fold(1_usize, usize::checked_mul);
    let Some(count) = count.filter(|count| *count <= MAX_RUNS) else {
        let factors: Vec<_> = points.map(|points| points.to_string()).collect();
        let message = format!(
            "the axes have {} combinations; a sweep has at most {MAX_RUNS} runs",
            factors.join(" × ")
        );
        return Err(plan.refused(message));
    };
    let of_all = plan.set.iter().map(|(key, value)| format!("{key}={value}"));
    let mut vocabularies = Vocabularies {
        monitor,
        base: unchecked(plan, &of_all.collect::<Vec<_>>(), "[set]")?.data,
        known: Vec::new(),
        shares: Vec::new(),
    };
    let labels = labels(plan);
    let mut runs = Vec::new();
    for index in 0..count {
        runs.push(run(plan, &labels, index, &mut vocabularies)?);
    }
    refuse_equals(plan, &runs)?;
    ladder::share(&mut runs);
    Ok(runs)
}

/// Returns the name of each axis in names of runs: the last part of its first key, or the whole key if that is not
/// unique.
fn labels(plan: &Plan) -> Vec<String> {
    let firsts = plan.axes.iter().filter_map(|axis| axis.columns.first());
    let keys: Vec<&str> = firsts.map(|column| column.key.as_str()).collect();
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    keys.iter()
        .map(|key| {
            let label = last(key);
            match keys.iter().filter(|other| last(other) == label).count() {
                1 => label,
                _ => key.replace('.', "_"),
            }
        })
        .collect()
}

fn run(
    plan: &Plan,
    labels: &[String],
    index: usize,
    vocabularies: &mut Vocabularies,
) -> Result<Run, Error> {
    let mut place = index;
    let mut picked: Vec<Vec<(&Column, &toml::Value)>> = Vec::new();
    for axis in plan.axes.iter().rev() {
        let at = place % axis.points();
        place /= axis.points();
        let columns = axis.columns.iter();
        picked.push(columns.map(|column| (column, &column.values[at])).collect());
    }
    picked.reverse();
    let parts = labels.iter().zip(&picked);
    let parts: Vec<_> = parts
        .filter_map(|(label, columns)| Some(part_of_name(label, columns.first()?.1)))
        .collect();
    let name = match parts.is_empty() {
        true => "run".into(),
        false => shortened(parts.join("-")),
    };
    let values = picked.iter().flatten();
    let keys: Vec<_> = values
        .map(|(column, value)| (column.key.clone(), (*value).clone()))
        .collect();
    let mut making = Making {
        plan,
        name: &name,
        overrides: Vec::new(),
        keys,
        refusal: None,
    };
    let experiment = making.experiment(vocabularies)?;
    let Making {
        keys,
        overrides,
        mut refusal,
        ..
    } = making;
    if refusal.is_none()
        && let Err(error) = plan.base.check(&experiment, &overrides)
    {
        refusal = Some(error.to_string().trim_start_matches("--set ").to_owned());
    }
    let mut cost = None;
    if refusal.is_none() {
        match vocabularies.model(&experiment)? {
            Ok(model) => match vocabularies.counted_share(&experiment, &model)? {
                Ok(counted) => cost = Some(Cost::of(&experiment, &model, counted)),
                Err(reason) => refusal = Some(reason),
            },
            Err(reason) => refusal = Some(reason),
        }
    }
    Ok(Run {
        experiment: Experiment {
            name: name.clone(),
            ..experiment
        },
        name,
        keys,
        cost,
        refusal,
        shared: None,
    })
}

/// An experiment in the making.
struct Making<'a> {
    plan: &'a Plan,
    name: &'a str,
    overrides: Vec<String>,
    keys: Vec<(String, toml::Value)>,
    refusal: Option<String>,
}

impl Making<'_> {
    /// Returns the experiment with the values of the axes, and computes the formulas.
    fn experiment(&mut self, vocabularies: &mut Vocabularies) -> Result<Experiment, Error> {
        let values = self.plan.set.iter().chain(&self.keys);
        let of_experiment = values.filter(|(key, _)| !is_variable(key));
        self.overrides = of_experiment
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut experiment = self.unchecked()?;
        for derived in &self.plan.derived {
            let model = vocabularies.model(&experiment)?;
            let needs_model = derived
                .formula
                .names()
                .iter()
                .any(|name| BUILT_IN.contains(name));
            if needs_model && let Err(reason) = &model {
                self.refusal = Some(reason.clone());
                break;
            }
            let model = model.ok();
            let tokens_per_step = match &model {
                Some(model) if derived.formula.names().contains(TOKENS_PER_STEP) => {
                    match vocabularies.counted_share(&experiment, model)? {
                        Ok(counted) => {
                            Some(counted * positions_per_step(&experiment, model) as f64)
                        }
                        Err(reason) => {
                            self.refusal = Some(reason);
                            break;
                        }
                    }
                }
                _ => None,
            };
            let value = self.value(derived, &experiment, model.as_ref(), tokens_per_step)?;
            if !is_variable(&derived.key) {
                self.overrides.push(format!("{}={value}", derived.key));
                experiment = self.unchecked()?;
            }
            self.keys.push((derived.key.clone(), value));
        }
        Ok(experiment)
    }

    fn unchecked(&self) -> Result<Experiment, Error> {
        unchecked(self.plan, &self.overrides, &format!("run {}", self.name))
    }

    fn refused(&self, message: impl std::fmt::Display) -> Error {
        self.plan.refused(format!("run {}: {message}", self.name))
    }

    fn value(
        &self,
        derived: &Derived,
        experiment: &Experiment,
        model: Option<&ModelConfig>,
        tokens_per_step: Option<f64>,
    ) -> Result<toml::Value, Error> {
        let mut resolved = experiment.clone();
        if let Some(model) = model {
            resolved.model = ModelSection::of(model, None);
        }
        let table = toml::Table::try_from(&resolved).unwrap_or_default();
        let number = |name: &str| -> Option<f64> {
            let built_in = match (name, model) {
                ("parameters", Some(model)) => Some(model.parameters() as f64),
                ("non_embedding_parameters", Some(model)) => {
                    Some(non_embedding_parameters(model) as f64)
                }
                ("flops_per_token", Some(model)) => Some(model.flops_per_token()),
                (TOKENS_PER_STEP, _) => tokens_per_step,
                _ => None,
            };
            let of_plan = self.keys.iter().find(|(key, _)| key == name);
            let value = match of_plan {
                Some((_, value)) => Some(value),
                None => leaf(&table, name),
            };
            built_in.or_else(|| {
                value.and_then(|value| {
                    let whole = value.as_integer().map(|whole| whole as f64);
                    whole.or_else(|| value.as_float())
                })
            })
        };
        let value = derived.formula.value(&number);
        let value = value.map_err(|message| self.refused(format!("{}: {message}", derived.key)))?;
        Ok(match derived.whole {
            true if value.abs() > MAX_WHOLE => {
                let message = format!("{}: {value} is more than {MAX_WHOLE}", derived.key);
                return Err(self.refused(message));
            }
            true => toml::Value::Integer(value.round() as i64),
            false => toml::Value::Float(value),
        })
    }
}

/// Returns the base experiment of a plan with other values for some keys. `place` says in messages whose they are.
fn unchecked(plan: &Plan, overrides: &[String], place: &str) -> Result<Experiment, Error> {
    let made = plan.base.unchecked(overrides);
    made.map_err(|error| match &error {
        Error::Experiment { origin, .. } if origin.starts_with("--set ") => {
            let message = error.to_string();
            plan.refused(format!("{place}: {}", message.trim_start_matches("--set ")))
        }
        _ => error,
    })
}

/// Returns the value of a dotted key.
fn leaf<'t>(table: &'t toml::Table, key: &str) -> Option<&'t toml::Value> {
    let (sections, last) = key.rsplit_once('.')?;
    let mut table = table;
    for section in sections.split('.') {
        table = table.get(section)?.as_table()?;
    }
    table.get(last)
}

/// Sizes of the vocabularies of data that was read, and shares of the positions of its windows that count.
struct Vocabularies<'m> {
    monitor: Monitor<'m>,
    /// Data of the runs whose data no axis changes.
    base: DataSection,
    known: Vec<(DataSection, usize)>,
    shares: Vec<(DataSection, usize, f64)>,
}

impl Vocabularies<'_> {
    /// Returns the model of an experiment, or the reason for which it is none.
    ///
    /// # Errors
    ///
    /// Returns an error if the data of the base experiment or the model to start from cannot be read.
    fn model(&mut self, experiment: &Experiment) -> Result<Result<ModelConfig, String>, Error> {
        let section = &experiment.model;
        let given = match &section.init_from {
            Some(path) => Some(Source::open(path, Checkpoint::Best, None)?.config().clone()),
            None => None,
        };
        let tokens = match (section.vocab_size, &given) {
            (Some(_), _) | (None, Some(_)) => 0,
            (None, None) => match self.tokens(&experiment.data)? {
                Ok(tokens) => tokens,
                Err(reason) => return Ok(Err(reason)),
            },
        };
        if given.is_none()
            && let Err((key, message)) = section.base()
        {
            return Ok(Err(format!("{key}: {message}")));
        }
        let config = section.config(tokens, given.as_ref());
        Ok(config.map_err(|error| match &error {
            Error::Experiment { origin, .. } => format!("{origin}: {}", without_origin(&error)),
            other => other.to_string(),
        }))
    }

    /// Reads data, or returns the reason for which a run has none, if an axis has chosen them.
    ///
    /// # Errors
    ///
    /// Returns an error if the data of the base experiment cannot be read.
    fn read<T>(
        &self,
        section: &DataSection,
        from: impl FnOnce(Data) -> Result<T, Error>,
    ) -> Result<Result<T, String>, Error> {
        match Data::load(section, self.monitor).and_then(from) {
            Ok(read) => Ok(Ok(read)),
            Err(error @ Error::Data(DataError::Interrupted)) => Err(error),
            Err(error) if *section != self.base => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Returns the share of positions whose targets count, or the reason for which a run has no data. Reads the data only
    /// if windows keep to documents.
    ///
    /// # Errors
    ///
    /// Returns an error if the data of the base experiment cannot be read, or are shorter than a window.
    fn counted_share(
        &mut self,
        experiment: &Experiment,
        model: &ModelConfig,
    ) -> Result<Result<f64, String>, Error> {
        let (section, context) = (&experiment.data, model.context);
        if section.windows != WindowKind::Documents {
            return Ok(Ok(1.0));
        }
        let is_same =
            |(known, of, _): &&(DataSection, usize, f64)| known == section && *of == context;
        if let Some((_, _, share)) = self.shares.iter().find(is_same) {
            return Ok(Ok(*share));
        }
        let share = self.read(section, |data| data.counted_share(context))?;
        if let Ok(share) = share {
            self.shares.push((section.clone(), context, share));
        }
        Ok(share)
    }

    fn tokens(&mut self, section: &DataSection) -> Result<Result<usize, String>, Error> {
        if let Some((_, tokens)) = self.known.iter().find(|(known, _)| known == section) {
            return Ok(Ok(*tokens));
        }
        let tokens = self.read(section, |data| Ok(data.tokenizer.vocab_size()))?;
        if let Ok(tokens) = tokens {
            self.known.push((section.clone(), tokens));
        }
        Ok(tokens)
    }
}

/// Refuses runs that are the same experiment, and names that differ only in case.
fn refuse_equals(plan: &Plan, runs: &[Run]) -> Result<(), Error> {
    let mut experiments = BTreeMap::new();
    let mut names = BTreeSet::new();
    for run in runs {
        let unnamed = Experiment {
            name: String::new(),
            ..run.experiment.clone()
        };
        if run.refusal.is_none()
            && let Some(other) = experiments.insert(unnamed.to_toml(), &run.name)
        {
            return Err(plan.refused(format!(
                "runs {other} and {} have the same keys; leave one of them out",
                run.name
            )));
        }
        if !names.insert(run.name.to_lowercase()) {
            return Err(plan.refused(format!(
                "two runs would be called {}; give the values of the axes other texts",
                run.name
            )));
        }
    }
    Ok(())
}

/// Returns the part of a name that tells an axis and its value: `width32`, and `windows-documents` for what is no number.
fn part_of_name(label: &str, value: &toml::Value) -> String {
    let separator = match value.is_integer() || value.is_float() {
        true => "",
        false => "-",
    };
    format!("{label}{separator}{}", value_text(value))
}

/// Writes a value for the name of a file.
fn value_text(value: &toml::Value) -> String {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Float(number) if *number != 0.0 && !(1e-4..1e6).contains(&number.abs()) => {
            format!("{number:e}")
        }
        toml::Value::Float(number) => number.to_string(),
        other => other.to_string(),
    };
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
    text.chars()
        .map(|c| if is_safe(c) { c } else { '_' })
        .collect()
}

fn shortened(name: String) -> String {
    match name.len() > MAX_NAME {
        true => {
            let hash = format!("{:x}", Sha256::digest(&name));
            format!("{}-{}", &name[..MAX_NAME - 9], &hash[..8])
        }
        false => name,
    }
}
