//! Tests of whole reports, made from fictitious comparisons.

mod fixture;

use std::fs;

use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::record::environment::Environment;
use crate::verify::compare::{
    Check, Checked, Comparison, Computation, Entrant, Entry, Envelope, Invariance, Judge,
    Reference, Seeds, Verdict,
};

use super::*;

fn written(comparison: &Comparison) -> (tempfile::TempDir, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let page = write_report(comparison, directory.path()).unwrap();
    assert_eq!(page, directory.path().join("report.html"));
    let read = |name| fs::read_to_string(directory.path().join(name)).unwrap();
    let (html, markdown) = (read("report.html"), read("report.md"));
    (directory, html, markdown)
}

/// Panics if the path of a figure contains something other than a finite number.
fn has_no_broken_number(svg: &str) {
    for wrong in ["NaN", "inf", "\"-\"", "e+"] {
        let places = svg.split("<text").map(|part| match part.split_once('>') {
            Some((attributes, rest)) => {
                let rest = rest.split_once("</text>").map_or(rest, |(_, rest)| rest);
                [attributes, rest]
            }
            None => [part, ""],
        });
        for place in places.flatten() {
            let paths = place.split(" d=\"").skip(1);
            for path in paths.filter_map(|path| path.split('"').next()) {
                assert!(!path.contains(wrong), "{path}");
            }
        }
    }
}

