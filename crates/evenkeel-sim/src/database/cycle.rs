//! The cycle of an agent: look at the store, decide, do one step after the other, and say how the instance is.

use evenkeel_core::{
    failover::{Process, Record, Report, Revision, Rule, Step, suspicion::Sign},
    time::Moment,
};

use super::{
    agent::{EVERY, STORE_WITHIN},
    event::{Event, Message},
    instance::{Run, name},
    network::Place,
    words::{brief, kind, words},
    world::{EDGES, Node, World},
};

impl World {
    pub(super) fn restart_agent(&mut self, node: usize) {
        let agent = &mut self.nodes[node].agent;
        agent.restart();
        let life = agent.life;
        let by = self.rng.millis(1, 100);
        self.after(by, Event::Tick { node, life });
    }

    pub(super) fn tick(&mut self, node: usize, life: u64) {
        let agent = &self.nodes[node].agent;
        if agent.life != life || !agent.up {
            return;
        }
        let jitter = self.rng.micros(0, 5_000);
        self.after(EVERY + jitter, Event::Tick { node, life });
        self.hear_own(node);
        self.reconnect(node);
        self.report(node);
        self.publish(node);
        self.look(node);
    }

    /// Something happened on this node: its agent looks at once.
    pub(super) fn wake(&mut self, node: usize) {
        let agent = &self.nodes[node].agent;
        if agent.up && agent.frozen_until.max(self.nodes[node].frozen_until).is_none_or(|until| until <= self.now) {
            self.report(node);
            self.look(node);
        }
    }

    pub(super) fn look(&mut self, node: usize) {
        let agent = &mut self.nodes[node].agent;
        if agent.asked.is_some() || agent.doing.is_some() || !agent.steps.is_empty() {
            return;
        }
        let question = self.ask(node);
        let life = self.nodes[node].agent.life;
        if let Some(takes) = self.network.carry(Place::Node(node), Place::Store, &mut self.rng) {
            self.after(takes, Event::Read { node, life, question });
        }
    }

    pub(super) fn ask(&mut self, node: usize) -> u64 {
        let now = self.now;
        let agent = &mut self.nodes[node].agent;
        agent.questions += 1;
        let (life, question) = (agent.life, agent.questions);
        agent.asked = Some((question, now));
        self.after(STORE_WITHIN, Event::Unanswered { node, life, question });
        question
    }

    /// An answer: when its question was sent, if somebody still waits for it.
    pub(super) fn answered(&mut self, node: usize, life: u64, question: u64) -> Option<Moment> {
        let agent = &mut self.nodes[node].agent;
        let (waits, sent) = agent.asked?;
        (agent.life == life && waits == question).then(|| {
            agent.asked = None;
            sent
        })
    }

    pub(super) fn swapped(
        &mut self,
        node: usize,
        life: u64,
        question: u64,
        record: Record,
        taken: Result<Revision, Revision>,
    ) {
        let Some(sent) = self.answered(node, life, question) else {
            return;
        };
        let (now, policy) = (self.now, self.scenario.policy);
        let agent = &mut self.nodes[node].agent;
        agent.doing = None;
        if let Ok(revision) = taken {
            agent.store_answers = true;
            agent.clock.wrote(&record, &name(node), &policy, sent, now);
            agent.suspicion.saw(record.calm, &policy, now);
            agent.known = Some((record, revision));
            self.next_step(node);
        } else {
            agent.steps.clear();
            self.count("store: a write came too late");
            self.look(node);
        }
    }

    pub(super) fn learn(&mut self, node: usize, record: Record, revision: Revision) {
        let now = self.now;
        let agent = &mut self.nodes[node].agent;
        let seen = if self.options.rules.has(Rule::OwnSight) || agent.known.is_some() {
            now
        } else {
            Moment::from_nanos(now.as_nanos().saturating_sub(20_000_000_000))
        };
        agent.clock.saw(&record, seen);
        agent.suspicion.saw(record.calm, &self.scenario.policy, self.now);
        agent.known = Some((record, revision));
        agent.store_answers = true;
    }

    /// The store said what it holds.
    pub(super) fn held(&mut self, node: usize, life: u64, question: u64, record: Record, revision: Revision) {
        if self.answered(node, life, question).is_some() {
            self.learn(node, record, revision);
            self.plan(node);
        }
    }

    /// The store says nothing.
    pub(super) fn unanswered(&mut self, node: usize, life: u64, question: u64) {
        if self.answered(node, life, question).is_some() {
            let agent = &mut self.nodes[node].agent;
            agent.store_answers = false;
            agent.steps.clear();
            agent.doing = None;
            self.plan(node);
        }
    }

