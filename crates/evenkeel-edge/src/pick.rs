//! Which instance gets a request now.
//!
//! Only instances that are healthy, on duty and below their bound come into question; those that this request
//! has already tried come last. The algorithms are pure and live in core; here the candidates are gathered and
//! the choice is entered, so that it counts from this moment on.

use std::{
    cell::Cell,
    net::IpAddr,
    rc::Rc,
    sync::atomic::{
        Ordering::{Relaxed, SeqCst},
        fence,
    },
};

use evenkeel_core::{
    balance::{Candidate, Scales, ip_hash, least_connections},
    snapshot::{Balance, Duty},
    status::Health,
};

use crate::{
    clock,
    local::{InstanceLocal, ServiceLocal, Turns},
    shared::InstanceShared,
    thread::Thread,
    view::InstanceView,
};

/// Why nobody can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nobody {
    /// No instance is healthy.
    Healthy,
    /// All healthy ones are at their bound.
    Free,
}

impl Nobody {
    /// In words.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "no instance is healthy",
            Self::Free => "all instances are at their limit",
        }
    }
}

/// Instances that a request has tried; compared, never followed. Later ones push out the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried([*const InstanceShared; 4], usize);

impl Default for Tried {
    fn default() -> Self {
        Self([std::ptr::null(); 4], 0)
    }
}

impl Tried {
    /// Notes a try.
    pub(crate) fn push(&mut self, instance: &InstanceLocal) {
        self.0[self.1 % 4] = std::sync::Arc::as_ptr(&instance.shared);
        self.1 += 1;
    }

    fn has(&self, instance: &InstanceLocal) -> bool {
        self.1 > 0 && self.0.contains(&std::sync::Arc::as_ptr(&instance.shared))
    }
}

/// A request in flight at an instance. Dropping it is what ends it.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) service: Rc<ServiceLocal>,
    pub(crate) instance: Rc<InstanceLocal>,
    /// The instance must still prove itself.
    pub(crate) trial: bool,
    thread: Rc<Thread>,
    waits: Cell<bool>,
    cut_offs: u32,
}

/// Who asks for an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asks<'a> {
    pub(crate) tried: &'a Tried,
    pub(crate) client: IpAddr,
    /// Should it fail, it could be sent elsewhere: an instance on trial may have it.
    pub(crate) movable: bool,
}

/// Which zone comes into question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    Any,
    Preferred,
    Others,
}

/// Chooses an instance and enters the request there.
pub(crate) fn pick(thread: &Rc<Thread>, service: &Rc<ServiceLocal>, asks: Asks<'_>) -> Result<Flight, Nobody> {
    let zone = zone(service);
    let chosen = {
        let turns = &mut *service.turns.borrow_mut();
        let mut chosen = choose_among(turns, service, zone, asks);
        if asks.tried.1 > 0 {
            // Another zone rather than whoever was tried; if nobody else is left, one that was tried may have recovered.
            let anew = Asks { tried: &Tried::default(), ..asks };
            chosen = chosen.or_else(|| choose_among(turns, service, Zone::Any, asks));
            chosen = chosen.or_else(|| choose_among(turns, service, zone, anew));
        }
        chosen
    };
    match chosen {
        Some(place) => Flight::enter(thread, service, place).ok_or(Nobody::Free),
        None if has_healthy(service) => Err(Nobody::Free),
        None => Err(Nobody::Healthy),
    }
}

/// The preferred zone while somebody in it is healthy, unless the service is to stay away from it and can.
fn zone(service: &ServiceLocal) -> Zone {
    let config = service.config();
    if config.prefer.is_none() {
        return Zone::Any;
    }
    let healthy = |preferred| {
        let mut places = service.view().instances.iter().enumerate();
        places.any(|(place, instance)| instance.preferred == preferred && serves(service, place))
    };
    if config.away && healthy(false) {
        Zone::Others
    } else if healthy(true) {
        Zone::Preferred
    } else {
        Zone::Any
    }
}

/// Whether this request has tried every healthy instance, and there is at least one.
pub(crate) fn all_tried(service: &ServiceLocal, tried: &Tried) -> bool {
    let mut serving = (0..service.instances.len()).filter(|&place| serves(service, place)).peekable();
    serving.peek().is_some() && serving.all(|place| tried.has(&service.instances[place]))
}

/// Whether some instance of the service could serve if it were below its bound. A page always can.
pub(crate) fn has_healthy(service: &ServiceLocal) -> bool {
    service.config().page.is_some() || (0..service.instances.len()).any(|place| serves(service, place))
}

fn serves(service: &ServiceLocal, place: usize) -> bool {
    service.view().instances[place].duty == Duty::Serve && service.instances[place].shared.health() == Health::Healthy
}

/// Whether another instance than this one is healthy and has proven itself.
pub(crate) fn has_proven_other(service: &ServiceLocal, instance: &InstanceLocal) -> bool {
    let other = |place: usize| !std::ptr::eq(&raw const *service.instances[place], instance);
    let mut places = (0..service.instances.len()).filter(|&place| other(place) && serves(service, place));
    places.any(|place| !service.view().instances[place].trial)
}

/// Whether nothing is known yet of some instance that should serve: it may be healthy in a moment.
pub(crate) fn awaits_probe(service: &ServiceLocal) -> bool {
    let mut serving = service.view().instances.iter().filter(|instance| instance.duty == Duty::Serve);
    serving.any(|instance| instance.shared.health() == Health::Unknown && !instance.shared.was_probed())
}

fn choose_among(turns: &mut Turns, service: &ServiceLocal, zone: Zone, asks: Asks<'_>) -> Option<usize> {
    gather(&mut turns.candidates, service, zone, asks.tried);
    if service.view().trials {
        return choose_with_trials(turns, service, asks);
    }
    choose(service.config().balance, turns, asks.client)
}

