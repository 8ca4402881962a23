//! Tests of the grammar. Those of all kinds of worlds are in `kinds`, `tokens` and `windows`.

mod kinds;
mod miniature;
mod tokens;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::grammar::Grammar;
use super::reference::{ambiguous_rules, enumerate, probability};
use super::*;

/// Creates a grammar that is small enough to enumerate, with agreement, a fact, sums and uneven weights.
fn miniature() -> Grammar {
    let mut grammar = Grammar::default();
    grammar.rule("mood", [(2, "calm"), (1, "sad")]);
    grammar.rule(
        "sum",
        [(1, "1 + 1 = 2"), (1, "1 + 2 = 3"), (1, "2 + 2 = 4")],
    );
    grammar.rule(
        "clause",
        [
            (3, "She is {mood}"),
            (2, "They are {mood}"),
            (1, "Ada is a pilot"),
        ],
    );
    grammar.rule(
        "document",
        [
            (5, "{clause}.\n"),
            (2, "{clause}. {clause}.\n"),
            (1, "{sum}.\n"),
        ],
    );
    grammar
}

fn world() -> World {
    World::new(&WorldConfig::default()).unwrap()
}

/// Returns the grammar of [`world`], with `scale` times as many words.
fn grammar(scale: usize) -> Grammar {
    let mut facts = generator(1, Purpose::Facts, 0);
    lexicon::grammar(scale, &mut facts, &mut generator(1, Purpose::Words, 0))
}

fn documents(count: u64) -> Vec<Document> {
    let world = world();
    (0..count)
        .map(|index| world.document(Stream::Valid, index))
        .collect()
}

#[test]
fn sampler_draws_from_the_enumerated_distribution() {
    let grammar = miniature();
    let all = enumerate(&grammar, grammar.rules.len() - 1);
    let exact: BTreeMap<&str, f64> = all.iter().map(|(text, p)| (text.as_str(), *p)).collect();
    assert_eq!(exact.len(), all.len(), "two derivations give the same text");
    assert_eq!(all.len(), 5 + 25 + 3);
    assert!((exact.values().sum::<f64>() - 1.0).abs() < 1e-12);

    let entropy: f64 = exact.values().map(|p| -p * p.log2()).sum();
    let bytes: f64 = exact.iter().map(|(text, p)| p * text.len() as f64).sum();
    let expected = grammar.expected();
    assert!((expected.bits - entropy).abs() < 1e-12);
    assert!((expected.bytes - bytes).abs() < 1e-12);

    let draws = 50_000;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let (mut sum, mut squares) = (0.0, 0.0);
    let mut rng = generator(0, Purpose::Train, 0);
    for _ in 0..draws {
        let mut text = String::new();
        let bits = grammar.sample(&mut rng, &mut text);
        assert!(
            (bits + exact[text.as_str()].log2()).abs() < 1e-12,
            "{text:?}: {bits} bits"
        );
        sum += bits;
        squares += bits * bits;
        *counts.entry(text).or_default() += 1;
    }
    let n = f64::from(draws);
    let deviation = (squares / n - (sum / n).powi(2)).sqrt();
    assert!((sum / n - entropy).abs() < 4.0 * deviation / n.sqrt());

    // Pearson's chi-square over the 33 texts. The rarest is expected 174 times. With 32 degrees of freedom, a value
    // above 73.7 has probability 1/30 000.
    let chi_square: f64 = exact
        .iter()
        .map(|(text, p)| {
            let observed = f64::from(counts.get(*text).copied().unwrap_or(0));
            (observed - n * p).powi(2) / (n * p)
        })
        .sum();
    assert!(chi_square < 73.7, "chi-square is {chi_square}");
}

#[test]
fn every_text_of_the_world_has_one_derivation() {
    const NONE: [usize; 0] = [];
    assert_eq!(ambiguous_rules(&miniature()), NONE);
    assert_eq!(ambiguous_rules(&grammar(1)), NONE);
    assert_eq!(ambiguous_rules(&grammar(3)), NONE);
}

