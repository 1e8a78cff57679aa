//! From nothing to a running loop: inventory, state directory, revision, listeners, instances, API.
//!
//! The same path serves a first start and a restart: it only differs in what is found. A first start that fails
//! ends `keel up`; after a restart instances run and the edge serves, so a failure only ends this process, and the
//! guard tries again.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    guard::{CHANNEL_FD, Order, TOKENS_KEY},
    journal::{Level, Reason},
    snapshot::Snapshot,
    stack,
    time::Moment,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{
    Inputs, Node,
    away::Aways,
    diff::{Considered, considered},
    discovery::Names,
    edge::Edge,
    inventory::{Inventory, Process},
    measuring::{self, Measuring},
    pages,
    restore::check_users,
    scale::Scaling,
};
use crate::{
    NodeConfig, NodeError, StackSource, api,
    channel::{self, Orders, Received},
    clock::{Clock, wall_now},
    console::Door,
    history::History,
    journal::Journal,
    listeners::Activated,
    logs::{self, Logs},
    secrets::Secrets,
    state_dir::{Revision, StateDir, Writer},
    tokens::Tokens,
    traffic::Traffic,
    words::counted,
};

/// How long the edge of a killed guard may take to close its sockets.
const LAST_EDGE: Duration = Duration::from_secs(2);

/// How many messages of the edge or questions of the API may wait.
const WAITING: usize = 256;

/// How long the end waits for the totals to be written.
const LAST_WRITE: Duration = Duration::from_secs(1);

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
        Err(error) => return Err(fail(error, &orders, AtFailure::End).await),
    };
    let first_start = inventory.hello.node_starts == 0;
    let at_failure = match (first_start, inventory.processes.is_empty()) {
        (true, true) => AtFailure::End,
        // They outlived a guard already, and whatever is wrong here is none of their business.
        (true, false) => AtFailure::Leave,
        (false, _) => AtFailure::TryAgain,
    };
    let (edge_in, edge) = mpsc::channel(WAITING);
    let (commands_in, commands) = mpsc::channel(WAITING);
    let (found_in, found) = mpsc::channel(WAITING);
    let started = Node::start(config, orders.clone(), inventory, edge_in, &found_in);
    let (mut node, later) = match started {
        Ok(started) => started,
        Err(error) => return Err(fail(error, &orders, at_failure).await),
    };
    if let Err(error) = node.open_api(super::Commands::new(commands_in)) {
        return Err(fail(error, &orders, at_failure).await);
    }
    let mut inputs = Inputs { notices, edge, commands, found };
    for received in later {
        node.notice(received);
    }
    node.give_bounds();
    node.settle();
    node.give(&Order::StartEdge);
    let code = match node.serve(&mut inputs).await {
        Ok(code) => code,
        Err(error) => return Err(fail(error, &orders, AtFailure::TryAgain).await),
    };
    node.keep_totals();
    node.totals_file.settle(LAST_WRITE);
    finish(&orders, Order::Finish { code }).await;
    Ok(code)
}

/// What becomes of `keel up` where this process cannot go on.
#[derive(Clone, Copy, Debug)]
enum AtFailure {
    /// It ends: nothing runs yet.
    End,
    /// It ends and leaves what it adopted to the next one.
    Leave,
    /// The guard starts another node process; instances and edge go on.
    TryAgain,
}

/// Says what is wrong and, where nothing runs that would be lost, ends `keel up`.
async fn fail(error: NodeError, orders: &Orders, at_failure: AtFailure) -> NodeError {
    complain(&error);
    let code = error.exit_code();
    match at_failure {
        AtFailure::End => finish(orders, Order::Finish { code }).await,
        AtFailure::Leave => {
            eprintln!("  instances of the former `keel up` go on; the next one that can start adopts them");
            finish(orders, Order::Leave { code }).await;
        }
        AtFailure::TryAgain => {}
    }
    error
}

async fn finish(orders: &Orders, last: Order) {
    orders.give(&last).expect("a short order fits into a packet");
    orders.flush().await;
}

fn complain(error: &NodeError) {
    eprintln!("{}", complaint(error));
}

/// An error in the form that commands give theirs. Faults of a stack file are shown in place and stand alone.
fn complaint(error: &NodeError) -> String {
    if matches!(error, NodeError::Stack(_)) {
        let indented = error.to_string().trim_end().replace('\n', "\n  ");
        return format!("error: {}", indented.strip_prefix("error: ").unwrap_or(&indented));
    }
    match error.split() {
        (what, fix) if fix.trim().is_empty() => format!("error: {what}"),
        (what, fix) => format!("error: {what}\n    fix: {}", fix.trim_end().replace('\n', "\n         ")),
    }
}

fn guard_channel() -> std::io::Result<OwnedFd> {
    // SAFETY: the descriptor is only looked at, during this call.
    let looked_at = unsafe { BorrowedFd::borrow_raw(CHANNEL_FD) };
    rustix::io::fcntl_getfd(looked_at)?;
    // SAFETY: it is open, as the call above showed, and by the guard's protocol it is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) })
}

