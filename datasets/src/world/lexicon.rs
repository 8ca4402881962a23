//! Content of the world's documents: words, invented facts, sums and sentences.
//!
//! It is chosen so that a very small model can learn everything except the two-digit sums from about a million
//! characters: there are few words, and alternatives differ in their first letters.
//!
//! No text of a rule may be a prefix of another text of the same rule. Then every text has exactly one derivation, so
//! the floor is exact. A test proves this for the grammar.
//!
//! A larger lexicon has the same rules and more words, which `invent` draws.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::rand_core::RngCore;

use super::draw::{below, shuffle};
use super::grammar::Grammar;

const COUNTRIES: [&str; 6] = ["Arvane", "Belor", "Cydra", "Drun", "Elmia", "Fosk"];
const CAPITALS: [&str; 6] = ["Galt", "Ildor", "Jorva", "Kest", "Quil", "Umber"];
const RIVERS: [&str; 6] = ["Rusk", "Varo", "Wend", "Xanti", "Yle", "Zim"];
const WOMEN: [&str; 4] = ["Lena", "Mira", "Suri", "Tove"];
const MEN: [&str; 4] = ["Hugo", "Niko", "Oren", "Pavo"];
const TRADES: [&str; 8] = [
    "an actor", "a baker", "a doctor", "a farmer", "a guard", "a judge", "a pilot", "a singer",
];

/// Word classes: the name, the words, and the class whose invented words this one has, with an ending. All words of a
/// class are equally likely.
const WORDS: [(&str, &[&str], (&str, &str)); 6] = [
    ("animal", &["bird", "child", "fox", "mouse"], ("animal", "")),
    (
        "animals",
        &["birds", "children", "foxes", "mice"],
        ("animal", "s"),
    ),
    ("mood", &["calm", "hungry", "quiet", "tired"], ("mood", "")),
    ("likes", &["fears", "likes", "wants"], ("like", "s")),
    ("like", &["fear", "like", "want"], ("like", "")),
    ("thing", &["gold", "music", "rain", "tea"], ("thing", "")),
];

type Alternatives = &'static [(u32, &'static str)];

