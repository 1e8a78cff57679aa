//! What the node process may ask for, and what it is answered.
//!
//! An order for a key that is not known is not answered: what it asks for is so already.

use std::{os::fd::OwnedFd, rc::Rc, time::Duration};

use evenkeel_core::guard::{EdgeNotice, Key, Notice, Order, ProcessSpec};
use rustix::process::Signal;

use super::{Guard, process::Process};
use crate::os::{clock, log, words};

/// The longest key. It bounds every notice that repeats one.
pub(super) const KEY_BYTES: usize = 1024;

/// An order that no sane node process gives; whoever does is ended.
pub(super) struct Nonsense(pub(super) &'static str);

impl Guard {
    pub(super) fn obey(&mut self, order: Order, descriptor: Option<OwnedFd>) -> Result<(), Nonsense> {
        if key_of(&order).is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES) {
            return Err(Nonsense("an order with an empty or overlong key"));
        }
        let now = clock::now();
        match order {
            Order::Spawn { key, spec } => self.spawn(key, spec),
            Order::Stop { key, signal, grace_ms } => {
                let signal = Signal::from_named_raw(signal).ok_or(Nonsense("an order with an unknown signal"))?;
                if let Some(process) = self.processes.get_mut(&key) {
                    process.stop(signal, Duration::from_millis(grace_ms), now);
                }
            }
            Order::Kill { key } => {
                if let Some(process) = self.processes.get_mut(&key) {
                    process.kill(now);
                }
            }
            Order::Forget { key } => {
                if self.processes.get(&key).is_some_and(|process| !process.is_live()) {
                    self.remove_process(&key);
                }
            }
            Order::Hold { key } => match descriptor {
                Some(descriptor) => self.hold(key, Rc::new(descriptor)),
                // Also where the guard has no descriptor left to receive it with.
                None => log::line(format_args!("`{key}` cannot be held: no descriptor came with the order")),
            },
            Order::Release { key } => {
                if self.held.remove(&key).is_some() {
                    self.manager.release(&key);
                    self.edge.tell(&EdgeNotice::Released { key }, None);
                }
            }
            Order::StartEdge => {
                self.want_edge();
                self.manager.ready();
            }
            Order::Bounds { edge_grace_ms, finish_ms } => {
                self.config.edge_grace = Duration::from_millis(edge_grace_ms);
                self.config.finish_within = Duration::from_millis(finish_ms);
            }
            Order::Alive { within_ms } => self.node.is_alive(Duration::from_millis(within_ms), now),
            Order::KillEdge => {
                if let Some(child) = &self.edge.child {
                    child.kill();
                }
            }
            Order::Finish { code } => self.finish(code, now),
            Order::Leave { code } => self.leave(code, now),
            Order::Outlive { .. } | Order::Adopt { .. } => return Err(Nonsense("an order that is for stubs only")),
        }
        Ok(())
    }

    fn spawn(&mut self, key: Key, spec: ProcessSpec) {
        let reason = if self.processes.get(&key).is_some_and(Process::is_live) {
            format!("`{key}` is already running")
        } else if !self.ending.permits_spawn() {
            "keel is ending".to_owned()
        } else {
            match Process::start(self, &key, spec) {
                Ok(process) => {
                    self.remove_process(&key);
                    self.processes.insert(key, process);
                    return;
                }
                Err(error) => format!("cannot start a stub: {}", words::of(&error)),
            }
        };
        self.node.tell(&Notice::NotStarted { key, reason }, None);
    }

    fn hold(&mut self, key: Key, descriptor: Rc<OwnedFd>) {
        self.edge.tell(&EdgeNotice::Held { key: key.clone() }, Some(Rc::clone(&descriptor)));
        self.manager.keep(&key, &descriptor);
        self.held.insert(key, descriptor);
    }
}

const fn key_of(order: &Order) -> Option<&Key> {
    match order {
        Order::Spawn { key, .. }
        | Order::Stop { key, .. }
        | Order::Kill { key }
        | Order::Forget { key }
        | Order::Hold { key }
        | Order::Release { key } => Some(key),
        Order::StartEdge
        | Order::Bounds { .. }
        | Order::Alive { .. }
        | Order::KillEdge
        | Order::Finish { .. }
        | Order::Leave { .. }
        | Order::Outlive { .. }
        | Order::Adopt { .. } => None,
    }
}
