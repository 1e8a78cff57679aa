//! What a run amounts to, in sentences: the same on the terminal and in the page, for somebody who reads it first.
//!
//! Pure functions of a [`Report`]. What counts stands first: how long nobody was answered, whether data was lost, when
//! what was healthy again. Nothing here decides a verdict.

use evenkeel_core::{
    drill::{Fault, Outage, Report, Target, Verdict, WILL_NOT_PASS, in_words},
    journal::Reason,
    words::{count, counted},
};

/// Where fewer requests than this may fail so far, one more or less is a large share.
const EARLY: f64 = 10.0;

/// How much longer than `liveness` waits an instance hangs that shall be seen restarted, in seconds.
const LONGER_S: u64 = 5;

/// What a run that failed only since it shows nothing says.
pub(super) const NO_VERDICT: &str = "No verdict about the protection: nothing was shown.";

/// Something to do, and the command for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Why, in words.
    pub(super) why: String,
    /// What to type, without `keel`, or to write into the stack file.
    pub(super) what: Todo,
}

/// How it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Todo {
    /// A command of `keel`, without that word.
    Command(String),
    /// Lines of the stack file.
    Lines(String),
}

/// How long nobody was answered, and which requests failed when.
pub(super) fn outage(report: &Report) -> String {
    let all = requests(report.requests);
    let Some(outage) = report.outage.filter(Outage::is_down) else {
        let pause = report.outage.map(|outage| {
            let counts = in_words(outage.least_ms());
            format!("{} between two answers; from {counts} on it would count as down", in_words(outage.lasted_ms))
        });
        return match (report.errors, pause) {
            (0, None) => format!("None of {all} failed."),
            (0, Some(pause)) => {
                format!("Never down: none of {all} failed, and there was never more than {pause}.")
            }
            (n, _) if report.unavoidable_errors >= n => {
                format!(
                    "Never down: {} of {all} broke off with the connections that died, and no other failed.",
                    count(n)
                )
            }
            (n, None) => format!("{} of {all} failed.", count(n)),
            (n, Some(_)) => {
                format!("Never down as a whole: {} of {all} failed, and others were answered meanwhile.", count(n))
            }
        };
    };
    let span = in_words(outage.lasted_ms);
    let within = match outage.failed {
        0 => format!("For {span} nobody got an answer, but everybody who waited got one in the end"),
        // Whoever waited for longer than it lasted was answered after it.
        n if report.worst_ms >= outage.lasted_ms => {
            format!("Down for {span}: {} failed in that time, and others waited until it was over", requests(n))
        }
        1 => format!("Down for {span}: the one request of that time failed"),
        n => format!("Down for {span}: all {} of that time failed", requests(n)),
    };
    let rest = report.errors.saturating_sub(outage.failed);
    let excused = rest > 0 && report.unavoidable_errors >= report.errors;
    let beside = match (rest, outage.failed) {
        (0, 0) => "; no request failed".to_owned(),
        (0, _) if outage.ended => "; before and after it none did".to_owned(),
        (0, _) => "; before it none did".to_owned(),
        (n, _) if excused => {
            format!("; {} more broke off between the harm and recovery, and none before or after", count(n))
        }
        (n, _) => format!("; {} more failed at other times", count(n)),
    };
    let end = if outage.ended { "" } else { " It was still down when the drill ended." };
    format!("{within}{beside} ({all} in all).{end}")
}

/// Whether data was lost.
pub(super) fn lost(report: &Report) -> String {
    let all = counted_writes(report.acknowledged_writes);
    match (report.acknowledged_writes + report.unacknowledged_writes, report.acknowledged_writes) {
        (0, _) => "Lost data: not tested.".to_owned(),
        (_, 0) => "Lost data: not tested, since no write was confirmed.".to_owned(),
        _ if report.lost_writes + report.doubled_writes + report.unverified_writes == 0 => {
            format!("Lost data: none. Each of {all} is there exactly once.{}", unanswered(report))
        }
        _ => format!(
            "Lost data: of {all} {} missing; {} there more than once; {} could not be looked for.",
            is_are(report.lost_writes),
            is_are(report.doubled_writes),
            count(report.unverified_writes)
        ),
    }
}

