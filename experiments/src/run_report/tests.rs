//! Tests of pages of runs with known numbers.

mod probes;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::*;
use crate::Experiment;
use crate::record::identity::Identity;
use crate::record::run::{EXPERIMENT, RESULT, Record};
use crate::report::{Figure, LineKind, LinePlot, Plot, Tone};

/// Returns the record of a step of ten tokens, with a distinct number for each quantity.
fn step(step: usize, loss: f64, seconds: f64) -> Record {
    Record::Step {
        step,
        tokens: 10 * (step + 1),
        loss,
        gradient_norm: 0.5 * (step + 1) as f64,
        learning_rate: 1e-3 * (step + 1) as f64,
        seconds,
    }
}

fn evaluation(step: usize, loss: f64) -> Record {
    Record::Evaluation {
        step,
        tokens: 10 * step,
        loss,
        bits_per_byte: loss / 2.0,
        perplexity: loss.exp(),
        accuracy: 0.25,
        targets: 7,
    }
}

/// Returns three steps, with evaluations after the second and the third.
fn three_steps() -> Vec<Record> {
    vec![
        step(0, 4.0, 0.5),
        step(1, 3.0, 0.25),
        evaluation(2, 2.75),
        step(2, 2.5, 1.0),
        evaluation(3, 2.25),
    ]
}

/// Writes the run directory of an interrupted `foretoken train`.
fn recorded(path: &Path, overrides: &[&str], records: &[Record]) -> RunDirectory {
    let mut all = vec!["data.world.valid_bytes=2000".to_owned()];
    all.extend(overrides.iter().map(|text| (*text).to_owned()));
    let experiment = Experiment::embedded(&all).unwrap();
    let run = RunDirectory::create(Some(path), &experiment).unwrap();
    run.write(EXPERIMENT, experiment.to_toml()).unwrap();
    let mut log = MetricsLog::open(&run, 0).unwrap();
    for record in records {
        log.append(record).unwrap();
    }
    drop((run, log));
    RunDirectory::open(path).unwrap()
}

/// Adds the result of a complete run, whose numbers differ from those of its last evaluation.
fn complete(run: &RunDirectory) {
    let result = r#"{"early": false, "run": "moved", "backend": "flex", "steps": 3, "tokens": 30, "train_loss": 3.5,
        "valid_loss": 2.125, "bits_per_byte": 1.0625, "perplexity": 8.37,
        "best": {"step": 2, "valid_loss": 2.0, "bits_per_byte": 1.03125, "perplexity": 7.39},
        "floor_bits_per_byte": 0.25, "tokens_per_second": 17.5, "mfu": 0.125, "seconds": 1.75}"#;
    run.write(RESULT, result).unwrap();
}

fn identify(run: &RunDirectory, data: &str) {
    let identity = Identity {
        experiment: "e".into(),
        initial_weights: "w".into(),
        data: data.into(),
        replanned: Vec::new(),
    };
    let json = serde_json::to_vec(&identity).unwrap();
    run.write(Identity::FILE, json).unwrap();
}

fn histories(runs: &[&RunDirectory]) -> Vec<RunHistory> {
    runs.iter()
        .map(|run| RunHistory::read(run).unwrap())
        .collect()
}

fn page_of(runs: &[&RunDirectory]) -> Page {
    page(&histories(runs))
}

fn blocks(page: &Page) -> impl Iterator<Item = &Block> {
    page.sections.iter().flat_map(|section| &section.blocks)
}

fn figures(page: &Page) -> Vec<&Figure> {
    let figures = blocks(page).filter_map(|block| match block {
        Block::Figures(figures) => Some(figures),
        _ => None,
    });
    figures.flatten().collect()
}

fn plot<'a>(page: &'a Page, id: &str) -> &'a LinePlot {
    let figures = figures(page);
    let figure = figures.iter().find(|figure| figure.id == id);
    match &figure.unwrap_or_else(|| panic!("no figure {id}")).plot {
        Plot::Lines(plot) => plot,
        other => panic!("{id} is {other:?}"),
    }
}

/// Name, steps and values of each line.
type Curve<'a> = (&'a str, Option<&'a [usize]>, &'a [f64]);

