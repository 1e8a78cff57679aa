//! `keel drill history` and `keel drill show`: runs as they are kept, and how they compare.
//!
//! They are read from their folders, also while nothing runs; with `--url` the API is asked. Nothing is changed.

use std::path::PathBuf;

use evenkeel_core::{
    drill::{self, Comparison, Drill, Progress, Report, RunState, RunSummary, Stage, compare, in_words},
    time::WallTime,
};
use evenkeel_node::drills::{self, Details};
use serde::Serialize;

use super::outcome;
use crate::{
    api::{Api, encode},
    context::{Context, block_on},
    failure::{Exit, Failure},
    running::Running,
    style::{Paint, harmless},
    table::{Cell, Table},
    words,
};

/// Options of `keel drill history`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only runs of this drill, as `kill-instance`
    #[arg(value_name = "DRILL")]
    drill: Option<String>,
    /// Only runs in which clients of this service were watched
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// The newest so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// Options of `keel drill show`.
#[derive(Debug, clap::Args)]
pub(super) struct OneArgs {
    /// Which run, as `keel drill history` lists them, or a drill, for its newest one [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

/// One run of the list, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    run: &'a RunSummary,
    /// How it compares with earlier runs of the same drill and service.
    earlier: Option<Comparison>,
}

/// Lists runs.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if let Some(name) = &args.drill {
        super::find(name)?;
    }
    let source = Source::of(context)?;
    let all = source.runs()?;
    let wanted = |run: &&RunSummary| {
        args.drill.as_ref().is_none_or(|drill| run.drill == *drill)
            && args.service.as_ref().is_none_or(|service| run.service == *service)
    };
    let shown: Vec<&RunSummary> = all.iter().filter(wanted).take(args.limit).collect();
    if context.json {
        let lines: Vec<Line<'_>> = shown.iter().map(|run| Line { run, earlier: compare(run, &all) }).collect();
        context.json(&lines)?;
        return Ok(Exit::Done);
    }
    let Some(newest) = shown.first() else {
        context.line("no drill was run yet")?;
        context
            .next(&source.command(context, "drill run kill-instance"), "kills one instance, and shows who notices")?;
        return Ok(Exit::Done);
    };
    context.line(table(&shown, words::now(), context.paint).trim_end())?;
    let lines = comparisons(&shown, &all);
    if !lines.is_empty() {
        context.line(format!("\n{}", lines.join("\n")))?;
    }
    let show = source.command(context, &format!("drill show {}", newest.run));
    context.next(&show, "the newest of them, with where its report lies")?;
    Ok(Exit::Done)
}

/// Shows one run.
pub(super) fn show(args: &OneArgs, context: &Context) -> Result<Exit, Failure> {
    let source = Source::of(context)?;
    let id = match &args.run {
        Some(name) if drill::find(name).is_some() => {
            let newest = source.runs()?.into_iter().find(|run| run.drill == *name);
            let fix = source.command(context, &format!("drill run {name}"));
            newest.ok_or_else(|| unknown(&format!("`{name}` was not run yet")).fix(fix))?.run
        }
        Some(run) => run.clone(),
        None => source.runs()?.first().map(|run| run.run.clone()).ok_or_else(|| unknown("no drill was run yet"))?,
    };
    let details = source.details(&id)?;
    if context.json {
        context.json(&details)?;
        return Ok(Exit::Done);
    }
    for line in one(&details, words::now(), context.paint, &|args| source.command(context, args)) {
        context.line(line)?;
    }
    let page = source.folder().map(|dir| drills::folder(&dir).join(&id).join("report.html"));
    if let Some(page) = page.filter(|page| page.exists()) {
        context.line(format!("\nreport: {}", page.display()))?;
    }
    let history = source.command(context, &format!("drill history {}", details.summary.drill));
    context.next(&history, "compares it with other runs")?;
    Ok(Exit::Done)
}

/// Where runs are read from.
pub(super) enum Source {
    /// The stack that runs.
    Running(Running),
    /// A state directory in which nothing runs.
    Folder(PathBuf),
}

impl Source {
    pub(super) fn of(context: &Context) -> Result<Self, Failure> {
        match (context.running(), &context.state_dir) {
            (Ok(running), _) => Ok(Self::Running(running)),
            (Err(_), Some(dir)) if drills::folder(dir).is_dir() => Ok(Self::Folder(dir.clone())),
            (Err(failure), _) => Err(failure),
        }
    }

