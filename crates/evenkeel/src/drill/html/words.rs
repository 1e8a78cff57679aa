//! What happened, in sentences for somebody who knows neither the stack nor the words.

use evenkeel_core::{
    drill::{Capacity, Fault, Plan, Report, Target, Verdict, in_words},
    time::WallTime,
};

use crate::words::count;

/// What was rehearsed, as a headline.
pub(super) fn title(report: &Report) -> String {
    let service = &report.subject.service;
    let copy = if is_alone(report) { "The only" } else { "One" };
    match (&report.fault, report.subject.target) {
        (Fault::Kill, Target::Instance) => format!("{copy} copy of “{service}” was killed while clients used it"),
        (Fault::Kill, Target::Edge) => "The process that takes all requests was killed".to_owned(),
        (Fault::Kill, Target::Node) => "The process that decides was killed while clients used the service".to_owned(),
        (Fault::Kill, Target::Guard) => "The process that watches all others was killed".to_owned(),
        (Fault::Freeze { .. }, _) => format!("{copy} copy of “{service}” hung while clients used it"),
        (Fault::Stutter { .. }, _) => format!("{copy} copy of “{service}” became slow while clients used it"),
        (Fault::KillAgain { .. }, _) => format!("{copy} copy of “{service}” crashed again and again"),
        (Fault::BadRelease, _) => format!("A broken release of “{service}” was deployed"),
        (Fault::Spike { factor, .. }, _) => format!("“{service}” got {factor} times as many requests"),
        (Fault::Ramp { .. }, _) => format!("How many requests “{service}” bears"),
        (Fault::DiskFull { .. }, _) => "The disk was full while clients used the service".to_owned(),
        (Fault::SlowDependency { service: other, .. }, _) => {
            format!("“{other}”, which “{service}” needs, became slow")
        }
        (Fault::ClockStep { .. }, _) => "The clock jumped while clients used the service".to_owned(),
        (Fault::Reboot, _) => "Everything was killed at once, as by a loss of power".to_owned(),
        (fault, _) => format!("{}: {fault}", report.drill),
    }
}

/// Whether the plan found that nobody else could answer.
fn is_alone(report: &Report) -> bool {
    report.reasons.iter().any(|reason| reason.text.starts_with("there is only one instance"))
}

/// The verdict in one sentence.
pub(super) fn verdict(report: &Report) -> String {
    if report.verdict == Verdict::Fail {
        let reason = report.reasons.first().map(|reason| reason.text.clone()).unwrap_or_default();
        return match report.failed_conditions {
            0 | 1 => format!("What did not hold: {reason}."),
            n => format!("{n} conditions did not hold; the first: {reason}."),
        };
    }
    if let Some(capacity) = &report.capacity {
        let Capacity { rate, rate_with_one_gone, .. } = capacity;
        return format!(
            "The service bears {} requests a second, and {} with one copy of it gone.",
            count(*rate),
            count(*rate_with_one_gone)
        );
    }
    let errors = match (report.errors.saturating_sub(report.unavoidable_errors), report.unavoidable_errors) {
        (0, 0) => "No client saw an error".to_owned(),
        (0, n) => format!("Apart from {}, which nothing could have saved, no client saw an error", requests(n)),
        (n, _) => format!("{} failed, and that many may", requests(n)),
    };
    match report.recovery_ms {
        Some(ms) => format!("{errors}, and everything was well again after {}.", in_words(ms)),
        None => format!("{errors}."),
    }
}

