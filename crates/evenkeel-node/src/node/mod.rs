//! The owner of the world: everything the node process knows is a field of [`Node`], and one task changes it.
//!
//! The loop takes what came in (notices of the guard, messages of the edge, questions of the API, time), updates
//! the observation, asks the core what to do, does it, and publishes a snapshot if it differs from the last one.
//! Inputs that are waiting are all taken before the world settles, so that a burst ends in one snapshot. Nothing
//! here waits for a disk or for another process, except for small records that a restart depends on.

mod apply;
mod away;
mod changes;
mod checks;
mod commands;
mod console;
mod deploy;
mod diff;
mod discovery;
mod draining;
mod edge;
mod found;
mod guard;
mod instances;
mod inventory;
mod listening;
mod measuring;
mod memory;
mod operate;
mod overrides;
mod pages;
mod pause;
mod publish;
mod reconcile;
mod restore;
mod scale;
pub(crate) mod scheduled;
mod secrets;
mod shutdown;
mod slot;
mod start;
mod status;
mod stickiness;
mod unserved;
mod vital;
mod why;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    journal::{Level, Reason},
    pause::Pauses,
    snapshot::Snapshot,
    time::Moment,
};
use tokio::sync::mpsc;

pub use self::pages::read_page;
pub(crate) use self::{
    apply::{Applied, File, Refused, in_force_message},
    commands::{Command, Commands, InForce, UnknownSubject},
    deploy::{Ask as DeployAsk, History, Store, Wanted},
    diff::Difference,
    operate::{NotOrdered, Operation, Ordered},
    secrets::{Changed as SecretsChanged, Order as SecretOrder},
};
use self::{
    away::Aways, draining::Draining, edge::Edge, inventory::Hello, pages::Pages, scale::Scaling, shutdown::Shutdown,
    slot::Slot,
};
use crate::{
    NodeConfig, NodeError,
    channel::{Orders, Received},
    clock::Clock,
    edge_link::FromEdge,
    journal::Journal,
    listeners::Activated,
    logs::Logs,
    secrets::Secrets,
    state_dir::{Revision, StateDir, Writer},
    traffic::Traffic,
};

/// Runs the node process until the guard ends it.
///
/// The guard's channel must be at descriptor 3. When it returns an error, the message has been written to standard
/// error, and the guard has been told to finish unless instances run that need it.
pub fn run(config: NodeConfig) -> Result<u8, NodeError> {
    // What is written below the state directory is for this user alone, unless its mode is set.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    keep_memory_to_ourselves();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| NodeError::System { what: "the runtime cannot be made", source })?;
    let result = runtime.block_on(start::run(config));
    // A thread of the runtime may sit in a read of a slow disk; nobody needs its result any more.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// This memory holds values of secrets: no core dump shows it, and no process of the same user reads it, unless it is
/// privileged (`PR_SET_DUMPABLE`, prctl(2); ptrace(2)).
fn keep_memory_to_ourselves() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let no_core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    if let Err(error) = no_core.and(set_dumpable_behavior(DumpableBehavior::NotDumpable)) {
        tracing::warn!(%error, "core dumps of this process cannot be forbidden");
    }
}

