//! One instance as the control thread knows it: its checks, what speaks against it, and what was said about it.
//!
//! A member lives as long as its instance, by identity and address; a restarted instance is a new member of
//! which nothing is believed. The control thread owns it. What data threads need to know is in
//! [`InstanceShared`]; everything here only leads to that.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use evenkeel_core::{
    health::{Known, NOT_PASSED, verdict},
    link::{Event, EventKind},
    snapshot::{Check, Duty, Probe, ProxyHeader, Service},
    status::Health,
    time::{Moment, WallTime},
};

use super::{checking::Checking, traffic::Traffic};
use crate::{messages::Failure, probe::Target, shared::InstanceShared};

/// Names a member for as long as the edge lives; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(pub(super) u64);

/// One instance.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) shared: Arc<InstanceShared>,
    pub(super) duty: Duty,
    pub(super) trial: bool,
    pub(super) zone: Option<String>,
    /// The process that was started for it.
    pub(super) pid: Option<u32>,
    pub(super) check: Checking,
    pub(super) liveness: Option<Checking>,
    pub(super) silent: Option<String>,
    /// When its requests were told last to go elsewhere; `None` while it may answer them.
    pub(super) abandoned: Option<Moment>,
    pub(super) ejected: Option<String>,
    /// The last probe got an answer, whatever it said.
    pub(super) answers: bool,
    /// It gets requests although it is not healthy.
    pub(super) enlisted: bool,
    pub(super) traffic: Traffic,
    pub(super) last_failure: Option<Failure>,
    pub(super) drain: Drain,
    /// What was said last.
    pub(super) told: Told,
    /// What its service's connections begin with.
    introduces: Option<ProxyHeader>,
    since: Moment,
    seed: u64,
}

/// A verdict as it was said.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) health: Health,
    pub(super) reason: String,
    pub(super) at: WallTime,
    when: Moment,
}

/// How far a draining instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    /// It serves.
    No,
    /// Views up to this one may still send it requests.
    Since { view: u64 },
    /// One tick found nothing in flight.
    Empty,
    /// `Drained` was said.
    Done,
}

impl Member {
    /// A new instance of which nothing is known.
    pub(super) fn new(shared: Arc<InstanceShared>, service: &Service, at: WallTime, now: Moment) -> Self {
        let mut hasher = DefaultHasher::new();
        shared.id.hash(&mut hasher);
        let seed = hasher.finish();
        let told = Told { health: Health::Unknown, reason: "not probed yet".to_owned(), at, when: now };
        Self {
            duty: Duty::Serve,
            trial: false,
            zone: None,
            pid: None,
            check: Checking::new(service.check.as_ref(), seed, now),
            liveness: service.liveness.as_ref().map(|check| Checking::new(Some(&every_change(check)), seed, now)),
            silent: None,
            abandoned: None,
            ejected: None,
            answers: false,
            enlisted: false,
            traffic: Traffic::new(&shared),
            last_failure: None,
            drain: Drain::No,
            told,
            introduces: service.wire.sends_proxy,
            since: now,
            seed,
            shared,
        }
    }

    /// The service's configuration or the duty may have changed with the view of this number.
    pub(super) fn retune(&mut self, service: &Service, duty: Duty, view: u64, now: Moment) {
        self.introduces = service.wire.sends_proxy;
        self.check.retune(service.check.as_ref(), now);
        match (&mut self.liveness, &service.liveness) {
            (Some(checking), Some(check)) => {
                checking.retune(Some(&every_change(check)), now);
                // Its failures take nobody out here, so they are reported as they are.
                checking.proven();
            }
            (slot, None) => *slot = None,
            (slot, Some(check)) => *slot = Some(Checking::new(Some(&every_change(check)), self.seed, now)),
        }
        self.duty = duty;
        match (duty, self.drain) {
            (Duty::Serve, _) => self.drain = Drain::No,
            (Duty::Drain, Drain::No) => self.drain = Drain::Since { view },
            (Duty::Drain, _) => {}
        }
    }

    /// Everything but ejection speaks for it.
    pub(super) fn is_well(&self) -> bool {
        self.duty == Duty::Serve && self.silent.is_none() && self.check.verdict() == Some(true)
    }

    /// It does not answer, by all that is known.
    pub(super) fn is_mute(&self) -> bool {
        self.silent.is_some() || self.abandoned.is_some() || (self.check.verdict() == Some(false) && !self.answers)
    }

    /// The verdict by everything known now, written where data threads see it. `Some` when it changed;
    /// `because` says why it may have become healthy, and that it then starts slowly.
    pub(super) fn judge(&mut self, because: (Option<&str>, Option<&str>), at: WallTime, now: Moment) -> Option<Event> {
        let (health, reason) = self.verdict();
        if health == self.told.health {
            return None;
        }
        self.shared.set_health(health);
        self.enlisted = false;
        let (because, slowly) = because;
        let mut reason = because.filter(|_| health == Health::Healthy).map_or(reason, str::to_owned);
        if let Some(words) = slowly {
            reason = format!("{reason}; {words}");
        }
        Some(self.say(health, reason, at, now))
    }

