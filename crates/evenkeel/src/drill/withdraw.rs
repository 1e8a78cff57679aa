//! The withdrawal of a bad release: a process of its own that takes it back whatever happens to the drill.
//!
//! A release that fails every request must not stay in force because the drill was interrupted, panicked or was
//! killed. So the drill starts `keel drill withdraw SERVICE FORMER MARK` before it deploys anything, and tells it that
//! the deploy is being ordered, and its number once that is known; where nobody lives to tell it, the release is known by
//! the mark in its command. When its standard input ends, for whatever reason, it orders the former release back, as often
//! as it takes, until the bad one is neither in force nor being deployed, also where a deploy that was under way is
//! accepted late. It deploys nothing, and whatever else somebody deployed meanwhile is left alone. It ends with an error
//! where the bad release is in force still.

use std::{
    io::{self, BufRead},
    process::ExitCode,
    time::{Duration, Instant},
};

use evenkeel_core::deploy::{DeployStatus, Kind};
use serde::Deserialize;
use serde_json::json;

use crate::{
    api::{Api, encode},
    context::{Context, block_on},
    failure::Failure,
    http::Ask,
};

/// How long it goes on until the release is gone.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);
/// How late an order may be accepted: a node process that stays silent for longer is started anew, and forgets it.
const LATE: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What it looks after: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The service
    pub(super) service: String,
    /// The number of the release that was in force before; 0 is what the stack file says
    pub(super) former: u64,
    /// What only the command of the bad release has among its words
    pub(super) mark: String,
}

/// What the drill has told of its deploy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// That it is being ordered.
    pub(super) ordered: bool,
    /// Its number.
    pub(super) release: Option<u64>,
}

/// The releases of a service, as `GET /v1/deploys` answers.
#[derive(Debug, Deserialize)]
struct History {
    release: u64,
    deploys: Vec<DeployStatus>,
    releases: Vec<Kept>,
}

#[derive(Debug, Deserialize)]
struct Kept {
    number: u64,
    run: Option<Vec<String>>,
}

/// Runs it to its end.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    context.running()?;
    context.line("ready")?;
    let mut told = Told::default();
    // However reading ends, nobody watches over the release any more.
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        told.ordered = true;
        told.release = told.release.or_else(|| line.strip_prefix("release ")?.parse().ok());
    }
    // Asked for anew each time: whoever runs the stack may be another one by then.
    let api = || context.running().map(|running| Api::of(&running));
    block_on(withdraw(&api, args, told, PATIENCE))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes the release back.
