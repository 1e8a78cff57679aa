//! How the visitors fare, in one live line; without a terminal, in a plain line every ten seconds.

use std::time::{Duration, Instant};

use evenkeel_core::status::Status;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::tally::{Seen, Tally};
use crate::{
    api::Api,
    context::Context,
    failure::Failure,
    style::harmless,
    words::{count, latency},
};

/// How often the live line is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// How often a plain line is written.
const WRITE_EVERY: Duration = Duration::from_secs(10);

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

    /// Shows it for ever.
    pub(super) async fn run(&self, tally: &Tally) -> Result<(), Failure> {
        let live = self.context.terminal && !self.context.json;
        let target = if live { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is valid"));
        let mut write_at = Instant::now() + WRITE_EVERY;
        loop {
            let status = self.api.status_now().await.ok();
            let seen = tally.seen();
            bar.set_message(self.line(&seen, status.as_ref()));
            bar.tick();
            if !live && Instant::now() >= write_at {
                write_at += WRITE_EVERY;
                if self.context.json {
                    self.context.json(&object("traffic", &seen))?;
                } else {
                    self.context.line(self.line(&seen, status.as_ref()))?;
                }
            }
            tokio::time::sleep(DRAW_EVERY).await;
        }
    }

    fn line(&self, seen: &Seen, status: Option<&Status>) -> String {
        let instances = match status {
            Some(status) => {
                let healthy: u32 = status.services.iter().map(|service| service.healthy).sum();
                let wanted: u32 = status.services.iter().map(|service| service.replicas).sum();
                format!("{healthy}/{wanted} instances")
            }
            None => "the node process is being restarted".to_owned(),
        };
        if self.traffic { line(seen, &instances) } else { format!("{instances}   no visitors (--no-traffic)") }
    }
}

/// "0 of 12,304 failed · 41/s · p50 1.2 ms · p99 8.0 ms · 3/3 instances"
fn line(seen: &Seen, instances: &str) -> String {
    format!(
        "{} of {} failed · {:.0}/s · p50 {} · p99 {} · {instances}",
        count(seen.failed),
        count(seen.requests),
        seen.per_s,
        latency(seen.p50_ms),
        latency(seen.p99_ms)
    )
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
    fn the_line() {
        let seen = Seen { requests: 12_304, per_s: 40.8, p50_ms: 1.24, p99_ms: 8.0, ..Seen::default() };
        assert_eq!(line(&seen, "3/3 instances"), "0 of 12,304 failed · 41/s · p50 1.2 ms · p99 8.0 ms · 3/3 instances");
    }
}
