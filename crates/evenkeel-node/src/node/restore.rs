//! Taking over what is there: sockets that the guard holds, and processes that it started for a predecessor.
//!
//! A process is ours if its record says so: same instance, same generation. Any other is killed, since nothing is
//! known of what it was started from. An instance whose record says that it exists, but that has no process, waits
//! for its start as if its process had just ended.

use std::{collections::BTreeMap, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use evenkeel_core::{
    guard::Order,
    journal::{Level, Reason},
    stack::Stack,
    supervise::{Event, Supervisor},
};

use super::{
    Node,
    inventory::Process,
    slot::{Slot, Verdict, parse_key, policy},
};
use crate::{NodeError, launch::Launch, listeners, state_dir::Record, users};

impl Node {
    /// Binds what the stack wants and the guard does not hold yet, and releases what nobody wants any more.
    pub(super) fn adopt_listeners(&mut self, held: BTreeMap<String, OwnedFd>) -> Result<(), NodeError> {
        let mut found: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
        for (key, socket) in &held {
            if let (Some((name, _)), Ok(address)) = (listeners::parse_key(key), listeners::address_of(socket)) {
                found.entry(name.to_owned()).or_default().push(address);
            }
        }
        for (name, addresses) in found {
            let wanted = self.revision.stack.listeners.get(&name).map(|listener| listener.bind);
            let complete = addresses.len() == usize::from(self.threads);
            if complete && wanted.is_some_and(|wanted| serves(wanted, &addresses)) {
                self.listeners.insert(name, addresses[0]);
            } else if wanted.is_none() {
                self.release_listener(&name);
            }
        }
        drop(held);
        let stack = self.revision.stack.clone();
        let bound = self.bind_missing(&stack)?;
        self.hold_listeners(bound);
        Ok(())
    }

    /// Makes slots of records and processes.
    pub(super) fn adopt_processes(&mut self, processes: Vec<Process>) {
        let fresh = self.hello.node_starts == 0;
        let mut records: BTreeMap<(String, u32), Record> = BTreeMap::new();
        for record in self.dir.records() {
            records.insert((record.service.clone(), record.number), record);
        }
        for process in processes {
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
        // A new guard has started nothing yet, so whatever these records tell of is over.
        let without_process = records.into_values().filter(|record| record.active && !fresh);
        for record in without_process.collect::<Vec<_>>() {
            let launch = self.launch_of(&record);
            if record.leaving.is_none()
                && let Some(launch) = launch
            {
                let mut memory = record.memory();
                let place = (record.service.clone(), record.number);
                memory.generation = memory.generation.max(self.generation_of_strays(&place));
                let supervisor = Supervisor::new(memory, self.clock.now());
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
        let started = self.clock.moment_of(process.started);
        let supervisor = Supervisor::adopt(record.memory(), started, &policy(launch.service()), self.clock.now());
        let place = self.insert_slot(record, launch, supervisor);
        let slot = self.slots.get_mut(&place).expect("it was inserted just now");
        slot.started = Some(process.started);
        slot.pid = process.exit.is_none().then_some(process.pid);
        let name = slot.name();
        if let Some(pipe) = process.pipe {
            self.logs.attach(&name, pipe);
        }
        match process.exit {
            Some(status) => self.ended(&place, status, 0),
            None => self.note(
                Level::Info,
                &name,
                "adopted",
                format!("its process {} went on while the node process was started again", process.pid),
                Vec::new(),
            ),
        }
    }

    fn insert_slot(&mut self, record: Record, launch: Arc<Launch>, supervisor: Supervisor) -> (String, u32) {
        let place = (record.service.clone(), record.number);
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
            not_live: false,
            adopted: true,
            drained_from: None,
        };
        self.slots.insert(place.clone(), slot);
        place
    }

    /// What a recorded instance was started from: the revision in force if it is the same, else a former one.
    fn launch_of(&self, record: &Record) -> Option<Arc<Launch>> {
        let from = |stack: &Stack, dir: &std::path::Path| {
            stack.services.get(&record.service).and_then(|service| Launch::new(service, dir))
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
        if let Some(slot) = self.slots.get_mut(place) {
            slot.pid = None;
            // Without the reason a kill of ours looks like one of the system's.
            let why = slot.supervisor.killed().map(|why| format!(", {why}"));
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
