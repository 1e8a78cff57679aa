//! Instances: feeding their supervisors and doing what those say.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::Arc,
};

use evenkeel_core::{
    guard::Order,
    journal::{Level, Reason},
    supervise::{Event, Memory, Output, Policy, Supervisor},
    time::Moment,
};

use super::{
    Node,
    slot::{Slot, Verdict, parse_key, policy},
};
use crate::{clock, launch::Launch, ports};

/// Service and number.
pub(super) type Place = (String, u32);

impl Node {
    /// Instances of a service, by number.
    pub(super) fn slots_of(&self, service: &str) -> impl Iterator<Item = &Slot> {
        self.slots.range((service.to_owned(), 0)..=(service.to_owned(), u32::MAX)).map(|(_, slot)| slot)
    }

    /// When something is due next.
    pub(super) fn deadline(&self) -> Moment {
        let supervisors = self.slots.values().filter_map(|slot| slot.supervisor.deadline(&self.policy_of(slot)));
        supervisors
            .chain(self.shutdown_deadline())
            .chain(self.deploys_deadline())
            .chain(self.scale_deadline())
            .chain(self.pauses_deadline())
            .chain(self.console_deadline())
            .chain(self.ports_deadline())
            .chain(self.names_deadline())
            .chain(self.unserved_deadline())
            .chain(self.checks_deadline())
            .chain(self.drills_deadline())
            .chain([self.measure_deadline()])
            .fold(self.vital_deadline(), Moment::min)
    }

