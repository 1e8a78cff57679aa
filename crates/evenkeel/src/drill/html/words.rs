//! What happened, in sentences for somebody who knows neither the stack nor the words.

use evenkeel_core::{
    drill::{Capacity, Fault, Plan, Report, Target, Verdict, in_words},
    time::WallTime,
};

use crate::{
    drill::summary::{self, requests},
    words::{count, plain},
};

/// What was rehearsed, as a headline.
pub(super) fn title(report: &Report) -> String {
    let service = &report.subject.service;
    let copy = if is_alone(report) { "The only" } else { "One" };
    match (&report.fault, report.subject.target) {
        (Fault::Kill, Target::Instance) => format!("{copy} copy of “{service}” was killed while it was used"),
        (Fault::Kill, Target::Edge) => "The process that takes all requests was killed".to_owned(),
        (Fault::Kill, Target::Node) => "The process that decides was killed while the service was used".to_owned(),
        (Fault::Kill, Target::Guard) => "The process that watches all others was killed".to_owned(),
        (Fault::Freeze { .. }, _) => format!("{copy} copy of “{service}” hung while it was used"),
        (Fault::Stutter { .. }, _) => format!("{copy} copy of “{service}” became slow while it was used"),
        (Fault::KillAgain { .. }, _) => format!("{copy} copy of “{service}” crashed again and again"),
        (Fault::BadRelease, _) => format!("A broken release of “{service}” was deployed"),
        (Fault::Spike { factor, .. }, _) => format!("“{service}” got {factor} times as many requests"),
        (Fault::Ramp { .. }, _) => format!("How many requests “{service}” bears"),
        (Fault::DiskFull { .. }, _) => "The disk was full while the service was used".to_owned(),
        (Fault::SlowDependency { service: other, .. }, _) => {
            format!("“{other}”, which “{service}” needs, became slow")
        }
        (Fault::ClockStep { .. }, _) => "The clock jumped while the service was used".to_owned(),
        (Fault::Reboot, _) => "All processes of keel and of every service were killed at once".to_owned(),
        (fault, _) => format!("{}: {fault}", report.drill),
    }
}

/// Whether the plan found that nobody else could answer.
fn is_alone(report: &Report) -> bool {
    report.reasons.iter().any(|reason| reason.text.starts_with("there is only one instance"))
}

/// What the verdict amounts to: what did not hold, how long the service was down, what was lost, when all was well.
pub(super) fn verdict(report: &Report) -> Vec<String> {
    let mut sentences = Vec::new();
    if report.verdict == Verdict::Fail {
        let reason = report.reasons.first().map(|reason| plain(&reason.text)).unwrap_or_default();
        sentences.push(match report.failed_conditions {
            _ if report.shows_nothing => {
                format!("{}.", summary::capital(reason.trim_start_matches("nothing was shown: ")))
            }
            0 | 1 => format!("What did not hold is this. {}.", summary::capital(&reason)),
            n => format!("{n} conditions did not hold. The first: {reason}."),
        });
    }
    if let Some(capacity) = &report.capacity {
        let Capacity { rate, rate_with_one_gone, .. } = capacity;
        sentences.push(format!(
            "The service bears {} requests a second, and {} with one copy of it gone.",
            count(*rate),
            count(*rate_with_one_gone)
        ));
        return sentences;
    }
    sentences.extend(replaced(report));
    sentences.push(summary::outage(report));
    if report.verdict == Verdict::Pass && report.unavoidable_errors > 0 {
        sentences
            .push("This kind of harm cannot be got over without that, so it is not held against the stack.".to_owned());
    }
    sentences.push(summary::lost(report));
    sentences.push(summary::recovery(report));
    sentences
}

/// What was done, a few sentences.
pub(super) fn done(report: &Report, plan: &Plan) -> Vec<String> {
    let takes_back = |_: &u64| report.fault.lasts_ms() > 0 && report.capacity.is_none() && replaced(report).is_none();
    let lasted = report.released_at_ms.filter(takes_back).map(|released| {
        format!("The drill took the harm back after {}.", in_words(released.saturating_sub(report.fault_at_ms)))
    });
    let mut sentences = vec![harm(report)];
    sentences.extend(started_again(report));
    sentences.extend(replaced(report));
    sentences.extend(lasted);
    sentences.push(visitors(plan));
    sentences.extend(report.aborted.as_ref().map(|why| format!("The drill was given up early: {why}.")));
    sentences
}

/// What became of an instance that stood still: where another process took its place, nobody but keel can have ended it.
fn replaced(report: &Report) -> Option<String> {
    let at_ms = report.stages.iter().find(|stage| stage.name == "replaced")?.at_ms;
    let how = match report.fault {
        Fault::Freeze { .. } => "hanging",
        Fault::Stutter { .. } => "slow",
        _ => return None,
    };
    let after = |at_ms: u64| in_words(at_ms.saturating_sub(report.fault_at_ms));
    let noticed = report.detection_ms.map_or_else(String::new, |ms| {
        format!("noticed the {how} copy after {} and sent it no more requests; it ", in_words(ms))
    });
    Some(format!("keel {noticed}killed that copy, and had started another one after {}.", after(at_ms)))
}

