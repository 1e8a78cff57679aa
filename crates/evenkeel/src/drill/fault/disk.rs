//! No byte in files for the node process and the edge; what was allowed before afterwards.
//!
//! Carried out by a process of its own (see `limiter`), which gives everything back when this one is gone. An entry of
//! the journal is tried at once: a disk that nobody writes to is full without anybody noticing.

use evenkeel_core::{
    drill::NewEntry,
    journal::{Level, Reason},
};

use super::{
    Aim, Doing, FaultError, Harm, Means,
    helper::{Helper, Undo},
};
use crate::drill::{
    control::Control,
    limiter::{Former, Limits},
    processes::Known,
};

/// A limiter that is ready.
struct Ready<'a> {
    limiter: Helper,
    control: &'a Control,
}

impl Undo for Limits {
    fn again(&self) -> Doing<'_, Result<(), String>> {
        Box::pin(async { self.lift() })
    }

    fn by_hand(&self) -> String {
        "kill the node process and the edge: the guard starts others, which are under no limit".to_owned()
    }
}

/// The limiter while the limit is in force.
struct Full(Option<Helper>);

/// Takes hold of the processes.
pub(super) async fn aim<'a>(node: u32, means: Means<'a>) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    let status = means.control.status_now().await.ok_or_else(|| FaultError::NoProcess("the stack".to_owned()))?;
    let edge = status.edge.map(|edge| edge.pid);
    let known: Vec<Known> = [Some(node), edge].into_iter().flatten().filter_map(Known::of).collect();
    let former = known.iter().map(|known| Former::of(*known)).collect::<Result<_, _>>();
    let undo = Box::new(Limits::of(former.map_err(|_| FaultError::Gone(node))?));
    let arguments: Vec<_> = known.iter().map(|known| known.to_string().into()).collect();
    let limiter = Helper::start(means.control.helpers(), "limiter", &arguments, undo).await?;
    Ok(Box::new(Ready { limiter, control: means.control }))
}

impl<'a> Aim<'a> for Ready<'a> {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let Self { mut limiter, control } = *self;
            let failed = |source| FaultError::Broken { name: "limiter", source };
            let said = limiter.order("limit").await.map_err(failed)?;
            let Some(count) = said.strip_prefix("limited ") else { return Err(FaultError::NotHere(said)) };
            let others = if count == "1" { "" } else { " and the edge" };
            let text = format!("the node process{others} can write no byte to files any more");
            let harm = Full(Some(limiter));
            control.record(&tried()).await;
            Ok((Box::new(harm) as Box<dyn Harm>, text))
        })
    }
}

/// The entry that cannot be written.
fn tried() -> NewEntry {
    NewEntry {
        subject: "drill".to_owned(),
        kind: "tried".to_owned(),
        message: "full-disk: an entry of the journal at a time when nothing can be written, on purpose".to_owned(),
        level: Level::Info,
        reasons: vec![Reason::rule("a disk to which nobody writes is full without anybody noticing")],
    }
}

impl Harm for Full {
    fn lasts(&self) -> bool {
        self.0.is_some()
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            if let Some(limiter) = self.0.take() {
                limiter.finish().await;
            }
        })
    }
}
