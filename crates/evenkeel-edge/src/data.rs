//! The data threads: each with its own runtime, listeners, pools and counters.
//!
//! A thread accepts, serves, and between two system calls carries out orders of the control thread. It shares
//! memory with others only through [`crate::shared`] and holds no lock while a request is served.

use std::{
    collections::HashMap,
    io,
    net::{TcpListener as StdListener, UdpSocket as StdUdpSocket},
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use evenkeel_core::snapshot::Protocol;
use rustix::net::SocketType;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::mpsc,
    task::{AbortHandle, spawn_local, yield_now},
    time::{sleep, sleep_until},
};

use crate::{
    accept, clock, hold,
    local::LocalView,
    messages::{Ack, NOTICES, Notice, Threads, ToThread},
    shared::{EdgeShared, InstanceShared},
    slots::NEVER_MS,
    stream,
    thread::Thread,
    view::View,
};

/// Orders that are carried out before others get a turn.
const ORDERS: usize = 64;

/// Instances that are made anew before others get a turn: less than a millisecond's work.
const PORTION: usize = 512;

/// Starts the data threads. They wait for listeners and a view.
pub fn spawn(count: usize) -> io::Result<Threads> {
    let shared = Arc::new(EdgeShared::new(count));
    let (acks_in, acks) = mpsc::unbounded_channel();
    let (notices_in, notices) = mpsc::channel(NOTICES);
    let (orders, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let mut joins = Vec::with_capacity(count);
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let (shared, peers) = (Arc::clone(&shared), orders.clone());
        let (acks, notices) = (acks_in.clone(), notices_in.clone());
        let named = std::thread::Builder::new().name(format!("edge-{index}"));
        joins.push(named.spawn(move || run(runtime, index, shared, peers, inbox, &acks, notices))?);
    }
    Ok(Threads { orders, acks, notices, shared, joins })
}

fn run(
    mut runtime: tokio::runtime::Builder,
    index: usize,
    shared: Arc<EdgeShared>,
    peers: Vec<mpsc::UnboundedSender<ToThread>>,
    inbox: mpsc::UnboundedReceiver<ToThread>,
    acks: &mpsc::UnboundedSender<Ack>,
    notices: mpsc::Sender<Notice>,
) {
    let runtime = match runtime.enable_all().build_local(tokio::runtime::LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            // An edge that cannot serve must not look as if it could: its guard starts another one.
            tracing::error!(%error, "a data thread has no runtime");
            std::process::exit(70);
        }
    };
    let cell = Arc::clone(&shared);
    let thread = Rc::new(Thread::new(index, shared, peers, notices));
    runtime.block_on(Orders { thread, inbox, acks, listeners: HashMap::new() }.carry_out());
    drop(runtime);
    cell.threads[index].0.ended.store(true, std::sync::atomic::Ordering::Relaxed);
    // Without a control thread nobody waits for this.
    let _ = acks.send(Ack::Ended { thread: index });
}

/// The root task of a data thread.
struct Orders<'a> {
    thread: Rc<Thread>,
    inbox: mpsc::UnboundedReceiver<ToThread>,
    acks: &'a mpsc::UnboundedSender<Ack>,
    listeners: HashMap<String, AbortHandle>,
}