/// What became of writes that nobody confirmed: they may be there or not, and both is right.
fn unanswered(report: &Report) -> String {
    let (n, Some(there)) = (report.unacknowledged_writes, report.unacknowledged_there) else { return String::new() };
    if n == 0 {
        return String::new();
    }
    let whose = format!(" Of {} without an answer", counted(n, "write", "writes"));
    match there {
        0 => format!("{whose} none is there: nobody was told that it would be."),
        _ => format!("{whose} {}, once: whoever sent one cannot know.", is_are(there) + " there"),
    }
}

/// What a drill waits for, as something that was so again: no more than was looked at.
pub(super) fn well(report: &Report) -> String {
    let service = &report.subject.service;
    match (&report.fault, report.subject.target) {
        (_, Target::Stack) => "every copy of every service was healthy".to_owned(),
        (Fault::Kill, Target::Edge) => format!("the edge was back and every copy of {service} healthy"),
        (Fault::Kill, Target::Node) => format!("the node process was back and every copy of {service} healthy"),
        (Fault::Kill, Target::Guard) => format!("the guard was back and every copy of {service} healthy"),
        (Fault::BadRelease, _) => format!("every copy of {service} ran the former release"),
        _ => format!("every copy of {service} was healthy"),
    }
}

/// When what the drill waits for was so again.
pub(super) fn recovery(report: &Report) -> String {
    let well = well(report);
    let began = match report.started_by_drill_ms {
        Some(ms) => format!("The drill started it again after {}", in_words(ms)),
        None => String::new(),
    };
    match (report.recovery_ms, report.started_by_drill_ms) {
        (Some(ms), Some(_)) => format!("{began}; from then on it took {} until {well} again.", in_words(ms)),
        (Some(ms), None) if report.fault == Fault::BadRelease => {
            format!("The deploy was over, and {well} again, {} after it had begun.", in_words(ms))
        }
        (Some(ms), None) if report.thawed_by_drill => {
            format!("{} again {} after the harm, once the drill had thawed it.", capital(&well), in_words(ms))
        }
        (Some(ms), None) => format!("{} again {} after the harm.", capital(&well), in_words(ms)),
        (None, Some(_)) => format!("{began}, and by then time was up."),
        (None, None) if report.aborted.is_some() => format!("It was given up before {well} again."),
        (None, None) => format!("Time was up before {well} again."),
    }
}

/// When keel itself noticed; `None` where there was nothing to notice.
pub(super) fn noticed(report: &Report) -> Option<String> {
    match (&report.fault, report.detection_ms) {
        (Fault::Ramp { .. }, _) => None,
        (_, Some(ms)) if report.noticed_by_drill => {
            Some(format!("Not noticed by keel, which was down itself: the drill saw it after {}.", in_words(ms)))
        }
        _ if report.noticed_by_drill => Some("Not noticed by keel, which was down itself.".to_owned()),
        (_, Some(ms)) => Some(format!("Noticed by keel {} after the harm.", in_words(ms))),
        (_, None) => Some("Never noticed by keel.".to_owned()),
    }
}

/// What the run took of what may go wrong.
pub(super) fn budget(report: &Report) -> Option<String> {
    let period = report.budget_window_ms.map_or_else(String::new, |ms| format!(" of the last {}", days(ms)));
    let (spent, budget) = (report.budget_spent?, report.budget.as_ref()?);
    let taken = match (report.errors, spent) {
        (0, spent) if spent <= 0.0 => "This drill took nothing of that.".to_owned(),
        (n, spent) if spent >= 1000.0 => {
            format!("The {} that failed in this drill are {} times as many.", count(n), few(spent / 100.0))
        }
        (n, spent) => format!("The {} that failed in this drill are {} % of that.", count(n), few(spent)),
    };
    // No part of a request can fail.
    let allowed = match budget.allowed {
        n if n < 1.0 => "not one".to_owned(),
        n => format!("{:.0}", n.floor()),
    };
    // The first requests of a window allow next to nothing.
    let early = if spent > 0.0 && budget.allowed < EARLY {
        " So few were counted yet that this share says little."
    } else {
        ""
    };
    Some(format!(
        "Error budget: the objective is that {} % of the requests{period} to {} end well, those of real visitors and of \
         drills alike. {} were counted so far, of which {allowed} may fail. {taken}{early}",
        budget.target_percent,
        report.subject.service,
        count(budget.counted),
    ))
}

