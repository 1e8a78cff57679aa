//! Runs as they are kept: how their folders are called, what is written while they go on, and what is told of them.
//!
//! A run is a folder whose name says when it began and which drill it is. Whoever carries a drill out writes it; whoever
//! reads it may be another process, of another version, at any moment: so everything here is small and stands alone.
//! This module reads and writes no file, and owns no state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Plan, Report, Stage, Tick, Verdict};
use crate::time::WallTime;

/// The name of a run's folder: when it began, in milliseconds since the Unix epoch, and its drill.
pub fn run_id(began: WallTime, drill: &str) -> String {
    format!("{}-{drill}", began.as_millis())
}

/// When the run of that name began, and its drill; `None` where it is no name of a run, so that none leads out of the
/// folder of runs.
pub fn parse_run_id(id: &str) -> Option<(WallTime, &str)> {
    let (at, drill) = id.split_once('-')?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let known = !drill.is_empty() && drill.len() <= 64 && drill.bytes().all(plain);
    let digits = !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit());
    (known && digits).then(|| at.parse().ok())?.map(|at| (WallTime::from_millis(at), drill))
}

/// One line of what a run writes as it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Something happened.
    Stage(Stage),
    /// What clients saw in a tenth of a second.
    Tick(Tick),
}

/// The name of the stage with which a run ends that came to no verdict.
pub const GIVEN_UP: &str = "given-up";

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// It goes on.
    Running,
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It ended without a verdict: it was interrupted, or could not be carried out.
    GivenUp,
}

impl RunState {
    /// The word that outputs show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::GivenUp => "given up",
        }
    }
}

impl From<Verdict> for RunState {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Passed,
            Verdict::Fail => Self::Failed,
        }
    }
}

/// One run in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// The name of its folder.
    pub run: String,
    /// Which drill.
    pub drill: String,
    /// The service whose clients were watched.
    pub service: String,
    /// What was harmed, as `shop/2` or `edge`.
    pub subject: String,
    /// When it began.
    pub started: WallTime,
    /// Where it stands.
    pub state: RunState,
    /// From the harm until the stack showed it, in milliseconds; see [`Report::noticed_by_drill`].
    pub detection_ms: Option<u64>,
    /// From the harm until everything was well again, in milliseconds; see [`Report::started_by_drill_ms`].
    pub recovery_ms: Option<u64>,
    /// Requests that clients sent.
    pub requests: u64,
    /// Those without a complete answer of 2xx.
    pub errors: u64,
    /// The slowest, in milliseconds.
    pub worst_ms: u64,
    /// 99 of 100 good answers since the harm took at most so long, in milliseconds.
    pub p99_ms: u64,
    /// Acknowledged writes that were not there.
    pub lost_writes: u64,
    /// Writes that were there more than once.
    pub doubled_writes: u64,
    /// The first reason of the verdict, or why there is none; empty while it goes on.
    pub reason: String,
}

impl RunSummary {
    /// A run without a verdict, of which at least the name is known.
    pub fn without_verdict(run: &str, plan: Option<&Plan>, state: RunState, reason: &str) -> Self {
        let (started, drill) = parse_run_id(run).unwrap_or_default();
        Self {
            run: run.to_owned(),
            drill: drill.to_owned(),
            service: plan.map(|plan| plan.subject.service.clone()).unwrap_or_default(),
            subject: plan.map(|plan| plan.subject.name.clone()).unwrap_or_default(),
            started,
            state,
            detection_ms: None,
            recovery_ms: None,
            requests: 0,
            errors: 0,
            worst_ms: 0,
            p99_ms: 0,
            lost_writes: 0,
            doubled_writes: 0,
            reason: reason.to_owned(),
        }
    }