/// The harm that was done.
fn harm(report: &Report) -> String {
    let subject = report.subject.in_words();
    let service = &report.subject.service;
    let after = in_words(report.fault_at_ms);
    let served = served_by(report, &subject, &after);
    match (&report.fault, report.subject.target) {
        (Fault::Kill, Target::Instance) => format!(
            "{served} was killed at once, without a chance to finish its work: as in a crash, or when memory runs out."
        ),
        (Fault::Kill, target) => killed(target, &subject, &after),
        (Fault::Freeze { .. }, _) => {
            format!("{served} was frozen (SIGSTOP): it kept its connections open but answered nothing.")
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
            format!(
                "{after} into the drill a new version of “{service}” was deployed that is made to pass checks and to answer \
                 every request with an error."
            )
        }
        (Fault::Spike { for_ms, factor, .. }, _) => {
            format!("From {after} on, for {}, test visitors sent {factor} times as many requests.", in_words(*for_ms))
        }
        (Fault::Ramp { .. }, _) => {
            "Test visitors sent ever more requests until the service could not answer them in time; \
                                    then the same again with one copy of it gone."
                .to_owned()
        }
        (Fault::DiskFull { for_ms, .. }, _) => {
            format!("From {after} on, for {}, Evenkeel could write nothing to its disk.", in_words(*for_ms))
        }
        (Fault::SlowDependency { service: other, .. }, _) => {
            format!("From {after} on, “{other}”, which “{service}” asks for what it needs, answered late.")
        }
        (Fault::ClockStep { by_ms, for_ms }, _) => format!(
            "{after} into the drill the process of keel that decides was started again with clocks that are {} {}, for {}.",
            in_words(by_ms.unsigned_abs()),
            if *by_ms < 0 { "behind" } else { "ahead" },
            in_words(*for_ms)
        ),
        (Fault::Reboot, _) => rebooted(&after),
    }
}

/// Who was harmed, where one copy of the service was.
fn served_by(report: &Report, subject: &str, after: &str) -> String {
    let service = &report.subject.service;
    let (by, who) = if is_alone(report) {
        ("a single program", "it")
    } else {
        ("several copies of the same program", "one of them")
    };
    format!("“{service}” is served by {by}. {after} into the drill {who}, {subject},")
}

/// One of keel's own processes was killed.
fn killed(target: Target, subject: &str, after: &str) -> String {
    let what = match target {
        Target::Edge => "the edge, which takes all requests and passes them on to instances,",
        Target::Node => "the node process, which watches and decides, and through which no request passes,",
        _ => "the guard, which starts all other processes of keel and watches them,",
    };
    format!("{after} into the drill {what} was killed at once, as in a crash ({subject}).")
}

/// Everything was killed.
fn rebooted(after: &str) -> String {
    format!(
        "{after} into the drill everything was killed at once, the machine itself aside: keel and every instance of every \
         service."
    )
}

/// Who started keel again, where somebody had to.
fn started_again(report: &Report) -> Option<String> {
    if !matches!(report.subject.target, Target::Guard | Target::Stack) {
        return None;
    }
    Some(match (report.started_by_drill_ms, &report.started_by) {
        (Some(ms), _) => format!("Nobody started it again, so the drill did, after {}.", in_words(ms)),
        (None, Some(keeper)) => format!("Then `{keeper}`, which watches over keel here, started it again."),
        (None, None) if report.recovery_ms.is_none() => return None,
        (None, None) => "Then something on this machine started it again; what it was is not known.".to_owned(),
    })
}

/// What test visitors did.
fn visitors(plan: &Plan) -> String {
    let writes = plan.writes.as_ref().map_or_else(String::new, |writes| {
        format!(
            " and wrote to {}, each write with a name of its own, by which it was looked for afterwards",
            writes.post
        )
    });
    format!("Before, meanwhile and after, test visitors read {}{writes}, all the time.", plan.read)
}

/// What test visitors noticed.
pub(super) fn noticed(report: &Report) -> Vec<String> {
    let sent = requests(report.requests);
    let mut sentences = vec![match report.errors {
        0 => format!("No errors: all {sent} got their answer."),
        n => format!(
            "{} of {sent} failed ({}): whoever sent one saw an error or a broken connection.",
            count(n),
            percent(n, report.requests)
        ),
    }];
    if report.capacity.is_some() {
        // Visitors were many and slow on purpose; what waits mean there the rates below say.
        return sentences;
    }
    let (worst, before, p99) = (in_words(report.worst_ms), in_words(report.worst_before_ms), in_words(report.p99_ms));
    sentences.push(match report.worst_ms.saturating_sub(report.worst_before_ms) {
        0..=20 => format!("Answers came as fast as ever: the longest wait was {worst}, before the harm {before}."),
        _ => format!(
            "The longest wait for an answer or an error was {worst}; before the harm it was {before}. 99 of 100 good answers \
             after it came within {p99}."
        ),
    });
    if report.outage.is_some_and(|outage| outage.is_down() && report.worst_ms > outage.lasted_ms) {
        sentences.push(
            "That wait is longer than the time in which nobody was answered: such a request was sent before that time began, \
             or answered after it had ended."
                .to_owned(),
        );
    }
    sentences.push(summary::lost(report));
    sentences.extend(summary::noticed(report));
    sentences.extend(summary::budget(report));
    sentences
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
