//! A node process that comes back with other clocks, and later with the right ones.
//!
//! Carried out by a process of its own (see `clock`), which takes it back when this one is gone.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use evenkeel_core::{drill::SHIFTED, status::Status};

use super::{
    Aim, Doing, FaultError, Harm, Means,
    helper::{Helper, Undo},
};
use crate::drill::clock::{Space, leave};

/// A namespace with other clocks that nobody is in yet.
struct Ready {
    clock: Helper,
    node: u32,
}

/// The namespace, and whether the node process was seen in it.
struct Shifted {
    clock: Option<Helper>,
    node: u32,
    seen: bool,
}

/// How the namespace is left where the clock does not see to it; empty until it is known.
#[derive(Clone, Debug, Default)]
struct Leave(Arc<OnceLock<Space>>);

impl Undo for Leave {
    fn within(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn again(&self) -> Doing<'_, Result<(), String>> {
        Box::pin(async {
            let Some(space) = self.0.get().cloned() else { return Ok(()) };
            let left = tokio::task::spawn_blocking(move || leave(&space)).await;
            left.unwrap_or_else(|error| Err(error.to_string()))
        })
    }

    fn by_hand(&self) -> String {
        "kill the node process: the guard starts another one, which has the clocks of everybody".to_owned()
    }
}

/// Makes the namespace.
pub(super) async fn aim<'a>(node: u32, by_ms: i64, means: Means<'a>) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    let status = means.control.status_now().await.ok_or_else(|| FaultError::NoProcess("the stack".to_owned()))?;
    let guard = status.guard.pid;
    let runtime_dir: PathBuf = means.control.runtime_dir().into();
    let undo = Leave::default();
    let arguments = [guard.to_string().into(), (by_ms / 1000).to_string().into(), runtime_dir.clone().into()];
    let clock = Helper::start(means.control.helpers(), "clock", &arguments, Box::new(undo.clone())).await?;
    if let Some(space) = clock.pid().and_then(|clock| Space::of(clock, guard, &runtime_dir)) {
        let _ = undo.0.set(space);
    }
    Ok(Box::new(Ready { clock, node }))
}

impl<'a> Aim<'a> for Ready {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let Self { mut clock, node } = *self;
            let failed = |source| FaultError::Broken { name: "clock", source };
            let said = clock.order("shift").await.map_err(failed)?;
            if said != "killed" {
                return Err(FaultError::NotHere(said));
            }
            let text = format!("SIGKILL to process {node}, which is started again with other clocks");
            Ok((Box::new(Shifted { clock: Some(clock), node, seen: false }) as Box<dyn Harm>, text))
        })
    }
}

impl Harm for Shifted {
    fn lasts(&self) -> bool {
        self.clock.is_some()
    }

    fn goes_on<'h>(
        &'h mut self,
        status: Option<&'h Status>,
    ) -> Doing<'h, Result<Vec<(&'static str, String)>, FaultError>> {
        Box::pin(async move {
            let Some(pid) = status.map(|status| status.node.pid).filter(|pid| !self.seen && *pid != self.node) else {
                return Ok(Vec::new());
            };
            let space = |of: &str| fs::read_link(format!("/proc/{of}/ns/time")).ok();
            let (its, ours) = (space(&pid.to_string()), space("self"));
            self.seen = its.is_some() && its != ours;
            Ok(if self.seen {
                vec![(SHIFTED, format!("process {pid} is in a time namespace of its own"))]
            } else {
                Vec::new()
            })
        })
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            if let Some(clock) = self.clock.take() {
                clock.finish().await;
            }
        })
    }
}