/// Instances on trial get no more than their share, and those that are sheltered nothing that could not be sent elsewhere,
/// unless there is nobody else.
fn choose_with_trials(turns: &mut Turns, service: &ServiceLocal, asks: Asks<'_>) -> Option<usize> {
    let (balance, instances) = (service.config().balance, &service.view().instances);
    let mut scales = Scales::default();
    for (candidate, instance) in turns.candidates.iter().zip(instances).filter(|(candidate, _)| candidate.open) {
        let (weight, in_flight) = (u64::from(candidate.weight), u64::from(candidate.in_flight));
        scales.weight += weight;
        scales.in_flight += in_flight;
        if instance.trial {
            scales.trial_weight += weight;
            scales.trial_in_flight += in_flight;
        }
    }
    if scales.trial_weight == 0 || scales.trial_weight == scales.weight {
        return choose(balance, turns, asks.client);
    }
    let takes = |instance: &InstanceView| instance.trial && (asks.movable || !instance.sheltered);
    let close = |turns: &mut Turns, closes: &dyn Fn(&InstanceView) -> bool| {
        let those = turns.candidates.iter_mut().zip(instances).filter(|(_, instance)| closes(instance));
        those.for_each(|(candidate, _)| candidate.open = false);
    };
    let might = turns.candidates.iter().zip(instances).any(|(candidate, instance)| candidate.open && takes(instance));
    if might && turns.trial.earns(scales) {
        let chosen = if balance == Balance::IpHash {
            // Only clients that it would have anyway: the others stay where they are.
            choose(balance, turns, asks.client).filter(|&place| takes(&instances[place]))
        } else {
            // The turns of the others are not disturbed: theirs go on with the next request.
            close(turns, &|instance| !takes(instance));
            least_connections(&turns.candidates, turns.next)
        };
        if chosen.is_some() {
            turns.trial.spend();
            return chosen;
        }
    }
    close(turns, &|instance| instance.trial);
    choose(balance, turns, asks.client)
}

fn gather(candidates: &mut Vec<Candidate>, service: &ServiceLocal, zone: Zone, tried: &Tried) {
    let limit = service.config().limits.in_flight_per_instance;
    candidates.clear();
    candidates.extend(service.instances.iter().zip(&service.view().instances).enumerate().map(
        |(place, (one, view))| {
            let in_flight = one.shared.in_flight.load(Relaxed);
            let here = zone == Zone::Any || view.preferred == (zone == Zone::Preferred);
            let open = here && serves(service, place) && (limit == 0 || in_flight < limit) && !tried.has(one);
            Candidate { key: one.key, weight: view.weight, in_flight, open }
        },
    ));
}

fn choose(balance: Balance, turns: &mut Turns, client: IpAddr) -> Option<usize> {
    match balance {
        Balance::RoundRobin => turns.round_robin.choose(&turns.candidates),
        Balance::WeightedRoundRobin => turns.weighted.choose(&turns.candidates),
        Balance::LeastConnections => {
            turns.next = turns.next.wrapping_add(1);
            least_connections(&turns.candidates, turns.next)
        }
        Balance::IpHash | Balance::Random | Balance::PowerOfTwo | Balance::Maglev | Balance::ConsistentHash => {
            ip_hash(&turns.candidates, client)
        }
    }
}

impl Flight {
    /// `None` if other threads have filled the instance meanwhile.
    fn enter(thread: &Rc<Thread>, service: &Rc<ServiceLocal>, place: usize) -> Option<Self> {
        let instance = &service.instances[place];
        let limit = service.config().limits.in_flight_per_instance;
        let before = instance.shared.in_flight.fetch_add(1, Relaxed);
        if limit > 0 && before >= limit {
            instance.shared.in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        let cell = instance.cell();
        cell.tries.add(1);
        cell.in_flight.add(1);
        let flight = Self {
            service: Rc::clone(service),
            instance: Rc::clone(instance),
            trial: service.view().instances[place].trial,
            thread: Rc::clone(thread),
            waits: Cell::new(false),
            cut_offs: instance.shared.cut_offs.load(Relaxed),
        };
        flight.set_waiting(true);
        Some(flight)
    }

    /// Whether the instance is to answer now. It is not while the client still sends, and not once its answer has begun:
    /// nothing that it does not say then speaks against it.
    pub(crate) fn set_waiting(&self, waits: bool) {
        if self.waits.replace(waits) == waits {
            return;
        }
        let cell = self.instance.cell();
        let waiting = cell.waiting.get();
        if !waits {
            cell.waiting.set(waiting.saturating_sub(1));
            return;
        }
        if waiting == 0 {
            cell.busy_since_ms.set(clock::millis(self.thread.now()));
        }
        cell.waiting.add(1);
    }

    /// The instance cut this try off, or the stream or tunnel that had become of it. Returns whether no other request was
    /// there to be the cause: none is in flight now, and no other was cut off meanwhile.
    pub(crate) fn cut_off(&self) -> bool {
        let others = self.instance.shared.cut_offs.fetch_add(1, Relaxed).wrapping_sub(self.cut_offs);
        others == 0 && self.instance.shared.in_flight.load(Relaxed) <= 1
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.set_waiting(false);
        self.instance.shared.in_flight.fetch_sub(1, Relaxed);
        let cell = self.instance.cell();
        cell.in_flight.set(cell.in_flight.get().saturating_sub(1));
        let shared = &self.service.view().shared;
        if self.service.config().limits.in_flight_per_instance > 0 {
            // Either this sees who is held, or who is held sees the slot.
            fence(SeqCst);
            if shared.holding.load(Relaxed) > 0 {
                crate::hold::slot_free(&self.thread, shared);
            }
        }
    }
}