impl Orders<'_> {
    /// Until told to end.
    async fn carry_out(mut self) {
        spawn_local(tick(Rc::clone(&self.thread)));
        while let Some(order) = self.inbox.recv().await {
            let (mut next, mut left, mut changed) = (Some(order), ORDERS, false);
            // Many orders at once wake whoever is held once.
            while let Some(order) = next.take() {
                match order {
                    ToThread::Changed(instance) => {
                        self.refresh_pool(&instance);
                        changed = true;
                    }
                    ToThread::View(view) => self.take_over(view).await,
                    ToThread::Open { name, socket } => self.open(name, socket),
                    ToThread::Close { name } => {
                        if let Some(task) = self.listeners.remove(&name) {
                            task.abort();
                        }
                    }
                    ToThread::Abandon(instance) => self.abandon(&instance),
                    ToThread::Removed(instance) => self.move_off(&instance, u64::MAX),
                    ToThread::SlotFree(service) => hold::slot_offered(&self.thread, &service),
                    ToThread::Accepted(accepted) => accept::take_over(&self.thread, accepted),
                    ToThread::Terminate { grace_ms } => return self.terminate(grace_ms).await,
                }
                left -= 1;
                next = (left > 0).then(|| self.inbox.try_recv().ok()).flatten();
            }
            if changed {
                self.wake_all_held();
            }
        }
    }

    /// Serves by this view from now on. Services that changed are made anew between requests, a few at a time.
    async fn take_over(&self, view: Arc<View>) {
        let version = view.version;
        let former = self.thread.view();
        let local = LocalView::new(view, former.as_deref(), self.thread.index);
        drop(former);
        self.thread.set_view(local);
        self.thread.view_changed.notify_waiters();
        if let Some(view) = self.thread.view() {
            let mut portion = 0;
            while let Some(instances) = view.services.make_changed() {
                portion += 1 + instances;
                if portion >= PORTION {
                    portion = 0;
                    yield_now().await;
                }
            }
        }
        self.wake_all_held();
        let _ = self.acks.send(Ack::Serving { thread: self.thread.index, version });
    }

    fn open(&mut self, name: String, socket: OwnedFd) {
        match self.start(&name, socket) {
            Ok(task) => {
                if let Some(former) = self.listeners.insert(name, task) {
                    former.abort();
                }
            }
            Err(error) => tracing::error!(listener = name, %error, "cannot accept on a listener"),
        }
    }

    /// Serves one socket, of connections or of datagrams.
    fn start(&self, name: &str, socket: OwnedFd) -> io::Result<AbortHandle> {
        let thread = Rc::clone(&self.thread);
        let task = if rustix::net::sockopt::socket_type(&socket)? == SocketType::DGRAM {
            let socket = StdUdpSocket::from(socket);
            socket.set_nonblocking(true)?;
            spawn_local(stream::udp::serve(thread, UdpSocket::from_std(socket)?, name.into()))
        } else {
            let listener = StdListener::from(socket);
            listener.set_nonblocking(true)?;
            spawn_local(accept::accept(thread, TcpListener::from_std(listener)?, name.into()))
        };
        Ok(task.abort_handle())
    }

    fn refresh_pool(&self, shared: &Arc<InstanceShared>) {
        if let Some(view) = self.thread.view() {
            view.services.refresh(shared);
        }
    }

    fn wake_all_held(&self) {
        if let Some(view) = self.thread.view() {
            view.services.wake_held();
        }
    }

    fn abandon(&self, instance: &Arc<InstanceShared>) {
        self.refresh_pool(instance);
        let now_ms = clock::millis(self.thread.read_clock());
        self.move_off(instance, instance.last_received_ms().map_or(u64::MAX, |last| now_ms.saturating_sub(last)));
    }

    fn move_off(&self, instance: &Arc<InstanceShared>, quiet_ms: u64) {
        let now_ms = clock::millis(self.thread.read_clock());
        let requests = self.thread.slots.abandon(Arc::as_ptr(instance), now_ms, quiet_ms);
        if requests > 0 {
            self.thread.notify(Notice::Moved { instance: Arc::clone(instance), requests });
        }
    }

    /// Lets requests under way finish. The listening sockets stay open elsewhere, so nobody is refused.
    async fn terminate(mut self, grace_ms: u64) {
        self.thread.terminating.set(true);
        for (_, task) in self.listeners.drain() {
            task.abort();
        }
        self.thread.slots.close_idle();
        let finished = async {
            loop {
                let closed = self.thread.connection_closed.notified();
                if self.thread.slots.count() == 0 {
                    break;
                }
                closed.await;
            }
        };
        tokio::pin!(finished);
        let end = sleep(Duration::from_millis(grace_ms));
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut finished => return,
                () = &mut end => return,
                order = self.inbox.recv() => match order {
                    Some(ToThread::Abandon(instance)) => self.abandon(&instance),
                    Some(ToThread::Removed(instance)) => self.move_off(&instance, u64::MAX),
                    Some(ToThread::SlotFree(service)) => hold::slot_offered(&self.thread, &service),
                    Some(ToThread::Accepted(accepted)) => accept::take_over(&self.thread, accepted),
                    Some(_) => self.wake_all_held(),
                    None => return,
                }
            }
        }
    }
}

/// Ends waits that took too long and tidies up, as seldom as deadlines permit.
async fn tick(thread: Rc<Thread>) {
    let mut tidied_ms = 0;
    loop {
        let next_ms = thread.slots.next_scan_ms();
        if next_ms == NEVER_MS {
            thread.slots.hurried().await;
            continue;
        }
        let now_ms = clock::millis(thread.read_clock());
        let wait = Duration::from_millis(next_ms.saturating_sub(now_ms));
        tokio::select! {
            biased;
            () = sleep_until(tokio::time::Instant::now() + wait), if !wait.is_zero() => {}
            () = thread.slots.hurried(), if !wait.is_zero() => continue,
            () = std::future::ready(()), if wait.is_zero() => {}
        }
        let now_ms = clock::millis(thread.read_clock());
        thread.slots.scan(now_ms);
        if now_ms >= tidied_ms + 1000 {
            tidied_ms = now_ms;
            thread.tidy();
        }
    }
}

/// How many connections of a listener this thread may have, or clients, where it is one of datagrams. The kernel spreads
/// them over all threads. `None`: the view does not know it, or not for such a socket.
pub(crate) fn share(thread: &Thread, name: &str, datagrams: bool) -> Option<u32> {
    let view = thread.view()?;
    let config = &view.view.listener(name)?.config;
    if (config.protocol == Protocol::Udp) != datagrams {
        return None;
    }
    let connections = config.limits.connections;
    let threads = u32::try_from(thread.peers.len()).unwrap_or(1).max(1);
    Some(connections.div_ceil(threads).max(1))
}
