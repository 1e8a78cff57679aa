//! What a supervisor says about its decisions: sentences and reasons, one function for each kind of entry.
//!
//! Nothing is decided here. The words are what `keel events` lists and `keel why` explains, so they name the
//! setting that decided and the alternative that was ruled out.

use std::time::Duration;

use super::{Decision, Memory, Policy};
use crate::{
    journal::{Level, Reason},
    pause::Stance,
    status::ExitStatus,
};

/// A length of time as people say it.
pub(super) fn span(time: Duration) -> String {
    let ms = time.as_millis();
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        1000..120_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

pub(super) fn not_started(reason: &str) -> String {
    format!("could not be started: {reason}")
}

pub(super) fn exited(status: ExitStatus, lived: Duration, leftovers: u32) -> String {
    let how = match status {
        ExitStatus::Code(_) => format!("ended with {status}"),
        ExitStatus::Signal(_) => format!("was ended by {status}"),
    };
    let rest = match leftovers {
        0 => String::new(),
        1 => "; a process it had left behind was killed".to_owned(),
        n => format!("; {n} processes it had left behind were killed"),
    };
    format!("{how} after it had run for {}{rest}", span(lived))
}

/// The word for something that is done, put off or only noted.
fn kind(policy: &Policy, done: &'static str, noted: &'static str) -> &'static str {
    match policy.stance {
        Stance::Act => done,
        Stance::Paused => "held",
        Stance::Observe => noted,
    }
}

/// Why something that is due is not done.
fn held_by(policy: &Policy) -> Option<Reason> {
    match policy.stance {
        Stance::Act => None,
        Stance::Paused => Some(Reason::rule("automatic decisions are paused; it is done once the pause ends")),
        Stance::Observe => Some(Reason::rule("stack.mode = \"observe\": what would be done is only written down")),
    }
}

fn kills(policy: &Policy, why: &str, mut reasons: Vec<Reason>) -> Decision {
    reasons.extend(held_by(policy));
    let message = match policy.stance {
        Stance::Act => format!("killed: {why}"),
        Stance::Paused => format!("not killed during the pause: {why}"),
        Stance::Observe => format!("would be killed: {why}"),
    };
    Decision { level: Level::Warning, kind: kind(policy, "killing", "would-kill"), message, reasons }
}

/// A start that became due and is not done.
pub(super) fn start_held(policy: &Policy) -> Decision {
    let message = match policy.stance {
        Stance::Observe => "would be started again now",
        Stance::Act | Stance::Paused => "not started again during the pause",
    };
    let kind = kind(policy, "restarting", "would-restart");
    let reasons = [Reason::seen("its process ended, and the delay is over")].into_iter().chain(held_by(policy));
    Decision { level: Level::Warning, kind, message: message.to_owned(), reasons: reasons.collect() }
}

pub(super) fn start_timeout(policy: &Policy) -> Decision {
    let limit = span(policy.start_timeout);
    kills(
        policy,
        &format!("not ready within {limit} of its start"),
        vec![
            Reason::seen("no probe has passed since it was started"),
            Reason::rule(format!("start_timeout = {limit}")),
            Reason::ruled_out("waiting longer: what is not ready by then counts as a failed start"),
        ],
    )
}

pub(super) fn liveness(policy: &Policy, failing: Duration, seen: &str) -> Decision {
    let limit = span(policy.liveness_after.unwrap_or_default());
    kills(
        policy,
        &format!("its liveness check has failed for {}", span(failing)),
        vec![
            Reason::seen(format!("the check saw: {seen}")),
            Reason::rule(format!("liveness.after = {limit}")),
            Reason::ruled_out("a stop signal: a process that answers nothing may not take one"),
        ],
    )
}

pub(super) fn ready(took: Duration, reason: &str) -> Decision {
    Decision {
        level: Level::Info,
        kind: "ready",
        message: format!("ready {} after its start", span(took)),
        reasons: if reason.is_empty() { Vec::new() } else { vec![Reason::seen(reason)] },
    }
}

