//! What travels: reports and promises, the log and its acknowledgements, clients' writes and reads.

use evenkeel_core::failover::{Rule, Token, suspicion::Sign};

use super::{
    event::{Event, Message},
    instance::{Client, Run, name},
    network::Place,
    world::{EDGES, Node, World},
};

impl World {
    pub(super) fn message(&mut self, from: Place, to: Place, what: Message) {
        match (from, to) {
            (Place::Node(from), Place::Node(to)) => self.between_nodes(from, to, what),
            (Place::Node(node), Place::Edge(edge)) => self.reach_edge(node, edge, &what),
            (Place::Edge(_), Place::Node(node)) => self.ask_instance(node, what),
            _ => {}
        }
    }

    pub(super) fn between_nodes(&mut self, from: usize, to: usize, what: Message) {
        let (now, rules, policy) = (self.now, self.options.rules, self.scenario.policy);
        if self.nodes[to].crashed {
            return;
        }
        match what {
            Message::Report(mut report) => {
                report.heard = now;
                self.nodes[to].agent.reports.insert(name(from), *report);
            }
            Message::AskPromise { token, asked } => {
                let Node { agent, instance, .. } = &mut self.nodes[to];
                let same = agent
                    .known
                    .as_ref()
                    .is_some_and(|(record, _)| record.token == token && record.holder() == Some(&name(from)));
                if same && instance.floor < token {
                    agent.promised = Some(now + policy.lease);
                    self.send(Place::Node(to), Place::Node(from), Message::Promise { asked });
                }
            }
            Message::Promise { asked } => {
                let ends = asked + policy.lease.saturating_sub(policy.margin);
                self.nodes[to].agent.promises.insert(name(from), ends);
            }
            other => {
                // What concerns the instance waits while it hangs or its disk stalls.
                let instance = &self.nodes[to].instance;
                if let Some(until) = instance.hung_until.max(instance.stalled_until).filter(|until| now < *until) {
                    self.at(until, Event::Message { from: Place::Node(from), to: Place::Node(to), what: other });
                    return;
                }
                let _ = rules;
                self.replication(from, to, other);
            }
        }
    }

    pub(super) fn replication(&mut self, from: usize, to: usize, what: Message) {
        match what {
            Message::Connect { token, connection, offset } => {
                let instance = &mut self.nodes[to].instance;
                let Run::Primary(primary) = &mut instance.run else { return };
                if primary.token != token {
                    return;
                }
                primary.streams.insert(from, (connection, offset.min(instance.log.len())));
                self.ship(to, from);
            }
            Message::Log { token, connection, offset, ids, histories } => {
                let instance = &mut self.nodes[to].instance;
                let Run::Standby(Some((_, _, current))) = instance.run else { return };
                if current != connection || offset > instance.log.len() {
                    return;
                }
                instance.received = self.now;
                let skip = instance.log.len() - offset;
                if !ids.is_empty() && skip <= ids.len() {
                    instance.log.extend_from_slice(&ids[skip..]);
                }
                let len = instance.log.len();
                instance.histories = histories.into_iter().filter(|(_, at)| *at <= len).collect();
                instance.disk_token = token;
                let offset = instance.log.len();
                self.send(Place::Node(to), Place::Node(from), Message::Flushed { connection, offset });
            }
            Message::Flushed { connection, offset } => {
                let told = self.nodes[to].instance.heard(from, connection, offset);
                let (now, rules) = (self.now, self.options.rules);
                self.nodes[to].agent.suspicion.heard(Sign::LogArrived, rules, now);
                self.tell(to, told);
            }
            _ => {}
        }
    }

    /// Sends a standby what it lacks.
    pub(super) fn ship(&mut self, primary: usize, standby: usize) {
        let instance = &self.nodes[primary].instance;
        let Run::Primary(state) = &instance.run else { return };
        let Some((connection, offset)) = state.streams.get(&standby).copied() else { return };
        let what = Message::Log {
            token: state.token,
            connection,
            offset,
            ids: instance.log[offset..].to_vec(),
            histories: instance.histories.clone(),
        };
        self.send(Place::Node(primary), Place::Node(standby), what);
    }

