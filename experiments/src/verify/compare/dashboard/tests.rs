//! Tests of the full screen: its contents, and that no event makes it panic. Other tests use the plans and events here.

use std::time::Duration;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw::draw;
use super::scene::Scene;
use super::state::State;
use super::view::{Popup, View};
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::verify::compare::{
    Check, Checked, Entrant, Envelope, Event, Plan, PlannedRun, Role, Unit, Verdict,
};

const SIZES: [(u16, u16); 3] = [(80, 24), (200, 50), (40, 12)];

/// Returns flex:f32, ndarray:f32, … by index.
pub(super) fn entrant(index: usize) -> Entrant {
    Entrant {
        name: Backend::ALL[index % Backend::ALL.len()],
        dtype: Precision::F32,
    }
}

/// Returns a plan with a reference and backends under test: `runs` runs of 4 steps in all.
pub(super) fn plan(runs: usize) -> Plan {
    let role = |index| match index {
        0 => Role::Reference,
        _ => Role::Entrant,
    };
    Plan {
        name: "world".into(),
        steps: 4,
        unit: Unit::Tokens,
        items_per_step: 1024,
        lockstep: false,
        reference: entrant(0),
        runs: (0..runs)
            .map(|index| PlannedRun {
                role: role(index),
                entrant: entrant(index),
            })
            .collect(),
        unavailable: Vec::new(),
    }
}

/// Returns a plan with runs of every role.
pub(super) fn full_plan() -> Plan {
    let wide = Entrant {
        name: Backend::Flex,
        dtype: Precision::F64,
    };
    let run = |role, entrant| PlannedRun { role, entrant };
    Plan {
        reference: wide,
        runs: vec![
            run(Role::Reference, wide),
            run(Role::Rounding, entrant(0)),
            run(Role::Rounding, entrant(0)),
            run(Role::Rounding, entrant(0)),
            run(Role::Seed(2), wide),
            run(Role::Entrant, entrant(0)),
            run(Role::Entrant, entrant(1)),
            run(Role::Entrant, entrant(3)),
        ],
        unavailable: vec![(entrant(4), "no device answers".into())],
        ..plan(0)
    }
}

pub(super) fn step_in(run: usize, step: usize, seconds: f64) -> Event {
    Event::Step {
        run,
        step,
        loss: 1.0,
        seconds,
        weights_distance: None,
    }
}

pub(super) fn step(run: usize, step: usize, loss: f64) -> Event {
    Event::Step {
        run,
        step,
        loss,
        seconds: 1.0,
        weights_distance: None,
    }
}

pub(super) fn ended(run: usize, failure: Option<&str>) -> Event {
    Event::Ended {
        run,
        peak_memory_bytes: Some(512 << 20),
        failure: failure.map(Into::into),
    }
}

fn judged(run: usize, verdict: Verdict) -> Event {
    Event::Judged {
        run,
        verdict,
        reason: "because".into(),
    }
}

fn state(events: impl IntoIterator<Item = Event>) -> State {
    let mut state = State::default();
    for (second, event) in events.into_iter().enumerate() {
        state.apply(event, Duration::from_secs(second as u64));
    }
    state
}

fn screen(state: &State, view: &View, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test backend");
    let scene = Scene {
        state,
        view,
        stopping: false,
        now: Duration::from_secs(75),
    };
    terminal
        .draw(|frame| draw(&scene, frame))
        .expect("a test backend");
    terminal.backend().to_string()
}

fn every_size(state: &State) -> Vec<String> {
    let popups = [Popup::None, Popup::Keys, Popup::Details];
    let extreme = [
        (1, 1),
        (3, 2),
        (20, 5),
        (59, 40),
        (60, 18),
        (80, 50),
        (300, 20),
    ];
    let mut screens = Vec::new();
    for size in SIZES.into_iter().chain(extreme) {
        for popup in popups {
            for selected in [None, Some(0), Some(1), Some(99)] {
                let view = View {
                    log: popup == Popup::None && selected.is_some(),
                    selected,
                    popup,
                };
                screens.push(screen(state, &view, size));
            }
        }
    }
    screens
}