pub(super) fn removed(reason: &str) -> Decision {
    Decision {
        level: Level::Info,
        kind: "removed",
        message: "removed; it had no process".to_owned(),
        reasons: vec![Reason::seen(reason)],
    }
}

pub(super) fn draining(policy: &Policy, reason: &str) -> Decision {
    Decision {
        level: Level::Info,
        kind: "draining",
        message: "draining: it finishes its requests and gets no new ones".to_owned(),
        reasons: vec![Reason::seen(reason), Reason::rule(format!("stop.drain = {}", span(policy.drain)))],
    }
}

pub(super) fn stopping(policy: &Policy, leaving: &str, why: &str) -> Decision {
    Decision {
        level: Level::Info,
        kind: "stopping",
        message: "told to stop".to_owned(),
        reasons: vec![
            Reason::seen(leaving),
            Reason::seen(why),
            Reason::rule(format!("stop.grace = {}: whatever is left then is killed", span(policy.grace))),
        ],
    }
}

pub(super) fn stopped(how: &str, leaving: Option<&str>) -> Decision {
    Decision {
        level: Level::Info,
        kind: "stopped",
        message: format!("stopped: it {how}"),
        reasons: leaving.map(Reason::seen).into_iter().collect(),
    }
}

pub(super) fn gave_up(policy: &Policy, how: &str, killed: Option<&str>) -> Decision {
    let mut reasons = vec![Reason::seen(format!("its last process {how}"))];
    reasons.extend(killed.map(Reason::seen));
    reasons.push(Reason::rule(format!("restart.attempts = {}", policy.attempts)));
    reasons.push(Reason::ruled_out("another start: none of these came as far as being healthy"));
    Decision {
        level: Level::Error,
        kind: "gave-up",
        message: format!(
            "gave up after {} in a row; its last output is kept, and `keel apply` with a new revision starts it again",
            if policy.attempts == 1 { "one exit".to_owned() } else { format!("{} exits", policy.attempts) }
        ),
        reasons,
    }
}

pub(super) fn restarting(
    policy: &Policy,
    how: &str,
    killed: Option<&str>,
    delay: Duration,
    memory: &Memory,
    was_ready: bool,
) -> Decision {
    let mut reasons = vec![Reason::seen(format!("its process {how}"))];
    reasons.extend(killed.map(Reason::seen));
    let nth = memory.exits;
    if delay.is_zero() {
        reasons.push(Reason::rule("the first exit in a row is answered at once"));
    } else if was_ready && delay >= super::SHORT_DELAY {
        reasons.push(Reason::rule(format!("exit {nth} in a row, but it had been healthy: at most {}", span(delay))));
    } else {
        let (first, longest) = (span(policy.delay), span(policy.max_delay));
        reasons.push(Reason::rule(format!("exit {nth} in a row: the delay doubles from {first} to {longest}")));
    }
    if memory.fruitless > 0 {
        let left = policy.attempts - memory.fruitless;
        reasons.push(Reason::ruled_out(format!("giving up: {left} more without being healthy first")));
    }
    reasons.extend(held_by(policy));
    let when = if delay.is_zero() { "at once".to_owned() } else { format!("in {}", span(delay)) };
    let message = match policy.stance {
        Stance::Act => format!("{how}; starting it again {when}"),
        Stance::Paused => format!("{how}; not started again during the pause"),
        Stance::Observe => format!("{how}; would start it again {when}"),
    };
    Decision { level: Level::Warning, kind: kind(policy, "restarting", "would-restart"), message, reasons }
}

pub(super) fn trying_again(reason: &str) -> Decision {
    Decision {
        level: Level::Info,
        kind: "trying-again",
        message: "starting it again although it had given up".to_owned(),
        reasons: vec![Reason::seen(reason)],
    }
}
