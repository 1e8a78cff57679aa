//! Watching a deploy to its end, and what is said of it.
//!
//! Nothing here influences it: going away leaves it to the node process, whatever becomes of that one meanwhile.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

use evenkeel_core::deploy::{DeployStatus, Kind};
use tokio::signal::unix::{SignalKind, signal};

use super::{History, history};
use crate::{
    api::Api,
    context::Context,
    failure::{Exit, Failure},
    running::Running,
    style::harmless,
};

/// How often is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How long the node process may not answer while we watch; it is started again well within it.
const PATIENCE: Duration = Duration::from_mins(1);

/// The exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// What was ordered, and so how a deploy ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) enum Aim {
    /// The release in force everywhere.
    Done,
    /// The end of a deploy that was under way: what was there before in force again.
    RolledBack,
}

impl Aim {
    /// `at_once`: the order itself ended it.
    fn is_met_by(self, deploy: &DeployStatus, at_once: bool) -> bool {
        match self {
            Self::Done => deploy.phase == "done",
            Self::RolledBack => deploy.phase == "rolled-back" || at_once,
        }
    }

    /// How what meets it has ended.
    fn how(self, service: &str, deploy: &DeployStatus) -> String {
        match self {
            Self::Done => sentence(service, deploy),
            Self::RolledBack if deploy.phase == "failed" => {
                format!(
                    "{service}: the deploy of release {} was ended as ordered; nothing of it is in force",
                    deploy.release
                )
            }
            Self::RolledBack => format!("{service}: {}", harmless(&deploy.message)),
        }
    }
}

/// Says how the deploy that has just begun, or is to end, goes on until its end.
pub(in crate::command) async fn finish(
    (api, running): (&Api, &Running),
    begun: History,
    aim: Aim,
    no_wait: bool,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let command = |args: &str| context.command(&running.state_dir, args);
    let Some(deploy) = begun.deploys.into_iter().next_back() else {
        return Err(Failure::new("the node process says nothing of this deploy").fix(command("status")));
    };
    // What has not changed anything yet is over as soon as its end is ordered.
    let at_once = deploy.ended.is_some();
    if no_wait {
        if context.json {
            context.json(&deploy)?;
        } else {
            let how = if at_once { aim.how(&begun.service, &deploy) } else { sentence(&begun.service, &deploy) };
            context.line(how)?;
        }
        context.next(&command("status --watch"), "shows how far it is")?;
        return Ok(Exit::Done.into());
    }
    let interrupt = signal(SignalKind::interrupt());
    let mut interrupt = interrupt.map_err(|error| Failure::new("signals cannot be received").because(error))?;
    let start = Instant::now();
    let end = tokio::select! {
        end = watch(api, &begun.service, deploy, context) => end?,
        _ = interrupt.recv() => {
            let stop = command(&format!("rollback {}", begun.service));
            eprintln!("the deploy goes on without this command; `{stop}` ends it");
            context.next(&command("status --watch"), "shows how far it is")?;
            return Ok(INTERRUPTED.into());
        }
    };
    let took_s = start.elapsed().as_secs_f64();
    if context.json {
        context.json(&end)?;
        return Ok(if aim.is_met_by(&end, at_once) { Exit::Done } else { Exit::Failed }.into());
    }
    if let Some(cause) = &end.held {
        return Err(held(&begun.service, cause, &end, &command));
    }
    if !aim.is_met_by(&end, at_once) {
        return Err(not_done(&begun.service, &end, &command));
    }
    context.line(format!("{} after {took_s:.1} s", aim.how(&begun.service, &end)))?;
    context.line(affected(&end))?;
    let next = match end.kind {
        Kind::Deploy if aim == Aim::Done => {
            (format!("rollback {}", begun.service), "puts the former release in force again")
        }
        Kind::Deploy | Kind::Rollback => {
            (format!("rollback {} --list", begun.service), "shows the releases that are kept")
        }
    };
    context.next(&command(&next.0), next.1)?;
    Ok(Exit::Done.into())
}

/// Asks until it is over. Each change is a line with its time; what comes and goes is said once.
async fn watch(api: &Api, service: &str, begun: DeployStatus, context: &Context) -> Result<DeployStatus, Failure> {
    let start = Instant::now();
    let (mut heard, mut said) = (start, BTreeSet::new());
    let mut deploy = begun;
    loop {
        // Nothing more happens to one that is left to an operator either.
        if deploy.ended.is_some() || deploy.held.is_some() {
            return Ok(deploy);
        }
        if !context.json && said.insert(deploy.message.clone()) {
            context.line(format!("{:6.1} s  {}", start.elapsed().as_secs_f64(), harmless(&deploy.message)))?;
        }
        tokio::time::sleep(ASK_EVERY).await;
        match history(api, service).await {
            Ok(now) => {
                heard = Instant::now();
                if let Some(found) = now.deploys.into_iter().find(|found| found.number == deploy.number) {
                    deploy = found;
                }
            }
            Err(failure) if api.end().is_some() || heard.elapsed() > PATIENCE => return Err(failure),
            Err(_) => {}
        }
    }
}

/// It would be rolled back.
fn held(service: &str, cause: &str, deploy: &DeployStatus, command: &dyn Fn(&str) -> String) -> Failure {
    let why = "`mode = \"observe\"`: it would be rolled back, but nothing is done without an order";
    Failure::new(format!("{service}: the deploy of release {} goes no further", deploy.release))
        .because(format!("{}\n{why}", harmless(cause)))
        .fix(format!("{}   puts the former release in force again", command(&format!("rollback {service}"))))
}

/// It was rolled back or has failed.
fn not_done(service: &str, deploy: &DeployStatus, command: &dyn Fn(&str) -> String) -> Failure {
    let mut cause: Vec<String> = deploy.reasons.iter().map(|reason| harmless(&reason.text)).collect();
    if let Some(on) = deploy.failed_on.as_ref().filter(|_| !deploy.last_output.is_empty()) {
        cause.push(format!("last output of {}:", harmless(on)));
        cause.extend(deploy.last_output.iter().map(|line| format!("  {}", harmless(line))));
    }
    cause.push(affected(deploy));
    let failure = Failure::new(sentence(service, deploy)).because(cause.join("\n"));
    let failure = match &deploy.failed_on {
        Some(on) => failure.at(harmless(on)),
        None => failure,
    };
    failure.fix(format!("correct it and deploy again.\n{}   gives the reasons", command(&format!("why {service}"))))
}

fn sentence(service: &str, deploy: &DeployStatus) -> String {
    let message = harmless(&deploy.message);
    // The cause has a line of its own.
    let message = match deploy.reasons.first() {
        Some(reason) => message.replace(&format!(": {}", harmless(&reason.text)), ""),
        None => message,
    };
    format!("{service}: {message}")
}

fn affected(deploy: &DeployStatus) -> String {
    deploy.affected.to_string()
}
