//! `keel token`: what programs and people elsewhere show to use the API.

use std::time::Duration;

use evenkeel_core::{
    access::{Role, UnknownRole},
    time::WallTime,
};
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    api::{Api, encode, read},
    context::{Context, block_on},
    failure::{Exit, Failure},
    http::Ask,
    start::announce::url,
    style::harmless,
    table::Table,
    words::{self, duration, since, span},
};

/// Options of `keel token`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token and show it once
    Create(Create),
    /// Show names, roles and ends, never tokens
    List,
    /// Refuse a token from now on
    Revoke {
        /// Its name
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Who will have it, for the journal: as `ci` or `grafana`
    name: String,
    /// viewer reads; operator deploys, scales, restarts, drains, pauses and drills; admin does everything
    #[arg(long, value_parser = role)]
    role: Role,
    /// After how long it is refused, as 90d [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires: Option<Duration>,
}

fn role(text: &str) -> Result<Role, UnknownRole> {
    text.parse()
}

/// A token as the API tells of it.
#[derive(Serialize, Deserialize)]
struct Token {
    name: String,
    role: Role,
    created: WallTime,
    expires: Option<WallTime>,
    /// Its text, in the answer that makes it.
    #[serde(rename = "token", default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// The answer of `GET /v1/tokens`.
#[derive(Serialize, Deserialize)]
struct All {
    tokens: Vec<Token>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.command {
        Command::Create(args) => create(args, context),
        Command::List => list(context),
        Command::Revoke { name } => revoke(name, context),
    }
}

fn create(args: &Create, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let order = json!({
        "name": args.name,
        "role": args.role,
        "expires_s": args.expires.map(|expires| expires.as_secs().max(1)),
    });
    let body = order.to_string().into_bytes();
    let api = Api::of(&running);
    let (made, status): (Token, _) = block_on(async {
        let made = read(&api.succeed(Ask::post("/v1/tokens", body)).await?)?;
        // Where it may be shown; without an answer, nowhere is named.
        Ok::<_, Failure>((made, api.status_now().await.ok()))
    })?;
    if context.json {
        context.json(&made)?;
        return Ok(Exit::Done);
    }
    context.line(made.text.as_deref().unwrap_or_default())?;
    let until = made.expires.map_or_else(String::new, |end| format!(", until {end}"));
    let name = harmless(&made.name);
    context.line(format!("  the token `{name}` with the role {}{until}; it is shown only now", made.role))?;
    if let Some(warning) = &made.warning {
        context.line(format!("  {} {}", context.paint.warn("warning:"), harmless(warning)))?;
    }
    // Any other address may be somebody else's, who would then have the token.
    if let Some(console) = status.and_then(|status| status.console) {
        let command = format!("KEEL_TOKEN=… keel status --url {}", url(&console));
        context.next(&command, "asks with it, at the address of the console")?;
    } else {
        let warning = context.paint.warn("warning:");
        context.line(format!("  {warning} the console is not served now, so show it to nobody"))?;
        context.next(&context.command(&running.state_dir, "status"), "says why the console is not served")?;
    }
    Ok(Exit::Done)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let All { tokens } = block_on(async { Api::of(&running).get("/v1/tokens").await })?;
    if context.json {
        context.json(&tokens)?;
        return Ok(Exit::Done);
    }
    if tokens.is_empty() {
        context.line("no tokens: only this user and root may use the API, on this machine")?;
    } else {
        let now = words::now();
        let mut table = Table::new(&["NAME", "ROLE", "MADE", "ENDS"]);
        for token in &tokens {
            let ends = match token.expires {
                None => "never".to_owned(),
                Some(end) if end <= now => "has ended".to_owned(),
                Some(end) => format!("in {}", span(end.as_millis() - now.as_millis())),
            };
            let made = format!("{} ago", since(token.created, now));
            table.row(vec![token.name.as_str().into(), token.role.as_str().into(), made.into(), ends.into()]);
        }
        context.line(table.render(context.paint).trim_end())?;
    }
    context.next(&context.command(&running.state_dir, "token create NAME --role viewer"), "makes one that may read")?;
    Ok(Exit::Done)
}

fn revoke(name: &str, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let target = format!("/v1/tokens/{}", encode(name));
    let ask = Ask { method: Method::DELETE, ..Ask::get(&target) };
    block_on(async { Api::of(&running).succeed(ask).await })?;
    if context.json {
        context.json(&json!({ "revoked": name }))?;
        return Ok(Exit::Done);
    }
    context.line(format!("the token `{name}` is refused from now on"))?;
    context.next(&context.command(&running.state_dir, "token list"), "shows the others")?;
    Ok(Exit::Done)
}
