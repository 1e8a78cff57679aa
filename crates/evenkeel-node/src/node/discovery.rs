//! Instances by a name: asks the system's resolver again and again, and lets core say what the answers mean.
//!
//! The system's resolver (`getaddrinfo(3)`) and no other: what `/etc/hosts`, `nsswitch.conf` and search domains say is
//! what every other program on this machine goes by. It does not tell how long an answer is good for, so it is asked
//! every `every`. A question may hang for long, so it is asked on a thread of its own, and few at once. What was found
//! is in every snapshot, and from there a restart knows it again.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    discovery::{Change, Discovery},
    journal::{Level, Reason},
    overrides::Drained,
    snapshot::{Duty, Instance, Snapshot},
    stack::{Dns, Service, Stack},
    status::{DnsStatus, Health, InstanceId},
    time::{Moment, WallTime},
    why,
};
use tokio::sync::{Semaphore, mpsc};

use super::{Node, found::Found, publish::fixed_id};
use crate::clock::wall_now;

/// A question that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// How long until a name without any good answer so far is asked for again.
const FIRST: Duration = Duration::from_millis(500);

/// What is known of the names of all services.
#[derive(Debug)]
pub(super) struct Names {
    of: BTreeMap<String, Name>,
    found: mpsc::Sender<Found>,
    room: Arc<Semaphore>,
}

/// The name of one service.
#[derive(Debug)]
struct Name {
    dns: Dns,
    discovery: Discovery,
    /// Addresses that are to finish what they have, and until when at most.
    leaving: BTreeMap<SocketAddr, Moment>,
    /// When it is asked for next.
    next: Moment,
    running: bool,
    answered: bool,
    /// When this process heard its last good answer.
    good: Option<WallTime>,
}

