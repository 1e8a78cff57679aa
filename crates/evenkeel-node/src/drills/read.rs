//! Reading runs.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use evenkeel_core::{
    drill::{self, GIVEN_UP, Plan, Progress, RunState, RunSummary},
    journal::{Entry, Reason},
    time::WallTime,
};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::folder;

/// The most that is read of one file, in bytes: a minute of a drill is a tenth of that.
const MOST_BYTES: u64 = 8 << 20;

/// Everything about one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Details {
    /// In a few numbers.
    pub summary: RunSummary,
    /// What was going to happen, as the version wrote it that carried it out; `null` where it cannot be read.
    pub plan: Value,
    /// Stages and ticks in order, while there is no report.
    #[schemars(with = "Vec<Value>")]
    pub progress: Vec<Progress>,
    /// How it ended; `null` while it goes on, and where it came to no verdict.
    pub report: Value,
    /// Entries of the journal around it, oldest first.
    pub events: Vec<Entry>,
    /// How it compares with earlier runs; `None` where there are none.
    #[schemars(with = "Option<Value>")]
    pub comparison: Option<drill::Comparison>,
}

/// Names of all runs, the newest first.
pub fn ids(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder(state_dir)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut ids: Vec<(WallTime, String)> =
        names.filter_map(|name| Some((drill::parse_run_id(&name)?.0, name))).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.into_iter().map(|(_, id)| id).collect()
}

/// The newest runs in a few numbers, the newest first.
pub fn summaries(state_dir: &Path, most: usize) -> Vec<RunSummary> {
    ids(state_dir).iter().take(most).filter_map(|id| summary(state_dir, id)).collect()
}

/// One run in a few numbers; `None` where there is no such run.
pub(super) fn summary(state_dir: &Path, id: &str) -> Option<RunSummary> {
    drill::parse_run_id(id)?;
    let run = folder(state_dir).join(id);
    fs::metadata(&run).ok().filter(fs::Metadata::is_dir)?;
    if let Some(report) = json::<Outcome>(&run.join("report.json")) {
        return Some(report.summary(id));
    }
    let plan = json::<Plan>(&run.join("plan.json"));
    let (state, reason) = if goes_on(&run) {
        (RunState::Running, String::new())
    } else {
        (RunState::GivenUp, why_given_up(&progress(&run)))
    };
    Some(RunSummary::without_verdict(id, plan.as_ref(), state, &reason))
}

/// What a run tells by itself.
pub(super) struct Story {
    pub(super) summary: RunSummary,
    /// Empty where there is a report.
    pub(super) progress: Vec<Progress>,
    /// `null` where there is none.
    pub(super) report: Value,
}

/// What a run tells by itself; `None` where there is no such run.
pub(super) fn story(state_dir: &Path, id: &str) -> Option<Story> {
    let summary = summary(state_dir, id)?;
    let run = folder(state_dir).join(id);
    let report: Option<Value> = json(&run.join("report.json"));
    let progress = if report.is_some() { Vec::new() } else { progress(&run) };
    Some(Story { summary, progress, report: report.unwrap_or_default() })
}

/// Whether a run that was given up is not, or not only that: somebody writes it, or it has a report by now.
pub(super) fn may_have_more(state_dir: &Path, id: &str) -> bool {
    let run = folder(state_dir).join(id);
    goes_on(&run) || run.join("report.json").exists()
}

/// Everything about a run; `None` where there is no such run.
pub fn details(state_dir: &Path, id: &str) -> Option<Details> {
    details_among(state_dir, id, &summaries(state_dir, super::KEPT_RUNS))
}

/// The same where the other runs are known already.
pub(crate) fn details_among(state_dir: &Path, id: &str, others: &[RunSummary]) -> Option<Details> {
    let Story { summary, progress, report } = story(state_dir, id)?;
    let run = folder(state_dir).join(id);
    Some(Details {
        plan: json(&run.join("plan.json")).unwrap_or_default(),
        progress,
        report,
        events: json(&run.join("events.json")).unwrap_or_default(),
        comparison: drill::compare(&summary, others),
        summary,
    })
}

/// The report of a run as a page; `None` where there is none, or one that is larger than any that is written.
pub(crate) fn report_page(state_dir: &Path, id: &str) -> Option<String> {
    drill::parse_run_id(id)?;
    text(&folder(state_dir).join(id).join("report.html"))
}

/// The part of a report that is summed up; what another version left out is missing.
#[derive(Deserialize)]
#[serde(default)]
struct Outcome {
    drill: String,
    verdict: drill::Verdict,
    started: WallTime,
    subject: Harmed,
    detection_ms: Option<u64>,
    recovery_ms: Option<u64>,
    requests: u64,
    errors: u64,
    worst_ms: u64,
    p99_ms: u64,
    lost_writes: u64,
    doubled_writes: u64,
    reasons: Vec<Reason>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Harmed {
    service: String,
    name: String,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            drill: String::new(),
            // Nothing that cannot be read counts as a pass.
            verdict: drill::Verdict::Fail,
            started: WallTime::default(),
            subject: Harmed::default(),
            detection_ms: None,
            recovery_ms: None,
            requests: 0,
            errors: 0,
            worst_ms: 0,
            p99_ms: 0,
            lost_writes: 0,
            doubled_writes: 0,
            reasons: Vec::new(),
        }
    }
}

