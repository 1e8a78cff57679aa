//! TCP and UDP listeners of the real binary, in front of a small server of both: kills, drains, replaced processes.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::rig::{self, PATIENCE, Rig, all_healthy, instances};

/// Says its name on each line that it hears, over TCP, and on each datagram; lives on what `PORT` says.
const SERVER: &str = r#"
import os, socketserver, threading
name = os.environ["KEEL_INSTANCE"].encode()
at = ("127.0.0.1", int(os.environ["PORT"]))
class Line(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(name + b" " + line)
class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(name + b" " + self.request[0], self.client_address)
class Connections(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
datagrams = socketserver.UDPServer(at, Datagram)
threading.Thread(target=datagrams.serve_forever, daemon=True).start()
Connections(at, Line).serve_forever()
"#;

/// Connections and datagrams at the same address.
fn up() -> Rig {
    let rig = Rig::up(&format!(
        "[listeners.lines]\nbind = \"{{listen}}\"\nprotocol = \"tcp\"\nservice = \"echo\"\n\
         [listeners.datagrams]\nbind = \"{{listen}}\"\nprotocol = \"udp\"\nservice = \"echo\"\n\
         [services.echo]\nrun = [\"python3\", \"-c\", '''{SERVER}''']\nreplicas = 2\nbalance = \"round-robin\"\n"
    ));
    rig.wait_until("both instances are healthy", |status| !status.services.is_empty() && all_healthy(status));
    rig
}

struct Line(BufReader<TcpStream>);

impl Line {
    fn open(rig: &Rig) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Who answers; `None` where the connection has ended.
    fn try_ask(&mut self) -> Option<String> {
        self.0.get_mut().write_all(b"hello\n").ok()?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).ok().filter(|length| *length > 0)?;
        answer.strip_suffix(" hello\n").map(str::to_owned)
    }

    fn ask(&mut self) -> String {
        self.try_ask().expect("the connection lives")
    }
}

/// Who answers a datagram of this client; asked again and again, since some may be lost while processes change.
fn ask_datagram(client: &UdpSocket) -> String {
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let start = Instant::now();
    loop {
        client.send(b"hello").unwrap();
        let mut answer = [0; 100];
        if let Ok(length) = client.recv(&mut answer) {
            return String::from_utf8_lossy(&answer[..length]).strip_suffix(" hello").unwrap().to_owned();
        }
        assert!(start.elapsed() < PATIENCE, "nobody answers datagrams");
    }
}

fn datagrams(rig: &Rig) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", rig.port)).unwrap();
    client
}

#[test]
fn a_killed_instance_costs_its_own_connections_and_nobody_elses() {
    let rig = up();
    let mut lines: Vec<Line> = (0..8).map(|_| Line::open(&rig)).collect();
    let names: Vec<String> = lines.iter_mut().map(Line::ask).collect();
    let clients: Vec<UdpSocket> = (0..4).map(|_| datagrams(&rig)).collect();
    let told: Vec<String> = clients.iter().map(ask_datagram).collect();
    assert!(names.contains(&"echo/1".to_owned()) && names.contains(&"echo/2".to_owned()), "{names:?}");
    assert!(told.contains(&"echo/1".to_owned()) && told.contains(&"echo/2".to_owned()), "{told:?}");

    let victim = instances(&rig.status()).into_iter().find(|instance| instance.name == "echo/1").unwrap();
    rig::signal(victim.pid.unwrap(), Signal::KILL);
    for (line, name) in lines.iter_mut().zip(&names) {
        assert_eq!(line.try_ask().as_ref(), (name == "echo/2").then_some(name));
    }
    // A dying process closes its files in no order that one may rely on: its listening socket may accept for a moment
    // after its connections ended, and nobody can tell what becomes of what is sent there.
    rig.wait_until("its end is known", |status| instances(status).iter().all(|instance| instance.pid != victim.pid));
    for _ in 0..20 {
        assert_eq!(Line::open(&rig).ask().split('/').next(), Some("echo"), "whoever comes now finds an instance");
    }
    for client in &clients {
        ask_datagram(client);
    }
    rig.wait_until("it is back", all_healthy);
    let names: Vec<String> = (0..8).map(|_| Line::open(&rig).ask()).collect();
    assert!(names.contains(&"echo/1".to_owned()), "it gets connections again: {names:?}");
}

#[test]
fn a_drained_instance_keeps_its_connections_and_gets_no_more() {
    let rig = up();
    let mut lines: Vec<Line> = (0..4).map(|_| Line::open(&rig)).collect();
    let names: Vec<String> = lines.iter_mut().map(Line::ask).collect();
    let client = datagrams(&rig);
    ask_datagram(&client);
    let drained = rig.keel(&["drain", "echo/1", "--no-wait"]);
    assert!(drained.status.success(), "{drained:?}");
    rig.wait_until("it drains", |status| {
        instances(status).iter().any(|instance| instance.health == evenkeel_core::status::Health::Draining)
    });
    for _ in 0..6 {
        assert_eq!(Line::open(&rig).ask(), "echo/2");
    }
    assert_eq!(ask_datagram(&client), "echo/2", "datagrams go elsewhere at once");
    let again: Vec<String> = lines.iter_mut().map(Line::ask).collect();
    assert_eq!(again, names);
    let shown = String::from_utf8(rig.keel(&["status"]).stdout).unwrap();
    assert!(shown.contains(&format!("tcp://127.0.0.1:{}", rig.port)), "{shown}");
    assert!(
        shown.contains(&format!("udp://127.0.0.1:{}", rig.port)) && !shown.contains("http://127.0.0.1:"),
        "{shown}"
    );
}

#[test]
fn listeners_of_both_kinds_survive_the_processes_of_keel() {
    let rig = up();
    let client = datagrams(&rig);
    ask_datagram(&client);
    let before = rig.status();
    rig::signal(before.edge.clone().unwrap().pid, Signal::KILL);
    // The sockets are held elsewhere: who connects meanwhile waits for the next edge.
    assert!(Line::open(&rig).ask().starts_with("echo/"));
    ask_datagram(&client);
    rig::signal(before.node.pid, Signal::KILL);
    rig.wait_until("there is another node process", |status| status.node.pid != before.node.pid && all_healthy(status));
    assert!(Line::open(&rig).ask().starts_with("echo/"));
    ask_datagram(&client);
    let listeners = rig.status().listeners;
    assert_eq!(listeners, before.listeners, "both are bound where they were");
}
