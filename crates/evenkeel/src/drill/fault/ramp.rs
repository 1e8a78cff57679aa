//! More and more requests until the objective is missed, first with all instances and then with one drained.
//!
//! What is tried next is decided in core's `climb`; clients of the run stand back meanwhile, so that what is sent is what
//! is said. The drain is the work of a process of its own (see `drainer`), which ends it also when this one is gone.

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use evenkeel_core::{
    drill::{Capacity, Climb, PACE_PER_S, Step, in_words},
    status::{ServiceStatus, Status},
};
use tokio::task::JoinSet;

use super::{
    Aim, Doing, FaultError, Harm, Means, asked,
    helper::{Helper, Undo},
};
use crate::{
    api::Api,
    drill::{crowd::Crowd, drainer},
    running::Running,
};

/// Between two looks: asking for the status takes from the processors that are measured.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it takes until what was asked before is counted.
const COUNTED: Duration = Duration::from_millis(600);
/// How long it is looked how much users ask.
const LOOK: Duration = Duration::from_millis(2500);
/// How long the stack may leave open which instances there are.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// How long requests in flight at the drained instance may take.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the drill itself tries to end the drain where its process has failed.
const AGAIN: Duration = Duration::from_secs(30);
/// How much longer than planned a drain goes on for a drill that does not end.
const DRAIN_MARGIN_MS: u64 = 60_000;

/// What users ask is known.
struct Ready<'a> {
    means: Means<'a>,
    step: Duration,
    p99: Duration,
    present_per_s: f64,
}

/// A ramp under way.
struct Ramp<'a> {
    means: Means<'a>,
    step: Duration,
    p99: Duration,
    present_per_s: f64,
    phase: Phase,
    climb: Climb,
    /// The step under way.
    under_way: JoinSet<Step>,
    /// The climb with all instances, once it is done.
    with_all: Option<Climb>,
    gone: Option<String>,
    drain: Option<Drain>,
    found: Option<Capacity>,
}

enum Phase {
    Climbing,
    /// The first climb is at its end, and it is asked which instance can go.
    Choosing {
        since: Instant,
    },
    Draining {
        since: Instant,
    },
    /// Everything that was to be tried was.
    Over,
    TakenBack,
}

/// Which instance goes for the second climb.
#[derive(Debug, PartialEq, Eq)]
enum Going {
    One(String),
    /// There is only one.
    Lone,
    /// The stack did not tell.
    Unknown,
}

/// The process that drains an instance.
struct Drain(Helper);

/// The end of the drain, from here.
#[derive(Debug)]
struct Resume {
    api: Api,
    instance: String,
}

/// Looks how much users ask while no client of the drill does.
pub(super) async fn aim<'a>(means: Means<'a>, step_ms: u64, p99_ms: u64) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    means.load.pause();
    tokio::time::sleep(COUNTED).await;
    let present_per_s = asked::per_s(means.control, &means.plan.subject.service, LOOK).await?;
    let (step, p99) = (Duration::from_millis(step_ms), Duration::from_millis(p99_ms));
    Ok(Box::new(Ready { means, step, p99, present_per_s }))
}

impl<'a> Aim<'a> for Ready<'a> {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        let Self { means, step, p99, present_per_s } = *self;
        means.load.pause();
        let floor = whole(present_per_s);
        let climb = Climb::new(millis(p99), false, floor, floor + PACE_PER_S);
        let mut ramp = Ramp {
            means,
            step,
            p99,
            present_per_s,
            phase: Phase::Climbing,
            climb,
            under_way: JoinSet::new(),
            with_all: None,
            gone: None,
            drain: None,
            found: None,
        };
        let text = format!("more and more requests begin; users ask {present_per_s:.0} a second meanwhile");
        Box::pin(async move {
            ramp.next_step();
            Ok((Box::new(ramp) as Box<dyn Harm>, text))
        })
    }
}