    /// The state directory, where it is on this machine.
    fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Running(running) if running.remote.is_some() => None,
            Self::Running(running) => Some(running.state_dir.clone()),
            Self::Folder(dir) => Some(dir.clone()),
        }
    }

    pub(super) fn runs(&self) -> Result<Vec<RunSummary>, Failure> {
        match (self.folder(), self) {
            (None, Self::Running(running)) => asked(running, "/v1/drills/runs"),
            (dir, _) => Ok(drills::summaries(&dir.unwrap_or_default(), drills::KEPT_RUNS)),
        }
    }

    fn details(&self, id: &str) -> Result<Details, Failure> {
        match (self.folder(), self) {
            (None, Self::Running(running)) => asked(running, &format!("/v1/drills/runs/{}", encode(id))),
            (dir, _) => drills::details(&dir.unwrap_or_default(), id)
                .ok_or_else(|| unknown(&format!("there is no run `{id}`")).fix("see `keel drill history`")),
        }
    }

    pub(super) fn command(&self, context: &Context, args: &str) -> String {
        context.command(&self.folder().unwrap_or_default(), args)
    }
}

fn asked<T: serde::de::DeserializeOwned>(running: &Running, target: &str) -> Result<T, Failure> {
    block_on(async { Api::of(running).get(target).await })
}

fn unknown(what: &str) -> Failure {
    Failure::new(what).exit(Exit::Unknown)
}

fn table(runs: &[&RunSummary], now: WallTime, paint: Paint) -> String {
    let heads = ["RUN", "SUBJECT", ">AGO", "VERDICT", ">DETECTED", ">RECOVERED", ">SLOWEST", ">FAILED"];
    let mut table = Table::new(&heads);
    let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), in_words);
    for run in runs {
        let state = run.state;
        let measured = run.verdict().is_some();
        let or_dash = |text: String| if measured { text } else { "-".to_owned() };
        table.row(vec![
            run.run.as_str().into(),
            run.subject.as_str().into(),
            words::since(run.started, now).into(),
            Cell::painted(state.as_str(), move |paint, text| match state {
                RunState::Passed => paint.good(text),
                RunState::Failed => paint.bad(text),
                RunState::Running | RunState::GivenUp => paint.warn(text),
            }),
            time(run.detection_ms.filter(|_| !is_down(&run.drill))).into(),
            time(run.recovery_ms).into(),
            or_dash(in_words(run.worst_ms)).into(),
            or_dash(format!("{} of {}", words::count(run.errors), words::count(run.requests))).into(),
        ]);
    }
    table.render(paint)
}

/// For the newest run with a verdict of each drill and service: how it compares with those before it.
fn comparisons(shown: &[&RunSummary], all: &[RunSummary]) -> Vec<String> {
    let mut seen = Vec::new();
    let mut lines = Vec::new();
    for run in shown.iter().filter(|run| run.verdict().is_some()) {
        let what = (&run.drill, &run.service);
        if seen.contains(&what) {
            continue;
        }
        seen.push(what);
        if let Some(earlier) = compare(run, all) {
            lines.push(format!("{} of {}: {}", run.drill, run.service, compared(run, &earlier)));
        }
    }
    lines
}

/// How a run compares with earlier ones, in words.
fn compared(run: &RunSummary, earlier: &Comparison) -> String {
    let time = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), in_words);
    let passed = format!("{} of {} earlier {} passed", earlier.passed, earlier.runs, runs(earlier.runs));
    let Some(whose) = earlier_words(earlier) else { return passed };
    let change = match (run.recovery_ms, earlier.recovery_ms) {
        (Some(now), Some(then)) if then > 0 => {
            let percent = (i128::from(now) - i128::from(then)) * 100 / i128::from(then);
            match percent {
                -9..=9 => ", as before".to_owned(),
                10.. => format!(", {percent} % slower"),
                _ => format!(", {} % faster", -percent),
            }
        }
        _ => String::new(),
    };
    format!(
        "{passed}; recovery took {}, {whose} {}{change}; the slowest request {}, then {}",
        time(run.recovery_ms),
        time(earlier.recovery_ms),
        in_words(run.worst_ms),
        time(earlier.worst_ms),
    )
}

fn runs(n: usize) -> &'static str {
    if n == 1 { "run" } else { "runs" }
}

