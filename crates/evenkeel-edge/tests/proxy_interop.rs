//! PROXY headers with implementations nobody here wrote: HAProxy in front of the edge and behind it, nginx behind it.
//!
//! Debian's nginx sends such headers only with a module that its package `nginx-light` does not have. The programs are
//! what `cargo xtask setup` installs.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Client, Edge, Server, snapshot};
use evenkeel_core::snapshot::{Network, Protocol, ProxyHeader, Snapshot};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// The client's own address, so that nobody takes it for the proxy's.
const CLIENT: &str = "127.0.0.77:0";

/// A server of somebody else, ended with the test.
struct Peer {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Starts `program` with this configuration and waits until it listens.
fn start(program: &str, configuration: &str, arguments: &[&str], listens: SocketAddr) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("configuration");
    std::fs::write(&file, configuration.replace("{folder}", folder.path().to_str().unwrap())).unwrap();
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(&file)
        .env("PATH", path)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; install it by: cargo xtask setup"));
    let mut peer = Peer { child, _folder: folder };
    let begun = Instant::now();
    while TcpStream::connect(listens).is_err() {
        assert!(peer.child.try_wait().unwrap().is_none(), "{program} has ended");
        assert!(begun.elapsed() < common::PATIENCE, "{program} does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    peer
}

fn haproxy(rest: &str, listens: SocketAddr) -> Peer {
    let begin = "global\n  maxconn 100\ndefaults\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n";
    start("haproxy", &format!("{begin}{rest}"), &["-db", "-f"], listens)
}

/// From another address than the proxies'.
fn from_elsewhere(to: SocketAddr) -> Client {
    let stream: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&stream, &CLIENT.parse::<SocketAddr>().unwrap()).unwrap();
    connect(&stream, &to).unwrap();
    Client::new(TcpStream::from(stream))
}

fn accepting(instances: &[SocketAddr]) -> Snapshot {
    let mut snapshot = snapshot(instances);
    snapshot.listeners[0].accepts_proxy = true;
    snapshot.listeners[0].trusted = vec![Network { address: "127.0.0.1".parse().unwrap(), prefix: 32 }];
    snapshot
}

#[test]
fn haproxy_in_front_names_the_client_in_either_version() {
    let server = Server::echo();
    let edge = Edge::start(accepting(&[server.address]));
    for option in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let at = free();
        let _front = haproxy(
            &format!(
                "listen f\n  bind {at}\n  mode tcp\n  unique-id-format %ID-%Ts\n  server edge {} {option}\n",
                edge.address
            ),
            at,
        );
        let mut client = from_elsewhere(at);
        for _ in 0..2 {
            client.send(GET);
            let text = client.answer().text().to_ascii_lowercase();
            assert!(text.contains("x-forwarded-for: 127.0.0.77\r"), "{option}: {text}");
        }
    }
}

#[test]
fn a_check_of_haproxy_passes_without_a_client() {
    let server = Server::named("web");
    let edge = Edge::start(accepting(&[server.address]));
    let at = free();
    let check = "option httpchk GET /\n  http-check expect status 200\n  default-server inter 50ms rise 1 fall 1";
    let _front = haproxy(
        &format!(
            "listen f\n  bind {at}\n  mode http\n  {check}\n  server edge {} send-proxy-v2 check check-send-proxy\n",
            edge.address
        ),
        at,
    );
    common::eventually("checks arrive", || server.count() >= 3);
    let mut client = from_elsewhere(at);
    client.send(GET);
    assert_eq!((client.answer().status(), edge.threads.shared.threads[0].0.rejected[0].get()), (200, 0));
}

/// A front of the edge, of requests or of connections, and an instance that expects a header.
fn before(instance: SocketAddr, version: ProxyHeader, protocol: Protocol) -> Edge {
    let mut sends = snapshot(&[instance]);
    sends.services[0].wire.sends_proxy = Some(version);
    if protocol == Protocol::Tcp {
        sends.listeners[0].protocol = Protocol::Tcp;
        sends.listeners[0].service = Some("app".into());
        sends.routes.clear();
    }
    Edge::start(sends)
}

fn is_told_right(instance: SocketAddr) {
    for version in [ProxyHeader::V1, ProxyHeader::V2] {
        for protocol in [Protocol::Http, Protocol::Tcp] {
            let edge = before(instance, version, protocol);
            let (mut one, mut two) = (from_elsewhere(edge.address), from_elsewhere(edge.address));
            for _ in 0..3 {
                for client in [&mut one, &mut two] {
                    client.send(GET);
                    let port = client.stream.local_addr().unwrap().port();
                    let wanted = format!("127.0.0.77:{port} to {}", edge.address);
                    assert_eq!(client.answer().text(), wanted, "{version:?} {protocol:?}");
                }
            }
        }
    }
}

#[test]
fn haproxy_behind_is_told_who_the_client_is() {
    let at = free();
    let says =
        "http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port] to %[dst]:%[dst_port]\"";
    let _instance = haproxy(&format!("listen f\n  bind {at} accept-proxy\n  mode http\n  {says}\n"), at);
    is_told_right(at);
}

#[test]
fn nginx_behind_is_told_who_the_client_is() {
    let at = free();
    let says = "$proxy_protocol_addr:$proxy_protocol_port to $proxy_protocol_server_addr:$proxy_protocol_server_port";
    let configuration = format!(
        "daemon off;\nmaster_process off;\npid {{folder}}/pid;\nerror_log stderr crit;\nevents {{}}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {{folder}}/body;\n  proxy_temp_path {{folder}}/proxy;\n  fastcgi_temp_path {{folder}}/fastcgi;\n  \
         uwsgi_temp_path {{folder}}/uwsgi;\n  scgi_temp_path {{folder}}/scgi;\n  default_type text/plain;\n  \
         server {{ listen {at} proxy_protocol; location / {{ return 200 \"{says}\"; }} }}\n}}\n"
    );
    let _instance = start("nginx", &configuration, &["-c"], at);
    is_told_right(at);
}
