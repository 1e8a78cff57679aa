//! The link to the edge: the newest snapshot out, events and counters in.
//!
//! Frames are a length (four bytes, big endian) and a JSON document, as `evenkeel_core::link` says. Each link has
//! a number, so that what a former edge or a former link still says can be told apart. The writer sends only the
//! newest snapshot: one that was replaced before it could be sent is never sent. Nothing is kept here.

use std::{io, os::fd::OwnedFd, sync::Arc};

use evenkeel_core::{
    link::{Checked, MAX_FRAME_BYTES, ToEdge, ToNode},
    snapshot::Snapshot,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::AbortHandle,
};

/// How many ends of checks may wait for an edge that does not read.
const CHECKS: usize = 256;

/// Something from a link.
#[derive(Debug)]
pub(crate) enum FromEdge {
    /// A message.
    Message {
        /// The link's number.
        link: u64,
        /// What it says.
        message: Box<ToNode>,
    },
    /// The link is over.
    Closed {
        /// The link's number.
        link: u64,
        /// Why, in words.
        reason: String,
    },
}

/// A link in use. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct EdgeLink {
    /// Its number.
    pub(crate) number: u64,
    newest: watch::Sender<Option<Arc<Snapshot>>>,
    checked: mpsc::Sender<Checked>,
    tasks: [AbortHandle; 2],
}

impl EdgeLink {
    /// Takes a link into use; what the edge says goes to `inbox`.
    pub(crate) fn open(number: u64, fd: OwnedFd, inbox: mpsc::Sender<FromEdge>) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        let (newest, changes) = watch::channel(None);
        let (checked, ends) = mpsc::channel(CHECKS);
        let reading = tokio::spawn(read(number, reader, inbox.clone()));
        let writing = tokio::spawn(write(number, writer, (changes, ends), inbox));
        Ok(Self { number, newest, checked, tasks: [reading.abort_handle(), writing.abort_handle()] })
    }

    /// Sends this snapshot as soon as the edge takes it.
    pub(crate) fn send(&self, snapshot: Arc<Snapshot>) {
        self.newest.send_replace(Some(snapshot));
    }

    /// Says how a check ended, once the edge takes it. Returns whether there was room for that.
    pub(crate) fn tell(&self, checked: Checked) -> bool {
        self.checked.try_send(checked).is_ok()
    }
}

impl Drop for EdgeLink {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn read(link: u64, mut reader: OwnedReadHalf, inbox: mpsc::Sender<FromEdge>) {
    let reason = loop {
        match read_frame(&mut reader).await {
            Ok(message) => {
                let message = Box::new(message);
                if inbox.send(FromEdge::Message { link, message }).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break "the edge closed it".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    // Nobody listening any more means that the process ends.
    let _ = inbox.send(FromEdge::Closed { link, reason }).await;
}

async fn read_frame(reader: &mut OwnedReadHalf) -> io::Result<ToNode> {
    let length = reader.read_u32().await?;
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::other(format!("a frame of {length} bytes exceeds the bound")));
    }
    let mut frame = vec![0; length as usize];
    reader.read_exact(&mut frame).await?;
    serde_json::from_slice(&frame).map_err(io::Error::other)
}

async fn write(
    link: u64,
    mut writer: OwnedWriteHalf,
    (mut newest, mut ends): (watch::Receiver<Option<Arc<Snapshot>>>, mpsc::Receiver<Checked>),
    inbox: mpsc::Sender<FromEdge>,
) {
    loop {
        let message = tokio::select! {
            changed = newest.changed() => match (changed, newest.borrow_and_update().clone()) {
                (Err(_), _) => return,
                (Ok(()), Some(snapshot)) => ToEdge::Snapshot(Box::new((*snapshot).clone())),
                (Ok(()), None) => continue,
            },
            Some(checked) = ends.recv() => ToEdge::Checked(checked),
        };
        if let Err(error) = write_frame(&mut writer, &message).await {
            let _ = inbox.send(FromEdge::Closed { link, reason: error.to_string() }).await;
            return;
        }
    }
}

async fn write_frame(writer: &mut OwnedWriteHalf, message: &ToEdge) -> io::Result<()> {
    let body = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_FRAME_BYTES);
    let length = length.ok_or_else(|| io::Error::other("the snapshot exceeds the largest frame"))?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    writer.write_all(&frame).await
}
