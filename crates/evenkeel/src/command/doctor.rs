//! `keel doctor`: what is wrong, or could go wrong, with the machine, the state directory and the stack that runs.

use std::path::PathBuf;

use evenkeel_core::doctor::{Severity, examine};

use crate::{
    context::Context,
    doctor::{Report, observe, render},
    failure::{Exit, Failure},
};

/// Options of `keel doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A unit file of systemd that starts `keel up` [default: those where systemd looks]
    #[arg(long, value_name = "FILE")]
    unit: Option<PathBuf>,
}

/// Prints the findings, the worst first. The exit code is 1 where there is more than advice.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    context.needs_this_machine("doctor")?;
    let (observed, looked_at) = observe(context, args.unit.as_deref())?;
    let report = Report { findings: examine(&observed), looked_at };
    let to_mend = report.findings.iter().any(|finding| finding.severity != Severity::Advice);
    let exit = if to_mend { Exit::Failed } else { Exit::Done };
    if context.json {
        context.json(&report)?;
        return Ok(exit);
    }
    context.line(render(&report, context.paint))?;
    match context.running() {
        Ok(running) => {
            let worst = report.findings.iter().map(|finding| finding.subject.as_str());
            let subject = worst.into_iter().find(|subject| !["machine", "state", "unit"].contains(subject));
            let why = format!("why {}", subject.unwrap_or("stack"));
            context.next(&context.command(&running.state_dir, &why), "gives the reasons")?;
        }
        Err(_) => context.next("keel up FILE", "starts a stack; then `keel doctor` looks at it too")?,
    }
    Ok(exit)
}
