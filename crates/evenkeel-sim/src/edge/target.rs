//! One instance as the edge knows it.

use evenkeel_core::{
    health::{Known, ProbeHealth, verdict},
    snapshot::{Check, Duty, Instance},
    status::{Health, InstanceId},
    time::Moment,
};

use crate::fleet::Key;

/// An instance of the snapshot in force.
#[derive(Debug)]
pub struct Target {
    /// Its process.
    pub key: Key,
    /// Name and generation.
    pub id: InstanceId,
    /// What the snapshot asks for.
    pub duty: Duty,
    /// Its relative share.
    pub weight: u16,
    /// The check's history.
    pub check: ProbeHealth,
    /// What the check saw last.
    pub check_reason: String,
    /// The liveness check's verdict; `None` until it passes for the first time.
    pub live: Option<bool>,
    /// Why it is silent, if it is.
    pub silent: Option<String>,
    /// Why it is ejected, if it is.
    pub ejected: Option<String>,
    /// The verdict in force.
    pub health: Health,
    /// Why.
    pub reason: String,
    /// Since when it has been healthy without a break.
    pub healthy_since: Option<Moment>,
    /// Requests in flight.
    pub in_flight: u64,
    /// Since when there has been at least one.
    pub busy_since: Moment,
    /// When it sent a byte last.
    pub last_received: Option<Moment>,
    /// Tries that ended well since the rules looked last.
    pub ok: u32,
    /// Tries that failed since.
    pub failed: u32,
    /// Those of them after the last one that ended well.
    pub trailing: u32,
    /// The node process was told that nothing is in flight.
    pub told_drained: bool,
}

impl Target {
    pub(super) fn new(key: Key, instance: &Instance, check: Option<&Check>) -> Self {
        let (rise, fall) = check.map_or((1, 1), |check| (check.rise, check.fall));
        Self {
            key,
            id: instance.id.clone(),
            duty: instance.duty,
            weight: instance.weight,
            check: ProbeHealth::new(rise, fall),
            check_reason: String::new(),
            live: None,
            silent: None,
            ejected: None,
            health: Health::Unknown,
            reason: String::new(),
            healthy_since: None,
            in_flight: 0,
            busy_since: Moment::ORIGIN,
            last_received: None,
            ok: 0,
            failed: 0,
            trailing: 0,
            told_drained: false,
        }
    }

    /// The verdict over everything known now.
    pub fn verdict(&self) -> (Health, String) {
        verdict(&Known {
            duty: self.duty,
            check: self.check.verdict(),
            check_reason: &self.check_reason,
            silent: self.silent.as_deref(),
            ejected: self.ejected.as_deref(),
        })
    }

    /// Everything except ejection speaks for it.
    pub fn is_well(&self) -> bool {
        self.duty == Duty::Serve && self.check.verdict() == Some(true) && self.silent.is_none()
    }

    pub(super) fn counts(&mut self, well: bool) {
        if well {
            self.ok += 1;
            self.trailing = 0;
        } else {
            self.failed += 1;
            self.trailing += 1;
        }
    }
}