/// What can be done now, most important first.
pub(super) fn next(report: &Report) -> Vec<Step> {
    let drill = &report.drill;
    let command = |why: &str, what: String| Step { why: why.to_owned(), what: Todo::Command(what) };
    let mut steps = Vec::new();
    if report.started_by_drill_ms.is_some() {
        let why = "let a service manager start `keel up` at boot and after a crash; this says what is missing for that";
        steps.push(command(why, "doctor".to_owned()));
    }
    steps.extend(restarted(report));
    let will_not_pass = |reason: &Reason| reason.text.contains(WILL_NOT_PASS);
    if report.shows_nothing && report.reasons.iter().any(will_not_pass) {
        let why =
            "give the service a check by HTTP: with one of another kind this drill's release never gets a request";
        let lines = format!("[services.{}]\ncheck = {{ http = \"/healthz\" }}", report.subject.service);
        steps.push(Step { why: why.to_owned(), what: Todo::Lines(lines) });
    } else if report.shows_nothing {
        let why = "nothing has to be changed for now: rehearse it again, when the machine has less to do";
        steps.push(command(why, format!("drill run {drill}")));
        let why = "if nothing is shown again, see what was decided meanwhile, and why";
        steps.push(command(why, format!("why {}", report.subject.service)));
    } else if report.verdict == Verdict::Fail {
        let subject = match report.subject.target {
            Target::Instance => &report.subject.name,
            _ => &report.subject.service,
        };
        steps.push(command("see what was decided about it at the time, and why", format!("why {subject}")));
        steps.push(command("then change what did not hold, and rehearse it again", format!("drill run {drill}")));
    }
    if report.acknowledged_writes + report.unacknowledged_writes == 0 && report.capacity.is_none() {
        let why =
            "say in the stack file what a drill may write and how it is found again, so that lost data is tested too";
        let lines = "[drills]\nwrite = { post = \"/orders\", body = \"{}\", verify = \"/orders?key={key}\" }";
        steps.push(Step { why: why.to_owned(), what: Todo::Lines(lines.to_owned()) });
    }
    if report.verdict == Verdict::Pass && !report.scheduled {
        let lines = format!("[[drills.schedule]]\ndrill = \"{drill}\"\nat = \"Tue 03:00\"");
        let why = "let it run by itself, so that the proof stays fresh (times are UTC)";
        steps.push(Step { why: why.to_owned(), what: Todo::Lines(lines) });
    }
    steps
}

/// How keel itself would bring back what only the drill did.
fn restarted(report: &Report) -> Option<Step> {
    if !report.thawed_by_drill {
        return None;
    }
    let service = &report.subject.service;
    Some(match report.liveness_after_ms {
        None => Step {
            why: "let keel restart an instance that hangs: name a path that a healthy one always answers".to_owned(),
            what: Todo::Lines(format!("[services.{service}]\nliveness = {{ http = \"/\", after = \"2s\" }}")),
        },
        Some(ms) => Step {
            why: "see keel restart it: hang it for longer than `liveness` waits".to_owned(),
            what: Todo::Command(format!("drill run {} --for {}s", report.drill, ms.div_ceil(1000) + LONGER_S)),
        },
    })
}

/// A number of requests with its noun.
pub(super) fn requests(n: u64) -> String {
    format!("{} {}", count(n), if n == 1 { "request" } else { "requests" })
}

/// With a capital.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}", first.to_ascii_uppercase(), letters.as_str()))
}

/// A long time in whole days or hours.
fn days(ms: u64) -> String {
    const HOUR_MS: u64 = 3_600_000;
    match ms {
        ms if ms >= 48 * HOUR_MS => format!("{} days", ms / (24 * HOUR_MS)),
        ms if ms >= 2 * HOUR_MS => format!("{} hours", ms / HOUR_MS),
        ms => format!("{} minutes", ms / 60_000),
    }
}

