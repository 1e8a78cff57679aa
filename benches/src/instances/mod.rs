//! The instances behind every contender: the least that answers HTTP, so that the load's core has room.
//!
//! `GET /` is answered with 1 KiB, `GET /large` with 1 MiB, and `POST /post/N` with 1 KiB once a body of exactly N bytes
//! has come; whatever else comes gets 400, which the load counts as an error. All of them run on one thread, which
//! owns every connection. An instance leaves the closing of a connection to whoever opened it.

mod connection;

use std::{
    io,
    net::TcpListener,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rustix::{
    event::epoll,
    fd::{AsRawFd, OwnedFd},
};

use crate::cpu_set;
use connection::{Answers, Connection};

/// All of them.
pub struct Instances {
    pub ports: Vec<u16>,
    answered: Arc<AtomicU64>,
}

impl Instances {
    /// How many requests have been answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

/// Starts `count` instances on one thread of `core`.
pub fn start(count: usize, core: usize) -> io::Result<Instances> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports = listeners.iter().map(|l| l.local_addr().map(|a| a.port())).collect::<Result<_, _>>()?;
    let answered = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&answered);
    thread::spawn(move || {
        cpu_set::pin(core);
        if let Err(error) = serve(&listeners, &counter) {
            eprintln!("the instances ended: {error}");
            std::process::exit(1);
        }
    });
    Ok(Instances { ports, answered })
}

fn serve(listeners: &[TcpListener], answered: &AtomicU64) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        epoll::add(&poll, listener, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
    }
    let answers = Answers::new(answered);
    let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        // A process that was stopped and goes on has not failed.
        let ready = rustix::io::retry_on_intr(|| epoll::wait(&poll, &mut events, None))?;
        for event in &events[..ready] {
            let token = usize::try_from(event.data.u64()).expect("tokens are small");
            if let Some(listener) = listeners.get(token) {
                accept(listener, &poll, listeners.len(), &mut connections)?;
            } else {
                let slot = &mut connections[token - listeners.len()];
                if !slot.as_mut().is_some_and(|connection| connection.go_on(&mut buffer, &answers)) {
                    *slot = None;
                }
            }
        }
    }
}

/// Edge-triggered, both ways: no call is needed to change what a connection waits for.
fn accept(
    listener: &TcpListener,
    poll: &OwnedFd,
    offset: usize,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let fd = OwnedFd::from(stream);
        let index = usize::try_from(fd.as_raw_fd()).expect("descriptors are not negative");
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(poll, fd.as_fd(), epoll::EventData::new_u64((index + offset) as u64), interest)?;
        connections[index] = Some(Connection::new(fd));
    }
    Ok(())
}
