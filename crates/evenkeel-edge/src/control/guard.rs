//! The channel to the guard: packets with descriptors beside them (`unix(7)`, `SCM_RIGHTS`).
//!
//! Only the guard speaks. Its end of the channel closes when it dies, and nothing else closes it, so the end of
//! this stream is the end of the edge. The channel owns the socket and a buffer, and decides nothing.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
};

use evenkeel_core::guard::{
    EdgeNotice, MAX_PACKET_BYTES,
    wire::{Malformed, Message as _},
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::{Interest, unix::AsyncFd};

/// More descriptors than any packet carries; what lies above is closed by the kernel.
const DESCRIPTORS: usize = 4;

/// The channel to the guard.
#[derive(Debug)]
pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

/// A packet that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket failed.
    #[error("the channel to the guard failed: {0}")]
    Io(#[from] io::Error),
    /// The guard is of another version, or worse.
    #[error("the guard sent what this edge cannot read: {0}")]
    Malformed(#[from] Malformed),
    /// Larger than any packet may be.
    #[error("the guard sent a packet larger than {MAX_PACKET_BYTES} bytes")]
    TooLarge,
}

impl Channel {
    /// Takes the socket; needs a running tokio runtime.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and nothing here replaces it.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, buffer: vec![0; MAX_PACKET_BYTES + 1] })
    }

    /// The next notice with the descriptor that came with it; `None` once the guard is gone. Nothing is lost when
    /// this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<(EdgeNotice, Option<OwnedFd>)>, ChannelError> {
        loop {
            let mut ready = self.socket.readable().await?;
            let buffer = &mut self.buffer;
            let Ok(received) = ready.try_io(|socket| receive(socket.get_ref(), buffer)) else {
                continue;
            };
            let (bytes, flags, descriptor) = match received {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                other => other?,
            };
            if bytes == 0 {
                return Ok(None);
            }
            if flags.contains(ReturnFlags::TRUNC) || bytes > MAX_PACKET_BYTES {
                return Err(ChannelError::TooLarge);
            }
            return Ok(Some((EdgeNotice::decode(&self.buffer[..bytes])?, descriptor)));
        }
    }
}

/// One `recvmsg(2)`. Of several descriptors the first counts; the others are closed.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, ReturnFlags, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut first| first.next());
    drop(descriptors);
    Ok((received.bytes, received.flags, descriptor))
}
