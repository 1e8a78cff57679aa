//! Falling back and returning, on the side that decides about the return.
//!
//! The edge falls back by itself and says so. Here is kept, also over restarts, which services are away from what
//! they prefer; the snapshot tells the edge to stay there until the return is due. Whether it is due is decided by
//! the core, from the wall time and from what an operator ordered.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    away::{Away, Decision, Event},
    journal::{Level, Reason},
    pause::Stance,
    stack::{Return, Service},
    status::{AwayStatus, Health},
    time::Moment,
};

use super::{Node, publish::fixed_id};
use crate::clock::wall_now;

/// How often is looked whether a return is due.
const EVERY: Duration = Duration::from_secs(1);

/// The file of who is away, in the state directory.
const FILE: &str = "away.json";

/// Services that fell back.
#[derive(Debug, Default)]
pub(super) struct Aways {
    services: BTreeMap<String, Away>,
    /// Services of which the journal says already that they would return.
    would: BTreeMap<String, bool>,
    /// Who answers in place of what a service prefers, as the journal says already: the edge repeats what it said to
    /// every node process that it meets.
    told: BTreeMap<String, String>,
    next: Moment,
}

impl Aways {
    /// What a former process kept in this state directory.
    pub(super) fn restore(dir: &crate::state_dir::StateDir) -> Self {
        let services: BTreeMap<String, Away> = dir.read_json(&dir.path(FILE)).unwrap_or_default();
        let told = services.iter().filter_map(|(name, away)| Some((name.clone(), away.fell_back()?.to.clone())));
        Self { told: told.collect(), services, ..Self::default() }
    }
}

impl Node {
    /// The edge said that a service fell back. Whether that is news.
    pub(super) fn fell_back(&mut self, service: &str, to: &str) -> bool {
        // Where it was seen at home since then, it fell back once more, though no edge has said that it returned.
        let stayed = self.aways.services.get(service).and_then(Away::fell_back).is_some_and(|known| known.to == to);
        self.away_on(service, Event::FellBack { to: to.to_owned() });
        let told = self.aways.told.insert(service.to_owned(), to.to_owned()).is_some_and(|told| told == to);
        !(stayed && told)
    }

    /// The edge said that a service uses what it prefers again. Whether that is news.
    pub(super) fn came_back(&mut self, service: &str) -> bool {
        self.away_on(service, Event::Returned);
        self.aways.told.remove(service).is_some()
    }

    /// `keel resume SERVICE`: lets a service return that is away, and says what follows. `None` where there is nothing
    /// to return from.
    pub(super) fn return_home(&mut self, service: &str, who: &str) -> Option<String> {
        if !self.is_away(service) {
            return None;
        }
        self.away_on(service, Event::Resume { by: who.to_owned() });
        Some(format!("{service} returns to what it prefers as soon as that is healthy"))
    }

    /// Whether the edge must not return by itself.
    pub(super) fn is_away(&self, service: &str) -> bool {
        let away = self.aways.services.get(service);
        away.is_some_and(|away| away.is_away(self.returns_now(service), wall_now()))
    }

    /// Who answers in place of what a service prefers, and until when.
    pub(super) fn away_status(&self, service: &str) -> Option<AwayStatus> {
        let away = self.aways.services.get(service)?;
        let fell_back = away.fell_back()?;
        let returns = self.returns(service);
        let until = match returns {
            _ if away.is_ordered_home() => "as soon as what is preferred is healthy".to_owned(),
            Return::AtOnce => "as soon as what is preferred is healthy".to_owned(),
            Return::ByHand => format!("by `keel resume {service}`"),
            Return::Within(window) => format!("within {window} (UTC), or by `keel resume {service}`"),
        };
        let stays = away.is_away(returns, wall_now());
        Some(AwayStatus { to: fell_back.to.clone(), since: fell_back.since, stays, returns: until })
    }

