//! Tests of the distribution of the next token.

use super::super::*;
use super::kinds::configurations;
use crate::{Tokenizer, TokenizerSpec};

#[test]
fn tokens_that_divide_text_in_one_way_have_exact_probabilities() {
    for config in configurations() {
        let world = World::new(&config).unwrap();
        let text = world.text(Stream::Train, Size::Bytes(3000));
        for spec in [TokenizerSpec::Byte, TokenizerSpec::Char] {
            let tokenizer = Tokenizer::from_spec(&spec.to_string(), &text.text).unwrap();
            let mut oracle = world.oracle();
            let mut tokens = TokenOracle::new(&world, &tokenizer).unwrap();
            let mut bits = 0.0;
            for id in tokenizer.encode(&text.text).unwrap() {
                let symbol = tokenizer.token_bytes(id)[0];
                let distribution = tokens.distribution().to_vec();
                assert_eq!(
                    distribution[id as usize],
                    oracle.distribution()[usize::from(symbol)]
                );
                bits -= tokens.advance(id);
                oracle.advance(symbol);
            }
            assert!((bits - text.bits).abs() < 1e-7);
            tokens.advance(u32::MAX);
            assert!(tokens.is_impossible());
        }
    }
}

#[test]
fn tokens_of_several_symbols_are_summed_over_their_symbols() {
    // Pairs of letters are a prefix code, although the tokenizer knows single letters too.
    let world = World::new(&WorldConfig {
        kind: WorldKind::Markov,
        symbols: Some(2),
        order: Some(1),
        branches: Some(2),
        length: Some(4),
        ..WorldConfig::default()
    });
    let world = world.unwrap();
    let tokens = [&b"aa"[..], b"ab", b"ba", b"bb", b"\n", b"xy", b""].map(<[u8]>::to_vec);
    let mut oracle = TokenOracle::of_tokens(&world, tokens.into()).unwrap();
    let mut symbols = world.oracle();
    let first = oracle.distribution().to_vec();
    assert!((first.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{first:?}");
    assert_eq!(first[4..], [0.0; 3]);
    let exact = symbols.advance(b'a') + symbols.advance(b'b');
    assert!((first[1].log2() - exact).abs() < 1e-12);
    assert!((oracle.advance(1) - exact).abs() < 1e-12);
    oracle.advance(2);
    assert_eq!(oracle.distribution()[4], 1.0);
    assert_eq!(oracle.advance(4), 0.0);
    assert_eq!(oracle.distribution(), first);
}

#[test]
fn tokens_that_divide_text_in_several_ways_are_refused() {
    let world = World::new(&WorldConfig::default()).unwrap();
    let text = world.text(Stream::Train, Size::Bytes(20_000)).text;
    let tokenizer = Tokenizer::from_spec("bpe:300", &text).unwrap();
    let error = TokenOracle::new(&world, &tokenizer)
        .unwrap_err()
        .to_string();
    for part in ["tokenizer: ", "is the beginning of", "char or byte"] {
        assert!(error.contains(part), "{error}");
    }
}
