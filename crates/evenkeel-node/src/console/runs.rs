//! Runs of drills, as they lie in the state directory.
//!
//! Each run is a folder `drills/<unix-ms>-<drill>` with a plan, the lines that it writes as it goes, and a report once it
//! is over. They are written by other processes, perhaps of another version, perhaps killed in the middle: what cannot
//! be read is left out, and nothing here ever writes. A run that is over does not change and is read once.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use evenkeel_core::{
    drill::{Stage, Tick},
    journal::Reason,
    time::WallTime,
};
use serde::{Deserialize, de::DeserializeOwned};

/// Runs that are looked at.
const MOST_RUNS: usize = 200;

/// The most that is read of one file, in bytes.
const MOST_BYTES: u64 = 8 << 20;

/// A run without a report whose last line is older was given up with its process.
const QUIET: Duration = Duration::from_secs(20);

/// One run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// The folder's name.
    pub(crate) id: String,
    /// Which drill.
    pub(crate) drill: String,
    /// When it began.
    pub(crate) began: WallTime,
    /// Where it stands.
    pub(crate) state: State,
    /// What it was going to do.
    pub(crate) plan: Planned,
    /// What happened when.
    pub(crate) stages: Vec<Stage>,
    /// What clients saw in each tenth of a second.
    pub(crate) ticks: Vec<Tick>,
    /// How it ended.
    pub(crate) report: Option<Outcome>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// It goes on.
    Running,
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// Its process ended without a report.
    #[default]
    Lost,
}

/// The part of a plan that is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Planned {
    /// Whom it harms.
    pub(crate) subject: Harmed,
}

/// Whom a drill harms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Harmed {
    /// The service whose clients are watched.
    pub(crate) service: String,
    /// As `shop/2` or `edge`.
    pub(crate) name: String,
}

/// The part of a report that is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    pub(crate) verdict: String,
    pub(crate) detection_ms: Option<u64>,
    pub(crate) recovery_ms: Option<u64>,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) worst_ms: u64,
    pub(crate) p99_ms: u64,
    pub(crate) lost_writes: u64,
    pub(crate) doubled_writes: u64,
    pub(crate) acknowledged_writes: u64,
    pub(crate) fault_at_ms: u64,
    pub(crate) released_at_ms: Option<u64>,
    pub(crate) subject: Harmed,
    pub(crate) stages: Vec<Stage>,
    pub(crate) series: Vec<Tick>,
    pub(crate) reasons: Vec<Reason>,
}

/// One line of what a run writes as it goes.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Stage(Stage),
    Tick(Tick),
}

impl Run {
    /// Whom it harms or harmed.
    pub(crate) fn subject(&self) -> &Harmed {
        match &self.report {
            Some(report) if !report.subject.name.is_empty() => &report.subject,
            _ => &self.plan.subject,
        }
    }

    /// When the harm was done and when it was over, in milliseconds since the run's begin.
    pub(crate) fn fault(&self) -> Option<(u64, Option<u64>)> {
        let at = |name: &str| self.stages.iter().find(|stage| stage.name == name).map(|stage| stage.at_ms);
        let begin =
            self.report.as_ref().map(|report| report.fault_at_ms).filter(|at| *at > 0).or_else(|| at("fault"))?;
        let end = self.report.as_ref().and_then(|report| report.released_at_ms).or_else(|| at("released"));
        Some((begin, end.or_else(|| at("recovered"))))
    }
}

/// All runs, as they were when they were read last.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    known: BTreeMap<String, Run>,
    all: Arc<[Run]>,
}

impl Runs {
    /// Newest first.
    pub(crate) fn all(&self) -> Arc<[Run]> {
        Arc::clone(&self.all)
    }

