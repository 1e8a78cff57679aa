//! `keel console`: a link that opens the console in a browser.

use evenkeel_core::{
    access::{Role, UnknownRole},
    time::WallTime,
};
use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use crate::{
    api::{Api, read},
    context::{Context, block_on},
    failure::{Exit, Failure},
    http::Ask,
    running::Running,
    start::announce::url,
    words,
};

/// Options of `keel console`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What whoever opens the link may do: viewer, operator or admin
    #[arg(long, default_value = "admin", value_parser = role)]
    role: Role,
    /// Sign everybody out in place of letting somebody in
    #[arg(long, conflicts_with = "role")]
    sign_out: bool,
}

fn role(text: &str) -> Result<Role, UnknownRole> {
    text.parse()
}

/// The answer of `POST /v1/console/links`.
#[derive(Deserialize)]
struct Made {
    address: String,
    path: String,
    role: Role,
    ends: WallTime,
}

/// A link that signs in once.
pub(crate) struct Link {
    /// What a browser opens.
    pub(crate) url: String,
    /// The address that the console is bound to.
    address: String,
    /// What whoever opens it may do.
    role: Role,
    /// When it ceases to work.
    ends: WallTime,
}

impl Link {
    /// How long it works, in whole minutes.
    pub(crate) fn minutes(&self) -> u64 {
        self.ends.as_millis().saturating_sub(words::now().as_millis()).div_ceil(60_000)
    }
}

/// Makes a link for a role. Fails where the stack does not answer, serves no console, or refuses.
pub(crate) async fn link(role: Role, running: &Running) -> Result<Link, Failure> {
    let body = json!({ "role": role }).to_string().into_bytes();
    let Made { address, path, role, ends } =
        read(&Api::of(running).succeed(Ask::post("/v1/console/links", body)).await?)?;
    // Whoever asks from elsewhere has a way there, which is not always the address that it is bound to.
    let base = running.remote.as_ref().map_or_else(|| url(&address), |remote| remote.url.clone());
    Ok(Link { url: format!("{base}{path}"), address, role, ends })
}

/// The answer of `DELETE /v1/console/sessions`.
#[derive(Deserialize)]
struct Ended {
    ended: usize,
}

/// Asks for a link and prints it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    if args.sign_out { sign_out(&running, context) } else { sign_in(args.role, &running, context) }
}

fn sign_in(role: Role, running: &Running, context: &Context) -> Result<Exit, Failure> {
    let link = block_on(link(role, running))?;
    if context.json {
        context.json(&json!({ "url": link.url, "role": link.role, "ends": link.ends }))?;
        return Ok(Exit::Done);
    }
    context.line(&link.url)?;
    context.line(format!("  opens the console as {}: once, within {} minutes", link.role, link.minutes()))?;
    if let Some(tunnel) = tunnel(&link.address, running) {
        context.line(format!("  from the machine that you sit at, first: {tunnel}"))?;
    }
    context.next(&context.command(&running.state_dir, "console --role viewer"), "makes a link that may only look")?;
    Ok(Exit::Done)
}

/// How a browser elsewhere reaches a console that is bound to this machine alone, for who came here by ssh (the
/// variable is described in ssh(1)).
fn tunnel(address: &str, running: &Running) -> Option<String> {
    let address: std::net::SocketAddr = address.parse().ok()?;
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    // The client's address and port, then ours.
    let here = connection.split(' ').nth(2)?;
    let port = address.port();
    (running.remote.is_none() && address.ip().is_loopback()).then(|| format!("ssh -L {port}:{address} {here}"))
}

fn sign_out(running: &Running, context: &Context) -> Result<Exit, Failure> {
    let ask = Ask { method: Method::DELETE, ..Ask::get("/v1/console/sessions") };
    let ended: Ended = block_on(async { read(&Api::of(running).succeed(ask).await?) })?;
    if context.json {
        context.json(&json!({ "ended": ended.ended }))?;
        return Ok(Exit::Done);
    }
    let who = match ended.ended {
        0 => "nobody was signed in".to_owned(),
        1 => "1 session was ended".to_owned(),
        more => format!("{more} sessions were ended"),
    };
    context.line(format!("{who}; links that nobody used work no more"))?;
    context.next(&context.command(&running.state_dir, "console"), "makes a new link")?;
    Ok(Exit::Done)
}
