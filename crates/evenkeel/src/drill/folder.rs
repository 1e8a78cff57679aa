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

use evenkeel_core::{
    drill::{self, GIVEN_UP, Plan, Progress, Stage, Tick},
    time::WallTime,
};
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
    /// Makes the folder of a run that begins now, with its plan, and removes those of the oldest runs. Where somebody
    /// waits for the run under a name, that is its name, or there is no run: whoever waited may have given it up.
    pub(super) fn create(state_dir: &Path, name: Option<&str>, began: WallTime, plan: &Plan) -> Result<Self, Failure> {
        let mut at = began;
        loop {
            let id = name.map_or_else(|| drill::run_id(at, &plan.drill), str::to_owned);
            match Self::try_create(state_dir, &id, plan) {
                // One that began in the very same millisecond, perhaps by a clock that was set back.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && name.is_none() => {
                    at = WallTime::from_millis(at.as_millis() + 1);
                }
                made => {
                    let path = drills::folder(state_dir).join(id);
                    return made.map_err(|error| Failure::new("the run cannot be kept").at_path(&path).because(error));
                }
            }
        }
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
        let writer = thread::Builder::new().name("run".to_owned()).spawn(move || write_lines(receiver, &mut file))?;
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

/// Writes lines to their end, whatever becomes of one of them; the first error.
fn write_lines(lines: impl IntoIterator<Item = Progress>, file: &mut impl Write) -> io::Result<()> {
    let (mut first, mut torn) = (Ok(()), false);
    for line in lines {
        let text = serde_json::to_vec(&line).map_err(io::Error::other);
        let written = text.and_then(|mut text| {
            if torn {
                // What was written of the one before must not spoil this one.
                text.insert(0, b'\n');
            }
            text.push(b'\n');
            // A disk that was full may have room again.
            file.write_all(&text)
        });
        torn = written.is_err();
        first = first.and(written);
    }
    first
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
        let mut folder = Folder::create(temp.path(), Some(id), WallTime::default(), &some_plan()).unwrap();
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
    fn two_runs_of_one_moment_have_two_names() {
        let temp = tempfile::tempdir().unwrap();
        let create = |name| Folder::create(temp.path(), name, WallTime::from_millis(7), &some_plan());
        let (first, second) = (create(None).unwrap(), create(None).unwrap());
        assert_eq!((first.id(), second.id()), ("7-kill-instance", "8-kill-instance"));
        assert!(create(Some("7-kill-instance")).is_err(), "whoever waits for it would watch another run");
    }

    /// A disk that has room for part of the second line only.
    #[derive(Default)]
    struct Full(Vec<u8>, u32);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            let room = match self.1 {
                2 => 3,
                3 => return Err(io::ErrorKind::StorageFull.into()),
                _ => bytes.len(),
            };
            self.0.extend_from_slice(&bytes[..room]);
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_finds_no_room_spoils_none_after_it() {
        let mut disk = Full::default();
        let lines = (0..3).map(|at_ms| Progress::Stage(Stage::new("load", at_ms, "")));
        assert_eq!(write_lines(lines, &mut disk).unwrap_err().kind(), io::ErrorKind::StorageFull);
        let whole = disk.0.split(|byte| *byte == b'\n').filter(|line| serde_json::from_slice::<Progress>(line).is_ok());
        assert_eq!(whole.count(), 2);
    }

    #[test]
    fn only_the_newest_runs_are_kept() {
        let temp = tempfile::tempdir().unwrap();
        for at in 0..drills::KEPT_RUNS + 3 {
            fs::create_dir_all(temp.path().join(format!("drills/{}-kill-instance", 1000 + at))).unwrap();
        }
        Folder::create(temp.path(), Some("9000-kill-instance"), WallTime::default(), &some_plan()).unwrap();
        let ids = drills::ids(temp.path());
        assert_eq!((ids.len(), ids[0].as_str()), (drills::KEPT_RUNS, "9000-kill-instance"));
        assert_eq!(ids.last().unwrap(), "1004-kill-instance");
    }
}
