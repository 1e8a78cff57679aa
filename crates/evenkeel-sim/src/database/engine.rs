//! What instances do by themselves and when asked: start, follow, stop, be rebuilt, be ended by their guard.

use std::time::Duration;

use evenkeel_core::{
    failover::{Cause, Content, Rule, Token},
    time::Moment,
};

use super::{
    event::{Event, Message},
    instance::Run,
    network::Place,
    world::{SYSTEM, World},
};

impl World {
    /// It is primary from now on, with a history of its own.
    pub(super) fn promoted(&mut self, node: usize, life: u64, token: Token) {
        let instance = &mut self.nodes[node].instance;
        if instance.life == life && matches!(instance.run, Run::Standby(_)) {
            instance.lead(token, true);
            self.say(|| format!("m{node} is promoted with token {token}"));
            self.in_effect_later(node);
        }
    }

    /// What outlived its main process has ended too.
    pub(super) fn leftovers_gone(&mut self, node: usize, life: u64) {
        let now = self.now;
        let instance = &mut self.nodes[node].instance;
        if instance.life == life && matches!(instance.run, Run::Remains(_)) {
            instance.end(Cause::Exit, now);
            self.wake(node);
        }
    }

    /// Its directory holds the database.
    pub(super) fn initialised(&mut self, node: usize, token: Token) {
        let instance = &mut self.nodes[node].instance;
        instance.busy = None;
        instance.histories = vec![(token.number(), 0)];
        instance.content = Content::Whole { system: SYSTEM.to_owned() };
    }

    pub(super) fn in_effect_later(&mut self, node: usize) {
        let life = self.nodes[node].instance.life;
        let takes = self.rng.millis(1, 80);
        self.after(takes, Event::InEffect { node, life });
    }

    pub(super) fn in_effect(&mut self, node: usize, life: u64) {
        let instance = &mut self.nodes[node].instance;
        if instance.life != life {
            return;
        }
        let len = instance.log.len();
        let Some(primary) = instance.primary() else { return };
        if primary.since.is_none() {
            primary.since = Some(len);
        }
        primary.former = None;
        instance.settle();
        let told = instance.acknowledge();
        self.tell(node, told);
    }

    pub(super) fn start(&mut self, node: usize, primary: Option<Token>) {
        let instance = &mut self.nodes[node].instance;
        instance.run = Run::Starting;
        instance.life += 1;
        if let Some(token) = primary {
            instance.disk_token = token;
        }
        let life = instance.life;
        let takes = self.rng.millis(130, 1500);
        self.after(takes, Event::Started { node, life, primary });
    }

    pub(super) fn started(&mut self, node: usize, life: u64, primary: Option<Token>) {
        let instance = &mut self.nodes[node].instance;
        if instance.life != life {
            return;
        }
        match primary {
            Some(token) => instance.lead(token, false),
            None => instance.run = Run::Standby(None),
        }
        self.wake(node);
    }

    pub(super) fn follow(&mut self, node: usize, primary: usize, token: Token) {
        let instance = &self.nodes[node].instance;
        if !matches!(instance.run, Run::Standby(_)) {
            return;
        }
        let offset = instance.log.len();
        // The engine itself refuses only what its history forbids; here whatever is not a beginning is a fault of ours.
        let theirs = &self.nodes[primary].instance.log;
        let beginning = theirs.len() >= offset && theirs[..offset] == instance.log[..];
        if !beginning {
            let what = format!("m{node} follows m{primary} with writes that it does not have");
            self.checks.broken("who follows has a beginning", self.now, what);
        }
        self.connect(node, primary, token);
    }

    /// A standby that hears nothing connects again, as engines do by themselves.
    pub(super) fn reconnect(&mut self, node: usize) {
        let now = self.now;
        let instance = &mut self.nodes[node].instance;
        let hangs = instance.hung_until.is_some_and(|until| now < until);
        if let Run::Standby(Some((primary, token, _))) = instance.run
            && !hangs
            && now.since(instance.received) > Duration::from_millis(500)
        {
            instance.received = now;
            self.connect(node, primary, token);
        }
    }

    pub(super) fn connect(&mut self, node: usize, primary: usize, token: Token) {
        self.connections += 1;
        let connection = self.connections;
        let instance = &mut self.nodes[node].instance;
        instance.run = Run::Standby(Some((primary, token, connection)));
        let offset = instance.log.len();
        self.send(Place::Node(node), Place::Node(primary), Message::Connect { token, connection, offset });
    }

    /// An orderly stop: everything is sent before it ends.
    pub(super) fn stop(&mut self, node: usize) {
        let instance = &mut self.nodes[node].instance;
        if let Run::Primary(primary) = &mut instance.run {
            primary.open = false;
        }
        instance.life += 1;
        let life = instance.life;
        instance.busy = Some("stopping".to_owned());
        let takes = self.rng.millis(5, 60);
        self.after(takes, Event::Stopped { node, life });
    }

    pub(super) fn stopped(&mut self, node: usize, life: u64) {
        let instance = &mut self.nodes[node].instance;
        instance.busy = None;
        if instance.life == life && !matches!(instance.run, Run::Gone | Run::Remains(_)) {
            instance.end(Cause::Shutdown, self.now);
        }
        self.wake(node);
    }

    pub(super) fn rebuild(&mut self, node: usize, from: usize, token: Token, copy: bool) {
        let takes = if copy { self.rng.millis(800, 3000) } else { self.rng.millis(300, 1600) };
        self.nodes[node].instance.busy = Some(if copy { "copying" } else { "rewinding" }.to_owned());
        self.after(takes, Event::Rebuilt { node, from, token, copy });
    }

    pub(super) fn rebuilt(&mut self, node: usize, from: usize, token: Token, copy: bool) {
        let source = &self.nodes[from].instance;
        let there = matches!(&source.run, Run::Primary(primary) if primary.token == token) && !self.nodes[from].crashed;
        let (log, histories, acks) = (source.log.clone(), source.histories.clone(), source.acks.clone());
        let fails = !there || (!copy && self.rng.chance(10));
        let crashed = self.nodes[node].crashed;
        let instance = &mut self.nodes[node].instance;
        if instance.busy.take().is_none() || crashed {
            return;
        }
        if fails {
            instance.content = Content::Broken { why: "a copy or a rewind that was not finished".to_owned() };
            instance.log.clear();
            instance.histories.clear();
            return;
        }
        if copy {
            instance.log = log;
            instance.histories = histories;
            instance.acks = acks;
        } else {
            let common = instance.log.iter().zip(&log).take_while(|(a, b)| a == b).count();
            instance.log.truncate(common);
            instance.histories = histories.into_iter().filter(|(_, at)| *at <= common).collect();
        }
        instance.content = Content::Whole { system: SYSTEM.to_owned() };
        instance.was_primary = false;
        instance.disk_token = token;
    }

    pub(super) fn guard(&mut self, node: usize, armed: Moment) {
        let instance = &mut self.nodes[node].instance;
        if instance.armed != Some(armed) || !self.options.rules.has(Rule::StopInTime) {
            return;
        }
        if matches!(instance.run, Run::Primary(_) | Run::Remains(_))
            || (matches!(instance.run, Run::Starting) && instance.was_primary)
        {
            instance.end(Cause::Exit, self.now);
            self.say(|| format!("m{node} is ended by its guard"));
            self.count("guard: ended a primary");
            self.wake(node);
        }
    }
}