#[test]
fn every_screen_has_names_and_verdicts() {
    let mut events = vec![Event::Planned(full_plan())];
    for run in [0, 5, 6, 7] {
        for at in 0..4 {
            let noise = run as f64 * 1e-7 * at as f64;
            events.push(step(run, at, 4.0 - at as f64 + noise));
        }
        events.push(ended(run, None));
    }
    events.push(judged(5, Verdict::Identical));
    events.push(judged(6, Verdict::Rounding));
    events.push(judged(7, Verdict::Differs));
    let state = state(events);
    for size in SIZES {
        let screen = screen(&state, &View::default(), size);
        for text in [
            "flex:f64",
            "flex:f32",
            "ndarray:f32",
            "wgpu:f32",
            "cuda:f32",
            "= identical",
            "✓ rounding",
            "≠ differs",
            "– unavailable",
            "1m 15s elapsed",
        ] {
            assert!(screen.contains(text), "{text} is missing:\n{screen}");
        }
    }
    let screen = screen(&state, &View::default(), (80, 24));
    for text in [
        "Loss, nats/token",
        "|Δloss| from flex:f64",
        "2.1e-6",
        "1.0k",
        "512 MiB",
    ] {
        assert!(screen.contains(text), "{text} is missing:\n{screen}");
    }
}

#[test]
fn tiny_screen_has_verdicts() {
    let state = state([
        Event::Planned(plan(2)),
        step(0, 0, 4.0),
        judged(1, Verdict::Differs),
    ]);
    let screen = screen(&state, &View::default(), (18, 9));
    assert!(screen.contains("ndarray:f32 ≠"), "{screen}");
}

#[test]
fn empty_states_can_be_drawn() {
    every_size(&State::default());
    every_size(&state([Event::Planned(plan(0))]));
    every_size(&state([Event::Planned(full_plan())]));
    every_size(&state([Event::Planned(plan(2)), Event::Started { run: 0 }]));
}

#[test]
fn single_step_can_be_drawn() {
    let screens = every_size(&state([
        Event::Planned(plan(2)),
        step(0, 0, 4.0),
        step(1, 0, 4.0),
    ]));
    assert!(screens[0].contains("|Δloss|"));
}

#[test]
fn extreme_losses_can_be_drawn() {
    let losses = [
        f64::NAN,
        f64::INFINITY,
        -f64::INFINITY,
        f64::MAX,
        f64::MIN,
        0.0,
        -0.0,
        1e-320,
    ];
    let mut events = vec![Event::Planned(plan(2))];
    for (at, loss) in losses.into_iter().enumerate() {
        events.extend([step(0, at, 4.0), step(1, at, loss)]);
    }
    let state = state(events);
    every_size(&state);
    assert!(screen(&state, &View::default(), (80, 24)).contains("NaN"));
}

#[test]
fn differences_of_zero_are_on_the_line_of_zero() {
    let mut events = vec![Event::Planned(plan(2))];
    for at in 0..4 {
        events.extend([step(0, at, 4.0), step(1, at, 4.0)]);
    }
    let state = state(events);
    every_size(&state);
    // The lowest line has the label 0.
    assert!(screen(&state, &View::default(), (80, 24)).contains("│  0│"));
}

#[test]
fn long_failure_is_cut_at_the_frame() {
    let reason = "the device is gone\n".repeat(200);
    let state = state([
        Event::Planned(plan(2)),
        step(0, 0, 4.0),
        ended(1, Some(&reason)),
    ]);
    every_size(&state);
    let view = View {
        selected: Some(1),
        ..View::default()
    };
    let screen = screen(&state, &view, (80, 24));
    assert!(screen.contains("✗ failed"), "{screen}");
    assert!(
        screen.contains("✗ ndarray:f32: the device is gone the"),
        "{screen}"
    );
}