impl Names {
    /// Begins with what the last snapshot of a former life had. `drained`: by operators.
    pub(super) fn restore(
        stack: &Stack,
        former: Option<&Snapshot>,
        drained: &BTreeMap<String, Drained>,
        now: Moment,
        found: mpsc::Sender<Found>,
    ) -> Self {
        let of_name = |name: &str, dns: &Dns| {
            let addresses = former.map(|former| addresses_in(former, name, drained)).unwrap_or_default();
            Name::new(dns, Discovery::of_former(addresses, now), now)
        };
        let named = stack.services.iter().filter_map(|(name, service)| Some((name, service.dns()?)));
        let of = named.map(|(name, dns)| (name.clone(), of_name(name, dns))).collect();
        Self { of, found, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Goes by this stack from now on. What stood in the file before, as `served` has it, stays until a name that
    /// takes its place has a good answer.
    fn follow(&mut self, stack: &Stack, served: &Snapshot, drained: &BTreeMap<String, Drained>, now: Moment) {
        self.of.retain(|name, _| stack.services.get(name).is_some_and(|service| service.dns().is_some()));
        for (service, dns) in stack.services.iter().filter_map(|(name, service)| Some((name, service.dns()?))) {
            let name = self.of.entry(service.clone());
            let name = name.or_insert_with(|| {
                let mut discovery = Discovery::of_former(addresses_in(served, service, drained), now);
                discovery.rename();
                Name::new(dns, discovery, now)
            });
            if name.dns != *dns {
                if name.dns.dns != dns.dns {
                    name.discovery.rename();
                }
                (name.dns, name.next) = (dns.clone(), now);
            }
        }
    }

    /// Asks for the names whose time has come.
    fn ask(&mut self, now: Moment) {
        for (service, name) in self.of.iter_mut().filter(|(_, name)| !name.running && name.next <= now) {
            name.running = true;
            name.next = now + if name.answered { Duration::from_millis(name.dns.every.as_ms()) } else { FIRST };
            let (dns, room, found) = (name.dns.dns.clone(), Arc::clone(&self.room), self.found.clone());
            let service = service.clone();
            tokio::spawn(async move {
                let answer = tokio::time::timeout(TIMEOUT, look_up_elsewhere(dns.clone(), room)).await;
                let answer = answer.unwrap_or_else(|_| Err("the resolver did not answer in time".to_owned()));
                // Nobody listens any more only when this process ends.
                let _ = found.send(Found::Resolved { service, dns, answer }).await;
            });
        }
    }
}

impl Name {
    fn new(dns: &Dns, discovery: Discovery, now: Moment) -> Self {
        let answered = discovery.addresses().next().is_some();
        Self { dns: dns.clone(), discovery, leaving: BTreeMap::new(), next: now, running: false, answered, good: None }
    }

    fn status(&self) -> DnsStatus {
        DnsStatus {
            name: self.dns.dns.clone(),
            answered: self.good,
            addresses: u32::try_from(self.discovery.addresses().count()).unwrap_or(u32::MAX),
            failing: self.discovery.failing().map(str::to_owned),
        }
    }
}

/// The addresses of a service's instances in a snapshot, where something else runs them, apart from those that leave.
fn addresses_in(snapshot: &Snapshot, name: &str, drained: &BTreeMap<String, Drained>) -> Vec<SocketAddr> {
    let instances = snapshot.services.iter().filter(|service| service.name == name).flat_map(|of| &of.instances);
    let stays =
        |one: &&Instance| one.id.generation == 0 && (one.duty == Duty::Serve || drained.contains_key(&one.id.name));
    instances.filter(stays).filter_map(|one| one.address.parse().ok()).collect()
}

async fn look_up_elsewhere(dns: String, room: Arc<Semaphore>) -> Result<Vec<SocketAddr>, String> {
    let room = room.acquire_owned().await.map_err(|error| error.to_string())?;
    let asked = tokio::task::spawn_blocking(move || {
        let found = look_up(&dns);
        drop(room);
        found
    });
    let answer = asked.await.map_err(|error| error.to_string())?;
    answer.map_err(|error| {
        // The resolver's own words without what wraps them.
        let text = error.to_string();
        text.rsplit(": ").next().unwrap_or(&text).to_lowercase()
    })
}

/// Asks the system's resolver for `name:port`.
#[cfg(not(test))]
fn look_up(dns: &str) -> io::Result<Vec<SocketAddr>> {
    dns.to_socket_addrs().map(Iterator::collect)
}

/// The same, but that names below `.test` have what a test says.
#[cfg(test)]
fn look_up(dns: &str) -> io::Result<Vec<SocketAddr>> {
    if dns.contains(".test:") { super::tests::answer(dns) } else { dns.to_socket_addrs().map(Iterator::collect) }
}

impl Node {
    /// Asks for what is due, and lets go of whom nobody needs any more.
    pub(super) fn discover(&mut self) {
        let now = self.clock.now();
        self.follow_names();
        if self.names.of.is_empty() {
            self.problems.remove("dns");
            return;
        }
        self.names.ask(now);
        let fixed = &self.edge.fixed;
        for (service, name) in &mut self.names.of {
            name.leaving.retain(|address, until| {
                let verdict = fixed.get(&fixed_id(service, &address.to_string()).name);
                let busy = verdict.is_none_or(|verdict| verdict.health != Health::Draining || verdict.in_flight > 0);
                now < *until && busy
            });
        }
        self.say_names();
    }

    /// Goes by the revision in force. To be called before it is published: the last snapshot of the former one says who
    /// served until now.
    pub(super) fn follow_names(&mut self) {
        let now = self.clock.now();
        self.names.follow(&self.revision.stack, &self.snapshot, &self.revision.overrides.drained, now);
    }

    /// When something is due next.
    pub(super) fn names_deadline(&self) -> Option<Moment> {
        let names = self.names.of.values();
        let asking = names.clone().filter(|name| !name.running).map(|name| name.next);
        asking.chain(names.flat_map(|name| name.leaving.values().copied())).min()
    }

    /// An answer came.
    pub(super) fn resolved(&mut self, service: &str, dns: &str, answer: Result<Vec<SocketAddr>, String>) {
        let now = self.clock.now();
        let drain = self.revision.stack.services.get(service).map_or(0, |service| service.stop.drain.as_ms());
        let Some(name) = self.names.of.get_mut(service) else { return };
        name.running = false;
        if name.dns.dns != dns {
            return;
        }
        name.answered |= answer.is_ok();
        if answer.as_ref().is_ok_and(|found| !found.is_empty()) {
            name.good = Some(wall_now());
        }
        let keep = Duration::from_millis(name.dns.keep.as_ms());
        let why_gone = if name.discovery.is_renamed() {
            format!("{dns}, which is asked from now on, does not have its address")
        } else {
            format!("no answer for {dns} has named it for {}", name.dns.keep)
        };
        let changes = name.discovery.answer(answer, keep, now);
        for change in &changes {
            match change {
                Change::New(address) => drop(name.leaving.remove(address)),
                Change::Gone(address) => drop(name.leaving.insert(*address, now + Duration::from_millis(drain))),
                Change::Fails { .. } | Change::Answers | Change::TooMany { .. } => {}
            }
        }
        let keeps = name.discovery.addresses().count();
        for change in changes {
            self.say_change(service, dns, change, keeps, &why_gone);
        }
    }

    fn say_change(&mut self, service: &str, dns: &str, change: Change, keeps: usize, why_gone: &str) {
        match change {
            Change::New(address) => {
                let id = fixed_id(service, &address.to_string());
                let reasons = vec![
                    Reason::seen(format!("{dns} has the address {}", address.ip())),
                    Reason::rule("it gets requests once a probe has passed"),
                ];
                self.note(Level::Info, &id.name, "found", "another instance", reasons);
            }
            Change::Gone(address) => {
                let id = fixed_id(service, &address.to_string());
                let reasons =
                    vec![Reason::seen(why_gone), Reason::rule("it finishes its requests and gets no new ones")];
                self.note(Level::Warning, &id.name, "left", "no instance any more", reasons);
                self.forget_drain(&id.name);
            }
            Change::Fails { cause } => {
                let stays =
                    if keeps > 0 { "the last good answer stays in use" } else { "there was no good answer yet" };
                let reasons = vec![Reason::seen(cause), Reason::rule(stays)];
                self.note(Level::Warning, service, "dns-fails", format!("{dns} does not resolve"), reasons);
            }
            Change::Answers => {
                self.note(Level::Info, service, "dns-answers", format!("{dns} resolves again"), Vec::new());
            }
            Change::TooMany { left_out } => {
                let reasons =
                    vec![Reason::rule(format!("a name has at most {} instances", evenkeel_core::discovery::MOST))];
                let message = format!("{left_out} addresses of {dns} are left out");
                self.note(Level::Warning, service, "dns-many", message, reasons);
            }
        }
    }

    /// What an operator should know of names, as long as it lasts.
    fn say_names(&mut self) {
        let faults = self.names.of.iter().filter_map(|(service, name)| {
            let (n, left_out) = (name.discovery.addresses().count(), name.discovery.left_out());
            match why::unresolved(&name.status()).filter(|_| name.discovery.failing().is_some()) {
                Some(unresolved) => Some(format!("{service}: {unresolved}")),
                None if left_out == 0 => None,
                None => {
                    let all = n + left_out;
                    Some(format!("{service}: {} has {all} addresses; {left_out} are left out", name.dns.dns))
                }
            }
        });
        let problem = faults.collect::<Vec<_>>().join("; ");
        if problem.is_empty() {
            self.problems.remove("dns");
        } else {
            self.problems.insert("dns", problem);
        }
    }

    /// What the resolver said about a service's name.
    pub(super) fn dns_status(&self, service: &str) -> Option<DnsStatus> {
        self.names.of.get(service).map(Name::status)
    }

    /// Whether the name of a service has any instances.
    pub(super) fn has_named(&self, service: &str) -> bool {
        self.names.of.get(service).is_some_and(|name| name.discovery.addresses().next().is_some())
    }

    /// An instance has finished what it had: one that leaves is gone.
    pub(super) fn has_left(&mut self, id: &InstanceId) {
        let Some((service, address)) = id.name.split_once('/') else { return };
        if let (Some(name), Ok(address)) = (self.names.of.get_mut(service), address.parse()) {
            name.leaving.remove(&address);
        }
    }

    /// The instances that a name has now, and those that leave.
    pub(super) fn instances_by_name(&self, service: &str) -> Vec<Instance> {
        let Some(name) = self.names.of.get(service) else { return Vec::new() };
        let serving = name.discovery.addresses().map(|address| (address, None));
        let leaving = name.leaving.keys().map(|address| (*address, Some(Duty::Drain)));
        let instance = |(address, duty): (SocketAddr, Option<Duty>)| {
            let id: InstanceId = fixed_id(service, &address.to_string());
            let duty = duty.unwrap_or_else(|| self.fixed_duty(&id.name));
            Instance { duty, ..Instance::new(id, address.to_string()) }
        };
        serving.chain(leaving).map(instance).collect()
    }

    /// The addresses of a service's instances that something else runs, whether the file lists them or a name has them.
    pub(super) fn addresses_of(&self, name: &str, service: &Service) -> Vec<String> {
        let listed = service.fixed().iter().map(|fixed| fixed.address.clone());
        listed.chain(self.instances_by_name(name).into_iter().map(|instance| instance.address)).collect()
    }
}
