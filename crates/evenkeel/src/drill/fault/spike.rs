//! Several times as many clients as before, for a while.

use std::time::{Duration, Instant};

use evenkeel_core::status::Status;

use super::{Aim, Doing, FaultError, Harm, Means, asked};
use crate::drill::load::{Load, READERS, READS_PER_S};

/// How long it is looked how much is asked before.
const LOOK: Duration = Duration::from_millis(1200);
/// So many times as many requests as before are a spike.
const MORE: f64 = 1.5;
/// More would measure this machine.
const MOST_CLIENTS: u32 = 2000;

/// How many clients will come.
struct Spike<'a> {
    load: &'a Load,
    service: &'a str,
    clients: u32,
    before_per_s: f64,
}

/// The clients that came.
struct Crowded<'a> {
    /// `None` once they left.
    load: Option<Load>,
    service: &'a str,
    before_per_s: f64,
    /// The newest count of the edge, and when it came; without a moment, the first one, which is from before.
    counted: Option<(Option<Instant>, u64)>,
}

/// Looks how much is asked now, the drill's own steady clients among it.
pub(super) async fn aim<'a>(means: Means<'a>, factor: u32) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    let Means { plan, control, load } = means;
    let before_per_s = asked::per_s(control, &plan.subject.service, LOOK).await?;
    let more = before_per_s * f64::from(factor.saturating_sub(1)) / f64::from(READS_PER_S);
    // Never fewer than the same multiple of the drill's own clients, whatever the counters say.
    let clients = whole(more).clamp(READERS * factor.saturating_sub(1), MOST_CLIENTS);
    Ok(Box::new(Spike { load, service: &plan.subject.service, clients, before_per_s }))
}

impl<'a> Aim<'a> for Spike<'a> {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        let Self { load, service, clients, before_per_s } = *self;
        let text = format!(
            "{clients} more clients want up to {} requests a second beside the {before_per_s:.0} of before",
            clients * READS_PER_S
        );
        let harm: Box<dyn Harm + 'a> =
            Box::new(Crowded { load: Some(load.more(clients)), service, before_per_s, counted: None });
        Box::pin(async { Ok((harm, text)) })
    }
}

impl Harm for Crowded<'_> {
    fn lasts(&self) -> bool {
        self.load.is_some()
    }

    fn goes_on<'h>(
        &'h mut self,
        status: Option<&'h Status>,
    ) -> Doing<'h, Result<Vec<(&'static str, String)>, FaultError>> {
        let service = status.and_then(|status| status.services.iter().find(|of| of.name == self.service));
        let rate = service.and_then(|service| self.count(service.requests));
        let more = rate.filter(|rate| self.load.is_some() && *rate > self.before_per_s * MORE);
        let stages = more.map(|rate| ("detected", format!("the edge counts {rate:.0} requests a second")));
        Box::pin(async { Ok(stages.into_iter().collect()) })
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            if let Some(load) = self.load.take() {
                load.finish().await;
            }
        })
    }
}

impl Crowded<'_> {
    /// Takes the edge's count; requests a second since the one before, where there is a new one.
    fn count(&mut self, requests: u64) -> Option<f64> {
        let now = Instant::now();
        let (at, before) = *self.counted.get_or_insert((None, requests));
        if requests == before {
            return None;
        }
        self.counted = Some((Some(now), requests));
        let more = u32::try_from(requests.saturating_sub(before)).unwrap_or(u32::MAX);
        at.map(|at| f64::from(more) / now.duration_since(at).as_secs_f64())
    }
}

/// The nearest whole number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is not negative, and casts saturate")]
fn whole(number: f64) -> u32 {
    number.max(0.0).round() as u32
}