/// Panics unless every element is closed.
fn is_well_formed(xml: &str) {
    let mut open = Vec::new();
    let tags = xml
        .split('<')
        .skip(1)
        .filter_map(|rest| rest.split_once('>'));
    for (tag, _) in tags.filter(|(tag, _)| !tag.starts_with('?')) {
        let name = tag.split_whitespace().next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
            None if !tag.ends_with('/') => open.push(name),
            None => {}
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn report_has_every_verdict_plot_and_table() {
    let comparison = fixture::comparison(400);
    let (directory, html, markdown) = written(&comparison);
    let headline = "wgpu:f32 differs from flex:f64, from step 0 on; cubecl-cpu:f32 failed; libtorch:f32 agrees \
                    in outcome; ndarray:f32 agrees within rounding; libtorch:bf16 gives identical bits; \
                    cuda:f32 is unavailable here.";
    assert!(html.contains(&format!("<h1>{headline}</h1>")), "{html}");
    for text in [&html, &markdown] {
        for entry in &comparison.backends {
            assert!(
                text.contains(&entry.reason.replace('_', "\\_")) || text.contains(&entry.reason)
            );
            assert!(text.contains(entry.verdict.words()));
        }
        for fact in ["4 runs of flex:f32", "times 10.", "0.025", "SwiftShader"] {
            assert!(text.contains(fact), "{fact}");
        }
    }
    let plots = [
        "loss",
        "difference",
        "weights",
        "gradient-wgpu-f32",
        "update-libtorch-bf16",
        "speed",
        "memory",
        "time",
    ];
    for plot in plots {
        let svg = fs::read_to_string(directory.path().join(format!("plots/{plot}.svg"))).unwrap();
        assert!(svg.contains("<style>") && !svg.contains("var("));
        has_no_broken_number(&svg);
        is_well_formed(&svg);
        assert!(html.contains(&format!("data-csv=\"{plot}\"")), "{plot}");
        assert!(markdown.contains(&format!("(plots/{plot}.svg)")), "{plot}");
    }
    has_no_broken_number(&html);
    assert!(html.contains("≠ device") && !html.contains("≠ CPU"));
    assert!(html.contains("layers = 12") && markdown.contains("layers = 12"));
}

#[test]
fn logits_computed_in_another_way_have_a_table_and_a_headline() {
    let mut comparison = fixture::comparison(20);
    comparison.backends[4].invariance[2].error = f64::NAN;
    let (_directory, _, markdown) = written(&comparison);
    let (_, section) = markdown.split_once("## Cached steps and batches").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    for row in [
        "| flex:f64 (reference) | ✓ 3.0e-16 ≤ 4.0e-15 (max \\|Δlogit\\| 2.7e-15) | = identical |",
        "| flex:f64 | ✓ 3.0e-16",
        "| wgpu:f32 | ≠ 0.031 \\> 2.4e-6 (max \\|Δlogit\\| 0.28) | ✓ 2.0e-7 ≤ 2.4e-6",
        "| ≠ not a number |",
        "| – cannot tell (bound 1.3) |",
    ] {
        assert!(section.contains(row), "{row}: {section}");
    }
    assert!(!section.contains("cubecl-cpu:f32 |"), "it was not measured");

    // A backend that only differs from itself is not said to differ from the reference.
    comparison.backends.drain(2..);
    comparison.backends[1].verdict = Verdict::Differs;
    comparison.backends[1].judged_by = vec![Judge::Invariance];
    let headline = |comparison: &Comparison| page(comparison).headline;
    assert_eq!(
        headline(&comparison),
        "ndarray:f32 computes other logits with a cache or in a batch than without."
    );
    assert!(comparison.has_failures());
    comparison.backends.drain(1..);
    assert!(!comparison.has_failures());
    comparison.reference.invariance = fixture::invariance(1e-16, [0.0, 0.1, 0.0]);
    assert!(comparison.has_failures());
    assert_eq!(
        headline(&comparison),
        "The reference, flex:f64, computes other logits with a cache or in a batch than without."
    );

    // Comparisons of versions without these checks are reports.
    let mut json = serde_json::to_value(&comparison).unwrap();
    json["reference"]
        .as_object_mut()
        .unwrap()
        .remove("invariance")
        .unwrap();
    for entry in json["backends"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("invariance").unwrap();
    }
    let older: Comparison = serde_json::from_value(json).unwrap();
    let (_directory, html, _) = written(&older);
    assert!(!html.contains("Cached steps"));
}

#[test]
fn page_loads_nothing_from_the_network() {
    let (_directory, html, _) = written(&fixture::comparison(20));
    let rest = html.replace("http://www.w3.org/2000/svg", "");
    for wrong in ["http:", "https:", "src=", "@import", "url(h", "<link"] {
        assert!(!rest.contains(wrong), "{wrong}");
    }
    assert!(
        html.contains("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'")
    );
}

#[test]
fn text_from_outside_is_escaped() {
    let mut comparison = fixture::comparison(3);
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>|`*";
    comparison.name = evil.into();
    comparison.experiment = format!("{evil}\n````\n# heading");
    comparison.created = evil.into();
    comparison.data = evil.into();
    for entry in &mut comparison.backends {
        entry.reason = evil.into();
        for check in &mut entry.checks {
            check.path = check.path.take().map(|path| format!("{path}{evil}"));
        }
        if let Some(environment) = &mut entry.environment {
            environment.device = evil.into();
        }
    }
    let (_directory, html, markdown) = written(&comparison);
    assert!(!html.contains("<img") && !html.contains("<script>alert"));
    assert_eq!(html.matches("</script>").count(), 2);
    let outside_code = markdown.split("\n`````toml").next().unwrap();
    for line in outside_code.lines().filter(|line| !line.contains('`')) {
        assert!(!line.replace("\\<", "").contains('<'), "{line}");
    }
}

#[test]
fn empty_and_incomplete_comparisons_are_reports() {
    let nothing = Comparison {
        backends: Vec::new(),
        envelopes: Vec::new(),
        seeds: None,
        ..fixture::comparison(0)
    };
    let (_directory, html, _) = written(&nothing);
    assert!(html.contains("Nothing was compared with flex:f64."));
    assert!(html.contains("No envelope is known") && html.contains("No other seeds"));

    // The reference's own backend alone is no comparison with another backend.
    let mut own = fixture::comparison(20);
    own.backends.truncate(1);
    let (_directory, html, markdown) = written(&own);
    for text in [html, markdown] {
        assert!(
            text.contains("Only the reference's own backend was compared with flex:f64")
                || text.contains("Only the reference&#39;s own backend was compared with flex:f64"),
            "{text}"
        );
    }

    for steps in [0, 1, 2] {
        let (_directory, html, _) = written(&fixture::comparison(steps));
        has_no_broken_number(&html);
    }

    let mut mismatched = fixture::comparison(10);
    mismatched.backends[1].losses.truncate(4);
    mismatched.backends[2].seconds.clear();
    mismatched.envelopes[0].loss = vec![f64::INFINITY; 30];
    mismatched.reference.losses = vec![f64::NAN; 7];
    let (_directory, html, _) = written(&mismatched);
    has_no_broken_number(&html);
}

#[test]
fn backends_of_one_name_are_numbered() {
    let mut comparison = fixture::comparison(5);
    comparison.backends.push(comparison.backends[1].clone());
    let (directory, html, _) = written(&comparison);
    assert!(html.contains("ndarray:f32 (2)") && html.contains("ndarray:f32 (1)"));
    assert!(
        directory
            .path()
            .join("plots/gradient-ndarray-f32-2.svg")
            .is_file()
    );
}

#[test]
fn reports_of_long_runs_are_small() {
    let (directory, html, _) = written(&fixture::comparison(100_000));
    assert!(html.len() < 6 << 20, "{} bytes", html.len());
    assert!(
        html.contains("every 50th"),
        "the page does not say that steps are left out"
    );
    let svg = fs::metadata(directory.path().join("plots/loss.svg")).unwrap();
    assert!(svg.len() < 300_000, "{} bytes", svg.len());
}

#[test]
fn comparison_with_non_finite_numbers_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let comparison = fixture::comparison(50);
    let json = serde_json::to_string(&comparison).unwrap();
    fs::write(directory.path().join(Comparison::FILE), json).unwrap();
    let read = read(directory.path()).unwrap();
    let failed = |comparison: &Comparison| comparison.backends[5].clone();
    let (was, is) = (failed(&comparison), failed(&read));
    assert_eq!(is.losses.len(), was.losses.len());
    for (was, is) in was.losses.iter().zip(&is.losses) {
        assert!(was == is || !was.is_finite() && is.is_nan(), "{was} {is}");
    }
    assert!(is.checks[0].error.is_nan() && !is.checks[0].holds());
    assert_eq!(is.checks[1], was.checks[1]);
    assert_eq!(read.backends[..5], comparison.backends[..5]);
    assert_eq!(read.envelopes, comparison.envelopes);
    assert_eq!(read.seeds, comparison.seeds);
    assert_eq!(read.reference, comparison.reference);
}

#[test]
fn error_of_an_unreadable_comparison_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(Comparison::FILE);
    let message = |directory: &Path| {
        let error = read(directory).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.exit_code(), 2, "{message}");
        assert!(!message.contains('\n'), "{message}");
        message
    };
    assert!(message(&directory.path().join("missing")).contains("no such directory"));
    assert!(message(directory.path()).contains("holds no comparison"));
    for damaged in ["", "{", "{\"reference\": 3}", "[]"] {
        fs::write(&path, damaged).unwrap();
        assert!(message(directory.path()).contains("comparison.json: is damaged"));
    }
    fs::write(&path, b"\xFF\xFE").unwrap();
    assert!(message(directory.path()).contains("UTF-8"));
    assert!(message(&path).contains("holds no comparison"));
}
