//! The experiment: one TOML file that a colleague can rerun, with its defaults, overrides and errors.

mod optimizer;
mod probes;
mod sections;
mod template;

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;

pub use optimizer::{DecayShape, OptimizerConfig, OptimizerName, ScheduleName, ScheduleSection};
pub use probes::{ProbeSteps, ProbesSection, Spacing};
pub use sections::{
    BackendSection, DataSection, Keep, LossWeight, MixtureEntry, ModelSection, SubsetSection,
    TrainSection, WindowKind,
};
pub(crate) use template::Template;

/// Everything that a run depends on, except the bytes of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The prefix of run directories. Defaults to the file's stem.
    #[serde(default)]
    pub name: String,
    /// The source of the text, and its tokenizer.
    pub data: DataSection,
    /// The architecture of the transformer.
    pub model: ModelSection,
    /// Steps, batches, evaluations and objective of training.
    pub train: TrainSection,
    /// The optimizer, with warm-up and clipping.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The learning rate after warm-up.
    #[serde(default, skip_serializing_if = "ScheduleSection::is_default")]
    pub schedule: ScheduleSection,
    /// The backend, and its precision.
    #[serde(default)]
    pub backend: BackendSection,
    /// Probes of the model while it trains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<ProbesSection>,
}

impl Experiment {
    /// Returns the embedded experiment with overrides (`key=value`, as for `--set`).
    ///
    /// # Errors
    ///
    /// Returns an error if an override has an unknown key or a value of the wrong type.
    pub fn embedded(overrides: &[String]) -> Result<Self, Error> {
        Template::embedded().experiment(overrides)
    }

