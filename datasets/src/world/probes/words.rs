//! Words and facts of the grammar, and the clauses that items are made of.

use rand_chacha::ChaCha8Rng;

use super::super::draw::below;
use super::super::grammar::Grammar;
use super::pick;

/// Style of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    Formal,
    Informal,
}

pub(super) use Register::{Formal, Informal};

impl Register {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        *pick(rng, &[Formal, Informal])
    }

    /// Returns the form in this register: of two, the formal one is first.
    pub(super) fn of<T>(self, [formal, informal]: [T; 2]) -> T {
        match self {
            Formal => formal,
            Informal => informal,
        }
    }
}

/// Person and number of a subject, as far as verbs tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Person {
    /// "I"
    First,
    /// "he", "the fox"
    Singular,
    /// "they", "you", "the foxes"
    Plural,
}

pub(super) use Person::{First, Plural, Singular};

/// Pronouns in both registers.
pub(super) const PRONOUNS: [(Person, [&str; 2]); 6] = [
    (First, ["I", "i"]),
    (Plural, ["You", "you"]),
    (Singular, ["He", "he"]),
    (Singular, ["She", "she"]),
    (Plural, ["We", "we"]),
    (Plural, ["They", "they"]),
];

/// Subject of a clause in one register.
pub(super) struct Subject {
    pub(super) text: String,
    pub(super) person: Person,
    pub(super) is_pronoun: bool,
}

/// Words and facts of a grammar.
pub(super) struct Words<'w> {
    pub(super) animals: [Vec<&'w str>; 2],
    pub(super) moods: Vec<&'w str>,
    /// Verbs in the forms for "he" and for "they", in the same order.
    pub(super) likes: [Vec<&'w str>; 2],
    pub(super) things: Vec<&'w str>,
    /// Country, capital and river.
    pub(super) places: Vec<[&'w str; 3]>,
    /// Name and trade.
    pub(super) people: Vec<[&'w str; 2]>,
}

impl<'w> Words<'w> {
    pub(super) fn of(grammar: &'w Grammar) -> Self {
        let place = |text: &'w str| {
            let (country, rest) = text.split_once(" is ")?;
            let (capital, river) = rest.split_once(", and its river is the ")?;
            Some([country, capital, river])
        };
        let person = |text: &'w str| text.split_once(" is ").map(<[_; 2]>::from);
        let people = ["formal woman", "formal man"].map(|rule| grammar.texts(rule));
        Self {
            animals: ["animal", "animals"].map(|rule| grammar.texts(rule)),
            moods: grammar.texts("mood"),
            likes: ["likes", "like"].map(|rule| grammar.texts(rule)),
            things: grammar.texts("thing"),
            places: grammar
                .texts("place")
                .into_iter()
                .filter_map(place)
                .collect(),
            people: people.into_iter().flatten().filter_map(person).collect(),
        }
    }

    /// Draws a pronoun, or a noun with as many other nouns of the other number after it.
    pub(super) fn subject(
        &self,
        rng: &mut ChaCha8Rng,
        register: Register,
        between: usize,
    ) -> Subject {
        let is_pronoun = between == 0 && below(rng, 2) == 0;
        if is_pronoun {
            let (person, texts) = pick(rng, &PRONOUNS);
            return Subject {
                text: register.of(*texts).into(),
                person: *person,
                is_pronoun,
            };
        }
        let number = below(rng, 2) as usize;
        let mut text = format!(
            "{} {}",
            register.of(["The", "the"]),
            pick(rng, &self.animals[number])
        );
        for _ in 0..between {
            text += &format!(" near the {}", pick(rng, &self.animals[1 - number]));
        }
        Subject {
            text,
            person: [Singular, Plural][number],
            is_pronoun,
        }
    }

    /// Returns the forms of a verb for "he" and for "they".
    pub(super) fn like(&self, rng: &mut ChaCha8Rng) -> [&'w str; 2] {
        let verb = below(rng, self.likes[0].len() as u32) as usize;
        [self.likes[0][verb], self.likes[1][verb]]
    }

    /// Draws a clause without its end, such as "the fox fears rain".
    pub(super) fn clause(&self, rng: &mut ChaCha8Rng, register: Register) -> String {
        let subject = self.subject(rng, register, 0);
        let [singular, plural] = self.like(rng);
        let verb = match subject.person {
            Singular => singular,
            First | Plural => plural,
        };
        format!("{} {verb} {}", subject.text, pick(rng, &self.things))
    }
}
