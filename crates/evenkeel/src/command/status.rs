//! `keel status`: services, instances and what needs attention.

mod objective;

use std::{fmt::Write, time::Duration};

use evenkeel_core::{
    status::{InstanceStatus, ServiceStatus, Status},
    time::WallTime,
};

use crate::{
    api::Api,
    context::{Context, block_on},
    drill::proofs,
    failure::{Exit, Failure},
    start::announce::address,
    style::{Paint, harmless},
    table::{Cell, Table},
    words::{count, latency, now, since},
};

/// Options of `keel status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show it again every second until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// Lines of its last output that are shown of an instance; there are more in its log.
const LAST_LINES: usize = 5;
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Cursor to the first cell, and everything after it cleared (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Prints the status, once or again and again.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let api = Api::of(&running);
    block_on(async {
        let status = loop {
            let status = api.status().await?;
            if context.json {
                context.json(&status)?;
            } else {
                let clear = if args.watch && context.terminal { CLEAR } else { "" };
                context.line(format!("{clear}{}", render(&status, now(), context.paint)))?;
            }
            if !args.watch {
                break status;
            }
            tokio::time::sleep(WATCH_EVERY).await;
        };
        let (subject, why) = hint(&status);
        context.next(&context.command(&running.state_dir, &format!("why {subject}")), why)?;
        Ok(Exit::Done)
    })
}

/// What to look at next: the first instance that is not well, or else the first service.
fn hint(status: &Status) -> (String, &'static str) {
    let mut instances = status.services.iter().flat_map(|service| &service.instances);
    let unwell = instances.find(|instance| instance.health != evenkeel_core::status::Health::Healthy);
    // There is nothing to explain about a page.
    match (unwell, status.services.iter().find(|service| !service.page)) {
        (Some(instance), _) if instance.drained.is_some() => (instance.name.clone(), "explains how it came to be so"),
        (Some(instance), _) => (instance.name.clone(), "explains what is wrong"),
        (None, Some(service)) => (service.name.clone(), "explains how it came to be so"),
        (None, None) => ("stack".to_owned(), "explains how it came to be so"),
    }
}

/// The status for a person, as of `now`; ends with a newline.
fn render(status: &Status, now: WallTime, paint: Paint) -> String {
    let addresses: Vec<String> = status.listeners.iter().map(address).collect();
    let mut text = format!(
        "{}  revision {}  up {}  {}\n",
        paint.bold(&status.stack),
        status.revision,
        since(status.since, now),
        addresses.join("  ")
    );
    if !status.problems.is_empty() {
        text.push('\n');
    }
    for problem in &status.problems {
        let _ = writeln!(text, "{} {}", paint.bad("!"), harmless(problem));
    }
    if !status.overrides.is_empty() {
        text.push('\n');
    }
    for line in &status.overrides {
        let _ = writeln!(text, "{} {}", paint.warn("~"), harmless(line));
    }
    for service in &status.services {
        if let Some(deploy) = &service.deploy {
            let _ = writeln!(text, "\n{} {}: {}", paint.warn("*"), service.name, harmless(&deploy.message));
        }
    }
    let _ = write!(text, "\n{}{}", services(&status.services, paint), elastic(&status.services, paint));
    text.push_str(&objective::objectives(&status.services, paint));
    for table in [datagrams(&status.services, paint), instances(status, now, paint)] {
        if !table.is_empty() {
            let _ = write!(text, "\n{table}");
        }
    }
    for instance in status.services.iter().flat_map(|service| &service.instances) {
        text.push_str(&last_words(instance, paint));
    }
    let proofs = proofs::lines(&status.proofs, now, paint);
    if !proofs.is_empty() {
        let _ = write!(text, "\n{proofs}");
    }
    let _ = write!(text, "\n{}\n", paint.dim(&processes(status)));
    text
}

fn services(services: &[ServiceStatus], paint: Paint) -> String {
    let heads = ["SERVICE", ">HEALTHY", ">REQ/S", ">P50", ">P99", ">REQUESTS", ">ERRORS", ">RETRIES", ">WAITING"];
    let mut table = Table::new(&heads);
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), latency);
    for service in services {
        let wanted = service.replicas.max(u32::try_from(service.instances.len()).unwrap_or(u32::MAX));
        let healthy = service.healthy;
        let page = service.page;
        let ratio = if page { "page".to_owned() } else { format!("{healthy}/{wanted}") };
        let all = Cell::painted(ratio, move |paint, text| match healthy {
            _ if page => text.to_owned(),
            n if n >= wanted => paint.good(text),
            0 => paint.bad(text),
            _ => paint.warn(text),
        });
        // A page answers with its status, as it should.
        let errors = if page { 0 } else { service.errors };
        let paint_errors = move |paint: Paint, text: &str| if errors == 0 { text.to_owned() } else { paint.bad(text) };
        table.row(vec![
            service.name.as_str().into(),
            all,
            format!("{:.1}", service.requests_per_s).into(),
            ms(service.p50_ms).into(),
            ms(service.p99_ms).into(),
            count(service.requests).into(),
            Cell::painted(count(service.errors), paint_errors),
            count(service.retries).into(),
            count(service.holding).into(),
        ]);
    }
    table.render(paint)
}

