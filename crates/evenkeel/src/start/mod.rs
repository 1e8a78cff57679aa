//! From `keel up` to a guard: what is run, where its state lies, and who it is.
//!
//! The stack file is checked before anything is touched. Then the state directory is made and locked, a small
//! process is started that says when the stack is up, and this process becomes the guard. The guard adopts what a
//! killed predecessor left running, and starts the node process, the edge and stubs as hidden commands of the same
//! binary.

mod account;
pub(crate) mod announce;
mod inline;
mod source;

pub(crate) use self::{
    inline::Inline,
    source::{COMMAND_FILE, Source},
};

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use evenkeel_core::stack::Stack;
use evenkeel_guard::{ACTIVATION_VARIABLES, Activation, End, GuardConfig, Stop};
use serde_json::json;

use crate::{
    context::{Context, shell_word},
    failure::Failure,
    lock::{Holder, Lock, LockError},
    paths::Places,
};

/// The binary that runs, also after its file was replaced (proc(5)).
const SELF: &str = "/proc/self/exe";

/// The folder in the runtime folder where stubs wait for the next guard.
pub(crate) const STUBS: &str = "stubs";

/// How a guard begins and what becomes of instances when it is killed.
#[derive(Debug)]
pub(crate) struct Life {
    /// What the system's service manager handed over.
    pub(crate) activation: Activation,
    /// Whether instances go on and are adopted by the next start.
    pub(crate) outlived: bool,
}

/// A stack that may be started.
pub(crate) struct Start {
    source: Source,
    stack: Stack,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    _lock: Lock,
}

impl Start {
    /// Makes and locks the state directory of this stack.
    pub(crate) fn prepare(source: Source, stack: Stack, context: &Context) -> Result<Self, Failure> {
        let places = &context.places;
        let wanted = context.state_dir.clone().unwrap_or_else(|| places.state_dir(&stack.stack.name));
        let wanted = std::path::absolute(&wanted).unwrap_or(wanted);
        let state_dir = places.make_state_dir(&wanted)?;
        let (runtime_dir, lock) = take_lock(&stack.stack.name, &state_dir, places)?;
        source.keep(&state_dir)?;
        Ok(Self { source, stack, state_dir, runtime_dir, _lock: lock })
    }

    /// Becomes the guard. Returns the exit code once everything has ended.
    pub(crate) fn run(self, context: &Context, announced: bool, life: Life) -> Result<u8, Failure> {
        let edge_user = account::edge_user(self.stack.edge.user.as_deref())?;
        let mut guard = GuardConfig::new(
            internal(
                "__node",
                [
                    ("--state-dir", self.state_dir.clone().into()),
                    ("--runtime-dir", self.runtime_dir.clone().into()),
                    self.source.argument(),
                ],
            ),
            internal("__edge", []),
            internal("__stub", []),
        );
        let stubs = self.runtime_dir.join(STUBS);
        guard.edge_user = edge_user;
        guard.stubs = Some(stubs.clone());
        guard.outlived = life.outlived;
        guard.activation = life.activation;
        if announced {
            self.announce(context)?;
        }
        let End { code, stop } = evenkeel_guard::run(guard);
        // The lock is still ours, so nobody else has begun to use the folder. Its sockets are dead, except those of
        // stubs that were left to the next start, which finds them there.
        if std::fs::read_dir(&stubs).map_or(true, |mut left| left.next().is_none()) {
            let _ = std::fs::remove_dir_all(&self.runtime_dir);
        }
        if let Some(stop) = stop.filter(|_| announced) {
            // Whoever read what was said at the start may be gone, and everything is stopped all the same.
            let _ = self.say_stopped(&stop, context);
        }
        Ok(code)
    }

