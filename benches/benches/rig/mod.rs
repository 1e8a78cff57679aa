//! What the benches in one process share: a snapshot as a stack file makes it, and an edge that serves it.
//!
//! The snapshot comes from the text of a stack file with every default in force, so what is measured is what users run.
#![allow(dead_code)] // Each bench uses its part of it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    snapshot::{FORMAT, Instance, Snapshot},
    stack::{compile_listeners, compile_routes, compile_service, parse},
    status::{Health, InstanceId},
};
use evenkeel_edge::{
    data,
    messages::{Ack, Threads, ToThread},
    view::{Registry, View},
};

/// A request as a browser sends it.
pub const REQUEST: &[u8] = b"GET /products/42?colour=green HTTP/1.1\r\nHost: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en\r\n\
    Accept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef0123456789abcdef\r\nConnection: keep-alive\r\n\r\n";

/// A stack of one service with these instances and as many routes to it beside the one for everything.
pub fn snapshot(instances: &[SocketAddr], routes: usize, threads: u16) -> Snapshot {
    let listed = if instances.is_empty() { "127.0.0.1:1".to_owned() } else { String::new() };
    let listed: Vec<String> = instances
        .iter()
        .map(ToString::to_string)
        .chain((!listed.is_empty()).then_some(listed))
        .map(|a| format!("\"{a}\""))
        .collect();
    let mut text = format!(
        "[stack]\nname = \"bench\"\n\n[listeners.web]\nbind = \"127.0.0.1:8080\"\n\n[services.app]\ninstances = [{}]\n\n",
        listed.join(", ")
    );
    for route in 0..routes {
        text += &format!(
            "[[routes]]\nhost = \"h{}.example.com\"\npath = \"/p{route}/\"\nservice = \"app\"\n\n",
            route / 10
        );
    }
    text += "[[routes]]\nservice = \"app\"\n";
    let stack = parse(&text, "keel.toml").expect("the stack file is right");
    let made = instances.iter().enumerate().map(|(place, address)| {
        let id = InstanceId { name: format!("app/{}", place + 1), generation: 1 };
        Instance::new(id, address.to_string())
    });
    Snapshot {
        format: FORMAT,
        version: 1,
        revision: 1,
        stack: "bench".into(),
        threads,
        listeners: compile_listeners(&stack),
        routes: compile_routes(&stack),
        services: vec![compile_service("app", &stack.services["app"], made.collect())],
    }
}

/// A view of it.
pub fn view(snapshot: &Snapshot) -> View {
    Registry::new(usize::from(snapshot.threads)).compile(snapshot).expect("the snapshot is right")
}

/// A data plane in this process, all of whose instances are healthy.
pub struct Edge {
    pub threads: Threads,
    pub address: SocketAddr,
}

impl Edge {
    /// Starts it with one thread.
    pub fn start(instances: &[SocketAddr]) -> Self {
        let snapshot = snapshot(instances, 0, 1);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut threads = data::spawn(1).expect("a thread");
        let view = Arc::new(view(&snapshot));
        let socket = listener.into();
        threads.orders[0].send(ToThread::Open { name: "web".into(), socket }).expect("it takes orders");
        threads.tell(|| ToThread::View(Arc::clone(&view)));
        assert!(matches!(threads.acks.blocking_recv(), Some(Ack::Serving { .. })));
        for instance in &view.services[0].instances {
            instance.shared.set_health(Health::Healthy);
        }
        Self { threads, address }
    }
}

/// An instance: answers each request with a body of so many bytes.
pub fn instance(body_bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {body_bytes}\r\n\r\n"
    );
    let answer: Arc<[u8]> = [head.as_bytes(), &vec![b'x'; body_bytes]].concat().into();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer) {
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A client's connection that asks for answers with a body of so many bytes.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    body_bytes: usize,
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr, body_bytes: usize) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, buffer: vec![0; body_bytes.clamp(8 << 10, 1 << 20)], body_bytes }
    }

    /// Asks once and reads the whole answer.
    pub fn ask(&mut self) {
        self.stream.write_all(REQUEST).expect("it takes the request");
        let (mut received, mut whole) = (0, None);
        while whole.is_none_or(|whole| received < whole) {
            // What is past the head is only counted.
            let place = if whole.is_some() { 0 } else { received };
            let count = self.stream.read(&mut self.buffer[place..]).expect("it answers");
            assert!(count > 0, "the connection ended");
            received += count;
            if whole.is_none() {
                let head = self.buffer[..received].windows(4).position(|four| four == b"\r\n\r\n");
                whole = head.map(|end| end + 4 + self.body_bytes);
            }
        }
    }
}
