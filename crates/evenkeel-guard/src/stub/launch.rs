//! Starting the one process of a stub, and saying in words why it did not start.
//!
//! Between fork and exec only system calls are made. std returns the error's number but not which step failed, so
//! each step leaves its mark in a pipe before it is taken.

use std::{
    ffi::{CStr, CString},
    fs::{self, File},
    io::{self, Read},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use evenkeel_core::guard::ProcessSpec;
use rustix::{
    fs::{Mode, OFlags},
    pipe::{PipeFlags, pipe_with},
    process::{Gid, Pid, Signal, Uid, chdir, getegid, geteuid, set_parent_process_death_signal, setsid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};

use crate::os::{
    cgroup::{Entrances, Group},
    signals, words,
};

/// Says how likely a process is chosen when memory runs short (proc(5)).
const OOM_SCORE: &CStr = c"/proc/self/oom_score_adj";

/// What is about to be done; its number is the mark.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Step {
    Session = 1,
    User,
    Directory,
    Run,
}

/// What happens in the child before the program takes over.
struct Preparation {
    marks: OwnedFd,
    entrances: Entrances,
    user: Option<(Uid, Gid)>,
    groups: Vec<Gid>,
    cwd: CString,
    /// Whether we are protected from the kernel's choice of whom to kill when memory runs short.
    protected: bool,
}

/// Starts it in a session of its own, with its output going to `output`.
///
/// # Errors
/// The cause in words; nothing is left running then.
pub(super) fn launch(spec: &ProcessSpec, output: OwnedFd, group: &Group) -> Result<Pid, String> {
    let program = spec.argv.first().ok_or("the command is empty")?.clone();
    let cannot = |error: &io::Error| format!("cannot run `{program}`: {}", words::of(error));
    let (marked, marks) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|errno| cannot(&errno.into()))?;
    let errors = output.try_clone().map_err(|error| cannot(&error))?;
    let mut command = Command::new(&program);
    command.args(&spec.argv[1..]).env_clear();
    for (name, value) in &spec.env {
        command.env(name, value.expose());
    }
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let preparation = Preparation {
        marks,
        entrances: group.entrances(),
        user: wanted_user(spec.user),
        groups: spec.groups.iter().map(|group| Gid::from_raw_unchecked(*group)).collect(),
        cwd: CString::new(spec.cwd.as_str()).map_err(|_| "the working directory's name contains a NUL")?,
        protected: is_protected(),
    };
    // SAFETY: `prepare` makes system calls only; it neither allocates nor takes locks.
    unsafe {
        command.pre_exec(move || preparation.prepare());
    }
    let spawned = command.spawn();
    // Closes our copy of the end that the child writes marks to.
    drop(command);
    match spawned {
        Ok(child) => Ok(Pid::from_child(&child)),
        Err(error) => Err(explain(spec, last_step(marked), &error)),
    }
}

impl Preparation {
    fn prepare(&self) -> io::Result<()> {
        signals::reset();
        self.mark(Step::Session);
        setsid()?;
        for entrance in [&self.entrances.unified, &self.entrances.memory].into_iter().flatten() {
            // Without a cgroup the tree of processes serves.
            let _ = rustix::io::write(entrance, b"0");
        }
        if self.protected
            && let Ok(file) = rustix::fs::open(OOM_SCORE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        {
            // Who is protected is `keel`, so that it can start an instance again that was chosen.
            let _ = rustix::io::write(&file, b"0");
        }
        if let Some((user, group)) = self.user {
            self.mark(Step::User);
            set_thread_groups(&self.groups)?;
            set_thread_gid(group)?;
            set_thread_uid(user)?;
        }
        // After the change of user, which clears it. Where nobody can reap it, nobody could stop it either.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        self.mark(Step::Directory);
        chdir(self.cwd.as_c_str())?;
        self.mark(Step::Run);
        Ok(())
    }

    fn mark(&self, step: Step) {
        let _ = rustix::io::write(&self.marks, &[step as u8]);
    }
}

/// Whether our own score was lowered, as by systemd's `OOMScoreAdjust=` (proc(5)); those we start inherit it.
fn is_protected() -> bool {
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    score.trim().parse::<i32>().is_ok_and(|score| score < 0)
}

/// Who is to be become; nobody, where that is who we are and may not change anything anyway.
fn wanted_user(user: Option<(u32, u32)>) -> Option<(Uid, Gid)> {
    let (user, group) = user?;
    let same = geteuid().as_raw() == user && getegid().as_raw() == group;
    (!same || geteuid().is_root()).then(|| (Uid::from_raw_unchecked(user), Gid::from_raw_unchecked(group)))
}

fn last_step(marked: OwnedFd) -> Option<u8> {
    let mut marks = Vec::new();
    let _ = File::from(marked).read_to_end(&mut marks);
    marks.last().copied()
}

fn explain(spec: &ProcessSpec, step: Option<u8>, error: &io::Error) -> String {
    let program = &spec.argv[0];
    let cause = words::of(error);
    let (user, group) = spec.user.unwrap_or_default();
    match step {
        Some(step) if step == Step::User as u8 => format!("cannot become user {user} and group {group}: {cause}"),
        Some(step) if step == Step::Directory as u8 => format!("cannot enter directory `{}`: {cause}", spec.cwd),
        Some(step) if step == Step::Run as u8 && is_missing_interpreter(spec, error) => {
            format!("cannot run `{program}`: the interpreter that it names in its first line does not exist")
        }
        _ => format!("cannot run `{program}`: {cause}"),
    }
}

/// execve(2) says "no such file" of a script whose interpreter is missing as well.
fn is_missing_interpreter(spec: &ProcessSpec, error: &io::Error) -> bool {
    let program = &spec.argv[0];
    error.kind() == io::ErrorKind::NotFound && program.contains('/') && Path::new(&spec.cwd).join(program).is_file()
}
