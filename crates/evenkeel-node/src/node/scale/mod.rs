//! Elastic scaling at work: once a second each elastic service is observed, and the core's controller says how many
//! instances are wanted. The rollout does the rest.
//!
//! What is wanted is kept on disk, so that a node process that was started again under load does not fall back to
//! `min`. A service that stands at zero is looked at whenever the edge counts, since its first request waits. A
//! decision is taken only where decisions are carried out; under observation it is written down instead. Nothing here
//! starts or stops an instance.

mod backlog;
mod cpu;
mod observe;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evenkeel_core::{
    journal::{Level, Reason},
    pause::Stance,
    scale::{Decision, Kind, Scaler},
    stack::{Elastic, Replicas, Service},
    status::ScalingStatus,
    time::Moment,
};

use self::{backlog::Asker, cpu::Meter, observe::Gauge};
use super::Node;

/// How often a service is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The file of what is wanted, in the state directory.
const FILE: &str = "scale.json";

/// All elastic services.
#[derive(Debug)]
pub(super) struct Scaling {
    services: BTreeMap<String, Controlled>,
    /// As on disk.
    kept: BTreeMap<String, u32>,
    /// When to look again.
    next: Moment,
    /// The counters that were looked at.
    updates: u64,
}

/// One elastic service.
#[derive(Debug)]
struct Controlled {
    scaler: Scaler,
    gauge: Gauge,
    meter: Meter,
    asker: Option<Asker>,
    /// What was decided last, as one sentence.
    last: Option<String>,
    /// What would have been decided, as said last.
    would: Option<u32>,
    looked: Moment,
}

impl Scaling {
    /// Begins with what a former process wanted.
    pub(super) fn new(kept: BTreeMap<String, u32>) -> Self {
        Self { services: BTreeMap::new(), kept, next: Moment::ORIGIN, updates: 0 }
    }

    /// What a former process kept in this state directory.
    pub(super) fn restore(dir: &crate::state_dir::StateDir) -> Self {
        Self::new(dir.read_json(&dir.path(FILE)).unwrap_or_default())
    }
}

