//! Faults: what goes wrong, done to whom it is for.

use std::time::Duration;

use evenkeel_core::failover::{Cause, Order, Ordered, Revision};

use super::{
    event::Event,
    instance::{Run, name, number},
    network::Place,
    scenario::{Cut, Doing, Fault, Way, Who},
    world::World,
};

impl World {
    /// Who that is now; `None`: nobody, or it is not known yet.
    pub(super) fn whom(&self, who: Who) -> Option<usize> {
        let holder = self.store.record.holder().map(number);
        match who {
            Who::Member(member) => Some(member),
            Who::Primary => holder,
            Who::Standby(at) => (0..self.scenario.members).filter(|member| Some(*member) != holder).nth(at),
            Who::Doer => self.doer.map(|(doer, _)| doer),
            Who::Other => self.doer.and_then(|(_, other)| other),
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        self.say(|| format!("FAULT {fault:?}"));
        let key = format!("fault: {}", format!("{fault:?}").split('(').next().unwrap_or_default());
        self.count(&key);
        match fault {
            Fault::Switchover(to) => self.order(Ordered::Switchover { to: to.map(name) }),
            Fault::Failover(to) => self.order(Ordered::Failover { to: name(to) }),
            Fault::When(doing, then) => self.ambush = Some((doing, then)),
            Fault::Slow(by, long) => {
                self.network.slow = by;
                self.after(long, Event::Mend(Box::new(fault)));
            }
            Fault::Lose(long) => {
                self.store.lost = true;
                self.after(long, Event::Mend(Box::new(fault)));
            }
            Fault::Kill(who)
            | Fault::Restart(who)
            | Fault::Hang(who, _)
            | Fault::Stall(who, _)
            | Fault::Crash(who, _)
            | Fault::Freeze(who, _)
            | Fault::FreezeAgent(who, _)
            | Fault::Cut(who, ..)
            | Fault::Fill(who, _) => {
                if let Some(node) = self.whom(who) {
                    self.harm(node, &fault);
                }
            }
        }
    }

    /// A member does something, perhaps what is waited for.
    pub(super) fn does(&mut self, node: usize, doing: Doing, other: Option<usize>) {
        let Some((_, then)) = self.ambush.take_if(|(waited, _)| *waited == doing) else {
            return;
        };
        self.doer = Some((node, other));
        for (ms, fault) in then {
            if ms == 0 {
                self.strike(fault);
            } else {
                self.after(Duration::from_millis(ms), Event::Strike(Box::new(fault)));
            }
        }
    }

    /// Something that happens to one node.
    pub(super) fn harm(&mut self, node: usize, fault: &Fault) {
        let now = self.now;
        let state = &mut self.nodes[node];
        match fault {
            Fault::Kill(_) => self.kill(node),
            Fault::Restart(_) if !state.crashed => self.restart_agent(node),
            Fault::Hang(_, long) => state.instance.hung_until = Some(now + *long),
            Fault::Stall(_, long) => state.instance.stalled_until = Some(now + *long),
            Fault::Fill(_, long) => state.instance.full_until = Some(now + *long),
            Fault::Freeze(_, long) => state.frozen_until = Some(now + *long),
            Fault::FreezeAgent(_, long) => state.agent.frozen_until = Some(now + *long),
            Fault::Crash(_, long) if !state.crashed => {
                self.crash(node);
                self.after(*long, Event::Over { node });
            }
            Fault::Cut(_, what, long) => {
                self.cut(node, *what);
                self.after(*long, Event::Mend(Box::new(fault.clone())));
            }
            _ => {}
        }
    }

    pub(super) fn cut(&mut self, node: usize, what: Cut) {
        let members = (0..self.scenario.members).filter(|other| *other != node && what.members).map(Place::Node);
        let others = [(what.store, Place::Store), (what.edge, Place::Edge(0))];
        let others = others.into_iter().filter(|(cut, _)| *cut).map(|(_, place)| place);
        for place in members.chain(others).collect::<Vec<_>>() {
            if what.way != Way::In {
                self.network.cut(Place::Node(node), place);
            }
            if what.way != Way::Out {
                self.network.cut(place, Place::Node(node));
            }
        }
    }

    pub(super) fn mend(&mut self, fault: &Fault) {
        match fault {
            Fault::Lose(_) => self.store.lost = false,
            _ => self.network.mend(),
        }
    }

    pub(super) fn order(&mut self, what: Ordered) {
        self.orders += 1;
        self.store.record.order = Some(Order { id: self.orders, by: "an operator".to_owned(), what });
        self.store.revision = Revision(self.store.revision.0 + 1);
    }

    pub(super) fn kill(&mut self, node: usize) {
        let linger = self.rng.millis(0, 300);
        let instance = &mut self.nodes[node].instance;
        let run = std::mem::replace(&mut instance.run, Run::Gone);
        instance.hung_until = None;
        instance.busy = None;
        instance.life += 1;
        instance.ended = Cause::Exit;
        instance.run = match run {
            Run::Primary(primary) => Run::Remains(Some(primary)),
            Run::Gone => Run::Gone,
            _ => Run::Remains(None),
        };
        let life = instance.life;
        self.after(linger, Event::LeftoversGone { node, life });
        self.wake(node);
    }

    pub(super) fn crash(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        state.crashed = true;
        state.agent.up = false;
        state.agent.life += 1;
        state.instance.busy = None;
        state.instance.armed = None;
        state.instance.end(Cause::Exit, self.now);
    }

    pub(super) fn node_back(&mut self, node: usize) {
        self.nodes[node].crashed = false;
        self.restart_agent(node);
    }
}
