//! Findings about a stack that runs: what it says itself, and what its processes show.

use super::{
    Finding, Observed, Running,
    Severity::{Advice, Error, Warning},
    counted,
};
use crate::{
    stack::Stack,
    status::{Health, InstanceStatus, Phase, ServiceStatus, Status},
    why,
};

/// Lines of output that a finding repeats.
const OUTPUT_LINES: usize = 5;

pub(super) fn findings(observed: &Observed) -> Vec<Finding> {
    let Some(running) = &observed.running else { return Vec::new() };
    let mut findings: Vec<Finding> =
        [unheard(running), replaced(running), readily_killed(running)].into_iter().flatten().collect();
    let Some(status) = &running.status else { return findings };
    findings.extend(
        [laid_over(status), older(running, status), node_restarts(status), edge_restarts(status)].into_iter().flatten(),
    );
    for service in &status.services {
        findings.extend(service.instances.iter().filter_map(gave_up));
        findings.extend(service.instances.iter().filter_map(|instance| wrong_path(service, instance)));
        findings.extend(service.instances.iter().filter_map(loops));
        findings.extend(none_healthy(service));
        findings.extend(slower_than_its_bound(service, observed.stack.as_ref()));
        findings.extend(erroneous(service));
    }
    let said: Vec<String> = findings.iter().map(|finding| finding.subject.clone()).collect();
    findings
        .extend(status.problems.iter().filter(|problem| !is_said(problem, &said)).map(|problem| own_words(problem)));
    findings
}

/// The problem is about a subject that has a finding of its own.
fn is_said(problem: &str, subjects: &[String]) -> bool {
    let repeats = problem.contains("gave up") || problem.contains("no instance is healthy");
    let Some((about, _)) = problem.split_once([':', ' ']).filter(|_| repeats) else { return false };
    subjects.iter().any(|subject| subject == about || subject.split('/').next() == Some(about))
}

fn own_words(problem: &str) -> Finding {
    Finding::new(Warning, "problem", "stack", problem.to_owned()).seen("keel status").fix("keel why stack")
}

fn unheard(running: &Running) -> Option<Finding> {
    let silent = running.silent.as_ref()?;
    Some(
        Finding::new(Error, "node-silent", "node", "the node process does not answer; the service goes on without it")
            .seen(silent.clone())
            .fix("wait some seconds: the guard starts it again; what it said last is in the output of `keel up`"),
    )
}

fn replaced(running: &Running) -> Option<Finding> {
    let old: Vec<String> = running.processes.iter().filter(|own| own.replaced).map(|own| own.pid.to_string()).collect();
    (!old.is_empty()).then(|| {
        Finding::new(Warning, "old-binary", "stack", "the file of keel was replaced, and the old one still runs")
            .seen(format!("/proc/PID/exe of {} leads to a file that is gone", old.join(", ")))
            .fix("restart `keel up` (systemctl restart, where a unit runs it): instances are adopted")
    })
}

fn older(running: &Running, status: &Status) -> Option<Finding> {
    (status.version != running.our_version).then(|| {
        let what = format!("keel {} runs, and this command is keel {}", status.version, running.our_version);
        Finding::new(Warning, "version", "stack", what)
            .seen("the version that its API answers with")
            .fix("restart `keel up`, or use the keel that it runs as")
    })
}

fn readily_killed(running: &Running) -> Option<Finding> {
    let guard = running.processes.iter().find(|own| own.name == "guard")?;
    let own = guard.oom_score_adj?;
    let milder = running.instances.iter().find(|instance| instance.oom_score_adj.is_some_and(|adj| adj < own))?;
    let what = "when memory is short the kernel ends keel before the instances that it keeps";
    Some(
        Finding::new(Warning, "oom-order", "stack", what)
            .seen(format!("/proc/{}/oom_score_adj of the guard is {own}", guard.pid))
            .seen(format!("that of {} is {}", milder.name, milder.oom_score_adj.unwrap_or_default()))
            .fix("in the systemd unit of keel: `OOMScoreAdjust=-900` and `OOMPolicy=continue`"),
    )
}

fn laid_over(status: &Status) -> Option<Finding> {
    (!status.overrides.is_empty()).then(|| {
        let n = counted(status.overrides.len() as u64, "override is", "overrides are");
        let mut finding = Finding::new(Advice, "overrides", "stack", format!("{n} in force over the stack file"));
        for each in &status.overrides {
            finding = finding.seen(each.clone());
        }
        finding.fix("keel apply FILE --diff shows what differs; write into the file what should stay")
    })
}

