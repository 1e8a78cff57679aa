//! `deploys/SERVICE.json`: the deploy under way and those that are over, so that a successor goes on where we were.

use std::{collections::BTreeMap, fs, io};

use evenkeel_core::deploy::Deploy;
use serde::{Deserialize, Serialize};

use super::{StateDir, replace_private};

/// How many deploys of a service are remembered.
const MOST_PAST: usize = 50;

/// The deploys of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deploys {
    /// Oldest first; the last one may be under way.
    pub(crate) all: Vec<Deploy>,
}

impl Deploys {
    /// The newest one.
    pub(crate) fn last(&self) -> Option<&Deploy> {
        self.all.last()
    }

    /// Adds one, or replaces the one of the same number.
    pub(crate) fn put(&mut self, deploy: &Deploy) {
        match self.all.iter_mut().find(|known| known.number == deploy.number) {
            Some(known) => known.clone_from(deploy),
            None => self.all.push(deploy.clone()),
        }
        let over = self.all.len().saturating_sub(MOST_PAST);
        self.all.drain(..over);
    }
}

impl StateDir {
    /// The deploys of every service.
    pub(crate) fn deploys(&self) -> BTreeMap<String, Deploys> {
        let Ok(entries) = fs::read_dir(self.path("deploys")) else {
            return BTreeMap::new();
        };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let read = |path: std::path::PathBuf| {
            let service = path.file_stem()?.to_str()?.to_owned();
            Some((service, self.read_json(&path)?))
        };
        files.filter_map(read).collect()
    }

    /// Keeps the deploys of a service, also through a loss of power: what follows from them is done afterwards.
    pub(crate) fn save_deploys(&self, service: &str, deploys: &Deploys) -> io::Result<()> {
        let path = self.path("deploys").join(format!("{service}.json"));
        replace_private(&path, &serde_json::to_vec(deploys).map_err(io::Error::other)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deploy(number: u64, phase: &str) -> Deploy {
        let text = format!(
            r#"{{"number":{number},"service":"shop","kind":"deploy","to":null,"from":null,"by":"by somebody","began":1,
            "settings":{{"watch_ms":1,"canary":false,"share_percent":10,"max_errors_percent":1,"before_timeout_ms":1}},
            "phase":{{"phase":"{phase}"}},"revision":1}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn deploys_are_found_again_and_old_ones_forgotten() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temp.path()).unwrap();
        let mut deploys = Deploys::default();
        for number in 1..=60 {
            deploys.put(&deploy(number, "rolling"));
            deploys.put(&deploy(number, "done"));
        }
        assert_eq!((deploys.all.len(), deploys.last().unwrap().number), (MOST_PAST, 60));
        assert!(deploys.all.iter().all(Deploy::is_over));
        dir.save_deploys("shop", &deploys).unwrap();
        fs::write(dir.path("deploys/other.json"), "{").unwrap();
        assert_eq!(dir.deploys(), BTreeMap::from([("shop".to_owned(), deploys)]));
    }
}
