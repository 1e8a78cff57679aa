//! From nothing to a running loop: inventory, state directory, revision, listeners, instances, API.
//!
//! The same path serves a first start and a restart: it only differs in what is found. A first start that fails
//! ends `keel up`; after a restart instances run and the edge serves, so a failure only ends this process, and the
//! guard tries again.

use std::{
    fs,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use evenkeel_core::{
    guard::{CHANNEL_FD, Order},
    journal::{Level, Reason},
    snapshot::Snapshot,
    stack,
    time::Moment,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{Inputs, Node, edge::Edge, inventory::Inventory, restore::check_users};
use crate::{
    NodeConfig, NodeError, StackSource, api,
    channel::{self, Orders, Received},
    clock::{Clock, wall_now},
    journal::{self, Journal},
    logs::{self, Logs},
    state_dir::{Revision, StateDir, Writer},
    traffic::Traffic,
};

/// How many messages of the edge or questions of the API may wait.
const WAITING: usize = 256;

pub(super) async fn run(config: NodeConfig) -> Result<u8, NodeError> {
    let channel = guard_channel().and_then(channel::open);
    match channel {
        Ok((orders, notices)) => run_on(config, orders, notices).await,
        Err(source) => {
            let error = NodeError::Channel { source };
            complain(&error);
            Err(error)
        }
    }
}

pub(super) async fn run_on(
    config: NodeConfig,
    orders: Orders,
    mut notices: mpsc::Receiver<Received>,
) -> Result<u8, NodeError> {
    // The terminal's Ctrl-C and hang-up reach the whole process group; the guard tells us what to do about them.
    let _ignored = ignore_terminal();
    let inventory = match Inventory::read(&mut notices).await {
        Ok(inventory) => inventory,
        Err(error) => return Err(fail(error, &orders, true).await),
    };
    let first_start = inventory.hello.node_starts == 0;
    let (edge_in, edge) = mpsc::channel(WAITING);
    let (commands_in, commands) = mpsc::channel(WAITING);
    let started = Node::start(config, orders.clone(), inventory, edge_in);
    let (mut node, later) = match started {
        Ok(started) => started,
        Err(error) => return Err(fail(error, &orders, first_start).await),
    };
    if let Err(error) = node.open_api(super::Commands::new(commands_in)).await {
        return Err(fail(error, &orders, first_start).await);
    }
    let mut inputs = Inputs { notices, edge, commands };
    for received in later {
        node.notice(received);
    }
    node.give_bounds();
    node.settle();
    node.give(&Order::StartEdge);
    let code = match node.serve(&mut inputs).await {
        Ok(code) => code,
        Err(error) => return Err(fail(error, &orders, false).await),
    };
    finish(&orders, code).await;
    Ok(code)
}

/// Says what is wrong and, where nothing runs that would be lost, ends `keel up`.
async fn fail(error: NodeError, orders: &Orders, end_everything: bool) -> NodeError {
    complain(&error);
    if end_everything {
        finish(orders, error.exit_code()).await;
    }
    error
}

async fn finish(orders: &Orders, code: u8) {
    orders.give(&Order::Finish { code }).expect("a short order fits into a packet");
    orders.flush().await;
}

fn complain(error: &NodeError) {
    let indented = error.to_string().trim_end().replace('\n', "\n  ");
    eprintln!("error: {}", indented.strip_prefix("error: ").unwrap_or(&indented));
}

fn guard_channel() -> std::io::Result<OwnedFd> {
    // SAFETY: the descriptor is only looked at, during this call.
    let looked_at = unsafe { BorrowedFd::borrow_raw(CHANNEL_FD) };
    rustix::io::fcntl_getfd(looked_at)?;
    // SAFETY: it is open, as the call above showed, and by the guard's protocol it is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) })
}

fn ignore_terminal() -> Vec<Signal> {
    [SignalKind::interrupt(), SignalKind::hangup()].into_iter().filter_map(|kind| signal(kind).ok()).collect()
}

impl Node {
    /// Builds the world. Returns with it the notices that are to be handled once it is complete.
    fn start(
        config: NodeConfig,
        orders: Orders,
        mut inventory: Inventory,
        edge_in: mpsc::Sender<crate::edge_link::FromEdge>,
    ) -> Result<(Self, Vec<Received>), NodeError> {
        let system = |what| move |source| NodeError::System { what, source };
        let dir = StateDir::open(&config.state_dir)?;
        let journal = Journal::open(&dir.path("journal.db"), journal::KEPT);
        let journal = journal.map_err(system("the journal's thread cannot be started"))?;
        let first_start = inventory.hello.node_starts == 0;
        let (revision, is_new) = choose_revision(&config.stack, &dir, first_start)?;
        let limits = log_limits(&revision.stack);
        let logs = Logs::open(dir.path("logs"), limits).map_err(system("the logs' thread cannot be started"))?;
        let snapshot_file = Writer::start(dir.path("snapshot"));
        let snapshot_file = snapshot_file.map_err(system("the snapshot's thread cannot be started"))?;
        let held = inventory.held.remove("snapshot").and_then(super::publish::read_held);
        let threads = held.as_ref().map_or_else(|| wanted_threads(&revision.stack), |held| held.threads);
        let former = held.or_else(|| dir.snapshot());
        let mut node = Self {
            clock: Clock::new(),
            hello: inventory.hello,
            orders,
            journal,
            logs,
            snapshot_file,
            threads,
            listeners: std::collections::BTreeMap::new(),
            slots: std::collections::BTreeMap::new(),
            strays: std::collections::BTreeSet::new(),
            rollouts: std::collections::BTreeMap::new(),
            edge: Edge::new(edge_in),
            traffic: Traffic::new(dir.totals().unwrap_or_default()),
            snapshot: Arc::new(placeholder(&revision, threads, former.map_or(0, |snapshot| snapshot.version))),
            problems: std::collections::BTreeMap::new(),
            shutdown: None,
            next_alive: Moment::ORIGIN,
            config,
            dir,
            revision,
        };
        check_users(&node.revision.stack)?;
        node.adopt_listeners(inventory.held)?;
        if is_new && let Err(error) = node.dir.save_revision(&node.revision, wall_now().as_millis()) {
            node.problems.insert("revision", format!("the revision cannot be kept on disk: {error}"));
        }
        node.say_hello(is_new);
        node.adopt_processes(inventory.processes);
        Ok((node, inventory.later))
    }

    fn say_hello(&self, is_new: bool) {
        let number = self.revision.number;
        if self.hello.node_starts == 0 {
            let what = if is_new { "a new revision" } else { "the revision in force, unchanged" };
            let reasons = vec![Reason::seen(format!("{} is {what}, number {number}", self.revision.file))];
            let message = format!("stack `{}` started with revision {number}", self.revision.stack.stack.name);
            self.note(Level::Info, "stack", "started", message, reasons);
        } else {
            let message = format!("the node process was started again (number {})", self.hello.node_starts);
            let seen = "the former one ended; instances and edge went on without it";
            self.note(Level::Warning, "node", "restarted", message, vec![Reason::seen(seen)]);
        }
        if let Some(problem) = self.journal.problem() {
            self.note(Level::Warning, "node", "journal", problem, Vec::new());
        }
    }

    /// Opens the API's socket and, if its address is free, the address of `/metrics`.
    async fn open_api(&mut self, commands: super::Commands) -> Result<(), NodeError> {
        let state = api::Api::new(commands, self.journal.clone(), self.logs.clone());
        let path = self.config.runtime_dir.join(crate::CONTROL_SOCKET);
        api::serve_control(&path, state.clone()).map_err(|source| NodeError::Control { path, source })?;
        let address = self.config.metrics_bind.unwrap_or(self.revision.stack.console.bind);
        if let Err(error) = api::serve_metrics(address, state).await {
            let why = match error.kind() {
                std::io::ErrorKind::AddrInUse => "another process listens there; set `console.bind`".to_owned(),
                _ => error.to_string(),
            };
            self.problems.insert("metrics", format!("metrics are not served at {address}: {why}"));
            self.note(Level::Warning, "node", "metrics", format!("metrics are not served at {address}: {why}"), vec![]);
        }
        Ok(())
    }
}

/// A restart goes on with the revision in force; a first start takes the source, as a new revision if it differs.
fn choose_revision(source: &StackSource, dir: &StateDir, first_start: bool) -> Result<(Revision, bool), NodeError> {
    let current = dir.current_revision();
    if !first_start && let Ok(Some(current)) = current {
        return Ok((current, false));
    }
    let (text, file, folder) = read_source(source)?;
    let stack = stack::parse(&text, &file).map_err(|faults| NodeError::Stack(Box::new(faults)))?;
    let current = current?;
    let same = current.filter(|current| current.text == text && current.dir == folder);
    if let Some(current) = same {
        return Ok((current, false));
    }
    let number = dir.current_revision()?.map_or(1, |current| current.number + 1);
    Ok((Revision::new(number, text, file, folder, stack), true))
}

/// Text, name and folder of a stack.
pub(super) fn read_source(source: &StackSource) -> Result<(String, String, PathBuf), NodeError> {
    match source {
        StackSource::Text { text, label, dir } => Ok((text.clone(), label.clone(), dir.clone())),
        StackSource::File(path) => {
            let read = fs::read_to_string(path);
            let text = read.map_err(|source| NodeError::ReadStack { path: path.clone(), source })?;
            let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let folder = absolute.parent().unwrap_or_else(|| Path::new("/")).to_owned();
            Ok((text, path.display().to_string(), folder))
        }
    }
}

pub(super) fn wanted_threads(stack: &stack::Stack) -> u16 {
    let cores = || std::thread::available_parallelism().map_or(1, |n| u16::try_from(n.get()).unwrap_or(256).min(256));
    stack.edge.threads.unwrap_or_else(cores).max(1)
}

pub(super) fn log_limits(stack: &stack::Stack) -> logs::Limits {
    logs::Limits { size_bytes: stack.logs.size.as_bytes().max(1024), files: stack.logs.files.max(1) }
}

/// Stands for "nothing published yet by this process", with the version that the next one must exceed.
fn placeholder(revision: &Revision, threads: u16, version: u64) -> Snapshot {
    Snapshot {
        format: 0,
        version,
        revision: revision.number,
        stack: String::new(),
        threads,
        listeners: Vec::new(),
        routes: Vec::new(),
        services: Vec::new(),
    }
}