#[test]
fn ambiguous_rules_are_found() {
    let mut grammar = Grammar::default();
    grammar.rule("same", [(1, "a"), (1, "a")]);
    grammar.rule("longer", [(1, "dog"), (1, "dogs")]);
    grammar.rule("fine", [(1, "x"), (1, "yz")]);
    grammar.rule("across", [(1, "{fine}!"), (1, "y{fine}"), (1, "x!")]);
    grammar.rule("apart", [(1, "{fine}{fine}."), (1, "{fine}-"), (1, "w")]);
    assert_eq!(ambiguous_rules(&grammar), [0, 1, 3]);
    grammar.rule("document", [(2, "{fine}."), (3, "x."), (5, "{same}")]);
    assert!((probability(&grammar, "x.") - 0.4).abs() < 1e-12);
    assert!((probability(&grammar, "yz.") - 0.1).abs() < 1e-12);
    assert!((probability(&grammar, "a") - 0.5).abs() < 1e-12);
    assert_eq!(probability(&grammar, "x"), 0.0);
}

#[test]
fn bits_are_those_of_the_text_over_all_derivations() {
    let grammar = grammar(1);
    for document in documents(3000) {
        let bits = -probability(&grammar, &document.text).log2();
        assert!(
            (bits - document.bits).abs() < 1e-9,
            "{document:?}, but the text has {bits} bits"
        );
    }
    assert_eq!(probability(&grammar, "She are calm. I am tired.\n"), 0.0);
}

#[test]
fn mean_bits_approach_the_entropy_rate() {
    let documents = documents(20_000);
    let rate = world().entropy_rate();
    let excess: Vec<f64> = documents
        .iter()
        .map(|d| d.bits - rate * d.text.len() as f64)
        .collect();
    let n = excess.len() as f64;
    let mean = excess.iter().sum::<f64>() / n;
    let variance = excess.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    assert!(
        mean.abs() < 4.0 * (variance / n).sqrt(),
        "off by {mean} bits per document"
    );
}

#[test]
fn document_has_one_register_and_one_newline_at_its_end() {
    let (mut formal, mut informal) = (0, 0);
    for Document { text, .. } in documents(2000) {
        assert!(text.is_ascii() && text.ends_with(".\n") && text.matches('\n').count() == 1);
        let contracted = text.contains('\'') || text.contains("hey,") || text.contains(" so ");
        if text.starts_with(|first: char| first.is_uppercase()) {
            assert!(!contracted, "{text}");
            let sentences = text.trim_end().split(". ");
            assert!(
                sentences
                    .clone()
                    .all(|s| s.starts_with(|c: char| c.is_uppercase())),
                "{text}"
            );
            formal += 1;
        } else {
            let full = [" am ", " not ", "We ", "The ", "She ", "He "];
            assert!(full.iter().all(|form| !text.contains(form)), "{text}");
            informal += 1;
        }
    }
    assert!(formal > 900 && informal > 900);
}

/// Whether the verb of a clause agrees with its subject, by word lists that are independent of the lexicon. `None` if
/// the subject is neither a pronoun nor an animal.
fn agrees(clause: &str) -> Option<bool> {
    let clause = clause.to_lowercase().replace('\'', " '");
    let mut words = clause.split(' ').peekable();
    let subject = match words.next()? {
        "the" => words.next()?,
        pronoun => pronoun,
    };
    let forms: [&str; 4] = match subject {
        "i" => ["am", "'m", "do", "don"],
        "you" | "we" | "they" | "birds" | "children" | "foxes" | "mice" => {
            ["are", "'re", "do", "don"]
        }
        "he" | "she" | "bird" | "child" | "fox" | "mouse" => ["is", "'s", "does", "doesn"],
        _ => return None,
    };
    if words.peek() == Some(&"near") {
        words.nth(2)?;
    }
    let verb = words.next()?;
    Some(match verb {
        "fear" | "like" | "want" => forms[2] == "do",
        "fears" | "likes" | "wants" => forms[2] == "does",
        _ => forms.contains(&verb),
    })
}

#[test]
fn subjects_and_verbs_agree_across_a_noun_of_the_other_number() {
    assert_eq!(agrees("She are calm"), Some(false));
    assert_eq!(agrees("The bird near the foxes like tea"), Some(false));
    assert_eq!(agrees("they doesn't like tea"), Some(false));
    let (mut checked, mut across) = (0, 0);
    for Document { text, .. } in documents(5000) {
        if text.contains("capital") || text.contains('=') {
            continue;
        }
        for clause in text
            .trim_end_matches(".\n")
            .split(". ")
            .flat_map(|s| s.split(" and "))
        {
            if let Some(agrees) = agrees(clause) {
                assert!(agrees, "{clause:?} in {text}");
                checked += 1;
                across += usize::from(clause.contains(" near "));
            }
        }
    }
    assert!(
        checked > 4000 && across > 400,
        "{checked} clauses, {across} with another noun between"
    );
}

