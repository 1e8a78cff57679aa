//! `keel rollback`: a former release of a service again, or the end of the deploy under way.

use std::process::ExitCode;

use serde_json::json;

use super::deploy::{Aim, History, Kept, finish, history};
use crate::{
    api::{Api, read},
    context::{Context, block_on},
    failure::{Exit, Failure},
    http::Ask,
    style::harmless,
    table::Table,
    words::{now, since},
};

/// Options of `keel rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service
    service: String,
    /// The release; 0 is what the stack file says [default: the one that was in force before, or further back
    /// where that was rolled back itself]
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// List the releases that are kept and the deploys there were, and change nothing
    #[arg(long, conflicts_with_all = ["to", "no_wait"])]
    list: bool,
    /// Return once the rollback has begun
    #[arg(long)]
    no_wait: bool,
}

/// Orders and watches, or lists.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let running = context.running()?;
    let api = Api::of(&running);
    block_on(async {
        if args.list {
            let history = history(&api, &args.service).await?;
            if context.json {
                context.json(&history)?;
                return Ok(Exit::Done.into());
            }
            context.line(list(&history, context).trim_end())?;
            let next = |args: &str| context.command(&running.state_dir, args);
            match recommended(&history) {
                Some(to) => {
                    context.next(&next(&format!("rollback {} --to {to}", args.service)), "puts that release in force")
                }
                None => context.next(&next(&format!("why {}", args.service)), "explains how it came to be so"),
            }?;
            return Ok(Exit::Done.into());
        }
        let newest = |history: &History| history.deploys.last().map(|deploy| deploy.number);
        let former = newest(&history(&api, &args.service).await?);
        let wanted = json!({ "service": args.service, "to": args.to });
        let begun: History = read(&api.succeed(Ask::post("/v1/rollback", wanted.to_string().into_bytes())).await?)?;
        // Where no other one has begun, the one under way is to end.
        let aim = if newest(&begun) == former { Aim::RolledBack } else { Aim::Done };
        finish((&api, &running), begun, aim, args.no_wait, context).await
    })
}

/// The former release, or else the newest one, that nothing speaks against.
fn recommended(history: &History) -> Option<u64> {
    let newest = history.releases.iter().rev().map(|kept| kept.number);
    let is_good = |to: &u64| {
        let kept = history.releases.iter().find(|kept| kept.number == *to);
        *to != history.release && (*to == 0 || kept.is_some_and(|kept| kept.fault.is_none()))
    };
    history.former.into_iter().chain(newest).chain([0]).find(is_good)
}

fn list(history: &History, context: &Context) -> String {
    let mut releases = Table::new(&[">RELEASE", "DEPLOYED", ">FILES", "SHA256", "COMMAND", "NOTE"]);
    let now = now();
    let in_force = |number: u64| if number == history.release { "in force" } else { "" };
    releases.row(["0", "-", "-", "-", "as the stack file says", in_force(0)].map(Into::into).into());
    for Kept { number, digest, files, deployed, run, fault, .. } in &history.releases {
        let short = if digest.is_empty() { "-" } else { digest.get(..12).unwrap_or(digest) };
        let note = match fault {
            Some(fault) if *number != history.release => harmless(fault),
            _ => in_force(*number).to_owned(),
        };
        let command = run.as_ref().map_or_else(|| "as the stack file says".to_owned(), |run| harmless(&run.join(" ")));
        releases.row(vec![
            number.to_string().into(),
            format!("{} ago", since(*deployed, now)).into(),
            files.to_string().into(),
            harmless(short).into(),
            command.into(),
            note.into(),
        ]);
    }
    let mut deploys = Table::new(&[">DEPLOY", "BEGAN", "HOW IT ENDED"]);
    for deploy in history.deploys.iter().rev() {
        deploys.row(vec![
            deploy.number.to_string().into(),
            format!("{} ago", since(deploy.began, now)).into(),
            harmless(&deploy.message).into(),
        ]);
    }
    format!("{}\n{}", releases.render(context.paint), deploys.render(context.paint))
}