/// What no run shows, in the order in which it matters.
pub(super) fn beyond(report: &Report) -> Vec<String> {
    if report.capacity.is_some() {
        return vec!["real visitors are not counted here, and they may ask for other things than these".to_owned()];
    }
    vec![
        "real visitors are not counted here: only what the drill's own ten connections got".to_owned(),
        "ten connections for some seconds say nothing about the hour in which most visitors come".to_owned(),
    ]
}

fn counted_writes(n: u64) -> String {
    format!("{} confirmed {}", count(n), if n == 1 { "write" } else { "writes" })
}

fn is_are(n: u64) -> String {
    counted(n, "is", "are")
}

/// A number that is a count where it is large, and shows that it is not nothing where it is small.
fn few(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{drill::Tick, objectives::Budget};

    use super::*;
    use crate::drill::html::tests::some_report;

    fn down(lasted_ms: u64, failed: u64) -> Outage {
        Outage { from_ms: 1000, lasted_ms, failed, ended: true, usual_ms: 5 }
    }

    #[test]
    fn an_outage_says_what_failed_in_it_and_what_beside() {
        let mut report = some_report(Verdict::Pass);
        (report.requests, report.errors, report.unavoidable_errors) = (1391, 878, 878);
        report.outage = Some(down(3211, 878));
        let text = "Down for 3.2 s: all 878 requests of that time failed; before and after it none did (1,391 requests in all).";
        assert_eq!(outage(&report), text);
        report.worst_ms = 3300;
        assert!(outage(&report).contains("878 requests failed in that time, and others waited"), "{}", outage(&report));
        report.errors = 888;
        assert!(outage(&report).contains("; 10 more failed at other times"), "{}", outage(&report));
        report.unavoidable_errors = 888;
        assert!(outage(&report).contains("10 more broke off between the harm and recovery"), "{}", outage(&report));
        (report.errors, report.outage) = (0, Some(down(400, 0)));
        assert!(outage(&report).starts_with("For 400 ms nobody got an answer, but everybody who waited"));
        report.outage = Some(down(12, 0));
        assert!(
            outage(&report)
                .contains("never more than 12 ms between two answers; from 100 ms on it would count as down")
        );
    }

    #[test]
    fn one_that_did_not_end_says_so() {
        let mut report = some_report(Verdict::Fail);
        (report.errors, report.outage) = (5, Some(Outage { ended: false, ..down(3000, 5) }));
        assert!(outage(&report).ends_with("It was still down when the drill ended."));
    }

    #[test]
    fn what_the_drill_waited_and_saw_is_its_own() {
        let mut report = some_report(Verdict::Pass);
        (report.started_by_drill_ms, report.recovery_ms, report.noticed_by_drill) = (Some(3100), Some(900), true);
        assert_eq!(
            recovery(&report),
            "The drill started it again after 3.1 s; from then on it took 900 ms until every copy of shop was healthy again."
        );
        assert_eq!(
            noticed(&report).unwrap(),
            "Not noticed by keel, which was down itself: the drill saw it after 40 ms."
        );
        assert_eq!(next(&report)[0].what, Todo::Command("doctor".to_owned()));
    }

    #[test]
    fn data_is_lost_kept_or_was_not_tested() {
        let mut report = some_report(Verdict::Pass);
        assert_eq!(lost(&report), "Lost data: not tested.");
        assert!(next(&report).iter().any(|step| matches!(&step.what, Todo::Lines(lines) if lines.contains("verify"))));
        report.acknowledged_writes = 42;
        assert_eq!(lost(&report), "Lost data: none. Each of 42 confirmed writes is there exactly once.");
        (report.unacknowledged_writes, report.unacknowledged_there) = (2, Some(1));
        assert!(
            lost(&report).ends_with("Of 2 writes without an answer 1 is there, once: whoever sent one cannot know.")
        );
        report.unacknowledged_there = Some(0);
        assert!(lost(&report).contains("Of 2 writes without an answer none is there"), "{}", lost(&report));
        report.unacknowledged_there = None;
        assert!(lost(&report).ends_with("exactly once."), "a report that did not count them claims nothing");
        report.lost_writes = 1;
        assert!(lost(&report).contains("of 42 confirmed writes 1 is missing; 0 are there more than once"));
    }

    #[test]
    fn a_budget_is_told_in_requests() {
        let mut report = some_report(Verdict::Pass);
        assert_eq!(budget(&report), None);
        report.errors = 10;
        report.budget = Some(Budget { target_percent: 99.9, counted: 20_000, allowed: 20.0, ..Budget::default() });
        (report.budget_spent, report.budget_window_ms) = (Some(50.0), Some(30 * 86_400_000));
        assert_eq!(
            budget(&report).unwrap(),
            "Error budget: the objective is that 99.9 % of the requests of the last 30 days to shop end well, those of real \
             visitors and of drills alike. 20,000 were counted so far, of which 20 may fail. The 10 that failed in this \
             drill are 50 % of that."
        );
        (report.errors, report.budget_spent) = (929, Some(138_450.0));
        report.budget.as_mut().unwrap().allowed = 0.671;
        let told = budget(&report).unwrap();
        assert!(
            told.contains("of which not one may fail. The 929 that failed in this drill are 1384 times as many."),
            "{told}"
        );
        assert!(told.ends_with("says little."), "{told}");
    }

    #[test]
    fn what_was_waited_for_is_told_and_no_more() {
        let mut report = some_report(Verdict::Pass);
        assert_eq!(recovery(&report), "Every copy of shop was healthy again 900 ms after the harm.");
        report.subject.target = Target::Edge;
        assert!(recovery(&report).starts_with("The edge was back and every copy of shop healthy again 900 ms"));
        (report.fault, report.subject.target) = (Fault::Reboot, Target::Stack);
        assert!(recovery(&report).starts_with("Every copy of every service was healthy again"));
        (report.fault, report.subject.target) = (Fault::BadRelease, Target::Service);
        assert!(
            recovery(&report).contains("every copy of shop ran the former release again, 900 ms after it had begun")
        );
    }

    #[test]
    fn where_nothing_was_shown_nothing_has_to_be_changed() {
        let mut report = some_report(Verdict::Fail);
        report.shows_nothing = true;
        let steps = next(&report);
        assert_eq!(steps[0].what, Todo::Command("drill run kill-instance".to_owned()));
        assert!(steps.iter().all(|step| !step.why.contains("change what did not hold")), "{steps:?}");
        report.reasons.push(Reason::rule(format!("{WILL_NOT_PASS}, so it never gets a request")));
        assert!(next(&report)[0].why.starts_with("give the service a check by HTTP"), "again would show nothing again");
    }

    #[test]
    fn what_only_the_drill_brought_back_needs_liveness() {
        let mut report = some_report(Verdict::Pass);
        report.thawed_by_drill = true;
        assert!(recovery(&report).ends_with("after the harm, once the drill had thawed it."), "{}", recovery(&report));
        assert!(matches!(&next(&report)[0].what, Todo::Lines(lines) if lines.contains("liveness = { http")));
        report.liveness_after_ms = Some(9500);
        assert_eq!(next(&report)[0].what, Todo::Command("drill run kill-instance --for 15s".to_owned()));
    }

    #[test]
    fn what_is_scheduled_already_need_not_be() {
        let mut report = some_report(Verdict::Pass);
        let told = |report: &Report| next(report).iter().any(|step| step.why.contains("let it run by itself"));
        assert!(told(&report));
        report.scheduled = true;
        assert!(!told(&report));
    }

    #[test]
    fn each_report_has_something_to_do_next() {
        for verdict in [Verdict::Pass, Verdict::Fail] {
            assert!(!next(&some_report(verdict)).is_empty());
        }
        let failed = next(&some_report(Verdict::Fail));
        assert_eq!(failed[0].what, Todo::Command("why shop/1".to_owned()));
        let ticks: u64 = some_report(Verdict::Fail).series.iter().map(|tick: &Tick| tick.requests).sum();
        assert_eq!(ticks, some_report(Verdict::Fail).requests, "what the page sums up is the total");
    }
}
