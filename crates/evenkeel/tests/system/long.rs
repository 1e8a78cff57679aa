//! What lasts beside what is quick: a call of five milliseconds together with exports, uploads, server-sent events and
//! connections of WebSocket that live for long, and in the middle every instance is replaced. Nobody is ejected,
//! nothing is sent twice, no client sees an error, and the replacement waits for what is under way.
//!
//! `KEEL_LONG_SECONDS` says how long it runs; each stream then lives for a tenth of that.

use std::{
    collections::HashSet,
    env, fs,
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use evenkeel_core::status::Status;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::LocalSet, time::sleep};

use crate::{
    load::Load,
    long_app::{self, BEAT, Reader, field},
    rig::{PATIENCE, Rig, all_healthy, instances},
};

/// What lasts.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// An answer that begins after a long time.
    Late,
    /// An answer that comes slowly.
    Slow,
    Events,
    Upload,
    WebSocket,
}

const KINDS: [Kind; 5] = [Kind::Late, Kind::Slow, Kind::Events, Kind::Upload, Kind::WebSocket];

/// What one beat of an upload sends, in bytes.
const PIECE: usize = 64 << 10;

/// A call of five milliseconds that takes longer met an instance that stood still for as long as silence needs: the time
/// of `silent_after`, and half of it for a probe.
const STOOD_STILL: Duration = Duration::from_millis(150);

/// How many of each kind are under way at any time.
const OF_EACH: usize = 3;

/// What happened to all that lasted.
#[derive(Default)]
struct Seen {
    /// Numbers them.
    begun: AtomicU64,
    whole: [AtomicU64; KINDS.len()],
    failures: Mutex<Vec<String>>,
}

/// Clients that begin one long exchange after the other until told to stop, and end each of them.
struct Lasting {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    thread: JoinHandle<()>,
}

impl Lasting {
    fn start(port: u16, lasts: Duration) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let (stop_too, seen_too) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = LocalSet::new();
            let shared = Rc::new((stop_too, seen_too));
            for n in 0..KINDS.len() * OF_EACH {
                local.spawn_local(client(port, n % KINDS.len(), lasts, Rc::clone(&shared)));
            }
            runtime.block_on(local);
        });
        Self { stop, seen, thread }
    }

    fn finish(self) -> Arc<Seen> {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap();
        self.seen
    }
}

async fn client(port: u16, place: usize, lasts: Duration, shared: Rc<(Arc<AtomicBool>, Arc<Seen>)>) {
    let (stop, seen) = &*shared;
    while !stop.load(Relaxed) {
        let start = Instant::now();
        match exchange(port, KINDS[place], lasts, seen.begun.fetch_add(1, Relaxed)).await {
            Ok(()) => drop(seen.whole[place].fetch_add(1, Relaxed)),
            Err(what) => {
                let failure = format!("{:?} after {:?}: {what}", KINDS[place], start.elapsed());
                seen.failures.lock().unwrap().push(failure);
                sleep(BEAT).await;
            }
        }
    }
}

/// One exchange on a connection of its own, from its beginning to its orderly end.
async fn exchange(port: u16, kind: Kind, lasts: Duration, number: u64) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.map_err(text)?;
    let mut server = Reader::new(stream);
    let ms = lasts.as_millis();
    let beats = usize::try_from(ms / BEAT.as_millis()).unwrap();
    let begins = match kind {
        Kind::Late => format!("GET /late?ms={ms} HTTP/1.1\r\n"),
        Kind::Slow => format!("GET /slow?ms={ms} HTTP/1.1\r\n"),
        Kind::Events => format!("GET /events?ms={ms} HTTP/1.1\r\nAccept: text/event-stream\r\n"),
        Kind::Upload => format!("PUT /upload HTTP/1.1\r\nContent-Length: {}\r\n", beats * PIECE),
        Kind::WebSocket => "GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n".to_owned(),
    };
    let head = format!("{begins}Host: a\r\nX-Exchange: {number}\r\n\r\n");
    server.stream.write_all(head.as_bytes()).await.map_err(text)?;
    if let Kind::Upload = kind {
        for _ in 0..beats {
            server.stream.write_all(&vec![b'u'; PIECE]).await.map_err(text)?;
            sleep(BEAT).await;
        }
    }
    let head = server.head().await.ok_or("no head came")?;
    let wanted = if let Kind::WebSocket = kind { "101" } else { "200" };
    if head.split(' ').nth(1) != Some(wanted) {
        return Err(format!("not what was asked for: {head}"));
    }
    match kind {
        Kind::Slow => whole(server.chunks().await, |body| body.len() >= 1024 * 4 && body.len() % 1024 == 0),
        Kind::Events => whole(server.chunks().await, |body| body.ends_with(b"data: tick\n\n")),
        Kind::Late => whole(server.take(4).await, |body| body == b"late"),
        Kind::Upload => {
            let length = field(&head, "content-length").and_then(|text| text.parse().ok()).ok_or("no length")?;
            whole(server.take(length).await, |body| body == (beats * PIECE).to_string().as_bytes())
        }
        Kind::WebSocket => chat(server, lasts).await,
    }
}

