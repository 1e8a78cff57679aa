//! An instance: a small HTTP server that can be made ill.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU16, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A server. Its answers carry its name; `/slow` takes two seconds, `/held` until it is let go.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    /// What `/healthz` answers.
    check_status: AtomicU16,
    /// Requests other than for `/healthz`.
    requests: AtomicU64,
    frozen: Mutex<bool>,
    thawed: Condvar,
    /// Whether `/held` is answered.
    let_go: Mutex<bool>,
    went: Condvar,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dead: bool,
    accepting: Option<JoinHandle<()>>,
    connections: Vec<TcpStream>,
}

impl Server {
    /// On a free port.
    pub(crate) fn start(name: &str) -> Self {
        Self::on(name, TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn on(name: &str, listener: TcpListener) -> Self {
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            check_status: AtomicU16::new(200),
            requests: AtomicU64::new(0),
            frozen: Mutex::new(false),
            thawed: Condvar::new(),
            let_go: Mutex::new(false),
            went: Condvar::new(),
            state: Mutex::default(),
        });
        let server = Self { address: listener.local_addr().unwrap(), inner };
        let accepting = server.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                accepting.wait_while_frozen();
                let Ok(stream) = stream else { return };
                let mut state = accepting.inner.state.lock().unwrap();
                if state.dead {
                    return;
                }
                state.connections.push(stream.try_clone().unwrap());
                drop(state);
                let serving = accepting.clone();
                thread::spawn(move || serving.serve(stream));
            }
        });
        server.inner.state.lock().unwrap().accepting = Some(thread);
        server
    }

    pub(crate) fn set_check_status(&self, status: u16) {
        self.inner.check_status.store(status, SeqCst);
    }

    pub(crate) fn requests(&self) -> u64 {
        self.inner.requests.load(SeqCst)
    }

    /// Waits until it has got this many requests.
    pub(crate) fn wait_for_requests(&self, count: u64) {
        let until = Instant::now() + super::PATIENCE;
        while self.requests() < count {
            assert!(Instant::now() < until, "{} of {count} requests came", self.requests());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// As `SIGSTOP` does: its kernel accepts, it does nothing.
    pub(crate) fn freeze(&self) {
        *self.inner.frozen.lock().unwrap() = true;
    }

    pub(crate) fn thaw(&self) {
        *self.inner.frozen.lock().unwrap() = false;
        self.inner.thawed.notify_all();
    }

    /// Answers requests for `/held`, those that wait and those to come.
    pub(crate) fn let_go(&self) {
        *self.inner.let_go.lock().unwrap() = true;
        self.inner.went.notify_all();
    }

    /// As `SIGKILL` does: connections are cut and new ones refused, and that is done when this returns.
    pub(crate) fn kill(&self) {
        let mut state = self.inner.state.lock().unwrap();
        state.dead = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        let accepting = state.accepting.take();
        drop(state);
        // Wakes the accepting thread, which then closes its listener.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = accepting {
            accepting.join().unwrap();
        }
    }

    fn wait_while_frozen(&self) {
        let frozen = self.inner.frozen.lock().unwrap();
        drop(self.inner.thawed.wait_while(frozen, |frozen| *frozen).unwrap());
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut head = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).ok().filter(|&read| read > 0)?;
            self.wait_while_frozen();
            head.extend_from_slice(&chunk[..read]);
            while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                let request = String::from_utf8(head.drain(..end + 4).collect()).ok()?;
                let path = request.split(' ').nth(1)?;
                let status = if path == "/healthz" {
                    self.inner.check_status.load(SeqCst)
                } else {
                    self.inner.requests.fetch_add(1, SeqCst);
                    200
                };
                match path {
                    "/slow" => thread::sleep(Duration::from_secs(2)),
                    "/held" => {
                        let let_go = self.inner.let_go.lock().unwrap();
                        drop(self.inner.went.wait_while(let_go, |let_go| !*let_go).unwrap());
                    }
                    _ => {}
                }
                self.wait_while_frozen();
                let name = &self.inner.name;
                let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                stream.write_all(answer.as_bytes()).ok()?;
            }
        }
    }
}