    /// Reads the experiment at `path` and applies overrides.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read, is not TOML, or has unknown, missing or contradictory keys.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, Error> {
        Template::read(path)?.experiment(overrides)
    }

    /// Parses the text of a resolved file, which `origin` names in errors.
    pub(crate) fn from_toml(text: &str, origin: &str) -> Result<Self, Error> {
        Template::new(text, origin, "").experiment(&[])
    }

    /// Checks values, and keys that depend on each other. The error names the key.
    fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.name.contains(['/', '\\']) || self.name.starts_with('.') {
            return Err(("name", format!("{:?} cannot name a directory", self.name)));
        }
        let given: Vec<&str> = [
            ("data.path", self.data.path.is_some()),
            ("data.world", self.data.world.is_some()),
            ("data.mixture", !self.data.mixture.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
        match given[..] {
            [] => {
                return Err((
                    "data",
                    "has no source; name text or tokens with data.path, or several with [[data.mixture]], or add a \
                     [data.world] table for the synthetic world"
                        .into(),
                ));
            }
            [_] => {}
            [..] => {
                return Err((
                    "data",
                    format!(
                        "{} exclude each other; keep one of them (--set cannot remove a key, so write an experiment \
                         file for other data)",
                        given.join(" and ")
                    ),
                ));
            }
        }
        if let Some(world) = &self.data.world {
            world.validate()?;
        }
        if let Some(subset) = &self.data.subset {
            if !(subset.share > 0.0 && subset.share < 1.0) {
                let message = "must be a share above 0 and below 1, such as 0.5";
                return Err(("data.subset.share", message.into()));
            }
            if !self.data.mixture.is_empty() {
                let message = "chooses documents of one dataset; name it with data.path in place of data.mixture";
                return Err(("data.subset", message.into()));
            }
            if matches!(self.data.loss_weight, LossWeight::File(_)) {
                let message = "has a weight for every token of the text, which data.subset leaves out in part; give a number";
                return Err(("data.loss_weight", message.into()));
            }
        }
        if let Some(bytes) = self.data.id_bytes.filter(|bytes| ![2, 4].contains(bytes)) {
            return Err(("data.id_bytes", format!("is {bytes}; it must be 2 or 4")));
        }
        if !(self.data.valid > 0.0 && self.data.valid < 1.0) {
            return Err((
                "data.valid",
                "must be a share above 0 and below 1, such as 0.1".into(),
            ));
        }
        for (key, value) in [
            ("train.steps", self.train.steps),
            ("train.batch", self.train.batch),
            ("train.accumulation", self.train.accumulation),
            ("train.eval_every", self.train.eval_every),
        ] {
            if value == 0 {
                return Err((key, "must be at least 1".into()));
            }
        }
        let train = &self.train;
        let rows = train.batch.checked_mul(train.accumulation);
        let rows = rows.and_then(|rows| rows.checked_mul(train.steps));
        if rows.is_none() {
            let message = format!(
                "{} steps of train.accumulation {} times train.batch {} windows are more than can be counted; lower one of \
                 them",
                train.steps, train.accumulation, train.batch
            );
            return Err(("train.steps", message));
        }
        if !(0.0..1.0).contains(&self.train.label_smoothing) {
            let message = "must be a share from 0 to below 1, such as 0.1";
            return Err(("train.label_smoothing", message.into()));
        }
        if !(self.train.z_loss >= 0.0 && self.train.z_loss.is_finite()) {
            let message = "must be a number from 0 on, such as 1e-4";
            return Err(("train.z_loss", message.into()));
        }
        if self.model.init_from.is_none() {
            self.model.base()?;
        }
        if !self.train.keep.is_valid() {
            let message = "expected steps from 1 on as in [1000, 2000], or a number N above 0 for every N steps";
            return Err(("train.keep", message.into()));
        }
        if let Some(probes) = &self.probes {
            probes.validate(self.data.world.as_ref().map(|world| world.kind))?;
        }
        self.schedule.validate()?;
        self.optimizer.validate()
    }

    /// Returns the resolved file, which has every key and can be rerun.
    pub fn to_toml(&self) -> String {
        // Serializing plain structs of numbers and strings cannot fail.
        toml::to_string_pretty(self).expect("an experiment is always TOML")
    }

    /// Keys outside `[data]` that do not change what training computes (names, places, evaluations, probes), and keys
    /// whose content the hash of the initial weights covers.
    const FREE: [&str; 14] = [
        "name",
        "backend.name",
        "backend.dtype",
        "backend.fused",
        "model.init_from",
        "train.eval_every",
        "train.eval_windows",
        "train.final_eval_windows",
        "train.keep",
        "train.early_stop",
        "train.sample_tokens",
        "probes.families",
        "probes.every",
        "probes.items",
    ];

    /// Returns the keys whose values differ between two experiments, as `key (ours here, theirs there)`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        differing(&self.leaves(), &other.leaves())
    }

    /// Returns the [`differences`](Self::differences) among keys that begin with `prefix`.
    pub(crate) fn differences_under(&self, other: &Self, prefix: &str) -> Vec<String> {
        let leaves = |experiment: &Self| {
            let mut leaves = experiment.leaves();
            leaves.retain(|(key, _)| key.starts_with(prefix));
            leaves
        };
        differing(&leaves(self), &leaves(other))
    }

    /// Returns the [`differences`](Self::differences) that change what training computes. The paths of data and of
    /// initial weights are not included, because fingerprints compare their content.
    pub fn decisive_differences(&self, other: &Self) -> Vec<String> {
        differing(&self.decisive_leaves(), &other.decisive_leaves())
    }

    /// Returns the [`differences`](Self::differences) with which a run cannot be resumed: keys that change what
    /// training computes, except the number of steps, and the keys of the backend.
    pub(crate) fn differences_refused_on_resume(&self, run: &Self) -> Vec<String> {
        let kept = |experiment: &Self| {
            let mut leaves = experiment.decisive_leaves();
            leaves.retain(|(key, _)| key != "train.steps");
            leaves
        };
        let mut differences = self.differences_under(run, "backend.");
        differences.extend(differing(&kept(self), &kept(run)));
        differences
    }

    /// Returns the SHA-256 of the keys that change what training computes. It is equal for experiments without
    /// [`decisive_differences`](Self::decisive_differences) whose models have every key.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for (key, value) in self.decisive_leaves() {
            hasher.update(format!("{key} = {value}\n"));
        }
        format!("{:x}", hasher.finalize())
    }

    /// Returns all keys and values, sorted by key.
    fn leaves(&self) -> Vec<(String, String)> {
        let mut leaves = Vec::new();
        if let Ok(table) = toml::Table::try_from(self) {
            flatten("", &toml::Value::Table(table), &mut leaves);
        }
        leaves.sort();
        leaves
    }

    fn decisive_leaves(&self) -> Vec<(String, String)> {
        let mut leaves = self.leaves();
        leaves.retain(|(key, _)| match key.strip_prefix("data.") {
            // The data's fingerprint covers tokens, tokenizer and loss weights.
            Some(key) => key == "windows",
            None => !Self::FREE.contains(&key.as_str()),
        });
        // A mixture of one dataset is equal to that dataset, whatever its weight.
        if let mixture @ [_, _, ..] = &self.data.mixture[..] {
            let total: f64 = mixture.iter().map(|entry| entry.weight).sum();
            leaves.extend(mixture.iter().enumerate().map(|(index, entry)| {
                let share = (entry.weight / total).to_string();
                (format!("data.mixture[{index}].weight"), share)
            }));
        }
        leaves
    }
}

