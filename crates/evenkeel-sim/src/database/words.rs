//! Words of what happens, for the trace and for coverage.

use evenkeel_core::failover::Step;

/// The words of a sentence without its numbers and names, so that equal reasons count as one.
pub(super) fn words(text: &str) -> String {
    text.split_whitespace().filter(|word| !word.chars().any(|c| c.is_ascii_digit())).collect::<Vec<_>>().join(" ")
}

pub(super) fn kind(step: &Step) -> String {
    format!("{step:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

pub(super) fn brief(step: &Step) -> String {
    match step {
        Step::Write { record, .. } => format!(
            "Write lease {:?} token {} electorate {:?}/{} path {:?}",
            record.lease,
            record.token,
            record.electorate.members,
            record.electorate.confirm,
            record.path.current()
        ),
        other => format!("{other:?}"),
    }
}
