//! How the edge's events are told: level, kind, words and reasons of their entries in the journal.

use std::time::Duration;

use evenkeel_core::{
    journal::{Level, Reason},
    link::EventKind,
};

use crate::{node::Node, words::counted};

impl Node {
    pub(super) fn note_event(&self, subject: &str, what: EventKind) {
        let subject = if subject.is_empty() { "edge" } else { subject };
        let (level, kind, message, reasons) = match what {
            EventKind::HoldStarted { reason } => {
                (Level::Warning, "holding", "requests are held".to_owned(), vec![Reason::seen(reason)])
            }
            EventKind::HoldEnded { held, expired: 0 } => {
                let requests = counted(held, "held request", "held requests");
                (Level::Info, "released", format!("{requests} went on"), Vec::new())
            }
            EventKind::HoldEnded { held, expired } => {
                let requests = counted(held, "request was", "requests were");
                let message = format!("{requests} held; {expired} of them got 503 because it took too long");
                (Level::Error, "released", message, Vec::new())
            }
            EventKind::Moved { requests, reason } => {
                let requests = counted(requests, "request in flight was", "requests in flight were");
                let message = format!("{requests} sent to other instances");
                (Level::Info, "moved", message, vec![Reason::seen(reason)])
            }
            EventKind::CapacityShort { reason } => {
                let message = "too few instances are healthy: those that still answer get requests too".to_owned();
                let rule = Reason::rule("`min_capacity`: whoever answers is better than nobody");
                (Level::Warning, "too-few-healthy", message, vec![Reason::seen(reason), rule])
            }
            EventKind::CapacityBack { reason, enough: true } => {
                let message = "only healthy instances get requests again".to_owned();
                (Level::Info, "enough-healthy", message, vec![Reason::seen(reason)])
            }
            EventKind::CapacityBack { reason, enough: false } => {
                let message = "too few instances are healthy, and nobody else answers".to_owned();
                (Level::Warning, "nobody-answers", message, vec![Reason::seen(reason)])
            }
            EventKind::BudgetExhausted => {
                let message = "the retry budget is used up: failures reach clients until it recovers".to_owned();
                (Level::Error, "budget-exhausted", message, Vec::new())
            }
            EventKind::RateLimited { route, client, limit } => {
                let message = format!("clients of {route} get 429: they ask more often than they may");
                let seen = Reason::seen(format!("{client} was refused"));
                (Level::Warning, "rate-limited", message, vec![seen, Reason::rule(limit)])
            }
            EventKind::RateLimitEnded { route, refused } => {
                let requests = counted(refused, "request was", "requests were");
                let message = format!("no client of {route} asks too often any more; {requests} refused with 429");
                (Level::Info, "rate-limit-ended", message, Vec::new())
            }
            EventKind::Retried { reason, next, others } => {
                let others = match others {
                    0 => String::new(),
                    n => format!(" ({} before it)", counted(n, "more", "more")),
                };
                let next = next.map(|next| Reason::seen(format!("it was sent to {next} next")));
                let reasons = std::iter::once(Reason::seen(reason)).chain(next).collect();
                (Level::Info, "retried", format!("a request was tried again{others}"), reasons)
            }
            other => match of_state(other) {
                Some(told) => told,
                None => return,
            },
        };
        self.note(level, subject, kind, message, reasons);
    }
}

/// How an event is told that says how a service or its check is, rather than what became of requests; `None`: it is told
/// elsewhere.
fn of_state(what: EventKind) -> Option<(Level, &'static str, String, Vec<Reason>)> {
    Some(match what {
        EventKind::FellBack { to, reason } => {
            (Level::Warning, "fell-back", format!("{to} answers instead"), vec![Reason::seen(reason)])
        }
        EventKind::Returned { from } => {
            (Level::Info, "returned", format!("what is preferred answers again instead of {from}"), Vec::new())
        }
        EventKind::CheckUnproven { reason } => {
            let message = "its changed check fails everywhere so far: who was healthy is kept so".to_owned();
            let rule = Reason::rule("a changed check counts once somebody has passed it");
            (Level::Warning, "check-unproven", message, vec![Reason::seen(reason), rule])
        }
        EventKind::ChecksStretched { instances, interval_ms } => {
            let every = Duration::from_millis(interval_ms);
            let message =
                format!("no healthy instance is probed more often than every {every:?}, whatever is configured");
            let reason =
                Reason::seen(format!("there are {instances} instances, and probes are started at a bounded rate"));
            (Level::Warning, "checks-stretched", message, vec![reason])
        }
        EventKind::ChecksInTime { instances } => {
            let message = "every check is made as often as it is configured again".to_owned();
            (Level::Info, "checks-in-time", message, vec![Reason::seen(format!("there are {instances} instances"))])
        }
        EventKind::Scarce { what, reason } => {
            let reasons = vec![Reason::seen(reason), Reason::rule(what.fix())];
            (Level::Error, "exhausted", what.as_str().to_owned(), reasons)
        }
        EventKind::CheckProven { by } => {
            let message = "its changed check counts from now on".to_owned();
            (Level::Info, "check-proven", message, vec![Reason::seen(format!("{by} passed it"))])
        }
        // Told elsewhere, or what became of requests, which is told before this is asked.
        EventKind::Health { .. }
        | EventKind::Liveness { .. }
        | EventKind::Drained
        | EventKind::Complained { .. }
        | EventKind::Rejected { .. }
        | EventKind::Ambiguous { .. }
        | EventKind::ProxyHeader { .. }
        | EventKind::HoldStarted { .. }
        | EventKind::HoldEnded { .. }
        | EventKind::Moved { .. }
        | EventKind::CapacityShort { .. }
        | EventKind::CapacityBack { .. }
        | EventKind::BudgetExhausted
        | EventKind::RateLimited { .. }
        | EventKind::RateLimitEnded { .. }
        | EventKind::Retried { .. } => return None,
    })
}