fn differing(ours: &[(String, String)], theirs: &[(String, String)]) -> Vec<String> {
    let find = |leaves: &[(String, String)], key: &str| {
        leaves
            .iter()
            .find(|(name, _)| name == key)
            .map_or("unset".to_string(), |(_, value)| value.clone())
    };
    let mut keys: Vec<_> = ours.iter().chain(theirs).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| {
            let (a, b) = (find(ours, key), find(theirs, key));
            (a != b).then(|| format!("{key} ({a} here, {b} there)"))
        })
        .collect()
}

fn flatten(prefix: &str, value: &toml::Value, leaves: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                flatten(&path, value, leaves);
            }
        }
        leaf => leaves.push((prefix.to_string(), leaf.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::template::EMBEDDED;
    use super::*;

    fn parse(
        text: &str,
        origin: &str,
        name: &str,
        overrides: &[String],
    ) -> Result<Experiment, Error> {
        Template::new(text, origin, name).experiment(overrides)
    }

    fn message(overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        Experiment::embedded(&overrides).unwrap_err().to_string()
    }

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        assert_eq!(
            message(&["train.stpes=5"]),
            "--set train.stpes=5: unknown key `stpes`; did you mean `steps`?"
        );
        assert_eq!(
            message(&["optimiser.beta_1=0.9"]),
            "--set optimiser.beta_1=0.9: unknown key `optimiser`; did you mean `optimizer`?"
        );
        let text = EMBEDDED.replace("layers", "layer");
        let error = parse(&text, "my.toml", "my", &[]).unwrap_err();
        let line = text
            .lines()
            .position(|line| line.contains("layer"))
            .unwrap()
            + 1;
        assert_eq!(
            error.to_string(),
            format!("my.toml: line {line}: unknown key `layer`; did you mean `layers`?")
        );
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn several_overrides_can_set_a_table() {
        let keys = [
            "factor=8.0",
            "low_frequency_factor=1.0",
            "high_frequency_factor=4.0",
            "original_context=8",
        ];
        let scaling = |count: usize| -> Vec<String> {
            let keys = keys[..count].iter();
            let mut overrides = vec!["model.positions=rotary".to_owned()];
            overrides.extend(keys.map(|key| format!("model.rotary_scaling.{key}")));
            overrides
        };
        assert!(Experiment::embedded(&scaling(4)).is_ok());
        let error = Experiment::embedded(&scaling(3)).unwrap_err().to_string();
        assert!(error.contains("missing key `original_context`"), "{error}");
    }

    #[test]
    fn overrides_change_only_their_keys() {
        let plain = Experiment::embedded(&[]).unwrap();
        let changed =
            Experiment::embedded(&["train.steps=7".into(), "optimizer.warmup=3".into()]).unwrap();
        assert_eq!(changed.train.steps, 7);
        let differences = plain.differences(&changed);
        assert_eq!(differences.len(), 2, "{differences:?}");
        assert!(differences[1].starts_with("train.steps ("));
        assert!(plain.differences(&plain).is_empty());
    }

    #[test]
    fn the_hash_depends_on_the_keys_that_change_training() {
        let hash = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
            Experiment::embedded(&overrides).unwrap().hash()
        };
        let plain = hash(&[]);
        assert_eq!(plain.len(), 64);
        for free in [
            "name=other",
            "train.eval_every=7",
            "train.sample_tokens=0",
            "backend.dtype=bf16",
            "backend.fused=false",
            "probes.every=100",
            "probes.families=[\"sums\"]",
            // The fingerprint of the data covers these.
            "data.world.seed=3",
            "data.valid=0.2",
            "data.loss_weight=\"elsewhere/weights.f32\"",
            "data.subset.seed=3",
            // The hash of the initial weights covers this.
            "model.init_from=elsewhere/model",
        ] {
            assert_eq!(hash(&[free]), plain, "{free}");
        }
        for decisive in [
            "train.seed=2",
            "train.steps=5",
            "optimizer.beta_2=0.9",
            "model.width=32",
            "data.windows=random",
        ] {
            assert_ne!(hash(&[decisive]), plain, "{decisive}");
        }
    }

    #[test]
    fn the_hash_of_a_mixture_depends_on_shares_and_not_on_paths() {
        let hash = |entries: &str| {
            let text = format!(
                "[data]\n{entries}\n[model]\npreset = \"gpt2\"\n[train]\nseed = 1\nsteps = 1\nbatch = 1\n\
                 eval_every = 1\n"
            );
            parse(&text, "x", "x", &[]).unwrap().hash()
        };
        let two = |a: &str, b: &str| format!("mixture = [{a}, {b}]");
        let here = hash(&two("{path = \"a\"}", "{path = \"b\", weight = 3}"));
        for same in [
            two("{path = \"/moved/a\"}", "{path = \"/moved/b\", weight = 3}"),
            two("{path = \"a\", weight = 2}", "{path = \"b\", weight = 6}"),
            two(
                "{path = \"a\", loss_weight = \"a.f32\"}",
                "{path = \"b\", weight = 3}",
            ),
        ] {
            assert_eq!(hash(&same), here, "{same}");
        }
        let other = two("{path = \"a\"}", "{path = \"b\", weight = 2}");
        assert_ne!(hash(&other), here);
        assert_eq!(
            hash("mixture = [{path = \"a\", weight = 7}]"),
            hash("path = \"a\"")
        );
    }

    #[test]
    fn strings_need_no_quotes() {
        let overrides = ["data.tokenizer=byte".to_string()];
        assert_eq!(
            Experiment::embedded(&overrides).unwrap().data.tokenizer,
            Some("byte".into())
        );
    }

    #[test]
    fn the_error_of_an_unquoted_text_advises_quotes() {
        for (assignment, quoted) in [
            ("data.path=2024", "--set 'data.path=\"2024\"'"),
            ("data.tokenizer=true", "--set 'data.tokenizer=\"true\"'"),
            ("name=7", "--set 'name=\"7\"'"),
            ("model.init_from=1e3", "--set 'model.init_from=\"1e3\"'"),
            ("data.path=[1]", "--set 'data.path=\"[1]\"'"),
        ] {
            let message = message(&[assignment]);
            assert!(message.ends_with(quoted), "{message}");
            // The advised override is accepted.
            let advised = quoted
                .trim_start_matches("--set '")
                .trim_end_matches('\'')
                .to_string();
            if let Err(error) = Experiment::embedded(&[advised]) {
                assert!(!error.to_string().contains("invalid type"), "{error}");
            }
        }
        assert!(!message(&["train.steps=many"]).contains("quotes"));
    }

    #[test]
    fn invalid_values_are_refused() {
        assert!(message(&["train.steps=many"]).contains("invalid type: string \"many\""));
        assert!(message(&["train.steps"]).contains("expected key=value"));
        assert!(message(&["train.steps=0"]).contains("train.steps=0: must be at least 1"));
        for nonsense in ["1.0", "-0.1", "nan"] {
            let set = format!("train.label_smoothing={nonsense}");
            assert!(message(&[&set]).starts_with(&format!("--set {set}: must be a share")));
        }
        assert!(message(&["train.z_loss=-1.0"]).contains("train.z_loss=-1.0: must be a number"));
        assert!(message(&["data.path=a.txt"]).contains("exclude each other"));
        for (set, part) in [
            ("probes.every=0", "must be at least 1"),
            (
                "probes.every=often",
                "expected a number N for every N steps",
            ),
            ("probes.items=0", "from 1 to 10000"),
            ("probes.families=[\"sum\"]", "did you mean `sums`?"),
        ] {
            let message = message(&[set]);
            assert!(message.starts_with(&format!("--set {set}: ")), "{message}");
            assert!(message.contains(part), "{message}");
        }
        let of_facts = message(&["data.world.kind=facts", "probes.families=[\"sums\"]"]);
        assert!(
            of_facts.contains("has no sums; its families are facts, recall"),
            "{of_facts}"
        );
        let of_chains = message(&["data.world.kind=markov", "probes.items=3"]);
        assert!(of_chains.contains("probes: needs a world"), "{of_chains}");
        assert_eq!(
            message(&["schedule.name=cos"]),
            "--set schedule.name=cos: `cos` is not a value of this key, whose values are cosine, constant, linear, wsd; \
             did you mean `cosine`?"
        );
        let text = EMBEDDED.replace("steps = 3200", "steps = 0");
        let error = parse(&text, "my.toml", "my", &["name=x".into()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "my.toml: train.steps: must be at least 1"
        );
        assert!(message(&["backend.name=flx"]).contains("flex"));
        assert!(message(&["backend.fused=maybe"]).contains("invalid type: string \"maybe\""));
        assert!(message(&["name=../x"]).contains("cannot name a directory"));
    }

    #[test]
    fn operations_are_fused_by_default() {
        let fused = |overrides: &[String]| Experiment::embedded(overrides).unwrap().backend.fused;
        // Files of older versions do not have the key.
        assert!(fused(&[]) && fused(&["backend.dtype=f64".into()]));
        assert!(!fused(&["backend.fused=false".into()]));
    }

    #[test]
    fn the_resolved_file_reads_back_as_the_same_experiment() {
        let overrides = ["train.seed=11".into(), "backend.fused=false".into()];
        let experiment = Experiment::embedded(&overrides).unwrap();
        let again = parse(&experiment.to_toml(), "x", "other", &[]).unwrap();
        assert_eq!(again, experiment);
    }

    #[test]
    fn shipped_configs_are_valid() {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/configs")).unwrap() {
            let path = entry.unwrap().path();
            // Plans of sweeps have tests of their own.
            let text = std::fs::read_to_string(&path).unwrap();
            if ["[axes]", "[[tied]]"]
                .iter()
                .any(|table| text.contains(table))
            {
                continue;
            }
            let experiment = Experiment::load(&path, &[]).unwrap();
            experiment.model.config(65, None).unwrap();
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", key in "[a-z.=]{0,20}") {
            let _ = parse(&text, "x", "x", &[]);
            let _ = Experiment::embedded(&[key]);
        }
    }
}