impl Harm for Ramp<'_> {
    fn lasts(&self) -> bool {
        !matches!(self.phase, Phase::TakenBack)
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    fn goes_on<'h>(
        &'h mut self,
        status: Option<&'h Status>,
    ) -> Doing<'h, Result<Vec<(&'static str, String)>, FaultError>> {
        Box::pin(async move {
            if matches!(self.phase, Phase::Climbing | Phase::Choosing { .. } | Phase::Draining { .. }) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let of = |service: &&ServiceStatus| service.name == self.means.plan.subject.service;
            let service = status.and_then(|status| status.services.iter().find(of));
            let mut stages = Vec::new();
            match self.phase {
                Phase::Climbing => {
                    if let Some(ended) = self.under_way.try_join_next() {
                        let seen = ended.map_err(|error| FaultError::Stack(error.to_string()))?;
                        let step = self.climb.on(seen);
                        if step.met {
                            self.means.load.tally().take(&step);
                        }
                        stages.push(("step", in_short(&step)));
                        if !self.next_step() {
                            self.top();
                        }
                    }
                }
                Phase::Choosing { since } => stages.extend(self.choose(service, since).await?),
                Phase::Draining { since } => stages.extend(self.drained(service, since)?),
                Phase::Over | Phase::TakenBack => {}
            }
            Ok(stages)
        })
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            self.phase = Phase::TakenBack;
            self.under_way.shutdown().await;
            if let Some(drain) = self.drain.take() {
                drain.end().await;
            }
            self.means.load.go_on();
        })
    }

    fn found(&self) -> Option<Capacity> {
        self.found.clone()
    }
}

impl Ramp<'_> {
    /// Starts the next step of the climb; false where there is none.
    fn next_step(&mut self) -> bool {
        let Some(rate) = self.climb.next_rate() else { return false };
        // Users send the rest.
        let own = rate.saturating_sub(whole(self.present_per_s)).max(1);
        let crowd = Crowd::new(self.means.plan, self.means.load.tally());
        self.under_way.spawn(crowd.step(own, self.step, self.p99, rate));
        true
    }

    /// The climb is at its end: one instance is to be taken out for the second one, or all is known.
    fn top(&mut self) {
        if let Some(with_all) = &self.with_all {
            self.found = Some(Capacity::of(with_all, Some(&self.climb), self.gone.clone(), self.present_per_s));
            self.phase = Phase::Over;
        } else if self.climb.best() == 0 {
            self.found = Some(Capacity::of(&self.climb, None, None, self.present_per_s));
            self.phase = Phase::Over;
        } else {
            self.phase = Phase::Choosing { since: Instant::now() };
        }
    }

    /// Takes one instance out for the second climb, or ends where there is no other. Who is not told how many there are
    /// asks again, and does not conclude that there is one.
    async fn choose(
        &mut self,
        service: Option<&ServiceStatus>,
        since: Instant,
    ) -> Result<Option<(&'static str, String)>, FaultError> {
        let last = match who_goes(service) {
            Going::One(last) => last,
            Going::Lone => {
                self.found = Some(Capacity::of(&self.climb, None, None, self.present_per_s));
                self.phase = Phase::Over;
                return Ok(None);
            }
            Going::Unknown if since.elapsed() > TOLD_WITHIN => {
                let why = "nobody knows what is left with one instance gone: the stack did not tell which there are";
                return Err(FaultError::Stack(format!("{why} for {}", in_words(millis(TOLD_WITHIN)))));
            }
            Going::Unknown => return Ok(None),
        };
        let bound_ms = self.means.plan.fault.lasts_ms() + DRAIN_MARGIN_MS;
        self.drain = Some(Drain::start(&last, bound_ms, self.means).await?);
        self.phase = Phase::Draining { since: Instant::now() };
        let words = format!("{last} gets no new requests");
        self.gone = Some(last);
        Ok(Some(("drain", words)))
    }

    /// Goes on with the second climb once nothing is in flight at the drained instance.
    fn drained(
        &mut self,
        service: Option<&ServiceStatus>,
        since: Instant,
    ) -> Result<Option<(&'static str, String)>, FaultError> {
        let gone = self.gone.as_deref().unwrap_or_default();
        let instance = service.and_then(|service| service.instances.iter().find(|one| one.name == gone));
        if instance.is_some_and(|one| one.drained.as_ref().is_some_and(|drained| drained.finished)) {
            let floor = whole(self.present_per_s);
            let second = Climb::new(millis(self.p99), true, floor, (self.climb.best() / 2).max(floor + 1));
            self.with_all = Some(std::mem::replace(&mut self.climb, second));
            self.phase = Phase::Climbing;
            let words = format!("{gone} has nothing in flight any more");
            self.next_step();
            return Ok(Some(("drained", words)));
        }
        if since.elapsed() > DRAIN {
            return Err(FaultError::Stack(format!("{gone} is not drained after {}", in_words(millis(DRAIN)))));
        }
        Ok(None)
    }
}

