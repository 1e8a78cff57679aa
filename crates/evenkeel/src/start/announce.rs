//! The process beside a starting guard that says when the stack is up, and what keeps it from getting there.
//!
//! The guard itself says nothing and talks to nobody; so this small process asks the API until every service has
//! all of its instances, prints the addresses and ends. It dies with the guard, and a Ctrl-C ends it too.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use evenkeel_core::status::{ServiceStatus, Status};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;

use crate::{api::Api, context::Context, failure::Failure, running::Running, style::harmless};

/// How often is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How often is said without a terminal that it still takes.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Waits until the stack in `state_dir` is up and says so.
pub(crate) async fn run(running: &Running, console: SocketAddr, context: &Context) -> Result<(), Failure> {
    let begun = Instant::now();
    let status = await_healthy(&Api::of(running), context.json).await;
    let took = begun.elapsed();
    let addresses: Vec<String> = status.listeners.iter().map(|listener| url(&listener.address)).collect();
    if context.json {
        return context.json(&json!({
            "stack": status.stack,
            "up": true,
            "addresses": addresses,
            "metrics": format!("http://{console}/metrics"),
            "state_dir": running.state_dir,
            "pid": running.holder.pid,
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    let instances: usize = status.services.iter().map(|service| service.instances.len()).sum();
    let all = if instances == 1 { "1 instance is".to_owned() } else { format!("{instances} instances are") };
    let up = context.paint.good("is up");
    context.line(format!(
        "{} {up}: {}   ({all} healthy after {:.1} s)",
        context.paint.bold(&status.stack),
        addresses.join("  "),
        took.as_secs_f64()
    ))?;
    context.line(format!("metrics: http://{console}/metrics   state: {}", running.state_dir.display()))?;
    context.line("stop it with Ctrl-C")?;
    context.next(&context.command(&running.state_dir, "status --watch"), "in another terminal")
}

/// The address of a listener for a browser: one bound to every address is reached by loopback from here.
pub(crate) fn url(address: &str) -> String {
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
    format!("http://{}", reachable.unwrap_or_else(|_| address.to_owned()))
}

/// Whether every service has all the instances it should have.
pub(crate) fn is_up(status: &Status) -> bool {
    let has_all = |service: &ServiceStatus| {
        let wanted = if service.replicas == 0 { service.instances.len() } else { service.replicas as usize };
        service.healthy as usize >= wanted
    };
    status.edge.is_some() && !status.services.is_empty() && status.services.iter().all(has_all)
}

/// Asks until the stack is up. Shows how far it is, and each problem once.
async fn await_healthy(api: &Api, quiet: bool) -> Status {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let mut told = BTreeSet::new();
    let mut next_word = Instant::now() + SAY_EVERY;
    loop {
        let asked = api.status_now().await;
        if let Ok(status) = asked {
            if is_up(&status) {
                bar.finish_and_clear();
                return status;
            }
            for problem in status.problems.iter().filter(|_| !quiet) {
                if told.insert(problem.clone()) {
                    bar.suspend(|| eprintln!("{}", harmless(problem)));
                }
            }
            let line = progress(&status);
            bar.set_message(line.clone());
            if !quiet && bar.is_hidden() && Instant::now() >= next_word {
                next_word += SAY_EVERY;
                eprintln!("{line}");
            }
        }
        bar.tick();
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// How far a start is, in one line.
pub(crate) fn progress(status: &Status) -> String {
    let each = status.services.iter().map(|service| {
        let wanted = service.replicas.max(u32::try_from(service.instances.len()).unwrap_or(u32::MAX));
        format!("{} {} of {wanted} healthy", service.name, service.healthy)
    });
    format!("starting {}: {}", status.stack, each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn addresses_can_be_opened_from_here() {
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80"), "http://[::1]:80");
        assert_eq!(url("10.0.0.5:8080"), "http://10.0.0.5:8080");
    }
}
