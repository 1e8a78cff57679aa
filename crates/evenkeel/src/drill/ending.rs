//! The end of a run that others still have work of: waiting until they have taken its harm back.
//!
//! Each of them has a bound. Whoever interrupts a run is told so, and may leave them to themselves by doing it again:
//! they go on without it, and the lock of the stack's drills stays theirs until they are done. What they could not take
//! back is said wherever the run is told of. This module owns nothing and undoes nothing itself.

use std::future::Future;

use evenkeel_core::drill;
use tokio::signal::unix::{SignalKind, signal};

use super::control::Control;
use crate::failure::Failure;

/// Waits for those that take the harm back; false where whoever interrupted the run did not want to.
pub(super) async fn settled(control: &Control, interrupted: bool) -> bool {
    let waits = control.helpers().longest_wait();
    let settles = control.helpers().settle();
    if waits.is_zero() || !interrupted {
        settles.await;
        return true;
    }
    // Before it is said that this is possible.
    let again = interruption();
    if !control.json() {
        let bound = drill::in_words(u64::try_from(waits.as_millis()).unwrap_or(u64::MAX));
        eprintln!(
            "interrupted: the harm is being taken back, which may take up to {bound}; interrupt again not to wait"
        );
    }
    tokio::select! {
        () = settles => true,
        () = again => false,
    }
}

/// Why there is no verdict, and what became of the harm where not everything is as it was before.
pub(super) fn with_what_is_left(mut why: String, settled: bool, failed: &[String]) -> String {
    if !settled {
        why.push_str("; nobody waited until the harm was taken back");
    }
    for problem in failed {
        why.push_str("; the harm could not be undone: ");
        why.push_str(problem);
    }
    why
}

/// What is left to do by hand where there will be no report to say so.
pub(super) fn say_not_undone(control: &Control) {
    for why in control.helpers().failed() {
        Failure::new("the harm could not be undone").because(why).print(control.json());
    }
}

/// Returns when somebody wants the run to end: SIGINT or SIGTERM, from this call on.
pub(super) fn interruption() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            // Without handlers the signals end this process, and the helpers take the harm back.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_with_the_reason() {
        let why = |settled, failed: &[&str]| {
            let failed: Vec<String> = failed.iter().map(ToString::to_string).collect();
            with_what_is_left("it was interrupted".to_owned(), settled, &failed)
        };
        assert_eq!(why(true, &[]), "it was interrupted");
        assert_eq!(why(false, &[]), "it was interrupted; nobody waited until the harm was taken back");
        assert_eq!(
            why(true, &["the clock has died; kill the node process"]),
            "it was interrupted; the harm could not be undone: the clock has died; kill the node process"
        );
    }
}
