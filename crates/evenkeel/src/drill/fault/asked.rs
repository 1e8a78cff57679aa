//! How much is asked of a service at the moment, by the edge's own counters.

use std::time::{Duration, Instant};

use crate::drill::control::Control;

/// More often than the edge tells what it counted, so that the moment of each report is known.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Requests a second over this time, whoever asks.
pub(super) async fn per_s(control: &Control, service: &str, lasts: Duration) -> f64 {
    let mut seen: Vec<(Instant, u64)> = Vec::new();
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        let status = control.status_now().await;
        let requests = status.and_then(|status| Some(status.services.iter().find(|of| of.name == service)?.requests));
        if let Some(requests) = requests.filter(|requests| seen.last().is_none_or(|(_, last)| last != requests)) {
            seen.push((Instant::now(), requests));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // The first look fell between two reports, so time is counted from the next one on.
    match (seen.get(1), seen.first(), seen.last()) {
        (Some(first), _, Some(last)) if seen.len() > 2 => {
            let requests = u32::try_from(last.1.saturating_sub(first.1)).unwrap_or(u32::MAX);
            f64::from(requests) / last.0.duration_since(first.0).as_secs_f64()
        }
        (_, Some(first), Some(last)) => {
            let requests = u32::try_from(last.1.saturating_sub(first.1)).unwrap_or(u32::MAX);
            f64::from(requests) / lasts.as_secs_f64()
        }
        _ => 0.0,
    }
}