impl Node {
    /// Looks at every elastic service whose time has come.
    pub(super) fn scale_services(&mut self) {
        let now = self.clock.now();
        self.meet_elastic_services(now);
        let counted = self.traffic.updates() != self.scaling.updates;
        if counted {
            self.scaling.updates = self.traffic.updates();
            self.gauge_all();
        }
        let due = self.scaling.next <= now;
        if due {
            self.scaling.next = now + EVERY;
            // What could not be written a while ago perhaps can be now.
            self.keep_wanted();
        }
        let at_zero = |controlled: &Controlled| counted && controlled.scaler.wanted() == 0;
        let services = self.scaling.services.iter().filter(|(_, controlled)| due || at_zero(controlled));
        for name in services.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.scale_service(&name, now);
        }
    }

    /// When to look again; `None` without elastic services.
    pub(super) fn scale_deadline(&self) -> Option<Moment> {
        (!self.scaling.services.is_empty()).then_some(self.scaling.next)
    }

    /// How many instances of a service are wanted now.
    pub(super) fn wanted(&self, name: &str, service: &Service) -> u32 {
        match &service.replicas {
            Replicas::Fixed(count) => *count,
            Replicas::Elastic(elastic) => match self.scaling.services.get(name) {
                Some(controlled) => controlled.scaler.wanted(),
                None => self.first_wanted(name, elastic),
            },
        }
    }

    /// What `status` shows of a service's scaling; `None` where the stack file asks for none.
    pub(super) fn scaling_status(&self, name: &str, service: &Service) -> Option<ScalingStatus> {
        let declared = self.revision.declared.services.get(name)?.replicas.elastic()?;
        let controlled = self.scaling.services.get(name);
        let last = controlled.and_then(|controlled| controlled.last.clone());
        let outlook = controlled.map(|controlled| controlled.scaler.outlook().join("; ")).unwrap_or_default();
        Some(ScalingStatus {
            min: declared.min,
            max: declared.max,
            pinned: service.replicas.elastic().is_none(),
            reason: last.unwrap_or(outlook),
        })
    }

    /// How many instances the load asks for and who answers in place of what is preferred: lines below the sentence
    /// that says how a service is.
    pub(super) fn standing_of(&self, name: &str) -> String {
        let controlled = self.scaling.services.get(name);
        let elastic = controlled.and_then(|controlled| {
            let settings = self.revision.stack.services.get(name)?.replicas.elastic()?;
            let outlook = controlled.scaler.outlook().join("; ");
            Some(format!("\nelastic, from {} to {} instances: {outlook}", settings.min, settings.max))
        });
        let away = self.away_problem(name).map(|problem| format!("\n{problem}"));
        [elastic, away].into_iter().flatten().collect()
    }

    /// Begins and ends controllers as services become elastic and cease to be.
    fn meet_elastic_services(&mut self, now: Moment) {
        let elastic = |service: &Service| service.replicas.elastic().cloned();
        let services = self.revision.stack.services.iter();
        let elastic: Vec<(String, Elastic)> =
            services.filter_map(|(name, service)| Some((name.clone(), elastic(service)?))).collect();
        let known = self.scaling.services.len();
        for (name, settings) in &elastic {
            if !self.scaling.services.contains_key(name) {
                let wanted = self.first_wanted(name, settings);
                self.scaling.services.insert(name.clone(), Controlled::new(wanted, now));
            }
            let controlled = self.scaling.services.get_mut(name).expect("it is there or was inserted just now");
            controlled.ask(settings);
        }
        if known != elastic.len() || self.scaling.services.len() != elastic.len() {
            let names: BTreeSet<&String> = elastic.iter().map(|(name, _)| name).collect();
            self.scaling.services.retain(|name, _| names.contains(name));
            self.keep_wanted();
        }
    }

    /// Where a controller begins: with what is known from before, or with what is there.
    fn first_wanted(&self, name: &str, settings: &Elastic) -> u32 {
        let there = || u32::try_from(self.staying(name).count()).unwrap_or(u32::MAX);
        self.scaling.kept.get(name).copied().unwrap_or_else(there).clamp(settings.min, settings.max)
    }

    fn scale_service(&mut self, name: &str, now: Moment) {
        let Some(settings) = self.revision.stack.services.get(name).and_then(|s| s.replicas.elastic()).cloned() else {
            return;
        };
        let seen = self.observe_load(name, now);
        let controlled = self.scaling.services.get_mut(name).expect("its name comes from there");
        controlled.looked = now;
        let Some(decision) = controlled.scaler.on(&settings, &seen, now) else {
            controlled.would = None;
            return;
        };
        // Other bounds were put into the file by somebody: that is an order, and carried out whatever is paused.
        let ordered = !(settings.min..=settings.max).contains(&decision.from);
        let stance = if ordered { Stance::Act } else { self.stance(name) };
        self.act_on(name, &decision, stance, now);
    }

    fn act_on(&mut self, name: &str, decision: &Decision, stance: Stance, now: Moment) {
        let controlled = self.scaling.services.get_mut(name).expect("its name comes from there");
        let Decision { kind, to, message, reasons, .. } = decision.clone();
        match (kind, stance) {
            (Kind::Limited, _) => {
                controlled.last = Some(message.clone());
                self.note(Level::Warning, name, kind.as_str(), message, reasons);
            }
            (_, Stance::Act) => {
                controlled.scaler.take(decision, now);
                controlled.would = None;
                let why = reasons.first().map(|reason| format!(": {}", reason.text)).unwrap_or_default();
                controlled.last = Some(format!("{message}{why}"));
                self.note(Level::Info, name, kind.as_str(), message, reasons);
                self.keep_wanted();
            }
            (_, Stance::Observe) => {
                if controlled.would.replace(to) != Some(to) {
                    let mut reasons = reasons;
                    reasons.push(Reason::ruled_out("doing it: `stack.mode` is \"observe\""));
                    self.note(Level::Info, name, "would-scale", format!("would decide: {message}"), reasons);
                }
            }
            (_, Stance::Paused) => {}
        }
    }

    fn keep_wanted(&mut self) {
        let wanted: BTreeMap<String, u32> =
            self.scaling.services.iter().map(|(name, controlled)| (name.clone(), controlled.scaler.wanted())).collect();
        if wanted == self.scaling.kept {
            return;
        }
        match self.dir.write_json(FILE, &wanted) {
            Ok(()) => {
                self.problems.remove("scale");
                self.scaling.kept = wanted;
            }
            Err(error) => {
                let problem = format!("how many instances are wanted cannot be kept on disk ({error})");
                self.problems.insert("scale", problem);
            }
        }
    }
}

impl Controlled {
    fn new(wanted: u32, now: Moment) -> Self {
        Self {
            scaler: Scaler::new(wanted, now),
            gauge: Gauge::default(),
            meter: Meter::default(),
            asker: None,
            last: None,
            would: None,
            looked: now,
        }
    }

    /// Has the backlog asked for, where the settings name one.
    fn ask(&mut self, settings: &Elastic) {
        let wanted = settings.target.backlog.as_ref();
        if self.asker.as_ref().map(Asker::settings) != wanted {
            self.asker = wanted.cloned().map(Asker::start);
        }
    }
}
