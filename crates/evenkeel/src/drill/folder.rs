//! The folder of a run: written as it goes, so that others can watch it, and to its end.
//!
//! Lines go to a thread of their own: the drill may be about the very disk that they are written to, and clients must
//! not wait for it. What cannot be written never changes a verdict; it is said at the end. The lines' file stays locked
//! (flock(2)) until this process ends, however it ends, which is how others know that the run goes on.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use evenkeel_core::drill::{GIVEN_UP, Plan, Progress, Stage, Tick};
use evenkeel_node::drills;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::failure::Failure;

/// The folder of the run that goes on.
pub(super) struct Folder {
    state_dir: PathBuf,
    path: PathBuf,
    id: String,
    lines: Option<mpsc::Sender<Progress>>,
    writer: Option<JoinHandle<io::Result<()>>>,
    /// Held until this process ends.
    _lock: fs::File,
}

impl Folder {
    /// Makes the folder of the run `id`, with its plan, and removes those of the oldest runs.
    pub(super) fn create(state_dir: &Path, id: &str, plan: &Plan) -> Result<Self, Failure> {
        let path = drills::folder(state_dir).join(id);
        let cannot = |error: io::Error| Failure::new("the run cannot be kept").at_path(&path).because(error);
        Self::try_create(state_dir, id, plan).map_err(cannot)
    }

    fn try_create(state_dir: &Path, id: &str, plan: &Plan) -> io::Result<Self> {
        let all = drills::folder(state_dir);
        let path = all.join(id);
        let owner = fs::metadata(state_dir)?;
        for folder in [&all, &path] {
            match fs::DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && *folder == all => {}
                made => made?,
            }
            same_owner(folder, &owner);
        }
        let lines = path.join("progress.jsonl");
        let mut file = fs::OpenOptions::new().append(true).create_new(true).mode(0o600).open(&lines)?;
        same_owner(&lines, &owner);
        flock(&file, FlockOperation::LockExclusive)?;
        let lock = file.try_clone()?;
        let (sender, receiver) = mpsc::channel::<Progress>();
        let writer = thread::Builder::new().name("run".to_owned()).spawn(move || {
            let mut first = Ok(());
            for line in receiver {
                let mut text = serde_json::to_vec(&line).map_err(io::Error::other)?;
                text.push(b'\n');
                // A disk that is full now may have room for the next line.
                first = first.and(file.write_all(&text));
            }
            first
        })?;
        let folder = Self {
            state_dir: state_dir.to_owned(),
            path,
            id: id.to_owned(),
            lines: Some(sender),
            writer: Some(writer),
            _lock: lock,
        };
        // Last: who waits for the run to begin waits for this.
        folder.write_json("plan.json", plan)?;
        remove_oldest(state_dir);
        Ok(folder)
    }

    /// The state directory that it lies in.
    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The run's name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Where a file of it lies.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Something happened.
    pub(super) fn stage(&self, stage: &Stage) {
        self.line(Progress::Stage(stage.clone()));
    }

    /// What clients saw in a tenth of a second.
    pub(super) fn tick(&self, tick: Tick) {
        self.line(Progress::Tick(tick));
    }

    /// There will be no verdict.
    pub(super) fn given_up(&self, at_ms: u64, why: &str) {
        self.stage(&Stage::new(GIVEN_UP, at_ms, why));
    }

    fn line(&self, line: Progress) {
        if let Some(lines) = &self.lines {
            // Its end says why, if the writer has ended.
            let _ = lines.send(line);
        }
    }

    /// Waits until every line was written.
    pub(super) fn finish_lines(&mut self) -> io::Result<()> {
        self.lines = None;
        let ended = self.writer.take().map(JoinHandle::join);
        ended.map_or(Ok(()), |ended| ended.unwrap_or_else(|_| Err(io::Error::other("the writer panicked"))))
    }

    /// Puts a file into place as a whole. It is made beside the folder of the run, so that the folder of all runs
    /// changes too, by which others see that there is something new.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let all = drills::folder(&self.state_dir);
        let aside = all.join(format!(".{}.{name}", self.id));
        // The folder may belong to somebody with fewer rights, who could have put a link there.
        let _ = fs::remove_file(&aside);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        let written = file.write_all(bytes).and_then(|()| {
            let owner = fs::metadata(&self.state_dir)?;
            let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
            fs::rename(&aside, self.path.join(name))
        });
        if written.is_err() {
            // What is left of it may take the last room there is.
            let _ = fs::remove_file(&aside);
        }
        written
    }

    /// The same with JSON.
    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.write(name, &serde_json::to_vec(value).map_err(io::Error::other)?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Whoever wanted to know has asked before.
        let _ = self.finish_lines();
    }
}

/// Root may run a drill on the stack of a user, who shall be able to read and remove what it leaves.
fn same_owner(path: &Path, owner: &fs::Metadata) {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() != owner.uid() || meta.gid() != owner.gid()) {
        let _ = lchown(path, Some(owner.uid()), Some(owner.gid()));
    }
}

fn remove_oldest(state_dir: &Path) {
    for id in drills::ids(state_dir).iter().skip(drills::KEPT_RUNS) {
        // One that stays is tried again by the next run.
        let _ = fs::remove_dir_all(drills::folder(state_dir).join(id));
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::drill::RunState;

    use super::*;
    use crate::drill::tests::some_plan;

    #[test]
    fn a_run_can_be_watched_and_is_over_when_its_writer_is() {
        let temp = tempfile::tempdir().unwrap();
        let id = "1700000000000-kill-instance";
        let mut folder = Folder::create(temp.path(), id, &some_plan()).unwrap();
        folder.stage(&Stage::new("load", 0, "clients have started"));
        folder.tick(Tick { at_ms: 0, requests: 3, ..Tick::default() });
        folder.finish_lines().unwrap();
        let details = drills::details(temp.path(), id).unwrap();
        assert_eq!((details.summary.state, details.progress.len()), (RunState::Running, 2));
        assert_eq!(details.summary.subject, some_plan().subject.name);
        assert_eq!(fs::metadata(temp.path().join("drills")).unwrap().mode() & 0o777, 0o700);
        drop(folder);
        assert_eq!(drills::details(temp.path(), id).unwrap().summary.state, RunState::GivenUp);
    }

    #[test]
    fn only_the_newest_runs_are_kept() {
        let temp = tempfile::tempdir().unwrap();
        for at in 0..drills::KEPT_RUNS + 3 {
            fs::create_dir_all(temp.path().join(format!("drills/{}-kill-instance", 1000 + at))).unwrap();
        }
        Folder::create(temp.path(), "9000-kill-instance", &some_plan()).unwrap();
        let ids = drills::ids(temp.path());
        assert_eq!((ids.len(), ids[0].as_str()), (drills::KEPT_RUNS, "9000-kill-instance"));
        assert_eq!(ids.last().unwrap(), "1004-kill-instance");
    }
}
