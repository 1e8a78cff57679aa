//! Instances that do what a test says.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex, mpsc},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, bind, socket};

use super::wire::{Client, Message};

/// An instance: every connection is handed to the script on a thread of its own.
pub struct Server {
    pub address: SocketAddr,
    /// Requests seen, in the order of their arrival, where the script notes them.
    pub seen: Arc<Mutex<Vec<Message>>>,
}

/// What a script gets: the connection and the place to note requests.
pub struct Script {
    pub client: Client,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Script {
    /// The next request, noted; `None` at the end of the connection.
    pub fn request(&mut self) -> Option<Message> {
        let message = self.client.message(true)?;
        self.seen.lock().unwrap().push(message.clone());
        Some(message)
    }

    /// The next request, noted, as which of the noted ones it is, from 0 on.
    fn numbered_request(&mut self) -> Option<usize> {
        let message = self.client.message(true)?;
        let mut seen = self.seen.lock().unwrap();
        seen.push(message);
        Some(seen.len() - 1)
    }

    /// Notes a request that was read without [`Self::request`].
    pub fn note(&self, request: Message) {
        self.seen.lock().unwrap().push(request);
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may be gone, which is what some tests are about.
        let _ = self.client.stream.write_all(bytes.as_ref());
    }

    pub fn reset(self) {
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.client.stream, linger).unwrap();
    }
}

impl Server {
    pub fn start(script: impl Fn(Script) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, noted) = (Arc::new(script), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&noted));
                std::thread::spawn(move || {
                    script(Script { client: Client::new(stream), seen });
                });
            }
        });
        Self { address, seen }
    }

    /// Answers every request with its own name and keeps the connection.
    pub fn named(name: &'static str) -> Self {
        Self::start(move |mut script| {
            while script.request().is_some() {
                script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()));
            }
        })
    }

    /// Answers every request with these bytes and keeps the connection.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut script| {
            while script.request().is_some() {
                script.send(&answer);
            }
        })
    }

    /// Answers with what it received: head and body.
    pub fn echo() -> Self {
        Self::start(|mut script| {
            while let Some(request) = script.request() {
                let body = [request.head.as_bytes(), b"\n\n", &request.body].concat();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                script.send([head.as_bytes(), &body].concat());
            }
        })
    }

    /// Takes requests and says nothing until the sender is dropped or sends an answer: the first one is for the request
    /// that came first, and so on.
    pub fn silent() -> (Self, mpsc::Sender<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        let receiver = Mutex::new(receiver);
        let (turn, turned) = (Mutex::new(0), Condvar::new());
        let server = Self::start(move |mut script| {
            while let Some(place) = script.numbered_request() {
                let mut turn = turned.wait_while(turn.lock().unwrap(), |turn| *turn != place).unwrap();
                let answer = receiver.lock().unwrap().recv();
                *turn += 1;
                turned.notify_all();
                drop(turn);
                let Ok(answer) = answer else {
                    return;
                };
                script.send(answer);
            }
        });
        (server, sender)
    }

    pub fn requests(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// An address where nobody listens, and where nobody can until this process ends: its port stays taken.
pub fn nowhere() -> SocketAddr {
    let taken = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = rustix::net::getsockname(&taken).unwrap().try_into().unwrap();
    std::mem::forget(taken);
    address
}
