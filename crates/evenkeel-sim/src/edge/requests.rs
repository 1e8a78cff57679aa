//! Requests: chosen for, sent, repeated, moved, held, ended.

use std::time::Duration;

use evenkeel_core::{
    balance::Candidate,
    retry::{self, Answer, Sent, is_idempotent, may_repeat},
    status::Health,
    time::Moment,
};

use super::Edge;
use crate::{
    Sabotage,
    context::Context,
    fact::{Fact, Failure},
    fleet::{Fleet, Key},
    queue::TryEnd,
};

/// A request that is not over.
#[derive(Debug)]
pub(super) struct Request {
    idempotent: bool,
    tries: u8,
    /// Who had a try of it.
    tried: Vec<Key>,
    /// Since when it has been held, if it is.
    held: Option<Moment>,
}

/// A try that is in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    request: u64,
    key: Key,
    sent: Moment,
}

/// A request is over.
pub(super) fn ended(request: u64, failed: Option<Failure>, ctx: &mut Context) {
    if let Some(failure) = failed {
        ctx.seen(match failure {
            Failure::NotRepeatable => "request: failed, not repeatable",
            Failure::TriesUsedUp => "request: failed, tries used up",
            Failure::BudgetUsedUp => "request: failed, budget used up",
            Failure::HeldTooLong => "request: failed, held too long",
            Failure::HoldFull => "request: failed, hold full",
            Failure::TimedOut => "request: failed, timed out",
            Failure::EdgeEnded => "request: failed, edge ended",
        });
        ctx.line("failed", request, failure as u64, || format!("request {request}: {failure:?}"));
    }
    ctx.fact(Fact::Ended { request, failed });
}

impl Edge {
    /// A client's request came.
    pub(super) fn request(&mut self, request: u64, method: &str, fleet: &mut Fleet, ctx: &mut Context) {
        self.budget.on(retry::Event::Requests(1), &self.service.retry, ctx.now);
        let made = Request { idempotent: is_idempotent(method.as_bytes()), tries: 0, tried: Vec::new(), held: None };
        self.requests.insert(request, made);
        self.dispatch(request, fleet, ctx);
    }

    /// A try ended. Nobody waits for tries that were given up.
    pub(super) fn try_ended(&mut self, attempt: u64, end: TryEnd, fleet: &mut Fleet, ctx: &mut Context) {
        let Some(Attempt { request, key, sent }) = self.attempts.remove(&attempt) else {
            return;
        };
        match end {
            TryEnd::Answered(status) if status < 500 => self.chooser.answered(key, ctx.now.since(sent), ctx),
            TryEnd::Answered(_) | TryEnd::Refused | TryEnd::Cut => self.chooser.failed(key, ctx),
        }
        let count_5xx = self.service.ejection.count_5xx;
        if let Some(target) = self.targets.get_mut(&key) {
            target.in_flight -= 1;
            match end {
                TryEnd::Answered(status) => {
                    target.last_received = Some(ctx.now);
                    target.counts(status < 500 || !count_5xx);
                }
                TryEnd::Refused | TryEnd::Cut => target.counts(false),
            }
        }
        match end {
            TryEnd::Answered(status) => {
                self.requests.remove(&request);
                ctx.seen(if status < 500 { "request: answered" } else { "request: answered with an error status" });
                ended(request, None, ctx);
            }
            TryEnd::Refused => self.repeat(request, Sent::Nothing, fleet, ctx),
            TryEnd::Cut => self.repeat(request, Sent::Something, fleet, ctx),
        }
        self.report_drained(key, ctx);
    }

    /// What is in flight at a silent instance and may be sent again goes elsewhere.
    pub(super) fn move_requests_off(&mut self, key: Key, fleet: &mut Fleet, ctx: &mut Context) {
        let there = |(_, attempt): &(&u64, &Attempt)| attempt.key == key;
        let affected: Vec<(u64, u64)> = self.attempts.iter().filter(there).map(|(at, a)| (*at, a.request)).collect();
        for (attempt, request) in affected {
            if self.allowed(request, Sent::Something, ctx).is_err() {
                ctx.seen("request: kept at a silent instance");
                continue;
            }
            ctx.seen("request: moved off a silent instance");
            self.attempts.remove(&attempt);
            if let Some(target) = self.targets.get_mut(&key) {
                target.in_flight -= 1;
            }
            self.dispatch(request, fleet, ctx);
        }
        self.report_drained(key, ctx);
    }

    /// Lets held requests go, first come first served, as soon as anybody is healthy.
    pub(super) fn release_held(&mut self, fleet: &mut Fleet, ctx: &mut Context) {
        while self.healthy() > 0
            && let Some(request) = self.held.pop_front()
        {
            ctx.seen("request: released from hold");
            if let Some(held) = self.requests.get_mut(&request) {
                held.held = None;
            }
            self.dispatch(request, fleet, ctx);
        }
    }

