//! Tests of reports in a browser, at the widths of a laptop and of a phone, on light and dark screens. Plain `cargo
//! test` ignores them, because they need a browser; `.ci/run` includes them.
#![allow(clippy::unwrap_used)]

#[path = "../src/verify/compare/page/tests/fixture.rs"]
mod fixture;

use std::fs;
use std::path::Path;
use std::process::Command;

use foretoken::Experiment;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::record::environment::Environment;
use foretoken::record::run::{MetricsLog, Record, RunDirectory};
use foretoken::run_report;
use foretoken::verify::compare::{
    Check, Checked, Comparison, Computation, Entrant, Entry, Envelope, Invariance, Reference,
    Seeds, Verdict, write_report,
};
use serde_json::Value;

/// Names of browsers that can run the tests.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Script before all others in the page, which records errors and downloads.
const BEFORE: &str = r#"<script>
window.wrong = [];
window.files = [];
addEventListener("error", (event) => wrong.push(`error: ${event.message}`));
addEventListener("unhandledrejection", (event) => wrong.push(`rejection: ${event.reason}`));
document.addEventListener("securitypolicyviolation", (event) => wrong.push(`policy: ${event.violatedDirective}`));
for (const level of ["error", "warn"]) console[level] = (...words) => wrong.push(`${level}: ${words.join(" ")}`);
// Downloads complete at once, so that the test does not depend on time.
window.Blob = function (parts) { files.push(parts.join("")); };
URL.createObjectURL = () => "blob:none";
HTMLAnchorElement.prototype.click = () => {};
</script>"#;

/// Script after all others in the page, which acts as a reader and reports what it finds.
const AFTER: &str = r##"<script>
try {
  const found = {
    width: innerWidth,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    background: getComputedStyle(document.body).backgroundColor,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
  const seen = (plot) => [...document.querySelectorAll(`svg[data-plot="${plot}"]`)].filter((svg) => svg.clientWidth > 0);
  const texts = (within, selector) => [...within.querySelectorAll(selector)].map((element) => element.textContent);
  const [loss] = seen("loss"), [difference] = seen("OTHER");
  found.views = seen("loss").length;
  const box = loss.getBoundingClientRect();
  const frame = JSON.parse(loss.dataset.frame);
  const at = (share) => ({
    bubbles: true, cancelable: true, pointerId: 1, button: 0, clientY: box.top + box.height / 2,
    clientX: box.left + (frame.left + share * (frame.right - frame.left)) * box.width / loss.viewBox.baseVal.width,
  });
  const tooltip = () => texts(document, ".tooltip b, .tooltip th, .tooltip td");
  const steps = (svg) => texts(svg, ".tick.x").filter((text) => text !== "step");
  const drag = (from, to) => {
    loss.dispatchEvent(new PointerEvent("pointerdown", at(from)));
    loss.dispatchEvent(new PointerEvent("pointermove", at((from + to) / 2)));
    found.selection ??= loss.querySelectorAll(".selection").length;
    loss.dispatchEvent(new PointerEvent("pointerup", at(to)));
  };
  const path = () => loss.querySelector("[data-line='2']").getAttribute("d");

  loss.dispatchEvent(new MouseEvent("mousemove", at(0.5)));
  found.tooltip = tooltip();
  const place = document.querySelector(".tooltip").getBoundingClientRect();
  found.tooltip_inside = place.left >= 0 && place.right <= innerWidth;
  loss.dispatchEvent(new MouseEvent("mouseleave", {}));
  found.tooltip_left = tooltip();

  const whole = path();
  found.all_steps = steps(loss);
  drag(0.25, 0.5);
  found.zoomed_steps = steps(loss);
  found.zoomed_other = steps(difference);
  found.zoomed_path = path() !== whole && path().length > 0;
  found.broken = [...document.querySelectorAll("path")].filter((path) => /NaN|Infinity|undefined/.test(path.getAttribute("d"))).length;
  found.reset_shown = !loss.closest("figure").querySelector(".reset").hidden;
  loss.dispatchEvent(new MouseEvent("mousemove", at(0)));
  found.zoomed_tooltip = tooltip()[0];
  loss.dispatchEvent(new MouseEvent("dblclick", at(0.5)));
  found.restored_steps = steps(loss);
  found.restored_path = path() === whole;

  const press = (key) => loss.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  drag(0.5, 0.5);
  found.click_zooms = steps(loss).join() !== found.all_steps.join();
  press("ArrowLeft");
  found.key_tooltip = tooltip()[0];
  press("+");
  found.key_zoomed = steps(loss).join() !== found.all_steps.join();
  press("0");
  found.key_restored = steps(loss).join() === found.all_steps.join();

  loss.querySelectorAll(".key")[2].dispatchEvent(new MouseEvent("click", { bubbles: true }));
  found.hidden_runs = loss.querySelectorAll("path.off").length;
  loss.dispatchEvent(new MouseEvent("mousemove", at(0.5)));
  found.tooltip_without = tooltip();

  found.csv = {};
  for (const button of document.querySelectorAll("[data-csv]")) {
    button.click();
    const lines = (files.pop() ?? "").trimEnd().split("\n");
    found.csv[button.dataset.csv] = [lines.length, lines[0], lines[1]];
  }
  found.unlabelled = [...document.querySelectorAll("svg[role='img']")].filter((svg) => !svg.getAttribute("aria-label")).length;
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.wrong = wrong;
  parent.postMessage(found, "*");
} catch (error) {
  parent.postMessage({ failed: String(error.stack) }, "*");
}
</script>"##;

/// Returns a page that shows the tested page in frames, because browser windows cannot be as narrow as a phone. Its
/// content is what the frames report.
fn frames(screens: &[(u32, &str)]) -> String {
    let frames: String = screens
        .iter()
        .map(|(width, scheme)| {
            format!(
                "<iframe src=\"tested.html\" style=\"width:{width}px;height:900px;border:0;color-scheme:{scheme}\">\
                 </iframe>\n"
            )
        })
        .collect();
    format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><script>\nconst found = [];\n\
         addEventListener(\"message\", (event) => {{ found.push(event.data);\n\
         document.getElementById(\"found\").textContent = JSON.stringify(found); }});\n</script>\n\
         <pre id=\"found\"></pre>\n{frames}"
    )
}

fn browser() -> &'static str {
    let found = BROWSERS.into_iter().find(|name| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|directory| directory.join(name).is_file())
    });
    found.unwrap_or_else(|| panic!("none of {BROWSERS:?} is in the PATH; install Chromium"))
}

