//! The process beside a starting guard that says when the stack is up, and what keeps it from getting there.
//!
//! The guard itself says nothing and talks to nobody; so this small process asks the API until every service has
//! all of its instances, prints the addresses and ends. It dies with the guard, and a Ctrl-C ends it too.

use std::{
    collections::BTreeSet,
    fmt::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use evenkeel_core::{
    snapshot::Protocol,
    status::{Health, InstanceStatus, ListenerStatus, Phase, ServiceStatus, Status},
};
use serde_json::json;

use crate::{api::Api, context::Context, failure::Failure, progress::Progress, running::Running, style::harmless};

/// How often is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How often is said without a terminal that it still takes.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Waits until the stack in `state_dir` is up and says so.
pub(crate) async fn run(running: &Running, context: &Context) -> Result<(), Failure> {
    let begun = Instant::now();
    let status = await_healthy(&Api::of(running), context.json).await;
    let took = begun.elapsed();
    let addresses: Vec<String> = status.listeners.iter().map(address).collect();
    let adopted = adopted(&status);
    if context.json {
        return context.json(&json!({
            "stack": status.stack,
            "up": true,
            "adopted": adopted,
            "addresses": addresses,
            "metrics": status.console.as_deref().map(metrics),
            "state_dir": running.state_dir,
            "pid": running.holder.pid,
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    let instances: usize = status.services.iter().map(|service| service.instances.len()).sum();
    let all = if instances == 1 { "1 instance is".to_owned() } else { format!("{instances} instances are") };
    let before = if adopted > 0 { format!("; {adopted} went on from before") } else { String::new() };
    let up = context.paint.good("is up");
    context.line(format!(
        "{} {up}: {}   ({all} healthy after {:.1} s{before})",
        context.paint.bold(&status.stack),
        addresses.join("  "),
        took.as_secs_f64()
    ))?;
    let metrics = status.console.as_deref().map_or_else(|| "not served, see keel status".to_owned(), metrics);
    context.line(format!("metrics: {metrics}   state: {}", running.state_dir.display()))?;
    if status.console.is_some() {
        let console = context.command(&running.state_dir, "console");
        context.line(format!("console: {console}   (prints a link that opens it)"))?;
    }
    context.line("stop it with Ctrl-C")?;
    context.next(&context.command(&running.state_dir, "status --watch"), "in another terminal")
}

/// Where metrics are, at the console's address.
pub(crate) fn metrics(console: &str) -> String {
    format!("{}/metrics", url(console))
}

/// How many instances run since before this guard.
fn adopted(status: &Status) -> usize {
    let instances = status.services.iter().flat_map(|service| &service.instances);
    instances.filter(|instance| instance.since.is_some_and(|since| since < status.since)).count()
}

/// The address of a listener for a browser: one bound to every address is reached by loopback from here.
pub(crate) fn url(address: &str) -> String {
    format!("http://{}", reachable(address))
}

/// A listener's address as something to open; what is spoken on it stands in front.
pub(crate) fn address(listener: &ListenerStatus) -> String {
    match listener.protocol {
        Protocol::Http => url(&listener.address),
        Protocol::Tcp => format!("tcp://{}", reachable(&listener.address)),
        Protocol::Udp => format!("udp://{}", reachable(&listener.address)),
    }
}

/// An address of this machine in place of one that stands for all of them.
fn reachable(address: &str) -> String {
    let reachable = address.parse::<SocketAddr>().map(|mut address| {
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        address.to_string()
    });
    reachable.unwrap_or_else(|_| address.to_owned())
}

/// Whether every service has all the instances it should have.
pub(crate) fn is_up(status: &Status) -> bool {
    status.edge.is_some() && !status.services.is_empty() && status.services.iter().all(has_all)
}

fn has_all(service: &ServiceStatus) -> bool {
    if service.dns.as_ref().is_some_and(|dns| dns.addresses == 0) {
        return false;
    }
    let wanted = if service.replicas == 0 { service.instances.len() } else { service.replicas as usize };
    // What an operator drains gets no requests on purpose, and nothing more is to be expected of it.
    let runs = |instance: &&InstanceStatus| matches!(instance.phase, None | Some(Phase::Starting | Phase::Running));
    let drained = service.instances.iter().filter(|instance| instance.drained.is_some()).filter(runs);
    // An edge that has not applied the drain yet may still call it healthy.
    let drained = drained.filter(|instance| instance.health != Health::Healthy).count();
    service.healthy as usize + drained >= wanted
}

/// Whether every instance of it gave up: then it stays as it is until somebody changes something.
fn gave_up(service: &ServiceStatus) -> bool {
    let instances = &service.instances;
    !instances.is_empty() && instances.iter().all(|instance| instance.phase == Some(Phase::GaveUp))
}

/// What is to be said once of a service whose instances all gave up.
fn last_words(service: &ServiceStatus) -> String {
    let mut text = format!("{}: every instance gave up, so nothing serves it", service.name);
    if let Some(instance) = service.instances.iter().find(|instance| !instance.last_output.is_empty()) {
        let _ = write!(text, "; last output of {}:", instance.name);
        for line in &instance.last_output {
            let _ = write!(text, "\n  {}", harmless(line));
        }
    }
    text.push_str("\nkeel goes on: correct the stack file and `keel apply` it, or stop keel with Ctrl-C");
    text
}

/// Asks until the stack is up. Shows how far it is, and each problem once.
async fn await_healthy(api: &Api, quiet: bool) -> Status {
    let live = Progress::new();
    let mut told = BTreeSet::new();
    let mut next_word = Instant::now() + SAY_EVERY;
    loop {
        if let Ok(status) = api.status_now().await {
            if is_up(&status) {
                return status;
            }
            for news in news(&status).into_iter().filter(|_| !quiet) {
                if told.insert(key(&news).to_owned()) {
                    live.line(&news);
                }
            }
            let mut missing = status.services.iter().filter(|service| !has_all(service)).peekable();
            if missing.clone().all(gave_up) {
                // Nothing moves any more until somebody changes something, so there is no progress to show.
                live.clear();
            } else {
                // Of whoever is stuck it was said what is wrong, and it does not start: saying so again and again helps
                // nobody.
                let is_said =
                    missing.peek().is_some() && missing.all(|service| gave_up(service) || service.stuck.is_some());
                show_progress(&live, progress(&status), &mut next_word, quiet || is_said);
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// What two pieces of news have in common that are about the same: of a service without a healthy instance, what is seen
/// last may be another thing each time.
fn key(news: &str) -> &str {
    const NOBODY: &str = ": no instance is healthy";
    news.find(NOBODY).map_or(news, |at| &news[..at + NOBODY.len()])
}

/// A live line on a terminal, elsewhere a line from time to time.
fn show_progress(progress: &Progress, line: String, next_word: &mut Instant, quiet: bool) {
    if !quiet && progress.is_hidden() && Instant::now() >= *next_word {
        *next_word = Instant::now() + SAY_EVERY;
        eprintln!("{line}");
    }
    progress.say(line);
}

/// What is worth saying once, harmless for a terminal.
fn news(status: &Status) -> Vec<String> {
    let given_up = status.services.iter().filter(|service| gave_up(service)).map(last_words);
    problems(status).iter().map(|problem| harmless(problem)).chain(given_up).collect()
}

/// What keeps the stack from being up: its problems, and how processes of its instances ended, of each service
/// the first, since the others mostly say the same.
fn problems(status: &Status) -> Vec<String> {
    let ended = status.services.iter().filter_map(|service| {
        let (instance, exit) = service.instances.iter().find_map(|i| i.last_exit.as_ref().map(|exit| (i, exit)))?;
        Some(format!("{}: {exit}", instance.name))
    });
    ended.chain(status.problems.iter().cloned()).collect()
}

/// How far a start is, in one line.
pub(crate) fn progress(status: &Status) -> String {
    let each = status.services.iter().filter(|service| !service.page).map(|service| {
        let wanted = service.replicas.max(u32::try_from(service.instances.len()).unwrap_or(u32::MAX));
        format!("{} {} of {wanted} healthy", service.name, service.healthy)
    });
    format!("starting {}: {}", status.stack, each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{status::DrainStatus, time::WallTime};

    use super::*;

    #[test]
    fn what_an_operator_drains_is_not_waited_for() {
        let instance = |health, phase| InstanceStatus { health, phase: Some(phase), ..InstanceStatus::default() };
        let healthy = instance(Health::Healthy, Phase::Running);
        let mut other = instance(Health::Draining, Phase::Starting);
        let service = |other: &InstanceStatus| ServiceStatus {
            replicas: 2,
            healthy: 1,
            instances: vec![healthy.clone(), other.clone()],
            ..ServiceStatus::default()
        };
        assert!(!has_all(&service(&other)));
        other.drained = Some(DrainStatus {
            reason: String::new(),
            by: String::new(),
            since: WallTime::from_millis(1),
            finished: true,
        });
        assert!(has_all(&service(&other)));
        other.phase = Some(Phase::GaveUp);
        assert!(!has_all(&service(&other)));
    }

    #[test]
    fn who_is_stuck_is_told_of_once() {
        let one = "db: no instance is healthy, so requests are held: db/1 is starting; the last it said: 1";
        assert_eq!(key(one), key(&one.replace("said: 1", "said: 2")));
        assert_ne!(key(one), key(&one.replace("db:", "shop:")));
        assert_eq!(key("db/1: exit code 1"), "db/1: exit code 1");
    }

    #[test]
    fn a_name_without_an_address_is_waited_for() {
        let dns = |addresses| ServiceStatus {
            dns: Some(evenkeel_core::status::DnsStatus { addresses, ..Default::default() }),
            ..ServiceStatus::default()
        };
        assert!(!has_all(&dns(0)) && has_all(&dns(1)));
    }

    #[test]
    fn addresses_can_be_opened_from_here() {
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80"), "http://[::1]:80");
        assert_eq!(url("10.0.0.5:8080"), "http://10.0.0.5:8080");
    }
}
