//! Decisions about scaling in words.

use super::{Asked, Limit, Observation};
use crate::journal::Reason;

/// The sentence of a change.
pub(super) fn change(from: u32, to: u32) -> String {
    let instances = if to == 1 { "instance is" } else { "instances are" };
    match to {
        0 => format!("no instance is wanted instead of {from}"),
        _ => format!("{to} {instances} wanted instead of {from}"),
    }
}

/// What the targets ask for, the one that decides first; and that it decides, where there are several.
pub(super) fn seen(asked: &[Asked], needed: u32) -> Vec<Reason> {
    let mut order: Vec<&Asked> = asked.iter().collect();
    order.sort_by_key(|asked| std::cmp::Reverse(asked.count));
    let mut reasons: Vec<Reason> = order.iter().map(|asked| Reason::seen(asked.to_string())).collect();
    if asked.len() > 1 && order.first().is_some_and(|first| first.count.is_some_and(|count| count >= needed)) {
        reasons.push(Reason::rule("the target that asks for most decides"));
    }
    reasons
}

/// What keeps the number as it is.
pub(super) fn limit(
    limit: &Limit,
    wanted: u32,
    needed: u32,
    observed: &Observation,
    asked: &[Asked],
) -> (String, Vec<Reason>) {
    let mut reasons = seen(asked, needed);
    match limit {
        Limit::Most => {
            reasons.push(Reason::rule(format!("`max` is {wanted}")));
            (format!("{needed} instances would be needed, and {wanted} are the most allowed"), reasons)
        }
        Limit::Blind => {
            // What is not known comes first: it is the cause.
            reasons.sort_by_key(|reason| !reason.text.contains("not known"));
            if observed.busy.is_none() {
                reasons.insert(0, Reason::seen("whether anybody asks is not known: nothing is heard from the edge"));
            }
            reasons.push(Reason::rule("what is not known never makes a service smaller"));
            (format!("at least {wanted} instances stay: the load is not known"), reasons)
        }
        Limit::NoneReady => {
            let failing = observed.failing;
            reasons.insert(0, Reason::seen(format!("no instance is ready, and {failing} failed to start")));
            reasons.push(Reason::ruled_out(format!("{needed} instances: more of what does not start help nobody")));
            (format!("not more than {wanted} instances: none gets ready"), reasons)
        }
    }
}
