//! How much is asked of a service at the moment, by the edge's own counters.
//!
//! What nobody told is not known, and is never taken for nothing: a service whose users cannot be counted would
//! otherwise seem to have none. So a look that says too little is repeated, and in the end the drill is given up.

use std::time::{Duration, Instant};

use super::FaultError;
use crate::drill::control::Control;

/// More often than the edge tells what it counted, so that the moment of each report is known.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked in all until it is given up.
const ATTEMPTS: u32 = 3;

/// One answer to the question how many requests there were so far, and when it came; `None` where none did.
type Look = (Instant, Option<u64>);

/// Requests a second over this time, whoever asks.
pub(super) async fn per_s(control: &Control, service: &str, lasts: Duration) -> Result<f64, FaultError> {
    for _ in 0..ATTEMPTS {
        let mut looks: Vec<Look> = Vec::new();
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            let status = control.status_now().await;
            let counted =
                status.and_then(|status| Some(status.services.iter().find(|of| of.name == service)?.requests));
            looks.push((Instant::now(), counted));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if let Some(rate) = rate_of(&looks, lasts) {
            return Ok(rate);
        }
    }
    let tries = format!("{ATTEMPTS} looks of {} s", lasts.as_secs_f64());
    let why = format!("nobody knows how much `{service}` is asked at the moment: in {tries} the stack did not tell it");
    Err(FaultError::Stack(why))
}

/// The rate that looks over this time show; `None` where they do not tell.
fn rate_of(looks: &[Look], lasts: Duration) -> Option<f64> {
    let told: Vec<(Instant, u64)> = looks.iter().filter_map(|(at, counted)| Some((*at, (*counted)?))).collect();
    let ((first_at, _), (last_at, _)) = (*told.first()?, *told.last()?);
    // With the begin or the end missing, it is known of a moment only; who counts anew has forgotten what was before.
    let is_whole = last_at.duration_since(first_at) * 2 >= lasts;
    let counts_on = told.is_sorted_by_key(|(_, counted)| *counted);
    if !is_whole || !counts_on {
        return None;
    }
    let mut reports = told;
    reports.dedup_by_key(|(_, counted)| *counted);
    // The first look fell between two reports, so time is counted from the next one on.
    Some(match (reports.get(1), reports.first(), reports.last()) {
        (Some(first), _, Some(last)) if reports.len() > 2 => {
            requests(first.1, last.1) / last.0.duration_since(first.0).as_secs_f64()
        }
        (_, Some(first), Some(last)) => requests(first.1, last.1) / lasts.as_secs_f64(),
        _ => return None,
    })
}

fn requests(from: u64, to: u64) -> f64 {
    f64::from(u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every tenth of a second; what each was told.
    fn rate(told: &[Option<u64>]) -> Option<f64> {
        let began = Instant::now();
        let looks: Vec<Look> =
            (0..).zip(told).map(|(n, counted)| (began + Duration::from_millis(100 * n), *counted)).collect();
        rate_of(&looks, Duration::from_secs(1))
    }

    #[test]
    fn what_nobody_told_is_not_nothing() {
        assert_eq!(rate(&[]), None);
        assert_eq!(rate(&[None; 10]), None, "nobody answered");
        let mut once = [None; 10];
        once[4] = Some(70);
        assert_eq!(rate(&once), None, "one answer says nothing of time");
        (once[5], once[6]) = (Some(70), Some(70));
        assert_eq!(rate(&once), None, "nor do those of a moment");
        let anew = [Some(70), Some(80), Some(90), Some(0), Some(5), Some(5), Some(5), Some(5), Some(5), Some(5)];
        assert_eq!(rate(&anew), None, "the edge began to count anew");
    }

    #[test]
    fn answers_over_the_time_make_a_rate() {
        assert_eq!(rate(&[Some(70); 10]), Some(0.0), "nobody asks");
        let every: Vec<Option<u64>> = (0..10).map(|n| Some(70 + n * 3)).collect();
        assert!(rate(&every).is_some_and(|rate| (rate - 30.0).abs() < 0.01), "{:?}", rate(&every));
        let mut gaps = every.clone();
        (gaps[3], gaps[4]) = (None, None);
        assert!(rate(&gaps).is_some_and(|rate| (rate - 30.0).abs() < 0.01), "some may be missing");
        let few = [Some(70), Some(70), Some(70), Some(70), Some(70), Some(70), Some(75), Some(75), Some(75)];
        assert_eq!(rate(&few), Some(5.0), "one report in the whole time");
    }
}