    /// A step has been done.
    pub(super) fn done(&mut self, node: usize, life: u64, step: u64) {
        let agent = &mut self.nodes[node].agent;
        if agent.life == life && agent.doing == Some(step) {
            agent.doing = None;
            self.next_step(node);
        }
    }

    /// Its own primary has answered.
    pub(super) fn heard_own(&mut self, node: usize, life: u64) {
        let (now, rules) = (self.now, self.options.rules);
        let agent = &mut self.nodes[node].agent;
        if agent.life == life {
            agent.suspicion.heard(Sign::Answered, rules, now);
        }
    }

    pub(super) fn plan(&mut self, node: usize) {
        let now = self.now;
        let (policy, rules) = (self.scenario.policy, self.options.rules);
        let Node { agent, instance, .. } = &mut self.nodes[node];
        if agent.doing.is_some() || !agent.up {
            return;
        }
        let members = (0..self.scenario.members).map(name).collect();
        let own = instance.own(now);
        let plan = agent.plan(&name(node), &members, &own, &policy, rules, self.now);
        agent.valid_until = plan.valid_until;
        agent.steps = plan.steps.into();
        if let Some(waiting) = plan.waiting {
            let key = format!("waits: {}", words(&waiting));
            self.count(&key);
        }
        for reason in plan.ruled_out {
            let key = format!("ruled out: {}", words(&reason.text));
            self.count(&key);
        }
        self.next_step(node);
    }

    pub(super) fn next_step(&mut self, node: usize) {
        let (now, rules) = (self.now, self.options.rules);
        let agent = &mut self.nodes[node].agent;
        if agent.valid_until.is_some_and(|until| until <= now) && rules.has(Rule::Revalidate) {
            agent.steps.clear();
        }
        let Some(planned) = agent.steps.pop_front() else {
            return;
        };
        agent.questions += 1;
        let (life, step) = (agent.life, agent.questions);
        agent.doing = Some(step);
        let why = planned.reasons.first().map_or(String::new(), |reason| reason.text.clone());
        let key = format!("step: {} ({})", kind(&planned.step), words(&why));
        self.count(&key);
        if !matches!(planned.step, Step::Arm { .. }) && !why.contains("renewed in time") {
            self.say(|| format!("m{node} {:?}: {why}", brief(&planned.step)));
        }
        let takes = self.execute(node, planned.step);
        if let Some(takes) = takes {
            self.after(takes, Event::Done { node, life, step });
        }
    }

    /// Tells every edge who the primary is.
    pub(super) fn publish(&mut self, node: usize) {
        let Run::Primary(primary) = &self.nodes[node].instance.run else {
            return;
        };
        let (token, open) = (primary.token, primary.open && primary.handover.is_none());
        if open {
            for edge in 0..EDGES {
                self.send(Place::Node(node), Place::Edge(edge), Message::Publish { token });
            }
        }
    }

    /// Says how its instance is, to every other agent.
    pub(super) fn report(&mut self, node: usize) {
        let own = self.nodes[node].instance.own(self.now);
        let (role, token) = match &own.process {
            Process::Up(up) => (Some(up.role), up.token),
            _ => (None, None),
        };
        let hung = self.nodes[node].instance.hung_until.is_some_and(|until| self.now < until);
        let position = match &own.process {
            Process::Up(up) => Some(up.position),
            _ => None,
        };
        let report = Report {
            heard: self.now,
            role: role.filter(|_| !hung),
            token,
            position,
            floor: own.floor,
            unfit: own.unfit,
            priority: own.priority,
        };
        for other in (0..self.scenario.members).filter(|other| *other != node) {
            self.send(Place::Node(node), Place::Node(other), Message::Report(Box::new(report.clone())));
        }
    }

    /// The agent asks its own instance whether it is there.
    pub(super) fn hear_own(&mut self, node: usize) {
        let (now, rules) = (self.now, self.options.rules);
        let Node { agent, instance, .. } = &mut self.nodes[node];
        let stuck =
            [instance.hung_until, instance.stalled_until].iter().any(|until| until.is_some_and(|until| now < until));
        if !matches!(instance.run, Run::Primary(_)) {
            agent.suspicion.heard(Sign::Answered, rules, now);
        } else if !stuck {
            let life = agent.life;
            let takes = self.rng.millis(1, 12);
            self.after(takes, Event::Answered { node, life });
        }
    }
}