#[test]
fn sums_are_right() {
    let (mut small, mut large) = (BTreeSet::new(), BTreeSet::new());
    for Document { text, .. } in documents(20_000) {
        let Some((left, right)) = text.split_once(" = ") else {
            continue;
        };
        let answer: u32 = right.trim_end_matches(".\n").parse().unwrap();
        let (left, b) = left.rsplit_once(" + ").unwrap();
        let (_, a) = left.rsplit_once(' ').unwrap();
        let (a, b): (u32, u32) = (a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(a + b, answer, "{text}");
        if a < 10 {
            small.insert((a, b))
        } else {
            large.insert((a, b))
        };
    }
    assert_eq!(small.len(), 81);
    assert!(large.len() > 100);
}

/// Returns the facts in the documents of a world, as pairs of question and answer.
fn facts(seed: u64) -> BTreeSet<(String, String)> {
    let config = WorldConfig {
        seed,
        ..WorldConfig::default()
    };
    let world = World::new(&config).unwrap();
    let mut facts = BTreeSet::new();
    for index in 0..3000 {
        let text = world.document(Stream::Train, index).text;
        let text = text.trim_end_matches(".\n");
        if let Some((_, place)) = text.split_once("capital of ") {
            let (country, rest) = place.split_once(" is ").unwrap();
            let (capital, river) = rest.split_once(", and its river is the ").unwrap();
            facts.insert((format!("capital of {country}"), capital.to_owned()));
            facts.insert((format!("river of {country}"), river.to_owned()));
        }
        let person = text.strip_prefix("hey, ").unwrap_or(text);
        let stated = person
            .split_once("'s a")
            .or_else(|| person.split_once(" is a"));
        if let Some((name, rest)) = stated.filter(|(name, _)| !name.contains(' ')) {
            let (trade, _) = rest
                .split_once(". ")
                .or_else(|| rest.split_once(" and "))
                .unwrap();
            facts.insert((format!("trade of {name}"), trade.to_owned()));
        }
    }
    facts
}

#[test]
fn facts_are_consistent_and_depend_on_the_seed() {
    let stated = facts(1);
    let questions: BTreeSet<_> = stated.iter().map(|(question, _)| question).collect();
    let answers: BTreeSet<_> = stated.iter().map(|(_, answer)| answer).collect();
    assert_eq!(stated.len(), 20);
    assert_eq!(
        questions.len(),
        20,
        "a question has two answers: {stated:?}"
    );
    assert_eq!(
        answers.len(),
        20,
        "two questions have the same answer: {stated:?}"
    );
    assert_ne!(stated, facts(2));
}

#[test]
fn text_is_a_function_of_the_seed() {
    let config = WorldConfig::default();
    let (world, size) = (world(), Size::Bytes(10_000));
    let text = world.text(Stream::Train, size);
    let of = |config: &WorldConfig| World::new(config).unwrap().text(Stream::Train, size);
    assert_eq!(of(&config), text);
    assert_ne!(of(&WorldConfig { seed: 2, ..config }).text, text.text);
    assert_ne!(world.text(Stream::Valid, size).text, text.text);
    assert_eq!(
        hash(&text.text),
        "4fefc04fd8384ed5b307072f8a3e853937fc531e1a9a6acf524cf7c1f5021335"
    );
}

fn hash(text: &str) -> String {
    format!("{:x}", Sha256::digest(text.as_bytes()))
}

#[test]
fn text_consists_of_complete_documents_in_order() {
    let world = world();
    let text = world.text(Stream::Train, Size::Bytes(1000));
    let documents: Vec<Document> = (0..text.documents)
        .map(|index| world.document(Stream::Train, index))
        .collect();
    let joined: String = documents.iter().map(|d| d.text.as_str()).collect();
    assert_eq!(joined, text.text);
    assert_eq!(text.text.lines().count(), documents.len());
    assert!((documents.iter().map(|d| d.bits).sum::<f64>() - text.bits).abs() < 1e-9);
    let before_last = joined.len() - documents[documents.len() - 1].text.len();
    assert!(joined.len() >= 1000 && before_last < 1000);
    assert_eq!(world.text(Stream::Train, Size::Bytes(0)), Text::default());
    let by_count = world.text(Stream::Train, Size::Documents(text.documents));
    assert_eq!(by_count, text);
}
