//! Starting a drill as a process of its own: `keel drill run`, in a session of its own.
//!
//! It is the same binary and the same command as by hand, so a drill means the same whoever starts it. It belongs to
//! nobody here: this process may end, be killed by the drill, and be started again meanwhile. What it refuses it says
//! before it makes a folder for its run; until one of the two is there, whoever ordered it waits.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use evenkeel_core::drill;
use tokio::process::{Child, Command};

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

/// Starts a drill; returns the name of its run once it has been planned and goes on.
pub(crate) async fn start(state_dir: &Path, order: &Order) -> Result<String, NotStarted> {
    make_private(&folder(state_dir)).map_err(NotStarted::because)?;
    let id = drill::run_id(wall_now(), &order.drill);
    let said = folder(state_dir).join(format!("{id}.said"));
    let errors = fs::File::create(&said).map_err(NotStarted::because)?;
    let outcome = match command(state_dir, order, &id).stderr(errors).spawn() {
        Ok(child) => begun(child, state_dir, &id, &said).await,
        Err(error) => Err(NotStarted::because(error)),
    };
    // Whoever has it open may still write to it.
    let _ = fs::remove_file(&said);
    outcome.map(|()| id)
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
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Waits until the run has its folder, or its process ended without one.
async fn begun(mut child: Child, state_dir: &Path, id: &str, said: &Path) -> Result<(), NotStarted> {
    let plan = folder(state_dir).join(id).join("plan.json");
    let until = Instant::now() + PLAN_WAIT;
    loop {
        let ended = child.try_wait().map_err(NotStarted::because)?;
        if plan.exists() {
            // Somebody must take its exit status, whenever that comes.
            tokio::spawn(async move { child.wait().await });
            return Ok(());
        }
        if ended.is_some() {
            let text = fs::read_to_string(said).unwrap_or_default();
            let refused = text.lines().find_map(|line| serde_json::from_str(line).ok());
            return Err(refused.unwrap_or_else(|| NotStarted::because(text.trim())));
        }
        if Instant::now() >= until {
            let _ = child.kill().await;
            return Err(NotStarted::because("it could not be planned in time"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
