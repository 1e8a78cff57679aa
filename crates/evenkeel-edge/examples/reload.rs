//! What a large snapshot costs an edge: `cargo run --release -p evenkeel-edge --example reload [SERVICES INSTANCES ROUTES]`.
//!
//! An edge with two data threads serves requests that come at a constant rate. Meanwhile it gets a snapshot of ten
//! thousand routes and a hundred thousand instances, then the same with one change, and again. Printed is how long
//! each took from the first byte that was sent to `Applied`, what of that is reading and compiling, and what the
//! requests of that time saw, counted from when each was due. Instances are addresses of one small server in this
//! process, so that their probes are answered. It measures; it asserts nothing but that every answer is good.

#![allow(clippy::unwrap_used, reason = "a measurement ends where its surroundings fail")]

#[path = "../tests/control_support/mod.rs"]
mod control_support;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use control_support::{Edge, Node, member, route, service};
use evenkeel_core::{
    link::{ToEdge, ToNode},
    snapshot::{Route, Snapshot},
};
use evenkeel_edge::view::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const THREADS: u16 = 2;
const CLIENTS: u32 = 16;
const PER_SECOND: u32 = 2_000;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>().expect("a number"));
    let services = numbers.next().unwrap_or(1_000);
    let instances = numbers.next().unwrap_or(100_000);
    let routes = numbers.next().unwrap_or(10_000);
    let port = serve();
    let (edge, mut node) = Edge::linked(THREADS);
    node.send(edge.snapshot(1, services_of(1, 1, port)));
    node.applied(1);
    println!("{services} services, {instances} instances, {routes} routes, {THREADS} data threads");
    let load = Load::start(edge.address);
    thread::sleep(Duration::from_secs(2));
    load.report("before");
    let large = |version, skip| Snapshot {
        routes: routes_of(services, routes),
        services: services_of(services, instances, port).into_iter().skip(skip).collect(),
        ..edge.snapshot(version, services_of(1, 1, port))
    };
    parts(&large(2, 0));
    for (version, what) in
        [(2, "first"), (3, "again, unchanged"), (4, "again, one instance changed"), (5, "new generations")]
    {
        let mut snapshot = large(version, 0);
        if version == 4 {
            snapshot.services.last_mut().unwrap().instances[0].weight = 2;
        }
        if version == 5 {
            for instance in snapshot.services.iter_mut().skip(1).flat_map(|service| &mut service.instances) {
                instance.id.generation = 2;
            }
        }
        apply(&mut node, snapshot, what);
        load.report("  requests until Applied");
        let (bytes, frames) = listen(&mut node, Duration::from_secs(4));
        load.report("  requests in the 4 s after it");
        println!("  the edge wrote {bytes} bytes in {frames} messages in these 4 s");
    }
    println!("memory: {}", resident());
    load.end();
}

/// From the first byte that is sent to the acknowledgement.
fn apply(node: &mut Node, snapshot: Snapshot, what: &str) {
    let version = snapshot.version;
    let body = serde_json::to_vec(&ToEdge::Snapshot(Box::new(snapshot))).unwrap();
    let began = Instant::now();
    node.send_raw(&u32::try_from(body.len()).unwrap().to_be_bytes());
    node.send_raw(&body);
    let sent = began.elapsed();
    node.applied(version);
    println!("{what}: {} bytes, sent in {sent:.1?}, applied after {:.1?}", body.len(), began.elapsed());
}

/// Reading and compiling by themselves.
fn parts(snapshot: &Snapshot) {
    let body = serde_json::to_vec(snapshot).unwrap();
    let began = Instant::now();
    let parsed: Snapshot = serde_json::from_slice(&body).unwrap();
    let read = began.elapsed();
    let mut registry = Registry::new(usize::from(THREADS));
    let began = Instant::now();
    let first = registry.compile(&parsed).unwrap();
    let compiled = began.elapsed();
    let began = Instant::now();
    let second = registry.compile(&parsed).unwrap();
    let again = began.elapsed();
    let began = Instant::now();
    drop((first, second));
    println!("parts: read {read:.1?}, compiled {compiled:.1?}, again {again:.1?}, dropped {:.1?}", began.elapsed());
}

/// Reads what the edge says for so long: bytes and messages.
fn listen(node: &mut Node, time: Duration) -> (usize, usize) {
    let until = Instant::now() + time;
    let (mut bytes, mut messages) = (0, 0);
    while Instant::now() < until {
        let message = node.next();
        if matches!(message, ToNode::Counters(_)) {
            bytes += serde_json::to_vec(&message).unwrap().len();
            messages += 1;
        }
    }
    (bytes, messages)
}

fn services_of(services: usize, instances: usize, port: u16) -> Vec<evenkeel_core::snapshot::Service> {
    let each = instances.div_ceil(services);
    let one = |number: usize| {
        let its = (number * each..(number + 1) * each).map(|place| {
            let [_, a, b, c] = u32::try_from(place).unwrap().to_be_bytes();
            member(&format!("s{number}/{place}"), SocketAddr::from(([127, 1 + a, b, c], port)))
        });
        let mut one = service(its.collect());
        one.name = format!("s{number}");
        one
    };
    (0..services).map(one).collect()
}

/// Everything under `/` leads to the first service, the others have a host each.
fn routes_of(services: usize, routes: usize) -> Vec<Route> {
    let others = (1..routes).map(|number| Route {
        host: Some(format!("h{number}.example.com")),
        ..route(&format!("s{}", number % services))
    });
    std::iter::once(route("s0")).chain(others).collect()
}

/// Instances of every address of the loopback network; returns their port.
fn serve() -> u16 {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { continue };
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while matches!(stream.read(&mut buffer).await, Ok(1..)) {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    port
}

/// Requests at a constant rate, whatever becomes of those before them.
struct Load {
    stop: Arc<AtomicBool>,
    latencies: Arc<Mutex<Vec<Duration>>>,
    thread: thread::JoinHandle<()>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (stop, latencies) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stops, notes) = (Arc::clone(&stop), Arc::clone(&latencies));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            for place in 0..CLIENTS {
                local.spawn_local(client(address, place, Arc::clone(&stops), Arc::clone(&notes)));
            }
            runtime.block_on(local);
        });
        Self { stop, latencies, thread }
    }

    fn report(&self, when: &str) {
        let mut latencies = std::mem::take(&mut *self.latencies.lock().unwrap());
        latencies.sort();
        let at = |permille: usize| latencies.get((latencies.len() * permille / 1000).min(latencies.len().max(1) - 1));
        let at = |permille| at(permille).copied().unwrap_or_default();
        let count = latencies.len();
        println!("{when}: {count} requests, p50 {:.1?}, p99 {:.1?}, worst {:.1?}", at(500), at(990), at(1000));
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        self.thread.join().expect("every answer was good");
    }
}

async fn client(address: SocketAddr, place: u32, stop: Arc<AtomicBool>, notes: Arc<Mutex<Vec<Duration>>>) {
    let period = Duration::from_secs(1) * CLIENTS / PER_SECOND;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut due = tokio::time::Instant::now() + period * place / CLIENTS;
    let mut buffer = [0; 4096];
    while !stop.load(SeqCst) {
        tokio::time::sleep_until(due).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n").await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
        notes.lock().unwrap().push(due.elapsed());
        due += period;
    }
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned()
}
