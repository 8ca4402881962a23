//! Tests of floors for models that see only windows.

use super::super::window::bits_in_windows;
use super::super::*;
use super::miniature::{Miniature, miniatures};
use crate::windows::EvaluationWindows;
use crate::{Tokenizer, TokenizerSpec};

impl Miniature {
    /// Returns the probability that an endless text begins with `text` at the start of a document.
    fn stream(&self, text: &str) -> f64 {
        if text.is_empty() {
            return 1.0;
        }
        let document = |(document, p): (&String, &f64)| match text.strip_prefix(document.as_str()) {
            Some(rest) => p * self.stream(rest),
            None if document.starts_with(text) => *p,
            None => 0.0,
        };
        self.documents.iter().map(document).sum()
    }

    /// Returns the probability of `text` at a random place of an endless text, times the mean length of a document.
    fn anywhere(&self, text: &str) -> f64 {
        let mut sum = 0.0;
        for (document, p) in &self.documents {
            for place in 0..document.len() {
                let rest = &document[place..];
                match text.strip_prefix(rest) {
                    Some(later) => sum += p * self.stream(later),
                    None if rest.starts_with(text) => sum += p,
                    None => {}
                }
            }
        }
        sum
    }
}

#[test]
fn bits_of_cut_windows_are_those_of_the_enumeration() {
    for miniature in miniatures() {
        let mut text = String::new();
        for index in 0..12 {
            let mut rng = generator(1, Purpose::Valid, index);
            miniature.process.draw(&mut rng, &mut text);
        }
        let context = 7;
        let windows = EvaluationWindows::new(text.len(), context).unwrap();
        let bits = bits_in_windows(&miniature.process, text.as_bytes(), &windows).unwrap();
        let mut exact = 0.0;
        for index in 0..windows.count() {
            let window = windows.window(index);
            for target in window.counted {
                let shown = &text[window.offset..window.offset + target + 2];
                let before = miniature.anywhere(&shown[..shown.len() - 1]);
                exact -= (miniature.anywhere(shown) / before).log2();
            }
        }
        assert!((bits - exact).abs() < 1e-8, "{bits}, not {exact}");
        let whole = Oracle::new(miniature.process.clone());
        let known: f64 = text
            .bytes()
            .scan(whole, |oracle, symbol| Some(-oracle.advance(symbol)))
            .sum();
        assert!(bits > known - 20.0, "{bits}, {known}");
    }
}

fn corpus(config: WorldConfig, spec: &str, by_document: bool) -> Result<WorldCorpus, DataError> {
    let config = WorldConfig {
        train_bytes: 3000,
        valid_bytes: 3000,
        ..config
    };
    let spec: TokenizerSpec = spec.parse()?;
    WorldCorpus::new(World::new(&config)?, &spec, by_document)
}

fn config(kind: WorldKind) -> WorldConfig {
    WorldConfig {
        kind,
        ..WorldConfig::default()
    }
}

#[test]
fn windows_of_documents_that_fit_reach_the_entropy() {
    for spec in ["char", "byte", "bpe:300"] {
        let facts = corpus(config(WorldKind::Facts), spec, true).unwrap();
        let floor = facts.window_floor(16).unwrap();
        assert_eq!((floor.bits_per_byte, floor.cut), (Some(facts.floor()), 0.0));
        // All bytes of all documents are targets, and each window has those of one document.
        let windows = facts.evaluation_windows(16).unwrap();
        assert_eq!(windows.count() as u64, facts.valid.documents);
        let ids = facts
            .corpus
            .valid
            .to_vec(0..facts.corpus.valid.tokens())
            .unwrap();
        for index in 0..windows.count() {
            let before = ids[windows.window(index).offset];
            assert_eq!(facts.corpus.tokenizer.token_bytes(before), [END]);
        }
        let counted = (0..windows.count()).flat_map(|index| {
            let window = windows.window(index);
            ids[window.offset + 1..][window.counted].to_vec()
        });
        let counted: Vec<u32> = counted.collect();
        assert_eq!(
            facts.corpus.tokenizer.decode(&counted).unwrap(),
            facts.valid.text
        );
    }
}

#[test]
fn targets_whose_document_begins_before_their_window_are_counted() {
    // Documents of 9 bytes, of which a window shows the first 4.
    let facts = corpus(config(WorldKind::Facts), "char", true).unwrap();
    let floor = facts.window_floor(4).unwrap();
    assert_eq!((floor.bits_per_byte, floor.cut), (None, 5.0 / 9.0));
    // A chain without an end in its windows: only the first target of a document follows a newline.
    let chain = corpus(config(WorldKind::Markov), "char", false).unwrap();
    assert!(chain.window_floor(1).unwrap().cut > 0.98);
    let whole = chain.window_floor(1000).unwrap();
    assert!(whole.cut < 0.1 && whole.cut > 0.0);
}

#[test]
fn shorter_windows_have_a_higher_floor() {
    for kind in WorldKind::ALL {
        let corpus = corpus(config(kind), "byte", false).unwrap();
        let floor = |context| corpus.window_floor(context).unwrap().bits_per_byte.unwrap();
        let floors = [4, 16, 64, 256].map(floor);
        assert!(floors.is_sorted_by(|a, b| a > b), "{floors:?}");
        assert!(floors[3] > corpus.floor() - 0.02);
    }
}

#[test]
fn cut_windows_of_longer_tokens_have_no_known_floor() {
    let corpus = corpus(config(WorldKind::Grammar), "bpe:300", false).unwrap();
    let floor = corpus.window_floor(16).unwrap();
    assert!(floor.bits_per_byte.is_none() && floor.cut > 0.1);
}

#[test]
fn a_tokenizer_that_joins_newlines_has_no_documents() {
    let mut json: serde_json::Value = serde_json::from_str(&Tokenizer::byte().to_json()).unwrap();
    json["model"]["vocab"][".Ċ"] = 256.into();
    json["model"]["merges"] = serde_json::json!([[".", "Ċ"]]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let corpus = |kind| corpus(config(kind), path.to_str().unwrap(), true);
    // A fact does not end with a full stop.
    assert!(corpus(WorldKind::Facts).is_ok());
    let error = corpus(WorldKind::Grammar).unwrap_err().to_string();
    assert!(
        error.starts_with("data.windows: this tokenizer joins"),
        "{error}"
    );
}