    /// Whether data threads send it any.
    pub(super) fn gets_requests(&self) -> bool {
        self.told.health == Health::Healthy || self.enlisted
    }

    /// The verdict by everything known now, and why.
    pub(super) fn verdict(&self) -> (Health, String) {
        let check_reason = self.check.reason();
        verdict(&Known {
            duty: self.duty,
            check: self.check.verdict(),
            check_reason: &check_reason,
            silent: self.silent.as_deref(),
            ejected: self.ejected.as_deref(),
        })
    }

    /// Says something about the verdict that did not change it.
    pub(super) fn remark(&mut self, reason: String, at: WallTime, now: Moment) -> Event {
        self.say(self.told.health, reason, at, now)
    }

    /// Says why an instance still has not passed, when it takes long and the cause is a new one.
    pub(super) fn still_unknown(&mut self, at: WallTime, now: Moment) -> Option<Event> {
        const PATIENCE: Duration = Duration::from_secs(1);
        let cause = self.check.cause();
        let patient = now.since(self.since) < PATIENCE || now.since(self.told.when) < PATIENCE;
        if self.told.health != Health::Unknown || cause.is_empty() || patient || self.told.reason.ends_with(cause) {
            return None;
        }
        let reason = format!("{NOT_PASSED}: {cause}");
        Some(self.remark(reason, at, now))
    }

    fn say(&mut self, health: Health, reason: String, at: WallTime, now: Moment) -> Event {
        self.told = Told { health, reason, at, when: now };
        self.last_word()
    }

    /// What was said last, once more.
    pub(super) fn last_word(&self) -> Event {
        self.event(self.told.at, EventKind::Health { health: self.told.health, reason: self.told.reason.clone() })
    }

    /// An event about this instance; whoever sends it adds the service.
    pub(super) fn event(&self, at: WallTime, what: EventKind) -> Event {
        Event { at, instance: Some(self.shared.id.clone()), service: String::new(), what }
    }

    /// When its next probe is due.
    pub(super) fn due(&self) -> Option<Moment> {
        [self.check.due(), self.liveness.as_ref().and_then(Checking::due)].into_iter().flatten().min()
    }

    /// Probes of a healthy instance are at least so far apart.
    pub(super) fn put_off(&mut self, least: Duration) {
        self.check.put_off(least);
        self.liveness.iter_mut().for_each(|liveness| liveness.put_off(least));
    }

    /// The next probe of its check, or of its liveness check.
    pub(super) fn target(&self, checking: &Checking) -> Target {
        let check = checking.check();
        self.target_of(check.probe.clone(), Duration::from_millis(check.timeout_ms.max(1)))
    }

    /// A probe that any answer passes, if its check asks the application. Connecting would not do, since the kernel of a
    /// frozen process does that.
    pub(super) fn tight_target(&self, timeout: Duration) -> Option<Target> {
        let probe = match self.check.answered() {
            Probe::Http { path, host, .. } => {
                Probe::Http { path: path.clone(), host: host.clone(), status: (100, 999) }
            }
            grpc @ Probe::Grpc { .. } => grpc.clone(),
            Probe::Tcp | Probe::Udp | Probe::Exec { .. } => return None,
        };
        Some(self.target_of(probe, timeout))
    }

    fn target_of(&self, probe: Probe, timeout: Duration) -> Target {
        let (resolved, address) = (self.shared.resolved(), self.shared.address.clone());
        Target { resolved, address, probe, timeout, introduces: self.introduces }
    }

    /// The address to use from now on, if these answers change it: the one in use stays while it is among them.
    pub(super) fn resolves(&self, answers: &[SocketAddr]) -> Option<SocketAddr> {
        let present = self.shared.resolved();
        let stays = present.is_some_and(|present| answers.contains(&present));
        answers.first().copied().filter(|_| !stays)
    }

    /// One look at a draining instance; `applied` is the view that every thread serves. True once, when it has
    /// nothing in flight any more: at two looks in a row, since a thread may have just chosen it.
    pub(super) fn has_drained(&mut self, applied: u64) -> bool {
        let empty = self.shared.in_flight.load(Relaxed) == 0;
        self.drain = match self.drain {
            Drain::Since { view } if empty && applied >= view => Drain::Empty,
            Drain::Empty if empty => Drain::Done,
            Drain::Empty => Drain::Since { view: 0 },
            Drain::No | Drain::Done | Drain::Since { .. } => return false,
        };
        self.drain == Drain::Done
    }
}

/// How long liveness fails is for the node process to measure, so every change is reported.
fn every_change(check: &Check) -> Check {
    Check { rise: 1, fall: 1, ..check.clone() }
}
