//! A job-array script for Slurm, whose tasks each run a shard.

use std::path::Path;

use super::index::Entry;
use super::plan::Plan;
use super::shard::unit_count;
use super::speed::Speeds;

/// Default number of tasks, unless the sweep has fewer units.
const DEFAULT_TASKS: usize = 8;

/// Seconds before the end of its time at which a task is asked to stop, so that it can write a checkpoint.
const NOTICE: usize = 120;

/// Returns the script. `tasks` is the size of the array.
pub fn script(
    plan: &Plan,
    file: &Path,
    out: &Path,
    entries: &[Entry],
    speeds: &Speeds,
    tasks: Option<usize>,
) -> String {
    let units = unit_count(entries).max(1);
    let tasks = tasks.unwrap_or(DEFAULT_TASKS).min(units);
    let seconds = speeds.total(entries.iter().map(|entry| entry.name.as_str()), tasks);
    let time = match seconds {
        // Twice the estimate, in whole minutes, because nodes differ.
        Some(seconds) => format!("#SBATCH --time={}\n", (2.0 * seconds / 60.0).ceil() as u64 + 5),
        None => "# Give a time limit here; no step could be measured on this machine.\n#SBATCH --time=60\n".into(),
    };
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let (plan_file, out) = (quoted(file), quoted(out));
    let job: String = plan
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!(
        "#!/bin/bash
# {runs} runs in {tasks} tasks. Each task takes a fixed part of them; submit the script again to go on where a task was
# stopped. A larger --array needs the same number after the slash below, and {units} tasks at most have work.
#SBATCH --job-name={job}
#SBATCH --array=1-{tasks}
#SBATCH --cpus-per-task=4
{time}#SBATCH --signal=B:TERM@{NOTICE}
#SBATCH --output=slurm-{job}-%a.log
#SBATCH --open-mode=append

export RAYON_NUM_THREADS=\"$SLURM_CPUS_PER_TASK\"
# exec, so that Slurm's signal reaches the program, which then writes checkpoints.
exec foretoken sweep {plan_file} --run --out {out} --shard \"$SLURM_ARRAY_TASK_ID/{tasks}\" --dashboard plain
",
        runs = entries.len(),
    )
}
