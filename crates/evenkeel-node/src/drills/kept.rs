//! Runs as everybody sees them who asks: read once for all, and only what may have changed.
//!
//! Whoever asks gets what was read after they asked, so nobody misses a run that they have just started. One looks at a
//! time, on a thread that may wait for the disk; whoever comes meanwhile waits for the next look, which serves all of
//! them. A run that is over does not change and is read once. Only the newest are kept with everything that is drawn of
//! them. [`Runs`] owns what was read; nothing here writes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel_core::drill::{RunState, RunSummary};
use tokio::sync::Mutex;

use super::{KEPT_RUNS, Run, read};

/// Runs that are kept with their stages and what clients saw: more than any page shows.
const DRAWN: usize = 16;

/// One run as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// In a few numbers.
    pub(crate) summary: RunSummary,
    /// As it is drawn.
    pub(crate) run: Arc<Run>,
    /// Whether that is all of it.
    is_drawn: bool,
}

/// The runs of a state directory. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    state_dir: PathBuf,
    looked: Arc<Mutex<Looked>>,
}

#[derive(Debug, Default)]
struct Looked {
    /// When the last look began.
    at: Option<Instant>,
    /// Newest first.
    all: Arc<[Kept]>,
}

impl Runs {
    /// Of this state directory. Nothing is read yet.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), looked: Arc::default() }
    }

    /// As they are now, newest first: the same list for as long as nothing changed.
    pub(crate) async fn all(&self) -> Arc<[Kept]> {
        let asked = Instant::now();
        let mut looked = Arc::clone(&self.looked).lock_owned().await;
        if looked.at.is_some_and(|at| at >= asked) {
            return Arc::clone(&looked.all);
        }
        let state_dir = self.state_dir.clone();
        let looking = tokio::task::spawn_blocking(move || {
            looked.at = Some(Instant::now());
            looked.look(&state_dir);
            Arc::clone(&looked.all)
        });
        match looking.await {
            Ok(all) => all,
            // As it was before; whoever asks next looks again.
            Err(_) => Arc::clone(&self.looked.lock().await.all),
        }
    }

    /// The same, where the disk answers in time; otherwise the look goes on, for those who ask later.
    pub(crate) async fn all_within(&self, patience: Duration) -> Option<Arc<[Kept]>> {
        tokio::time::timeout(patience, self.all()).await.ok()
    }

    /// All of them in a few numbers, newest first.
    pub(crate) async fn summaries(&self) -> Vec<RunSummary> {
        self.all().await.iter().map(|kept| kept.summary.clone()).collect()
    }
}

impl Looked {
    fn look(&mut self, state_dir: &Path) {
        let known: BTreeMap<&str, &Kept> = self.all.iter().map(|kept| (kept.summary.run.as_str(), kept)).collect();
        let mut news = false;
        let mut all = Vec::new();
        for (index, id) in read::ids(state_dir).into_iter().take(KEPT_RUNS).enumerate() {
            let known = known.get(id.as_str()).filter(|kept| kept.is_drawn || index >= DRAWN);
            if let Some(kept) = known.filter(|kept| is_over(state_dir, kept)) {
                all.push(Kept::clone(kept));
                continue;
            }
            news = true;
            all.extend(read_one(state_dir, &id, index < DRAWN));
        }
        if news || all.len() != self.all.len() {
            self.all = all.into();
        }
    }
}

fn is_over(state_dir: &Path, kept: &Kept) -> bool {
    match kept.summary.state {
        RunState::Passed | RunState::Failed => true,
        RunState::Running => false,
        // Its folder may have been there before whoever writes it had the lock.
        RunState::GivenUp => !read::may_have_more(state_dir, &kept.summary.run),
    }
}

