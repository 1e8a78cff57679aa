//! What the guard tells a node process that starts: who it is, what it holds, what runs.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use evenkeel_core::{
    guard::{self, Notice},
    status::ExitStatus,
    time::WallTime,
};
use tokio::sync::mpsc;

use crate::{NodeError, channel::Received};

/// Who the guard is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hello {
    pub(super) guard_pid: u32,
    pub(super) since: WallTime,
    /// How often the node process was started before.
    pub(super) node_starts: u64,
}

/// A process that runs, or ended while nobody looked.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) key: String,
    pub(super) pid: u32,
    pub(super) started: WallTime,
    pub(super) exit: Option<ExitStatus>,
    pub(super) pipe: Option<OwnedFd>,
    /// Bytes of output that nobody read, where it outlived the guard that started it.
    pub(super) adopted: Option<u64>,
}

/// Everything up to `Complete`.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) hello: Hello,
    pub(super) held: BTreeMap<String, OwnedFd>,
    pub(super) processes: Vec<Process>,
    /// What came among it and is to be handled afterwards, as a link to an edge that runs.
    pub(super) later: Vec<Received>,
}

impl Inventory {
    /// Reads notices until the inventory is complete.
    pub(super) async fn read(notices: &mut mpsc::Receiver<Received>) -> Result<Self, NodeError> {
        let first = notices.recv().await.ok_or(NodeError::GuardGone)?;
        let (Notice::Hello { version, guard_pid, since_ms, node_starts }, _) = first else {
            let source = std::io::Error::other("the first notice was no greeting");
            return Err(NodeError::Channel { source });
        };
        if version != guard::VERSION {
            return Err(NodeError::Version { theirs: version, ours: guard::VERSION });
        }
        let hello = Hello { guard_pid, since: WallTime::from_millis(since_ms), node_starts };
        let mut inventory = Self { hello, held: BTreeMap::new(), processes: Vec::new(), later: Vec::new() };
        let mut adopted = BTreeMap::new();
        loop {
            match notices.recv().await.ok_or(NodeError::GuardGone)? {
                (Notice::Complete, _) => return Ok(inventory),
                (Notice::Held { key }, Some(fd)) => {
                    inventory.held.insert(key, fd);
                }
                (Notice::Adopted { key, dropped_bytes, .. }, _) => _ = adopted.insert(key, dropped_bytes),
                (Notice::Process { key, pid, started_ms, exit }, pipe) => {
                    let (started, adopted) = (WallTime::from_millis(started_ms), adopted.remove(&key));
                    inventory.processes.push(Process { key, pid, started, exit, pipe, adopted });
                }
                other => inventory.later.push(other),
            }
        }
    }
}
