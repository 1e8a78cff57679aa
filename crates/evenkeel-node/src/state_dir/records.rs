//! `instances/`: what a restarted node process must know about instances that the guard cannot tell it.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use evenkeel_core::{supervise::Memory, time::WallTime};
use serde::{Deserialize, Serialize};

use super::{StateDir, replace};

/// The record of one instance. It outlives the instance, so that its generation only ever grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) service: String,
    pub(crate) number: u32,
    /// Whether the instance exists; otherwise only its generation and port matter.
    pub(crate) active: bool,
    pub(crate) generation: u64,
    pub(crate) port: u16,
    /// What its process was started from.
    pub(crate) digest: String,
    /// The revision that this stems from.
    pub(crate) revision: u64,
    pub(crate) restarts: u64,
    pub(crate) exits: u32,
    pub(crate) fruitless: u32,
    pub(crate) ready: bool,
    pub(crate) leaving: Option<String>,
    pub(crate) gave_up: bool,
    pub(crate) last_exit: Option<String>,
    /// When the start that follows its last exit is due, where that was delayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_due: Option<WallTime>,
}

impl Record {
    /// The part that supervision needs.
    pub(crate) fn memory(&self) -> Memory {
        Memory {
            generation: self.generation,
            restarts: self.restarts,
            exits: self.exits,
            fruitless: self.fruitless,
            ready: self.ready,
            leaving: self.leaving.clone(),
            gave_up: self.gave_up,
        }
    }
}

impl StateDir {
    /// All records that can be read.
    pub(crate) fn records(&self) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(self.path("instances")) else {
            return Vec::new();
        };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let records = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        records.filter_map(|path| self.read_json(&path)).collect()
    }

    /// The record of one instance, if there is a readable one.
    pub(crate) fn record(&self, service: &str, number: u32) -> Option<Record> {
        self.read_json(&self.record_path(service, number))
    }

    fn record_path(&self, service: &str, number: u32) -> PathBuf {
        self.path("instances").join(format!("{service}-{number}.json"))
    }

    /// Keeps a record. On a full disk a former one is overwritten in place, which needs no room: a restart that
    /// finds an outdated record would take the process for somebody else's.
    pub(crate) fn save_record(&self, record: &Record) -> io::Result<()> {
        let path = self.record_path(&record.service, record.number);
        let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
        match replace(&path, &bytes) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => overwrite(&path, &bytes).map_err(|_| error),
            result => result,
        }
    }
}

fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_damaged_ones_are_left_out() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temp.path()).unwrap();
        let record = Record {
            service: "shop".to_owned(),
            number: 2,
            active: true,
            generation: 7,
            port: 20_007,
            digest: "d".to_owned(),
            revision: 3,
            restarts: 6,
            exits: 1,
            fruitless: 0,
            ready: true,
            leaving: None,
            gave_up: false,
            last_exit: Some("exit code 1".to_owned()),
            start_due: None,
        };
        dir.save_record(&record).unwrap();
        let longer = Record { gave_up: true, leaving: Some("a reason".to_owned()), ..record.clone() };
        overwrite(&dir.record_path("shop", 2), &serde_json::to_vec(&longer).unwrap()).unwrap();
        assert_eq!(dir.record("shop", 2), Some(longer));
        overwrite(&dir.record_path("shop", 2), &serde_json::to_vec(&record).unwrap()).unwrap();
        fs::write(temp.path().join("instances/shop-3.json"), b"{ \"service\":").unwrap();
        assert_eq!(dir.records(), std::slice::from_ref(&record));
        assert_eq!(dir.record("shop", 2), Some(record.clone()));
        assert_eq!(dir.record("shop", 3), None);
        assert_eq!(record.memory().generation, 7);
    }
}