    fn say_stopped(&self, stop: &Stop, context: &Context) -> Result<(), Failure> {
        let stack = &self.stack.stack.name;
        if context.json {
            let took_ms = u64::try_from(stop.took.as_millis()).unwrap_or(u64::MAX);
            let Stop { instances, killed, .. } = stop;
            let said =
                json!({ "stack": stack, "up": false, "instances": instances, "killed": killed, "took_ms": took_ms });
            return context.json(&said);
        }
        let instances = if stop.instances == 1 { "instance" } else { "instances" };
        let killed = if stop.killed == 0 { String::new() } else { format!(", {} of them killed", stop.killed) };
        let took = stop.took.as_secs_f64();
        context.line(format!("{stack} is stopped: {} {instances} ended within {took:.1} s{killed}", stop.instances))
    }

    /// Starts the process that says when the stack is up. It ends with us.
    fn announce(&self, context: &Context) -> Result<(), Failure> {
        let argv = internal(
            "__announce",
            [("--state-dir", self.state_dir.clone().into()), ("--parent", std::process::id().to_string().into())],
        );
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).stdin(Stdio::null());
        if context.json {
            command.arg("--json");
        }
        for name in ACTIVATION_VARIABLES {
            command.env_remove(name);
        }
        let started = command.spawn();
        started.map(drop).map_err(|error| Failure::new("cannot start a process").at(SELF).because(error))
    }
}

fn take_lock(stack: &str, state_dir: &Path, places: &Places) -> Result<(PathBuf, Lock), Failure> {
    let holder = Holder {
        pid: std::process::id(),
        stack: stack.to_owned(),
        runtime_dir: places.runtime_dir(state_dir),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let lock = Lock::take(state_dir, &holder).map_err(|error| not_locked(state_dir, &error))?;
    // Only whoever has the lock may touch the folder of the sockets: another stack may be using it otherwise.
    places.make_runtime_dir(state_dir)?;
    Ok((holder.runtime_dir, lock))
}

fn not_locked(state_dir: &Path, error: &LockError) -> Failure {
    let dir = shell_word(&state_dir.display().to_string());
    match error {
        LockError::Held(Some(holder)) => Failure::new(format!("the stack `{}` runs already", holder.stack))
            .at_path(state_dir)
            .because(format!("process {} (keel {}) holds the lock of its state directory", holder.pid, holder.version))
            .fix(format!(
                "look at it:  keel status --state-dir {dir}\nchange it:   keel apply FILE --state-dir {dir}\n\
                     stop it:     kill {}\nor run another one beside it with another --state-dir",
                holder.pid
            )),
        LockError::Held(None) => Failure::new("another stack is just being started there")
            .at_path(state_dir)
            .because("its lock is held")
            .fix(format!("look at it: keel status --state-dir {dir}")),
        LockError::Io(error) => Failure::new("the lock of the state directory cannot be taken")
            .at_path(&state_dir.join("lock"))
            .because(error)
            .fix("check the folder's owner and the disk, or choose another one with --state-dir"),
    }
}

/// The arguments of a hidden command.
fn internal<const N: usize>(command: &str, options: [(&str, OsString); N]) -> Vec<OsString> {
    let options = options.into_iter().flat_map(|(name, value)| [OsString::from(name), value]);
    [OsString::from(SELF), OsString::from(command)].into_iter().chain(options).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::Paint;

    #[test]
    fn a_second_start_says_who_has_it() {
        let holder =
            Holder { pid: 4711, stack: "shop".into(), runtime_dir: "/run/keel/x".into(), version: "0.1.0".into() };
        let failure = not_locked(Path::new("/var/lib/keel/shop"), &LockError::Held(Some(holder)));
        insta::assert_snapshot!(failure.render(Paint::plain()), @r"
        error: the stack `shop` runs already
          where: /var/lib/keel/shop
          cause: process 4711 (keel 0.1.0) holds the lock of its state directory
            fix: look at it:  keel status --state-dir /var/lib/keel/shop
                 change it:   keel apply FILE --state-dir /var/lib/keel/shop
                 stop it:     kill 4711
                 or run another one beside it with another --state-dir
        ");
    }
}
