//! Clients that forgive nothing: every answer must be a whole 2xx, and no connection may end unannounced.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Connections that keep asking until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    thread: std::thread::JoinHandle<()>,
}

/// What the clients saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicU64,
    pub(crate) failures: Mutex<Vec<String>>,
    pub(crate) worst_us: AtomicU64,
    /// How long each answer took, in microseconds.
    took_us: Mutex<Vec<u64>>,
}

impl Load {
    /// `connections` clients that `GET path` one request after the other.
    pub(crate) fn start(port: u16, path: &'static str, connections: usize) -> Self {
        Self::asking(Method::GET, port, path, connections)
    }

    /// The same with another method: what is not idempotent is never repeated.
    pub(crate) fn asking(method: Method, port: u16, path: &'static str, connections: usize) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let (stop_too, seen_too) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let clients = (0..connections)
                .map(|_| client(method.clone(), port, path, Arc::clone(&stop_too), Arc::clone(&seen_too)));
            let local = tokio::task::LocalSet::new();
            let tasks: Vec<_> = clients.map(|client| local.spawn_local(client)).collect();
            local.block_on(&runtime, async {
                for task in tasks {
                    task.await.unwrap();
                }
            });
        });
        Self { stop, seen, thread }
    }

    /// How many requests were answered so far.
    pub(crate) fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were answered: the load is really running.
    pub(crate) fn wait_for(&self, more: u64) {
        let (from, start) = (self.requests(), Instant::now());
        while self.requests() < from + more {
            assert!(start.elapsed() < super::rig::PATIENCE, "no answers any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it and returns what was seen.
    pub(crate) fn finish(self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.seen
    }
}

impl Seen {
    /// The time within which this share of the answers came: 0.99 for the 99th percentile.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let mut took_us = self.took_us.lock().unwrap().clone();
        took_us.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (took_us.len() as f64 * share) as usize;
        Duration::from_micros(took_us.get(at.min(took_us.len().saturating_sub(1))).copied().unwrap_or_default())
    }

    /// Fails with what clients saw unless they saw nothing.
    pub(crate) fn assert_clean(&self) {
        let failures = self.failures.lock().unwrap();
        let requests = self.requests.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {requests} requests failed: {:#?}",
            failures.len(),
            &failures[..failures.len().min(10)]
        );
        assert!(requests > 0, "there was no load");
        let worst = Duration::from_micros(self.worst_us.load(Ordering::Relaxed));
        eprintln!("0 of {requests} requests failed, the slowest took {worst:?}");
    }
}

async fn client(method: Method, port: u16, path: &'static str, stop: Arc<AtomicBool>, seen: Arc<Seen>) {
    while !stop.load(Ordering::Relaxed) {
        if let Err(failure) = connection(&method, port, path, &stop, &seen).await {
            seen.failures.lock().unwrap().push(failure);
        }
    }
}

/// One connection's life; ends in order only when told to or when the edge announced it.
async fn connection(
    method: &Method,
    port: u16,
    path: &'static str,
    stop: &AtomicBool,
    seen: &Seen,
) -> Result<(), String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::task::spawn_local(driver);
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let request = Request::builder().method(method.clone()).uri(path).header(header::HOST, "test");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = async {
            let answer = sender.send_request(request).await?;
            let (head, body) = answer.into_parts();
            Ok::<_, hyper::Error>((head, body.collect().await?.to_bytes()))
        };
        let (head, body) = answer.await.map_err(|error| format!("after {:?}: {error:?}", start.elapsed()))?;
        let took_us = u64::try_from(start.elapsed().as_micros()).unwrap();
        seen.worst_us.fetch_max(took_us, Ordering::Relaxed);
        seen.took_us.lock().unwrap().push(took_us);
        if !head.status.is_success() {
            return Err(format!("{} after {:?}: {}", head.status, start.elapsed(), String::from_utf8_lossy(&body)));
        }
        seen.requests.fetch_add(1, Ordering::Relaxed);
        if head.headers.get(header::CONNECTION).is_some_and(|value| value == "close") {
            break;
        }
    }
    drop(sender);
    let _ = driver.await;
    Ok(())
}
