//! What the world's documents say: its words, its invented facts, its sums and its sentences.
//!
//! Chosen so that a very small model can learn all of it but the two-digit sums in about a million
//! characters: few words, told apart by their first letters wherever they compete.
//!
//! No rule may derive a text that begins another text of the same rule. Every text then has exactly
//! one derivation, which is what makes the floor exact; the tests prove it of the grammar as it stands.

use rand_chacha::rand_core::RngCore;

use super::grammar::{Grammar, shuffle};

const COUNTRIES: [&str; 6] = ["Arvane", "Belor", "Cydra", "Drun", "Elmia", "Fosk"];
const CAPITALS: [&str; 6] = ["Galt", "Ildor", "Jorva", "Kest", "Quil", "Umber"];
const RIVERS: [&str; 6] = ["Rusk", "Varo", "Wend", "Xanti", "Yle", "Zim"];
const WOMEN: [&str; 4] = ["Lena", "Mira", "Suri", "Tove"];
const MEN: [&str; 4] = ["Hugo", "Niko", "Oren", "Pavo"];
const TRADES: [&str; 8] = [
    "an actor", "a baker", "a doctor", "a farmer", "a guard", "a judge", "a pilot", "a singer",
];

/// Word classes. Each word of a class is as likely as the others.
const WORDS: &[(&str, &[&str])] = &[
    ("animal", &["bird", "child", "fox", "mouse"]),
    ("animals", &["birds", "children", "foxes", "mice"]),
    ("mood", &["calm", "hungry", "quiet", "tired"]),
    ("likes", &["fears", "likes", "wants"]),
    ("like", &["fear", "like", "want"]),
    ("thing", &["gold", "music", "rain", "tea"]),
];

type Alternatives = &'static [(u32, &'static str)];

/// Sentences and documents, with the weights of their alternatives. Agreement is kept by having one rule
/// per person and number, and register by having rules for each: none of one refers to one of the other.
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
    // Scenes take more bits a byte than portraits, portraits more than geography; sums are rare because
    // the answers of the large ones are beyond a small model, which pays for every one of them.
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

/// The grammar of the world whose facts `rng` decides.
pub(super) fn grammar(rng: &mut impl RngCore) -> Grammar {
    let (mut capitals, mut rivers, mut trades) = (CAPITALS, RIVERS, TRADES);
    shuffle(&mut capitals, rng);
    shuffle(&mut rivers, rng);
    shuffle(&mut trades, rng);

    let mut grammar = Grammar::default();
    let places = COUNTRIES.iter().zip(capitals.iter().zip(&rivers));
    grammar.rule(
        "place",
        places.map(|(country, (capital, river))| {
            (
                1,
                format!("{country} is {capital}, and its river is the {river}"),
            )
        }),
    );
    let (of_women, of_men) = trades.split_at(WOMEN.len());
    for (gender, names, trades) in [("woman", WOMEN, of_women), ("man", MEN, of_men)] {
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
    for (name, words) in WORDS {
        grammar.rule(name, words.iter().map(|word| (1, word)));
    }
    for (name, alternatives) in SENTENCES {
        grammar.rule(name, alternatives.iter().copied());
    }
    grammar
}