    /// Reads what may have changed.
    pub(crate) fn read_again(mut self, dir: &Path, now: WallTime) -> Self {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut ids: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.retain(|id| parts(id).is_some());
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(parts(id).map(|(at, _)| at)));
        ids.truncate(MOST_RUNS);
        let mut changed = ids.len() != self.known.len();
        let mut next = BTreeMap::new();
        for id in &ids {
            let over = self.known.remove(id).filter(|run| run.report.is_some() || run.state == State::Lost);
            changed |= over.is_none();
            let run = over.unwrap_or_else(|| read(&dir.join(id), id, now));
            next.insert(id.clone(), run);
        }
        self.known = next;
        if changed {
            self.all = ids.iter().filter_map(|id| self.known.get(id).cloned()).collect();
        }
        self
    }
}

/// When a run began, and its drill.
fn parts(id: &str) -> Option<(u64, &str)> {
    let (at, drill) = id.split_once('-')?;
    let plain = !drill.is_empty() && drill.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain.then_some((at.parse().ok()?, drill))
}

fn read(dir: &Path, id: &str, now: WallTime) -> Run {
    let (at, drill) = parts(id).unwrap_or_default();
    let began = WallTime::from_millis(at);
    let plan = json(&dir.join("plan.json")).unwrap_or_default();
    let mut run = Run { id: id.to_owned(), drill: drill.to_owned(), began, plan, ..Run::default() };
    if let Some(mut report) = json::<Outcome>(&dir.join("report.json")) {
        run.state = if report.verdict == "pass" { State::Passed } else { State::Failed };
        run.stages = std::mem::take(&mut report.stages);
        run.ticks = std::mem::take(&mut report.series);
        run.report = Some(report);
        return run;
    }
    let progress = dir.join("progress.jsonl");
    for line in text(&progress).unwrap_or_default().lines() {
        match serde_json::from_str(line) {
            Ok(Line::Stage(stage)) => run.stages.push(stage),
            Ok(Line::Tick(tick)) => run.ticks.push(tick),
            // A line that is half written, or of another version.
            Err(_) => {}
        }
    }
    let touched = fs::metadata(&progress).and_then(|meta| meta.modified());
    let age = touched.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    let age = age.unwrap_or_else(|| Duration::from_millis(now.as_millis().saturating_sub(at)));
    run.state = if age < QUIET { State::Running } else { State::Lost };
    run
}

fn text(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok()?.len();
    (size <= MOST_BYTES).then(|| fs::read_to_string(path).ok())?
}

fn json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&text(path)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_and_ends() {
        let temp = tempfile::tempdir().unwrap();
        let now = WallTime::from_millis(1_700_000_000_000);
        let dir = temp.path().join("1700000000000-kill-instance");
        fs::create_dir(&dir).unwrap();
        fs::create_dir(temp.path().join("notes")).unwrap();
        fs::write(dir.join("plan.json"), r#"{"subject":{"service":"shop","name":"shop/1","more":1}}"#).unwrap();
        let lines = "{\"stage\":{\"name\":\"fault\",\"at_ms\":1000,\"detail\":\"SIGKILL\"}}\n\
                     {\"tick\":{\"at_ms\":0,\"requests\":7,\"errors\":1}}\n{\"tick\":{\"at";
        fs::write(dir.join("progress.jsonl"), lines).unwrap();
        let runs = Runs::default().read_again(temp.path(), now);
        let all = runs.all();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].state, all[0].ticks.len(), all[0].fault()), (State::Running, 1, Some((1000, None))));
        assert_eq!((all[0].drill.as_str(), all[0].subject().name.as_str()), ("kill-instance", "shop/1"));
        fs::write(dir.join("report.json"), r#"{"verdict":"pass","fault_at_ms":1200,"recovery_ms":900}"#).unwrap();
        let all = runs.read_again(temp.path(), now).all();
        assert_eq!((all[0].state, all[0].fault()), (State::Passed, Some((1200, None))));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("1000-hang-instance");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("report.json"), "{").unwrap();
        let all = Runs::default().read_again(temp.path(), WallTime::from_millis(90_000)).all();
        assert_eq!((all.len(), all[0].state), (1, State::Lost));
        assert!(Runs::default().read_again(&temp.path().join("none"), WallTime::default()).all().is_empty());
    }
}