fn node_restarts(status: &Status) -> Option<Finding> {
    let times = status.node.restarts;
    (times > 0).then(|| {
        let n = counted(times, "time", "times");
        Finding::new(Warning, "node-restarts", "node", format!("the node process was started again {n}"))
            .seen(format!("since the start of keel at {} (keel status)", status.since))
            .fix("keel events --subject node, and what `keel up` wrote (journalctl -u UNIT)")
    })
}

fn edge_restarts(status: &Status) -> Option<Finding> {
    let times = status.edge.as_ref()?.restarts;
    (times > 0).then(|| {
        let n = counted(times, "time", "times");
        Finding::new(
            Warning,
            "edge-restarts",
            "edge",
            format!("the edge was started again {n}, which cuts connections"),
        )
        .seen(format!("since the start of keel at {} (keel status)", status.since))
        .fix("keel why edge")
    })
}

fn gave_up(instance: &InstanceStatus) -> Option<Finding> {
    (instance.phase == Some(Phase::GaveUp)).then(|| {
        let name = &instance.name;
        let mut finding = Finding::new(Error, "gave-up", name.clone(), why::instance(instance));
        let skip = instance.last_output.len().saturating_sub(OUTPUT_LINES);
        for line in instance.last_output.iter().skip(skip) {
            finding = finding.seen(format!("its output: {line}"));
        }
        if finding.evidence.is_empty() {
            finding = finding.seen("it wrote nothing (keel logs)");
        }
        finding.fix(format!("keel logs {name}")).fix("correct the cause, then keel apply FILE starts it again")
    })
}

/// Ends again and again, though it is not given up.
fn loops(instance: &InstanceStatus) -> Option<Finding> {
    let failing = matches!(instance.phase, Some(Phase::Waiting | Phase::Starting)) && instance.restarts >= 2;
    failing.then(|| why::trouble(instance)).flatten().map(|trouble| {
        let name = &instance.name;
        Finding::new(Error, "restart-loop", name.clone(), trouble)
            .seen(format!("{} restarts (keel status)", instance.restarts))
            .fix(format!("keel logs {name}"))
    })
}

fn wrong_path(service: &ServiceStatus, instance: &InstanceStatus) -> Option<Finding> {
    let unwell = matches!(instance.health, Health::Unhealthy | Health::Unknown);
    // The edge names the status that a probe was answered with.
    let missing = instance.reason.split(|c: char| !c.is_ascii_digit()).any(|word| word == "404");
    (unwell && missing).then(|| {
        let name = &service.name;
        let what = format!("the check of {name} asks for a path that {} does not have", instance.name);
        Finding::new(Error, "check-path", instance.name.clone(), what)
            .seen(format!("the edge says: {}", instance.reason))
            .fix(format!("set `services.{name}.check.http` to a path that answers, then keel apply FILE"))
    })
}

fn none_healthy(service: &ServiceStatus) -> Option<Finding> {
    let idle = service.instances.iter().any(|instance| instance.phase == Some(Phase::GaveUp));
    (service.replicas > 0 && service.healthy == 0 && !idle).then(|| {
        let name = &service.name;
        Finding::new(Error, "none-healthy", name.clone(), why::service(service))
            .seen(format!("0 of {} instances are healthy (keel status)", service.replicas))
            .fix(format!("keel why {name}"))
    })
}

fn slower_than_its_bound(service: &ServiceStatus, stack: Option<&Stack>) -> Option<Finding> {
    let (name, p99_ms) = (&service.name, service.p99_ms?);
    let limit = stack?.services.get(name)?.limits.response_timeout;
    // The bound is in whole milliseconds, far below what a double can tell apart.
    let limit_ms = u32::try_from(limit.as_ms()).map_or(f64::MAX, f64::from);
    (p99_ms >= limit_ms / 2.0).then(|| {
        let what = format!("the slowest answers of {name} take nearly as long as they may");
        Finding::new(Warning, "slow-answers", name.clone(), what)
            .seen(format!("the 99th percentile is {p99_ms:.0} ms over the last ten seconds (keel status)"))
            .seen(format!("services.{name}.limits.response_timeout = \"{limit}\""))
            .fix("a longer `response_timeout` if these requests are meant to be slow; then they are not cut off")
    })
}

fn erroneous(service: &ServiceStatus) -> Option<Finding> {
    let ServiceStatus { name, requests, errors, .. } = service;
    // A page answers with its own status, which mostly is a 503, as it should.
    (!service.page && *requests >= 100 && errors.saturating_mul(100) >= *requests).then(|| {
        let what =
            format!("{name} answers with errors: {errors} of {requests} requests since the edge first served it");
        Finding::new(Warning, "errors", name.clone(), what)
            .seen("5xx and requests without an answer (keel status)")
            .fix(format!("keel logs {name} and keel why {name}"))
    })
}
