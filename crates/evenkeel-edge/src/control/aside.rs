//! Whether somebody else answers for a service: its fallback, or instances outside of the preferred zone.
//!
//! Data threads decide that for each request, from the health of this moment. Here the same rule is asked on every
//! tick for the service as a whole, so that the node process hears of each change once, with the reason. Nothing here
//! sends a request anywhere.

use std::collections::HashMap;

use evenkeel_core::{link::EventKind, status::Health};

use super::group::Group;

/// How many services may stand in for one another in a row, as for requests.
const FALLBACKS: usize = 8;

/// Most instances that a reason names.
const NAMED: usize = 4;

/// Who answers for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Aside {
    /// It does, from where it should.
    #[default]
    No,
    /// Instances outside of the preferred zone.
    Zone {
        /// Where they are, as far as is known.
        to: String,
    },
    /// Another service.
    Service {
        /// Its name.
        to: String,
    },
}

impl Aside {
    fn who(self) -> String {
        match self {
            Self::No => String::new(),
            Self::Zone { to } | Self::Service { to } => to,
        }
    }

    /// What is to be said when this changes to `new`.
    pub(super) fn changes_to(&mut self, new: Self, reason: &str) -> Option<EventKind> {
        if *self == new {
            return None;
        }
        let former = std::mem::replace(self, new.clone());
        Some(match new {
            Self::No => EventKind::Returned { from: former.who() },
            other => EventKind::FellBack { to: other.who(), reason: reason.to_owned() },
        })
    }
}

/// Who answers for `group` now, with the reason where somebody else does. `None`: nothing changes, since nobody can and
/// requests wait, or since too little is known yet.
pub(super) fn judge(group: &Group, groups: &HashMap<String, Group>) -> Option<(Aside, String)> {
    let config = group.config();
    if let Some(zone) = &config.prefer {
        let there = group.has_healthy(|its| its == Some(zone));
        let others = group.has_healthy(|its| its != Some(zone));
        let to = || Aside::Zone { to: group.healthy_zone_beside(zone) };
        if others && config.away {
            return Some((to(), format!("it stays away from zone {zone} until it is told to return")));
        }
        if !there && others {
            if group.awaits_probe(|its| its == Some(zone)) {
                return None;
            }
            let why = group.why_not(|its| its == Some(zone));
            return Some((to(), format!("no instance of zone {zone} is healthy: {why}")));
        }
        if there {
            return Some((Aside::No, String::new()));
        }
    } else if !config.away && group.can_answer() {
        return Some((Aside::No, String::new()));
    }
    if config.fallback.is_some() && group.awaits_probe(|_| true) && !config.away {
        return None;
    }
    let next = |of: &&Group| groups.get(of.config().fallback.as_deref()?);
    let chain = std::iter::successors(next(&group), next).take(FALLBACKS);
    if let Some(other) = chain.into_iter().find(|other| other.can_answer()) {
        let to = Aside::Service { to: other.config().name.clone() };
        let reason = if group.can_answer() {
            "it stays there until it is told to return".to_owned()
        } else {
            format!("no instance of {} is healthy: {}", config.name, group.why_not(|_| true))
        };
        return Some((to, reason));
    }
    group.can_answer().then(|| (Aside::No, String::new()))
}

/// Joins what is said of each instance, as far as it fits.
pub(super) fn listed(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let (named, more) = (all[..all.len().min(NAMED)].join("; "), all.len().saturating_sub(NAMED));
    match (all.is_empty(), more) {
        (true, _) => "it has none".to_owned(),
        (_, 0) => named,
        _ => format!("{named}; and {more} more"),
    }
}

/// Why an instance of this verdict gets nothing.
pub(super) fn why(health: Health, reason: &str) -> String {
    match health {
        Health::Healthy => "healthy".to_owned(),
        _ if reason.is_empty() => health.to_string(),
        _ => format!("{health}, {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_said_once() {
        let mut aside = Aside::default();
        let fallback = Aside::Service { to: "sorry".into() };
        let fell = EventKind::FellBack { to: "sorry".into(), reason: "x".into() };
        assert_eq!(aside.changes_to(fallback.clone(), "x"), Some(fell));
        assert_eq!(aside.changes_to(fallback, "another"), None);
        assert_eq!(aside.changes_to(Aside::No, ""), Some(EventKind::Returned { from: "sorry".into() }));
        assert_eq!(aside.changes_to(Aside::No, ""), None);
    }

    #[test]
    fn a_reason_is_bounded() {
        assert_eq!(listed(std::iter::empty()), "it has none");
        assert_eq!(listed((0..6).map(|n| n.to_string())), "0; 1; 2; 3; and 2 more");
    }
}
