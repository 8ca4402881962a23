//! Items of the grammar, from its words and facts.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;

use super::super::draw::below;
use super::super::grammar::Grammar;
use super::words::{First, Formal, Informal, PRONOUNS, Plural, Register, Singular, Words};
use super::{Coverage, END, Family, Level, Question, World, decade, invented, others, pick};

/// Most wrong answers of an item.
const WRONG: usize = 2;

/// Draws from which the frequencies of facts are known.
const SAMPLE: usize = 200;

/// Returns the levels of a family.
pub(super) fn levels<'w>(world: &'w World, grammar: &'w Grammar, family: Family) -> Vec<Level<'w>> {
    match family {
        Family::Agreement => [
            ("0 words between", Coverage::World),
            ("3 words between", Coverage::World),
            ("6 words, not in grammar", Coverage::Outside),
        ]
        .into_iter()
        .enumerate()
        .map(|(between, (name, coverage))| {
            let words = Words::of(grammar);
            Level::new(name, coverage, move |rng| agreement(&words, rng, between))
        })
        .collect(),
        Family::Facts => facts(world, grammar),
        Family::Sums => sums(world),
        Family::Register => {
            let (within, next) = (Words::of(grammar), Words::of(grammar));
            vec![
                Level::new("within a clause", Coverage::World, move |rng| {
                    within_clause(&within, rng)
                }),
                Level::new("in the next clause", Coverage::World, move |rng| {
                    next_clause(&next, rng)
                }),
            ]
        }
        Family::Recall => [("in the same words", true), ("in other words", false)]
            .map(|(name, same)| {
                let (words, alphabet) = (Words::of(grammar), world.process().alphabet());
                Level::new(name, Coverage::Outside, move |rng| {
                    recall(&words, &alphabet, rng, same)
                })
            })
            .into(),
    }
}

/// Asks for the form of a verb, with `between` nouns of the other number between it and its subject.
fn agreement(words: &Words<'_>, rng: &mut ChaCha8Rng, between: usize) -> Option<Question> {
    let register = Register::draw(rng);
    let subject = words.subject(rng, register, between);
    // The right form first.
    let ordered = |singular: &str, plural: &str| match subject.person {
        Singular => [singular, plural].map(String::from),
        First | Plural => [plural, singular].map(String::from),
    };
    let is_contracted = register == Informal && subject.is_pronoun;
    let [right, wrong] = match below(rng, 3) {
        0 => match (subject.person, is_contracted) {
            (First, true) => ["'m", "'s"].map(String::from),
            (First, false) => ["am", "is"].map(String::from),
            (_, true) => ordered("'s", "'re"),
            (_, false) => ordered("is", "are"),
        },
        1 => {
            let [singular, plural] = words.like(rng);
            ordered(singular, plural)
        }
        _ => register.of([ordered("does", "do"), ordered("doesn't", "don't")]),
    };
    // A contraction follows without a space.
    let space = if right.starts_with('\'') { "" } else { " " };
    Question::pair(
        format!("{}{space}", subject.text),
        [&format!("{right} "), &format!("{wrong} ")],
    )
}

/// Returns a level for each power of ten of the expected number of times that the training text states a fact.
fn facts<'w>(world: &'w World, grammar: &'w Grammar) -> Vec<Level<'w>> {
    let words = Words::of(grammar);
    let mut rng = super::generator(world.config().seed, super::Purpose::Probes, u64::MAX);
    let drawn = (0..SAMPLE).filter_map(|_| fact(&words, &mut rng));
    let decades: BTreeSet<_> = drawn.map(|question| of_fact(world, &question)).collect();
    let level = |(power, name)| {
        let words = Words::of(grammar);
        Level::new(name, Coverage::World, move |rng| {
            fact(&words, rng).filter(|question| of_fact(world, question).0 == power)
        })
    };
    // The most frequent ones first.
    decades.into_iter().rev().map(level).collect()
}

fn of_fact(world: &World, question: &Question) -> (i32, String) {
    decade(world.occurrences(&format!("{}{}", question.context, question.right)))
}

/// Asks for a capital, a river or a trade.
fn fact(words: &Words<'_>, rng: &mut ChaCha8Rng) -> Option<Question> {
    let register = Register::draw(rng);
    let asked = below(rng, 3) as usize;
    if asked == 0 {
        let [name, trade] = *pick(rng, &words.people);
        let context = register.of([format!("{name} is "), format!("hey, {name}'s ")]);
        let trades: Vec<&str> = words.people.iter().map(|person| person[1]).collect();
        let wrong = others(rng, &trades, &trade, WRONG);
        return Question::new(
            context,
            trade.into(),
            wrong.into_iter().map(Into::into).collect(),
        );
    }
    let [country, capital, river] = *pick(rng, &words.places);
    let mut context = capital_of(register, country);
    if asked == 2 {
        context += &format!("{capital}, and its river is the ");
    }
    let right = [capital, river][asked - 1];
    let answers: Vec<&str> = words.places.iter().map(|place| place[asked]).collect();
    let wrong = others(rng, &answers, &right, WRONG);
    Question::new(
        context,
        right.into(),
        wrong.into_iter().map(Into::into).collect(),
    )
}

fn capital_of(register: Register, country: &str) -> String {
    register.of([
        format!("The capital of {country} is "),
        format!("you know, the capital of {country} is "),
    ])
}

