//! Tests that hold for every kind of world: against the enumeration of all documents of miniature worlds, and by
//! sampling larger ones.

use super::super::*;
use super::hash;
use super::miniature::miniatures;

#[test]
fn next_symbols_have_the_enumerated_distribution() {
    for miniature in miniatures() {
        let alphabet = miniature.process.alphabet();
        assert!(alphabet.is_sorted());
        let sum: f64 = miniature.documents.values().sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        let (mut possible, mut impossible) = (0, 0);
        for document in miniature.documents.keys().filter(|d| d.len() < 60) {
            let mut oracle = Oracle::new(miniature.process.clone());
            for (place, symbol) in document.bytes().enumerate() {
                let prefix = &document[..place];
                let total = miniature.prefix(prefix);
                let distribution = *oracle.distribution();
                assert!((distribution.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                for (next, p) in distribution.iter().enumerate() {
                    let longer = format!("{prefix}{}", next as u8 as char);
                    let exact = miniature.prefix(&longer) / total;
                    assert!((p - exact).abs() < 1e-12, "{longer:?}: {p}, {exact}");
                    assert!(
                        exact == 0.0 || alphabet.contains(&(next as u8)),
                        "{longer:?}"
                    );
                    let mut other = oracle.clone();
                    assert_eq!(other.advance(next as u8), p.log2());
                    assert_eq!(other.is_impossible(), exact == 0.0 && next as u8 != END);
                    if exact > 0.0 {
                        possible += 1;
                    } else {
                        impossible += 1;
                    }
                }
                oracle.advance(symbol);
            }
        }
        assert!(possible > 50 && impossible > 1000);
    }
}

#[test]
fn impossible_prefix_stays_impossible_until_the_document_ends() {
    for miniature in miniatures() {
        let mut oracle = Oracle::new(miniature.process.clone());
        let start = *oracle.distribution();
        for symbol in [0, b'!', 200, b'a'] {
            assert!(oracle.advance(symbol) == f64::NEG_INFINITY || symbol == b'a');
        }
        assert!(oracle.is_impossible());
        assert_eq!(*oracle.distribution(), [0.0; SYMBOLS]);
        assert_eq!(oracle.entropy(), 0.0);
        assert_eq!(oracle.advance(END), f64::NEG_INFINITY);
        assert!(!oracle.is_impossible());
        assert_eq!(*oracle.distribution(), start);
        oracle.advance(b'!');
        oracle.begin();
        assert_eq!(*oracle.distribution(), start);
    }
}

#[test]
fn expectations_are_those_of_the_enumeration() {
    for miniature in miniatures() {
        let Expected { bits, bytes } = miniature.process.expected();
        let documents = &miniature.documents;
        let entropy: f64 = documents.values().map(|p| -p * p.log2()).sum();
        let length: f64 = documents.iter().map(|(d, p)| p * d.len() as f64).sum();
        assert!((bits - entropy).abs() < 1e-10, "{bits}, {entropy}");
        assert!((bytes - length).abs() < 1e-10, "{bytes}, {length}");
    }
}

/// Returns the configurations of larger worlds.
pub(super) fn configurations() -> [WorldConfig; 6] {
    let of = |kind| WorldConfig {
        kind,
        ..WorldConfig::default()
    };
    [
        of(WorldKind::Grammar),
        WorldConfig {
            scale: Some(20),
            ..of(WorldKind::Grammar)
        },
        of(WorldKind::Facts),
        WorldConfig {
            facts: Some(30_000),
            exponent: Some(1.0),
            ..of(WorldKind::Facts)
        },
        of(WorldKind::Markov),
        WorldConfig {
            symbols: Some(40),
            order: Some(1),
            length: Some(20),
            lengths: Some(LengthLaw::Geometric),
            ..of(WorldKind::Markov)
        },
    ]
}

#[test]
fn visits_are_the_mean_numbers_that_give_length_and_entropy() {
    for config in configurations() {
        let world = World::new(&config).unwrap();
        let (mut bits, mut bytes) = (0.0, 0.0);
        let mut steps = Vec::new();
        for (state, visits) in world.process().visits(10_000_000).unwrap() {
            steps.clear();
            world.process().steps(state, &mut steps);
            let surprise = |step: &Step| -step.probability * step.probability.log2();
            bits += visits * steps.iter().map(surprise).sum::<f64>();
            bytes += visits;
        }
        let expected = world.expected();
        assert!((bits - expected.bits).abs() < 1e-8, "{bits}, {expected:?}");
        assert!(
            (bytes - expected.bytes).abs() < 1e-8,
            "{bytes}, {expected:?}"
        );
    }
}

#[test]
fn oracle_gives_the_drawn_bits() {
    for config in configurations() {
        let world = World::new(&config).unwrap();
        let mut oracle = world.oracle();
        for index in 0..2000 {
            let Document { text, bits } = world.document(Stream::Valid, index);
            assert!(text.is_ascii() && text.find('\n') == Some(text.len() - 1));
            let sum: f64 = text.bytes().map(|symbol| -oracle.advance(symbol)).sum();
            assert!((sum - bits).abs() < 1e-9, "{text:?}: {sum}, {bits}");
        }
    }
}

#[test]
fn mean_of_drawn_bits_and_bytes_is_within_4_standard_errors() {
    for config in configurations() {
        let world = World::new(&config).unwrap();
        let expected = world.expected();
        let n = 20_000;
        let documents: Vec<Document> = (0..n)
            .map(|index| world.document(Stream::Train, index))
            .collect();
        let check = |exact: f64, of: fn(&Document) -> f64| {
            let mean = documents.iter().map(of).sum::<f64>() / n as f64;
            let squares = documents.iter().map(|d| (of(d) - mean).powi(2));
            let error = (squares.sum::<f64>() / n as f64 / n as f64).sqrt();
            assert!(
                (mean - exact).abs() <= 4.0 * error + 1e-9,
                "{mean} ± {error}, not {exact}"
            );
        };
        check(expected.bits, |document| document.bits);
        check(expected.bytes, |document| document.text.len() as f64);
    }
}

#[test]
fn text_does_not_depend_on_order_or_threads() {
    use rayon::prelude::*;
    for config in configurations() {
        let world = World::new(&config).unwrap();
        let text = world.text(Stream::Train, Size::Documents(500));
        let draw = |index| World::new(&config).unwrap().document(Stream::Train, index);
        let backwards: Vec<_> = [499, 250, 3].map(draw).into();
        let parallel: Vec<Document> = (0..500u64)
            .into_par_iter()
            .map(|index| world.document(Stream::Train, index))
            .collect();
        assert_eq!(backwards[0], parallel[499]);
        assert_eq!(backwards[2], parallel[3]);
        let joined: String = parallel.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(joined, text.text);
        let valid = world.text(Stream::Valid, Size::Documents(500));
        assert_ne!(valid.text, text.text);
    }
}

#[test]
fn text_of_each_kind_is_a_function_of_the_seed() {
    let hashes = configurations().map(|config| {
        let world = World::new(&config).unwrap();
        hash(&world.text(Stream::Train, Size::Bytes(10_000)).text)
    });
    assert_eq!(
        hashes,
        [
            "4fefc04fd8384ed5b307072f8a3e853937fc531e1a9a6acf524cf7c1f5021335",
            "e9cbf2af781e556ecc8d11476b01d462eb96c0c82a383567ba35ccd0207d03cf",
            "68a331a4f52140c63d67e0b6164108a66f2b3160e317ca6d03f12f9d7be9cab1",
            "4fd19880c9c3ac24e9a79d5de582ef44d6bb4997b97aa70c9416d41e0b30bb9e",
            "b6e8547221b8bdd370e85c87e0207d6753f1427a10353a02706a1d3935e9759e",
            "dd74fbab818ef1e2b93850679b94e2abfef64b4412bdc19c2e2c286af9ca81d6",
        ]
    );
}

#[test]
fn predicted_exponents_are_those_of_the_literature() {
    let of = |exponent| FactsConfig {
        facts: 10,
        exponent,
        answer: 1,
    };
    assert_eq!(of(1.0).data_exponent(), Some(0.5));
    assert_eq!(of(1.0).parameter_exponent(), Some(1.0));
    assert_eq!(of(0.25).data_exponent(), Some(0.2));
    assert_eq!(of(0.0).data_exponent(), None);
    assert_eq!(of(-1.0).parameter_exponent(), None);
}

#[test]
fn entropy_rate_of_a_chain_is_that_of_long_documents() {
    let rate = |length| {
        let world = World::new(&WorldConfig {
            kind: WorldKind::Markov,
            length: Some(length),
            ..WorldConfig::default()
        });
        let world = world.unwrap();
        (world.expected().bits, world.process().endless_rate())
    };
    let ((short, endless), (long, _)) = (rate(400), rate(500));
    let difference = (long - short) / 100.0;
    assert!(
        (difference - endless.unwrap()).abs() < 1e-10,
        "{difference}, {endless:?}"
    );
}

#[test]
fn entropy_rate_of_a_periodic_chain_is_0() {
    // Each symbol has one successor, so the chain ends in a cycle.
    let chain = World::new(&WorldConfig {
        kind: WorldKind::Markov,
        branches: Some(1),
        ..WorldConfig::default()
    });
    let chain = chain.unwrap();
    assert_eq!(chain.process().endless_rate(), Some(0.0));
    assert!((chain.expected().bits - 2.0 * 4.0).abs() < 1e-12);
}

#[test]
fn facts_of_equal_frequency_have_the_entropy_of_a_uniform_choice() {
    let world = World::new(&WorldConfig {
        kind: WorldKind::Facts,
        facts: Some(1024),
        exponent: Some(-1.0),
        ..WorldConfig::default()
    });
    let world = world.unwrap();
    assert!((world.expected().bits - 10.0).abs() < 1e-12);
    // Three letters, a space, four letters and a newline.
    assert_eq!(world.expected().bytes, 9.0);
}

#[test]
fn invalid_keys_are_named() {
    let facts = WorldConfig {
        kind: WorldKind::Facts,
        ..WorldConfig::default()
    };
    let chain = WorldConfig {
        kind: WorldKind::Markov,
        ..WorldConfig::default()
    };
    let set = |config: &WorldConfig, set: fn(&mut WorldConfig)| {
        let mut config = config.clone();
        set(&mut config);
        World::new(&config).unwrap_err().to_string()
    };
    for (error, key, parts) in [
        (
            set(&facts, |c| c.order = Some(2)),
            "order",
            ["kind = \"markov\"", "the kind is \"facts\""],
        ),
        (
            set(&facts, |c| c.facts = Some(0)),
            "facts",
            ["is 0", "from 1"],
        ),
        (
            set(&facts, |c| c.exponent = Some(f64::NAN)),
            "exponent",
            ["is NaN", "from -1"],
        ),
        (
            set(&facts, |c| c.exponent = Some(8.0)),
            "exponent",
            ["is 8", "below 2^-52"],
        ),
        (
            set(&facts, |c| c.answer = Some(65)),
            "answer",
            ["is 65", "to 64"],
        ),
        (
            set(&facts, |c| c.valid_documents = Some(0)),
            "valid_documents",
            ["at least", "1"],
        ),
        (
            set(&chain, |c| c.symbols = Some(63)),
            "symbols",
            ["is 63", "to 62"],
        ),
        (
            set(&chain, |c| c.branches = Some(17)),
            "branches",
            ["is 17", "to 16"],
        ),
        (
            set(&chain, |c| c.order = Some(9)),
            "order",
            ["16^9", "lower it"],
        ),
        (
            set(&chain, |c| c.length = Some(2)),
            "length",
            ["is 2", "from 3"],
        ),
        (
            set(&chain, |c| (c.order, c.length) = (Some(5), Some(60_000))),
            "length",
            ["too slow", "lower it"],
        ),
        (
            set(&chain, |c| c.scale = Some(2)),
            "scale",
            ["grammar", "markov"],
        ),
    ] {
        assert!(error.starts_with(&format!("data.world.{key}: ")), "{error}");
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
    }
}
