//! The world as `status` and `/metrics` show it.

use std::time::Duration;

use evenkeel_core::{
    link::InstanceCounters,
    snapshot::Protocol,
    stack::{self, Service, Stack},
    status::{
        Basis, EdgeStatus, Health, InstanceId, InstanceStatus, ListenerStatus, Phase, ProcessStatus, ServiceStatus,
        Status,
    },
    why,
};

use super::{Node, measuring, publish::fixed_id, slot::Slot};
use crate::{
    metrics::{InstanceSample, Scrape},
    traffic::Sums,
    words::counted,
};

/// Lines of output shown of an instance that keeps failing.
const LAST_LINES: usize = 20;

/// How long lost lines of output are a problem that somebody should look at.
const DROPS_MATTER_FOR: Duration = Duration::from_mins(5);

impl Node {
    /// Everything at once.
    pub(super) fn status(&self) -> Status {
        let stack = &self.revision.stack;
        let totals = self.traffic.totals();
        let datagrams = stack::led_to(stack, Protocol::Udp);
        let of_service = |(name, service): (&String, &Service)| {
            let sums = totals.services.get(name);
            let udp = sums.map(Sums::udp).unwrap_or_default();
            let udp = (datagrams.contains(name.as_str()) || udp.sessions > 0).then_some(udp);
            ServiceStatus { udp, ..self.service_status(name, service, sums) }
        };
        let services: Vec<ServiceStatus> = stack.services.iter().map(of_service).collect();
        Status {
            stack: stack.stack.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.revision.number,
            since: self.hello.since,
            guard: ProcessStatus { pid: self.hello.guard_pid, restarts: 0 },
            node: ProcessStatus { pid: std::process::id(), restarts: self.hello.node_starts },
            edge: self.edge.pid.map(|pid| EdgeStatus {
                pid,
                restarts: self.edge.starts,
                snapshot: self.snapshot.version,
                applied: self.edge.applied,
                reported: Some(self.traffic.newest()).filter(|newest| newest.pid == pid).map(|newest| newest.snapshot),
                connections: self.traffic.newest().connections,
            }),
            listeners: self
                .listeners
                .iter()
                .map(|(name, address)| ListenerStatus {
                    name: name.clone(),
                    address: address.to_string(),
                    protocol: stack.listeners.get(name).map(|listener| listener.protocol).unwrap_or_default(),
                })
                .collect(),
            console: self.console.address().map(|address| address.to_string()),
            problems: self.problems_of(stack, &services),
            overrides: self.revision.overrides.in_words(&self.revision.declared),
            proofs: self.scheduled.proofs.get(),
            services,
        }
    }

    fn service_status(&self, name: &str, service: &Service, sums: Option<&Sums>) -> ServiceStatus {
        let sums = sums.cloned().unwrap_or_default();
        let rates = self.traffic.rates(name, self.clock.now());
        let addresses = self.addresses_of(name, service);
        let fixed = addresses.iter().map(|address| self.fixed_status(&fixed_id(name, address), address));
        let run = self.slots_of(name).map(|slot| self.slot_status(slot));
        let instances: Vec<InstanceStatus> = fixed.chain(run).collect();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let status = ServiceStatus {
            name: name.to_owned(),
            replicas: if service.is_run() { self.wanted(name, service) } else { count(addresses.len()) },
            healthy: count(instances.iter().filter(|instance| instance.health == Health::Healthy).count()),
            requests_per_s: rates.requests_per_s,
            requests: sums.requests(),
            errors: sums.errors(),
            p50_ms: rates.p50_ms,
            p99_ms: rates.p99_ms,
            retries: sums.retries,
            held: sums.held,
            holding: self.holding(name),
            page: service.page.is_some(),
            fallback: service.fallback.clone().filter(|fallback| self.can_answer(fallback)),
            rollout: self.rollouts.get(name).cloned(),
            hands_off: self.hands_off(name),
            release: self.revision.overrides.release(name).map(|release| release.number),
            deploy: self.deploy_status(name),
            scaling: self.scaling_status(name, service),
            away: self.away_status(name),
            short: self.edge.short.get(name).cloned(),
            dns: self.dns_status(name),
            stuck: None,
            udp: None,
            objective: self.objective_status(name),
            instances,
        };
        ServiceStatus { stuck: self.stuck(&status), ..status }
    }

    /// Why nobody of a service is healthy, where there was time enough.
    fn stuck(&self, service: &ServiceStatus) -> Option<String> {
        let unnamed = service.dns.as_ref().is_some_and(|dns| dns.addresses == 0 && dns.failing.is_some());
        let for_long = self.unserved.for_long(&service.name) && service.healthy == 0;
        let unknown = || "nothing is known of its instances".to_owned();
        (unnamed || for_long).then(|| why::cause(service).unwrap_or_else(unknown))
    }