/// What is written down as time goes on, each by a thread of its own.
fn open_records(
    dir: &StateDir,
    revision: &Revision,
    origin: crate::history::Origin,
) -> Result<(Journal, Logs, History), NodeError> {
    let system = |what| move |source| NodeError::System { what, source };
    let journal = Journal::open(&dir.path("journal.db"), revision.stack.journal.size.as_bytes());
    let journal = journal.map_err(system("the journal's thread cannot be started"))?;
    let logs = Logs::open(dir.path("logs"), log_limits(&revision.stack));
    let logs = logs.map_err(system("the logs' thread cannot be started"))?;
    let history = History::open(&dir.path("history.db"), origin);
    let history = history.map_err(system("the history's thread cannot be started"))?;
    Ok((journal, logs, history))
}

/// The files of the snapshot and of the totals, each written by a thread of its own.
fn open_writers(dir: &StateDir) -> Result<(Writer, Writer), NodeError> {
    let system = |what| move |source| NodeError::System { what, source };
    let snapshot = Writer::start(dir.path("snapshot"));
    let snapshot = snapshot.map_err(system("the snapshot's thread cannot be started"))?;
    let totals = Writer::start(dir.totals_path());
    let totals = totals.map_err(system("the totals' thread cannot be started"))?;
    Ok((snapshot, totals))
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
        found_in: &mpsc::Sender<super::found::Found>,
    ) -> Result<(Self, Vec<Received>), NodeError> {
        let dir = StateDir::open(&config.state_dir)?;
        let first_start = inventory.hello.node_starts == 0;
        let Chosen { revision, news } = choose_revision(&config.stack, &dir, first_start)?;
        let traffic = Traffic::new(dir.totals().unwrap_or_default(), inventory.hello.since);
        let origin = measuring::origin(&inventory.hello, traffic.base());
        let (journal, logs, history) = open_records(&dir, &revision, origin)?;
        let (snapshot_file, totals_file) = open_writers(&dir)?;
        let held = inventory.held.remove("snapshot").and_then(super::publish::read_held);
        let threads = held.as_ref().map_or_else(|| wanted_threads(&revision.stack), |held| held.threads);
        let former = held.or_else(|| dir.snapshot());
        let (pages, no_page) = pages::read_or_recall(&revision.stack, &revision.dir, former.as_ref());
        let clock = Clock::new();
        let drained = &revision.overrides.drained;
        let names = Names::restore(&revision.stack, former.as_ref(), drained, clock.now(), found_in.clone());
        let mut node = Self {
            names,
            checks: super::checks::Checks::new(found_in.clone()),
            journal: journal.masked_by(logs.mask()),
            secrets: Secrets::open(
                &revision.stack.stack.name,
                &config.state_dir,
                inventory.hello.guard_pid,
                logs.mask(),
            ),
            clock,
            hello: inventory.hello,
            orders,
            logs,
            snapshot_file,
            totals_file,
            threads,
            listeners: BTreeMap::new(),
            console: super::console::Console::default(),
            listening: super::listening::Listening::new(),
            activated: Activated::default(),
            slots: BTreeMap::new(),
            strays: std::collections::BTreeSet::new(),
            rollouts: BTreeMap::new(),
            pauses: evenkeel_core::pause::Pauses::default(),
            draining: BTreeMap::new(),
            deploying: super::deploy::Deploying::open(&dir),
            edge: Edge::new(edge_in),
            scaling: Scaling::restore(&dir),
            scheduled: super::scheduled::Scheduled::new(&config.state_dir),
            unserved: super::unserved::Unserved::default(),
            aways: Aways::restore(&dir),
            pages,
            traffic,
            history,
            measuring: Measuring::new(),
            snapshot: Arc::new(placeholder(&revision, threads, former.map_or(0, |snapshot| snapshot.version))),
            problems: BTreeMap::new(),
            shutdown: None,
            next_alive: Moment::ORIGIN,
            kernel_kills: super::memory::KernelKills::read(),
            config,
            dir,
            revision,
        };
        node.problems.extend(no_page.map(|problem| ("pages", problem)));
        node.take_over(inventory.held, inventory.processes, news.as_ref())?;
        Ok((node, inventory.later))
    }

    /// Makes the world that was found ours. `news`: the revision is new, and what became of overrides with it.
    fn take_over(
        &mut self,
        mut held: BTreeMap<String, OwnedFd>,
        processes: Vec<Process>,
        news: Option<&News>,
    ) -> Result<(), NodeError> {
        check_users(&self.revision.stack)?;
        // With instances that outlived a guard, one that cannot be had is a problem, and no reason not to serve.
        let first_start = self.hello.node_starts == 0 && processes.is_empty();
        if first_start {
            self.check_secrets(&self.revision.stack, &self.revision.dir)?;
        }
        self.refresh_secrets("the node process starts");
        self.restore_pauses(first_start);
        if let Some(problem) = news.and_then(|news| news.stays.clone()) {
            self.note(Level::Warning, "stack", "release-stays", problem.clone(), Vec::new());
            self.problems.insert("release", problem);
        }
        // Where instances outlived a guard, its edge has ended only just now.
        let patience = if processes.is_empty() { Duration::ZERO } else { LAST_EDGE };
        self.hold_token_key(held.remove(TOKENS_KEY).is_some());
        self.adopt_listeners(held, patience)?;
        if news.is_some()
            && let Err(error) = self.dir.save_revision(&self.revision, wall_now().as_millis())
        {
            self.problems.insert("revision", format!("the revision cannot be kept on disk: {error}"));
        }
        self.say_hello(news, processes.len());
        self.adopt_processes(processes);
        self.resume_deploys();
        for damage in self.dir.damage() {
            self.note(Level::Warning, "node", "damaged", damage, Vec::new());
        }
        Ok(())
    }

    fn say_hello(&self, news: Option<&News>, found: usize) {
        let number = self.revision.number;
        if self.hello.node_starts == 0 {
            let what = if news.is_some() { "a new revision" } else { "the revision in force, unchanged" };
            let mut reasons = vec![Reason::seen(format!("{} is {what}, number {number}", self.revision.file))];
            let dropped = news.map_or(&[][..], |news| &news.dropped);
            reasons.extend(dropped.iter().map(|line| Reason::rule(format!("the file takes the place of: {line}"))));
            if found > 0 {
                let which = counted(found, "instance outlived", "instances outlived");
                reasons.push(Reason::seen(format!("{which} the former `keel up`, which did not end in order")));
            }
            let message = format!("stack `{}` started with revision {number}", self.revision.stack.stack.name);
            self.note(Level::Info, "stack", "started", message, reasons);
        } else {
            let message = format!("the node process was started again (number {})", self.hello.node_starts);
            let seen = "the former one ended; instances and edge went on without it";
            self.note(Level::Warning, "node", "restarted", message, vec![Reason::seen(seen)]);
        }
    }

    /// Opens the API's socket and, if its address is free, the console.
    fn open_api(&mut self, commands: super::Commands) -> Result<(), NodeError> {
        let tokens = Tokens::open(&self.dir.path("tokens.json"));
        let door = Door::open(&self.dir.path("sessions.json"), tokens.clone());
        door.hosts.set(&self.revision.stack.console.hosts);
        let (journal, logs, history) = (self.journal.clone(), self.logs.clone(), self.history.clone());
        let state = api::Api::new(commands, journal, logs, history, door, self.config.state_dir.clone());
        let path = self.config.runtime_dir.join(crate::CONTROL_SOCKET);
        api::serve_control(&path, state.clone()).map_err(|source| NodeError::Control { path, source })?;
        self.say_damaged(&tokens);
        self.open_console(state);
        Ok(())
    }
}

