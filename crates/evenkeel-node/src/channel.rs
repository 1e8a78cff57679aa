//! The guard's channel: notices in, orders out, descriptors beside both.
//!
//! One packet is one message (`SOCK_SEQPACKET`, unix(7)); its descriptor travels as `SCM_RIGHTS`. A task reads
//! and a task writes, so that a guard that is slow for a moment never stops the owner of the world, and orders
//! leave in the order in which they were given. Nothing is decided here.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use evenkeel_core::guard::{
    MAX_PACKET_BYTES, Notice, Order,
    wire::{Malformed, Message},
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
};

/// A notice and the descriptor that came with it.
pub(crate) type Received = (Notice, Option<OwnedFd>);

/// How many notices may wait for the owner of the world before the guard's side fills up.
const WAITING_NOTICES: usize = 1024;

/// Opens both directions. The receiver ends when the guard is gone.
pub(crate) fn open(fd: OwnedFd) -> io::Result<(Orders, mpsc::Receiver<Received>)> {
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` answers with the same open descriptor as long as it exists, and it is not replaced.
    let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::WRITABLE) }?;
    let fd = Arc::new(fd);
    let (notices_in, notices) = mpsc::channel(WAITING_NOTICES);
    let (packets, packets_out) = mpsc::unbounded_channel();
    tokio::spawn(read(Arc::clone(&fd), notices_in));
    tokio::spawn(write(fd, packets_out));
    Ok((Orders { packets }, notices))
}

/// Gives orders to the guard.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    packets: mpsc::UnboundedSender<Outgoing>,
}

#[derive(Debug)]
enum Outgoing {
    Packet(Vec<u8>, Option<OwnedFd>),
    Flush(oneshot::Sender<()>),
}

impl Orders {
    /// Queues an order. An error means that it does not fit into a packet and was not queued.
    pub(crate) fn give(&self, order: &Order) -> Result<(), Malformed> {
        self.queue(order, None)
    }

    /// Queues an order with a descriptor.
    pub(crate) fn give_with(&self, order: &Order, fd: OwnedFd) -> Result<(), Malformed> {
        self.queue(order, Some(fd))
    }

    /// Waits until everything queued so far has been handed to the system.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.packets.send(Outgoing::Flush(done)).is_ok() {
            // An error means that the guard is gone, and then nothing is left to wait for.
            let _ = wait.await;
        }
    }

    fn queue(&self, order: &Order, fd: Option<OwnedFd>) -> Result<(), Malformed> {
        let packet = order.encode()?;
        // When the guard is gone the receiver of notices ends, and with it this process.
        let _ = self.packets.send(Outgoing::Packet(packet, fd));
        Ok(())
    }
}

async fn read(fd: Arc<AsyncFd<OwnedFd>>, notices: mpsc::Sender<Received>) {
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    loop {
        let received = fd.async_io(Interest::READABLE, |fd| receive(fd, &mut buffer)).await;
        match received {
            Ok(Some((bytes, attached))) => match Notice::decode(&buffer[..bytes]) {
                Ok(notice) => {
                    if notices.send((notice, attached)).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::error!(%error, "the guard sent a packet that cannot be read; ignored"),
            },
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "the guard's channel failed");
                return;
            }
        }
    }
}

/// One packet; `None` at the end of the stream.
pub(crate) fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(fd, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut attached = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            // A message carries at most one; any other is closed here.
            attached = attached.or(fds.into_iter().next());
        }
    }
    Ok((got.bytes > 0).then_some((got.bytes, attached)))
}

async fn write(fd: Arc<AsyncFd<OwnedFd>>, mut packets: mpsc::UnboundedReceiver<Outgoing>) {
    while let Some(outgoing) = packets.recv().await {
        match outgoing {
            Outgoing::Packet(packet, attached) => {
                let sent = fd.async_io(Interest::WRITABLE, |fd| send(fd, &packet, attached.as_ref())).await;
                if let Err(error) = sent {
                    tracing::error!(%error, "an order to the guard was not sent");
                    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
                        return;
                    }
                }
            }
            Outgoing::Flush(done) => {
                // Nobody waiting any more is no error.
                let _ = done.send(());
            }
        }
    }
}

/// Sends one packet.
pub(crate) fn send(fd: &OwnedFd, packet: &[u8], attached: Option<&OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = attached.map(|fd| [fd.as_fd()]);
    if let Some(fds) = &fds {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "the space holds one descriptor");
    }
    sendmsg(fd, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[tokio::test]
    async fn orders_and_notices_travel_with_their_descriptors() {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, guards) = pair.unwrap();
        let (orders, mut notices) = open(ours).unwrap();

        let (read_end, write_end) = rustix::pipe::pipe().unwrap();
        let notice = Notice::Started { key: "shop/1#1".to_owned(), pid: 7, started_ms: 8 };
        send(&guards, &notice.encode().unwrap(), Some(&read_end)).unwrap();
        let (got, attached) = notices.recv().await.unwrap();
        assert_eq!(got, notice);
        rustix::io::write(&write_end, b"hello").unwrap();
        drop((write_end, read_end));
        let mut text = String::new();
        File::from(attached.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");

        let order = Order::Hold { key: "snapshot".to_owned() };
        orders.give_with(&order, rustix::stdio::stdin().try_clone_to_owned().unwrap()).unwrap();
        orders.flush().await;
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let (bytes, attached) = receive(&guards, &mut buffer).unwrap().unwrap();
        assert_eq!(Order::decode(&buffer[..bytes]).unwrap(), order);
        assert!(attached.is_some());

        drop(guards);
        assert!(notices.recv().await.is_none());
    }
}
