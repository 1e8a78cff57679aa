//! The control thread: everything in the edge that is not a request.
//!
//! It listens to the guard (descriptors, the order to end), to the node process (snapshots), to probes, to the
//! resolver and to what data threads note; it looks at their counters on a tick; and it acts on them by a new
//! view, a changed health or an abandoned instance. It runs on a tokio runtime of its own and never waits for
//! anybody: not for a node process that does not read, nor for a data thread, nor for a probe.
//!
//! | part | its concern |
//! | --- | --- |
//! | `guard`, `link` | bytes to messages |
//! | `apply` | a snapshot becomes what every thread serves |
//! | `fleet`, `group`, `member`, `checking`, `traffic` | which instances get requests |
//! | `habits`, `kernel` | what was usual lately, and what the kernel says, of an instance that is quiet |
//! | `pace` | how often, with very many instances |
//! | `aside` | whether somebody else answers for a service |
//! | `resolve` | host names of instances |
//! | `limits` | whose clients ask more often than they may |
//! | `events`, `counters` | what the node process is told |
//! | `hands` | effects |

mod apply;
mod aside;
mod checking;
mod counters;
mod events;
mod fleet;
mod group;
mod guard;
mod habits;
mod hands;
mod kernel;
mod limits;
mod link;
mod member;
mod pace;
mod resolve;
mod traffic;

use std::{future::pending, io, os::fd::OwnedFd, sync::atomic::Ordering::Relaxed, time::Duration};