    /// A run with its verdict.
    pub fn of(run: &str, report: &Report) -> Self {
        Self {
            run: run.to_owned(),
            drill: report.drill.clone(),
            service: report.subject.service.clone(),
            subject: report.subject.name.clone(),
            started: report.started,
            state: report.verdict.into(),
            detection_ms: report.detection_ms,
            recovery_ms: report.recovery_ms,
            requests: report.requests,
            errors: report.errors,
            worst_ms: report.worst_ms,
            p99_ms: report.p99_ms,
            lost_writes: report.lost_writes,
            doubled_writes: report.doubled_writes,
            reason: report.reasons.first().map(|reason| reason.text.clone()).unwrap_or_default(),
        }
    }

    /// Its verdict, where it has one.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.state {
            RunState::Passed => Some(Verdict::Pass),
            RunState::Failed => Some(Verdict::Fail),
            RunState::Running | RunState::GivenUp => None,
        }
    }
}

/// What the newest verdict about a drill of a service was, and how old the last pass is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// Which drill.
    pub drill: String,
    /// The service whose clients were watched.
    pub service: String,
    /// The run of the newest verdict.
    pub run: String,
    /// When that run began.
    pub at: WallTime,
    /// The newest verdict.
    pub verdict: Verdict,
    /// From the harm until everything was well again in that run, in milliseconds; `None` if that took too long.
    pub recovery_ms: Option<u64>,
    /// When the newest run began that passed; `None` where no kept run did.
    pub passed_at: Option<WallTime>,
}

/// How a drill ended when it was last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVerdict {
    /// Pass or fail.
    pub verdict: Verdict,
    /// When that run began, in milliseconds since the Unix epoch.
    pub at: WallTime,
}

/// The newest verdict about the drill of that name among runs, in whatever order they are.
pub fn last_verdict(runs: &[RunSummary], drill: &str) -> Option<LastVerdict> {
    let of_it = runs.iter().filter(|run| run.drill == drill);
    let verdicts = of_it.filter_map(|run| Some(LastVerdict { verdict: run.verdict()?, at: run.started }));
    verdicts.max_by_key(|last| last.at)
}

/// The proofs that runs, in whatever order, amount to: one for each drill and service, by name.
pub fn proofs(runs: &[RunSummary]) -> Vec<Proof> {
    let mut newest_first: Vec<&RunSummary> = runs.iter().filter(|run| run.verdict().is_some()).collect();
    newest_first.sort_by_key(|run| std::cmp::Reverse(run.started));
    let mut proofs: Vec<Proof> = Vec::new();
    for run in newest_first {
        let Some(verdict) = run.verdict() else { continue };
        let passed = (verdict == Verdict::Pass).then_some(run.started);
        match proofs.iter_mut().find(|proof| proof.drill == run.drill && proof.service == run.service) {
            Some(proof) => proof.passed_at = proof.passed_at.or(passed),
            None => proofs.push(Proof {
                drill: run.drill.clone(),
                service: run.service.clone(),
                run: run.run.clone(),
                at: run.started,
                verdict,
                recovery_ms: run.recovery_ms,
                passed_at: passed,
            }),
        }
    }
    proofs.sort_by(|a, b| (&a.service, &a.drill).cmp(&(&b.service, &b.drill)));
    proofs
}

/// How a run compares with earlier ones of the same drill and service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// How many earlier runs with a verdict there are.
    pub runs: usize,
    /// Of those, how many passed.
    pub passed: usize,
    /// The middle of their times of detection, in milliseconds; `None` where none was measured.
    pub detection_ms: Option<u64>,
    /// The middle of their times of recovery, in milliseconds.
    pub recovery_ms: Option<u64>,
    /// The middle of their slowest requests, in milliseconds.
    pub worst_ms: Option<u64>,
}

/// Compares `run` with those among `runs` that were begun before it; `None` where there are none.
pub fn compare(run: &RunSummary, runs: &[RunSummary]) -> Option<Comparison> {
    let alike = |other: &&RunSummary| {
        other.drill == run.drill
            && other.service == run.service
            && other.started < run.started
            && other.verdict().is_some()
    };
    let earlier: Vec<&RunSummary> = runs.iter().filter(alike).collect();
    if earlier.is_empty() {
        return None;
    }
    let of = |time: fn(&RunSummary) -> Option<u64>| middle(earlier.iter().filter_map(|run| time(run)).collect());
    Some(Comparison {
        runs: earlier.len(),
        passed: earlier.iter().filter(|run| run.state == RunState::Passed).count(),
        detection_ms: of(|run| run.detection_ms),
        recovery_ms: of(|run| run.recovery_ms),
        worst_ms: of(|run| Some(run.worst_ms)),
    })
}