    pub(super) fn reach_edge(&mut self, node: usize, edge: usize, what: &Message) {
        let newest = self.options.rules.has(Rule::NewestToken);
        let now = self.now;
        let state = &mut self.edges[edge];
        let is_newest = |token: Token| !newest || state.primary.is_none_or(|(_, known)| known <= token);
        match what {
            Message::Publish { token } if is_newest(*token) => state.primary = Some((node, *token)),
            Message::Hold { token, until } => state.held = Some((*token, *until)),
            Message::Acknowledged { client, token } if is_newest(*token) => {
                self.ledger.acknowledged.insert(client.id, *token);
                self.ledger.last_answer = Some(now);
            }
            Message::Seen { id: Some(id), token } if is_newest(*token) => {
                self.ledger.seen.insert(*id, *token);
            }
            _ => {}
        }
    }

    pub(super) fn ask_instance(&mut self, node: usize, what: Message) {
        let now = self.now;
        if self.nodes[node].crashed {
            return;
        }
        let instance = &mut self.nodes[node].instance;
        if let Some(until) = instance.hung_until.max(instance.stalled_until).filter(|until| now < *until) {
            self.at(until, Event::Message { from: Place::Edge(0), to: Place::Node(node), what });
            return;
        }
        let Run::Primary(primary) = &instance.run else { return };
        if !primary.open {
            return;
        }
        let token = primary.token;
        match what {
            Message::Write(client) => {
                instance.write(client);
                let standbys: Vec<usize> =
                    instance.primary().map(|primary| primary.streams.keys().copied().collect()).unwrap_or_default();
                for standby in standbys {
                    self.ship(node, standby);
                }
                let told = self.nodes[node].instance.acknowledge();
                self.tell(node, told);
            }
            Message::Read { edge } => {
                let visible = primary.visible;
                let id = visible.checked_sub(1).and_then(|at| instance.log.get(at)).copied();
                self.send(Place::Node(node), Place::Edge(edge), Message::Seen { id, token });
            }
            _ => {}
        }
    }

    /// Tells clients that their writes are acknowledged.
    pub(super) fn tell(&mut self, node: usize, told: Vec<Client>) {
        let Some(token) = self.nodes[node].instance.primary().map(|primary| primary.token) else { return };
        for client in told {
            self.acknowledges(node, token, client.id);
            self.send(Place::Node(node), Place::Edge(client.edge), Message::Acknowledged { client, token });
        }
    }

    /// A primary that was succeeded may tell late what its successor has, and nothing else.
    pub(super) fn acknowledges(&mut self, node: usize, token: Token, id: u64) {
        let Some(successor) = self.checks.succeeded(token).filter(|_| !self.scenario.policy.may_lose()) else {
            return;
        };
        if !self.nodes[successor].instance.log.contains(&id) {
            let what = format!("m{node} acknowledges write {id} under token {token}, which m{successor} lacks");
            self.checks.broken("never two that acknowledge", self.now, what);
        }
    }

    pub(super) fn write(&mut self, writer: usize) {
        let pause = self.rng.millis(4, 30);
        self.after(pause, Event::Write { writer });
        let edge = writer % EDGES;
        let now = self.now;
        let state = self.edges[edge];
        let Some((node, token)) = state.primary else { return };
        if state.held.is_some_and(|(held, until)| held == token && now < until) {
            return;
        }
        self.ledger.next += 1;
        let client = Client { writer, id: self.ledger.next, edge };
        self.send(Place::Edge(edge), Place::Node(node), Message::Write(client));
        if self.rng.chance(20) {
            self.send(Place::Edge(edge), Place::Node(node), Message::Read { edge });
        }
    }
}
