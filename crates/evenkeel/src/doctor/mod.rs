//! What `keel doctor` reads: the machine, the state directory, the units of systemd and the stack that runs.
//!
//! Reading only: nothing is changed, signalled or connected to besides the stack's own API. What cannot be read is
//! left out, and [`Looked`] says what was. The judgement is [`evenkeel_core::doctor`]'s.

mod machine;
mod own;
mod render;
mod state;
mod units;

use std::path::{Path, PathBuf};

use evenkeel_core::{
    doctor::{Observed, Running as RunningStack, StateDir},
    stack::{self, Stack},
};

pub(crate) use self::render::{Report, render};
use crate::{
    api::{Api, read},
    context::{Context, block_on},
    failure::{Exit, Failure},
    http::Ask,
    running::{self, Running},
};

/// What was looked at, for those who want to know what no finding means.
pub(crate) type Looked = Vec<String>;

/// The stack file as the API gives it.
#[derive(serde::Deserialize)]
struct StackFile {
    file: String,
    text: String,
}

/// Reads everything there is. `unit` is a unit file to look at beside those of the system.
pub(crate) fn observe(context: &Context, unit: Option<&Path>) -> Result<(Observed, Looked), Failure> {
    let running = match running::find(context.state_dir.as_deref(), &context.places) {
        Ok(running) => Some(running),
        Err(failure) if failure.exit == Exit::NothingRuns => None,
        // Several run: whose state is meant must be said.
        Err(failure) => return Err(failure),
    };
    let guard = running.as_ref().map(|running| running.holder.pid);
    let mut looked = vec!["the machine: limits, memory, clock, control groups (/proc, /sys)".to_owned()];
    let state_dir = running.as_ref().map(|running| running.state_dir.clone()).or_else(|| context.state_dir.clone());
    let state = match &state_dir {
        Some(dir) => Some(look_at_state(dir, running.as_ref(), context, &mut looked)?),
        None => None,
    };
    let file = stack_file(running.as_ref(), state_dir.as_deref(), &mut looked);
    // A stack that runs says itself when it misses its key; where it has it from is not to be seen from here.
    let secrets_key = file
        .as_ref()
        .filter(|_| running.is_none())
        .and_then(|stack| state::secrets_key(&stack.stack.name, state_dir.as_deref()?));
    let (units, unit_files) = units::read(unit)?;
    if unit_files.is_empty() {
        looked.push("units of systemd: none starts `keel up`".to_owned());
    }
    looked.extend(unit_files.iter().map(|path| format!("a unit of systemd that starts `keel up`: {}", path.display())));
    let observed = Observed {
        machine: machine::read(guard),
        state: state.map(|state| StateDir { secrets: secrets_key, ..state }),
        running: running.as_ref().map(|running| stack_that_runs(running, &mut looked)),
        stack: file,
        units,
        orphans: own::orphans(),
    };
    Ok((observed, looked))
}

fn look_at_state(
    dir: &Path,
    running: Option<&Running>,
    context: &Context,
    looked: &mut Looked,
) -> Result<StateDir, Failure> {
    let runtime = match running {
        Some(running) => running.holder.runtime_dir.clone(),
        None => context.places.runtime_dir(&absolute(dir)),
    };
    let state = state::read(dir, &runtime).map_err(|error| {
        let failure = Failure::new("the state directory cannot be looked at").at_path(dir).because(error);
        failure.fix("name a state directory, or leave out --state-dir to look at the machine alone")
    })?;
    looked.push(format!("the state directory {}", dir.display()));
    Ok(state)
}

fn absolute(dir: &Path) -> PathBuf {
    std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned())
}

/// The file in force: by the API where it answers, else as it is kept.
fn stack_file(running: Option<&Running>, state_dir: Option<&Path>, looked: &mut Looked) -> Option<Stack> {
    let told = running.and_then(|running| {
        let api = Api::of(running);
        let answer = block_on(async { read::<StackFile>(&api.succeed(Ask::get("/v1/stack")).await?) });
        let StackFile { file, text } = answer.ok()?;
        stack::parse_leniently(&text, &file).ok().map(|(stack, _)| stack)
    });
    let stack = told.or_else(|| state::kept_stack(state_dir?))?;
    looked.push(format!("the stack `{}` as it is in force", stack.stack.name));
    Some(stack)
}

fn stack_that_runs(running: &Running, looked: &mut Looked) -> RunningStack {
    let api = Api::of(running);
    let (status, silent) = match block_on(api.status()) {
        Ok(status) => (Some(status), None),
        Err(failure) => (None, Some(failure.what().to_owned())),
    };
    looked.push(format!("the running stack `{}` (keel up, process {})", running.holder.stack, running.holder.pid));
    RunningStack {
        processes: own::processes(running.holder.pid, status.as_ref()),
        instances: own::instances(status.as_ref()),
        status,
        silent,
        our_version: env!("CARGO_PKG_VERSION").to_owned(),
        tokens: state::tokens(&running.state_dir),
    }
}