/// Rules of sentences and documents, with the weights of their alternatives. Sentences agree because each person and
/// number has a rule. Documents have one register because rules of one register do not refer to rules of the other.
const SENTENCES: &[(&str, Alternatives)] = &[
    // Formal: capitals, full forms, full stops between sentences.
    (
        "formal do",
        &[(2, "{like} {thing}"), (1, "do not {like} {thing}")],
    ),
    (
        "formal does",
        &[(2, "{likes} {thing}"), (1, "does not {like} {thing}")],
    ),
    ("formal I", &[(1, "am {mood}"), (1, "{formal do}")]),
    ("formal it", &[(1, "is {mood}"), (1, "{formal does}")]),
    ("formal they", &[(1, "are {mood}"), (1, "{formal do}")]),
    (
        "formal clause",
        &[
            (1, "I {formal I}"),
            (1, "You {formal they}"),
            (1, "He {formal it}"),
            (1, "She {formal it}"),
            (1, "We {formal they}"),
            (1, "They {formal they}"),
            (2, "The {animal} {formal it}"),
            (2, "The {animals} {formal they}"),
            (1, "The {animal} near the {animals} {formal it}"),
            (1, "The {animals} near the {animal} {formal they}"),
        ],
    ),
    (
        "formal portrait",
        &[
            (1, "{formal woman}. She {formal it}"),
            (1, "{formal man}. He {formal it}"),
        ],
    ),
    (
        "formal sum",
        &[
            (3, "We find that {small sum}"),
            (1, "We find that {large sum}"),
        ],
    ),
    // Informal: no capitals but those of names, contractions, one long sentence.
    (
        "informal do",
        &[(2, "{like} {thing}"), (1, "don't {like} {thing}")],
    ),
    (
        "informal does",
        &[(2, "{likes} {thing}"), (1, "doesn't {like} {thing}")],
    ),
    (
        "informal I",
        &[(1, "i'm so {mood}"), (1, "i {informal do}")],
    ),
    (
        "informal you",
        &[(1, "you're so {mood}"), (1, "you {informal do}")],
    ),
    (
        "informal he",
        &[(1, "he's so {mood}"), (1, "he {informal does}")],
    ),
    (
        "informal she",
        &[(1, "she's so {mood}"), (1, "she {informal does}")],
    ),
    (
        "informal we",
        &[(1, "we're so {mood}"), (1, "we {informal do}")],
    ),
    (
        "informal they",
        &[(1, "they're so {mood}"), (1, "they {informal do}")],
    ),
    (
        "informal is",
        &[(1, "is so {mood}"), (1, "{informal does}")],
    ),
    (
        "informal are",
        &[(1, "are so {mood}"), (1, "{informal do}")],
    ),
    (
        "informal clause",
        &[
            (1, "{informal I}"),
            (1, "{informal you}"),
            (1, "{informal he}"),
            (1, "{informal she}"),
            (1, "{informal we}"),
            (1, "{informal they}"),
            (2, "the {animal} {informal is}"),
            (2, "the {animals} {informal are}"),
            (1, "the {animal} near the {animals} {informal is}"),
            (1, "the {animals} near the {animal} {informal are}"),
        ],
    ),
    (
        "informal portrait",
        &[
            (1, "hey, {informal woman} and {informal she}"),
            (1, "hey, {informal man} and {informal he}"),
        ],
    ),
    (
        "informal sum",
        &[(3, "ok so {small sum}"), (1, "ok so {large sum}")],
    ),
    // Bits per byte are highest for clauses, then for portraits, then for geography. Sums are rare, because a small
    // model cannot learn the answers of large ones, and each of them adds to its loss.
    (
        "formal",
        &[
            (8, "{formal clause}. {formal clause}."),
            (8, "{formal portrait}."),
            (6, "The capital of {place}."),
            (1, "{formal sum}."),
        ],
    ),
    (
        "informal",
        &[
            (8, "{informal clause} and {informal clause}."),
            (8, "{informal portrait}."),
            (6, "you know, the capital of {place}."),
            (1, "{informal sum}."),
        ],
    ),
    ("document", &[(1, "{formal}\n"), (1, "{informal}\n")]),
];

/// Creates the grammar of a world with `scale` times as many names and words as are written here. `facts` determines
/// what is said of whom, and `words` the invented words.
pub(super) fn grammar(scale: usize, facts: &mut impl RngCore, words: &mut impl RngCore) -> Grammar {
    let mut lexicon = Lexicon::new(scale, words);
    let mut names = |written: &[&str]| lexicon.names(written);
    let countries = names(&COUNTRIES);
    let (mut capitals, mut rivers) = (names(&CAPITALS), names(&RIVERS));
    let (women, men) = (names(&WOMEN), names(&MEN));
    let mut trades = lexicon.extended(&TRADES, |word| format!("a {word}"));
    shuffle(&mut capitals, facts);
    shuffle(&mut rivers, facts);
    shuffle(&mut trades, facts);

    let mut grammar = Grammar::default();
    let places = countries.iter().zip(capitals.iter().zip(&rivers));
    grammar.rule(
        "place",
        places.map(|(country, (capital, river))| {
            (
                1,
                format!("{country} is {capital}, and its river is the {river}"),
            )
        }),
    );
    let (of_women, of_men) = trades.split_at(women.len());
    for (gender, names, trades) in [("woman", women, of_women), ("man", men, of_men)] {
        for (register, is) in [("formal", " is"), ("informal", "'s")] {
            grammar.rule(
                &format!("{register} {gender}"),
                names
                    .iter()
                    .zip(trades)
                    .map(|(name, trade)| (1, format!("{name}{is} {trade}"))),
            );
        }
    }
    for (name, operands) in [("small sum", 1..10), ("large sum", 10..50)] {
        let pairs = operands
            .clone()
            .flat_map(|a| operands.clone().map(move |b| (a, b)));
        grammar.rule(
            name,
            pairs.map(|(a, b)| (1, format!("{a} + {b} = {}", a + b))),
        );
    }
    for (name, words) in lexicon.classes() {
        grammar.rule(name, words.iter().map(|word| (1, word)));
    }
    for (name, alternatives) in SENTENCES {
        grammar.rule(name, alternatives.iter().copied());
    }
    grammar
}

