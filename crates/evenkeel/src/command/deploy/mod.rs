//! `keel deploy`: another release of a service, proven instance by instance, or the former one again.
//!
//! The artefact is packed and sent, the deploy is ordered, and from then on it is the node process's: this only watches
//! it, and going away (Ctrl-C) does not end it.

mod pack;
mod watch;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use evenkeel_core::{deploy::DeployStatus, time::WallTime};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(super) use self::watch::{Aim, finish};
use crate::{
    api::{Api, encode, read},
    context::{Context, block_on},
    failure::Failure,
    http::Ask,
    progress::Progress,
    style::harmless,
    words::duration,
};

/// Options of `keel deploy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A new instance is started beside the former ones. Once it is ready it is on trial: it gets a small share of the \
requests, and its errors and latency are compared with theirs. It passes, one of the former is drained, and the next \
follows; or it fails, and the former release is in force again. What is not given stays as it is in the release in \
force.")]
pub(crate) struct Args {
    /// The service
    service: String,
    /// The artefact: a folder, or a tar archive, gzipped or not; instances run in it
    #[arg(long, value_name = "DIR|TAR")]
    from: Option<PathBuf>,
    /// A variable of its instances, beside those of the release in force; several times
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Put only the first new instance on trial, with this share of the requests
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<u8>,
    /// How long a trial lasts, in place of `deploy.watch`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    watch: Option<Duration>,
    /// Return once the deploy has begun
    #[arg(long)]
    no_wait: bool,
    /// What its instances run, in place of `run`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The deploys and releases of a service, as the API says them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct History {
    pub(super) service: String,
    pub(super) release: u64,
    /// What a rollback that names none puts in force.
    #[serde(default)]
    pub(super) former: Option<u64>,
    pub(super) deploys: Vec<DeployStatus>,
    pub(super) releases: Vec<Kept>,
}

/// A release that can be rolled back to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) digest: String,
    pub(super) files: u64,
    pub(super) size_bytes: u64,
    pub(super) deployed: WallTime,
    pub(super) run: Option<Vec<String>>,
    pub(super) env: Vec<String>,
    /// What speaks against it.
    #[serde(default)]
    pub(super) fault: Option<String>,
}

/// An artefact that was sent.
#[derive(Debug, Deserialize)]
struct Stored {
    release: u64,
    files: u64,
    digest: String,
}

/// Packs, sends, orders and watches.
pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    if args.from.is_none() && args.command.is_empty() && args.env.is_empty() {
        return Err(Failure::usage("there is nothing to deploy").fix(format!(
            "give an artefact, a command or variables:\n\
             keel deploy {0} --from ./app\n\
             keel deploy {0} -- node server.js",
            args.service
        )));
    }
    let running = context.running()?;
    let api = Api::of(&running);
    block_on(async {
        // Whatever would be refused is refused before anything is packed.
        history(&api, &args.service).await?;
        let release = match &args.from {
            Some(from) => Some(send(&api, args, from, &running.state_dir, context).await?),
            None => None,
        };
        let env: BTreeMap<&String, &String> = args.env.iter().map(|(name, value)| (name, value)).collect();
        let wanted = json!({
            "service": args.service,
            "release": release,
            "run": Some(&args.command).filter(|command| !command.is_empty()),
            "env": env,
            "canary_percent": args.canary,
            "watch_ms": args.watch.map(|watch| u64::try_from(watch.as_millis()).unwrap_or(u64::MAX)),
        });
        let begun: History = read(&api.succeed(Ask::post("/v1/deploy", wanted.to_string().into_bytes())).await?)?;
        finish((&api, &running), begun, Aim::Done, args.no_wait, context).await
    })
}

/// The deploys and releases of a service.
pub(super) async fn history(api: &Api, service: &str) -> Result<History, Failure> {
    api.get(&format!("/v1/deploys?service={}", encode(service))).await
}

/// Sends the artefact and returns the number of the release that it became.
async fn send(api: &Api, args: &Args, from: &Path, state_dir: &Path, context: &Context) -> Result<u64, Failure> {
    let progress = (!context.json).then(Progress::new);
    let artefact = pack::open(from, state_dir, progress.as_ref())?;
    drop(progress);
    let target = format!("/v1/releases?service={}&sha256={}", encode(&args.service), artefact.digest);
    let stored: Stored = api.send(&target, artefact.body(context)).await?;
    if !context.json {
        let files = if stored.files == 1 { "file" } else { "files" };
        let short = harmless(stored.digest.get(..12).unwrap_or(&stored.digest));
        context.line(format!("release {}: {} {files}, sha256 {short}…", stored.release, stored.files))?;
    }
    Ok(stored.release)
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a variable is given as NAME=VALUE")?;
    if name.is_empty() {
        return Err("a variable has a name: NAME=VALUE".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    number.filter(|share| (1..=50).contains(share)).ok_or_else(|| "a share from 1% to 50%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_variables() {
        assert_eq!(percent("10%"), Ok(10));
        assert_eq!(percent("50"), Ok(50));
        assert!(percent("0%").is_err() && percent("51").is_err() && percent("x").is_err());
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
