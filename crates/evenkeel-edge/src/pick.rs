//! Which instance gets a request now.
//!
//! Only instances that are healthy, on duty and below their bound come into question; those that this request
//! has already tried come last. The algorithms are pure and live in core; here the candidates are gathered and
//! the choice is entered, so that it counts from this moment on.

use std::{
    net::IpAddr,
    rc::Rc,
    sync::atomic::{
        Ordering::{Relaxed, SeqCst},
        fence,
    },
};

use evenkeel_core::{
    balance::{Candidate, ip_hash, least_connections},
    snapshot::{Balance, Duty},
    status::Health,
};

use crate::{
    clock,
    local::{InstanceLocal, ServiceLocal, Turns},
    shared::InstanceShared,
    thread::Thread,
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
    thread: Rc<Thread>,
}

/// Chooses an instance and enters the request there.
pub(crate) fn pick(
    thread: &Rc<Thread>,
    service: &Rc<ServiceLocal>,
    tried: &Tried,
    client: IpAddr,
) -> Result<Flight, Nobody> {
    let chosen = {
        let mut turns = service.turns.borrow_mut();
        gather(&mut turns.candidates, service, tried);
        let balance = service.config().balance;
        choose(balance, &mut turns, client).or_else(|| {
            if tried.1 == 0 {
                return None;
            }
            // Nobody else is left: one that was tried may have recovered.
            gather(&mut turns.candidates, service, &Tried::default());
            choose(balance, &mut turns, client)
        })
    };
    match chosen {
        Some(place) => Flight::enter(thread, service, &service.instances[place]).ok_or(Nobody::Free),
        None if has_healthy(service) => Err(Nobody::Free),
        None => Err(Nobody::Healthy),
    }
}

/// Whether this request has tried every healthy instance, and there is at least one.
pub(crate) fn all_tried(service: &ServiceLocal, tried: &Tried) -> bool {
    let mut serving = (0..service.instances.len()).filter(|&place| serves(service, place)).peekable();
    serving.peek().is_some() && serving.all(|place| tried.has(&service.instances[place]))
}

/// Whether some instance of the service could serve if it were below its bound.
pub(crate) fn has_healthy(service: &ServiceLocal) -> bool {
    (0..service.instances.len()).any(|place| serves(service, place))
}

fn serves(service: &ServiceLocal, place: usize) -> bool {
    service.view().instances[place].duty == Duty::Serve && service.instances[place].shared.health() == Health::Healthy
}

fn gather(candidates: &mut Vec<Candidate>, service: &ServiceLocal, tried: &Tried) {
    let limit = service.config().limits.in_flight_per_instance;
    candidates.clear();
    candidates.extend(service.instances.iter().enumerate().map(|(place, instance)| {
        let in_flight = instance.shared.in_flight.load(Relaxed);
        let open = serves(service, place) && (limit == 0 || in_flight < limit) && !tried.has(instance);
        Candidate { key: instance.key, weight: service.view().instances[place].weight, in_flight, open }
    }));
}

fn choose(balance: Balance, turns: &mut Turns, client: IpAddr) -> Option<usize> {
    match balance {
        Balance::RoundRobin => turns.round_robin.choose(&turns.candidates),
        Balance::WeightedRoundRobin => turns.weighted.choose(&turns.candidates),
        Balance::LeastConnections => {
            turns.next = turns.next.wrapping_add(1);
            least_connections(&turns.candidates, turns.next)
        }
        Balance::IpHash => ip_hash(&turns.candidates, client),
    }
}

impl Flight {
    /// `None` if other threads have filled the instance meanwhile.
    fn enter(thread: &Rc<Thread>, service: &Rc<ServiceLocal>, instance: &Rc<InstanceLocal>) -> Option<Self> {
        let limit = service.config().limits.in_flight_per_instance;
        let before = instance.shared.in_flight.fetch_add(1, Relaxed);
        if limit > 0 && before >= limit {
            instance.shared.in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        let cell = instance.cell();
        cell.tries.add(1);
        if cell.in_flight.get() == 0 {
            cell.busy_since_ms.set(clock::millis(thread.now()));
        }
        cell.in_flight.add(1);
        Some(Self { service: Rc::clone(service), instance: Rc::clone(instance), thread: Rc::clone(thread) })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
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