    /// Lets every supervisor whose time has come act.
    pub(super) fn tick(&mut self) {
        let now = self.clock.now();
        let due = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.supervisor.deadline(&self.policy_of(slot)).is_some_and(|at| at <= now));
        for place in due.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
            self.feed(&place, Event::Tick);
        }
    }

    /// The settings in force for an instance: those of the stack, or those it was started with where its service
    /// is gone.
    pub(super) fn policy_of(&self, slot: &Slot) -> Policy {
        let current = self.revision.stack.services.get(&slot.service).filter(|service| service.is_run());
        let settings = policy(current.unwrap_or_else(|| slot.launch.service()));
        Policy { stance: self.stance(&slot.service), drained: slot.drained, ..settings }
    }

    /// Gives an instance's supervisor an event and carries out what it says.
    pub(super) fn feed(&mut self, place: &Place, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(slot) = self.slots.get(place) else { return };
            let (policy, before) = (self.policy_of(slot), slot.supervisor.memory().clone());
            let now = self.clock.now();
            let slot = self.slots.get_mut(place).expect("it was there just now");
            let outputs = slot.supervisor.on(&policy, event, now);
            let spawns = outputs.contains(&Output::Spawn);
            for output in outputs {
                events.extend(self.carry_out(place, output));
            }
            let Some(slot) = self.slots.get(place) else { return };
            // A start has kept its record already, before the order was given.
            if !spawns && *slot.supervisor.memory() != before {
                self.keep_record(place, true);
            }
        }
    }

    /// Does one thing; what comes of it at once is another event.
    fn carry_out(&mut self, place: &Place, output: Output) -> Option<Event> {
        let slot = self.slots.get(place)?;
        let key = slot.key();
        match output {
            Output::Spawn => return self.spawn(place).err().map(|reason| Event::NotStarted { reason }),
            Output::Stop { grace } => {
                let signal = slot.launch.service().stop.signal_number();
                let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                self.give(&Order::Stop { key, signal, grace_ms });
            }
            Output::Kill => self.give(&Order::Kill { key }),
            Output::Forget => self.give(&Order::Forget { key }),
            Output::Gone => {
                let name = slot.name();
                self.keep_record(place, false);
                self.slots.remove(place);
                self.forget_drain(&name);
            }
            Output::Record(decision) => self.journal.decision(&slot.name(), decision),
        }
        None
    }

    /// Starts a process. An error says why it could not even be asked for.
    fn spawn(&mut self, place: &Place) -> Result<(), String> {
        self.refresh_secrets_of(&place.0);
        let taken: BTreeSet<u16> =
            self.slots.iter().filter(|(at, _)| *at != place).map(|(_, slot)| slot.port).collect();
        let slot = self.slots.get_mut(place).expect("only an instance that exists is started");
        if slot.port == 0 || taken.contains(&slot.port) || !ports::is_free(slot.port) {
            slot.port = ports::allot(&taken).ok_or("every port for instances is in use")?;
        }
        slot.verdict = Verdict::default();
        slot.check_saw.clear();
        slot.not_live = false;
        slot.adopted = false;
        slot.drained_from = None;
        slot.launch = Arc::new(Launch::clone(&slot.launch).with_secrets(&self.secrets));
        let spec = slot.launch.spec(&slot.service, &slot.name(), slot.port, &self.secrets);
        let (name, key, port) = (slot.name(), slot.key(), slot.port);
        let generation = slot.supervisor.memory().generation;
        // Kept first: should we die now, the successor knows whose process it finds.
        self.keep_record(place, true);
        let spec = spec.map_err(|error| error.to_string())?;
        self.let_into_release(&place.0, &self.slots[place].launch)?;
        let program = spec.argv.first().cloned().unwrap_or_default();
        self.orders
            .give(&Order::Spawn { key, spec })
            .map_err(|error| format!("command and environment are too large for the guard: {error}"))?;
        let message = format!("starting `{program}` on port {port}, generation {generation}");
        self.note(Level::Info, &name, "starting", message, Vec::new());
        Ok(())
    }

    /// Creates an instance that starts at the next tick.
    pub(super) fn create(&mut self, service: &str, number: u32, launch: Arc<Launch>, reasons: Vec<Reason>) {
        let place = (service.to_owned(), number);
        let known = self.dir.record(service, number);
        let (generation, port) = known.map_or((0, 0), |record| (record.generation, record.port));
        let memory = Memory { generation: generation.max(self.generation_of_strays(&place)), ..Memory::default() };
        let drained = self.is_drained(&format!("{service}/{number}"));
        let slot = Slot {
            service: service.to_owned(),
            number,
            launch,
            revision: self.revision.number,
            port,
            supervisor: Supervisor::new(memory, self.clock.now()),
            pid: None,
            started: None,
            last_exit: None,
            verdict: Verdict::default(),
            check_saw: String::new(),
            not_live: false,
            adopted: false,
            drained_from: None,
            drained,
        };
        self.note(Level::Info, &slot.name(), "created", "created", reasons);
        self.slots.insert(place, slot);
    }

    /// The newest generation of processes under this name that are not ours and may still be ending: their keys
    /// are taken.
    pub(super) fn generation_of_strays(&self, (service, number): &Place) -> u64 {
        let keys = self.strays.iter().filter_map(|key| parse_key(key));
        let same = keys.filter(|(name, of, _)| name == service && of == number);
        same.map(|(_, _, generation)| generation).max().unwrap_or(0)
    }

    /// Keeps an instance's record.
    pub(super) fn keep_record(&mut self, place: &Place, active: bool) {
        let Some(slot) = self.slots.get(place) else { return };
        let wait = slot.supervisor.start_due().map(|at| at.since(self.clock.now())).filter(|wait| !wait.is_zero());
        match self.dir.save_record(&slot.record(active, wait.map(clock::wall_in))) {
            Ok(()) => {
                self.problems.remove("records");
            }
            Err(error) => self.record_failed(&error),
        }
    }

    pub(super) fn record_failed(&mut self, error: &io::Error) {
        let problem = format!(
            "records of instances cannot be kept ({error}): a restart of the node process would start them anew"
        );
        if self.problems.insert("records", problem.clone()).is_none() {
            self.note(Level::Error, "node", "records", problem, Vec::new());
        }
    }

    /// Gives an order that always fits into a packet.
    pub(super) fn give(&self, order: &Order) {
        if let Err(error) = self.orders.give(order) {
            tracing::error!(%error, ?order, "an order was not sent");
        }
    }
}
