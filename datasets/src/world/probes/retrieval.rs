//! Items of a world of facts: its facts by their frequency, and facts that only the context states.

use rand_chacha::ChaCha8Rng;

use super::super::draw::below;
use super::super::{Facts, Oracle};
use super::{Coverage, END, Family, Level, Question, World, decade};

/// Numbers of facts in a context of [`Family::Recall`].
const STATED: [usize; 2] = [1, 4];

/// Most wrong answers of an item.
const WRONG: usize = 2;

/// Returns the levels of a family.
pub(super) fn levels<'w>(world: &'w World, facts: &'w Facts, family: Family) -> Vec<Level<'w>> {
    match family {
        Family::Facts => by_frequency(world, facts),
        Family::Recall => STATED
            .iter()
            .map(|stated| recall(world, facts, *stated))
            .collect(),
        Family::Agreement | Family::Sums | Family::Register => Vec::new(),
    }
}

/// Returns a level for each power of ten of the expected number of times that the training text states a fact.
fn by_frequency<'w>(world: &World, facts: &'w Facts) -> Vec<Level<'w>> {
    let documents = world.training_documents();
    let of_rank = |rank: usize| decade((-facts.bits(rank)).exp2() * documents);
    let mut levels = Vec::new();
    let mut first = 0;
    while first < facts.count() {
        let (power, name) = of_rank(first);
        // Frequencies fall with the rank.
        let (mut below_end, mut end) = (first, facts.count());
        while end - below_end > 1 {
            let middle = below_end.midpoint(end);
            match of_rank(middle).0 == power {
                true => below_end = middle,
                false => end = middle,
            }
        }
        let ranks = first..end;
        let draw = move |rng: &mut ChaCha8Rng| {
            let rank = ranks.start + below(rng, ranks.len() as u32) as usize;
            let (question, right) = facts.statement(rank);
            let mut wrong = Vec::new();
            for _ in 0..10 * WRONG {
                let (_, other) = facts.statement(below(rng, facts.count() as u32) as usize);
                if other != right && wrong.len() < WRONG && !wrong.contains(&other.to_owned()) {
                    wrong.push(other.to_owned());
                }
            }
            Question::new(question.into(), right.into(), wrong)
        };
        levels.push(Level::new(name, Coverage::World, draw));
        first = end;
    }
    levels
}

/// Returns the level whose contexts state this many facts that the world does not have, and ask for one of them.
fn recall<'w>(world: &'w World, facts: &'w Facts, stated: usize) -> Level<'w> {
    let (question, answer) = facts.statement(0);
    let (letters, answer_letters) = (question.len() - 1, answer.len());
    let start = world.oracle();
    let draw = move |rng: &mut ChaCha8Rng| {
        let mut known: Vec<(String, String)> = Vec::new();
        for _ in 0..100 * stated {
            let question = format!("{} ", word(rng, letters));
            let answer = word(rng, answer_letters);
            let is_new =
                |(other, of_other): &(String, String)| *other != question && *of_other != answer;
            let is_new = known.iter().all(is_new) && is_impossible(&start, &question);
            if known.len() < stated && is_new {
                known.push((question, answer));
            }
        }
        if known.len() < stated {
            return None;
        }
        let statements = known.iter();
        let statements =
            statements.map(|(question, answer)| format!("{question}{answer}{}", char::from(END)));
        let mut context: String = statements.collect();
        let asked = below(rng, stated as u32) as usize;
        let (question, right) = known.swap_remove(asked);
        context += &question;
        // Other answers of the context, or random ones if it states none: all are drawn alike, so that only the context
        // tells which is right.
        let mut wrong: Vec<String> = known.into_iter().map(|(_, answer)| answer).collect();
        wrong.truncate(WRONG);
        for _ in 0..100 * WRONG {
            let answer = word(rng, answer_letters);
            if wrong.len() < WRONG && answer != right && !wrong.contains(&answer) {
                wrong.push(answer);
            }
        }
        Question::new(context, right, wrong)
    };
    let name = match stated {
        1 => "1 fact in the context".into(),
        _ => format!("{stated} facts in the context"),
    };
    Level::new(name, Coverage::Outside, draw)
}

fn is_impossible(start: &Oracle, text: &str) -> bool {
    let mut oracle = start.clone();
    for symbol in text.bytes() {
        oracle.advance(symbol);
    }
    oracle.is_impossible()
}

/// Returns random letters, as questions and answers have.
fn word(rng: &mut ChaCha8Rng, letters: usize) -> String {
    (0..letters)
        .map(|_| char::from(b'a' + below(rng, 26) as u8))
        .collect()
}
