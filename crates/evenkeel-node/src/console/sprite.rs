//! Marks that stand beside words: drawn once in a page and used by name.
//!
//! Each state has a shape of its own, so that it is told apart without colours.

use maud::{Markup, PreEscaped, html};

/// The marks by name: what is drawn in a square of sixteen.
const MARKS: [(&str, &str); 12] = [
    ("healthy", r#"<circle cx="8" cy="8" r="7" fill="currentColor"/><path d="m4.6 8.3 2.3 2.3 4.5-5" class="cut"/>"#),
    (
        "unhealthy",
        r#"<path d="M4.8 1h6.4L15 4.8v6.4L11.2 15H4.8L1 11.2V4.8z" fill="currentColor"/><path d="m5.4 5.4 5.2 5.2m0-5.2-5.2 5.2" class="cut"/>"#,
    ),
    (
        "silent",
        r#"<rect x="1.5" y="1.5" width="13" height="13" rx="2" fill="currentColor"/><path d="M6 5v6m4-6v6" class="cut"/>"#,
    ),
    ("ejected", r#"<path d="M8 1.5 14.5 10h-13zM2 12h12v2.5H2z" fill="currentColor"/>"#),
    ("draining", r#"<path d="M8 15 1 6h4V1h6v5h4z" fill="currentColor"/>"#),
    ("unknown", r#"<circle cx="8" cy="8" r="6" class="drawn" stroke-dasharray="2.6 2.1"/>"#),
    ("warning", r#"<path d="M8 1 15.5 14.5H.5z" fill="currentColor"/><path d="M8 5.5v4.2m0 1.8v.6" class="cut"/>"#),
    ("info", r#"<circle cx="8" cy="8" r="3" fill="currentColor"/>"#),
    ("busy", r#"<path d="M14 8a6 6 0 1 1-6-6" class="drawn"/>"#),
    ("live", r#"<path d="M1 8h3l2-5 4 10 2-5h3" class="drawn"/>"#),
    (
        "proof",
        r#"<path d="M8 .8 14.4 3v5c0 3.6-2.6 6.2-6.4 7.4C4.2 14.2 1.6 11.6 1.6 8V3z" fill="currentColor"/><path d="m5 7.8 2.2 2.2 3.9-4.3" class="cut"/>"#,
    ),
    ("none", r#"<path d="M3 8h10" class="drawn"/>"#),
];

/// All marks, drawn nowhere.
pub(super) fn sprite() -> Markup {
    html! {
        svg class="sprite" width="0" height="0" aria-hidden="true" focusable="false" {
            @for (name, drawn) in MARKS { symbol id={ "m-" (name) } viewBox="0 0 16 16" { (PreEscaped(drawn)) } }
        }
    }
}

/// The sign of the project: a hull on an even keel.
pub(super) fn brand() -> Markup {
    html! {
        svg class="brandmark" viewBox="0 0 32 32" aria-hidden="true" focusable="false" {
            path class="hull" d="M3 17h26c-1 6-5.5 10-13 10S4 23 3 17z" {}
            path class="sail" d="M17 4v11h9z" {}
            path class="jib" d="M15 7v8H8z" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::status::Health;

    use super::*;

    #[test]
    fn every_verdict_has_a_shape() {
        let all =
            [Health::Unknown, Health::Healthy, Health::Unhealthy, Health::Silent, Health::Ejected, Health::Draining];
        for health in all {
            assert!(MARKS.iter().any(|(name, _)| *name == health.as_str()), "{health}");
        }
        let text = sprite().into_string();
        assert!(!text.contains("style="), "the policy forbids it");
    }
}
