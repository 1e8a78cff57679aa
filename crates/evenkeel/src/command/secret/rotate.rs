//! `keel secret rotate`: another value, or another key, and waiting until every instance that uses the value has it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use evenkeel_core::{
    secret::Secret,
    stack::nearest,
    status::{ServiceStatus, Status},
};
use serde::Serialize;
use serde_json::json;

use super::{All, Changed, Rotate, may_send_value, order, say_replaced, value};
use crate::{
    api::Api,
    command::{
        ordered::{Patience, not_ready},
        rollout::{self, Outcome, Wanted},
    },
    context::{Context, block_on},
    failure::{Exit, Failure},
    running::Running,
};

/// The answer under `--json`.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    changed: &'a Changed,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// Takes the value, or makes another key.
pub(super) fn run(args: &Rotate, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let Some(name) = &args.name else { return key(&running, context) };
    let api = Api::of(&running);
    let (all, before): (All, Status) = block_on(async { Ok((api.get("/v1/secrets").await?, api.status().await?)) })?;
    let known = all.secrets.iter().find(|secret| secret.name == *name && secret.source != "nowhere");
    let value = match known {
        None => return Err(unknown(name, &all)),
        Some(kept) if kept.set.is_some() => {
            may_send_value(&running)?;
            Some(value::ask(name, context)?)
        }
        // Its source is read again.
        Some(_) => None,
    };
    let value = value.as_ref().map(Secret::expose);
    let changed = block_on(order(&running, json!({ "rotate": { "name": name, "value": value } })))?;
    if !context.json {
        let what =
            if changed.services.is_empty() { "no instance has to be replaced" } else { "instances are replaced" };
        context.line(format!("the secret `{name}` was read: {what}"))?;
        say_replaced(&changed, context)?;
    }
    let began = Instant::now();
    let outcome = if args.patience.no_wait || changed.services.is_empty() {
        Outcome::NotAwaited
    } else {
        block_on(watch(&api, &changed, &before, args.patience.wait))?
    };
    say(outcome, &changed, began.elapsed(), &args.patience, &running, context)
}

fn key(running: &Running, context: &Context) -> Result<Exit, Failure> {
    let changed = block_on(order(running, json!({ "rotate-key": {} })))?;
    if context.json {
        context.json(&changed)?;
        return Ok(Exit::Done);
    }
    context.line("everything that is kept is encrypted with another key; no instance was touched")?;
    context.line("back the key's file up again: the former key opens nothing any more")?;
    context.next(&context.command(&running.state_dir, "why secrets"), "says where it lies")?;
    Ok(Exit::Done)
}

fn unknown(name: &str, all: &All) -> Failure {
    let failure = Failure::new(format!("there is no secret `{name}`")).exit(Exit::Unknown);
    match nearest(name, all.secrets.iter().map(|secret| secret.name.as_str())) {
        Some(near) if near != name => failure.fix(format!("did you mean `{near}`?")),
        _ => failure.fix(format!("give it a value first: keel secret set {name}")),
    }
}

/// Waits for one service after the other; the first that does not get there ends it. `before` is how the stack was
/// before the change.
async fn watch(api: &Api, changed: &Changed, before: &Status, wait: Duration) -> Result<Outcome, Failure> {
    let processes = |service: &ServiceStatus| {
        let each = service.instances.iter().map(|instance| format!("{}#{}", instance.name, instance.generation));
        (service.name.clone(), each.collect())
    };
    let mut former: BTreeMap<String, Vec<String>> = before.services.iter().map(processes).collect();
    let deadline = Instant::now() + wait;
    for service in &changed.services {
        let replaced = former.remove(service).unwrap_or_default();
        let service = Some(service.clone());
        let wanted = Wanted { revision: before.revision, was_in_force: true, service, replaced, ..Wanted::default() };
        match rollout::watch(api, &wanted, deadline.saturating_duration_since(Instant::now())).await? {
            Outcome::Done => {}
            other => return Ok(other),
        }
    }
    Ok(Outcome::Done)
}

/// How it ended.
fn say(
    outcome: Outcome,
    changed: &Changed,
    took: Duration,
    patience: &Patience,
    running: &Running,
    context: &Context,
) -> Result<Exit, Failure> {
    if context.json {
        context.json(&Report { changed, outcome: &outcome })?;
        return Ok(if outcome.is_well() { Exit::Done } else { Exit::Failed });
    }
    let command = |arguments: &str| context.command(&running.state_dir, arguments);
    match outcome {
        Outcome::Done => {
            let took = took.as_secs_f64();
            context.line(format!("every instance that uses it has the new value after {took:.1} s"))?;
            context.next(&command("status"), "shows the instances")?;
            Ok(Exit::Done)
        }
        Outcome::NotAwaited => {
            context.next(&command("secret list"), "shows all secrets")?;
            Ok(Exit::Done)
        }
        other => Err(not_ready(&other, &changed.services.join(", "), patience, None, command)),
    }
}