/// Asserts that a page raised no error, made no request, fits its width, shows one view and labels every picture.
fn assert_is_sound(found: &Value) {
    assert_eq!(found["wrong"], serde_json::json!([]), "{found:#}");
    assert_eq!(found["requests"], serde_json::json!([]), "{found:#}");
    assert_eq!(found["overflow"], 0, "the page scrolls sideways: {found:#}");
    assert_eq!(found["views"], 1, "{found:#}");
    assert_eq!(found["unlabelled"], 0);
}

/// Opens the page of a comparison on each screen, and returns what the scripts found.
fn open(page: &Path, screens: &[(u32, &str)]) -> Vec<Value> {
    open_with(page, screens, "difference")
}

/// Opens a page on each screen, and returns what the scripts found. Zoom of the figure `loss` must also zoom `other`.
fn open_with(page: &Path, screens: &[(u32, &str)], other: &str) -> Vec<Value> {
    let directory = page.parent().unwrap();
    let html = fs::read_to_string(page).unwrap();
    let html = html.replacen("<head>", &format!("<head>{BEFORE}"), 1);
    let html = html.replacen(
        "</body>",
        &format!("{AFTER}</body>").replace("OTHER", other),
        1,
    );
    fs::write(directory.join("tested.html"), html).unwrap();
    let outer = directory.join("frames.html");
    fs::write(&outer, frames(screens)).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser())
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--window-size=1400,1000",
            "--virtual-time-budget=20000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", outer.display()))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains(":CONSOLE"), "{log}");
    let dom = String::from_utf8(output.stdout).unwrap();
    let found = dom
        .split_once("<pre id=\"found\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .map(|(found, _)| found.replace("&lt;", "<").replace("&gt;", ">"))
        .map(|found| found.replace("&amp;", "&"))
        .unwrap_or_else(|| panic!("the page reported nothing: {dom}\n{log}"));
    let found: Vec<Value> = serde_json::from_str(&found).unwrap();
    assert_eq!(found.len(), screens.len(), "{found:#?}");
    found
}

fn strings(value: &Value) -> Vec<&str> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_str().unwrap()).collect()
}

