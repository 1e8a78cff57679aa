//! The link to the node process: JSON documents behind their length, as `evenkeel_core::link` has them.
//!
//! A task reads and a task writes, so that a node process that is slow, stopped or gone never holds the control
//! thread up: what it should be told waits in a bounded queue, and who fills that queue asks first whether there
//! is room. Dropping a [`Link`] closes it.

use std::{io, os::fd::OwnedFd, os::unix::net::UnixStream as StdStream};

use evenkeel_core::link::{MAX_FRAME_BYTES, ToEdge, ToNode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
};

/// Frames that wait to be written.
const OUTBOX: usize = 64;

/// Frames above this size are parsed on another thread, so that probes and ticks keep their time.
const LARGE_BYTES: usize = 128 * 1024;

/// Counters of so many instances are not put into words between probes and ticks.
const LARGE_FLEET: usize = 1_000;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The node process closed it or died.
    #[error("the node process closed it")]
    Closed,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A frame that must not be.
    #[error("a frame of {bytes} bytes is larger than {MAX_FRAME_BYTES} bytes")]
    TooLarge {
        /// What its header says.
        bytes: u32,
    },
    /// A frame that is none.
    #[error("a frame cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// One link, as long as it lives.
#[derive(Debug)]
pub(super) struct Link {
    outbox: mpsc::Sender<ToNode>,
    inbox: mpsc::Receiver<Result<ToEdge, LinkError>>,
    tasks: [JoinHandle<()>; 2],
}

impl Link {
    /// Takes the socket; needs a running tokio runtime.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = StdStream::from(socket);
        socket.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(socket)?.into_split();
        let (outbox, to_write) = mpsc::channel(OUTBOX);
        let (to_read, inbox) = mpsc::channel(1);
        let tasks = [tokio::spawn(read_all(read, to_read)), tokio::spawn(write_all(write, to_write))];
        Ok(Self { outbox, inbox, tasks })
    }

    /// The next message; an error is the last. Nothing is lost when this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<ToEdge, LinkError> {
        self.inbox.recv().await.unwrap_or(Err(LinkError::Closed))
    }

    /// Whether everything that was sent so far is written or being written.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.capacity() == OUTBOX
    }

    /// Puts a message into the queue, or hands it back where there is no room or nobody to read it.
    pub(super) fn send(&self, message: ToNode) -> Result<(), ToNode> {
        self.outbox.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) | TrySendError::Closed(message) => message,
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn read_all(mut socket: OwnedReadHalf, to: mpsc::Sender<Result<ToEdge, LinkError>>) {
    loop {
        let message = read_one(&mut socket).await;
        let last = message.is_err();
        if to.send(message).await.is_err() || last {
            return;
        }
    }
}

async fn read_one(socket: &mut OwnedReadHalf) -> Result<ToEdge, LinkError> {
    let mut header = [0; 4];
    match socket.read_exact(&mut header).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(LinkError::Closed),
        other => other?,
    };
    let bytes = u32::from_be_bytes(header);
    if bytes > MAX_FRAME_BYTES {
        return Err(LinkError::TooLarge { bytes });
    }
    let mut frame = Vec::new();
    socket.take(u64::from(bytes)).read_to_end(&mut frame).await?;
    if frame.len() < usize::try_from(bytes).unwrap_or(usize::MAX) {
        return Err(LinkError::Closed);
    }
    if frame.len() <= LARGE_BYTES {
        return Ok(serde_json::from_slice(&frame)?);
    }
    let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&frame)).await;
    Ok(parsed.map_err(io::Error::other)??)
}

/// Counters of very many instances are put into words on another thread, as large frames are read on one.
async fn encode(message: ToNode) -> io::Result<Vec<u8>> {
    let large = match &message {
        ToNode::Counters(counters) => {
            counters.services.iter().map(|service| service.instances.len()).sum::<usize>() > LARGE_FLEET
        }
        _ => false,
    };
    if large {
        return Ok(tokio::task::spawn_blocking(move || serde_json::to_vec(&message)).await??);
    }
    Ok(serde_json::to_vec(&message)?)
}

async fn write_all(mut socket: OwnedWriteHalf, mut from: mpsc::Receiver<ToNode>) {
    while let Some(message) = from.recv().await {
        let Ok(body) = encode(message).await else {
            continue;
        };
        let Some(length) = u32::try_from(body.len()).ok().filter(|&length| length <= MAX_FRAME_BYTES) else {
            tracing::error!(bytes = body.len(), "a message to the node process is too large and was dropped");
            continue;
        };
        let mut frame = Vec::with_capacity(4 + body.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&body);
        // Whoever reads sees the end of the link too, and says so.
        if socket.write_all(&frame).await.is_err() {
            return;
        }
    }
}