/// What was done, a few sentences.
pub(super) fn done(report: &Report, plan: &Plan) -> Vec<String> {
    let subject = report.subject.in_words();
    let service = &report.subject.service;
    let after = in_words(report.fault_at_ms);
    let served = if is_alone(report) {
        format!("“{service}” is served by a single program. {after} into the drill it, {subject},")
    } else {
        format!(
            "“{service}” is served by several copies of the same program. {after} into the drill one of them, {subject},"
        )
    };
    let harm = match (&report.fault, report.subject.target) {
        (Fault::Kill, Target::Instance) => format!(
            "{served} was killed at once, without a chance to finish its work: as in a crash, or when memory runs out."
        ),
        (Fault::Kill, _) => format!("{after} into the drill {subject} was killed at once, as in a crash."),
        (Fault::Freeze { .. }, _) => {
            format!("{served} was frozen: it kept its connections open but answered nothing, as in a deadlock.")
        }
        (Fault::Stutter { stopped_ms, running_ms, .. }, _) => format!(
            "From {after} on, {subject} stood still for {} of every {}, so that it answered, but late.",
            in_words(*stopped_ms),
            in_words(stopped_ms + running_ms)
        ),
        (Fault::KillAgain { times }, _) => {
            format!("From {after} on, {subject} was killed each time it had started, {times} times in all.")
        }
        (Fault::BadRelease, _) => {
            format!("{after} into the drill a new version of “{service}” was deployed that does not work.")
        }
        (Fault::Spike { for_ms, factor, .. }, _) => {
            format!("From {after} on, for {}, clients sent {factor} times as many requests.", in_words(*for_ms))
        }
        (Fault::Ramp { .. }, _) => "Clients sent ever more requests until the service could not answer them in time; \
                                    then the same again with one copy of it gone."
            .to_owned(),
        (Fault::DiskFull { for_ms, .. }, _) => {
            format!("From {after} on, for {}, Evenkeel could write nothing to its disk.", in_words(*for_ms))
        }
        (Fault::SlowDependency { service: other, .. }, _) => {
            format!("From {after} on, “{other}”, which “{service}” asks for what it needs, answered late.")
        }
        (fault, _) => format!("{after} into the drill: {fault}."),
    };
    let writes = plan.writes.as_ref().map_or_else(String::new, |writes| {
        format!(" and wrote to {} (each write with a name of its own, looked for afterwards)", writes.post)
    });
    let clients = format!("Before, meanwhile and after, test clients read {}{writes}, all the time.", plan.read);
    let lasted =
        report.released_at_ms.filter(|_| report.fault.lasts_ms() > 0 && report.capacity.is_none()).map(|released| {
            format!("The harm was taken back after {}.", in_words(released.saturating_sub(report.fault_at_ms)))
        });
    let mut sentences = vec![harm];
    sentences.extend(lasted);
    sentences.push(clients);
    sentences.extend(report.aborted.as_ref().map(|why| format!("The drill was given up early: {why}.")));
    sentences
}

/// What users would have noticed.
pub(super) fn noticed(report: &Report) -> Vec<String> {
    let sent = count(report.requests);
    let mut sentences = vec![match report.errors {
        0 => format!("No errors: all {sent} requests got their answer."),
        n => format!(
            "{} of {sent} requests failed ({}): whoever sent one saw an error or a broken connection.",
            count(n),
            percent(n, report.requests)
        ),
    }];
    if report.unavoidable_errors > 0 {
        let n = requests(report.unavoidable_errors);
        sentences.push(format!("{n} of them nothing could have saved; they do not count against the verdict."));
    }
    if report.capacity.is_some() {
        // Clients were many and slow on purpose; what waits mean there the rates below say.
        return sentences;
    }
    let before = in_words(report.worst_before_ms);
    sentences.push(match report.worst_ms.saturating_sub(report.worst_before_ms) {
        0..=20 => {
            format!(
                "Answers came as fast as ever: the slowest took {}, before the harm {before}.",
                in_words(report.worst_ms)
            )
        }
        _ => format!(
            "The longest wait for an answer was {}; before the harm it was {before}. 99 of 100 requests after it took \
             at most {}.",
            in_words(report.worst_ms),
            in_words(report.p99_ms)
        ),
    });
    let writes = report.acknowledged_writes + report.unacknowledged_writes;
    if writes > 0 {
        let lost_or_doubled = report.lost_writes + report.doubled_writes + report.unverified_writes;
        sentences.push(if lost_or_doubled == 0 {
            format!(
                "Nothing was lost: each of the {} writes that were confirmed is there exactly once.",
                count(report.acknowledged_writes)
            )
        } else {
            format!(
                "Of {} confirmed writes {} are missing, {} are there more than once and {} could not be looked for.",
                count(report.acknowledged_writes),
                report.lost_writes,
                report.doubled_writes,
                report.unverified_writes
            )
        });
    }
    if let Some(spent) = report.budget_spent {
        sentences.push(format!("It took {spent:.2} % of the errors that the service may have (its error budget)."));
    }
    sentences
}

fn requests(n: u64) -> String {
    if n == 1 { "1 request".to_owned() } else { format!("{} requests", count(n)) }
}

#[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", part as f64 * 100.0 / whole.max(1) as f64)
}

/// The day and minute, UTC.
pub(super) fn day(at: WallTime) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(time)) => format!("{day}, {time} UTC"),
        _ => text,
    }
}

/// A moment from the start of the drill on; negative before it.
pub(super) fn relative(at: WallTime, start: WallTime) -> String {
    if at < start {
        format!("−{}", in_words(start.as_millis() - at.as_millis()))
    } else {
        in_words(at.as_millis() - start.as_millis())
    }
}
