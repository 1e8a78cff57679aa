//! The starter: a process of its own that starts `keel up` again where nobody else does, whatever happens to the drill.
//!
//! A stack must not stay down because of a drill. So before the guard is killed, the drill starts
//! `keel drill starter PID DIR SOCKETS`, which notes how that guard was started: arguments, folder and environment. Told
//! to, or when its standard input ends, it looks for a while whether somebody holds the lock of the state directory; if
//! nobody does, it starts `keel up` in a session of its own, whose output goes to `logs/keel.log`. A stack that was
//! stopped in an orderly way, by whomever and whenever since, stays stopped: such an end removes the folder of the
//! sockets, which a guard that is killed leaves behind. It never ends anything.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, BufRead, Write},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use evenkeel_core::drill::STARTED;
use evenkeel_guard::ACTIVATION_VARIABLES;

use crate::lock;

/// How long somebody else may take to start it.
const OTHERS_FIRST: Duration = Duration::from_secs(3);
/// How long it may then take to have its lock.
const LOCKED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where its output goes, in the state directory.
const LOG: &str = "logs/keel.log";

/// What the starter is to do: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The guard that is about to be killed
    pub(super) guard: u32,
    /// Its state directory
    pub(super) dir: PathBuf,
    /// The folder of its sockets
    pub(super) sockets: PathBuf,
}

/// How a `keel up` was started, and where.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    args: Args,
    arguments: Vec<OsString>,
    folder: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// Runs the starter to its end.
pub(super) fn run(args: &Args) -> io::Result<()> {
    let recipe = Recipe::of(args.clone())?;
    let mut out = io::stdout();
    say(&mut out, "ready");
    let _ = io::stdin().lock().read_line(&mut String::new());
    let done = recipe.start_unless();
    say(&mut out, done.as_deref().unwrap_or("failed"));
    done.map(drop)
}

/// Nobody may be left to hear it.
fn say(out: &mut impl Write, word: &str) {
    let _ = writeln!(out, "{word}").and_then(|()| out.flush());
}

/// How a stack is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// This guard has it.
    Running(u32),
    /// It was stopped in an orderly way.
    Stopped,
    /// Its guard was killed, and nobody has started it again.
    Down,
}

/// How the stack is.
fn look(dir: &Path, sockets: &Path) -> Found {
    match lock::holder(dir) {
        Some(holder) => Found::Running(holder.pid),
        None if sockets.exists() => Found::Down,
        None => Found::Stopped,
    }
}

/// How the stack is, once it is another guard's or stopped, or this time is over.
fn beforehand(args: &Args, within: Duration) -> Found {
    let begun = Instant::now();
    loop {
        let found = look(&args.dir, &args.sockets);
        // The killed one has its lock until the kernel is done with it; one that has it still was never killed.
        let waits = matches!(found, Found::Down) || found == Found::Running(args.guard);
        if !waits || begun.elapsed() >= within {
            return found;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Who holds the lock of the state directory within this time, unless the child ends before.
fn holder_within(args: &Args, within: Duration, child: &mut Child) -> Option<u32> {
    let begun = Instant::now();
    loop {
        if let Some(holder) = lock::holder(&args.dir) {
            return Some(holder.pid);
        }
        if !matches!(child.try_wait(), Ok(None)) || begun.elapsed() >= within {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Recipe {
    /// Of the guard that runs now.
    pub(super) fn of(args: Args) -> io::Result<Self> {
        let guard = args.guard;
        let words = |file: &str| -> io::Result<Vec<OsString>> {
            let bytes = fs::read(format!("/proc/{guard}/{file}"))?;
            let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
            Ok(bytes.split(|byte| *byte == 0).map(|word| OsStr::from_bytes(word).to_owned()).collect())
        };
        let pair = |setting: OsString| {
            let at = setting.as_bytes().iter().position(|byte| *byte == b'=')?;
            let (name, value) = setting.as_bytes().split_at(at);
            Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(&value[1..]).to_owned()))
        };
        let meant_for_others = |name: &OsString| ACTIVATION_VARIABLES.iter().any(|variable| name == variable);
        let environment = words("environ")?.into_iter().filter_map(pair);
        Ok(Self {
            args,
            arguments: without_parent(words("cmdline")?),
            folder: fs::read_link(format!("/proc/{guard}/cwd"))?,
            environment: environment.filter(|(name, _)| !meant_for_others(name)).collect(),
        })
    }

    /// Starts it, unless it runs or was stopped in an orderly way; says which, with the guard's process.
    pub(super) fn start_unless(&self) -> io::Result<String> {
        match beforehand(&self.args, OTHERS_FIRST) {
            Found::Running(pid) => return Ok(format!("running {pid}")),
            Found::Stopped => return Ok("stopped".to_owned()),
            Found::Down => {}
        }
        let mut child = self.start()?;
        let holder = holder_within(&self.args, LOCKED_WITHIN, &mut child);
        let log = self.args.dir.join(LOG);
        let failed = || io::Error::other(format!("`keel up` does not come up: see {}", log.display()));
        match holder {
            Some(pid) if pid == child.id() => Ok(format!("{STARTED} {pid}")),
            // Somebody else was quicker in the end, and the lock keeps ours out.
            Some(pid) => Ok(format!("running {pid}")),
            None => Err(failed()),
        }
    }

    fn start(&self) -> io::Result<Child> {
        let state_dir = &self.args.dir;
        let mut arguments = self.arguments.iter();
        let name = arguments.next().ok_or(io::ErrorKind::InvalidData)?;
        fs::create_dir_all(state_dir.join("logs"))?;
        let log = fs::OpenOptions::new().create(true).append(true).open(state_dir.join(LOG))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(name).args(arguments).current_dir(&self.folder);
        command.env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: setsid(2) is a system call that allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
        }
        command.spawn()
    }
}

/// The arguments without the process to end with: that one did not start what is started now.
fn without_parent(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--ends-with" {
            let _ = arguments.next();
        } else {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_in_an_orderly_way_is_told_from_what_was_killed() {
        let temp = tempfile::tempdir().unwrap();
        let sockets = temp.path().join("sockets");
        fs::create_dir(&sockets).unwrap();
        let args = Args { guard: 1, dir: temp.path().to_owned(), sockets: sockets.clone() };
        let found = || beforehand(&args, Duration::ZERO);
        assert_eq!(found(), Found::Down);
        let holder =
            lock::Holder { pid: 42, stack: "shop".to_owned(), runtime_dir: sockets.clone(), version: "1".to_owned() };
        let lock = lock::Lock::take(temp.path(), &holder).unwrap();
        assert_eq!(found(), Found::Running(42));
        drop(lock);
        fs::remove_dir(&sockets).unwrap();
        assert_eq!(found(), Found::Stopped);
    }

    #[test]
    fn who_it_ended_with_is_left_out() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let kept = without_parent(words("keel up a.toml --ends-with 7 --state-dir s"));
        assert_eq!(kept, words("keel up a.toml --state-dir s"));
    }

    #[test]
    fn a_recipe_is_what_the_kernel_says() {
        let args = Args { guard: std::process::id(), dir: PathBuf::new(), sockets: PathBuf::new() };
        let recipe = Recipe::of(args).unwrap();
        assert_eq!(recipe.folder, std::env::current_dir().unwrap());
        assert_eq!(recipe.arguments[0], std::env::args_os().next().unwrap());
        assert!(recipe.environment.iter().any(|(name, _)| name == "PATH"));
    }
}