    pub(super) fn expire_held(&mut self, longest: Duration, ctx: &mut Context) {
        while let Some(&request) = self.held.front() {
            let since = self.requests.get(&request).and_then(|held| held.held);
            if since.is_some_and(|since| ctx.now.since(since) < longest) {
                break;
            }
            self.held.pop_front();
            self.fail(request, Failure::HeldTooLong, ctx);
        }
    }

    pub(super) fn expire_tries(&mut self, longest: Duration, ctx: &mut Context) {
        let late = |(_, attempt): &(&u64, &Attempt)| ctx.now.since(attempt.sent) >= longest;
        let late: Vec<(u64, Attempt)> = self.attempts.iter().filter(late).map(|(at, a)| (*at, *a)).collect();
        for (attempt, Attempt { request, key, .. }) in late {
            self.attempts.remove(&attempt);
            if let Some(target) = self.targets.get_mut(&key) {
                target.in_flight -= 1;
                target.counts(false);
            }
            self.fail(request, Failure::TimedOut, ctx);
            self.report_drained(key, ctx);
        }
    }

    fn repeat(&mut self, request: u64, sent: Sent, fleet: &mut Fleet, ctx: &mut Context) {
        match self.allowed(request, sent, ctx) {
            Ok(()) => {
                ctx.seen("request: repeated");
                self.dispatch(request, fleet, ctx);
            }
            Err(failure) => self.fail(request, failure, ctx),
        }
    }

    /// Whether the core lets this request be sent again; if so, it is counted.
    fn allowed(&mut self, request: u64, sent: Sent, ctx: &Context) -> Result<(), Failure> {
        let Some(known) = self.requests.get(&request) else {
            return Err(Failure::NotRepeatable);
        };
        let attempt = retry::Attempt {
            idempotent: known.idempotent || ctx.off(Sabotage::RepeatAnything),
            keyed: false,
            sent,
            replayable: true,
            answered: false,
            tries: known.tries,
        };
        if ctx.off(Sabotage::RepeatNothing) {
            return Err(Failure::NotRepeatable);
        }
        if !may_repeat(attempt, &self.service.retry) {
            let by_tries = may_repeat(retry::Attempt { tries: 0, ..attempt }, &self.service.retry);
            return Err(if by_tries { Failure::TriesUsedUp } else { Failure::NotRepeatable });
        }
        match self.budget.on(retry::Event::Retry, &self.service.retry, ctx.now) {
            Answer::Granted if !ctx.off(Sabotage::NoBudget) => Ok(()),
            Answer::Granted | Answer::Exhausted => Err(Failure::BudgetUsedUp),
        }
    }

    /// Sends a request to the instance that is chosen for it, or holds it.
    fn dispatch(&mut self, request: u64, fleet: &mut Fleet, ctx: &mut Context) {
        let Some(key) = self.choose(request, ctx) else {
            return self.hold(request, ctx);
        };
        let attempt = self.name();
        let sent = ctx.now;
        self.attempts.insert(attempt, Attempt { request, key, sent });
        let known = self.requests.get_mut(&request).expect("only requests that are not over are sent");
        known.tries = known.tries.saturating_add(1);
        known.tried.push(key);
        let idempotent = known.idempotent;
        let target = self.targets.get_mut(&key).expect("only targets are chosen");
        if target.in_flight == 0 {
            target.busy_since = ctx.now;
        }
        target.in_flight += 1;
        target.told_drained = false;
        let (verdict, duty) = (target.verdict().0, target.duty);
        ctx.line("send", request, key, || format!("request {request} to {}", target.id));
        ctx.fact(Fact::Sent { request, key, verdict, duty });
        fleet.get_mut(key).receive(attempt, request, idempotent, ctx);
    }

    /// Who did not have it yet goes before who did.
    fn choose(&mut self, request: u64, ctx: &mut Context) -> Option<Key> {
        let any = ctx.off(Sabotage::IgnoreVerdict);
        let known = self.requests.get(&request)?;
        let mut candidates: Vec<Candidate> = self
            .targets
            .values()
            .map(|target| Candidate {
                key: target.key,
                weight: u32::from(target.weight),
                in_flight: u32::try_from(target.in_flight).unwrap_or(u32::MAX),
                open: any || target.health == Health::Healthy,
            })
            .collect();
        let fresh = |candidate: &Candidate| candidate.open && !known.tried.contains(&candidate.key);
        if candidates.iter().any(fresh) {
            for candidate in &mut candidates {
                candidate.open = fresh(candidate);
            }
        }
        let at = self.chooser.choose(&candidates, request, ctx)?;
        Some(candidates[at].key)
    }

    fn hold(&mut self, request: u64, ctx: &mut Context) {
        if self.held.len() >= self.service.hold.max_requests as usize {
            return self.fail(request, Failure::HoldFull, ctx);
        }
        ctx.seen("request: held");
        ctx.line("hold", request, 0, || format!("request {request}: no instance is healthy"));
        if let Some(known) = self.requests.get_mut(&request) {
            known.held = Some(ctx.now);
            self.held.push_back(request);
        }
    }

    fn fail(&mut self, request: u64, failure: Failure, ctx: &mut Context) {
        self.requests.remove(&request);
        ended(request, Some(failure), ctx);
    }
}
