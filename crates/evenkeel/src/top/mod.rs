//! `keel top`: the stack as it is from second to second, on a terminal.
//!
//! The loop takes keys, answers of the API and signals, changes the [`model`] and has the [`view`] draw it. The
//! terminal belongs to [`terminal`], which gives it back whatever happens. Nothing here changes the stack.

pub(crate) mod model;
mod processes;
mod terminal;
pub(crate) mod view;

use std::{future::Future, pin::Pin, time::Duration};

use evenkeel_core::{journal::Entry, status::Status};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, interval},
};

pub(crate) use self::processes::read as taken;
use self::{
    model::{Flow, Model},
    terminal::{Keys, Screen},
};
use crate::{
    api::{Api, Events},
    failure::Failure,
    http::{Ask, HttpError},
    running::Running,
};

/// How often the stack is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take before the last one is shown as old.
const WAIT: Duration = Duration::from_secs(2);
/// Events that are kept for showing.
const EVENTS: u32 = 200;

/// What the stack answered.
type Answered = Result<(Status, Vec<Entry>), HttpError>;

/// Asks once, with patience.
pub(crate) async fn ask(api: &Api) -> Result<(Status, Vec<Entry>), Failure> {
    let status = api.status().await?;
    let events: Events = api.get(&format!("/v1/events?limit={EVENTS}")).await?;
    Ok((status, events.entries))
}

/// Shows it until somebody has seen enough.
pub(crate) async fn watch(running: &Running, colours: bool) -> Result<(), Failure> {
    let mut model = Model::new(colours);
    let mut screen = Screen::open()?;
    let mut keys = Keys::start();
    let mut ended = ends();
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asking: Option<Pin<Box<dyn Future<Output = Answered>>>> = None;
    loop {
        screen.draw(&model)?;
        tokio::select! {
            key = keys.next() => match key.map(|key| model.key(key)) {
                Some(Flow::GoOn) => {}
                Some(Flow::Quit) | None => return Ok(()),
            },
            _ = tick.tick() => if asking.is_none() {
                asking = Some(Box::pin(ask_now(running.clone())));
            },
            answered = until(&mut asking) => {
                asking = None;
                match answered {
                    Ok((status, events)) => model.heard(status, events, Instant::now().into_std(), &processes::read),
                    Err(error) => model.missed(&error.to_string()),
                }
                if let Some(gone) = Api::of(running).end() {
                    return Err(gone);
                }
            },
            _ = ended.recv() => return Ok(()),
        }
    }
}

/// The answer that is awaited; never, where none is.
async fn until<T>(asking: &mut Option<Pin<Box<dyn Future<Output = T>>>>) -> T {
    match asking {
        Some(asking) => asking.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn ask_now(running: Running) -> Answered {
    let mut connection = running.connect().await?;
    let parse = |error: serde_json::Error| HttpError::Body(error.into());
    let status = connection.ask(Ask::get("/v1/status"), WAIT).await?;
    let status = serde_json::from_slice(&status.body).map_err(parse)?;
    let events = connection.ask(Ask::get(&format!("/v1/events?limit={EVENTS}")), WAIT).await?;
    let events: Events = serde_json::from_slice(&events.body).map_err(parse)?;
    Ok((status, events.entries))
}

/// Signals that end it in order, so that the terminal is given back.
fn ends() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    for kind in [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()] {
        let Ok(mut signals) = signal(kind) else { continue };
        let sender = sender.clone();
        tokio::spawn(async move {
            signals.recv().await;
            // It is full where another signal was first.
            let _ = sender.try_send(());
        });
    }
    receiver
}
