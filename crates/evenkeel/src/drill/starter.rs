//! The starter: a process of its own that starts `keel up` again where nobody else does, whatever happens to the drill.
//!
//! A stack must not stay down because of a drill. So before the guard is killed, the drill starts
//! `keel drill starter PID DIR`, which notes how that guard was started: arguments, folder and environment. Told to, or
//! when its standard input ends, it looks for a while whether somebody holds the lock of the state directory; if nobody
//! does, it starts `keel up` in a session of its own, whose output goes to `logs/keel.log`. It never ends anything.

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

/// What the starter is to do: its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The guard that is about to be killed
    guard: u32,
    /// Its state directory
    dir: PathBuf,
}

/// How a `keel up` was started.
struct Recipe {
    arguments: Vec<OsString>,
    folder: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// Runs the starter to its end.
pub(super) fn run(args: &Args) -> io::Result<()> {
    let recipe = Recipe::of(args.guard)?;
    let mut out = io::stdout();
    say(&mut out, "ready");
    let _ = io::stdin().lock().read_line(&mut String::new());
    let another = holder_within(args, OTHERS_FIRST, None);
    // The killed one has its lock until the kernel is done with it; one that has it still was never killed.
    if let Some(pid) = another.or_else(|| lock::holder(&args.dir).map(|holder| holder.pid)) {
        say(&mut out, &format!("running {pid}"));
        return Ok(());
    }
    let mut child = recipe.start(&args.dir)?;
    match holder_within(args, LOCKED_WITHIN, Some(&mut child)) {
        Some(pid) => say(&mut out, &format!("{STARTED} {pid}")),
        None => say(&mut out, "failed"),
    }
    Ok(())
}

/// Nobody may be left to hear it.
fn say(out: &mut impl Write, word: &str) {
    let _ = writeln!(out, "{word}").and_then(|()| out.flush());
}

/// Who else than the former guard holds the lock of the state directory within this time, unless the child ends before.
fn holder_within(args: &Args, within: Duration, mut child: Option<&mut Child>) -> Option<u32> {
    let begun = Instant::now();
    loop {
        if let Some(holder) = lock::holder(&args.dir).filter(|holder| holder.pid != args.guard) {
            return Some(holder.pid);
        }
        let ended = child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        if ended || begun.elapsed() >= within {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Recipe {
    fn of(guard: u32) -> io::Result<Self> {
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
            arguments: without_parent(words("cmdline")?),
            folder: fs::read_link(format!("/proc/{guard}/cwd"))?,
            environment: environment.filter(|(name, _)| !meant_for_others(name)).collect(),
        })
    }

    fn start(&self, state_dir: &Path) -> io::Result<Child> {
        let mut arguments = self.arguments.iter();
        let name = arguments.next().ok_or(io::ErrorKind::InvalidData)?;
        let logs = state_dir.join("logs");
        fs::create_dir_all(&logs)?;
        let log = fs::OpenOptions::new().create(true).append(true).open(logs.join("keel.log"))?;
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
    fn who_it_ended_with_is_left_out() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let kept = without_parent(words("keel up a.toml --ends-with 7 --state-dir s"));
        assert_eq!(kept, words("keel up a.toml --state-dir s"));
    }

    #[test]
    fn a_recipe_is_what_the_kernel_says() {
        let recipe = Recipe::of(std::process::id()).unwrap();
        assert_eq!(recipe.folder, std::env::current_dir().unwrap());
        assert_eq!(recipe.arguments[0], std::env::args_os().next().unwrap());
        assert!(recipe.environment.iter().any(|(name, _)| name == "PATH"));
    }
}
