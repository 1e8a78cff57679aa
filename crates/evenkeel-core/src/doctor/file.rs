//! Findings about what the stack file says, where it leaves a failure without an answer.

use super::{
    Finding, Observed,
    Severity::{Advice, Warning},
};
use crate::{
    snapshot::Protocol,
    stack::{self, Limits, Service, Stack},
};

pub(super) fn findings(observed: &Observed) -> Vec<Finding> {
    let Some(stack) = &observed.stack else { return Vec::new() };
    let mut findings: Vec<Finding> = console(stack, observed).into_iter().collect();
    for (name, service) in stack.services.iter().filter(|(_, service)| is_served(service)) {
        let found = [
            single(name, service, stack),
            no_check(name, service, stack),
            no_liveness(name, service, stack),
            no_hold(name, service),
            no_retries(name, service),
            no_silence(name, service),
            late_silence(name, service),
            slow_check(name, service),
        ];
        findings.extend(found.into_iter().flatten());
    }
    findings
}

/// A service that somebody keeps alive, as opposed to a page.
fn is_served(service: &Service) -> bool {
    service.is_run() || !service.fixed().is_empty()
}

fn single(name: &str, service: &Service, stack: &Stack) -> Option<Finding> {
    let wanted = if service.fixed().is_empty() { service.replicas.min() as usize } else { service.fixed().len() };
    let has_fallback = service.fallback.as_ref().is_some_and(|fallback| stack.services.contains_key(fallback));
    (wanted == 1 && !has_fallback).then(|| {
        let what = format!("{name} has one instance: while it restarts, requests wait");
        let finding = Finding::new(Warning, "single-instance", name, what);
        if service.fixed().is_empty() {
            finding.seen(format!("services.{name}.replicas = 1")).fix(format!(
                "`replicas = 2` for {name}, then keel apply; or a `fallback`, if two must not run at once"
            ))
        } else {
            finding.seen(format!("services.{name}.instances has one address")).fix("a second address, or a `fallback`")
        }
    })
}

/// Where no requests of HTTP come, there is no answer with an error that an instance could keep its clients by: that it
/// takes connections is what can be known of it, and what is checked without `check`.
fn no_check(name: &str, service: &Service, stack: &Stack) -> Option<Finding> {
    let asked = stack::speaks(stack, name).contains(&Protocol::Http);
    (service.check.is_none() && asked).then(|| {
        let what = format!("{name} has no check: an instance that answers with errors only keeps its requests");
        Finding::new(Advice, "no-check", name, what)
            .seen(format!(
                "services.{name}.check is not set: an instance counts as healthy once it accepts a connection"
            ))
            .fix(format!("`check = {{ http = \"/healthz\" }}` for {name}, with a path that fails when it cannot serve"))
    })
}

fn no_liveness(name: &str, service: &Service, stack: &Stack) -> Option<Finding> {
    (service.run.is_some() && service.liveness.is_none()).then(|| {
        let speaks = stack::speaks(stack, name);
        let fix = if speaks.contains(&Protocol::Http) {
            format!("`liveness = {{ tcp = true, after = \"10s\" }}` for {name}, or with an `http` path")
        } else if speaks.contains(&Protocol::Tcp) {
            format!("`liveness = {{ tcp = true, after = \"10s\" }}` for {name}, or with a command (`exec`)")
        } else {
            format!("`liveness = {{ exec = [\"COMMAND\"], after = \"10s\" }}` for {name}")
        };
        let what = format!("nothing restarts an instance of {name} that hangs without exiting");
        Finding::new(Advice, "no-liveness", name, what).seen(format!("services.{name}.liveness is not set")).fix(fix)
    })
}

fn no_hold(name: &str, service: &Service) -> Option<Finding> {
    (service.hold.max.as_ms() == 0 || service.hold.requests == 0).then(|| {
        let what = format!("requests to {name} fail at once while no instance is healthy");
        Finding::new(Warning, "hold-off", name, what)
            .seen(format!(
                "services.{name}.hold = {{ max = \"{}\", requests = {} }}",
                service.hold.max, service.hold.requests
            ))
            .fix("remove `hold`, or give it some seconds: `hold = { max = \"10s\" }`")
    })
}

fn no_retries(name: &str, service: &Service) -> Option<Finding> {
    let wanted = if service.fixed().is_empty() { service.replicas.min() as usize } else { service.fixed().len() };
    (service.retries.max == 0 && wanted > 1).then(|| {
        let what = format!("a request to {name} that could be repeated safely is not");
        Finding::new(Warning, "retries-off", name, what)
            .seen(format!("services.{name}.retries.max = 0"))
            .fix("remove `retries`: only what is safe is repeated, within a budget")
    })
}

fn no_silence(name: &str, service: &Service) -> Option<Finding> {
    let others = service.fixed().len().max(service.replicas.min() as usize) > 1;
    (service.limits.silent_after.as_ms() == 0 && others).then(|| {
        let what = format!("a frozen instance of {name} keeps its requests until they time out");
        Finding::new(Advice, "silence-off", name, what)
            .seen(format!("services.{name}.limits.silent_after = \"0ms\""))
            .fix("remove `silent_after`: an instance that is slow and lives is left alone")
    })
}

fn late_silence(name: &str, service: &Service) -> Option<Finding> {
    let limits = &service.limits;
    (limits.silent_after >= limits.response_timeout).then(|| {
        let what = format!("requests to {name} time out before a frozen instance is noticed");
        Finding::new(Warning, "late-silence", name, what)
            .seen(format!(
                "silent_after = \"{}\", response_timeout = \"{}\"",
                limits.silent_after, limits.response_timeout
            ))
            .fix(format!(
                "a `silent_after` well below `response_timeout`; its default is {}",
                Limits::default().silent_after
            ))
    })
}

fn slow_check(name: &str, service: &Service) -> Option<Finding> {
    let check = service.check.as_ref()?;
    let noticed_ms = check.interval.as_ms().max(check.timeout.as_ms()) * u64::from(check.fall);
    (noticed_ms > 30_000).then(|| {
        let what = format!("it takes {} s until a failing check of {name} counts", noticed_ms / 1000);
        Finding::new(Advice, "slow-check", name, what)
            .seen(format!(
                "check: interval = \"{}\", timeout = \"{}\", fall = {}",
                check.interval, check.timeout, check.fall
            ))
            .fix("a shorter `interval` and `timeout`, or a smaller `fall`")
    })
}

fn console(stack: &Stack, observed: &Observed) -> Option<Finding> {
    let bind = stack.console.bind;
    let tokens = observed.running.as_ref().and_then(|running| running.tokens).unwrap_or(0);
    (!bind.ip().is_loopback()).then(|| {
        let what = format!("{bind} can be reached from other machines, without encryption");
        let finding = Finding::new(Warning, "console-public", "stack", what)
            .seen(format!("console.bind = \"{bind}\": metrics are served to anybody, the API to {tokens} tokens"));
        finding.fix("`[console] bind = \"127.0.0.1:9400\"`, and reach it by `ssh -L 9400:127.0.0.1:9400 HOST`")
    })
}