    /// What needs attention: that something else answers.
    pub(super) fn away_problem(&self, service: &str) -> Option<String> {
        let AwayStatus { to, since, returns, .. } = self.away_status(service)?;
        Some(format!("{service}: {to} answers in its place since {since}; it returns {returns}"))
    }

    /// Looks whether returns are due.
    pub(super) fn look_for_returns(&mut self) {
        let now = self.clock.now();
        if self.aways.services.is_empty() || self.aways.next > now {
            return;
        }
        self.aways.next = now + EVERY;
        for service in self.aways.services.keys().cloned().collect::<Vec<_>>() {
            // One that has nothing to fall back to any more has nothing to return from either.
            let away_from = |service: &&Service| service.fallback.is_some() || service.prefer.is_some();
            let Some(settings) = self.revision.stack.services.get(&service).filter(away_from) else {
                self.aways.services.remove(&service);
                self.keep_aways();
                continue;
            };
            let preferred_healthy = self.preferred_is_healthy(&service, settings);
            self.say_would_return(&service, preferred_healthy);
            self.away_on(&service, Event::Look { preferred_healthy });
        }
    }

    fn away_on(&mut self, service: &str, event: Event) {
        let returns = self.returns_now(service);
        let before = self.aways.services.get(service).cloned().unwrap_or_default();
        let mut away = before.clone();
        let decision = away.on(returns, event, wall_now());
        if away != before {
            if away == Away::default() {
                self.aways.services.remove(service);
                self.aways.would.remove(service);
            } else {
                self.aways.services.insert(service.to_owned(), away);
            }
            self.keep_aways();
        }
        if let Some(Decision { kind, message, reasons }) = decision {
            let level = if kind == "returning" { Level::Info } else { Level::Warning };
            self.note(level, service, kind, message, reasons);
        }
    }

    /// When this service returns, by the stack file.
    fn returns(&self, service: &str) -> Return {
        self.revision.stack.services.get(service).and_then(|service| service.returns).unwrap_or_default()
    }

    /// The same, but where nothing is decided without an order no window opens.
    fn returns_now(&self, service: &str) -> Return {
        match self.returns(service) {
            Return::Within(_) if self.stance(service) != Stance::Act => Return::ByHand,
            returns => returns,
        }
    }

    fn preferred_is_healthy(&self, name: &str, service: &Service) -> bool {
        let own = self.staying(name).any(|slot| slot.verdict.health == Health::Healthy);
        let preferred = |zone: &Option<String>| service.prefer.is_none() || *zone == service.prefer;
        let fixed = service.fixed().iter().filter(|fixed| preferred(&fixed.zone)).any(|fixed| {
            let verdict = self.edge.fixed.get(&fixed_id(name, &fixed.address).name);
            verdict.is_some_and(|verdict| verdict.health == Health::Healthy)
        });
        own || fixed
    }

    /// Under observation a return that would be due is written down once.
    fn say_would_return(&mut self, service: &str, preferred_healthy: bool) {
        let returns = self.returns(service);
        let due = self.stance(service) == Stance::Observe
            && preferred_healthy
            && self.aways.services.get(service).is_some_and(|away| !away.is_away(returns, wall_now()));
        let said = self.aways.would.insert(service.to_owned(), due).unwrap_or(false);
        if due && !said && matches!(returns, Return::Within(_)) {
            let reasons = vec![
                Reason::seen(format!("something that is preferred is healthy, and it is {returns} (UTC)")),
                Reason::ruled_out("doing it: `stack.mode` is \"observe\""),
            ];
            self.note(Level::Info, service, "would-return", "would return to what it prefers", reasons);
        }
    }

    fn keep_aways(&mut self) {
        match self.dir.write_json(FILE, &self.aways.services) {
            Ok(()) => {
                self.problems.remove("away");
            }
            Err(error) => {
                let problem = format!("that services fell back cannot be kept on disk ({error})");
                self.problems.insert("away", problem);
            }
        }
    }
}