fn curves_of<'a>(page: &'a Page, id: &str) -> Vec<Curve<'a>> {
    let lines = plot(page, id).lines.iter();
    lines
        .map(|line| (line.name.as_str(), line.steps.as_deref(), &line.values[..]))
        .collect()
}

/// Returns the paragraphs of the page.
fn texts(page: &Page) -> Vec<&str> {
    let texts = blocks(page).filter_map(|block| match block {
        Block::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Returns label, value and detail of each tile.
fn tiles(page: &Page) -> Vec<(&str, &str, &str)> {
    let tiles = blocks(page).filter_map(|block| match block {
        Block::Tiles(tiles) => Some(tiles),
        _ => None,
    });
    tiles
        .flatten()
        .map(|tile| (tile.label, tile.value.as_str(), tile.detail.as_str()))
        .collect()
}

fn rows(page: &Page) -> Vec<Vec<&str>> {
    let table = blocks(page).find_map(|block| match block {
        Block::Table(table) => Some(table),
        _ => None,
    });
    let rows = table.unwrap().rows.iter();
    rows.map(|row| row.iter().map(|cell| cell.text.as_str()).collect())
        .collect()
}

#[test]
fn known_metrics_become_exact_curves() {
    let root = tempfile::tempdir().unwrap();
    let run = recorded(&root.path().join("run"), &[], &three_steps());
    let page = page_of(&[&run]);
    let evaluated = Some(&[2, 3][..]);
    assert_eq!(
        curves_of(&page, "loss"),
        [
            ("training, each step", None, &[4.0, 3.0, 2.5][..]),
            ("validation", evaluated, &[2.75, 2.25]),
        ]
    );
    assert_eq!(
        curves_of(&page, "bits-per-byte"),
        [("validation", evaluated, &[1.375, 1.125][..])]
    );
    assert_eq!(
        curves_of(&page, "accuracy"),
        [("validation", evaluated, &[25.0, 25.0][..])]
    );
    assert_eq!(
        curves_of(&page, "gradient-norm"),
        [("each step", None, &[0.5, 1.0, 1.5][..])]
    );
    assert_eq!(
        curves_of(&page, "learning-rate"),
        [("each step", None, &[1e-3, 2e-3, 3e-3][..])]
    );
    // The steps have ten tokens each, and take half a second, a quarter and one.
    assert_eq!(
        curves_of(&page, "speed"),
        [("each step", None, &[20.0, 40.0, 10.0][..])]
    );
    for (id, value) in [("loss", 2.25), ("bits-per-byte", 1.125)] {
        let [best] = &plot(&page, id).marks[..] else {
            panic!("{id} has one mark");
        };
        assert_eq!((best.step, best.value), (3, value), "{id}");
    }
    let [clip] = &plot(&page, "gradient-norm").levels[..] else {
        panic!("the embedded experiment clips gradients");
    };
    assert_eq!(clip.value, 1.0);
}

#[test]
fn many_steps_are_shown_with_their_running_mean() {
    let root = tempfile::tempdir().unwrap();
    let records: Vec<_> = (0..120).map(|at| step(at, (at % 3) as f64, 1.0)).collect();
    let run = recorded(&root.path().join("run"), &[], &records);
    let page = page_of(&[&run]);
    let [noise, mean] = &plot(&page, "loss").lines[..] else {
        panic!("noise and mean");
    };
    assert_eq!((noise.kind, mean.kind), (LineKind::Faint, LineKind::Smooth));
    assert_eq!(noise.values[..4], [0.0, 1.0, 2.0, 0.0]);
    // Each window has the values 0, 1 and 2, except for the first with one value and the last with two.
    assert_eq!((mean.values[0], mean.values[119]), (0.0, 1.5));
    assert!(mean.values[1..119].iter().all(|value| *value == 1.0));
    let figure = figures(&page)[0];
    assert!(
        figure.caption.contains("mean of the 3 steps"),
        "{}",
        figure.caption
    );
}

#[test]
fn a_complete_run_shows_the_numbers_of_its_result() {
    let root = tempfile::tempdir().unwrap();
    let run = recorded(&root.path().join("run"), &[], &three_steps());
    complete(&run);
    fs::create_dir_all(run.checkpoints().join("step-2")).unwrap();
    let page = page_of(&[&run]);
    assert_eq!(
        page.headline,
        "run reaches 1.062 bits per byte, 0.812 above the entropy of its text, after 3 steps."
    );
    let tiles = tiles(&page);
    for expected in [
        ("Bits per byte", "1.062", "on validation text; floor 0.2500"),
        (
            "Validation loss",
            "2.1250",
            "nats per token; perplexity 8.373",
        ),
        (
            "Training loss",
            "3.5000",
            "nats per token, since the evaluation before the last",
        ),
        ("Next tokens right", "25.0\u{202f}%", "after step 3"),
        // The result names it, although a later evaluation has a lower loss.
        (
            "Best checkpoint",
            "step 2",
            "1.031 bits per byte; checkpoints/step-2",
        ),
        (
            "Speed",
            "17.5",
            "training tokens per second; MFU 12.5\u{202f}%",
        ),
        (
            "Time in training steps",
            "1.75\u{202f}s",
            "3 steps; complete",
        ),
    ] {
        assert!(tiles.contains(&expected), "{expected:?}: {tiles:?}");
    }
    let [floor] = &plot(&page, "bits-per-byte").levels[..] else {
        panic!("one floor");
    };
    assert_eq!(floor.value, 0.25);
    let [best] = &plot(&page, "loss").marks[..] else {
        panic!("one best checkpoint");
    };
    assert_eq!((best.step, best.value), (2, 2.75));
}

#[test]
fn the_floor_of_the_windows_is_drawn_where_it_is_known() {
    let root = tempfile::tempdir().unwrap();
    let run = recorded(&root.path().join("run"), &[], &three_steps());
    complete(&run);
    let mut result: serde_json::Value = run.read_json(RESULT).unwrap().unwrap();
    result["window_floor_bits_per_byte"] = 0.5.into();
    run.write(RESULT, result.to_string()).unwrap();
    let page = page_of(&[&run]);
    assert_eq!(
        page.headline,
        "run reaches 1.062 bits per byte, 0.562 above the floor of its windows, after 3 steps."
    );
    let [floor] = &plot(&page, "bits-per-byte").levels[..] else {
        panic!("one floor");
    };
    assert_eq!(
        (floor.value, floor.name.as_str()),
        (0.5, "floor of the windows, 0.5000")
    );
    let other = recorded(&root.path().join("other"), &[], &three_steps());
    complete(&other);
    let page = page_of(&[&run, &other]);
    let floors = plot(&page, "bits-per-byte").levels.iter();
    assert_eq!(
        floors.map(|floor| floor.value).collect::<Vec<_>>(),
        [0.25, 0.5]
    );
    let cells = rows(&page);
    assert_eq!(cells[0][7..9], ["0.2500", "0.5000"]);
    assert_eq!(cells[1][7..9], ["0.2500", "–"]);
}

#[test]
fn the_page_of_an_unfinished_run_names_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let records = [step(0, 4.0, 0.5), step(1, 3.0, 0.5)];
    let run = recorded(&root.path().join("run"), &["train.steps=900"], &records);
    let page = page_of(&[&run]);
    assert_eq!(
        page.headline,
        "run is unfinished: 2 of 900 steps are recorded."
    );
    let [note] = texts(&page)[..] else {
        panic!("{:?}", texts(&page));
    };
    for part in [
        "The run is not complete",
        "the first evaluation is after step 200",
        "no environment.json",
        "no identity.json",
    ] {
        assert!(note.contains(part), "{part}: {note}");
    }
    let figures = figures(&page);
    let ids: Vec<&str> = figures.iter().map(|figure| figure.id.as_str()).collect();
    assert_eq!(ids, ["loss", "learning-rate", "gradient-norm", "speed"]);
    assert!(tiles(&page).contains(&(
        "Training loss",
        "3.0000",
        "nats per token, at the last step"
    )));
}

#[test]
fn an_incomplete_last_line_is_ignored_and_noted() {
    let root = tempfile::tempdir().unwrap();
    let run = recorded(&root.path().join("run"), &[], &three_steps());
    let noted = |page: &Page| texts(page).concat().contains("last line of metrics.jsonl");
    let complete = page_of(&[&run]);
    assert!(!noted(&complete));
    let log = run.path().join(MetricsLog::FILE);
    let mut file = OpenOptions::new().append(true).open(log).unwrap();
    file.write_all(b"{\"kind\":\"step\",\"step\":3,\"tok")
        .unwrap();
    let cut = page_of(&[&run]);
    assert!(noted(&cut));
    assert_eq!(curves_of(&cut, "loss"), curves_of(&complete, "loss"));
}

#[test]
fn a_loss_that_is_not_finite_is_the_headline() {
    let root = tempfile::tempdir().unwrap();
    let records = [step(0, 4.0, 0.5), step(1, f64::NAN, 0.5)];
    let run = recorded(&root.path().join("run"), &[], &records);
    let page = page_of(&[&run]);
    assert_eq!(
        page.headline,
        "The training loss of run is not finite from step 1 on."
    );
    let histories = histories(&[&run]);
    assert_eq!(overview::state(&histories[0]).0, Tone::Bad);
    write(&[run], None).unwrap();
}

#[test]
fn several_runs_share_figures_and_a_table() {
    let root = tempfile::tempdir().unwrap();
    let one = recorded(&root.path().join("one"), &[], &three_steps());
    complete(&one);
    let other = recorded(
        &root.path().join("other"),
        &["train.steps=900", "optimizer.clip=0.5"],
        &[step(0, 5.0, 0.5), evaluation(1, 1.5)],
    );
    identify(&one, "same");
    identify(&other, "same");
    let page = page_of(&[&one, &other]);
    assert_eq!(
        page.headline,
        "other reaches the fewest bits per byte of 2 runs: 0.7500."
    );
    assert_eq!(
        curves_of(&page, "training-loss"),
        [
            ("one", None, &[4.0, 3.0, 2.5][..]),
            ("other", None, &[5.0][..]),
        ]
    );
    assert_eq!(
        curves_of(&page, "validation-loss"),
        [
            ("one", Some(&[2, 3][..]), &[2.75, 2.25][..]),
            ("other", Some(&[1][..]), &[1.5][..]),
        ]
    );
    assert_eq!(curves_of(&page, "speed")[1], ("other", None, &[20.0][..]));
    let floor = histories(&[&other])[0].floor.unwrap();
    assert_eq!(plot(&page, "bits-per-byte").levels.len(), 2);
    assert_eq!(
        rows(&page),
        [
            [
                "one",
                "flex:f32",
                "complete",
                "3",
                "2.5000",
                "2.1250",
                "1.062",
                "0.2500",
                "–",
                "2",
                "17.5",
                "1.75\u{202f}s"
            ],
            [
                "other",
                "flex:f32",
                "unfinished: 1 of 900",
                "1",
                "5.0000",
                "1.5000",
                "0.7500",
                &format!("{floor:.4}"),
                "–",
                "1",
                "20.0",
                "500\u{202f}ms"
            ],
        ]
    );
    // The runs clip at different norms, so no level is drawn.
    assert!(plot(&page, "gradient-norm").levels.is_empty());
    let colours = &plot(&page, "training-loss").lines;
    assert_ne!(colours[0].class, colours[1].class);
    let differing: Vec<String> = blocks(&page)
        .filter_map(|block| match block {
            Block::Table(table) if table.caption.starts_with("Keys") => Some(table),
            _ => None,
        })
        .flat_map(|table| &table.rows)
        .map(|row| {
            let cells: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
            cells.join(" ")
        })
        .collect();
    assert_eq!(
        differing,
        ["≠ optimizer.clip 1.0 0.5", "≠ train.steps 3200 900"]
    );
}

#[test]
fn different_units_and_data_are_noted() {
    let root = tempfile::tempdir().unwrap();
    let [one, other] =
        ["one", "other"].map(|name| recorded(&root.path().join(name), &[], &three_steps()));
    let runs = [&one, &other];
    assert!(texts(&page_of(&runs))[0].contains("not known whether all read the same data"));
    identify(&one, "a");
    identify(&other, "b");
    let page = page_of(&runs);
    assert_eq!(page.headline, "2 runs on different data.");
    assert!(
        texts(&page)[0].contains("different data"),
        "{:?}",
        texts(&page)
    );
    one.write("tokenizer.json", "{\"bytes\": 1}").unwrap();
    other.write("tokenizer.json", "{\"bpe\": 1}").unwrap();
    let page = page_of(&runs);
    assert!(texts(&page)[0].contains("different tokenizers"));
    for figure in figures(&page) {
        let in_nats = matches!(&figure.id[..], "training-loss" | "validation-loss");
        let is_noted = figure.caption.contains("different tokenizers");
        assert_eq!(is_noted, in_nats, "{}: {}", figure.id, figure.caption);
    }
}

#[test]
fn runs_with_equal_names_are_named_by_their_paths() {
    let root = tempfile::tempdir().unwrap();
    let paths = ["a/run", "b/run"].map(|path| root.path().join(path));
    let [one, other] = [&paths[0], &paths[1]].map(|path| recorded(path, &[], &three_steps()));
    let page = page_of(&[&one, &other]);
    let names: Vec<String> = rows(&page).iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(names, paths.map(|path| path.display().to_string()));
}

#[test]
fn the_error_of_an_unreportable_run_is_one_line() {
    let root = tempfile::tempdir().unwrap();
    let refused = |runs: &[RunDirectory], part: &str| {
        let error = write(runs, Some(&root.path().join("report"))).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(part) && !message.contains('\n'),
            "{message}"
        );
        assert_eq!(error.exit_code(), 2, "{message}");
        assert!(!root.path().join("report").exists());
    };
    let run = recorded(&root.path().join("run"), &[], &three_steps());
    refused(&[run.clone(), run.clone()], "is named twice");
    let empty = recorded(&root.path().join("empty"), &[], &[]);
    refused(
        &[run.clone(), empty.clone()],
        "has no step in metrics.jsonl",
    );
    fs::remove_file(empty.path().join(MetricsLog::FILE)).unwrap();
    refused(&[empty], "has no metrics.jsonl");
    let log = run.path().join(MetricsLog::FILE);
    let lines = fs::read_to_string(&log).unwrap();
    let without_second: Vec<&str> = lines
        .lines()
        .filter(|line| !line.contains("\"step\":1"))
        .collect();
    fs::write(&log, without_second.join("\n") + "\n").unwrap();
    refused(
        std::slice::from_ref(&run),
        "metrics.jsonl: has step 2 where step 1 is expected",
    );
    fs::write(&log, "{\"kind\":\"step\"}\n").unwrap();
    refused(std::slice::from_ref(&run), "line 1 is not a record");
}

#[test]
fn external_text_is_escaped_and_the_page_fetches_nothing() {
    let root = tempfile::tempdir().unwrap();
    let run = recorded(&root.path().join("<b>|run"), &[], &three_steps());
    run.write(
        "sample.txt",
        "</code><script>alert(1)</script>\n```\n# heading",
    )
    .unwrap();
    let report = write(&[run], None).unwrap();
    let html = fs::read_to_string(&report).unwrap();
    assert!(html.contains("&lt;b&gt;|run") && !html.contains("<b>|run"));
    assert!(html.contains("&lt;script&gt;alert(1)") && !html.contains("<script>alert"));
    for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!html.contains(outside), "{outside}");
    }
    let markdown = fs::read_to_string(report.with_file_name("report.md")).unwrap();
    assert!(markdown.contains("````text"), "{markdown}");
    for id in [
        "loss",
        "bits-per-byte",
        "learning-rate",
        "gradient-norm",
        "speed",
        "accuracy",
    ] {
        let svg = report.with_file_name("plots").join(format!("{id}.svg"));
        let svg = fs::read_to_string(svg).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("var(--"), "{id}");
        assert!(markdown.contains(&format!("(plots/{id}.svg)")), "{id}");
    }
}
