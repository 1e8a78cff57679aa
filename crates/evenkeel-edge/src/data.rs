//! The data threads: each with its own runtime, listeners, pools and counters.
//!
//! A thread accepts, serves, and between two system calls carries out orders of the control thread. It shares
//! memory with others only through [`crate::shared`] and holds no lock while a request is served.

use std::{
    collections::HashMap, io, net::TcpListener as StdListener, os::fd::OwnedFd, rc::Rc, sync::Arc, time::Duration,
};

use evenkeel_core::{snapshot::Duty, status::Health};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{AbortHandle, spawn_local},
    time::{sleep, sleep_until},
};

use crate::{
    clock, hold,
    http::{self, client::Client},
    local::{InstanceLocal, LocalView},
    messages::{Ack, NOTICES, Notice, Threads, ToThread},
    shared::{EdgeShared, InstanceShared},
    slots::NEVER_MS,
    thread::Thread,
};

/// How long a listener pauses when it cannot accept: no descriptor is left, or it does not listen any more.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
            match order {
                ToThread::View(view) => {
                    let version = view.version;
                    let former = self.thread.view();
                    let local = LocalView::new(view, former.as_deref(), self.thread.index);
                    self.thread.set_view(local);
                    self.refresh_pools(|_| true);
                    self.wake_all_held();
                    self.thread.view_changed.notify_waiters();
                    let _ = self.acks.send(Ack::Serving { thread: self.thread.index, version });
                }
                ToThread::Open { name, socket } => self.open(name, socket),
                ToThread::Close { name } => {
                    if let Some(task) = self.listeners.remove(&name) {
                        task.abort();
                    }
                }
                ToThread::Changed(instance) => {
                    self.refresh_pool(&instance);
                    self.wake_all_held();
                }
                ToThread::Abandon(instance) => self.abandon(&instance),
                ToThread::SlotFree(service) => hold::slot_offered(&self.thread, &service),
                ToThread::Terminate { grace_ms } => return self.terminate(grace_ms).await,
            }
        }
    }

    fn open(&mut self, name: String, socket: OwnedFd) {
        let listener = StdListener::from(socket);
        let made = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
        match made {
            Ok(listener) => {
                let task = spawn_local(accept(Rc::clone(&self.thread), listener, name.as_str().into()));
                if let Some(former) = self.listeners.insert(name, task.abort_handle()) {
                    former.abort();
                }
            }
            Err(error) => tracing::error!(listener = name, %error, "cannot accept on a listener"),
        }
    }

    /// Idle connections to instances that are not healthy, or not there under that address, are of no use.
    fn refresh_pools(&self, concerns: impl Fn(&InstanceLocal) -> bool) {
        let Some(view) = self.thread.view() else { return };
        let all = view.services.iter().flat_map(|service| service.instances.iter().zip(&service.view().instances));
        for (instance, config) in all.filter(|(instance, _)| concerns(instance)) {
            instance.pool.readdress(instance.shared.resolved());
            if instance.shared.health() != Health::Healthy || config.duty == Duty::Drain {
                instance.pool.clear();
            }
        }
    }

    fn refresh_pool(&self, shared: &Arc<InstanceShared>) {
        self.refresh_pools(|instance| Arc::ptr_eq(&instance.shared, shared));
    }

    fn wake_all_held(&self) {
        for service in self.thread.view().iter().flat_map(|view| &view.services) {
            service.queue.wake_first();
        }
    }

    fn abandon(&self, instance: &Arc<InstanceShared>) {
        self.refresh_pool(instance);
        let now_ms = clock::millis(self.thread.read_clock());
        let quiet_ms = instance.last_received_ms().map_or(u64::MAX, |last| now_ms.saturating_sub(last));
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
                    Some(ToThread::SlotFree(service)) => hold::slot_offered(&self.thread, &service),
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

/// Accepts on one socket, as many connections as its listener's limits allow this thread.
async fn accept(thread: Rc<Thread>, listener: TcpListener, name: Rc<str>) {
    let open = Rc::new(std::cell::Cell::new(0u32));
    loop {
        let Some(share) = share(&thread, &name) else {
            let changed = thread.view_changed.notified();
            if share(&thread, &name).is_none() {
                changed.await;
            }
            continue;
        };
        if open.get() >= share {
            tokio::select! {
                () = thread.connection_closed.notified() => {}
                () = thread.view_changed.notified() => {}
            }
            continue;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it small answers could wait for acknowledgements; with a failure here they merely do.
                let _ = stream.set_nodelay(true);
                let Some(client) = Client::new(Rc::clone(&thread), stream, peer, Rc::clone(&name)) else {
                    continue;
                };
                open.set(open.get() + 1);
                let open = Rc::clone(&open);
                spawn_local(async move {
                    let counted = Counted(open);
                    http::serve(client).await;
                    drop(counted);
                });
            }
            Err(error) if is_exhausted(&error) => {
                tracing::warn!(%error, listener = &*name, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
            // The client was faster than we were.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Whatever it is, the guard's end of listening among it: asking again at once would not mend it.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// How many connections of a listener this thread may have. The kernel spreads them over all threads.
fn share(thread: &Thread, name: &str) -> Option<u32> {
    let view = thread.view()?;
    let connections = view.view.listener(name)?.config.limits.connections;
    let threads = u32::try_from(thread.peers.len()).unwrap_or(1).max(1);
    Some(connections.div_ceil(threads).max(1))
}

fn is_exhausted(error: &io::Error) -> bool {
    let numbers =
        [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOMEM, rustix::io::Errno::NOBUFS];
    error.raw_os_error().is_some_and(|number| numbers.iter().any(|known| known.raw_os_error() == number))
}

/// Counts a connection down when its task ends, however it ends.
struct Counted(Rc<std::cell::Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
