//! The few numbers that count, side by side: how long it was down and whether data was lost stand first.

use evenkeel_core::drill::{Fault, Report, Target, in_words};
use maud::{Markup, html};

use crate::words::count;

pub(super) fn render(report: &Report) -> Markup {
    if report.capacity.is_some() {
        // Nothing broke: times until it was noticed and mended would mean nothing.
        return html! {};
    }
    let time = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), in_words);
    let (down, beside_down) = match report.outage {
        Some(outage) if outage.is_down() && outage.ended => {
            (in_words(outage.lasted_ms), "no test visitor got an answer".to_owned())
        }
        Some(outage) if outage.is_down() => (in_words(outage.lasted_ms), "and still so at the end".to_owned()),
        Some(outage) => {
            let (pause, counts) = (in_words(outage.lasted_ms), in_words(outage.least_ms()));
            ("0 s".to_owned(), format!("at most {pause} without an answer; {counts} would count"))
        }
        None => ("–".to_owned(), "not measured".to_owned()),
    };
    let (recovered, beside_recovered) = match report.started_by_drill_ms {
        Some(ms) => (
            time(report.recovery_ms),
            format!("{}, from the drill's own start on, {} after the harm", again(report), in_words(ms)),
        ),
        None => (time(report.recovery_ms), format!("{}, from the harm on", again(report))),
    };
    // Who does the harm has no difficulty in noticing it: that is no figure.
    let (noticed, beside_noticed) = if report.noticed_by_drill {
        ("–".to_owned(), "keel was down itself")
    } else {
        (time(report.detection_ms), "by keel, from the harm on")
    };
    let well = if report.fault == Fault::BadRelease { "rolled back after" } else { "healthy after" };
    let (lost, beside_lost) = lost(report);
    let failed_share = format!("of {} by test visitors", count(report.requests));
    html! {
        dl.figures {
            (figure(&down, "down for", &beside_down))
            (figure(&count(report.errors), "failed requests", &failed_share))
            (figure(&lost, "data lost", &beside_lost))
            (figure(&recovered, well, &beside_recovered))
            (figure(&noticed, "noticed after", beside_noticed))
            (figure(&in_words(report.worst_ms), "longest wait", &format!("{} before the harm", in_words(report.worst_before_ms))))
        }
    }
}

/// What was so again, in as few words as there is room for.
fn again(report: &Report) -> String {
    match report.subject.target {
        Target::Stack => "every copy of every service".to_owned(),
        _ => format!("every copy of {}", report.subject.service),
    }
}

fn lost(report: &Report) -> (String, String) {
    match (report.acknowledged_writes + report.unacknowledged_writes, report.acknowledged_writes) {
        (0, _) => ("not tested".to_owned(), "the drill has nothing to write".to_owned()),
        (_, 0) => ("not tested".to_owned(), "no write was confirmed".to_owned()),
        (_, n) => {
            let bad = report.lost_writes + report.doubled_writes;
            let unknown = match report.unverified_writes {
                0 => String::new(),
                n => format!("; {} could not be looked for", count(n)),
            };
            let doubled = match report.doubled_writes {
                0 => String::new(),
                doubled => format!(", {} of them there more than once", count(doubled)),
            };
            (count(bad), format!("of {} confirmed writes{doubled}{unknown}", count(n)))
        }
    }
}

fn figure(value: &str, what: &str, beside: &str) -> Markup {
    html! {
        div {
            dt { (what) }
            dd { (value) small { (beside) } }
        }
    }
}
