//! Numbers and times as the page says them, and small marks that stand for words.
//!
//! Times are written once, as a point; what is relative to the present is said by the script, so that a second that
//! passes changes nothing here. A state is always a word with a shape; the colour comes on top.

pub(crate) use evenkeel_core::words::count;
use evenkeel_core::{
    journal::Level,
    status::{Health, InstanceStatus},
    time::WallTime,
};
use maud::{Markup, html};

/// Milliseconds as a latency; a dash where there is none.
pub(crate) fn latency(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), evenkeel_core::words::latency)
}

/// Requests a second: with a tenth below a hundred.
pub(crate) fn rate(per_s: f64) -> String {
    if per_s < 99.95 { format!("{per_s:.1}") } else { format!("{per_s:.0}") }
}

/// A point in time as a distance from the present, as `3m 12s`.
pub(crate) fn age(at: WallTime) -> Markup {
    time(at, "age")
}

/// A point in time as a time of day.
pub(crate) fn clock(at: WallTime) -> Markup {
    time(at, "clock")
}

fn time(at: WallTime, say: &str) -> Markup {
    let full = at.to_string();
    let short = full.get(11..19).unwrap_or(&full).to_owned();
    html! { time datetime=(full) data-say=(say) { (short) } }
}

/// A sentence of ours, in which what stands between two backticks is code.
pub(crate) fn prose(text: &str) -> Markup {
    html! {
        @for (is_code, part) in evenkeel_core::words::code_parts(text) {
            @if is_code { code { (part) } } @else { (part) }
        }
    }
}

/// A mark out of the page's sprite.
pub(crate) fn mark(name: &str) -> Markup {
    html! { svg class={ "mark mark-" (name) } viewBox="0 0 16 16" aria-hidden="true" focusable="false" { use href={ "#m-" (name) } {} } }
}

/// A state: its shape and its word, coloured by its tone.
pub(crate) fn state(tone: Tone, shape: &str, word: &str) -> Markup {
    html! { span class={ "state " (tone.class()) } { (mark(shape)) span { (word) } } }
}

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Somebody may want to know.
    Warn,
    /// Somebody should look.
    Bad,
    /// Neither.
    Quiet,
    /// Something happens just now.
    Busy,
}

impl Tone {
    /// The class that colours it.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Quiet => "quiet",
            Self::Busy => "busy",
        }
    }

    /// Of a verdict of the edge.
    pub(crate) const fn of(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Good,
            Health::Unhealthy | Health::Silent => Self::Bad,
            Health::Ejected | Health::Draining => Self::Warn,
            Health::Unknown => Self::Quiet,
        }
    }
}

/// The verdict about an instance.
pub(crate) fn health(instance: &InstanceStatus) -> Markup {
    state(Tone::of(instance.health), instance.health.as_str(), instance.health.as_str())
}

/// How much an event matters.
pub(crate) fn level(level: Level) -> Markup {
    match level {
        // Most entries are of this kind; to say so each time would only hide the others.
        Level::Info => html! { span class="state quiet" { (mark("info")) span class="hidden" { "info" } } },
        Level::Warning => state(Tone::Warn, "warning", "warning"),
        Level::Error => state(Tone::Bad, "unhealthy", "error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_people() {
        assert_eq!((rate(3.12), rate(1234.6)), ("3.1".to_owned(), "1235".to_owned()));
        let all = [None, Some(0.42), Some(12.4), Some(1234.0)].map(latency);
        assert_eq!(all, ["–", "0.4 ms", "12 ms", "1.2 s"]);
    }

    #[test]
    fn what_is_typed_is_told_apart() {
        let text = |of: &str| prose(of).into_string();
        assert_eq!(text("kills `keel <up>` and `b`"), "kills <code>keel &lt;up&gt;</code> and <code>b</code>");
        assert_eq!(text("one ` alone"), "one ` alone");
        assert_eq!(text(""), "");
    }

    #[test]
    fn times_are_points() {
        let text = age(WallTime::from_millis(1_709_164_801_000)).into_string();
        assert_eq!(text, "<time datetime=\"2024-02-29T00:00:01.000Z\" data-say=\"age\">00:00:01</time>");
    }
}