#[test]
#[ignore = "needs Chromium"]
fn a_report_works_on_every_screen() {
    let directory = tempfile::tempdir().unwrap();
    let page = write_report(&fixture::comparison(400), directory.path()).unwrap();
    let screens = [
        (1280, "light"),
        (1280, "dark"),
        (400, "light"),
        (400, "dark"),
    ];
    let mut found = open(&page, &screens);
    found.sort_by_key(|found| (found["width"].as_u64(), found["dark"].as_bool()));
    let backgrounds: Vec<&str> = found
        .iter()
        .map(|found| {
            found["background"]
                .as_str()
                .unwrap_or_else(|| panic!("{found:#}"))
        })
        .collect();
    assert_eq!(backgrounds[..2], backgrounds[2..]);
    assert_ne!(backgrounds[0], backgrounds[1]);

    for (found, (width, dark)) in
        found
            .iter()
            .zip([(400, false), (400, true), (1280, false), (1280, true)])
    {
        assert_eq!(found["width"], width, "{found:#}");
        assert_eq!(found["dark"], dark, "{found:#}");
        assert_is_sound(found);

        let tooltip = strings(&found["tooltip"]);
        assert!(matches!(tooltip[0], "step 199" | "step 200"), "{tooltip:?}");
        // The reference, six backends that ran, two other seeds; cubecl-cpu still ran at that step.
        assert_eq!(tooltip.len(), 1 + 2 * 9, "{tooltip:?}");
        for name in ["flex:f64 (reference)", "wgpu:f32", "seed 3"] {
            assert!(tooltip.contains(&name), "{tooltip:?}");
        }
        assert_eq!(found["tooltip_inside"], true);
        assert_eq!(found["tooltip_left"], serde_json::json!([]));

        assert_eq!(found["selection"], 1);
        assert_eq!(strings(&found["all_steps"])[0], "0");
        let zoomed: Vec<f64> = strings(&found["zoomed_steps"])
            .iter()
            .map(|step| step.parse().unwrap())
            .collect();
        let inside = |step: &f64| (99.0..=201.0).contains(step);
        assert!(zoomed.len() > 1 && zoomed.iter().all(inside), "{zoomed:?}");
        assert_eq!(found["zoomed_other"], found["zoomed_steps"]);
        assert_eq!(found["zoomed_path"], true);
        assert_eq!(found["broken"], 0);
        assert_eq!(found["reset_shown"], true);
        assert_eq!(found["zoomed_tooltip"], "step 100");
        assert_eq!(found["restored_steps"], found["all_steps"]);
        assert_eq!(found["restored_path"], true);

        assert_eq!(found["click_zooms"], false);
        assert!(found["key_tooltip"].as_str().unwrap().starts_with("step "));
        assert_eq!(found["key_zoomed"], true);
        assert_eq!(found["key_restored"], true);

        assert_eq!(found["hidden_runs"], 1);
        assert_eq!(strings(&found["tooltip_without"]).len(), tooltip.len() - 2);

        let csv = |plot: &str| &found["csv"][plot];
        assert_eq!(csv("loss")[0], 401);
        assert_eq!(
            csv("loss")[1],
            "step,flex:f64 (reference),flex:f64,ndarray:f32,libtorch:f32,libtorch:bf16,wgpu:f32,cubecl-cpu:f32,\
             seed 2,seed 3"
        );
        assert_eq!(csv("difference")[0], 401);
        assert_eq!(csv("gradient-wgpu-f32")[0], 149);
        assert_eq!(
            csv("gradient-wgpu-f32")[1],
            "parameter,error,bound,error_over_bound,step"
        );
        assert_eq!(csv("speed")[0], 7);
        assert_eq!(csv("time")[0], 401);
        let all = found["csv"].as_object().unwrap();
        assert!(all.values().all(|csv| csv[0].as_u64() > Some(1)), "{all:?}");
    }
}

