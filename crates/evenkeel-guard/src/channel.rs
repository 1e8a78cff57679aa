//! Packets and descriptors over a Unix socket pair of type `SOCK_SEQPACKET` (unix(7)).
//!
//! One message a packet, at most one descriptor beside it (`SCM_RIGHTS`). Nothing here waits: where the socket is
//! full or empty the caller is told so. Every descriptor is created close-on-exec, and so is each one received. A
//! packet that is empty, too long or carries more than one descriptor is malformed; what came with it is closed.

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use evenkeel_core::guard::{
    CHANNEL_FD, MAX_PACKET_BYTES,
    wire::{Malformed, Message},
};
use rustix::{
    io::{Errno, FdFlags},
    net::{
        self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};

/// What came out of a channel.
#[derive(Debug)]
pub enum Received<M> {
    /// A message and the descriptor that came with it.
    Message(M, Option<OwnedFd>),
    /// Nothing at the moment.
    Empty,
    /// The other side is gone; nothing will come any more.
    Closed,
    /// The other side sent what is no message.
    Malformed(Malformed),
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// The socket is full; try again when it is writable.
    Full,
}

/// Both ends of a new channel. The buffers are asked to hold at least two of the largest packets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for end in [&one, &other] {
        net::sockopt::set_socket_send_buffer_size(end, 2 * MAX_PACKET_BYTES)?;
    }
    Ok((one, other))
}

/// Both ends of a new link between node process and edge: a stream, non-blocking on both sides.
pub(crate) fn link() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// The channel that the guard gave this process at its start, made close-on-exec. `None` where there is none, and
/// from the second call on.
pub fn inherited() -> Option<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // SAFETY: the descriptor is borrowed for this one call only, which tells whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(CHANNEL_FD) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: it is open, was put there by the parent for this purpose, and nobody else took it.
    Some(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) })
}

/// Sends one packet without waiting.
///
/// # Errors
/// Whatever sendmsg(2) says, `EPIPE` when the other side is gone. No signal is raised.
pub fn send(socket: impl AsFd, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<Sent> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|fd| [fd]);
    if let Some(descriptors) = &descriptors {
        let pushed = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(pushed, "the buffer has room for one descriptor");
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        return match net::sendmsg(&socket, &[IoSlice::new(packet)], &mut control, flags) {
            Ok(_) => Ok(Sent::Yes),
            Err(Errno::INTR) => continue,
            // Too many descriptors in flight (ETOOMANYREFS, unix(7)) passes as the receiver takes them.
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::TOOMANYREFS) => Ok(Sent::Full),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Receives one packet without waiting.
///
/// # Errors
/// Whatever recvmsg(2) says, except that an empty socket and one closed by its other side are no errors.
pub fn receive<M: Message>(socket: impl AsFd) -> io::Result<Received<M>> {
    thread_local! {
        // Kept, since it is as large as the largest packet.
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_PACKET_BYTES]);
    }
    BUFFER.with_borrow_mut(|buffer| receive_into(buffer, socket.as_fd()))
}

fn receive_into<M: Message>(buffer: &mut [u8], socket: BorrowedFd<'_>) -> io::Result<Received<M>> {
    // Room for more than is permitted, so that a surplus is seen.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        match net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Ok(got) => break got,
            // A peer that closes with something unread is reported once as a reset, before what it had said itself;
            // that is still there to be read, and after it the end.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(Errno::AGAIN) => return Ok(Received::Empty),
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if got.bytes == 0 {
        return Ok(Received::Closed);
    }
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Received::Malformed(Malformed::TooLarge { bytes: got.bytes }));
    }
    if descriptors.len() > 1 {
        return Ok(Received::Malformed(Malformed::Descriptors));
    }
    Ok(match M::decode(&buffer[..got.bytes]) {
        Ok(message) => Received::Message(message, descriptors.pop()),
        Err(malformed) => Received::Malformed(malformed),
    })
}

#[cfg(test)]
mod tests {
    use evenkeel_core::guard::{Notice, Order};

    use super::*;

    #[test]
    fn the_last_word_of_a_peer_that_did_not_listen_is_heard() {
        let (ours, theirs) = pair().unwrap();
        assert!(matches!(send(&ours, &Notice::Reload.encode().unwrap(), None), Ok(Sent::Yes)));
        let last = Order::Finish { code: 7 };
        assert!(matches!(send(&theirs, &last.encode().unwrap(), None), Ok(Sent::Yes)));
        drop(theirs);
        assert!(matches!(receive::<Order>(&ours), Ok(Received::Message(heard, None)) if heard == last));
        assert!(matches!(receive::<Order>(&ours), Ok(Received::Closed)));
    }
}