impl Outcome {
    fn summary(self, id: &str) -> RunSummary {
        let (began, _) = drill::parse_run_id(id).unwrap_or_default();
        RunSummary {
            run: id.to_owned(),
            drill: self.drill,
            service: self.subject.service,
            subject: self.subject.name,
            started: if self.started == WallTime::default() { began } else { self.started },
            state: self.verdict.into(),
            detection_ms: self.detection_ms,
            recovery_ms: self.recovery_ms,
            requests: self.requests,
            errors: self.errors,
            worst_ms: self.worst_ms,
            p99_ms: self.p99_ms,
            lost_writes: self.lost_writes,
            doubled_writes: self.doubled_writes,
            reason: self.reasons.into_iter().next().map(|reason| reason.text).unwrap_or_default(),
        }
    }
}

/// Whether somebody still writes it: whoever does holds a lock until it ends, however it ends.
fn goes_on(run: &Path) -> bool {
    let Ok(file) = open(&run.join("progress.jsonl")) else { return false };
    let locked = flock(&file, FlockOperation::NonBlockingLockShared);
    locked.is_err_and(|error| io::Error::from(error).kind() == io::ErrorKind::WouldBlock)
}

fn progress(run: &Path) -> Vec<Progress> {
    let text = text(&run.join("progress.jsonl")).unwrap_or_default();
    // A line may be half written.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn why_given_up(progress: &[Progress]) -> String {
    let said = progress.iter().rev().find_map(|line| match line {
        Progress::Stage(stage) if stage.name == GIVEN_UP => Some(stage.detail.clone()),
        _ => None,
    });
    said.unwrap_or_else(|| "its process ended without a verdict".to_owned())
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    // One byte more than the most, since it may grow meanwhile.
    open(path).ok()?.take(MOST_BYTES + 1).read_to_string(&mut text).ok()?;
    (text.len() as u64 <= MOST_BYTES).then_some(text)
}

/// Opens a file. Whoever may write to the folder could have put a pipe there: opening that must not wait for a writer,
/// nor reading it (`O_NONBLOCK`, open(2)).
fn open(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, OFlags::RDONLY | flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&text(path)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_place_of_a_file_makes_nobody_wait() {
        let temp = tempfile::tempdir().unwrap();
        let id = "1700000000000-kill-instance";
        let run = folder(temp.path()).join(id);
        fs::create_dir_all(&run).unwrap();
        for name in ["plan.json", "report.json", "progress.jsonl"] {
            let made = rustix::fs::mknodat(rustix::fs::CWD, run.join(name), rustix::fs::FileType::Fifo, Mode::RUSR, 0);
            made.unwrap();
        }
        let (sender, read) = std::sync::mpsc::channel();
        let state_dir = temp.path().to_owned();
        std::thread::spawn(move || sender.send(summary(&state_dir, id)).ok());
        let summary = read.recv_timeout(std::time::Duration::from_secs(20)).expect("reading ends").unwrap();
        assert_eq!(summary.state, RunState::GivenUp);
    }

    #[test]
    fn a_run_goes_on_ends_and_is_summed_up() {
        let temp = tempfile::tempdir().unwrap();
        let run = folder(temp.path()).join("1700000000000-kill-instance");
        fs::create_dir_all(&run).unwrap();
        fs::create_dir(folder(temp.path()).join("something-else")).unwrap();
        fs::write(folder(temp.path()).join("schedule.json"), "{}").unwrap();
        let lines = "{\"stage\":{\"name\":\"load\",\"at_ms\":0,\"detail\":\"clients have started\"}}\n\
                     {\"tick\":{\"at_ms\":0,\"requests\":20}}\n{\"tick\":{\"at";
        fs::write(run.join("progress.jsonl"), lines).unwrap();
        let writer = fs::File::open(run.join("progress.jsonl")).unwrap();
        flock(&writer, FlockOperation::LockExclusive).unwrap();
        let id = "1700000000000-kill-instance";
        let details_now = details(temp.path(), id).unwrap();
        assert_eq!((details_now.summary.state, details_now.progress.len()), (RunState::Running, 2));
        assert_eq!(details_now.summary.drill, "kill-instance");

        drop(writer);
        let gone = summary(temp.path(), id).unwrap();
        assert_eq!(gone.state, RunState::GivenUp);
        assert!(gone.reason.contains("without a verdict"));

        let report = r#"{"drill":"kill-instance","verdict":"pass","started":1700000000001,"recovery_ms":700,
                         "subject":{"service":"shop","name":"shop/2"},"of_another_version":[]}"#;
        fs::write(run.join("report.json"), report).unwrap();
        let over = &summaries(temp.path(), 10)[0];
        assert_eq!((over.state, over.recovery_ms, over.service.as_str()), (RunState::Passed, Some(700), "shop"));
        assert_eq!(ids(temp.path()), [id]);
    }

    #[test]
    fn names_lead_to_runs_only() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder(temp.path())).unwrap();
        fs::write(temp.path().join("report.json"), "{\"verdict\":\"pass\"}").unwrap();
        for id in ["..", "../..", "1-..", "", "1-none"] {
            assert!(details(temp.path(), id).is_none(), "{id}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_pass() {
        let temp = tempfile::tempdir().unwrap();
        let run = folder(temp.path()).join("5-hang-instance");
        fs::create_dir_all(&run).unwrap();
        fs::write(run.join("report.json"), "{\"verdict\":\"splendid\"}").unwrap();
        assert_eq!(summary(temp.path(), "5-hang-instance").unwrap().state, RunState::GivenUp);
    }
}