/// The last instance, unless it is the only one.
fn who_goes(service: Option<&ServiceStatus>) -> Going {
    let Some(service) = service else { return Going::Unknown };
    match (service.instances.last(), service.instances.len()) {
        (Some(last), 2..) => Going::One(last.name.clone()),
        // Others are about to be there.
        _ if service.replicas > 1 => Going::Unknown,
        _ => Going::Lone,
    }
}

impl Drain {
    async fn start(instance: &str, bound_ms: u64, means: Means<'_>) -> Result<Self, FaultError> {
        let control = means.control;
        let words = [instance, &bound_ms.to_string(), "--state-dir"].map(OsString::from);
        let arguments: Vec<_> = words.into_iter().chain([control.state_dir().into()]).collect();
        let undo = Resume { api: control.api().clone(), instance: instance.to_owned() };
        let mut helper = Helper::start(control.helpers(), "drainer", &arguments, Box::new(undo)).await?;
        match helper.order("drain").await {
            Ok(said) if said == "drained" => Ok(Self(helper)),
            Ok(said) => Err(FaultError::Stack(format!("{instance} cannot be drained: {said}"))),
            Err(source) => Err(FaultError::Broken { name: "drainer", source }),
        }
    }

    async fn end(self) {
        self.0.finish().await;
    }
}

impl Undo for Resume {
    fn within(&self) -> Duration {
        drainer::PATIENCE + AGAIN
    }

    fn again(&self) -> Doing<'_, Result<(), String>> {
        let api = move || {
            let running = Running::in_dir(self.api.state_dir());
            Ok(running.map_or_else(|| self.api.clone(), |running| Api::of(&running)))
        };
        Box::pin(async move {
            let done = drainer::resume(&api, &self.instance, AGAIN).await;
            done.map_err(|failure| failure.what().to_owned())
        })
    }

    fn by_hand(&self) -> String {
        format!("let it have requests by hand: keel resume {}", self.instance)
    }
}

fn in_short(step: &Step) -> String {
    let Step { rate, requests, errors, p99_ms, late_ms, busy_percent, behind, met, one_gone } = *step;
    let with = if one_gone { " with one instance gone" } else { "" };
    let verdict = if met { "met" } else { "missed" };
    let failed = if errors > 0 { format!(", {errors} failed") } else { String::new() };
    let behind = if met { String::new() } else { format!(", {behind} more of {requests} waited at the end") };
    let late = if met {
        String::new()
    } else {
        format!("; clients were {busy_percent} % busy and lagged by {}", in_words(late_ms))
    };
    format!("{rate} requests a second{with}: {verdict}, 99 of 100 within {}{failed}{behind}{late}", in_words(p99_ms))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The next whole number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is not negative, and casts saturate")]
fn whole(number: f64) -> u64 {
    number.max(0.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use evenkeel_core::status::InstanceStatus;

    use super::*;

    #[test]
    fn only_a_stack_that_says_so_has_a_single_instance() {
        let service = |replicas, there: u32| {
            let name = |n| InstanceStatus { name: format!("shop/{n}"), ..InstanceStatus::default() };
            let instances = (1..=there).map(name).collect();
            ServiceStatus { name: "shop".to_owned(), replicas, instances, ..ServiceStatus::default() }
        };
        assert_eq!(who_goes(None), Going::Unknown, "nobody answered");
        assert_eq!(who_goes(Some(&service(1, 1))), Going::Lone);
        assert_eq!(who_goes(Some(&service(3, 1))), Going::Unknown, "two others are about to be there");
        assert_eq!(who_goes(Some(&service(3, 3))), Going::One("shop/3".to_owned()));
    }
}
