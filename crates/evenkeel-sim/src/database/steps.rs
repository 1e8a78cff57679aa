//! Steps: what a plan asks for, done to the instance, the guard and the edges.

use std::time::Duration;

use evenkeel_core::{
    failover::{Acks, Cause, Handover, Record, Revision, Step, Token},
    time::Moment,
};

use super::{
    event::{Event, Message},
    instance::{Run, name, number},
    network::Place,
    scenario::Doing,
    world::{EDGES, World},
};

impl World {
    /// It is about to become primary.
    fn entitled(&mut self, node: usize, token: Token) {
        let record = &self.store.record;
        if record.holder() != Some(&name(node)) || record.token != token {
            let what = format!("m{node} becomes primary with token {token} while the lease is {:?}", record.lease);
            self.checks.broken("nobody is primary without the lease", self.now, what);
        }
    }

    /// Does a step; how long it takes, or `None` if its answer ends it.
    pub(super) fn execute(&mut self, node: usize, step: Step) -> Option<Duration> {
        let quick = self.rng.micros(50, 3000);
        match step {
            Step::Write { record, expects } => {
                self.write_record(node, record, expects);
                return None;
            }
            Step::AskPromises => self.ask_promises(node),
            Step::Arm { until } => {
                self.nodes[node].instance.armed = Some(until);
                self.at(until, Event::Guard { node, armed: until });
                let promotes = self.nodes[node].agent.steps.front().map(|next| &next.step);
                if matches!(promotes, Some(Step::Promote { .. })) {
                    self.does(node, Doing::Promotes, None);
                }
            }
            Step::Fence { cause } => self.fence(node, cause),
            Step::Stop => self.stop(node),
            Step::Initialise { token } => {
                self.nodes[node].instance.busy = Some("initialising".to_owned());
                self.after(Duration::from_millis(700), Event::Initialised { node, token });
            }
            Step::StartPrimary { token } => {
                self.entitled(node, token);
                self.start(node, Some(token));
            }
            Step::StartStandby => self.start(node, None),
            Step::StopReceiving { floor } => self.stop_receiving(node, floor),
            Step::Follow { primary, token } => self.follow(node, number(&primary), token),
            Step::Promote { token } => return Some(self.promote(node, token)),
            Step::Open { token } => self.open(node, token),
            Step::SetAcks(acks) => self.set_acks(node, acks),
            Step::Rewind { primary, token } => self.rebuild(node, number(&primary), token, false),
            Step::Copy { primary, token } => self.rebuild(node, number(&primary), token, true),
            Step::Checkpoint { order } => {
                if let Some(primary) = self.nodes[node].instance.primary() {
                    primary.handover = Some(Handover { order, checkpointed: true, held: None, transactions: 0 });
                }
            }
            Step::Hold { until, .. } => self.hold(node, until),
        }
        Some(quick)
    }

    fn write_record(&mut self, node: usize, record: Box<Record>, expects: Revision) {
        let question = self.ask(node);
        let life = self.nodes[node].agent.life;
        if let Some(takes) = self.network.carry(Place::Node(node), Place::Store, &mut self.rng) {
            self.after(takes, Event::Swap { node, life, question, record, expects });
        }
    }

    fn ask_promises(&mut self, node: usize) {
        let asked = self.now;
        let token = self.nodes[node].agent.known.as_ref().map_or(Token::default(), |(record, _)| record.token);
        for other in (0..self.scenario.members).filter(|other| *other != node) {
            self.send(Place::Node(node), Place::Node(other), Message::AskPromise { token, asked });
        }
    }

    fn stop_receiving(&mut self, node: usize, floor: Token) {
        let agent = &self.nodes[node].agent;
        let held = agent.known.as_ref().is_some_and(|(record, _)| record.holder().is_some());
        if held && agent.promised.is_some_and(|until| self.now < until) {
            let what = format!("m{node} had promised to elect nobody else yet");
            self.checks.broken("promises are kept", self.now, what);
        }
        let instance = &mut self.nodes[node].instance;
        instance.floor = floor;
        if let Run::Standby(from) = &mut instance.run {
            *from = None;
        }
        self.report(node);
    }

    fn promote(&mut self, node: usize, token: Token) -> Duration {
        self.entitled(node, token);
        let instance = &mut self.nodes[node].instance;
        instance.disk_token = token;
        if let Run::Standby(from) = &mut instance.run {
            *from = None;
        }
        let life = instance.life;
        let takes = self.rng.millis(10, 60);
        self.after(takes, Event::Promoted { node, life, token });
        takes + Duration::from_micros(1)
    }

    fn set_acks(&mut self, node: usize, acks: Acks) {
        let instance = &mut self.nodes[node].instance;
        let joined = acks.members.difference(&instance.acks.members).next().map(number);
        let former = std::mem::replace(&mut instance.acks, acks);
        if let Some(primary) = instance.primary() {
            primary.former = Some(former);
            primary.since = None;
            primary.settled = false;
        }
        self.in_effect_later(node);
        if joined.is_some() {
            self.does(node, Doing::Trusts, joined);
        }
    }

    fn hold(&mut self, node: usize, until: Moment) {
        let now = self.now;
        let Run::Primary(primary) = &mut self.nodes[node].instance.run else {
            return;
        };
        let token = primary.token;
        if let Some(handover) = &mut primary.handover {
            handover.held = Some(now);
        }
        for edge in 0..EDGES {
            self.send(Place::Node(node), Place::Edge(edge), Message::Hold { token, until });
        }
    }

    fn fence(&mut self, node: usize, cause: Cause) {
        let now = self.now;
        let instance = &mut self.nodes[node].instance;
        let lately = |until: Option<Moment>| until.is_some_and(|until| now < until + Duration::from_millis(500));
        let really = lately(instance.hung_until) || lately(instance.stalled_until);
        let suspected = cause == Cause::Suspicion;
        instance.end(cause, now);
        if suspected {
            self.checks.suspected(&self.scenario, node, really, now);
        }
    }

    fn open(&mut self, node: usize, token: Token) {
        let Run::Primary(primary) = &mut self.nodes[node].instance.run else {
            return;
        };
        primary.open = true;
        primary.token = token;
        self.nodes[node].instance.disk_token = token;
        let log = self.nodes[node].instance.log.clone();
        self.checks.opened(&self.scenario, &mut self.ledger, (token, node), &log, self.now);
        self.publish(node);
    }
}