/// What passed UDP listeners, of services that they lead to: there are no requests in it that could be counted.
fn datagrams(services: &[ServiceStatus], paint: Paint) -> String {
    let mut table = Table::new(&["UDP", ">SESSIONS", ">DATAGRAMS IN", ">DATAGRAMS OUT", ">DROPPED"]);
    let mut any = false;
    for (name, udp) in services.iter().filter_map(|service| Some((&service.name, service.udp?))) {
        any = true;
        let dropped = udp.dropped;
        let paint_dropped =
            move |paint: Paint, text: &str| if dropped == 0 { text.to_owned() } else { paint.warn(text) };
        table.row(vec![
            name.as_str().into(),
            count(udp.sessions).into(),
            count(udp.received).into(),
            count(udp.sent).into(),
            Cell::painted(count(dropped), paint_dropped),
        ]);
    }
    if any { table.render(paint) } else { String::new() }
}

/// How many instances elastic services may have, and why they have as many as they do.
fn elastic(services: &[ServiceStatus], paint: Paint) -> String {
    let line = |service: &ServiceStatus| {
        let scaling = service.scaling.as_ref()?;
        let why = if scaling.pinned { "fixed by `keel scale`" } else { &scaling.reason };
        let line = format!("{}: {} to {} instances; {}", service.name, scaling.min, scaling.max, harmless(why));
        Some(format!("{}\n", paint.dim(&line)))
    };
    services.iter().filter_map(line).collect()
}

fn instances(status: &Status, now: WallTime, paint: Paint) -> String {
    let heads = ["INSTANCE", "HEALTH", "PHASE", ">PID", "ADDRESS", ">UP", ">RESTARTS", ">IN FLIGHT", "NOTE"];
    let mut table = Table::new(&heads);
    for instance in status.services.iter().flat_map(|service| &service.instances) {
        let health = instance.health;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let up = instance.since.filter(|_| instance.pid.is_some());
        table.row(vec![
            instance.name.as_str().into(),
            Cell::painted(health.as_str(), move |paint, text| paint.health(health, text)),
            or_dash(instance.phase.map(|phase| phase.to_string())).into(),
            or_dash(instance.pid.map(|pid| pid.to_string())).into(),
            instance.address.as_str().into(),
            or_dash(up.map(|start| since(start, now))).into(),
            count(instance.restarts).into(),
            count(instance.in_flight).into(),
            note(instance).into(),
        ]);
    }
    table.render(paint)
}