fn whole(body: Option<Vec<u8>>, is: impl Fn(&[u8]) -> bool) -> Result<(), String> {
    match body {
        None => Err("cut off".to_owned()),
        Some(body) if is(&body) => Ok(()),
        Some(body) => Err(format!("{} bytes, but not those", body.len())),
    }
}

/// Says something every second beat, hears it back, and says goodbye.
async fn chat(mut server: Reader, lasts: Duration) -> Result<(), String> {
    let ends = Instant::now() + lasts;
    let mut said = 0_u8;
    loop {
        let (kind, payload) = if Instant::now() < ends { (1, vec![b'a' + said % 26; 20]) } else { (8, vec![3, 0xe8]) };
        said = said.wrapping_add(1);
        let mask = [said, 1, 2, 3];
        let length = 0x80 | u8::try_from(payload.len()).unwrap();
        let masked: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let frame = [&[0x80 | kind, length], mask.as_slice(), &masked].concat();
        server.stream.write_all(&frame).await.map_err(|error| error.to_string())?;
        if server.frame().await != Some((kind, payload)) {
            return Err("it does not say back what it was told".to_owned());
        }
        if kind == 8 {
            return if server.take(1).await.is_none() { Ok(()) } else { Err("more after the end".to_owned()) };
        }
        sleep(BEAT * 2).await;
    }
}

