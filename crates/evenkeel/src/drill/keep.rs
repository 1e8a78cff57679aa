//! What is left of a run: its report for people, for programs and for build servers, and the journal around it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use evenkeel_core::{
    drill::{self, Plan, Report, RunSummary},
    journal::Entry,
    time::WallTime,
};
use evenkeel_node::drills;

use super::{control::Control, folder::Folder, html, junit};
use crate::{failure::Failure, words};

/// Where the report shall lie as well.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// The folder for all of it.
    pub(super) folder: Option<PathBuf>,
    /// The file for the form that build servers read.
    pub(super) junit: Option<PathBuf>,
}

/// Writes everything into the folder of the run, and copies where they are wanted. Only a copy that was asked for and
/// cannot be written is an error.
pub(super) async fn keep(
    run: &mut Folder,
    stack: &str,
    plan: &Plan,
    report: &Report,
    control: &Control,
    copies: &Copies,
    json_wanted: bool,
) -> Result<(), Failure> {
    let events = around(control, report.started).await;
    let state_dir = run.state_dir().to_owned();
    let summary = RunSummary::of(run.id(), report);
    let earlier = drill::compare(&summary, &drills::summaries(&state_dir, drills::KEPT_RUNS));
    let page =
        html::render(&html::Told { report, plan, run: run.id(), stack, events: &events, earlier: earlier.as_ref() });
    let junit = junit::render(report, run.id());
    let json = serde_json::to_vec(report).map_err(|error| Failure::new("cannot write JSON").because(error))?;
    let files: [(&str, &[u8]); 3] =
        [("report.html", page.as_bytes()), ("junit.xml", junit.as_bytes()), ("report.json", &json)];
    let write = |run: &mut Folder| -> io::Result<()> {
        // Lines that found no room are no loss: the report has everything.
        let _ = run.finish_lines();
        run.write_json("events.json", &events)?;
        // The one by which others see that it is over comes last.
        files.iter().try_for_each(|(name, bytes)| run.write(name, bytes))
    };
    if let Err(error) = write(run) {
        // The verdict counts, whatever became of its report.
        not_written(&run.file(""), error).print(json_wanted);
    }
    let placed = copies.folder.as_ref().map_or(Ok(()), |folder| {
        let write = |(name, bytes): &(&str, &[u8])| fs::write(folder.join(name), bytes);
        let written = fs::create_dir_all(folder).and_then(|()| files.iter().try_for_each(write));
        written.map_err(|error| not_written(folder, error))
    });
    let told = copies
        .junit
        .as_ref()
        .map_or(Ok(()), |file| fs::write(file, junit.as_bytes()).map_err(|error| not_written(file, error)));
    placed.and(told)
}

/// What the journal says of the time of the run.
async fn around(control: &Control, began: WallTime) -> Vec<Entry> {
    // Without the journal the report still says what was measured.
    control.entries_between(began, words::now()).await.unwrap_or_default()
}

fn not_written(path: &Path, error: io::Error) -> Failure {
    Failure::new("the report cannot be written").at_path(path).because(error).fix("the verdict stands all the same")
}
