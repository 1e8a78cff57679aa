//! Starting a drill as a process of its own: `keel drill run`, in a session of its own.
//!
//! It is the same binary and the same command as by hand, so a drill means the same whoever starts it. It belongs to
//! nobody here: this process may end, be killed by the drill, and be started again meanwhile. What it refuses it says
//! before it makes a folder for its run; until one of the two is there, whoever ordered it waits. Whoever makes that
//! folder first has decided: the drill, that it runs, or the one who waited too long, that it does not. All work on the
//! disk is done on threads that may wait for it.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use evenkeel_core::{drill, time::WallTime};
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
};

use super::folder;
use crate::{clock::wall_now, state_dir::make_private};

/// How long a plan may take.
const PLAN_WAIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Which drill is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) drill: String,
    pub(crate) service: Option<String>,
    /// How long a lasting fault lasts.
    pub(crate) for_ms: Option<u64>,
    /// Also in a blackout.
    pub(crate) force: bool,
    /// By its schedule: nobody is there who would see what it does.
    pub(crate) unattended: bool,
}

/// Why it was not started.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct NotStarted {
    /// What could not be done, and why.
    #[serde(rename = "error")]
    pub(crate) what: String,
    #[serde(default)]
    pub(crate) cause: String,
    #[serde(default, rename = "hint")]
    pub(crate) fix: String,
}

impl NotStarted {
    fn because(cause: impl std::fmt::Display) -> Self {
        Self { what: "the drill cannot be started".to_owned(), cause: cause.to_string(), fix: String::new() }
    }
}

/// The name of a run that nobody else has, and the file that takes what its process says.
#[derive(Debug)]
pub(crate) struct Reserved {
    state_dir: PathBuf,
    id: String,
    said: fs::File,
}

/// Starts a drill; returns the name of its run once it has been planned and goes on.
pub(crate) async fn start(state_dir: &Path, order: &Order) -> Result<String, NotStarted> {
    reserve(state_dir, &order.drill).await?.start(order).await
}

/// Takes a name for a run that begins now.
pub(crate) async fn reserve(state_dir: &Path, drill: &str) -> Result<Reserved, NotStarted> {
    let (dir, drill) = (state_dir.to_owned(), drill.to_owned());
    on_disk(move || Reserved::new(dir, &drill, wall_now())).await?.map_err(NotStarted::because)
}