/// Returns the levels of sums: one-digit ones, and two-digit ones that the training text has or does not have, in either
/// order of their operands.
fn sums(world: &World) -> Vec<Level<'_>> {
    let mut known = BTreeSet::new();
    world.visit_training_text(|document| known.extend(operands(document)));
    let large = || (10..50).flat_map(|a| (10..50).map(move |b| (a, b)));
    let is_known = |pair: &(u32, u32)| known.contains(pair);
    let is_new = |pair: &(u32, u32)| !is_known(pair) && !is_known(&(pair.1, pair.0));
    let small = (1..10).flat_map(|a| (1..10).map(move |b| (a, b)));
    let level = |name, coverage, pairs: Vec<(u32, u32)>| {
        (!pairs.is_empty()).then(|| {
            Level::new(name, coverage, move |rng| {
                let (a, b) = *pick(rng, &pairs);
                sum(rng, a, b)
            })
        })
    };
    let (trained, new) = (large().filter(is_known), large().filter(is_new));
    [
        level("one digit", Coverage::World, small.collect()),
        level("two digits, trained", Coverage::World, trained.collect()),
        level("two digits, held out", Coverage::Unseen, new.collect()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the operands of the sum in a document; `None` if it has none.
pub(super) fn operands(document: &str) -> Option<(u32, u32)> {
    let (before, _) = document.split_once(" = ")?;
    let (before, b) = before.rsplit_once(" + ")?;
    let (_, a) = before.rsplit_once(' ')?;
    Some((a.parse().ok()?, b.parse().ok()?))
}

/// Asks for a sum; wrong answers are off by one or ten.
fn sum(rng: &mut ChaCha8Rng, a: u32, b: u32) -> Option<Question> {
    let register = Register::draw(rng);
    let beginning = register.of(["We find that", "ok so"]);
    let right = a + b;
    let near = [right + 1, right - 1, right + 10, right.saturating_sub(10)];
    let near: Vec<u32> = near.into_iter().filter(|sum| *sum > 0).collect();
    let wrong = others(rng, &near, &right, WRONG);
    Question::new(
        format!("{beginning} {a} + {b} = "),
        format!("{right}."),
        wrong.into_iter().map(|sum| format!("{sum}.")).collect(),
    )
}

/// Asks for the register within a clause, by the form of its verb.
fn within_clause(words: &Words<'_>, rng: &mut ChaCha8Rng) -> Option<Question> {
    let register = Register::draw(rng);
    let subject = words.subject(rng, register, 0);
    let ordered = |forms: [&str; 2]| match register {
        Formal => forms.map(String::from),
        Informal => [forms[1], forms[0]].map(String::from),
    };
    let (context, [right, wrong]) = match (below(rng, 2), subject.is_pronoun) {
        (0, true) => {
            let forms = match subject.person {
                First => [" am ", "'m "],
                Singular => [" is ", "'s "],
                Plural => [" are ", "'re "],
            };
            (subject.text, ordered(forms))
        }
        (0, false) => {
            let be = if subject.person == Singular {
                "is"
            } else {
                "are"
            };
            let mood = pick(rng, &words.moods);
            let forms = [(*mood).to_owned(), format!("so {mood}")];
            (
                format!("{} {be} ", subject.text),
                ordered([&forms[0], &forms[1]]),
            )
        }
        _ => {
            let forms = match subject.person {
                Singular => ["does not ", "doesn't "],
                First | Plural => ["do not ", "don't "],
            };
            (format!("{} ", subject.text), ordered(forms))
        }
    };
    Question::pair(context, [&right, &wrong])
}

/// Asks for the register of the second clause of a document, by its subject.
fn next_clause(words: &Words<'_>, rng: &mut ChaCha8Rng) -> Option<Question> {
    let register = Register::draw(rng);
    let context = format!(
        "{}{}",
        words.clause(rng, register),
        register.of([". ", " and "])
    );
    let (person, texts) = pick(rng, &PRONOUNS[1..]);
    let be = match person {
        First | Singular => [" is ", "'s "],
        Plural => [" are ", "'re "],
    };
    let forms = [0, 1].map(|index| format!("{}{}", texts[index], be[index]));
    let forms = match register {
        Formal => [&forms[0], &forms[1]],
        Informal => [&forms[1], &forms[0]],
    };
    Question::pair(context, forms.map(String::as_str))
}

/// Asks for the capital of a country that only the context names: in the words of the statement, or in those of the other
/// register. The wrong answers are the river that the context names, and a name that it does not. All answers are drawn
/// alike and none is in the training text, so that a model that does not use the context has no reason to prefer one.
fn recall(
    words: &Words<'_>,
    alphabet: &[u8],
    rng: &mut ChaCha8Rng,
    in_same_words: bool,
) -> Option<Question> {
    let names: Vec<&str> = words.places.iter().flatten().copied().collect();
    let mut invented_names: Vec<String> = Vec::new();
    for _ in 0..4 {
        // An initial that names of the world have, so that tokenizers of its characters know it.
        let initial = &pick(rng, &names)[..1];
        let word = invented(rng, alphabet, 2);
        let name = format!("{initial}{}", &word[1..]);
        let clashes = |other: &&str| other.starts_with(&name) || name.starts_with(*other);
        if names.iter().any(clashes) || invented_names.contains(&name) {
            return None;
        }
        invented_names.push(name);
    }
    let [country, capital, river, other] = invented_names.try_into().ok()?;
    let register = Register::draw(rng);
    let asked = match (in_same_words, register) {
        (true, register) => register,
        (false, Formal) => Informal,
        (false, Informal) => Formal,
    };
    let context = format!(
        "{}{capital}, and its river is the {river}.{}{}",
        capital_of(register, &country),
        char::from(END),
        capital_of(asked, &country)
    );
    Question::new(context, capital, vec![river, other])
}