    /// Requests that the edge holds now.
    fn holding(&self, service: &str) -> u64 {
        let counted = &self.traffic.newest().services;
        counted.iter().find(|counted| counted.name == service).map_or(0, |counted| counted.holding)
    }

    /// Whether a service has somebody to answer for it, be it its own fallback.
    fn can_answer(&self, name: &str) -> bool {
        let mut next = Some(name);
        // As many steps as there are services end every chain, also one that a file could not have.
        for _ in 0..self.revision.stack.services.len() {
            let Some((name, service)) = next.and_then(|name| Some((name, self.revision.stack.services.get(name)?)))
            else {
                return false;
            };
            if service.page.is_some() || !self.healthy_instances(name).is_empty() {
                return true;
            }
            next = service.fallback.as_deref();
        }
        false
    }

    fn slot_status(&self, slot: &Slot) -> InstanceStatus {
        let memory = slot.supervisor.memory();
        let phase = slot.supervisor.phase();
        let stuck = || health_of(slot) == Health::Unknown && self.unserved.for_long(&slot.service);
        let failing = phase == Phase::GaveUp || memory.fruitless > 0 && phase != Phase::Running || stuck();
        InstanceStatus {
            name: slot.name(),
            generation: memory.generation,
            revision: Some(slot.revision),
            pid: slot.pid,
            address: format!("127.0.0.1:{}", slot.port),
            health: health_of(slot),
            reason: self.with_elsewhere(slot, &slot.verdict.reason),
            basis: self.basis_of(&slot.id()),
            phase: Some(phase),
            since: slot.started,
            restarts: memory.restarts,
            last_exit: slot.last_exit.clone(),
            last_output: if failing { self.logs.last(&slot.name(), LAST_LINES) } else { Vec::new() },
            in_flight: slot.verdict.in_flight,
            drained: self.drain_status(&slot.name()),
        }
    }

    fn fixed_status(&self, id: &InstanceId, address: &str) -> InstanceStatus {
        let verdict = self.edge.fixed.get(&id.name).cloned().unwrap_or_default();
        InstanceStatus {
            name: id.name.clone(),
            generation: id.generation,
            revision: None,
            pid: None,
            address: address.to_owned(),
            health: verdict.health,
            reason: verdict.reason,
            basis: self.basis_of(id),
            phase: None,
            since: None,
            restarts: 0,
            last_exit: None,
            last_output: Vec::new(),
            in_flight: verdict.in_flight,
            drained: self.drain_status(&id.name),
        }
    }

    /// What the edge's verdict about this instance rests on.
    fn basis_of(&self, id: &InstanceId) -> Basis {
        let others = &self.traffic.newest().basis;
        others.iter().find(|(one, _)| one == id).map(|(_, basis)| *basis).unwrap_or_default()
    }

    fn problems_of(&self, stack: &Stack, services: &[ServiceStatus]) -> Vec<String> {
        let mut problems = self.pause_problems();
        if self.shutdown.is_some() {
            problems.push("keel is being stopped".to_owned());
        }
        if self.edge.pid.is_none() && self.edge.exits > 0 && self.shutdown.is_none() {
            problems.push("the edge does not run: connections wait at the listening sockets".to_owned());
        }
        for service in services {
            problems.extend(self.problems_of_service(service));
        }
        for service in stack.services.keys() {
            if let Some(waiting) = self.rollouts.get(service).filter(|waiting| waiting.contains("gave up")) {
                problems.push(format!("{service}: {waiting}"));
            }
        }
        problems.extend(self.journal.problems());
        problems.extend(self.history.problem());
        problems.extend(self.dir.damage());
        problems.extend(self.dropped_lines());
        let snapshot_file = self.snapshot_file.failure();
        problems.extend(snapshot_file.map(|error| format!("the snapshot cannot be kept on disk: {error}")));
        let totals_file = self.totals_file.failure();
        problems.extend(totals_file.map(|error| format!("the totals cannot be kept on disk: {error}")));
        problems.extend(self.problems.values().cloned());
        problems
    }

    /// Output that was lost lately. Who looks later finds the count in the metrics, and nothing that could be done.
    fn dropped_lines(&self) -> Option<String> {
        let ago = self.logs.dropped_ago().filter(|ago| *ago < DROPS_MATTER_FOR)?;
        let lines = counted(self.logs.dropped(), "line of output was", "lines of output were");
        let ago = ago.as_secs();
        Some(format!("{lines} dropped, the last one {ago} s ago: the disk is slow, full or read-only"))
    }