fn read_one(state_dir: &Path, id: &str, is_drawn: bool) -> Option<Kept> {
    if is_drawn {
        let story = read::story(state_dir, id)?;
        let summary = story.summary.clone();
        return Some(Kept { summary, run: Arc::new(Run::of(story)), is_drawn });
    }
    let summary = read::summary(state_dir, id)?;
    let run = Arc::new(Run::in_brief(&summary));
    Some(Kept { summary, run, is_drawn })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use evenkeel_core::time::WallTime;
    use rustix::fs::{FlockOperation, flock};

    use super::*;
    use crate::drills::folder;

    fn run(state_dir: &Path, id: &str) -> PathBuf {
        let run = folder(state_dir).join(id);
        fs::create_dir_all(&run).unwrap();
        run
    }

    #[tokio::test]
    async fn a_run_is_seen_as_it_goes_on_and_read_once_when_it_is_over() {
        let temp = tempfile::tempdir().unwrap();
        let runs = Runs::new(temp.path());
        assert!(runs.all().await.is_empty());
        let dir = run(temp.path(), "1700000000000-kill-instance");
        let progress = dir.join("progress.jsonl");
        fs::write(&progress, "{\"stage\":{\"name\":\"fault\",\"at_ms\":1000,\"detail\":\"\"}}\n").unwrap();
        let lock = fs::File::open(&progress).unwrap();
        // Not locked yet: whoever looks just then sees it as given up, and the next one does not.
        assert_eq!(runs.all().await[0].summary.state, RunState::GivenUp);
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let kept = runs.all().await[0].clone();
        assert_eq!((kept.summary.state, kept.run.fault()), (RunState::Running, Some((1000, None))));

        let report = r#"{"drill":"kill-instance","verdict":"pass","started":1700000000001,"recovery_ms":900,
                         "fault_at_ms":1200,"subject":{"service":"shop","name":"shop/1"}}"#;
        fs::write(dir.join("report.json"), report).unwrap();
        drop(lock);
        let first = runs.all().await;
        assert_eq!((first[0].run.state, first[0].run.fault()), (RunState::Passed, Some((1200, None))));
        // What is over is not read again, and the list stays the very same.
        fs::write(dir.join("report.json"), "{").unwrap();
        assert!(Arc::ptr_eq(&first, &runs.all().await));
    }

    #[tokio::test]
    async fn only_the_newest_are_kept_whole_and_those_removed_are_gone() {
        let temp = tempfile::tempdir().unwrap();
        let stage = r#"{"name":"fault","at_ms":1,"detail":""}"#;
        for at in 0..KEPT_RUNS + 5 {
            let dir = run(temp.path(), &format!("{}-kill-edge", 1000 + at));
            let report =
                format!("{{\"drill\":\"kill-edge\",\"verdict\":\"pass\",\"recovery_ms\":{at},\"stages\":[{stage}]}}");
            fs::write(dir.join("report.json"), report).unwrap();
        }
        let runs = Runs::new(temp.path());
        let all = runs.all().await;
        assert_eq!(all.len(), KEPT_RUNS);
        assert_eq!(all[0].summary.started, WallTime::from_millis(1000 + KEPT_RUNS as u64 + 4));
        assert_eq!(all.iter().filter(|kept| !kept.run.stages.is_empty()).count(), DRAWN);
        let old = all.last().unwrap();
        assert_eq!(old.run.report.as_ref().and_then(|report| report.recovery_ms), old.summary.recovery_ms);
        // One that moves up is read whole.
        fs::remove_dir_all(folder(temp.path()).join(&all[0].summary.run)).unwrap();
        let next = runs.all().await;
        assert_eq!(next.iter().filter(|kept| !kept.run.stages.is_empty()).count(), DRAWN);
        assert_eq!(next.len(), KEPT_RUNS, "an older one moved up");
    }

    #[tokio::test]
    async fn who_has_no_time_is_not_kept_by_a_disk_that_does_not_answer() {
        let temp = tempfile::tempdir().unwrap();
        let runs = Runs::new(temp.path());
        let held = Arc::clone(&runs.looked).lock_owned().await;
        assert!(runs.all_within(Duration::from_millis(10)).await.is_none());
        drop(held);
        assert!(runs.all_within(Duration::from_hours(1)).await.is_some());
    }

    #[tokio::test]
    async fn who_waits_for_a_look_shares_the_next_one() {
        let temp = tempfile::tempdir().unwrap();
        let runs = Runs::new(temp.path());
        let held = Arc::clone(&runs.looked).lock_owned().await;
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let runs = runs.clone();
                tokio::spawn(async move {
                    runs.all().await;
                    runs.looked.lock().await.at
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(held);
        let mut looks = Vec::new();
        for one in asking {
            looks.push(one.await.unwrap());
        }
        looks.dedup();
        assert_eq!(looks.len(), 1, "one look served all");
    }
}