#[test]
#[ignore = "needs Chromium"]
fn a_long_run_can_be_zoomed() {
    let directory = tempfile::tempdir().unwrap();
    let page = write_report(&fixture::comparison(100_000), directory.path()).unwrap();
    for found in open(&page, &[(1280, "light")]) {
        assert_eq!(found["wrong"], serde_json::json!([]), "{found:#}");
        // Every 50th step is embedded, and the zoomed plot starts at about a quarter of the steps.
        let step = |name: &str| -> i64 {
            let digits = found[name].as_str().unwrap_or_default().chars();
            let digits: String = digits.filter(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        };
        assert_eq!(step("key_tooltip") % 50, 0);
        assert!((step("zoomed_tooltip") - 25_000).abs() <= 200, "{found:#}");
        assert_eq!(found["zoomed_path"], true);
        assert_eq!(found["broken"], 0);
        assert_eq!(found["restored_path"], true);
        assert_eq!(found["csv"]["loss"][0], 2001);
    }
}

#[test]
#[ignore = "needs Chromium"]
fn pages_of_one_step_and_of_no_numbers_work() {
    let mut no_numbers = fixture::comparison(1);
    no_numbers.reference.losses = vec![f64::NAN];
    for entry in &mut no_numbers.backends {
        entry.losses.fill(f64::NAN);
        entry.seconds.fill(f64::NAN);
    }
    for comparison in [fixture::comparison(1), no_numbers] {
        let directory = tempfile::tempdir().unwrap();
        let page = write_report(&comparison, directory.path()).unwrap();
        for found in open(&page, &[(1280, "light")]) {
            assert_eq!(found["wrong"], serde_json::json!([]), "{found:#}");
            assert_eq!(found["broken"], 0);
            assert_eq!(found["tooltip"][0], "step 0");
            assert_eq!(found["all_steps"], serde_json::json!(["0"]));
        }
    }
}

/// Writes a run of `steps` steps, with an evaluation after every 50.
fn run(path: &Path, steps: usize) -> RunDirectory {
    let experiment = Experiment::embedded(&[]).unwrap();
    let run = RunDirectory::create(Some(path), &experiment).unwrap();
    run.write("experiment.toml", experiment.to_toml()).unwrap();
    let mut log = MetricsLog::open(&run, 0).unwrap();
    for step in 0..steps {
        let loss = 1.0 + 3.0 / (step + 1) as f64 + 0.1 * (step as f64).sin();
        let tokens = 512 * (step + 1);
        log.append(&Record::Step {
            step,
            tokens,
            loss,
            gradient_norm: loss / 2.0,
            learning_rate: 1e-3,
            seconds: 0.01,
        })
        .unwrap();
        if (step + 1) % 50 == 0 {
            log.append(&Record::Evaluation {
                step: step + 1,
                tokens,
                loss,
                bits_per_byte: loss,
                perplexity: loss.exp(),
                accuracy: 0.5,
                targets: 100,
            })
            .unwrap();
        }
    }
    run
}

#[test]
#[ignore = "needs Chromium"]
fn a_report_of_runs_works_on_every_screen() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let long = run(&path("a-run-with-a-long-name"), 400);
    let (short, medium) = (run(&path("short"), 3), run(&path("medium"), 120));
    let screens = [(1280, "light"), (400, "dark")];
    for (name, runs, expected) in [
        // One run has its losses, their mean, and the evaluation at that step.
        (
            "one",
            vec![long.clone()],
            vec!["training, each step", "training, mean", "validation at 200"],
        ),
        // Only one of three runs has that step.
        (
            "three",
            vec![long, short, medium],
            vec!["a-run-with-a-long-name"],
        ),
    ] {
        let page = run_report::write(&runs, Some(&path(name))).unwrap();
        // Several runs have a separate figure of the training loss.
        let html = fs::read_to_string(&page).unwrap();
        fs::write(&page, html.replace("training-loss", "loss")).unwrap();
        for found in open_with(&page, &screens, "bits-per-byte") {
            assert_is_sound(&found);
            let tooltip = strings(&found["tooltip"]);
            assert!(matches!(tooltip[0], "step 199" | "step 200"), "{tooltip:?}");
            let names: Vec<&str> = tooltip[1..].iter().step_by(2).copied().collect();
            assert_eq!(names, expected);
            assert_eq!(found["tooltip_inside"], true);
            assert_eq!(found["zoomed_other"], found["zoomed_steps"]);
            assert_eq!(found["zoomed_path"], true);
            assert_eq!(found["broken"], 0);
            assert_eq!(found["reset_shown"], true);
            assert_eq!(found["restored_path"], true);
            // The file has eight evaluations and the names of the columns.
            assert_eq!(found["csv"]["bits-per-byte"][0], 9);
            let all = found["csv"].as_object().unwrap();
            assert!(all.values().all(|csv| csv[0].as_u64() > Some(1)), "{all:?}");
        }
    }
}