    fn problems_of_service(&self, service: &ServiceStatus) -> Vec<String> {
        let mut problems: Vec<String> = self.away_problem(&service.name).into_iter().collect();
        problems.extend(service.objective.as_ref().and_then(|status| measuring::problem(&service.name, status)));
        for instance in service.instances.iter().filter(|instance| instance.phase == Some(Phase::GaveUp)) {
            let how = instance.last_exit.as_deref().unwrap_or("it never started");
            problems.push(format!("{} gave up ({how}): `keel why {}`", instance.name, instance.name));
        }
        problems.extend(why::unproven(service).map(|unproven| {
            format!("{unproven}. Correct its `check` and apply the file again, or apply the former one")
        }));
        problems.extend(service.instances.iter().filter_map(|instance| self.left_frozen(&service.name, instance)));
        // A first start takes its time; one after a failure does not hide that nobody answers.
        let first_start =
            |instance: &InstanceStatus| instance.phase == Some(Phase::Starting) && instance.last_exit.is_none();
        let starting = service.instances.iter().any(first_start);
        let unheard = |instance: &InstanceStatus| instance.phase.is_none() && instance.health == Health::Unknown;
        let just_begun = self.edge.applied == 0
            || service.stuck.is_none() && (starting && service.requests == 0 || service.instances.iter().all(unheard));
        if service.replicas > 0 && service.healthy == 0 && !just_begun && self.shutdown.is_none() {
            let exited =
                |instance: &InstanceStatus| Some(format!(" ({}: {})", instance.name, instance.last_exit.as_ref()?));
            let cause = service.instances.iter().find_map(exited);
            let seen = || service.stuck.as_ref().map(|stuck| format!(": {stuck}"));
            let cause = cause.or_else(seen).unwrap_or_default();
            let then = match &service.fallback {
                _ if service.short.is_some() => "and those that still answer get requests".to_owned(),
                Some(fallback) => format!("and {fallback} answers instead"),
                None => "so requests are held".to_owned(),
            };
            problems.push(format!("{}: no instance is healthy, {then}{cause}", service.name));
        } else if let Some(few) = service.short.as_ref().filter(|_| service.healthy > 0) {
            let name = &service.name;
            problems.push(format!("{name}: too few are healthy, so those that still answer get requests too ({few})"));
        }
        problems
    }

    /// A frozen process gets no requests; whether anybody starts it again is a matter of `liveness`.
    fn left_frozen(&self, service: &str, instance: &InstanceStatus) -> Option<String> {
        let watched = self.revision.stack.services.get(service).is_none_or(|service| service.liveness.is_some());
        (instance.health == Health::Silent && instance.pid.is_some() && !watched)
            .then(|| format!("{} does not answer, and without `liveness` nothing starts it again", instance.name))
    }

    /// What `/metrics` shows. Prometheus takes a counter that shrinks for one that began anew and adds the whole of it
    /// once more, so what it is told is written down first: it outlives whatever becomes of us.
    pub(super) fn scrape(&mut self) -> Scrape {
        self.keep_totals();
        let status = self.status();
        let newest = self.traffic.newest();
        let counters: Vec<&InstanceCounters> = newest.services.iter().flat_map(|service| &service.instances).collect();
        let sample = |service: &ServiceStatus, instance: &InstanceStatus| {
            let id = InstanceId { name: instance.name.clone(), generation: instance.generation };
            let counted = counters.iter().find(|counted| counted.id == id);
            InstanceSample {
                service: service.name.clone(),
                name: instance.name.clone(),
                health: instance.health,
                restarts: instance.restarts,
                in_flight: instance.in_flight,
                tries: counted.map_or(0, |counted| counted.tries),
                failures: counted.map_or(0, |counted| counted.failures),
            }
        };
        Scrape {
            totals: self.traffic.totals(),
            connections: newest.connections,
            holding: newest.services.iter().map(|service| (service.name.clone(), service.holding)).collect(),
            instances: status
                .services
                .iter()
                .flat_map(|service| service.instances.iter().map(move |instance| sample(service, instance)))
                .collect(),
            objectives: (status.services.iter())
                .filter_map(|service| Some((service.name.clone(), service.objective.clone()?)))
                .collect(),
            proofs: status.proofs,
            edge_restarts: self.edge.starts,
            node_restarts: self.hello.node_starts,
            journal_dropped: self.journal.dropped(),
            events_dropped: self.edge.dropped,
            log_lines_dropped: self.logs.dropped(),
            revision: self.revision.number,
            snapshot: self.snapshot.version,
            applied: self.edge.applied,
        }
    }
}

/// The edge's last verdict; unknown where there is no process.
pub(super) fn health_of(slot: &Slot) -> Health {
    match slot.supervisor.phase() {
        Phase::Waiting | Phase::GaveUp => Health::Unknown,
        Phase::Draining | Phase::Stopping => Health::Draining,
        Phase::Starting | Phase::Running => slot.verdict.health,
    }
}
