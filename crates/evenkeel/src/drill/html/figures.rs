//! The few numbers that count, side by side.

use evenkeel_core::drill::{Report, in_words};
use maud::{Markup, html};

use crate::words::count;

pub(super) fn render(report: &Report) -> Markup {
    let time = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), in_words);
    let writes = match (report.acknowledged_writes + report.unacknowledged_writes, report.lost_writes) {
        (0, _) => "–".to_owned(),
        (_, lost) => (lost + report.doubled_writes).to_string(),
    };
    if report.capacity.is_some() {
        // Nothing broke: times until it was noticed and mended would mean nothing.
        return html! {};
    }
    let beside_writes = match report.acknowledged_writes {
        0 => "no writes were made".to_owned(),
        n => format!("of {} confirmed", count(n)),
    };
    html! {
        dl.figures {
            (figure(&count(report.errors), "failed requests", &format!("of {}", count(report.requests))))
            (figure(&in_words(report.worst_ms), "longest wait", &format!("{} before the harm", in_words(report.worst_before_ms))))
            (figure(&time(report.detection_ms), "until it was noticed", "by Evenkeel, from the harm on"))
            (figure(&time(report.recovery_ms), "until all was well", "from the harm on"))
            (figure(&writes, "writes lost or doubled", &beside_writes))
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
