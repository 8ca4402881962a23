//! Content of the world's documents: words, invented facts, sums and sentences.
//!
//! It is chosen so that a very small model can learn everything except the two-digit sums from about a million
//! characters: there are few words, and alternatives differ in their first letters.
//!
//! No text of a rule may be a prefix of another text of the same rule. Then every text has exactly one derivation, so
//! the floor is exact. A test proves this for the grammar.

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

/// Word classes. All words of a class are equally likely.
const WORDS: &[(&str, &[&str])] = &[
    ("animal", &["bird", "child", "fox", "mouse"]),
    ("animals", &["birds", "children", "foxes", "mice"]),
    ("mood", &["calm", "hungry", "quiet", "tired"]),
    ("likes", &["fears", "likes", "wants"]),
    ("like", &["fear", "like", "want"]),
    ("thing", &["gold", "music", "rain", "tea"]),
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

/// Creates the grammar of a world whose facts `rng` determines.
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
