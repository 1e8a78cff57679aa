//! The instances behind every contender: the least that answers HTTP, so that the load's core has room.

use std::{io, net::TcpListener, os::fd::AsFd, thread};

use rustix::{
    event::epoll,
    fd::{AsRawFd, OwnedFd},
};

use crate::cpu_set;

/// Starts `count` instances on one thread of `core`; returns their ports.
pub fn start(count: usize, core: usize) -> io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports = listeners.iter().map(|l| l.local_addr().map(|a| a.port())).collect::<Result<_, _>>()?;
    thread::spawn(move || {
        cpu_set::pin(core);
        if let Err(error) = serve(&listeners) {
            eprintln!("the instances ended: {error}");
            std::process::exit(1);
        }
    });
    Ok(ports)
}

fn serve(listeners: &[TcpListener]) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections: Vec<Option<OwnedFd>> = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        epoll::add(&poll, listener, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
    }
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024));
    let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
    let mut buffer = [0u8; 16 * 1024];
    loop {
        let ready = epoll::wait(&poll, &mut events, None)?;
        for event in &events[..ready] {
            let token = usize::try_from(event.data.u64()).expect("tokens are small");
            if let Some(listener) = listeners.get(token) {
                accept(listener, &poll, listeners.len(), &mut connections)?;
            } else {
                let slot = &mut connections[token - listeners.len()];
                let open = slot.as_ref().is_some_and(|fd| exchange(fd, &mut buffer, answer.as_bytes()));
                if !open {
                    *slot = None;
                }
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &OwnedFd,
    offset: usize,
    connections: &mut Vec<Option<OwnedFd>>,
) -> io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let fd = OwnedFd::from(stream);
        let index = usize::try_from(fd.as_raw_fd()).expect("descriptors are not negative");
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        epoll::add(poll, fd.as_fd(), epoll::EventData::new_u64((index + offset) as u64), epoll::EventFlags::IN)?;
        connections[index] = Some(fd);
    }
    Ok(())
}

/// Answers every whole request in what can be read; false once the connection is over.
fn exchange(fd: &OwnedFd, buffer: &mut [u8], answer: &[u8]) -> bool {
    match rustix::io::read(fd, &mut *buffer) {
        Ok(0) => false,
        Ok(read) => {
            let requests = buffer[..read].windows(4).filter(|window| window == b"\r\n\r\n").count();
            (0..requests).all(|_| rustix::io::write(fd, answer).is_ok())
        }
        Err(error) => error == rustix::io::Errno::AGAIN,
    }
}
