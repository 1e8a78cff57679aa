//! `keel drill list`: what can be rehearsed, and how it went last.
//!
//! The verdicts come from the journal of the running stack; without one the drills are listed all the same. It
//! changes nothing.

use evenkeel_core::{
    drill::{ALL, LastVerdict, Verdict, last_verdict},
    journal::Entry,
};
use serde::Serialize;

use super::control::Control;
use crate::{
    api::Api,
    context::{Context, block_on},
    failure::{Exit, Failure},
    words,
};

/// One drill of the list, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    summary: &'a str,
    usual_s: (u64, u64),
    last: Option<LastVerdict>,
}

/// Prints the list.
pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    const NEXT: &str = "drill run kill-instance";
    let (entries, next) = match context.running() {
        Ok(running) => {
            let entries = block_on(async { Control::new(Api::of(&running), context.json).history().await })?;
            (entries, context.command(&running.state_dir, NEXT))
        }
        // A stack that was named must be there; otherwise the list itself needs none.
        Err(failure) if context.state_dir.is_some() => return Err(failure),
        Err(_) => (Vec::new(), format!("keel {NEXT}")),
    };
    let lines = lines(&entries);
    if context.json {
        context.json(&lines)?;
        return Ok(Exit::Done);
    }
    for line in &lines {
        context.line(format!("{}  {}", context.paint.bold(&format!("{:<17}", line.name)), line.summary))?;
        let (from, to) = line.usual_s;
        let last = match line.last {
            None => "never run on this stack".to_owned(),
            Some(LastVerdict { verdict, at }) => {
                let word = match verdict {
                    Verdict::Pass => context.paint.good("passed"),
                    Verdict::Fail => context.paint.bad("failed"),
                };
                format!("{word} {} ago", words::since(at, words::now()))
            }
        };
        context.line(format!("{:<17}  takes {from} to {to} s; {last}", ""))?;
    }
    context.next(&next, "kills one instance and shows that no client notices")?;
    Ok(Exit::Done)
}

fn lines(entries: &[Entry]) -> Vec<Line<'static>> {
    let line = |drill: &'static dyn evenkeel_core::drill::Drill| Line {
        name: drill.name(),
        summary: drill.summary(),
        usual_s: drill.usual_s(),
        last: last_verdict(entries, drill.name()),
    };
    ALL.iter().copied().map(line).collect()
}