/// The world as this process knows it.
struct Node {
    config: NodeConfig,
    clock: Clock,
    hello: Hello,
    orders: Orders,
    dir: StateDir,
    journal: Journal,
    logs: Logs,
    snapshot_file: Writer,
    totals_file: Writer,
    /// The revision in force.
    revision: Revision,
    /// Values that stand in no stack file.
    secrets: Secrets,
    /// Edge threads, fixed since the guard's start.
    threads: u16,
    /// Bound addresses by listener.
    listeners: BTreeMap<String, SocketAddr>,
    /// The API and the metrics on a TCP address.
    console: console::Console,
    /// Where processes listen that are in doubt.
    listening: listening::Listening,
    /// Sockets that were handed to `keel` at its start.
    activated: Activated,
    /// Instances of services that are run.
    slots: BTreeMap<(String, u32), Slot>,
    /// Keys of processes that are not ours and have been killed.
    strays: BTreeSet<String>,
    /// Why a rollout is not complete, by service.
    rollouts: BTreeMap<String, String>,
    /// Pauses in force.
    pauses: Pauses,
    /// How far drains by operators have come, by instance.
    draining: BTreeMap<String, Draining>,
    edge: Edge,
    traffic: Traffic,
    /// What was counted over the last day.
    history: crate::history::History,
    /// When that is looked at next.
    measuring: measuring::Measuring,
    /// How many instances of elastic services are wanted.
    scaling: Scaling,
    /// Services that fell back.
    aways: Aways,
    /// Services without a healthy instance.
    unserved: unserved::Unserved,
    /// Instances by names.
    names: discovery::Names,
    /// Checks by commands.
    checks: checks::Checks,
    /// What the edge answers by itself, by service.
    pages: Pages,
    /// Drills that run by themselves.
    scheduled: scheduled::Scheduled,
    /// Deploys under way and those that are over.
    deploying: deploy::Deploying,
    /// The newest snapshot.
    snapshot: Arc<Snapshot>,
    /// What needs attention and is not visible elsewhere, by what it concerns.
    problems: BTreeMap<&'static str, String>,
    shutdown: Option<Shutdown>,
    /// When the guard is to hear from us next.
    next_alive: Moment,
    /// What the kernel counts of its kills for lack of memory.
    kernel_kills: memory::KernelKills,
}

/// Where inputs come from.
struct Inputs {
    notices: mpsc::Receiver<Received>,
    edge: mpsc::Receiver<FromEdge>,
    commands: mpsc::Receiver<Command>,
    found: mpsc::Receiver<found::Found>,
}

/// How many inputs are taken before the world settles.
const BURST: usize = 256;

impl Node {
    /// The loop. Ends with the exit code of `keel up`, or when the guard is gone.
    async fn serve(&mut self, inputs: &mut Inputs) -> Result<u8, NodeError> {
        loop {
            if let Some(code) = self.settle() {
                return Ok(code);
            }
            let wake = self.deadline();
            let wake = tokio::time::Instant::from_std(self.clock.instant(wake));
            tokio::select! {
                biased;
                received = inputs.notices.recv() => match received {
                    Some(received) => self.notice(received),
                    None => return Err(NodeError::GuardGone),
                },
                Some(said) = inputs.edge.recv() => self.edge_said(said),
                Some(command) = inputs.commands.recv() => self.command(command),
                Some(found) = inputs.found.recv() => self.found(found),
                () = tokio::time::sleep_until(wake) => {}
            }
            self.take_waiting(inputs);
        }
    }

    fn take_waiting(&mut self, inputs: &mut Inputs) {
        for _ in 0..BURST {
            if let Ok(received) = inputs.notices.try_recv() {
                self.notice(received);
            } else if let Ok(said) = inputs.edge.try_recv() {
                self.edge_said(said);
            } else if let Ok(command) = inputs.commands.try_recv() {
                self.command(command);
            } else if let Ok(found) = inputs.found.try_recv() {
                self.found(found);
            } else {
                break;
            }
        }
    }

    /// Brings the world to rest: what is due is done, what is missing is started, what changed is published.
    fn settle(&mut self) -> Option<u8> {
        self.vital_signs();
        self.measure();
        self.look_after_console();
        self.look_for_ports();
        self.expire_pauses();
        self.mark_drained();
        self.tick();
        if self.shutdown.is_none() {
            self.scale_services();
            self.look_for_returns();
            self.deploy_steps();
            self.reconcile();
            // What was just created starts now rather than at the next input.
            self.tick();
        }
        self.discover();
        self.look_for_unserved();
        self.publish();
        self.run_checks();
        self.look_for_drills();
        self.shutdown_progress()
    }

    fn note(&self, level: Level, subject: &str, kind: &str, message: impl Into<String>, reasons: Vec<Reason>) {
        self.journal.note(level, subject, kind, message.into(), reasons);
    }
}

#[cfg(test)]
mod tests;