impl Node {
    /// Says that tokens cannot be read.
    fn say_damaged(&mut self, tokens: &Tokens) {
        if let Err(error) = tokens.list() {
            let problem = format!("{error}: remove the file, and make the tokens anew");
            self.problems.insert("tokens", problem.clone());
            self.note(Level::Error, "node", "token", problem, Vec::new());
        }
    }
}

/// The revision to begin with.
struct Chosen {
    revision: Revision,
    /// Where it is a new one.
    news: Option<News>,
}

/// What became of overrides with a file that was not in force before.
#[derive(Default)]
struct News {
    /// Which release it would have undone.
    stays: Option<String>,
    /// What it takes the place of.
    dropped: Vec<String>,
}

/// A restart goes on with the revision in force; a first start takes the source, as a new revision if it differs.
fn choose_revision(source: &StackSource, dir: &StateDir, first_start: bool) -> Result<Chosen, NodeError> {
    let current = dir.current_revision();
    if !first_start && let Ok(Some(current)) = current {
        return Ok(Chosen { revision: current, news: None });
    }
    let (text, file, folder) = read_source(source)?;
    let read = stack::parse_leniently(&text, &file);
    let (stack, _) = read.map_err(|faults| NodeError::Stack(Box::new(faults)))?;
    let current = current?;
    let same = current.filter(|current| current.text == text && current.dir == folder);
    if let Some(current) = same {
        return Ok(Chosen { revision: current, news: None });
    }
    let Some(current) = dir.current_revision()? else {
        return Ok(Chosen { revision: Revision::new(1, text, file, folder, stack), news: Some(News::default()) });
    };
    let Considered { revision, carried } = considered(&current, &text, &file, folder, stack, false);
    // What was deployed goes on: a start must not undo it, and refusing to start would help nobody.
    let stays = (!carried.undone.is_empty()).then(|| {
        let (what, _) = super::Refused::undo(&carried);
        format!("{file} was not taken whole: {what}; that release stays: `keel apply --reset` lets the file count")
    });
    Ok(Chosen { revision, news: Some(News { stays, dropped: carried.dropped }) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_has_the_form_of_a_commands_error() {
        let taken = NodeError::Listener {
            name: "web".to_owned(),
            address: "127.0.0.1:80".parse().unwrap(),
            why: "`nginx` listens there already".to_owned(),
            fix: "Stop it.".to_owned(),
        };
        let said =
            "error: listener `web` cannot be bound to 127.0.0.1:80: `nginx` listens there already\n    fix: Stop it.";
        assert_eq!(complaint(&taken), said);
    }
}
