//! `keel why`: how a service, an instance or a part of `keel` came to be as it is.

use std::fmt::Write;

use evenkeel_core::{
    journal::{Entry, Reason, Role},
    time::WallTime,
};
use serde::{Deserialize, Serialize};

use super::events::subject_width;
use crate::{
    api::{Api, encode},
    context::{Context, block_on},
    failure::{Exit, Failure},
    moment,
    style::{Paint, harmless},
    words::{now, since},
};

/// Options of `keel why`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to explain: a service (`shop`), an instance (`shop/1`), `listeners.web`, `deploy`, `secrets`, `edge`,
    /// `node` or `stack`
    subject: String,
    /// How it was then: `10m` (ago), `14:05` (UTC) or RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// The answer of `GET /v1/why`.
#[derive(Serialize, Deserialize)]
struct Why {
    subject: String,
    /// The moment that was asked about, where it is not the present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<WallTime>,
    now: String,
    entries: Vec<Entry>,
}

/// Prints what it is now, and the decisions that led there with what was seen and ruled out.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let at = args.at.as_deref().map(|text| moment::parse(text, now())).transpose().map_err(Failure::usage)?;
    let at = at.map(|at| format!("&at_ms={}", at.as_millis())).unwrap_or_default();
    let why: Why = block_on(async {
        let api = Api::of(&running);
        api.get(&format!("/v1/why?subject={}{at}", encode(&args.subject))).await
    })?;
    if context.json {
        context.json(&why)?;
        return Ok(Exit::Done);
    }
    context.line(render(&why, now(), context.paint))?;
    context.next(
        &context.command(&running.state_dir, &format!("events --subject {} --follow", args.subject)),
        "goes on with what happens",
    )?;
    Ok(Exit::Done)
}

fn render(why: &Why, at: WallTime, paint: Paint) -> String {
    // How it is, and below it what was ordered of it and is in force.
    let mut text = String::new();
    for line in why.now.lines() {
        let _ = writeln!(text, "{}", paint.bold(&harmless(line)));
    }
    if why.entries.is_empty() {
        let until = if why.at.is_some() { " until then" } else { "" };
        let _ = writeln!(text, "\nnothing has been decided about it{until}");
    }
    let width = subject_width(&why.entries);
    // What has reasons stands apart; what has none is one line of a list.
    let mut apart = true;
    for entry in &why.entries {
        if apart || !entry.reasons.is_empty() {
            text.push('\n');
        }
        apart = !entry.reasons.is_empty();
        let _ = writeln!(
            text,
            "{}  {:<width$}  {}  {}",
            paint.dim(&entry.at.to_string()),
            harmless(&entry.subject),
            harmless(&entry.message),
            paint.dim(&format!("({} ago)", since(entry.at, at)))
        );
        for reason in &entry.reasons {
            let _ = writeln!(text, "    {}", spoken(reason, paint));
        }
    }
    text
}

fn spoken(reason: &Reason, paint: Paint) -> String {
    let label = match reason.role {
        Role::Seen => "seen:     ",
        Role::Rule => "rule:     ",
        Role::RuledOut => "ruled out:",
    };
    format!("{} {}", paint.dim(label), harmless(&reason.text))
}

#[cfg(test)]
mod tests {
    use evenkeel_core::journal::Level;

    use super::*;

    #[test]
    fn reasons_stand_below_the_decision() {
        let entry = Entry {
            id: 7,
            at: WallTime::from_millis(1_735_689_599_999),
            level: Level::Warning,
            subject: "shop/1".to_owned(),
            kind: "restarting".to_owned(),
            message: "starting it again in 100 ms".to_owned(),
            reasons: vec![
                Reason::seen("exit code 1 after 0.4 s"),
                Reason::rule("the second exit in a row waits 100 ms"),
                Reason::ruled_out("giving up: 2 of 10 attempts"),
            ],
        };
        let why = Why {
            subject: "shop/1".to_owned(),
            at: None,
            now: "shop/1 waits to be started".to_owned(),
            entries: vec![entry],
        };
        let at = WallTime::from_millis(1_735_689_602_000);
        insta::assert_snapshot!(render(&why, at, Paint::plain()), @r"
        shop/1 waits to be started

        2024-12-31T23:59:59.999Z  shop/1    starting it again in 100 ms  (2s ago)
            seen:      exit code 1 after 0.4 s
            rule:      the second exit in a row waits 100 ms
            ruled out: giving up: 2 of 10 attempts
        ");
    }
}
