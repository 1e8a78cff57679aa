//! SIGSTOP to a process and its descendants and SIGCONT afterwards, once or by turns.
//!
//! Carried out by a process of its own (see `freezer`), which thaws when this one is gone. Whatever it froze is held
//! here as well, so that it can be thawed where the freezer has died.

use std::{
    ffi::OsString,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Aim, Doing, FaultError, Harm,
    helper::{Helper, Helpers, Undo},
};
use crate::drill::{
    freezer,
    processes::{Held, descendants},
};

/// How much longer than planned a freezer waits for a drill that does not end.
const FREEZER_MARGIN_MS: u64 = 60_000;

/// When processes stand still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    /// For how long in all.
    pub(super) for_ms: u64,
    /// How long they stand still each time and run in between; `None`: they stand still all the time.
    pub(super) by_turns_ms: Option<(u64, u64)>,
}

/// The freezer's process.
pub(super) struct Freezer {
    first: u32,
    by_turns: bool,
    helper: Helper,
    thaw: Thaw,
}

/// What the freezer holds still; `None` once it was thawed.
struct Frozen(Option<Freezer>);

/// Everything that may stand still.
#[derive(Clone, Debug)]
struct Thaw(Arc<Mutex<Vec<Held>>>);

/// Takes hold of a process.
pub(super) async fn aim<'a>(
    helpers: &Arc<Helpers>,
    pid: u32,
    pattern: Pattern,
) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    Ok(Box::new(Freezer::start(helpers, &[pid], pattern).await?))
}

impl<'a> Aim<'a> for Freezer {
    fn fire(mut self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let more = match self.freeze().await? {
                0 | 1 => String::new(),
                more => format!(" and {} of its descendants", more - 1),
            };
            let what = if self.by_turns { "SIGSTOP and SIGCONT by turns" } else { "SIGSTOP" };
            let text = format!("{what} to process {}{more}", self.first);
            Ok((Box::new(Frozen(Some(*self))) as Box<dyn Harm>, text))
        })
    }
}

impl Harm for Frozen {
    fn lasts(&self) -> bool {
        self.0.is_some()
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            if let Some(freezer) = self.0.take() {
                freezer.thaw().await;
            }
        })
    }
}

impl Freezer {
    /// Takes hold of these processes.
    pub(super) async fn start(helpers: &Arc<Helpers>, pids: &[u32], pattern: Pattern) -> Result<Self, FaultError> {
        let first = pids.first().copied().unwrap_or_default();
        let roots = pids.iter().map(|pid| Held::open(*pid)).collect::<Result<Vec<_>, _>>();
        let thaw = Thaw(Arc::new(Mutex::new(roots.map_err(|_| FaultError::Gone(first))?)));
        let bound_ms = pattern.for_ms.saturating_add(FREEZER_MARGIN_MS);
        let mut arguments: Vec<OsString> = vec![bound_ms.to_string().into()];
        arguments.extend(pids.iter().map(|pid| pid.to_string().into()));
        if let Some((stopped_ms, running_ms)) = pattern.by_turns_ms {
            let turns = ["--stopped-ms", &stopped_ms.to_string(), "--running-ms", &running_ms.to_string()];
            arguments.extend(turns.map(OsString::from));
        }
        let started = Helper::start(helpers, "freezer", &arguments, Box::new(thaw.clone())).await;
        let helper = started.map_err(|error| match error {
            FaultError::Broken { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
                FaultError::Gone(first)
            }
            other => other,
        })?;
        Ok(Self { first, by_turns: pattern.by_turns_ms.is_some(), helper, thaw })
    }

    /// Begins; returns how many processes stand still.
    pub(super) async fn freeze(&mut self) -> Result<usize, FaultError> {
        let said = self.helper.order("freeze").await;
        let count = said.ok().and_then(|word| word.strip_prefix("frozen ")?.parse().ok());
        self.thaw.hold_descendants();
        count.ok_or(FaultError::NotFrozen(self.first))
    }

    /// Lets all of them run.
    pub(super) async fn thaw(self) {
        self.helper.finish().await;
    }
}

impl Thaw {
    /// What stands still forks no more, so this finds all of them, even if one between is killed later.
    fn hold_descendants(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let roots: Vec<u32> = all.iter().filter(|held| held.is_there()).map(|held| held.pid).collect();
        let below = roots.into_iter().flat_map(descendants);
        all.extend(below.filter_map(|pid| Held::open(pid).ok()).collect::<Vec<_>>());
    }
}

impl Undo for Thaw {
    fn again(&self) -> Doing<'_, Result<(), String>> {
        self.hold_descendants();
        Box::pin(async { freezer::thawed(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) })
    }

    fn by_hand(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pids: Vec<String> = all.iter().filter(|held| held.is_there()).map(|held| held.pid.to_string()).collect();
        format!("let it run by hand: kill -CONT {}", pids.join(" "))
    }
}
