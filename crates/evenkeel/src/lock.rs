//! The lock of a state directory: at most one stack runs there, and others find it by what the lock says.
//!
//! It is an advisory lock (flock(2)) on the file `lock`, held by the guard for as long as it lives. The
//! descriptor is closed on exec, so no instance inherits it, and the kernel gives it up with the process. What the
//! file says is written after the lock was taken; nobody believes it unless the lock is held.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// What the holder says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// The guard's process.
    pub(crate) pid: u32,
    /// The stack's name.
    pub(crate) stack: String,
    /// Where its sockets are.
    pub(crate) runtime_dir: PathBuf,
    /// Its version of `keel`.
    pub(crate) version: String,
}

/// A lock that is held until the process ends or this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Somebody has it; what it says, where that can be read.
    #[error("another keel holds the lock")]
    Held(Option<Holder>),
    /// The file cannot be opened, locked or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How long a start waits for a lock that somebody only looks at.
const PATIENCE: Duration = Duration::from_millis(300);

impl Lock {
    /// Takes the lock of a state directory and says in it who we are.
    pub(crate) fn take(state_dir: &Path, holder: &Holder) -> Result<Self, LockError> {
        let path = state_dir.join("lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                // `status` and others take a shared lock for an instant to see whether somebody has this one.
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held(read(&mut file))),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(holder).map_err(io::Error::from)?)?;
        Ok(Self { _file: file })
    }
}

/// Who holds the lock of a state directory; `None` where nobody does, or nothing is there.
pub(crate) fn holder(state_dir: &Path) -> Option<Holder> {
    let mut file = File::open(state_dir.join("lock")).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => read(&mut file),
        _ => None,
    }
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder_of(stack: &str) -> Holder {
        Holder { pid: 42, stack: stack.to_owned(), runtime_dir: "/run/keel/x".into(), version: "1".to_owned() }
    }

    #[test]
    fn one_holds_it_and_says_who_it_is() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(holder(temp.path()), None);
        let lock = Lock::take(temp.path(), &holder_of("a-longer-name")).unwrap();
        assert_eq!(holder(temp.path()), Some(holder_of("a-longer-name")));
        match Lock::take(temp.path(), &holder_of("b")) {
            Err(LockError::Held(Some(found))) => assert_eq!(found.stack, "a-longer-name"),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert_eq!(holder(temp.path()), None, "what is left in the file is not believed");
        let _lock = Lock::take(temp.path(), &holder_of("b")).unwrap();
        assert_eq!(holder(temp.path()), Some(holder_of("b")));
    }
}
