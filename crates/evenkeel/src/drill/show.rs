//! What a person sees of a drill: the plan, one live line, each stage as it comes, the verdict with its reasons.
//!
//! It owns the live line and removes it however a run ends. Under `--json` it shows nothing but the report. Where
//! nobody reads any more a run goes on all the same: its exit code is its verdict.

use std::{
    cell::Cell,
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use evenkeel_core::drill::{self, Drill, Plan, Report, Stage, in_words};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{folder::Folder, load::Tally, outcome};
use crate::{context::Context, failure::Failure, words};

/// How often the live line changes.
const TICK: Duration = Duration::from_millis(100);

/// The report, and where it is kept, as JSON.
#[derive(Serialize)]
struct Kept<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The name of the run, for `keel drill show`.
    run: &'a str,
    /// The report as a page.
    html: PathBuf,
}

/// The output of one run.
pub(super) struct Show<'a> {
    context: &'a Context,
    live: Option<ProgressBar>,
    /// Whether the harm leaves keel itself nothing to notice it with.
    noticed_by_drill: Cell<bool>,
}

impl<'a> Show<'a> {
    /// For a person or, under `--json`, for nobody.
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, live: None, noticed_by_drill: Cell::new(false) }
    }

    /// What is going to happen.
    pub(super) fn plan(&self, plan: &Plan, summary: &str) -> Result<(), Failure> {
        self.noticed_by_drill.set(drill::find(&plan.drill).is_some_and(Drill::silences_the_stack));
        self.line(&format!("{}  {summary}", self.context.paint.bold(&plan.drill)))?;
        for (index, line) in plan.lines().iter().enumerate() {
            self.line(&format!("  {}. {line}", index + 1))?;
        }
        for note in &plan.notes {
            self.line(&self.context.paint.dim(&format!("  {note}")))?;
        }
        self.line("")
    }

    /// Asks whether to go on; `y` and `yes` mean so.
    pub(super) fn confirmed(&self) -> Result<bool, Failure> {
        let mut out = io::stdout().lock();
        let asked = write!(out, "Start it? [y/N] ").and_then(|()| out.flush());
        drop(out);
        let mut answer = String::new();
        let read = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
        read.map_err(|error| Failure::new("cannot ask on this terminal").because(error).fix("use --yes"))?;
        self.line("")?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Clients have started: from now on there is a live line.
    pub(super) fn begin(&mut self) {
        if self.context.json || !io::stderr().is_terminal() {
            return;
        }
        let live = ProgressBar::new_spinner();
        live.set_style(
            ProgressStyle::with_template("  {spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        live.enable_steady_tick(TICK);
        self.live = Some(live);
    }

    /// What clients saw so far, and how long the run has taken.
    pub(super) fn progress(&self, tally: &Tally, began: Instant, doing: &str) {
        let Some(live) = &self.live else { return };
        let traffic = tally.traffic();
        let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (errors, requests) = (words::count(traffic.errors), words::count(traffic.requests));
        let worst = in_words(traffic.worst_ms);
        live.set_message(format!("{:>7}  {errors} of {requests} failed, worst {worst}  {doing}", in_words(elapsed)));
    }

    /// Something happened.
    pub(super) fn stage(&self, stage: &Stage) -> Result<(), Failure> {
        self.line(&outcome::stage_line(stage, self.noticed_by_drill.get(), self.context.paint))
    }

    /// How it ended.
    pub(super) fn report(&mut self, report: &Report, run: &Folder, next: &str, why: &str) -> Result<(), Failure> {
        self.end();
        if self.context.json {
            let kept = Kept { report, run: run.id(), html: run.file("report.html") };
            return unless_closed(self.context.json(&kept));
        }
        self.line("")?;
        let state_dir = run.state_dir();
        for line in outcome::lines(report, self.context.paint, &|args| self.context.command(state_dir, args)) {
            self.line(&line)?;
        }
        self.line(&format!("\nreport: {}", run.file("report.html").display()))?;
        unless_closed(self.context.next(next, why))
    }

    /// Removes the live line.
    pub(super) fn end(&mut self) {
        if let Some(live) = self.live.take() {
            live.finish_and_clear();
        }
    }

    fn line(&self, text: &str) -> Result<(), Failure> {
        if self.context.json {
            return Ok(());
        }
        unless_closed(match &self.live {
            Some(live) => live.suspend(|| self.context.line(text)),
            None => self.context.line(text),
        })
    }
}

/// A reader that went away is no reason to give a drill up, nor to call it done.
fn unless_closed(written: Result<(), Failure>) -> Result<(), Failure> {
    written.or_else(|failure| if failure.is_output_closed() { Ok(()) } else { Err(failure) })
}

impl Drop for Show<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
