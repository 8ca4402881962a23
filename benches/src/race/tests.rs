//! Tests of the arguments of a race and of its checks.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: RaceArgs,
}

fn args(line: &str) -> Result<RaceArgs, String> {
    let words = std::iter::once("race").chain(line.split_whitespace());
    let parsed = Line::try_parse_from(words);
    parsed
        .map(|line| line.args)
        .map_err(|error| error.to_string())
}

fn names(shapes: &[Shape]) -> Vec<&str> {
    shapes.iter().map(|shape| shape.name).collect()
}

#[test]
fn default_race_is_every_model_against_eager() {
    let args = args("").unwrap();
    assert_eq!(names(&args.config), ["char", "baby", "vocab"]);
    assert_eq!(args.peer, [Peer::Eager]);
    assert_eq!((args.rounds.get(), args.steps), (5, None));
    assert!(args.backend.is_empty() && args.out.is_none() && !args.json && !args.dry_run);
}

#[test]
fn lists_are_read_in_order() {
    let args = args(
        "--config vocab,char --backend libtorch,flex --peer compile,eager --rounds 3 --steps 7 --threads 1 --json",
    )
    .unwrap();
    assert_eq!(names(&args.config), ["vocab", "char"]);
    assert_eq!(args.backend, [Backend::LibTorch, Backend::Flex]);
    assert_eq!(args.peer, [Peer::Compile, Peer::Eager]);
    let number = NonZeroUsize::new;
    assert_eq!(Some(args.rounds), number(3));
    assert_eq!((args.steps, args.threads), (number(7), number(1)));
    assert!(args.json);
}

#[test]
fn error_of_an_invalid_argument_names_the_valid_ones() {
    for (line, expected) in [
        ("--config tiny", "the models are char, baby, vocab"),
        ("--backend torch", "the nearest is \"libtorch\""),
        ("--backend wgpu", "with flex, libtorch, ndarray"),
        ("--peer jax", "eager"),
        ("--rounds 0", "--rounds"),
        ("--steps many", "--steps"),
        ("--dry-run --out results.json", "--out"),
    ] {
        let error = args(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

fn steps(seconds: &[f64], losses: &[f64]) -> Steps {
    Steps {
        seconds: seconds.to_vec(),
        losses: losses.to_vec(),
        peak_memory_bytes: None,
    }
}

#[test]
fn length_of_a_round_depends_on_the_slower_competitor_within_limits() {
    let round = |ours: f64, theirs: f64| {
        let warm_up = |seconds: f64| steps(&[10.0, seconds, seconds], &[3.0; 3]);
        steps_of_a_round(&[warm_up(ours), warm_up(theirs)])
    };
    assert_eq!(round(0.25, 0.1), 20);
    assert_eq!(round(0.1, 0.3), 17);
    assert_eq!(round(7.0, 3.0), 2);
    assert_eq!(round(1e-6, 1e-6), 50);
}

#[test]
fn diverging_competitors_are_noticed() {
    assert!(check_same(&[4.17, 3.80], &[4.1705, 3.82]).is_ok());
    let error = check_same(&[4.17, 3.0], &[4.172, 3.0]).unwrap_err();
    assert!(error.to_string().contains("step 0"), "{error}");
    let error = check_same(&[4.17, 3.0], &[4.17, 3.1]).unwrap_err();
    assert!(error.to_string().contains("step 1"), "{error}");
}

#[test]
fn competitor_has_to_learn() {
    let warm_up = steps(&[1.0; 2], &[4.0, 3.9]);
    let learned = |losses: &[f64]| {
        let round = steps(&vec![1.0; losses.len()], losses);
        check_learned("PyTorch", &warm_up, &[round])
    };
    assert!(learned(&[3.0, 2.0]).is_ok());
    assert!(learned(&[3.0, 4.0]).is_err());
    assert!(learned(&[]).is_err());
}

#[test]
fn competitor_has_the_requested_model_and_threads() {
    let ready = |parameters, threads| Ready {
        version: "PyTorch".into(),
        parameters,
        threads,
    };
    let check = |ready| check_ready("PyTorch", &ready, 100, 2);
    assert!(check(ready(100, Some(2))).is_ok());
    assert!(check(ready(100, None)).is_ok());
    assert!(check(ready(99, Some(2))).is_err());
    let error = check(ready(100, Some(1))).unwrap_err();
    assert!(error.to_string().contains("with 1 threads"), "{error}");
}