pub(super) async fn withdraw(
    api: &impl Fn() -> Result<Api, Failure>,
    args: &Args,
    told: Told,
    patience: Duration,
) -> Result<(), Failure> {
    if !told.ordered {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        let problem = match turn(api, args, told.release).await {
            Ok(Stands::Gone) => return Ok(()),
            Ok(Stands::Unknown) if begun.elapsed() >= LATE => return Ok(()),
            Ok(stands) => Failure::new(format!("the bad release of {} {}", args.service, stands.words())),
            Err(failure) => failure,
        };
        if begun.elapsed() >= patience {
            return Err(problem);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Looks once, and orders what that asks for.
async fn turn(api: &impl Fn() -> Result<Api, Failure>, args: &Args, release: Option<u64>) -> Result<Stands, Failure> {
    let api = api()?;
    let history: History = api.get(&format!("/v1/deploys?service={}", encode(&args.service))).await?;
    let stands = history.stands(args, release);
    if let Stands::InForce { to } = stands {
        // Where somebody else's deploy began just now, this number is not the one that it replaces, and it is refused.
        let wanted = json!({ "service": args.service, "to": to });
        api.succeed(Ask::post("/v1/rollback", wanted.to_string().into_bytes())).await?;
    }
    Ok(stands)
}

/// What became of the bad release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// Nobody has heard of it.
    Unknown,
    /// It is in force, or about to be, and this one ought to be.
    InForce {
        /// The number of the other release.
        to: u64,
    },
    /// It is being replaced.
    GoingBack,
    /// It is not in force, and nothing under way can put it there.
    Gone,
}

impl Stands {
    const fn words(self) -> &'static str {
        match self {
            Self::Unknown | Self::Gone => "is not known",
            Self::InForce { .. } => "is in force",
            Self::GoingBack => "is being replaced still",
        }
    }
}

impl History {
    fn stands(&self, args: &Args, release: Option<u64>) -> Stands {
        let marked = |kept: &&Kept| kept.run.as_ref().is_some_and(|run| run.contains(&args.mark));
        let Some(bad) = release.or_else(|| Some(self.releases.iter().find(marked)?.number)) else {
            return Stands::Unknown;
        };
        match self.deploys.last().filter(|deploy| deploy.ended.is_none()) {
            Some(deploy) if deploy.kind == Kind::Deploy && deploy.release == bad => {
                if deploy.phase == "rolling-back" {
                    Stands::GoingBack
                } else {
                    Stands::InForce { to: deploy.from }
                }
            }
            // Whoever ordered that, the bad one comes back should it fail.
            Some(deploy) if deploy.from == bad => Stands::GoingBack,
            Some(deploy) if deploy.release == bad => Stands::InForce { to: deploy.from },
            None if self.release == bad => Stands::InForce { to: args.former },
            Some(_) | None => Stands::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args { service: "shop".to_owned(), former: 3, mark: "run-7".to_owned() }
    }

    /// The release in force is 3 or 4; 4 is the bad one. `under_way`: kind, release, from and phase.
    fn history(release: u64, under_way: Option<(Kind, u64, u64, &str)>) -> History {
        let deploys = under_way.map(|(kind, release, from, phase)| {
            serde_json::from_value(json!({
                "number": 9, "kind": kind, "release": release, "from": from, "digest": "", "phase": phase,
                "message": "", "by": "", "began": 1, "ended": null, "reasons": [], "failed_on": null,
                "last_output": [], "affected": { "clients": 0, "repeated": 0 }
            }))
            .unwrap()
        });
        let kept = |number, words: &str| Kept { number, run: Some(words.split(' ').map(str::to_owned).collect()) };
        let releases = vec![kept(3, "shop --port 1"), kept(4, "keel __failing --mark run-7"), kept(5, "shop v5")];
        History { release, deploys: deploys.into_iter().collect(), releases }
    }

    #[test]
    fn only_the_bad_release_is_taken_back() {
        let stands = |release, under_way| history(release, under_way).stands(&args(), None);
        assert_eq!(stands(4, None), Stands::InForce { to: 3 });
        assert_eq!(stands(4, Some((Kind::Deploy, 4, 2, "rolling"))), Stands::InForce { to: 2 });
        assert_eq!(stands(3, Some((Kind::Deploy, 4, 3, "before"))), Stands::InForce { to: 3 });
        assert_eq!(stands(4, Some((Kind::Deploy, 4, 3, "rolling-back"))), Stands::GoingBack);
        assert_eq!(stands(3, Some((Kind::Rollback, 3, 4, "rolling"))), Stands::GoingBack);
        assert_eq!(stands(3, None), Stands::Gone);
        assert_eq!(stands(5, None), Stands::Gone, "an operator's own release is not touched");
        assert_eq!(stands(5, Some((Kind::Deploy, 5, 3, "rolling"))), Stands::Gone);
        assert_eq!(stands(5, Some((Kind::Deploy, 5, 4, "rolling"))), Stands::GoingBack, "nor while it is deployed");
    }

    #[test]
    fn it_is_known_by_its_mark_or_by_its_number() {
        let other = Args { mark: "run-8".to_owned(), ..args() };
        assert_eq!(history(4, None).stands(&other, None), Stands::Unknown);
        assert_eq!(history(4, None).stands(&other, Some(4)), Stands::InForce { to: 3 });
        assert_eq!(history(5, None).stands(&other, Some(4)), Stands::Gone);
    }
}
