//! The state directory: what cannot be observed again, and what an edge needs before we are up.
//!
//! ```text
//! VERSION            the format's number
//! node.json          what edges have counted
//! revisions/N.toml   each revision of the stack; N.json where it came from; current: the number in force
//! instances/S-N.json the record of instance S/N: generation, port, what it was started from
//! snapshot           the newest snapshot
//! pauses.json, scale.json, away.json  pauses in force, wanted instances, services that fell back
//! releases/S/N       an artefact of S unpacked; N.json what is known of it
//! deploys/S.json     the deploys of S, the last one perhaps under way
//! drills/ runs of drills, written by those who carry them out; see the module of that name
//! secrets/, tokens.json, sessions.json  see the modules of those names
//! logs/, journal.db, history.db  see the modules of those names
//! ```
//!
//! It belongs to one `keel up`, which holds its lock. Files are replaced whole (write, rename), so that a reader
//! or a crash never meets half of one. Records are small and written in place by the owner of the world, since a
//! restart depends on them; the snapshot, which the guard holds in memory as well, and the totals are written
//! by threads.

mod deploys;
mod records;
mod releases;
mod revisions;
mod unpack;
mod writer;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

pub(crate) use self::{
    deploys::Deploys,
    records::Record,
    releases::{StoreError, Stored, number_of, release_numbers, remove_all},
    revisions::Revision,
    writer::Writer,
};
use crate::{error::NodeError, traffic::Kept};

/// The number of the format of state directories.
pub const VERSION: u32 = 1;

/// An opened state directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    /// What was found damaged, in words. Clones share it.
    damage: Arc<Mutex<Vec<String>>>,
}

impl StateDir {
    /// Opens a directory, making it if there is none.
    pub(crate) fn open(root: &Path) -> Result<Self, NodeError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            |source| NodeError::StateDir {
                what: "the state directory cannot be used",
                path,
                source,
                fix: "Check its owner, its mode and the disk, or give another one with --state-dir.",
            }
        };
        if !releases::is_passable(root) {
            make_private(root).map_err(fail(root))?;
        }
        check_version(root)?;
        for part in ["revisions", "instances", "logs", "deploys"] {
            make_private(&root.join(part)).map_err(fail(&root.join(part)))?;
        }
        let dir = Self { root: root.to_owned(), damage: Arc::default() };
        let version = root.join("VERSION");
        if !version.exists() {
            replace(&version, format!("{VERSION}\n").as_bytes()).map_err(fail(&version))?;
        }
        Ok(dir)
    }

    /// A file or folder in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// What was found damaged since the start and is not used, in words.
    pub(crate) fn damage(&self) -> Vec<String> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers that a file is damaged and sets it aside, so that what it held is not lost and its name is free. A
    /// revision stays where it is: whoever mends it finds it there.
    fn is_damaged(&self, path: &Path, error: &dyn std::fmt::Display) {
        let name = path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        let mut aside = path.as_os_str().to_owned();
        aside.push(".damaged");
        let aside = PathBuf::from(aside);
        let moved = !name.starts_with("revisions/") && !aside.exists() && fs::rename(path, &aside).is_ok();
        let mut words = format!("{name} in the state directory was damaged and is not used ({error})");
        if moved {
            words.push_str(&format!("; it was set aside as {}", aside.display()));
        }
        tracing::warn!("{words}");
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if !damage.contains(&words) {
            damage.push(words);
        }
    }

    /// Reads a JSON file; `None` if there is none or it cannot be understood, which [`StateDir::damage`] tells.
    pub(crate) fn read_json<T: serde::de::DeserializeOwned>(&self, path: &Path) -> Option<T> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "cannot be read");
                }
                return None;
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Some(value),
            Err(error) => {
                self.is_damaged(path, &error);
                None
            }
        }
    }

    /// Replaces a JSON file whole.
    pub(crate) fn write_json(&self, name: &str, value: &impl serde::Serialize) -> io::Result<()> {
        replace(&self.path(name), &serde_json::to_vec(value).map_err(io::Error::other)?)
    }

    /// What was counted, as it was kept last in [`StateDir::totals_path`].
    pub(crate) fn totals(&self) -> Option<Kept> {
        self.read_json(&self.totals_path())
    }

    /// Where that is kept.
    pub(crate) fn totals_path(&self) -> PathBuf {
        self.path("node.json")
    }

    /// The snapshot of a former life.
    pub(crate) fn snapshot(&self) -> Option<evenkeel_core::snapshot::Snapshot> {
        self.read_json(&self.path("snapshot"))
    }
}

/// Makes a folder, and those above it, for this user alone.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) => return Err(error),
    }
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn check_version(root: &Path) -> Result<(), NodeError> {
    let path = root.join("VERSION");
    let refuse = |why: String, fix| Err(NodeError::State { path: root.to_owned(), why, fix });
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !root.join("revisions").exists() {
                return Ok(());
            }
            return refuse(
                "it holds state but no VERSION".to_owned(),
                "It is damaged or not one of ours. Move it away, or give another one with --state-dir; what it holds \
                 beside `logs` and `journal.db` is made anew from the stack file.",
            );
        }
        Err(source) => {
            return Err(NodeError::StateDir {
                what: "the state directory's VERSION cannot be read",
                path,
                source,
                fix: "Check its owner, its mode and the disk, or give another one with --state-dir.",
            });
        }
    };
    match text.trim().parse::<u32>() {
        Ok(VERSION) => Ok(()),
        Ok(newer) if newer > VERSION => refuse(
            format!("it was written by a newer keel (format {newer}; this one knows {VERSION})"),
            "Use that newer version again, or give another directory with --state-dir.",
        ),
        Ok(_) | Err(_) => refuse(
            format!("its VERSION is damaged: {:?}", text.chars().take(40).collect::<String>()),
            "Move it away, or give another one with --state-dir; what it holds beside `logs` and `journal.db` is made \
             anew from the stack file.",
        ),
    }
}

/// Writes a file whole: under another name first, then renamed (rename(2) replaces at once).
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of it is of no use and may take the last room there is.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The same for this user alone, and on the disk when it returns: for what nobody else may read and nobody could make
/// again.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let write = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_private_and_opens_again() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("a/b");
        StateDir::open(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        StateDir::open(&root).unwrap();
    }

    #[test]
    fn newer_and_damaged_ones_are_refused_with_the_way_out() {
        let temp = tempfile::tempdir().unwrap();
        StateDir::open(temp.path()).unwrap();
        for (version, said) in [("2\n", "newer keel"), ("zero", "damaged"), ("", "damaged")] {
            fs::write(temp.path().join("VERSION"), version).unwrap();
            let error = StateDir::open(temp.path()).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("--state-dir"), "{error}");
        }
        fs::remove_file(temp.path().join("VERSION")).unwrap();
        let error = StateDir::open(temp.path()).unwrap_err().to_string();
        assert!(error.contains("no VERSION"), "{error}");
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        assert!(StateDir::open(temp.path()).is_err());
    }
}