fn middle(mut times: Vec<u64>) -> Option<u64> {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(at: u64, drill: &str, state: RunState, recovery_ms: Option<u64>) -> RunSummary {
        let id = run_id(WallTime::from_millis(at), drill);
        RunSummary { recovery_ms, service: "shop".to_owned(), ..RunSummary::without_verdict(&id, None, state, "") }
    }

    #[test]
    fn names_lead_nowhere_else() {
        let at = WallTime::from_millis(1_700_000_000_123);
        assert_eq!(parse_run_id(&run_id(at, "kill-instance")), Some((at, "kill-instance")));
        for no in ["", "-", "1-", "x-kill", "1-../../etc", "../1-kill", "1-a/b", "1", "+1-kill", "1-Kill", "1-a.b"] {
            assert_eq!(parse_run_id(no), None, "{no}");
        }
    }

    #[test]
    fn lines_have_the_promised_form() {
        let stage = serde_json::to_value(Progress::Stage(Stage::new("fault", 7, "SIGKILL"))).unwrap();
        assert_eq!(stage["stage"]["at_ms"], 7);
        let tick = serde_json::to_value(Progress::Tick(Tick { at_ms: 100, requests: 3, ..Tick::default() })).unwrap();
        assert_eq!(tick["tick"]["requests"], 3);
    }

    #[test]
    fn a_proof_is_the_newest_verdict_and_the_age_of_the_last_pass() {
        let runs = [
            run(3, "hang-instance", RunState::Failed, None),
            run(1, "hang-instance", RunState::Passed, Some(900)),
            run(4, "hang-instance", RunState::GivenUp, None),
            run(2, "kill-instance", RunState::Passed, Some(500)),
        ];
        let proofs = proofs(&runs);
        let seen: Vec<_> = proofs.iter().map(|p| (p.drill.as_str(), p.verdict, p.passed_at)).collect();
        let at = |ms| Some(WallTime::from_millis(ms));
        assert_eq!(seen, [("hang-instance", Verdict::Fail, at(1)), ("kill-instance", Verdict::Pass, at(2))]);
    }

    #[test]
    fn the_last_verdict_is_that_of_the_newest_run_with_one() {
        let runs = [
            run(1, "kill-instance", RunState::Passed, Some(500)),
            run(3, "kill-instance", RunState::Failed, None),
            run(2, "kill-instance", RunState::Passed, Some(500)),
            run(4, "kill-instance", RunState::GivenUp, None),
            run(5, "hang-instance", RunState::Running, None),
        ];
        let last = last_verdict(&runs, "kill-instance").unwrap();
        assert_eq!((last.verdict, last.at), (Verdict::Fail, WallTime::from_millis(3)));
        assert_eq!(last_verdict(&runs, "hang-instance"), None);
    }

    #[test]
    fn a_run_is_compared_with_the_middle_of_earlier_ones() {
        let runs = [
            run(1, "hang-instance", RunState::Passed, Some(900)),
            run(2, "hang-instance", RunState::Failed, None),
            run(3, "hang-instance", RunState::Passed, Some(700)),
            run(4, "hang-instance", RunState::Passed, Some(800)),
            run(5, "hang-instance", RunState::Passed, Some(5000)),
            run(3, "kill-instance", RunState::Passed, Some(1)),
        ];
        let with = compare(&runs[4], &runs).unwrap();
        assert_eq!((with.runs, with.passed, with.recovery_ms), (4, 3, Some(800)));
        assert_eq!(compare(&runs[0], &runs), None);
    }
}