use evenkeel_core::{
    guard::EdgeNotice,
    link::{Event, EventKind, ToEdge, ToNode, VERSION},
    time::Moment,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

pub use self::guard::ChannelError;
use self::{
    apply::{Applying, Sockets},
    fleet::Fleet,
    guard::Channel,
    hands::{Done, Hands},
    limits::LimitWatch,
    link::{Link, LinkError},
    resolve::{Resolved, Resolver},
};
use crate::{
    clock,
    messages::{Ack, Notice, Threads, ToThread},
};

/// How often traffic is looked at. Larger fleets are looked at less often, up to five times.
const TICK: Duration = Duration::from_millis(20);

/// Something happens at least on every tick. Where nothing did for this long, this thread did not run: the machine
/// was suspended or overloaded, or something here took too long.
const SLEPT: Duration = Duration::from_millis(40);

/// How often the node process gets counters; with very many instances only every so many times.
const COUNTERS: Duration = Duration::from_millis(250);
const COUNTERS_APART: usize = 40;

/// What data threads may take longer than the grace that they were given.
const LATE: Duration = Duration::from_secs(1);

/// Why the edge ends.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// It was told to, and every request has finished or its grace is over.
    #[error("told to end")]
    Told,
    /// The guard is gone, and with it whoever could replace this process.
    #[error("the guard is gone")]
    GuardGone,
    /// The channel to the guard cannot be used.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A data thread could not be started, or its end was not asked for.
    #[error("a data thread failed: {0}")]
    Thread(#[source] io::Error),
    /// The runtime could not be started.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Serves until told to end, with this channel to the guard. Blocks the calling thread, which becomes the control
/// thread; data threads are started with the first snapshot.
pub fn serve(channel: OwnedFd) -> End {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(resolve::AT_ONCE + 2).build();
    match runtime {
        Ok(runtime) => {
            let end = runtime.block_on(async { Control::new(channel)?.run().await });
            // A resolver that hangs must not keep the process.
            runtime.shutdown_background();
            end.err().unwrap_or(End::Told)
        }
        Err(error) => End::Start(error),
    }
}

/// The control thread's state.
struct Control {
    guard: Channel,
    link: Option<Link>,
    threads: Option<Threads>,
    sockets: Sockets,
    applying: Applying,
    fleet: Fleet,
    hands: Hands,
    resolver: Resolver,
    done: mpsc::UnboundedReceiver<Done>,
    resolved: mpsc::UnboundedReceiver<Resolved>,
    /// When the process ends whatever still runs.
    ends: Option<Instant>,
    rejected_at: Option<Moment>,
    limits: LimitWatch,
}

/// What happened.
enum Happened {
    Guard(Result<Option<(EdgeNotice, Option<OwnedFd>)>, ChannelError>),
    Link(Result<ToEdge, LinkError>),
    Ack(Option<Ack>),
    Notice(Option<Notice>),
    Probed(Done),
    Resolved(Resolved),
    Tick,
    Counters,
    Due,
    Told,
    Over,
}

impl Control {
    fn new(channel: OwnedFd) -> Result<Self, End> {
        let (send_done, done) = mpsc::unbounded_channel();
        let (send_resolved, resolved) = mpsc::unbounded_channel();
        Ok(Self {
            guard: Channel::new(channel)?,
            link: None,
            threads: None,
            sockets: Sockets::default(),
            applying: Applying::default(),
            fleet: Fleet::default(),
            hands: Hands::new(send_done),
            resolver: Resolver::new(send_resolved),
            done,
            resolved,
            ends: None,
            rejected_at: None,
            limits: LimitWatch::default(),
        })
    }

    /// `Ok` when told to end; the error says why otherwise.
    async fn run(mut self) -> Result<(), End> {
        let end = self.serve().await;
        if let Some(threads) = &self.threads {
            // Whatever still runs there ends with the process; in a process that lives on it ends by this.
            threads.tell(|| ToThread::Terminate { grace_ms: 0 });
        }
        end
    }

    async fn serve(&mut self) -> Result<(), End> {
        let mut signals = Signals::new()?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counters = interval(COUNTERS);
        counters.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut ticks, mut counted) = (0_usize, 0_usize);
        let mut last = clock::now();
        loop {
            let happened = self.next(&mut signals, &mut tick, &mut counters).await;
            let now = clock::now();
            let since = now.since(std::mem::replace(&mut last, now));
            if since > SLEPT {
                self.fleet.overslept(since, now);
            }
            match happened {
                Happened::Guard(received) => match received? {
                    Some((notice, descriptor)) => self.guard_says(notice, descriptor, now)?,
                    None => return Err(End::GuardGone),
                },
                Happened::Link(received) => self.node_says(received, now)?,
                Happened::Ack(Some(ack)) => self.acknowledged(&ack, now),
                Happened::Notice(Some(notice)) => self.noted(notice, now),
                Happened::Ack(None) | Happened::Notice(None) if self.ends.is_some() => return Ok(()),
                Happened::Ack(None) | Happened::Notice(None) => return Err(thread_ended("all of them ended")),
                Happened::Probed(done) => self.fleet.probed(done, &mut self.hands, now),
                Happened::Resolved(resolved) => {
                    let changed = self.resolver.answered(&resolved);
                    self.fleet.resolved(&resolved, changed, &mut self.hands, now);
                }
                Happened::Tick => {
                    ticks += 1;
                    if ticks.is_multiple_of((1 + self.fleet.len() / 1_000).min(5)) {
                        self.tick(now)?;
                    }
                }
                Happened::Counters => {
                    counted += 1;
                    if counted >= (1 + self.fleet.len() / pace::AT_ONCE).min(COUNTERS_APART) {
                        counted = 0;
                        self.send_counters(now);
                    }
                }
                Happened::Due => {}
                Happened::Told => self.terminate(10_000),
                Happened::Over => return Ok(()),
            }
            if self.hands.events.due().is_some_and(|due| due <= now) {
                self.hands.events.flush(self.link.as_ref(), now);
            }
            if self.has_ended() {
                self.hands.events.flush(self.link.as_ref(), now);
                return Ok(());
            }
        }
    }

    /// Waits for the next thing to happen.
    async fn next(
        &mut self,
        signals: &mut Signals,
        tick: &mut tokio::time::Interval,
        counters: &mut tokio::time::Interval,
    ) -> Happened {
        let due = self.hands.events.due().map(|due| due.since(clock::now()));
        let ends = self.ends;
        let (acks, notices) = match &mut self.threads {
            Some(threads) => (Some(&mut threads.acks), Some(&mut threads.notices)),
            None => (None, None),
        };
        let link = &mut self.link;
        tokio::select! {
            received = self.guard.next() => Happened::Guard(received),
            received = async { match link { Some(link) => link.next().await, None => pending().await } } => Happened::Link(received),
            ack = async { match acks { Some(acks) => acks.recv().await, None => pending().await } } => Happened::Ack(ack),
            note = async { match notices { Some(notices) => notices.recv().await, None => pending().await } } => Happened::Notice(note),
            Some(done) = self.done.recv() => Happened::Probed(done),
            Some(resolved) = self.resolved.recv() => Happened::Resolved(resolved),
            _ = tick.tick() => Happened::Tick,
            _ = counters.tick() => Happened::Counters,
            () = async { match due { Some(due) => sleep(due).await, None => pending().await } } => Happened::Due,
            () = async { match ends { Some(ends) => sleep_until(ends).await, None => pending().await } } => Happened::Over,
            () = signals.terminate() => Happened::Told,
        }
    }

    fn guard_says(&mut self, notice: EdgeNotice, descriptor: Option<OwnedFd>, now: Moment) -> Result<(), End> {
        match (notice, descriptor) {
            (EdgeNotice::Held { key }, Some(descriptor)) => {
                self.sockets.hold(&key, descriptor, self.threads.as_ref());
                self.apply_waiting(now)?;
            }
            (EdgeNotice::Released { key }, _) => self.sockets.release(&key, self.threads.as_ref()),
            (EdgeNotice::Complete, _) => self.start_from_descriptor(now)?,
            (EdgeNotice::Link, Some(socket)) => self.takes_link(socket, now),
            (EdgeNotice::Terminate { grace_ms }, _) => self.terminate(grace_ms),
            (notice @ (EdgeNotice::Held { .. } | EdgeNotice::Link), None) => {
                tracing::error!(?notice, "the guard sent no descriptor with this");
            }
        }
        Ok(())
    }

    fn takes_link(&mut self, socket: OwnedFd, now: Moment) {
        let link = match Link::new(socket) {
            Ok(link) => link,
            Err(error) => {
                tracing::error!(%error, "cannot use the link to the node process; serving on");
                return;
            }
        };
        // The queue is empty: there is room.
        let _ = link.send(ToNode::Hello { version: VERSION, pid: std::process::id() });
        self.link = Some(link);
        if let Some(version) = self.applying.served() {
            self.hands.events.answer(ToNode::Applied { version }, now);
        }
        self.fleet.repeat(&mut self.hands, now);
        tracing::info!("a node process is there");
    }

    fn node_says(&mut self, received: Result<ToEdge, LinkError>, now: Moment) -> Result<(), End> {
        match received {
            Ok(ToEdge::Snapshot(snapshot)) => self.takes_snapshot(*snapshot, now)?,
            Ok(ToEdge::Checked(checked)) => self.fleet.told(checked, &mut self.hands, now),
            Err(reason) => {
                tracing::info!(%reason, "the link to the node process ended; serving on");
                self.link = None;
            }
        }
        Ok(())
    }

    fn noted(&mut self, notice: Notice, now: Moment) {
        let at = clock::wall();
        let hands = &mut self.hands;
        match notice {
            Notice::Failed { instance, failure } => self.fleet.failed(&instance, failure, hands, now),
            Notice::Moved { instance, requests } => self.fleet.moved(&instance, requests, hands, now),
            Notice::Rejected { status, reason } => {
                let sampled = self.rejected_at.is_none_or(|last| now.since(last) >= Duration::from_secs(1));
                if sampled {
                    self.rejected_at = Some(now);
                    let what = EventKind::Rejected { status, reason: reason.to_owned() };
                    hands.events.of_service("", what, at, now);
                }
            }
            Notice::Scarce { what, reason } => {
                hands.events.of_service("", EventKind::Scarce { what, reason }, at, now);
            }
            Notice::ProxyHeader { listener, peer, fault, reason } => {
                let (peer, reason) = (peer.to_string(), reason.to_owned());
                hands.events.of_service("", EventKind::ProxyHeader { listener, peer, fault, reason }, at, now);
            }
            // Each thread is sparing with them, and the node process again.
            Notice::Ambiguous { listener, client, request, kind, reported } => {
                let what = EventKind::Ambiguous { listener, client, request, kind, reported };
                hands.events.of_service("", what, at, now);
            }
            Notice::Retried { service, reason, instance, next, others } => {
                let what = EventKind::Retried { reason, next: Some(next.id.clone()), others };
                let instance = Some(instance.id.clone());
                hands.events.push(Event { at, instance, service: service.name.clone(), what }, now);
            }
            Notice::Complained { instance, text, cut, unsaid } => {
                let (instance, what) = (Some(instance.id.clone()), EventKind::Complained { text, cut, unsaid });
                hands.events.push(Event { at, instance, service: String::new(), what }, now);
            }
            Notice::HoldStarted { service, reason } => {
                let what = EventKind::HoldStarted { reason: self.fleet.why_nobody(&service.name, reason) };
                hands.events.of_service(&service.name, what, at, now);
            }
            Notice::HoldEnded { service, held, expired } => {
                hands.events.of_service(&service.name, EventKind::HoldEnded { held, expired }, at, now);
            }
            Notice::BudgetExhausted { service } => {
                hands.events.of_service(&service.name, EventKind::BudgetExhausted, at, now);
            }
        }
    }

    fn tick(&mut self, now: Moment) -> Result<(), End> {
        self.resolver.tick(now);
        self.applying.let_go();
        self.fleet.tick(self.applying.applied(), &mut self.hands, now);
        let (limits, events) = (&mut self.limits, &mut self.hands.events);
        let tell = |service: &str, what| events.of_service(service, what, clock::wall(), now);
        limits.tick(self.applying.limits(), now, tell);
        self.refuse_overdue(now)?;
        if let Some(threads) = &self.threads {
            let lost = threads.shared.threads.iter().map(|cell| cell.0.dropped_notices.get()).sum();
            self.hands.events.lost_in_threads(lost, now);
        }
        let ended = self.threads.iter().flat_map(|threads| &threads.joins).any(std::thread::JoinHandle::is_finished);
        if ended && self.ends.is_none() {
            return Err(thread_ended("one of them ended by itself"));
        }
        Ok(())
    }

    fn send_counters(&mut self, now: Moment) {
        // One set of counters replaces another: where the node process is slow, it gets fewer. They say what verdicts
        // rest on, so that they follow the verdicts: otherwise a check would seem to be passed by whom it takes out.
        if let (Some(link), Some(threads), Some(view)) = (&self.link, &self.threads, self.applying.view())
            && link.is_idle()
        {
            let counters = counters::collect(&threads.shared, view, self.fleet.basis());
            self.hands.events.flush_before(ToNode::Counters(Box::new(counters)), link, now);
        }
    }

    fn terminate(&mut self, grace_ms: u64) {
        tracing::info!(grace_ms, "finishing requests");
        let grace = Duration::from_millis(grace_ms);
        let ends = Instant::now() + if self.threads.is_some() { grace + LATE } else { Duration::ZERO };
        self.ends = Some(self.ends.map_or(ends, |earlier| earlier.min(ends)));
        if let Some(threads) = &self.threads {
            threads.shared.terminating.store(true, Relaxed);
            threads.tell(|| ToThread::Terminate { grace_ms });
        }
    }

    fn has_ended(&self) -> bool {
        let ended = |threads: &Threads| threads.shared.threads.iter().all(|cell| cell.0.ended.load(Relaxed));
        self.ends.is_some() && self.threads.as_ref().is_none_or(ended)
    }
}

fn thread_ended(what: &'static str) -> End {
    End::Thread(io::Error::other(what))
}

/// `SIGTERM` asks for an orderly end. What a terminal sends to a whole group (`SIGINT`, `SIGHUP`) is for the guard,
/// which then says what to do: it is caught and not acted upon.
struct Signals {
    term: tokio::signal::unix::Signal,
    _ignored: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let ignored = [signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
        Ok(Self { term: signal(SignalKind::terminate())?, _ignored: ignored })
    }

    async fn terminate(&mut self) {
        if self.term.recv().await.is_none() {
            pending::<()>().await;
        }
    }
}
