//! Taking over what is there: sockets that the guard holds, and processes that it started for a predecessor or adopted
//! from a former guard.
//!
//! A process is ours if its record says so: same instance, same generation. Any other is killed, since nothing is
//! known of what it was started from. An instance whose record says that it exists, but that has no process, waits
//! for its start as if its process had just ended.

use std::{collections::BTreeMap, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use evenkeel_core::{
    guard::Order,
    journal::{Level, Reason},
    stack::Stack,
    supervise::{Event, Supervisor},
    time::Moment,
};

use super::{
    Node,
    apply::Bound,
    inventory::Process,
    slot::{Slot, Verdict, parse_key, policy},
};
use crate::{
    NodeError,
    clock::wall_now,
    launch::Launch,
    listeners::{self, Activated, Kind},
    state_dir::Record,
    users,
};

/// How long after a failure to bind it is tried again.
const BIND_AGAIN: Duration = Duration::from_millis(50);

/// A held socket's key, and where it is bound; `None` where it is not one that could be asked.
type Held = (String, Option<(SocketAddr, Kind)>);

impl Node {
    /// Takes over what the guard holds, binds what the stack wants beside, and releases what nobody wants any more.
    pub(super) fn adopt_listeners(
        &mut self,
        mut held: BTreeMap<String, OwnedFd>,
        patience: Duration,
    ) -> Result<(), NodeError> {
        self.activated = Activated::take(&mut held);
        let mut found: BTreeMap<String, Vec<Held>> = BTreeMap::new();
        for (key, socket) in &held {
            if let Some((name, _)) = listeners::parse_key(key) {
                found.entry(name.to_owned()).or_default().push((key.clone(), listeners::bound_at(socket)));
            }
        }
        drop(held);
        let mut missing = Missing::new();
        for (name, held) in found {
            missing.extend(self.adopt_listener(&name, held)?);
        }
        for (name, address, number, socket) in missing {
            let order = Order::Hold { key: listeners::key(&name, number) };
            self.orders.give_with(&order, socket).expect("a short order fits into a packet");
            self.listeners.insert(name, address);
        }
        let stack = self.revision.stack.clone();
        let bound = self.bind_patiently(&stack, patience)?;
        self.hold_listeners(bound);
        let wanted = |address, kind| {
            stack.listeners.values().any(|listener| listener.bind == address && Kind::of(listener) == kind)
        };
        for address in self.activated.unwanted(wanted) {
            let message = format!("a listening socket was handed over for {address}, which no listener asks for");
            let reasons = vec![Reason::rule("sockets are matched to listeners by the address in `bind`")];
            self.note(Level::Warning, "listeners", "activated", message, reasons);
        }
        Ok(())
    }

    /// Binds what is missing. An address that is taken is tried again for a while: the threads of a killed edge end one
    /// after the other, and only the last one closes the sockets. Nothing else could be done meanwhile.
    fn bind_patiently(&self, stack: &Stack, patience: Duration) -> Result<Bound, NodeError> {
        let deadline = self.clock.now() + patience;
        loop {
            match self.bind_missing(stack) {
                Err(NodeError::Listener { .. }) if self.clock.now() < deadline => std::thread::sleep(BIND_AGAIN),
                result => return result,
            }
        }
    }

    /// Goes on with the sockets held for one listener, by key and where they listen. There may be more or fewer than
    /// threads, where a service manager kept them for us since a start with another number; those that are missing
    /// are returned. A surplus is released, since nobody would accept from it.
    fn adopt_listener(&mut self, name: &str, held: Vec<Held>) -> Result<Missing, NodeError> {
        let listener = self.revision.stack.listeners.get(name);
        let (wanted, kind) = (listener.map(|listener| listener.bind), listener.map_or(Kind::Stream, Kind::of));
        let alike = |bound: Option<(SocketAddr, Kind)>| bound.filter(|(_, of)| *of == kind).map(|(address, _)| address);
        let addresses: Option<Vec<SocketAddr>> = held.iter().map(|(_, bound)| alike(*bound)).collect();
        let Some(addresses) = addresses.filter(|bound| wanted.is_some_and(|wanted| serves(wanted, bound))) else {
            if wanted.is_none() {
                self.note(Level::Info, &format!("listeners.{name}"), "released", "not listening any more", Vec::new());
            }
            // Where it is wanted elsewhere, it is bound there under the same keys.
            for (key, _) in held {
                self.give(&Order::Release { key });
            }
            return Ok(Missing::new());
        };
        let address = addresses[0];
        let (mut free, mut surplus): (Vec<u16>, Vec<String>) = ((0..self.threads).collect(), Vec::new());
        for (key, _) in held {
            match listeners::parse_key(&key).map(|(_, thread)| thread).filter(|thread| *thread < self.threads) {
                Some(thread) => free.retain(|free| *free != thread),
                None => surplus.push(key),
            }
        }
        let sockets = match self.activated.at((address, kind), self.threads) {
            Some(sockets) => {
                sockets.map_err(|source| NodeError::System { what: "a socket cannot be shared", source })?
            }
            None => listeners::bind_more(name, (address, kind), free.len())?,
        };
        for key in surplus {
            self.give(&Order::Release { key });
        }
        self.listeners.insert(name.to_owned(), address);
        Ok(free.into_iter().zip(sockets).map(|(thread, socket)| (name.to_owned(), address, thread, socket)).collect())
    }

    /// Makes slots of records and processes.
    pub(super) fn adopt_processes(&mut self, processes: Vec<Process>) {
        let fresh = self.hello.node_starts == 0;
        let mut records: BTreeMap<(String, u32), Record> = BTreeMap::new();
        for record in self.dir.records() {
            records.insert((record.service.clone(), record.number), record);
        }
        for process in processes {
            if self.end_check_of_former(&process) {
                continue;
            }
            let Some(process) = self.adopt_before(process) else { continue };
            let place =
                parse_key(&process.key).map(|(service, number, generation)| ((service.to_owned(), number), generation));
            let ours = place.and_then(|(place, generation)| {
                let record = records.get(&place)?;
                (record.active && record.generation == generation).then(|| records.remove(&place)).flatten()
            });
            match ours {
                Some(record) => self.adopt(record, process),
                None => self.refuse_process(process),
            }
        }
        for record in records.into_values().filter(|record| record.active).collect::<Vec<_>>() {
            // A new guard has adopted whatever outlived the former one, so what else these records tell of is over.
            if fresh {
                self.say_lost(&record);
            }
            let launch = self.launch_of(&record).filter(|_| !fresh);
            if record.leaving.is_none()
                && let Some(launch) = launch
            {
                let mut memory = record.memory();
                let place = (record.service.clone(), record.number);
                memory.generation = memory.generation.max(self.generation_of_strays(&place));
                let supervisor = Supervisor::new(memory, self.clock.now()).not_before(self.start_due(&record, &launch));
                self.insert_slot(record, launch, supervisor);
            } else if let Err(error) = self.dir.save_record(&Record { active: false, ..record }) {
                self.record_failed(&error);
            }
        }
    }

    fn adopt(&mut self, record: Record, process: Process) {
        let Some(launch) = self.launch_of(&record) else {
            return self.refuse_process(process);
        };
        self.secrets.mask_values_of(process.pid, launch.service());
        let started = self.clock.moment_of_process(process.pid, process.started);
        let supervisor = Supervisor::adopt(record.memory(), started, &policy(launch.service()), self.clock.now());
        let place = self.insert_slot(record, launch, supervisor);
        let slot = self.slots.get_mut(&place).expect("it was inserted just now");
        slot.started = Some(process.started);
        slot.pid = process.exit.is_none().then_some(process.pid);
        let name = slot.name();
        if let Some(bytes) = process.adopted.filter(|bytes| *bytes > 0) {
            self.say_dropped(&name, bytes);
        }
        if let Some(pipe) = process.pipe {
            self.logs.attach(&name, pipe);
        }
        let who = if process.adopted.is_some() { "`keel up`" } else { "the node process" };
        match process.exit {
            Some(status) => {
                if process.adopted.is_some() {
                    let message = format!("its process {} ended while there was no `keel up`: {status}", process.pid);
                    self.note(Level::Warning, &name, "ended-alone", message, Vec::new());
                }
                self.ended(&place, status, 0);
            }
            None => self.note(
                Level::Info,
                &name,
                "adopted",
                format!("its process {} went on while {who} was started again", process.pid),
                Vec::new(),
            ),
        }
    }

    /// Says that an instance is gone of which nobody can tell more.
    fn say_lost(&self, record: &Record) {
        let name = format!("{}/{}", record.service, record.number);
        let message = "its process ended while there was no `keel up`; how is not known".to_owned();
        let reasons = vec![Reason::seen("nobody outlived it who could tell, as after a restart of the machine")];
        self.note(Level::Warning, &name, "ended-alone", message, reasons);
    }

    /// Says in its log and in the journal that output of an instance is missing.
    fn say_dropped(&self, name: &str, bytes: u64) {
        let message = format!("{bytes} bytes of output were dropped here: there was no `keel up` to read them");
        self.logs.say(name, &format!("keel: {message}"));
        let reasons = vec![Reason::rule("an instance never waits for whoever reads its output")];
        self.note(Level::Warning, name, "output-dropped", message, reasons);
    }

    /// When an instance without a process may start: what was left of its delay, which a step of the wall clock
    /// cannot make longer than any delay is.
    fn start_due(&self, record: &Record, launch: &Launch) -> Moment {
        let left_ms = record.start_due.map_or(0, |due| due.as_millis().saturating_sub(wall_now().as_millis()));
        self.clock.now() + Duration::from_millis(left_ms).min(policy(launch.service()).max_delay)
    }

    fn insert_slot(&mut self, record: Record, launch: Arc<Launch>, supervisor: Supervisor) -> (String, u32) {
        let place = (record.service.clone(), record.number);
        let drained = self.is_drained(&format!("{}/{}", record.service, record.number));
        let slot = Slot {
            service: record.service,
            number: record.number,
            launch,
            revision: record.revision,
            port: record.port,
            supervisor,
            pid: None,
            started: None,
            last_exit: record.last_exit,
            verdict: Verdict::default(),
            check_saw: String::new(),
            not_live: false,
            adopted: true,
            drained_from: None,
            drained,
        };
        self.slots.insert(place.clone(), slot);
        place
    }

    /// What a recorded instance was started from: the revision in force if it is the same, else a former one.
    fn launch_of(&self, record: &Record) -> Option<Arc<Launch>> {
        let from = |stack: &Stack, dir: &std::path::Path| {
            let launch = stack.services.get(&record.service).and_then(|service| Launch::new(service, dir));
            launch.map(|launch| launch.with_secrets(&self.secrets))
        };
        let current = from(&self.revision.stack, &self.revision.dir);
        if current.as_ref().is_some_and(|launch| launch.digest == record.digest) {
            return current.map(Arc::new);
        }
        let former = self.dir.revision(record.revision);
        former.and_then(|former| from(&former.stack, &former.dir)).or(current).map(|launch| {
            // Whatever it is made of now, it is what the record says as far as a rollout is concerned.
            Arc::new(launch.known_as(&record.digest))
        })
    }

    fn refuse_process(&mut self, process: Process) {
        if process.exit.is_some() {
            return self.give(&Order::Forget { key: process.key });
        }
        let message = format!("process {} (`{}`) is not known and was killed", process.pid, process.key);
        let reasons = vec![Reason::seen("no record says what it was started from")];
        self.note(Level::Warning, "node", "stray", message, reasons);
        self.give(&Order::Kill { key: process.key.clone() });
        self.strays.insert(process.key);
    }

    /// Takes the event of an end, from the guard or found at the start.
    pub(super) fn ended(&mut self, place: &(String, u32), status: evenkeel_core::status::ExitStatus, leftovers: u32) {
        let lack = self.for_lack_of_memory(place, status);
        let check_saw = self.slots.get(place).map(|slot| self.with_elsewhere(slot, &slot.check_saw));
        if let Some(slot) = self.slots.get_mut(place) {
            slot.pid = None;
            // Without the reason a kill of ours looks like one of the system's.
            let seen = match check_saw.as_deref().unwrap_or_default() {
                saw if !slot.supervisor.memory().ready && !saw.is_empty() => format!("; its check saw: {saw}"),
                _ => String::new(),
            };
            let why = slot.supervisor.killed().map(|why| format!(", {why}{seen}"));
            let why = why.or_else(|| lack.map(|lack| format!(", {lack}")));
            slot.last_exit = Some(format!("{status}{}", why.unwrap_or_default()));
            slot.verdict = Verdict::default();
        }
        self.feed(place, Event::Exited { status, leftovers });
    }
}

/// Refuses a service that wants a user which it cannot have.
pub(super) fn check_users(stack: &Stack) -> Result<(), NodeError> {
    for (name, service) in &stack.services {
        let Some(user) = &service.user else { continue };
        users::resolve(user).map_err(|error| NodeError::User {
            service: name.clone(),
            user: user.clone(),
            why: error.to_string(),
            fix: error.fix(),
        })?;
    }
    Ok(())
}

/// Sockets for threads that have none: listener, address, thread.
type Missing = Vec<(String, SocketAddr, u16, OwnedFd)>;

/// Whether sockets at these addresses are what the stack asks for; port 0 asks for any port.
fn serves(wanted: SocketAddr, bound: &[SocketAddr]) -> bool {
    let Some(first) = bound.first() else { return false };
    let port = if wanted.port() == 0 { first.port() } else { wanted.port() };
    bound.iter().all(|bound| *bound == SocketAddr::new(wanted.ip(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_sockets_serve_what_is_wanted() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(serves(at("127.0.0.1:80"), &[at("127.0.0.1:80"), at("127.0.0.1:80")]));
        assert!(serves(at("127.0.0.1:0"), &[at("127.0.0.1:81"), at("127.0.0.1:81")]));
        assert!(!serves(at("127.0.0.1:0"), &[at("127.0.0.1:81"), at("127.0.0.1:82")]));
        assert!(!serves(at("127.0.0.1:80"), &[at("0.0.0.0:80")]));
        assert!(!serves(at("127.0.0.1:80"), &[]));
    }
}
