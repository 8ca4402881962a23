//! The tasks: names, data sets, columns and measures. How a record becomes a question is in `question`.

use std::fmt;
use std::str::FromStr;

use foretoken_datasets::Column;
use serde::{Serialize, Serializer};

/// A benchmark, as EleutherAI's lm-evaluation-harness defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// HellaSwag: which ending continues a text (Zellers et al. 2019, <https://arxiv.org/abs/1905.07830>).
    Hellaswag,
    /// ARC, the easy questions (Clark et al. 2018, <https://arxiv.org/abs/1803.05457>).
    ArcEasy,
    /// ARC, the questions that simple methods fail.
    ArcChallenge,
    /// PIQA: which way reaches a practical goal (Bisk et al. 2020, <https://arxiv.org/abs/1911.11641>).
    Piqa,
    /// WinoGrande: which of two names fills a blank (Sakaguchi et al. 2020, <https://arxiv.org/abs/1907.10641>).
    Winogrande,
    /// LAMBADA: the last word of a passage (Paperno et al. 2016, <https://arxiv.org/abs/1606.06031>).
    Lambada,
    /// BLiMP: which of two sentences is grammatical (Warstadt et al. 2020, <https://arxiv.org/abs/1912.00582>).
    Blimp,
}

/// A measure of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Share of items whose right choice has the highest log-likelihood; for a task without choices, share of items that
    /// greedy decoding answers exactly.
    Accuracy,
    /// Share of items whose right choice has the highest log-likelihood per character.
    AccuracyPerCharacter,
    /// Share of items whose right choice has the highest log-likelihood per byte.
    AccuracyPerByte,
    /// exp of the mean −ln p of the answers.
    Perplexity,
}

impl Measure {
    /// Returns the name that the harness gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "acc",
            Self::AccuracyPerCharacter => "acc_norm",
            Self::AccuracyPerByte => "acc_bytes",
            Self::Perplexity => "perplexity",
        }
    }
}

impl Serialize for Measure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Data set of a task: its names, its files and their columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataSet {
    /// Name on Hugging Face's hub.
    pub(super) hub: &'static str,
    /// Folders that may hold its files, below the folder of all data.
    pub(super) folders: &'static [&'static str],
    /// Beginning of the names of files that are evaluated on; empty if all of them are.
    pub(super) split: &'static str,
    /// Columns that are read.
    pub(super) columns: &'static [Column],
}

const fn required(name: &'static str) -> Column {
    Column {
        name,
        required: true,
    }
}

const fn optional(name: &'static str) -> Column {
    Column {
        name,
        required: false,
    }
}

const HELLASWAG: &[Column] = &[
    required("activity_label"),
    required("ctx_a"),
    required("ctx_b"),
    required("endings"),
    required("label"),
    optional("id"),
];

const PIQA: &[Column] = &[
    required("goal"),
    required("sol1"),
    required("sol2"),
    required("label"),
    optional("id"),
];

const WINOGRANDE: &[Column] = &[
    required("sentence"),
    required("option1"),
    required("option2"),
    required("answer"),
    optional("qID"),
];

const LAMBADA: &[Column] = &[required("text"), optional("id")];

const BLIMP: &[Column] = &[
    required("sentence_good"),
    required("sentence_bad"),
    required("UID"),
    optional("pair_id"),
    optional("pairID"),
];

const ARC: &[Column] = &[
    required("question"),
    required("choices.text"),
    required("choices.label"),
    required("answerKey"),
    optional("id"),
];

impl Task {
    /// All tasks.
    pub const ALL: [Self; 7] = [
        Self::Hellaswag,
        Self::ArcEasy,
        Self::ArcChallenge,
        Self::Piqa,
        Self::Winogrande,
        Self::Lambada,
        Self::Blimp,
    ];

    /// Returns the name by which a user names the task.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hellaswag => "hellaswag",
            Self::ArcEasy => "arc_easy",
            Self::ArcChallenge => "arc_challenge",
            Self::Piqa => "piqa",
            Self::Winogrande => "winogrande",
            Self::Lambada => "lambada",
            Self::Blimp => "blimp",
        }
    }

    /// Returns the measures of the task, the principal one first.
    pub fn measures(self) -> &'static [Measure] {
        match self {
            Self::Hellaswag | Self::ArcEasy | Self::ArcChallenge | Self::Piqa => &[
                Measure::Accuracy,
                Measure::AccuracyPerCharacter,
                Measure::AccuracyPerByte,
            ],
            Self::Winogrande | Self::Blimp => &[Measure::Accuracy],
            Self::Lambada => &[Measure::Accuracy, Measure::Perplexity],
        }
    }

    /// Returns whether examples may precede a question. The harness asks BLiMP's sentences without examples, whatever
    /// their number.
    pub fn takes_examples(self) -> bool {
        self != Self::Blimp
    }

    /// Returns whether examples come from a training file. LAMBADA has none: as in the harness its examples are drawn
    /// from the questions, where a question may be an example of itself.
    pub(super) fn has_training_file(self) -> bool {
        self.takes_examples() && self != Self::Lambada
    }

    /// Returns whether the harness draws one example more than it needs and drops one that equals the question. It does so
    /// for tasks without a test split.
    pub(super) fn draws_spare_example(self) -> bool {
        matches!(self, Self::Hellaswag | Self::Piqa | Self::Winogrande)
    }

    pub(super) fn data_set(self) -> DataSet {
        match self {
            Self::Hellaswag => DataSet {
                hub: "Rowan/hellaswag",
                folders: &["hellaswag"],
                split: "validation",
                columns: HELLASWAG,
            },
            Self::ArcEasy => DataSet {
                hub: "allenai/ai2_arc",
                folders: &["arc_easy", "ARC-Easy", "ai2_arc/ARC-Easy", "arc/ARC-Easy"],
                split: "test",
                columns: ARC,
            },
            Self::ArcChallenge => DataSet {
                hub: "allenai/ai2_arc",
                folders: &[
                    "arc_challenge",
                    "ARC-Challenge",
                    "ai2_arc/ARC-Challenge",
                    "arc/ARC-Challenge",
                ],
                split: "test",
                columns: ARC,
            },
            Self::Piqa => DataSet {
                hub: "baber/piqa",
                folders: &["piqa"],
                split: "validation",
                columns: PIQA,
            },
            Self::Winogrande => DataSet {
                hub: "allenai/winogrande",
                folders: &["winogrande/winogrande_xl", "winogrande_xl", "winogrande"],
                split: "validation",
                columns: WINOGRANDE,
            },
            Self::Lambada => DataSet {
                hub: "EleutherAI/lambada_openai",
                folders: &["lambada", "lambada_openai"],
                split: "test",
                columns: LAMBADA,
            },
            Self::Blimp => DataSet {
                hub: "nyu-mll/blimp",
                folders: &["blimp"],
                split: "",
                columns: BLIMP,
            },
        }
    }

    /// Says how to get the data.
    pub(super) fn advice(self) -> String {
        let DataSet { hub, folders, .. } = self.data_set();
        let folder = match self {
            Self::ArcEasy | Self::ArcChallenge => "arc",
            _ => folders[0].split('/').next().unwrap_or_default(),
        };
        format!(
            "get the data set with `hf download {hub} --repo-type dataset --local-dir DATA/{folder}` \
             (https://huggingface.co/datasets/{hub})"
        )
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let task = Self::ALL.into_iter().find(|task| task.name() == name);
        task.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no task {name:?}; the tasks are {names}")
        })
    }
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