impl Reserved {
    fn new(state_dir: PathBuf, drill: &str, now: WallTime) -> io::Result<Self> {
        make_private(&folder(&state_dir))?;
        let mut at = now;
        loop {
            let id = drill::run_id(at, drill);
            let file = fs::OpenOptions::new().write(true).create_new(true).open(said(&state_dir, &id));
            match file {
                Ok(_) if folder(&state_dir).join(&id).exists() => drop(fs::remove_file(said(&state_dir, &id))),
                Ok(said) => return Ok(Self { state_dir, id, said }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            // Another one was started in the very same millisecond, perhaps by a clock that was set back.
            at = WallTime::from_millis(at.as_millis() + 1);
        }
    }

    /// The name of the run.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Starts the drill under this name; returns the name once the drill has been planned and goes on. It is waited for
    /// also where whoever called this does not wait any more.
    pub(crate) async fn start(self, order: &Order) -> Result<String, NotStarted> {
        let Self { state_dir, id, said: errors } = self;
        let mut command = command(&state_dir, order, &id);
        let waiting = tokio::spawn(async move {
            let outcome = match command.stderr(errors).spawn() {
                Ok(child) => begun(child, &state_dir, &id, PLAN_WAIT).await,
                Err(error) => Err(NotStarted::because(error)),
            };
            let file = said(&state_dir, &id);
            // Whoever has it open may still write to it.
            let _ = on_disk(move || fs::remove_file(file)).await;
            outcome.map(|()| id)
        });
        waiting.await.map_err(NotStarted::because)?
    }
}

/// What the process of a run says until there is a folder for it.
fn said(state_dir: &Path, id: &str) -> PathBuf {
    folder(state_dir).join(format!("{id}.said"))
}

fn command(state_dir: &Path, order: &Order, id: &str) -> Command {
    // The file that this process runs, even if another one has its name by now.
    let mut command = Command::new("/proc/self/exe");
    command.args(["drill", "run", &order.drill, "--yes", "--json", "--run", id, "--state-dir"]).arg(state_dir);
    if let Some(service) = &order.service {
        command.args(["--service", service]);
    }
    if let Some(for_ms) = order.for_ms {
        command.args(["--for", &format!("{for_ms}ms")]);
    }
    if order.force {
        command.arg("--force");
    }
    if order.unattended {
        command.arg("--scheduled");
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Waits until the run has been planned, or its process ended without a plan.
async fn begun(mut child: Child, state_dir: &Path, id: &str, patience: Duration) -> Result<(), NotStarted> {
    let run = folder(state_dir).join(id);
    let until = Instant::now() + patience;
    loop {
        // Before the look: a drill that was planned and has ended since was planned.
        let ended = child.try_wait().map_err(NotStarted::because)?;
        let plan = run.join("plan.json");
        if on_disk(move || plan.exists()).await? {
            break;
        }
        if ended.is_some() {
            let file = said(state_dir, id);
            let text = on_disk(move || fs::read_to_string(file).unwrap_or_default()).await?;
            let refused = text.lines().find_map(|line| serde_json::from_str(line).ok());
            return Err(refused.unwrap_or_else(|| NotStarted::because(text.trim())));
        }
        if Instant::now() >= until {
            let folder = run.clone();
            if on_disk(move || fs::DirBuilder::new().mode(0o700).create(folder)).await?.is_err() {
                // It has begun: what harms by now must be ended by what takes it back.
                break;
            }
            // It finds its name taken, and harms nothing.
            let _ = child.kill().await;
            let _ = on_disk(move || fs::remove_dir(run)).await;
            return Err(NotStarted::because("it could not be planned in time"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // Somebody must take its exit status, whenever that comes.
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// Does something on a thread that may wait for a disk.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NotStarted> {
    spawn_blocking(work).await.map_err(NotStarted::because)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder).kill_on_drop(true).spawn().unwrap()
    }

    #[test]
    fn names_of_one_moment_differ_from_each_other_and_from_runs() {
        let temp = tempfile::tempdir().unwrap();
        let at = WallTime::from_millis(7);
        fs::create_dir_all(folder(temp.path()).join("8-kill-edge")).unwrap();
        let ids: Vec<String> =
            (0..3).map(|_| Reserved::new(temp.path().to_owned(), "kill-edge", at).unwrap().id).collect();
        assert_eq!(ids, ["7-kill-edge", "9-kill-edge", "10-kill-edge"]);
    }

    #[tokio::test]
    async fn a_drill_that_has_begun_is_never_killed_however_late_its_plan_is() {
        let temp = tempfile::tempdir().unwrap();
        let runs = folder(temp.path());
        fs::create_dir_all(&runs).unwrap();
        let mut child = shell("mkdir 7-kill-edge && exec sleep 1000", &runs);
        while !runs.join("7-kill-edge").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it makes its folder");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let pid = child.id().unwrap();
        begun(child, temp.path(), "7-kill-edge", Duration::ZERO).await.unwrap();
        assert!(Path::new(&format!("/proc/{pid}")).exists() && runs.join("7-kill-edge").exists());
    }

    #[tokio::test]
    async fn a_drill_that_does_not_begin_is_ended_and_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let runs = folder(temp.path());
        fs::create_dir_all(&runs).unwrap();
        let child = shell("sleep 1000", &runs);
        let pid = child.id().unwrap();
        let refused = begun(child, temp.path(), "7-kill-edge", Duration::ZERO).await.unwrap_err();
        assert!(refused.cause.contains("in time"), "{refused:?}");
        assert!(!Path::new(&format!("/proc/{pid}")).exists() && fs::read_dir(&runs).unwrap().next().is_none());
    }
}