/// Why it is not healthy, and how its last process ended.
fn note(instance: &InstanceStatus) -> String {
    let mut parts = Vec::new();
    if let Some(drained) = &instance.drained {
        let why = if drained.reason.is_empty() { String::new() } else { format!(" ({})", harmless(&drained.reason)) };
        parts.push(format!("drained by hand{why}"));
    } else if instance.health != evenkeel_core::status::Health::Healthy {
        parts.push(harmless(&instance.reason));
    }
    if let Some(exit) = &instance.last_exit {
        parts.push(format!("last exit: {}", harmless(exit)));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

fn last_words(instance: &InstanceStatus, paint: Paint) -> String {
    if instance.last_output.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", paint.dim(&format!("last output of {}:", instance.name)));
    for line in instance.last_output.iter().rev().take(LAST_LINES).rev() {
        let _ = writeln!(text, "  {}", harmless(line));
    }
    text
}

fn processes(status: &Status) -> String {
    let restarts = |n: u64| match n {
        0 => String::new(),
        1 => " (restarted once)".to_owned(),
        n => format!(" (restarted {n} times)"),
    };
    let edge = status.edge.as_ref().map_or_else(
        || "no edge yet".to_owned(),
        |edge| {
            let connections = if edge.connections == 1 { "connection" } else { "connections" };
            format!("edge {}{}, {} {connections}", edge.pid, restarts(edge.restarts), edge.connections)
        },
    );
    format!("guard {}   node {}{}   {edge}", status.guard.pid, status.node.pid, restarts(status.node.restarts))
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{
        snapshot::Protocol,
        status::{EdgeStatus, Health, ListenerStatus, Phase, ProcessStatus, UdpStatus},
    };

    use super::*;

    fn instance(number: u32, health: Health, phase: Phase) -> InstanceStatus {
        InstanceStatus {
            name: format!("shop/{number}"),
            generation: 1,
            revision: Some(2),
            pid: Some(4000 + number),
            address: format!("127.0.0.1:{}", 20_770 + number),
            health,
            reason: "2 probes in a row passed".to_owned(),
            phase: Some(phase),
            since: Some(WallTime::from_millis(10_000)),
            in_flight: 1,
            ..InstanceStatus::default()
        }
    }

    fn status(instances: Vec<InstanceStatus>, healthy: u32, problems: Vec<String>) -> Status {
        Status {
            stack: "shop".to_owned(),
            version: "0.1.0".to_owned(),
            revision: 2,
            since: WallTime::from_millis(8_000),
            guard: ProcessStatus { pid: 100, restarts: 0 },
            node: ProcessStatus { pid: 101, restarts: 1 },
            edge: Some(EdgeStatus { pid: 102, restarts: 0, snapshot: 9, applied: 9, reported: None, connections: 12 }),
            listeners: vec![ListenerStatus {
                name: "web".to_owned(),
                address: "0.0.0.0:8080".to_owned(),
                protocol: Protocol::Http,
            }],
            services: vec![ServiceStatus {
                name: "shop".to_owned(),
                replicas: 3,
                healthy,
                requests_per_s: 41.25,
                requests: 12_304,
                p50_ms: Some(1.2),
                retries: 2,
                instances,
                ..ServiceStatus::default()
            }],
            problems,
            overrides: Vec::new(),
            proofs: Vec::new(),
            console: None,
        }
    }

    #[test]
    fn all_is_well() {
        let instances = (1..=3).map(|n| instance(n, Health::Healthy, Phase::Running)).collect();
        let status = status(instances, 3, Vec::new());
        insta::assert_snapshot!(render(&status, WallTime::from_millis(202_000), Paint::plain()));
        assert_eq!(hint(&status).0, "shop");
    }

    #[test]
    fn a_page_has_no_instances_and_what_waits_now_is_shown() {
        let instances = (1..=3).map(|n| instance(n, Health::Healthy, Phase::Running)).collect();
        let mut status = status(instances, 3, Vec::new());
        (status.services[0].held, status.services[0].holding) = (77, 5);
        let page = ServiceStatus { name: "sorry".to_owned(), page: true, requests: 4, ..ServiceStatus::default() };
        status.services.insert(0, page);
        let text = services(&status.services, Paint::plain());
        let row = |name: &str| -> Vec<&str> {
            text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect()
        };
        assert_eq!(row("SERVICE").last(), Some(&"WAITING"));
        assert_eq!((row("sorry")[1], row("shop").last()), ("page", Some(&"5")));
        assert_eq!(hint(&status).0, "shop");
    }

    #[test]
    fn datagrams_have_a_table_of_their_own() {
        let mut status = status(vec![instance(1, Health::Healthy, Phase::Running)], 1, Vec::new());
        assert_eq!(datagrams(&status.services, Paint::plain()), "");
        let udp = UdpStatus { sessions: 12, received: 3_400, sent: 3_398, dropped: 2 };
        let name = "names".to_owned();
        status.services.push(ServiceStatus { name, udp: Some(udp), ..ServiceStatus::default() });
        let text = render(&status, WallTime::from_millis(202_000), Paint::plain());
        let row = text.lines().skip_while(|line| !line.starts_with("UDP")).nth(1).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["names", "12", &count(3_400), &count(3_398), "2"]);
    }

    #[test]
    fn problems_stand_on_top() {
        let mut gone = instance(2, Health::Unhealthy, Phase::GaveUp);
        gone.pid = None;
        gone.restarts = 10;
        gone.reason = "10 exits in a row".to_owned();
        gone.last_exit = Some("exit code 1".to_owned());
        gone.last_output = vec!["Error: cannot find module './server.js'\x1b[0m".to_owned()];
        let problems = vec!["shop/2 gave up after 10 exits in a row".to_owned()];
        let status = status(vec![instance(1, Health::Healthy, Phase::Running), gone], 1, problems);
        insta::assert_snapshot!(render(&status, WallTime::from_millis(202_000), Paint::plain()));
        assert_eq!(hint(&status).0, "shop/2");
    }
}
