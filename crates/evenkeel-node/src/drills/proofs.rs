//! Proofs from runs, without making anybody wait for a disk.
//!
//! When somebody asks, another thread looks whether the folder has changed, and if so at the runs again: a run ends by
//! putting its report into place there. What is answered may be a moment old.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use evenkeel_core::drill::{self, Proof, RunSummary};

use super::{KEPT_RUNS, folder, read};

/// A folder that was changed so long ago has another time when it is changed again.
const SETTLED: Duration = Duration::from_millis(100);

/// The proofs of a state directory.
#[derive(Clone, Debug)]
pub(crate) struct Proofs {
    state_dir: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    proofs: Vec<Proof>,
    /// Runs with a verdict: they do not change any more.
    known: BTreeMap<String, RunSummary>,
    /// When the folder was changed, as it was when it was read.
    changed: Option<SystemTime>,
    looking: bool,
}

impl Proofs {
    /// Of this state directory. Nothing is read yet.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), shared: Arc::default() }
    }

    /// As they were when they were read last. Must be called in the runtime.
    pub(crate) fn get(&self) -> Vec<Proof> {
        let mut shared = self.lock();
        if !std::mem::replace(&mut shared.looking, true) {
            let this = self.clone();
            tokio::task::spawn_blocking(move || this.look());
        }
        shared.proofs.clone()
    }

    fn changed(&self) -> Option<SystemTime> {
        fs::metadata(folder(&self.state_dir)).and_then(|meta| meta.modified()).ok()
    }

    fn look(&self) {
        // Before it is read: what comes meanwhile is seen by the next look.
        let changed = self.changed();
        let known = {
            let mut shared = self.lock();
            if shared.changed == changed {
                shared.looking = false;
                return;
            }
            std::mem::take(&mut shared.known)
        };
        let ids = read::ids(&self.state_dir).into_iter().take(KEPT_RUNS);
        let of = |id: String| known.get(&id).cloned().or_else(|| read::summary(&self.state_dir, &id));
        let runs: Vec<RunSummary> = ids.filter_map(of).collect();
        let mut shared = self.lock();
        shared.proofs = drill::proofs(&runs);
        shared.known =
            runs.into_iter().filter(|run| run.verdict().is_some()).map(|run| (run.run.clone(), run)).collect();
        // A change right after this look could have the very same time: clocks of file systems are coarse.
        shared.changed = changed.filter(|at| at.elapsed().is_ok_and(|age| age >= SETTLED));
        shared.looking = false;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // What is behind it is replaced whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_is_put_into_place_becomes_a_proof() {
        let temp = tempfile::tempdir().unwrap();
        let proofs = Proofs::new(temp.path());
        proofs.look();
        assert!(proofs.lock().proofs.is_empty());
        let run = folder(temp.path()).join("7-kill-instance");
        fs::create_dir_all(&run).unwrap();
        proofs.look();
        assert!(proofs.lock().proofs.is_empty(), "no verdict yet");
        let report = r#"{"drill":"kill-instance","verdict":"pass","started":7,"subject":{"service":"shop"}}"#;
        let aside = folder(temp.path()).join("7.new");
        fs::write(&aside, report).unwrap();
        fs::rename(&aside, run.join("report.json")).unwrap();
        proofs.look();
        assert_eq!(proofs.lock().proofs[0].passed_at.map(evenkeel_core::time::WallTime::as_millis), Some(7));
    }
}
