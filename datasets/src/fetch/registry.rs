//! Well-known corpora, as listed in `corpora.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

/// Corpus that can be fetched by its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusEntry {
    /// Name of the corpus.
    pub name: String,
    /// Description in one line.
    pub what: String,
    /// Licence of the text.
    pub licence: String,
    /// Address of a page about it.
    pub homepage: String,
    /// Files to fetch.
    pub files: Vec<CorpusFile>,
}

impl CorpusEntry {
    /// Returns the number of bytes to fetch, over the files of known size.
    pub fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.bytes).sum()
    }
}

/// File of a corpus: a text, or a zip archive of texts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusFile {
    /// Address to fetch it from.
    pub url: String,
    /// Name in the folder.
    pub name: String,
    /// Size, if known.
    pub bytes: Option<u64>,
    /// SHA-256 in hexadecimal, if known.
    pub sha256: Option<String>,
    /// Whether the publisher of the corpus intends this text for evaluation.
    #[serde(default)]
    pub validation: bool,
    /// Texts to unpack; empty if the file is not an archive.
    #[serde(default)]
    pub unpack: Vec<CorpusMember>,
}

/// Text in a zip archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusMember {
    /// Name in the archive.
    pub member: String,
    /// Name in the folder.
    pub name: String,
    /// Whether the publisher of the corpus intends this text for evaluation.
    #[serde(default)]
    pub validation: bool,
}

/// Returns the corpora that can be fetched.
pub fn corpora() -> &'static [CorpusEntry] {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Registry {
        corpora: Vec<CorpusEntry>,
    }
    static CORPORA: LazyLock<Vec<CorpusEntry>> = LazyLock::new(|| {
        let registry = toml::from_str::<Registry>(include_str!("../../corpora.toml"));
        registry
            .expect("corpora.toml is part of the program")
            .corpora
    });
    &CORPORA
}