#[test]
fn table_scrolls_to_the_run_that_started_last() {
    let mut events = vec![Event::Planned(plan(31)), step(0, 0, 4.0)];
    events.extend((1..20).flat_map(|run| [step(run, 0, 4.0), ended(run, None)]));
    events.push(Event::Started { run: 20 });
    let state = state(events);
    every_size(&state);
    let screen = screen(&state, &View::default(), (80, 24));
    assert!(screen.contains("of 31"), "{screen}");
    assert!(screen.contains("▸ starting"), "{screen}");
}

#[test]
fn steps_beyond_the_plan_can_be_drawn() {
    every_size(&state([
        Event::Planned(plan(2)),
        step(0, usize::MAX, 4.0),
        step(1, usize::MAX, 3.0),
        step(1, 0, 3.0),
    ]));
}

fn any_f64() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..10.0f64,
        1 => Just(0.0),
        2 => any::<f64>(),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
    ]
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let run = (0..4u8, 0..7usize, 0..3u64).prop_map(|(role, on, seed)| PlannedRun {
        role: match role {
            0 => Role::Reference,
            1 => Role::Rounding,
            2 => Role::Seed(seed),
            _ => Role::Entrant,
        },
        entrant: entrant(on),
    });
    let steps = prop_oneof![0..20usize, Just(usize::MAX)];
    (steps, any::<bool>(), prop::collection::vec(run, 0..9)).prop_map(|(steps, lockstep, runs)| {
        Plan {
            steps,
            lockstep,
            runs,
            unavailable: vec![(entrant(5), "no\ndevice".into())],
            ..plan(0)
        }
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let run = 0..10usize;
    let at = prop_oneof![9 => 0..20usize, 1 => any::<usize>()];
    let check = (any_f64(), any_f64()).prop_map(|(error, bound)| Check {
        step: 0,
        of: Checked::Gradient,
        path: Some("layers.0.weight".into()),
        error,
        bound,
    });
    let verdicts = prop::sample::select(Verdict::ALL.to_vec());
    prop_oneof![
        1 => any_plan().prop_map(Event::Planned),
        2 => run.clone().prop_map(|run| Event::Started { run }),
        1 => (run.clone(), prop::collection::vec(check, 0..5))
            .prop_map(|(run, checks)| Event::Checked { run, checks }),
        12 => (run.clone(), at, any_f64(), any_f64(), prop::option::of(any_f64())).prop_map(
            |(run, step, loss, seconds, weights_distance)| Event::Step {
                run, step, loss, seconds, weights_distance,
            }
        ),
        1 => (0..7usize, prop::collection::vec(any_f64(), 0..20)).prop_map(|(of, loss)| {
            Event::Enveloped(Envelope {
                of: entrant(of),
                runs: 8,
                quantile: 0.95,
                comparable: None,
                losses: Vec::new(),
                final_losses: Vec::new(),
                factor: 2.0,
                loss,
                weights: Vec::new(),
            })
        }),
        2 => (run.clone(), any::<Option<u64>>(), any::<Option<String>>()).prop_map(
            |(run, peak_memory_bytes, failure)| Event::Ended { run, peak_memory_bytes, failure }
        ),
        1 => (run, verdicts, any::<String>())
            .prop_map(|(run, verdict, reason)| Event::Judged { run, verdict, reason }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_sequence_of_events_panics(
        plan in any_plan(),
        events in prop::collection::vec(any_event(), 0..60),
        width in 1..120u16,
        height in 1..60u16,
        log in any::<bool>(),
        selected in prop::option::of(0..12usize),
        popup in prop::sample::select(vec![Popup::None, Popup::Keys, Popup::Details]),
    ) {
        let mut known = State::default();
        let mut lines = super::plain::Lines::default();
        let view = View { log, selected, popup };
        let events = std::iter::once(Event::Planned(plan)).chain(events);
        for (second, event) in events.enumerate() {
            let now = Duration::from_secs(second as u64);
            for line in lines.event(event.clone(), now) {
                prop_assert!(!line.contains(char::is_control), "{line:?}");
            }
            known.apply(event, now);
        }
        screen(&known, &view, (width, height));
    }
}
