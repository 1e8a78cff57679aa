//! How the visitors fare, in one live line; without a terminal, in a plain line every ten seconds.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use evenkeel_core::status::Status;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::tally::{Seen, Tally};
use crate::{
    api::Api,
    context::Context,
    failure::Failure,
    http::HttpError,
    style::{Paint, harmless},
    words::{count, latency},
};

/// How often the live line is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// How often a plain line is written.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// So long without any answer is worth saying.
const STALL: Duration = Duration::from_secs(2);

/// Shows the line.
pub(super) struct Show<'a> {
    api: Api,
    traffic: bool,
    context: &'a Context,
}

impl<'a> Show<'a> {
    /// Of this stack.
    pub(super) const fn new(api: Api, traffic: bool, context: &'a Context) -> Self {
        Self { api, traffic, context }
    }

    /// Shows it for ever. The status is asked for beside it: a node process that does not answer must not stop the
    /// line, which is just then worth looking at.
    pub(super) async fn run(&self, tally: &Tally) -> Result<(), Failure> {
        let instances = RefCell::new(String::new());
        tokio::select! {
            drawn = self.draw(tally, &instances) => drawn,
            () = self.ask(&instances) => Ok(()),
        }
    }

    /// Keeps `instances` current, for ever.
    async fn ask(&self, instances: &RefCell<String>) {
        loop {
            let status = self.api.status_now().await;
            instances.replace(healthy(&status));
            tokio::time::sleep(DRAW_EVERY).await;
        }
    }

    async fn draw(&self, tally: &Tally, instances: &RefCell<String>) -> Result<(), Failure> {
        let live = self.context.terminal && !self.context.json;
        let target = if live { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is valid"));
        let begun = Instant::now();
        let mut write_at = begun + WRITE_EVERY;
        loop {
            let seen = tally.seen();
            let text = if self.traffic {
                line(&seen, begun.elapsed(), &instances.borrow(), self.context.paint)
            } else {
                format!("{}   no visitors (--no-traffic)", instances.borrow())
            };
            bar.set_message(text.clone());
            bar.tick();
            if !live && Instant::now() >= write_at {
                write_at += WRITE_EVERY;
                if self.context.json {
                    self.context.json(&object("traffic", &seen))?;
                } else {
                    self.context.line(text)?;
                }
            }
            tokio::time::sleep(DRAW_EVERY).await;
        }
    }
}

/// "3/3 instances", or why that is not known. A socket that refuses belongs to a node process that has ended; one
/// that accepts and stays silent does not.
fn healthy(status: &Result<Status, HttpError>) -> String {
    match status {
        Ok(status) => {
            let healthy: u32 = status.services.iter().map(|service| service.healthy).sum();
            let wanted: u32 = status.services.iter().map(|service| service.replicas).sum();
            format!("{healthy}/{wanted} instances")
        }
        Err(HttpError::Connect(_)) => "the node process is being restarted".to_owned(),
        Err(_) => "the node process does not answer".to_owned(),
    }
}

/// "0 of 12,304 failed · 41/s · p50 1.2 ms · p99 8.0 ms · 3/3 instances". Visitors ask forty times a second, so a
/// pause of [`STALL`] is one; what was measured before it would only hide it.
fn line(seen: &Seen, shown_for: Duration, instances: &str, paint: Paint) -> String {
    let failed = format!("{} of {} failed", count(seen.failed), count(seen.requests));
    let silent_for = seen.silent_for.unwrap_or(shown_for);
    if silent_for >= STALL {
        let stall = paint.bad(&format!("nothing answered for {} s", silent_for.as_secs()));
        return format!("{failed} · {stall} · p50 – · p99 – · {instances}");
    }
    let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), latency);
    format!("{failed} · {:.0}/s · p50 {} · p99 {} · {instances}", seen.per_s, ms(seen.p50_ms), ms(seen.p99_ms))
}

fn object(event: &str, seen: &Seen) -> Value {
    json!({
        "event": event,
        "requests": seen.requests,
        "failed": seen.failed,
        "orders": seen.orders,
        "requests_per_s": seen.per_s,
        "p50_ms": seen.p50_ms,
        "p99_ms": seen.p99_ms,
        "worst_ms": seen.worst_ms,
        "last_failure": seen.last_failure,
    })
}

/// What came of it all.
pub(super) fn summary(tally: &Tally, context: &Context) -> Result<(), Failure> {
    let seen = tally.seen();
    if context.json {
        return context.json(&object("stopped", &seen));
    }
    let failed = format!("{} of {} requests failed", count(seen.failed), count(seen.requests));
    let failed = if seen.failed == 0 { context.paint.good(&failed) } else { context.paint.bad(&failed) };
    let orders = if seen.orders == 1 { "1 order".to_owned() } else { format!("{} orders", count(seen.orders)) };
    context.line(format!("stopped: {failed}, {orders}, the slowest answer took {}", latency(seen.worst_ms)))?;
    if let Some(failure) = &seen.last_failure {
        context.line(format!("the last failure: {}", harmless(failure)))?;
    }
    context.next("keel init", "in the folder of your own application: writes a stack file for it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_process_that_is_silent_is_not_called_dead() {
        let text = |error| healthy(&Err(error));
        assert_eq!(text(HttpError::Timeout(Duration::from_secs(2))), "the node process does not answer");
        let refused = std::io::ErrorKind::ConnectionRefused.into();
        assert_eq!(text(HttpError::Connect(refused)), "the node process is being restarted");
    }

    #[test]
    fn the_line() {
        let silent_for = Some(Duration::from_millis(20));
        let seen = Seen {
            requests: 12_304,
            per_s: 40.8,
            p50_ms: Some(1.24),
            p99_ms: Some(8.0),
            silent_for,
            ..Seen::default()
        };
        let shown = |seen: &Seen, s| line(seen, Duration::from_secs(s), "3/3 instances", Paint::plain());
        assert_eq!(shown(&seen, 60), "0 of 12,304 failed · 41/s · p50 1.2 ms · p99 8.0 ms · 3/3 instances");
        assert_eq!(shown(&Seen::default(), 0), "0 of 0 failed · 0/s · p50 – · p99 – · 3/3 instances");
        let stalled = Seen { silent_for: Some(Duration::from_millis(4200)), ..seen };
        assert_eq!(
            shown(&stalled, 60),
            "0 of 12,304 failed · nothing answered for 4 s · p50 – · p99 – · 3/3 instances"
        );
        assert!(shown(&Seen::default(), 3).contains("nothing answered for 3 s"), "nor from the start on");
    }
}
