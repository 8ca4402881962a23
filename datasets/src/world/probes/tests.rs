//! Tests of the items, by rules that are independent of the templates.

use std::collections::{BTreeMap, HashSet};

use super::super::WorldConfig;
use super::grammar::operands;
use super::*;

fn world(kind: WorldKind) -> World {
    let config = WorldConfig {
        kind,
        train_bytes: 300_000,
        ..WorldConfig::default()
    };
    World::new(&config).unwrap()
}

/// Returns worlds with the families that they have.
fn worlds() -> Vec<(World, &'static [Family])> {
    let larger = WorldConfig {
        scale: Some(7),
        train_bytes: 100_000,
        ..WorldConfig::default()
    };
    let kinds = [WorldKind::Grammar, WorldKind::Facts];
    let mut worlds = vec![(World::new(&larger).unwrap(), Family::of(WorldKind::Grammar))];
    worlds.extend(kinds.map(|kind| (world(kind), Family::of(kind))));
    worlds
}

fn training_text(world: &World) -> String {
    world
        .text(Stream::Train, world.config().size(Stream::Train))
        .text
}

/// Returns the words of a text without punctuation.
fn words(text: &str) -> Vec<&str> {
    text.split([' ', '\n', '.', ',', '\''])
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn items_are_judged_by_the_exact_distribution() {
    for (world, families) in worlds() {
        for family in families {
            let items = world.probe_items(*family, 60);
            assert!(items.len() >= 20, "{family}: {}", items.len());
            for item in items {
                assert_eq!(item.family, *family);
                let mut oracle = world.oracle();
                item.context.bytes().for_each(|symbol| {
                    oracle.advance(symbol);
                });
                let log2 = |answer: &str| -> f64 {
                    let mut oracle = oracle.clone();
                    answer.bytes().map(|symbol| oracle.advance(symbol)).sum()
                };
                let right = log2(&item.right);
                match item.coverage {
                    Coverage::Outside => {
                        assert!(
                            oracle.is_impossible() && item.right_bits.is_none(),
                            "{item:?}"
                        );
                    }
                    Coverage::World | Coverage::Unseen => {
                        assert_eq!(item.right_bits, Some(-right), "{item:?}");
                        let wrong: f64 = item.wrong.iter().map(|wrong| log2(wrong).exp2()).sum();
                        let share = right.exp2() / (right.exp2() + wrong);
                        assert!((item.right_share.unwrap() - share).abs() < 1e-9, "{item:?}");
                        // Otherwise another symbol is more probable somewhere.
                        if right > -1.0 {
                            assert_eq!(item.right_is_greedy, Some(true), "{item:?}");
                        }
                        assert!(
                            item.wrong.iter().all(|wrong| log2(wrong) < right),
                            "{item:?}"
                        );
                    }
                }
                // Otherwise a longer answer would be an answer of the shorter one.
                let mut answers = vec![&item.right];
                answers.extend(&item.wrong);
                for (i, one) in answers.iter().enumerate() {
                    let mut others = answers.iter().enumerate().filter(|(j, _)| i != *j);
                    assert!(
                        others.all(|(_, other)| !other.starts_with(one.as_str())),
                        "{item:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn items_are_different_and_those_of_a_smaller_count_come_first() {
    for (world, families) in worlds() {
        for family in families {
            let many = world.probe_items(*family, 48);
            assert_eq!(many, world.probe_items(*family, 48));
            let different: HashSet<_> = many.iter().map(|i| (&i.context, &i.right)).collect();
            assert_eq!(different.len(), many.len());
            let by_level = |items: Vec<Item>| {
                let mut levels: BTreeMap<String, Vec<Item>> = BTreeMap::new();
                for item in items {
                    levels.entry(item.level.clone()).or_default().push(item);
                }
                levels
            };
            let many = by_level(many);
            for (level, few) in by_level(world.probe_items(*family, 12)) {
                assert!(many[&level].starts_with(&few), "{family}, {level}");
            }
        }
    }
    let other = WorldConfig {
        seed: 2,
        ..WorldConfig::default()
    };
    let of = |world: World| world.probe_items(Family::Agreement, 12);
    assert_ne!(
        of(World::new(&other).unwrap()),
        of(world(WorldKind::Grammar))
    );
}

#[test]
fn every_family_of_a_kind_has_levels_and_other_families_have_no_items() {
    for (kind, counts) in [
        (WorldKind::Grammar, [3, 1, 3, 2, 2]),
        (WorldKind::Facts, [0, 3, 0, 0, 2]),
        (WorldKind::Markov, [0; 5]),
    ] {
        let world = world(kind);
        for (family, count) in Family::ALL.into_iter().zip(counts) {
            let items = world.probe_items(family, 30);
            let levels: HashSet<_> = items.iter().map(|item| &item.level).collect();
            assert!(
                levels.len() >= count && (count > 0 || items.is_empty()),
                "{family}: {levels:?}"
            );
            assert_eq!(Family::of(kind).contains(&family), count > 0);
        }
    }
}

#[test]
fn sums_are_right_and_held_out_ones_are_not_in_the_training_text() {
    let world = world(WorldKind::Grammar);
    let trained: HashSet<_> = training_text(&world).lines().filter_map(operands).collect();
    let mut coverages = HashSet::new();
    for item in world.probe_items(Family::Sums, 300) {
        let (a, b) = operands(&format!("{}{}", item.context, item.right)).unwrap();
        assert_eq!(item.right, format!("{}.", a + b));
        assert!(!item.wrong.contains(&item.right));
        let is_trained = trained.contains(&(a, b));
        match (item.level.as_str(), item.coverage) {
            ("one digit", Coverage::World) => assert!(a < 10 && b < 10),
            (_, Coverage::World) => assert!(a >= 10 && is_trained, "{item:?}"),
            (_, Coverage::Unseen) => {
                assert!(
                    a >= 10 && !is_trained && !trained.contains(&(b, a)),
                    "{item:?}"
                );
            }
            (_, Coverage::Outside) => panic!("{item:?}"),
        }
        coverages.insert(item.coverage as u8);
    }
    assert_eq!(coverages.len(), 2);
}

#[test]
fn agreement_has_as_many_words_between_as_its_level_says() {
    const SINGULAR: [&str; 8] = [
        "is", "s", "does", "doesn't", "doesn", "fears", "likes", "wants",
    ];
    let world = world(WorldKind::Grammar);
    let mut between = HashSet::new();
    for item in world.probe_items(Family::Agreement, 90) {
        let lower = item.context.to_lowercase();
        let context = words(&lower);
        let (subject, rest) = match context[..] {
            ["the", noun, ref rest @ ..] => (noun, rest),
            [pronoun, ref rest @ ..] => (pronoun, rest),
            [] => panic!("{item:?}"),
        };
        let distance: usize = item.level.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(rest.len(), distance, "{item:?}");
        between.insert(distance);
        let is_singular = ["he", "she", "bird", "child", "fox", "mouse"].contains(&subject);
        let is_first = subject == "i";
        let verb = |answer: &str| answer.trim().trim_start_matches('\'').to_owned();
        let is_right = |answer: &str| match verb(answer).as_str() {
            "am" | "m" => is_first,
            verb => {
                SINGULAR.contains(&verb) == is_singular
                    && !(is_first && ["are", "re"].contains(&verb))
            }
        };
        assert!(
            is_right(&item.right) && !is_right(&item.wrong[0]),
            "{item:?}"
        );
    }
    assert_eq!(between, HashSet::from([0, 3, 6]));
}

#[test]
fn recalled_names_are_in_the_context_and_not_in_the_training_text() {
    for kind in [WorldKind::Grammar, WorldKind::Facts] {
        let world = world(kind);
        let text = training_text(&world);
        let trained: HashSet<&str> = words(&text).into_iter().collect();
        for item in world.probe_items(Family::Recall, 40) {
            let (statement, question) = item.context.rsplit_once('\n').unwrap();
            assert!(words(statement).contains(&item.right.as_str()), "{item:?}");
            let asked = match kind {
                WorldKind::Grammar => question.split(' ').rev().nth(2).unwrap(),
                _ => question.trim_end(),
            };
            assert!(
                !trained.contains(asked) && words(statement).contains(&asked),
                "{item:?}"
            );
            if kind == WorldKind::Grammar {
                let answers = item.wrong.iter().chain([&item.right]);
                for answer in answers {
                    assert!(!trained.contains(answer.as_str()), "{item:?}");
                }
            }
        }
    }
}

/// A model of pairs of letters, which knows how words of the training text are spelled and reads no further back than one
/// letter, has a share of right answers that is 1/3 up to chance.
#[test]
fn recall_without_a_context_scores_chance() {
    for kind in [WorldKind::Grammar, WorldKind::Facts] {
        let world = world(kind);
        let text = training_text(&world);
        let mut pairs = vec![1.0f64; 1 << 16];
        for pair in text.as_bytes().windows(2) {
            pairs[usize::from(pair[0]) << 8 | usize::from(pair[1])] += 1.0;
        }
        let log_p = |context: &str, answer: &str| -> f64 {
            let text = format!("{context}{answer}");
            let letters = text.as_bytes();
            let places = context.len()..text.len();
            places
                .map(|place| {
                    let before = usize::from(letters[place - 1]) << 8;
                    let total: f64 = pairs[before..before + 256].iter().sum();
                    (pairs[before + usize::from(letters[place])] / total).ln()
                })
                .sum()
        };
        let items = world.probe_items(Family::Recall, 900);
        assert!(items.len() >= 800, "{}", items.len());
        let is_right = |item: &&Item| {
            let right = log_p(&item.context, &item.right);
            let mut wrong = item.wrong.iter();
            wrong.all(|wrong| log_p(&item.context, wrong) < right)
        };
        let right = items.iter().filter(is_right).count() as f64;
        let chance: f64 = items.iter().map(Item::chance).sum();
        assert_eq!(chance.round(), (items.len() as f64 / 3.0).round());
        // Four standard deviations of a binomial distribution.
        let margin = 4.0 * (chance * 2.0 / 3.0).sqrt();
        assert!(
            (right - chance).abs() < margin,
            "{kind:?}: {right} {chance}"
        );
    }
}

#[test]
fn facts_occur_as_often_as_their_level_says() {
    let world = world(WorldKind::Facts);
    let text = training_text(&world);
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    text.lines()
        .for_each(|line| *counts.entry(line).or_default() += 1);
    let mut levels = HashSet::new();
    for item in world.probe_items(Family::Facts, 60) {
        let statement = format!("{}{}", item.context, item.right);
        let count = f64::from(counts.get(statement.as_str()).copied().unwrap_or(0));
        levels.insert(item.level.clone());
        if item.level == "less than once" {
            assert!(count <= 6.0, "{item:?}: {count}");
            continue;
        }
        let ends: Vec<f64> = item
            .level
            .split(' ')
            .filter_map(|n| n.parse().ok())
            .collect();
        // Counts are Poisson, so that five standard deviations are exceeded once in 10^6.
        let margin = |mean: f64| 5.0 * mean.sqrt() + 2.0;
        assert!(count >= ends[0] - margin(ends[0]), "{item:?}: {count}");
        assert!(count <= ends[1] + margin(ends[1]), "{item:?}: {count}");
    }
    assert!(levels.len() >= 4, "{levels:?}");
}

#[test]
fn registers_differ_and_the_content_does_not() {
    let world = world(WorldKind::Grammar);
    let plain = |text: &str| {
        let text = text
            .to_lowercase()
            .replace("'s", " is")
            .replace("'re", " are");
        let text = text
            .replace("'m", " am")
            .replace("n't", " not")
            .replace("so ", "");
        text.trim().to_owned()
    };
    for item in world.probe_items(Family::Register, 80) {
        assert_eq!(plain(&item.right), plain(&item.wrong[0]), "{item:?}");
        let is_formal = item.context.starts_with(|c: char| c.is_uppercase());
        let informal = |text: &str| text.contains('\'') || text.starts_with("so ");
        assert_eq!(informal(&item.right), !is_formal, "{item:?}");
        assert_eq!(informal(&item.wrong[0]), is_formal, "{item:?}");
    }
}
