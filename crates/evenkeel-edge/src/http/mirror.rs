//! Mirroring: copies of requests to another service, to see how it bears them.
//!
//! A copy is sent once the original has been answered, by a task of its own that the client's connection never waits
//! for: once, to an instance that is healthy and has proven itself, over the thread's idle connections or a new one. The
//! answer is read and dropped. How many copies a thread has under way is bounded; beyond that they are dropped and
//! counted. What becomes of a copy says nothing about an instance, and enters no count of requests, turn or stickiness.

use std::{io, mem::MaybeUninit, rc::Rc, time::Duration};

use evenkeel_core::{snapshot::Duty, status::Health};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_local,
    time::timeout,
};

use super::{
    exchange::Outcome, fields::MOST_FIELDS, framing::Body, head_request::FieldRoom, head_response, request::Request,
};
use crate::{
    clock,
    local::{InstanceLocal, ServiceLocal},
    thread::Thread,
};

/// Most copies to one service that a thread has under way.
const MOST: u64 = 64;
/// How much of an answer is read; the connection of a longer one is closed.
const ANSWER_BYTES: usize = 1 << 20;
/// What a copy has, so that whoever gets it can tell it from an original. It is no proof: a client may send it too.
const MARK: &[u8] = b"X-Mirrored: 1\r\n";

/// A copy that waits for its original.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(super) to: Rc<ServiceLocal>,
    message: Vec<u8>,
    to_head: bool,
}

/// Keeps a copy of a request that is to be mirrored, before an answer takes its place. One that is not whole is too
/// large to be copied.
pub(crate) fn keep(request: &mut Request) {
    let Some(extras) = &mut request.extras else { return };
    let Some(to) = extras.mirror.take() else { return };
    let end = request.out.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 2);
    let Some(end) = end.filter(|_| request.complete && !request.passed_on) else {
        to.cell().mirror_skipped.add(1);
        return;
    };
    let (head, rest) = request.out.split_at(end);
    let message = [head, MARK, rest].concat();
    extras.copy = Some(Box::new(Copy { to, message, to_head: request.to_head }));
}

/// Takes the copy of a request that has ended; `None` if there is none, or nobody got the original.
pub(crate) fn take(request: &mut Request, outcome: Outcome) -> Option<Box<Copy>> {
    let copy = request.extras.as_mut()?.copy.take();
    copy.filter(|_| request.tries > 0 && outcome.status != 0)
}

/// Sends a copy, if there is room for one more.
pub(crate) fn send(thread: &Rc<Thread>, mut copy: Box<Copy>) {
    // The original may have taken long: whoever was there when it came may be gone.
    thread.refresh(&mut copy.to);
    let cell = copy.to.cell();
    let instance = Rc::clone(match choose(&copy.to, cell.mirrored.get()) {
        Some(instance) if cell.mirroring.get() < MOST => instance,
        _ => return cell.mirror_skipped.add(1),
    });
    cell.mirrored.add(1);
    let way = UnderWay::new(Rc::clone(&copy.to));
    let thread = Rc::clone(thread);
    spawn_local(async move {
        let limits = &copy.to.config().limits;
        let bound_ms = limits.connect_timeout_ms.saturating_add(limits.response_timeout_ms);
        let sent = timeout(Duration::from_millis(bound_ms), converse(&thread, &copy, &instance)).await;
        if !matches!(sent, Ok(Ok(()))) {
            copy.to.cell().mirror_failed.add(1);
        }
        drop(way);
    });
}

/// A copy under way; dropping it ends that.
struct UnderWay(Rc<ServiceLocal>);

impl UnderWay {
    fn new(to: Rc<ServiceLocal>) -> Self {
        to.cell().mirroring.add(1);
        Self(to)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let cell = self.0.cell();
        cell.mirroring.set(cell.mirroring.get().saturating_sub(1));
    }
}

/// In turn among those that serve, are not on trial, and below their bound. The service's own way of choosing is left
/// alone: it remembers whom it chose.
fn choose(service: &ServiceLocal, turn: u64) -> Option<&Rc<InstanceLocal>> {
    let view = service.view();
    if view.config.wire.fastcgi.is_some() || view.config.wire.sends_proxy.is_some() {
        return None;
    }
    let most = view.config.limits.in_flight_per_instance;
    let serves = |place: &usize| {
        let (instance, shared) = (&view.instances[*place], &view.instances[*place].shared);
        let free = most == 0 || shared.in_flight.load(std::sync::atomic::Ordering::Relaxed) < most;
        instance.duty == Duty::Serve && !instance.trial && shared.health() == Health::Healthy && free
    };
    let count = view.instances.len();
    let first = usize::try_from(turn % (count.max(1) as u64)).expect("it is below a number of instances");
    (first..count).chain(0..first).find(serves).map(|place| &service.instances[place])
}

async fn converse(thread: &Thread, copy: &Copy, instance: &InstanceLocal) -> io::Result<()> {
    let limits = &copy.to.config().limits;
    let mut stream = match instance.pool.take(true) {
        Some(stream) => stream,
        None => connect(instance, limits.connect_timeout_ms).await?,
    };
    stream.write_all(&copy.message).await?;
    let mut answer = Answer { at_hand: Vec::with_capacity(4096), read_bytes: 0, body: None };
    loop {
        let count = stream.read_buf(&mut answer.at_hand).await?;
        match answer.digest(copy, count)? {
            None => {}
            Some(reusable) => {
                if reusable && instance.shared.health() == Health::Healthy {
                    let now_ms = clock::millis(thread.now());
                    instance.pool.give(stream, limits.idle_connections, now_ms, copy.to_head);
                }
                return Ok(());
            }
        }
    }
}

async fn connect(instance: &InstanceLocal, bound_ms: u64) -> io::Result<TcpStream> {
    let address = instance.shared.resolved().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let stream = timeout(Duration::from_millis(bound_ms), TcpStream::connect(address)).await??;
    // Without it small messages could wait for acknowledgements; with a failure here they merely do.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// An answer on its way to nowhere.
struct Answer {
    at_hand: Vec<u8>,
    read_bytes: usize,
    /// What remains of the body, once its head was understood, and whether the connection may be used again after it.
    body: Option<(Body, bool)>,
}

impl Answer {
    /// Drops what came. `Some`: that was all, and whether the connection may be used again.
    fn digest(&mut self, copy: &Copy, count: usize) -> io::Result<Option<bool>> {
        self.read_bytes += count;
        while self.body.is_none() && self.read_head(copy)? {}
        let Some((body, keep_alive)) = &mut self.body else {
            return if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
        };
        if count == 0 {
            return if *body == Body::UntilClose { Ok(Some(false)) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let step = body.advance(&self.at_hand).map_err(|_| io::ErrorKind::InvalidData)?;
        let (done, left) = (step.done, self.at_hand.len() > step.taken);
        self.at_hand.drain(..step.taken);
        if done {
            return Ok(Some(*keep_alive && !left));
        }
        Ok((self.read_bytes > ANSWER_BYTES).then_some(false))
    }

    /// Understands a head. Returns whether it was an interim one, after which another follows.
    fn read_head(&mut self, copy: &Copy) -> io::Result<bool> {
        let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let parsed = head_response::parse(&self.at_hand, &mut room, &copy.to.config().limits, copy.to_head);
        let Some(head) = parsed.map_err(|_| io::ErrorKind::InvalidData)? else {
            return Ok(false);
        };
        if head.is_upgrade() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (length, interim) = (head.length, head.is_interim());
        let body = (!interim).then_some((head.body, head.keep_alive));
        self.body = body;
        self.at_hand.drain(..length);
        Ok(interim)
    }
}
