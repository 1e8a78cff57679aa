//! `revisions/`: every version of the stack that was in force, and which one is.
//!
//! A version is a file and the overrides that commands laid over it: `N.toml` and `N.json`.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use evenkeel_core::{
    overrides::Overrides,
    stack::{self, Stack},
};
use serde::{Deserialize, Serialize};

use super::{StateDir, replace_private};
use crate::error::NodeError;

/// How many revisions are kept beside those that are needed.
const KEPT: usize = 50;

/// One version of the stack.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    /// Counts from 1.
    pub(crate) number: u64,
    /// The file's text.
    pub(crate) text: String,
    /// Its name in messages.
    pub(crate) file: String,
    /// Where the file lies: the working directory of instances that name none.
    pub(crate) dir: PathBuf,
    /// What the text says.
    pub(crate) declared: Stack,
    /// What commands changed of it.
    pub(crate) overrides: Overrides,
    /// What is in force: the overrides laid over what the text says.
    pub(crate) stack: Stack,
}

impl Revision {
    /// A file without overrides.
    pub(crate) fn new(number: u64, text: String, file: String, dir: PathBuf, declared: Stack) -> Self {
        Self { number, text, file, dir, stack: declared.clone(), declared, overrides: Overrides::default() }
    }

    /// The same file with these overrides.
    pub(crate) fn with(self, overrides: Overrides) -> Self {
        Self { stack: overrides.lay_over(&self.declared), overrides, ..self }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    file: String,
    dir: PathBuf,
    applied_ms: u64,
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    overrides: Overrides,
}

impl StateDir {
    /// The revision in force; `None` before the first one.
    pub(crate) fn current_revision(&self) -> Result<Option<Revision>, NodeError> {
        let path = self.path("revisions").join("current");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let (what, fix) = ("the revision in force cannot be read", "Check owner, mode and disk.");
                return Err(NodeError::StateDir { what, path, source, fix });
            }
        };
        let revision = text.trim().parse().ok().and_then(|number| self.revision(number));
        revision.map(Some).ok_or_else(|| NodeError::State {
            path: self.path("revisions"),
            why: "the revision in force is missing or damaged".to_owned(),
            fix: "Stop `keel up`, remove the folder `revisions`, and start it again with the stack file.",
        })
    }

    /// A revision by its number, if it is there and still readable by this version.
    pub(crate) fn revision(&self, number: u64) -> Option<Revision> {
        let text = fs::read_to_string(self.path("revisions").join(format!("{number}.toml"))).ok()?;
        let origin: Origin = self.read_json(&self.path("revisions").join(format!("{number}.json")))?;
        let (stack, _) = stack::parse_leniently(&text, &origin.file).ok()?;
        Some(Revision::new(number, text, origin.file, origin.dir, stack).with(origin.overrides))
    }

    /// Removes former revisions but the newest [`KEPT`] and those that are needed: what their instances were started
    /// from is found there.
    pub(crate) fn prune_revisions(&self, needed: &BTreeSet<u64>) {
        let folder = self.path("revisions");
        let Ok(entries) = fs::read_dir(&folder) else { return };
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok();
        let numbers: BTreeSet<u64> = entries.filter_map(|entry| number(entry.ok()?)).collect();
        for number in numbers.iter().rev().skip(KEPT).filter(|number| !needed.contains(number)) {
            for suffix in ["toml", "json"] {
                if let Err(error) = fs::remove_file(folder.join(format!("{number}.{suffix}"))) {
                    tracing::warn!(%error, number, "a former revision cannot be removed");
                }
            }
        }
    }

    /// Keeps a revision and puts it in force. It is on the disk when this returns, the number in force last, so that
    /// a power cut leaves the former one or this one: without either nothing starts.
    pub(crate) fn save_revision(&self, revision: &Revision, applied_ms: u64) -> io::Result<()> {
        let folder = self.path("revisions");
        let (file, dir, overrides) = (revision.file.clone(), revision.dir.clone(), revision.overrides.clone());
        let origin = Origin { file, dir, applied_ms, overrides };
        let number = revision.number;
        replace_private(&folder.join(format!("{number}.toml")), revision.text.as_bytes())?;
        let origin = serde_json::to_vec(&origin).map_err(io::Error::other)?;
        replace_private(&folder.join(format!("{number}.json")), &origin)?;
        replace_private(&folder.join("current"), format!("{number}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[stack]\nname = \"t\"\n[services.s]\nrun = [\"true\"]\n";

    #[test]
    fn the_newest_one_is_in_force_and_former_ones_stay() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temp.path()).unwrap();
        assert!(dir.current_revision().unwrap().is_none());
        for number in 1..=2 {
            let text = format!("{TEXT}replicas = {number}\n");
            let stack = stack::parse(&text, "keel.toml").unwrap();
            let revision = Revision::new(number, text, "keel.toml".to_owned(), "/srv".into(), stack);
            dir.save_revision(&revision, 5).unwrap();
        }
        let current = dir.current_revision().unwrap().unwrap();
        assert_eq!((current.number, current.stack.services["s"].replicas.min()), (2, 2));
        assert_eq!(dir.revision(1).unwrap().stack.services["s"].replicas.min(), 1);

        for number in 3..=60 {
            let stack = stack::parse(TEXT, "keel.toml").unwrap();
            let revision = Revision::new(number, TEXT.to_owned(), "keel.toml".to_owned(), "/srv".into(), stack);
            dir.save_revision(&revision, 5).unwrap();
        }
        dir.prune_revisions(&BTreeSet::from([4]));
        let kept: Vec<u64> = (1..=60).filter(|number| dir.revision(*number).is_some()).collect();
        assert_eq!((kept.len(), &kept[..2]), (51, &[4, 11][..]), "the newest 50, and the one that is needed");
        assert!(!temp.path().join("revisions/1.toml").exists());

        // What a former version accepted is not refused for doing nothing.
        let twice = format!("{TEXT}[[routes]]\nservice = \"s\"\n[[routes]]\nservice = \"s\"\nmethods = []\n");
        assert!(stack::parse(&twice, "keel.toml").is_err());
        fs::write(temp.path().join("revisions/60.toml"), twice).unwrap();
        assert_eq!(dir.current_revision().unwrap().unwrap().stack.routes.len(), 2);

        fs::write(temp.path().join("revisions/60.toml"), "[stack").unwrap();
        assert!(dir.current_revision().unwrap_err().to_string().contains("revisions"));
    }
}