/// Invented words that no class has taken yet.
struct Lexicon {
    /// Invented words for each written one.
    more: usize,
    invented: std::vec::IntoIter<String>,
}

impl Lexicon {
    fn new(scale: usize, rng: &mut impl RngCore) -> Self {
        let classes = WORDS.iter().filter(|(name, _, (of, _))| name == of);
        let names = [&COUNTRIES[..], &CAPITALS, &RIVERS, &WOMEN, &MEN, &TRADES];
        let written: usize = names.iter().map(|names| names.len()).sum();
        let written = written + classes.map(|(_, words, _)| words.len()).sum::<usize>();
        Self {
            more: scale - 1,
            invented: invent(written * (scale - 1), rng).into_iter(),
        }
    }

    /// Takes as many invented words as a class of `written` ones needs.
    fn take(&mut self, written: usize) -> Vec<String> {
        self.invented.by_ref().take(written * self.more).collect()
    }

    /// Returns written words, and invented ones in a form.
    fn extended(&mut self, written: &[&str], form: impl Fn(String) -> String) -> Vec<String> {
        let invented = self.take(written.len()).into_iter().map(form);
        written
            .iter()
            .map(|&word| word.into())
            .chain(invented)
            .collect()
    }

    fn names(&mut self, written: &[&str]) -> Vec<String> {
        self.extended(written, |mut word| {
            word[..1].make_ascii_uppercase();
            word
        })
    }

    /// Returns the word classes with their names.
    fn classes(&mut self) -> Vec<(&'static str, Vec<String>)> {
        let stems: BTreeMap<&str, Vec<String>> = WORDS
            .iter()
            .filter(|(name, _, (of, _))| name == of)
            .map(|(name, words, _)| (*name, self.take(words.len())))
            .collect();
        let class = |(name, words, (of, ending)): &(&'static str, &[&str], (&str, &str))| {
            let written = words.iter().map(|&word| word.to_owned());
            let invented = stems[of].iter().map(|stem| format!("{stem}{ending}"));
            (*name, written.chain(invented).collect())
        };
        WORDS.iter().map(class).collect()
    }
}

/// Consonants of invented words. Each word begins with one, so that its article is "a".
const CONSONANTS: [char; 14] = [
    'b', 'd', 'f', 'g', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'z',
];
const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];

/// Draws different words of consonants and vowels in turn. All have the same length, so that none is a prefix of
/// another. Nor is one a prefix of a written word, or a written word a prefix of one.
fn invent(count: usize, rng: &mut impl RngCore) -> Vec<String> {
    let (mut syllables, mut possible) = (2, 70 * 70);
    // So many are possible that most draws are new.
    while possible < 8 * count {
        syllables += 1;
        possible *= 70;
    }
    let written: Vec<String> = [&COUNTRIES[..], &CAPITALS, &RIVERS, &WOMEN, &MEN, &TRADES]
        .into_iter()
        .chain(WORDS.iter().map(|(_, words, _)| *words))
        .flatten()
        .map(|word| word.trim_start_matches("a ").to_lowercase())
        .collect();
    let mut drawn = BTreeSet::new();
    let mut words = Vec::with_capacity(count);
    while words.len() < count {
        let mut word = String::new();
        for _ in 0..syllables {
            word.push(CONSONANTS[below(rng, CONSONANTS.len() as u32) as usize]);
            word.push(VOWELS[below(rng, VOWELS.len() as u32) as usize]);
        }
        let clashes = |other: &String| other.starts_with(&word) || word.starts_with(other.as_str());
        if !written.iter().any(clashes) && drawn.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}