/// What earlier runs are called that are compared with, if there is something to compare with: two have no middle.
pub(super) fn earlier_words(earlier: &Comparison) -> Option<String> {
    match earlier.runs {
        1 => Some("the earlier run".to_owned()),
        runs if runs >= 3 => Some(format!("median of {runs} earlier runs")),
        _ => None,
    }
}

fn one(details: &Details, now: WallTime, paint: Paint, command: &dyn Fn(&str) -> String) -> Vec<String> {
    let Details { summary, .. } = details;
    let report: Option<Report> = serde_json::from_value(details.report.clone()).ok();
    let verdict = match summary.state {
        RunState::Passed => paint.good("passed"),
        RunState::Failed => paint.bad("failed"),
        state => paint.warn(state.as_str()),
    };
    let drill = paint.bold(&summary.drill);
    let ago = words::since(summary.started, now);
    let mut lines = vec![format!(
        "{drill}  {verdict}  {} of {}, {ago} ago ({})",
        summary.subject, summary.service, summary.started
    )];
    let of_progress = details.progress.iter().filter_map(|line| match line {
        Progress::Stage(stage) => Some(stage.clone()),
        Progress::Tick(_) => None,
    });
    let stages: Vec<Stage> = report.as_ref().map_or_else(|| of_progress.collect(), |report| report.stages.clone());
    lines.push(String::new());
    lines.extend(stages.iter().map(|stage| outcome::stage_line(stage, is_down(&summary.drill), paint)));
    match &report {
        Some(report) => {
            lines.push(String::new());
            lines.extend(outcome::lines(report, paint, command));
        }
        None if !summary.reason.is_empty() => lines.push(format!("\n  - {}", harmless(&summary.reason))),
        None => {}
    }
    if let Some(earlier) = &details.comparison {
        lines.push(format!("\n{}", compared(summary, earlier)));
    }
    lines
}

/// Whether keel itself is down while this drill does harm, so that what noticed it was the drill.
fn is_down(drill: &str) -> bool {
    drill::find(drill).is_some_and(Drill::silences_the_stack)
}

#[cfg(test)]
mod tests {
    use evenkeel_core::drill::run_id;

    use super::*;

    fn run(at_s: u64, state: RunState, recovery_ms: Option<u64>) -> RunSummary {
        let id = run_id(WallTime::from_millis(1_700_000_000_000 + at_s * 1000), "hang-instance");
        RunSummary {
            service: "shop".to_owned(),
            subject: "shop/2".to_owned(),
            detection_ms: recovery_ms.map(|ms| ms / 3),
            recovery_ms,
            requests: 1234,
            worst_ms: 312,
            ..RunSummary::without_verdict(&id, None, state, "")
        }
    }

    #[test]
    fn runs_are_listed_and_compared() {
        let runs = [
            run(90_000, RunState::Running, None),
            run(86_400, RunState::Passed, Some(1500)),
            run(3600, RunState::Failed, None),
            run(60, RunState::Passed, Some(900)),
            run(0, RunState::Passed, Some(1000)),
        ];
        let shown: Vec<&RunSummary> = runs.iter().collect();
        let now = WallTime::from_millis(1_700_000_000_000 + 90_005_000);
        let text = format!("{}{}", table(&shown, now, Paint::plain()), comparisons(&shown, &runs).join("\n"));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn two_runs_have_no_middle() {
        let earlier =
            |runs| Comparison { runs, passed: runs, detection_ms: None, recovery_ms: Some(900), worst_ms: Some(1) };
        let said = |runs| compared(&run(0, RunState::Passed, Some(1000)), &earlier(runs));
        assert!(
            said(1).contains("1 of 1 earlier run passed; recovery took 1.0 s, the earlier run 900 ms"),
            "{}",
            said(1)
        );
        assert_eq!(said(2), "2 of 2 earlier runs passed");
        assert!(said(4).contains("median of 4 earlier runs 900 ms"), "{}", said(4));
    }

    #[test]
    fn a_change_is_said_only_where_there_is_one() {
        let earlier =
            |ms| Comparison { runs: 3, passed: 3, detection_ms: None, recovery_ms: Some(ms), worst_ms: Some(1) };
        let said = |then| compared(&run(0, RunState::Passed, Some(1000)), &earlier(then));
        assert!(said(1050).contains(", as before;"), "{}", said(1050));
        assert!(said(500).contains("100 % slower"), "{}", said(500));
        assert!(said(2000).contains("50 % faster"), "{}", said(2000));
    }
}
