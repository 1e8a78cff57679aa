//! `keel drill list`: what can be rehearsed, and how it went last.
//!
//! The verdicts are those of the runs that are kept, as in the history; without a stack the drills are listed all the
//! same. It changes nothing.

use evenkeel_core::drill::{ALL, LastVerdict, RunSummary, Verdict, last_verdict};
use serde::Serialize;

use super::history::Source;
use crate::{
    context::Context,
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
    let (runs, next) = match Source::of(context) {
        Ok(source) => (source.runs()?, source.command(context, NEXT)),
        // A stack that was named must be there; otherwise the list itself needs none.
        Err(failure) if context.state_dir.is_some() => return Err(failure),
        Err(_) => (Vec::new(), format!("keel {NEXT}")),
    };
    let lines = lines(&runs);
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

fn lines(runs: &[RunSummary]) -> Vec<Line<'static>> {
    let line = |drill: &'static dyn evenkeel_core::drill::Drill| Line {
        name: drill.name(),
        summary: drill.summary(),
        usual_s: drill.usual_s(),
        last: last_verdict(runs, drill.name()),
    };
    ALL.iter().copied().map(line).collect()
}
