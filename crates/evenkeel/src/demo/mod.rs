//! `keel demo`: everything at once, with nothing installed but this binary.
//!
//! This process is only the front. It writes a stack file whose service is the shop inside the binary, starts
//! `keel up` in a process group of its own, waits until the shop is up, sends visitors through the edge and shows
//! in one line how they fare. A Ctrl-C ends the visitors, then the stack; a death of the front ends the stack as
//! well. What keeps the shop up is the same code that keeps any stack up.

mod child;
mod keeper;
mod shop;
mod show;
mod stack;
mod tally;
mod traffic;

pub(crate) use self::shop::shop;

use std::{
    io::IsTerminal,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use evenkeel_core::access::Role;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use self::{child::Child, show::Show, stack::Ports, tally::Tally};
use crate::{
    api::Api,
    command::console::{self, Link},
    context::Context,
    failure::{Exit, Failure},
    port,
    running::Running,
    start::announce::{is_up, progress},
};

/// How long the shop may take to come up.
const UP_WITHIN: Duration = Duration::from_mins(1);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What was asked for.
pub(crate) struct Wanted {
    /// Port of the shop.
    pub(crate) port: Option<u16>,
    /// Address of the console.
    pub(crate) console: Option<SocketAddr>,
    /// Whether visitors come.
    pub(crate) traffic: bool,
    /// How long; until it is stopped otherwise.
    pub(crate) duration: Option<Duration>,
}

/// Runs the demo until it is stopped.
pub(crate) async fn run(wanted: Wanted, context: &Context) -> Result<Exit, Failure> {
    let dir = context.state_dir.clone().unwrap_or_else(|| context.places.demo_dir());
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    if let Some(running) = Running::in_dir(&dir) {
        return already(&running, context);
    }
    let fix = "stop it, or choose another port: keel demo --port N";
    let ports = Ports {
        // Only the default may be sought: a port that somebody asked for is that one or none.
        shop: port::choose(Some(wanted.port.unwrap_or(8080)), 8080, fix)?,
        console: match wanted.console {
            Some(address) => {
                port::must_be_free(address, "stop it, or choose another address with --console")?;
                address
            }
            None => (Ipv4Addr::LOCALHOST, port::choose(None, 9400, "choose an address with --console")?).into(),
        },
    };
    let mut stop = Stop::new(wanted.duration)?;
    let dir = context.places.make_state_dir(&dir)?;
    let runtime_dir = context.places.make_runtime_dir(&dir)?;
    let mut child = Child::start(&dir, &runtime_dir, &stack::text(&dir, ports)?)?;
    let begun = Instant::now();
    let running = match await_up(&mut child, &dir, &mut stop, context).await {
        Ok(Some(running)) => running,
        Ok(None) => {
            finish(&mut child, &mut stop, context).await?;
            return Ok(Exit::Done);
        }
        Err(failure) => {
            // What went wrong is known already; how the rest ends adds nothing.
            let _ = finish(&mut child, &mut stop, context).await;
            return Err(failure);
        }
    };
    let took = begun.elapsed();
    // A stack without it is up all the same.
    let link = console::link(Role::Admin, &running).await.ok();
    say_up(&running, ports, link.as_ref(), took, context)?;
    let ended = show_until_stopped(&wanted, ports, &running, &mut child, &mut stop, context).await;
    let finished = finish(&mut child, &mut stop, context).await;
    let tally = ended?;
    finished?;
    if wanted.traffic {
        show::summary(&tally, context)?;
    }
    Ok(Exit::Done)
}

/// Visitors come and the line is shown until somebody stops the demo or the stack ends by itself.
async fn show_until_stopped(
    wanted: &Wanted,
    ports: Ports,
    running: &Running,
    child: &mut Child,
    stop: &mut Stop,
    context: &Context,
) -> Result<Tally, Failure> {
    let tally = Tally::default();
    let (end, ended) = watch::channel(false);
    let visitors = wanted.traffic.then(|| traffic::start(ports.shop, &tally, &ended));
    let show = Show::new(Api::of(running), wanted.traffic, context);
    let result = show_while_it_lives(&show, &tally, child, stop, context).await;
    // Requests on their way come to their end before the stack does, so that stopping costs none of them.
    let _ = end.send(true);
    if let Some(visitors) = visitors {
        visitors.finish().await;
    }
    result.map(|()| tally)
}

/// Shows the line until somebody stops the demo or the stack ends by itself. A stack that is killed is started again.
async fn show_while_it_lives(
    show: &Show<'_>,
    tally: &Tally,
    child: &mut Child,
    stop: &mut Stop,
    context: &Context,
) -> Result<(), Failure> {
    let mut showing = std::pin::pin!(show.run(tally));
    loop {
        let exit = tokio::select! {
            shown = &mut showing => return shown,
            () = stop.asked() => return Ok(()),
            exit = child.exited() => exit,
        };
        if exit.success() {
            return Ok(());
        }
        // Where nobody reads any more, the stack is to go on all the same.
        let _ = say_again(&child.start_again(exit)?, context);
    }
}

/// Waits until the shop is up. `None`: somebody stopped the demo meanwhile.
async fn await_up(
    child: &mut Child,
    dir: &std::path::Path,
    stop: &mut Stop,
    context: &Context,
) -> Result<Option<Running>, Failure> {
    let bar = spinner("starting the shop");
    let deadline = Instant::now() + UP_WITHIN;
    if !context.json && !std::io::stderr().is_terminal() {
        context.line("starting the shop")?;
    }
    loop {
        if let Some(running) = Running::in_dir(dir)
            && let Ok(status) = Api::of(&running).status_now().await
        {
            if is_up(&status) {
                bar.finish_and_clear();
                return Ok(Some(running));
            }
            bar.set_message(progress(&status));
        }
        bar.tick();
        tokio::select! {
            () = stop.asked() => return Ok(None),
            exit = child.exited() => {
                bar.finish_and_clear();
                return Err(child.failed(exit));
            }
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
        if Instant::now() > deadline {
            bar.finish_and_clear();
            return Err(child.stuck(UP_WITHIN));
        }
    }
}

/// Ends the stack and waits for it; a second Ctrl-C ends it at once.
async fn finish(child: &mut Child, stop: &mut Stop, context: &Context) -> Result<(), Failure> {
    if child.has_exited() {
        return Ok(());
    }
    let bar = spinner("stopping: instances finish what they have (Ctrl-C again kills them)");
    if !context.json && bar.is_hidden() {
        // Where nobody reads any more, the stack is to be stopped all the same.
        let _ = context.line("stopping");
    }
    child.terminate();
    let mut forced = false;
    let exit = loop {
        bar.tick();
        tokio::select! {
            exit = child.exited() => break exit,
            () = stop.signalled(), if !forced => {
                forced = true;
                bar.set_message("killing what is left");
                child.terminate();
            }
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    };
    bar.finish_and_clear();
    if exit.success() || forced { Ok(()) } else { Err(child.failed(exit)) }
}

fn spinner(message: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}  {elapsed}").expect("the template is valid"));
    bar.set_message(message.to_owned());
    bar
}

fn say_up(
    running: &Running,
    ports: Ports,
    link: Option<&Link>,
    took: Duration,
    context: &Context,
) -> Result<(), Failure> {
    if context.json {
        return context.json(&json!({
            "event": "up",
            "shop": format!("http://127.0.0.1:{}", ports.shop),
            "console": format!("http://{}", ports.console),
            "sign_in": link.map(|link| &link.url),
            "metrics": format!("http://{}/metrics", ports.console),
            "state_dir": running.state_dir,
            "pid": running.holder.pid,
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    let paint = context.paint;
    let shop = format!("http://127.0.0.1:{}", ports.shop);
    let another = context.command(&running.state_dir, "console");
    context.line(format!("{}  {}   (up after {:.1} s)", paint.bold("shop"), paint.good(&shop), took.as_secs_f64()))?;
    match link {
        Some(link) => {
            context.line(format!("{}  {}", paint.bold("console"), paint.good(&link.url)))?;
            let minutes = link.minutes();
            context.line(paint.dim(&format!("  opens once, within {minutes} minutes; another link: {another}")))?;
        }
        None => context.line(format!("console  {another}   (prints a link that opens it)"))?,
    }
    context.line(format!("metrics  http://{}/metrics", ports.console))?;
    context.line(format!("state  {}", running.state_dir.display()))?;
    context.next(
        &context.command(&running.state_dir, "drill run kill-instance"),
        "in another terminal: kills an instance under load and counts what clients see",
    )?;
    context.line(paint.dim("Ctrl-C stops everything"))
}

/// The stack was started again.
fn say_again(said: &str, context: &Context) -> Result<(), Failure> {
    if context.json {
        return context.json(&json!({ "event": "started-again", "why": said }));
    }
    context.line(said)
}

/// A second start finds the first.
fn already(running: &Running, context: &Context) -> Result<Exit, Failure> {
    let ports = stack::ports(&running.state_dir);
    if context.json {
        context.json(&json!({
            "event": "already-running",
            "shop": ports.map(|ports| format!("http://127.0.0.1:{}", ports.shop)),
            "console": ports.map(|ports| format!("http://{}", ports.console)),
            "metrics": ports.map(|ports| format!("http://{}/metrics", ports.console)),
            "state_dir": running.state_dir,
            "pid": running.holder.pid,
        }))?;
        return Ok(Exit::Done);
    }
    context.line("the demo runs already")?;
    if let Some(ports) = ports {
        context.line(format!("shop  http://127.0.0.1:{}", ports.shop))?;
        let console = context.command(&running.state_dir, "console");
        context.line(format!("console  {console}   (prints a link that opens it)"))?;
        context.line(format!("metrics  http://{}/metrics", ports.console))?;
    }
    context.line(format!("stop it with Ctrl-C in its terminal, or: kill {}", running.holder.pid))?;
    context.next(&context.command(&running.state_dir, "status"), "shows its instances")?;
    Ok(Exit::Done)
}

/// What stops a demo: Ctrl-C, SIGTERM, a terminal that is closed, or the end of its time.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    duration: Option<Duration>,
    begun: Instant,
}

impl Stop {
    fn new(duration: Option<Duration>) -> Result<Self, Failure> {
        let watch = |kind| signal(kind).map_err(|error| Failure::new("cannot watch for signals").because(error));
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
            duration,
            begun: Instant::now(),
        })
    }

    /// Somebody wants it to stop, or its time is over.
    async fn asked(&mut self) {
        let left = self.duration.map(|duration| duration.saturating_sub(self.begun.elapsed()));
        tokio::select! {
            () = self.signalled() => {}
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {}
        }
    }

    /// Somebody wants it to stop.
    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// The binary that runs, by a path that instances can be started from again.
fn own_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new("cannot tell where this program lies").because(error))
}