fn stack(drain: Duration, begun: &Path) -> String {
    let bound = drain.as_secs();
    format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\n{}replicas = 2\n\
         check = {{ http = \"/healthz\", interval = \"200ms\" }}\n\
         limits = {{ response_timeout = \"{bound}s\" }}\nstop = {{ drain = \"{bound}s\" }}\n",
        long_app::run(begun)
    )
}

#[test]
fn what_lasts_is_left_alone_and_waited_for() {
    let given = env::var("KEEL_LONG_SECONDS").ok().map(|text| text.parse::<u64>().expect("a number of seconds"));
    let (half, lasts) = match given {
        Some(seconds) => (Duration::from_secs(seconds / 2), Duration::from_secs((seconds / 10).clamp(2, 60))),
        None => (Duration::from_secs(3), Duration::from_secs(5)),
    };
    let begun = tempfile::NamedTempFile::new().unwrap();
    let rig = Rig::up(&stack(lasts + Duration::from_mins(1), begun.path()));
    rig.wait_until("both instances are healthy", all_healthy);
    let load = Load::start(rig.port, "/call", 8);
    let lasting = Lasting::start(rig.port, lasts);
    load.wait_for(100);
    let first: Vec<_> = instances(&rig.status()).iter().map(|instance| instance.pid).collect();
    thread::sleep(half);

    let start = Instant::now();
    let applied = replace_all(&rig);
    eprintln!("apply, after {:?}: {applied}", start.elapsed());
    let took = replaced(&rig, &first, start, lasts * 4 + PATIENCE);
    load.wait_for(100);
    thread::sleep(half.saturating_sub(took));

    let seen = lasting.finish();
    let calls = load.finish();
    calls.assert_clean();
    let failures = seen.failures.lock().unwrap();
    assert!(failures.is_empty(), "{} failed: {:#?}", failures.len(), &failures[..failures.len().min(10)]);
    for (kind, whole) in KINDS.iter().zip(&seen.whole) {
        let whole = whole.load(Relaxed);
        eprintln!("{whole} × {kind:?} of {lasts:?} or more");
        assert!(whole >= u64::try_from(OF_EACH).unwrap(), "{kind:?}");
    }
    eprintln!("replaced in {took:?}");
    let numbers = fs::read_to_string(&begun).unwrap();
    let distinct: HashSet<&str> = numbers.lines().collect();
    assert_eq!(numbers.lines().count(), distinct.len(), "none of them was sent twice");
    assert_eq!(u64::try_from(distinct.len()).unwrap(), seen.begun.load(Relaxed));
    nobody_was_blamed(&rig, Duration::from_micros(calls.worst_us.load(Relaxed)));
}

/// Another environment needs other processes: each is replaced once what it has under way has ended. Returns what
/// `keel apply` says.
fn replace_all(rig: &Rig) -> String {
    let file = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap();
    let changed = text.replace("\" }\nreplicas", "\", CHANGED = \"1\" }\nreplicas");
    assert_ne!(changed, text);
    fs::write(&file, changed).unwrap();
    let applied = rig.keel(&["apply", "keel.toml", "--wait", "10m"]);
    assert!(applied.status.success(), "{applied:?}");
    String::from_utf8_lossy(&applied.stdout).into_owned()
}

/// Waits until every process is a new one and the former ones are gone; returns how long that took.
fn replaced(rig: &Rig, former: &[Option<u32>], start: Instant, bound: Duration) -> Duration {
    loop {
        let status = rig.status();
        let now = instances(&status);
        if now.len() == former.len() && now.iter().all(|one| !former.contains(&one.pid)) && all_healthy(&status) {
            return start.elapsed();
        }
        assert!(start.elapsed() < bound, "not replaced within {bound:?}: {status:#?}");
        thread::sleep(BEAT);
    }
}

#[test]
fn a_drain_ends_when_its_time_is_over() {
    let begun = tempfile::NamedTempFile::new().unwrap();
    let rig = Rig::up(&stack(Duration::from_secs(1), begun.path()));
    rig.wait_until("both instances are healthy", all_healthy);
    let first: Vec<_> = instances(&rig.status()).iter().map(|instance| instance.pid).collect();
    let port = rig.port;
    let chats: Vec<_> = (0..4).map(|_| thread::spawn(move || open_chat(port))).collect();
    let in_flight = |status: &Status| instances(status).iter().map(|instance| instance.in_flight).sum::<u64>();
    rig.wait_until("all of them are open", |status| in_flight(status) == 4);
    let start = Instant::now();
    replace_all(&rig);
    replaced(&rig, &first, start, PATIENCE);
    for chat in chats {
        chat.join().unwrap();
    }
    nobody_was_blamed(&rig, Duration::ZERO);
}

/// Opens a WebSocket and says nothing; returns once it was cut.
fn open_chat(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
        let mut server = Reader::new(stream);
        let ask = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        server.stream.write_all(ask).await.unwrap();
        assert!(server.head().await.unwrap().starts_with("HTTP/1.1 101 "));
        assert_eq!(server.frame().await, None);
    });
}

/// Nobody was taken out for what lasts. An instance that really stood still, because its machine had no time for it, is
/// silent, and its calls move: the slowest call shows whether that can have been.
fn nobody_was_blamed(rig: &Rig, slowest_call: Duration) {
    let status = rig.status();
    let service = &status.services[0];
    let stood_still = slowest_call > STOOD_STILL;
    assert!(service.retries == 0 || stood_still, "{service:#?}");
    assert!(instances(&status).iter().all(|instance| instance.restarts == 0), "{service:#?}");
    let events = rig.keel(&["events", "--json"]);
    assert!(events.status.success(), "{events:?}");
    let events = String::from_utf8(events.stdout).unwrap();
    let words: &[&str] = if stood_still { &["ejected"] } else { &["ejected", "unhealthy", "silent", "moved"] };
    let blamed: Vec<_> = events.lines().filter(|line| words.iter().any(|word| line.contains(word))).collect();
    assert!(blamed.is_empty(), "{blamed:#?}");
    assert!(events.lines().count() > 4, "the journal has what happened: {events}");
}
