//! What the commands share that order something of a running stack: asking, saying what changed, waiting for it.
//!
//! An order is in force once it is answered; carrying it out takes as long as instances take to get ready. Waiting
//! changes nothing, and whoever stops waiting stops nothing.

use std::time::{Duration, Instant};

use evenkeel_core::status::{InstanceStatus, Phase, ServiceStatus, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rollout::{self, Outcome, Wanted};
use crate::{
    api::{Api, read},
    context::Context,
    failure::{Exit, Failure},
    http::Ask,
    running::Running,
    style::harmless,
    words::{duration, span},
};

/// How long to wait, or not at all.
#[derive(Debug, clap::Args)]
pub(crate) struct Patience {
    /// How long to wait until it is carried out
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(super) wait: Duration,
    /// Return once it is in force, without waiting until it is carried out
    #[arg(long, conflicts_with = "wait")]
    pub(super) no_wait: bool,
}

impl Patience {
    /// The time, in words.
    pub(super) fn waited(&self) -> String {
        span(u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX))
    }
}

/// What came of an order, as the API answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ordered {
    pub(super) revision: u64,
    pub(super) changes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// Processes that are replaced, as `shop/1#4`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) replaced: Vec<String>,
    /// Instances that stay while others are replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<String>,
}

/// The answer under `--json` of an order that is waited for.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    ordered: &'a Ordered,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// Gives an order.
pub(super) async fn give(api: &Api, target: &str, order: &Value) -> Result<Ordered, Failure> {
    read(&api.succeed(Ask::post(target, order.to_string().into_bytes())).await?)
}

/// Says what changed, for a person.
pub(super) fn say(ordered: &Ordered, context: &Context) -> Result<(), Failure> {
    if ordered.changes.is_empty() && ordered.notes.is_empty() {
        context.line("nothing to change: it is so already")?;
    }
    for change in &ordered.changes {
        context.line(harmless(change))?;
    }
    for note in &ordered.notes {
        context.line(format!("{} {}", context.paint.dim("note:"), harmless(note)))?;
    }
    Ok(())
}

/// Waits until the instances of `service` are as ordered, and says how that ended.
pub(super) async fn finish(
    (api, running): (&Api, &Running),
    service: &str,
    ordered: &Ordered,
    patience: &Patience,
    context: &Context,
) -> Result<Exit, Failure> {
    let began = Instant::now();
    if !context.json {
        say(ordered, context)?;
    }
    let wanted = Wanted {
        revision: ordered.revision,
        was_in_force: ordered.changes.is_empty(),
        service: Some(service.to_owned()),
        replaced: ordered.replaced.clone(),
        kept: ordered.kept.clone(),
    };
    let outcome =
        if patience.no_wait { Outcome::NotAwaited } else { rollout::watch(api, &wanted, patience.wait).await? };
    if context.json {
        context.json(&Report { ordered, outcome: &outcome })?;
        return Ok(if outcome.is_well() { Exit::Done } else { Exit::Failed });
    }
    let command = |args: &str| context.command(&running.state_dir, args);
    match outcome {
        Outcome::Done => {
            let took = began.elapsed().as_secs_f64();
            let more = api.status_now().await.map_or_else(|_| String::new(), |status| surplus(&status, service));
            context.line(format!("{service} is as ordered after {took:.1} s{more}"))?;
            context.next(&command("status"), "shows its instances")?;
        }
        Outcome::NotAwaited => context.next(&command("status --watch"), "shows it being carried out")?,
        other => return Err(not_ready(&other, service, patience, None, command)),
    }
    Ok(Exit::Done)
}

/// Instances of a service that are about to go, in words.
fn surplus(status: &Status, service: &str) -> String {
    let service = status.services.iter().find(|one| one.name == service);
    let leaves = |one: &&InstanceStatus| matches!(one.phase, Some(Phase::Draining | Phase::Stopping));
    let leaving = |one: &ServiceStatus| {
        one.instances.iter().filter(leaves).count().max(one.instances.len().saturating_sub(one.replicas as usize))
    };
    match service.map_or(0, leaving) {
        0 => String::new(),
        1 => "; 1 instance still finishes its requests and is stopped then".to_owned(),
        n => format!("; {n} instances still finish their requests and are stopped then"),
    }
}

/// It is in force, and `what`, a service or a revision, did not become ready. `advice` goes below the usual.
pub(super) fn not_ready(
    outcome: &Outcome,
    what: &str,
    patience: &Patience,
    advice: Option<String>,
    command: impl Fn(&str) -> String,
) -> Failure {
    match outcome {
        Outcome::Stuck { instance, last_exit, last_output } => {
            let lines = std::iter::once(last_exit).chain(last_output).map(|line| harmless(line));
            let why = command(&format!("why {instance}"));
            let usual = format!("instances that served go on serving.\n{why}   gives the reasons");
            Failure::new(format!("{what} does not get ready: {instance} keeps ending"))
                .at(instance)
                .because(lines.collect::<Vec<_>>().join("\n"))
                .fix([usual].into_iter().chain(advice).collect::<Vec<_>>().join("\n"))
        }
        Outcome::Unbelieved { service, saw } => {
            let why = command(&format!("why {service}"));
            let usual = format!(
                "the check of {service} is not believed until somebody has passed it.\n{why}   gives the reasons"
            );
            Failure::new(format!("{what} does not pass: no instance of {service} passes its changed check"))
                .at(format!("services.{service}.check"))
                .because(harmless(saw))
                .fix([usual].into_iter().chain(advice).collect::<Vec<_>>().join("\n"))
        }
        Outcome::Nameless { service, cause } => {
            let again = format!(
                "the name is asked for again and again, so nothing else is needed once it resolves.\n{}   \
                                 shows when it does",
                command("status --watch")
            );
            Failure::new(format!("{what} is in force, and {service} has no instance"))
                .at(format!("services.{service}.instances"))
                .because(harmless(cause))
                .fix([again].into_iter().chain(advice).collect::<Vec<_>>().join("\n"))
        }
        Outcome::Replaced { by } => Failure::new(format!("revision {by} came before {what} was ready"))
            .because("somebody else applied a file or ordered something")
            .fix(command("events --subject stack")),
        Outcome::Unfinished { progress } => Failure::new(format!("{what} is not ready after {}", patience.waited()))
            .because(progress)
            .fix(format!("it goes on; look at it:  {}", command("status --watch"))),
        Outcome::Done | Outcome::NotAwaited => unreachable!("these are no failures"),
    }
}
