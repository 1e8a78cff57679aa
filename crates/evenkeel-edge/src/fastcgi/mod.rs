//! FastCGI to instances: PHP and whatever else speaks it.
//!
//! The rest of the edge speaks HTTP with every instance, and so it does here: with a translator, a task on the same
//! thread that has a socket pair to it on one side and the instance on the other. Retries, holds, ejection, limits,
//! rewrites, compression and counters are therefore those of any other service. The translator keeps no time of its own:
//! when the edge loses patience it closes its end, and with that the instance's connection closes. A cut-off is passed on
//! as one, so that nothing half is taken for whole.
//!
//! A connection to an instance has one request and is closed after it: a worker of PHP serves one connection at a time,
//! so a kept one would keep a worker from everybody else.
//!
//! | module | concern |
//! | --- | --- |
//! | [`records`] | FastCGI's own framing |
//! | [`path`], [`params`] | from a request to parameters |
//! | [`cgi`] | from what a script prints to an answer |
//! | `translate` | the task between both |

pub mod cgi;
pub mod params;
pub mod path;
pub mod records;
mod translate;

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{retry::Sent, stack::UNIX};
use tokio::net::{TcpStream, UnixStream};

pub use self::translate::translated;
use self::translate::{Complaints, Task, translate};
use crate::{
    http::{
        client::Client,
        exchange::{Cause, Failed},
    },
    messages::Failure,
    pick::Flight,
    scarce,
    slots::Signal,
};

/// How long until a Unix socket is tried again whose queue is full.
const QUEUE_FULL: Duration = Duration::from_millis(10);

/// A connection to a translator that is connected to the instance.
pub(crate) async fn connect(client: &Client, flight: &Flight) -> Result<TcpStream, Failed> {
    let failed = |cause| Failed { cause, sent: Sent::Nothing, received: false };
    let refused = failed(Cause::Instance(Failure::Connect));
    let config = flight.service.config();
    let mut fastcgi = config.wire.fastcgi.clone().ok_or(refused)?;
    fastcgi.root = root(&fastcgi.root, flight);
    client.arm(config.limits.connect_timeout_ms);
    let shared = &flight.instance.shared;
    let (address, resolved) = (shared.address.as_str(), shared.resolved());
    let mut connecting = pin!(Instance::connect(address, resolved));
    let mask = Signal::Expired as u8 | Signal::Abandoned as u8;
    let instance = match client.slot.until(mask, |cx| connecting.as_mut().poll(cx)).await {
        Ok(Ok(instance)) => instance,
        Ok(Err(error)) if scarce::is_met(&client.thread, &error, resolved) => return Err(failed(Cause::Scarce)),
        Ok(Err(_)) => return Err(refused),
        Err(Signal::Abandoned) => return Err(failed(Cause::Abandoned)),
        Err(_) => return Err(failed(Cause::Instance(Failure::ConnectTimeout))),
    };
    client.thread.read_clock();
    let (edge, translator) = pair().map_err(|error| {
        let scarce = scarce::is_met(&client.thread, &error, None);
        if scarce { failed(Cause::Scarce) } else { refused }
    })?;
    let place = &client.place;
    let task = Task {
        fastcgi,
        peer: client.address,
        trusted: if place.trusted { place.listener().config.trusted.clone() } else { Vec::new() },
        head_bytes: usize::try_from(config.limits.head_bytes).unwrap_or(usize::MAX),
        complaints: Some(Complaints { instance: Arc::clone(shared), to: client.thread.notices() }),
    };
    match instance {
        Instance::Tcp(stream) => tokio::spawn(translate(translator, stream, task)),
        Instance::Unix(stream) => tokio::spawn(translate(translator, stream, task)),
    };
    Ok(edge)
}

/// Where this instance has its scripts: a relative root counts from the folder in which it runs. Scripts get whole paths,
/// since PHP changes into the script's own folder before it runs one.
fn root(root: &str, flight: &Flight) -> String {
    let service = &flight.service;
    let place = service.instances.iter().position(|one| Rc::ptr_eq(one, &flight.instance));
    let folder = place.and_then(|place| service.view().instances[place].folder.as_deref());
    match folder {
        Some(folder) if !root.starts_with('/') => below(folder, root),
        _ => root.to_owned(),
    }
}

/// Without segments of a single dot, which would make one script look like two.
fn below(folder: &str, root: &str) -> String {
    let whole: PathBuf = Path::new(folder).join(root).components().collect();
    whole.to_string_lossy().into_owned()
}

enum Instance {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Instance {
    async fn connect(address: &str, resolved: Option<std::net::SocketAddr>) -> io::Result<Self> {
        if let Some(path) = address.strip_prefix(UNIX) {
            return connect_unix(Path::new(path)).await.map(Self::Unix);
        }
        let stream = TcpStream::connect(resolved.ok_or(io::ErrorKind::NotFound)?).await?;
        // Without it small messages could wait for acknowledgements; with a failure here they merely do.
        let _ = stream.set_nodelay(true);
        Ok(Self::Tcp(stream))
    }
}

/// Connects to a Unix socket. Where its queue is full the kernel says so at once (`EAGAIN`, connect(2)), while over TCP it
/// would wait: whoever listens is there and busy. So it is tried until the caller has no more time.
pub(crate) async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(QUEUE_FULL).await,
            connected => return connected,
        }
    }
}

/// Two ends of one stream: ours and the translator's. What is done with ours, `recv`, `send` and `writev`, is the same
/// for stream sockets of every family.
fn pair() -> io::Result<(TcpStream, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let ours = std::net::TcpStream::from(OwnedFd::from(ours));
    Ok((TcpStream::from_std(ours)?, UnixStream::from_std(theirs)?))
}
