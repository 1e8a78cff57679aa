//! FastCGI against PHP's own process manager: what scripts are told, what clients get, and what a worker's death costs.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Edge, PATIENCE, snapshot};
use evenkeel_core::snapshot::{FastCgi, Network, Snapshot, Wire};
use evenkeel_edge::messages::Notice;
use rustix::process::{Pid, Signal, kill_process};

const SCRIPTS: [(&str, &str); 7] = [
    (
        "index.php",
        "<?php header('Content-Type: application/json'); $body = file_get_contents('php://input');
         echo json_encode(['server' => $_SERVER, 'get' => $_GET, 'post' => $_POST, 'cookie' => $_COOKIE,
             'length' => strlen($body), 'digest' => md5($body)]);",
    ),
    ("large.php", "<?php for ($i = 0; $i < 5000; $i++) echo str_repeat(chr(97 + $i % 26), 1024);"),
    (
        "missing.php",
        "<?php http_response_code(404); setcookie('a', '1'); setcookie('b', '2'); header('X-Own: x'); echo 'not here';",
    ),
    (
        "once.php",
        "<?php $mark = __DIR__ . '/mark'; if (!file_exists($mark)) { file_put_contents(\"$mark.tmp\", getmypid());
         rename(\"$mark.tmp\", $mark); sleep(60); } echo 'answered';",
    ),
    (
        "half.php",
        "<?php header('Content-Length: 1000'); echo 'half'; flush(); file_put_contents(__DIR__ . '/half', getmypid()); sleep(60);",
    ),
    (
        "own.php",
        "<?php if (!isset($again)) { $again = 1; require $_SERVER['SCRIPT_FILENAME']; } else
        echo json_encode([$_SERVER['SCRIPT_FILENAME'], $_SERVER['DOCUMENT_ROOT'], __FILE__]);",
    ),
    ("broken.php", "<?php error_log('it is broken'); header('Location: /elsewhere', true, 303);"),
];

/// PHP's process manager with scripts of its own.
struct Fpm {
    child: Child,
    folder: PathBuf,
    address: String,
}

impl Fpm {
    /// On a port, or on a socket in its folder.
    fn start(name: &str, on_socket: bool) -> Self {
        let folder = std::env::temp_dir().join(format!("keel-fastcgi-{}-{name}", std::process::id()));
        fs::create_dir_all(folder.join("www/sub")).unwrap();
        for (name, source) in SCRIPTS {
            fs::write(folder.join("www").join(name), source).unwrap();
        }
        fs::copy(folder.join("www/index.php"), folder.join("www/sub/index.php")).unwrap();
        fs::write(folder.join("outside.php"), "<?php echo 'outside';").unwrap();
        let address = if on_socket {
            format!("unix:{}", folder.join("fpm.sock").display())
        } else {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().to_string()
        };
        let listen = address.trim_start_matches("unix:");
        let config = format!(
            "[global]\nerror_log = {0}/fpm.log\ndaemonize = no\n[www]\nuser = root\ngroup = root\nlisten = {listen}\n\
             pm = static\npm.max_children = 3\ncatch_workers_output = yes\n",
            folder.display()
        );
        fs::write(folder.join("fpm.conf"), config).unwrap();
        let mut command = Command::new(program());
        command.args(["--nodaemonize", "--no-php-ini", "--allow-to-run-as-root", "--fpm-config"]);
        let child = command.arg(folder.join("fpm.conf")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let fpm = Self { child, folder, address };
        let log = fpm.folder.join("fpm.log");
        fpm.eventually("it starts", || fs::read_to_string(&log).unwrap_or_default().contains("ready to handle"));
        fpm
    }

    fn root(&self) -> PathBuf {
        self.folder.join("www")
    }

    fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            let log = fs::read_to_string(self.folder.join("fpm.log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "never: {what}; {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// An edge in front of it.
    fn edge(&self) -> Edge {
        Edge::start(self.snapshot())
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = snapshot(&[SocketAddr::from(([127, 0, 0, 1], 1))]);
        let service = &mut snapshot.services[0];
        service.instances[0].address.clone_from(&self.address);
        let fastcgi = FastCgi {
            root: self.root().display().to_string(),
            index: "index.php".to_owned(),
            ending: ".php".to_owned(),
            folders: vec!["/sub/".to_owned()],
            params: vec![("APP_ENV".to_owned(), "test".to_owned())],
        };
        service.wire = Wire { fastcgi: Some(fastcgi), ..Wire::default() };
        snapshot
    }

    /// Kills the worker whose number is in this file, once it is there.
    fn kill_worker_of(&self, file: &str) {
        let path = self.root().join(file);
        self.eventually("a worker says its number", || fs::read_to_string(&path).is_ok_and(|text| !text.is_empty()));
        let pid = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
}

impl Drop for Fpm {
    fn drop(&mut self) {
        // Its workers end with it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// As Debian calls it: with its version.
fn program() -> PathBuf {
    let is_it = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"));
    let mut found = fs::read_dir("/usr/sbin").unwrap().flatten().map(|entry| entry.path());
    found.find(|path| is_it(path)).expect("php-fpm is there: `cargo xtask setup` installs it")
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_script_is_told_what_was_asked() {
    let fpm = Fpm::start("asked", false);
    let edge = fpm.edge();
    let answer = edge.ask(
        "GET /index.php/extra/path?a=1&b=%20 HTTP/1.1\r\nHost: shop.test\r\nCookie: one=1\r\nCookie: two=2\r\n\
         Proxy: http://evil/\r\nX_Forwarded_Host: evil\r\nX-Own: yes\r\n\r\n",
    );
    assert_eq!((answer.status(), answer.field("content-type")), (200, Some("application/json")));
    assert!(answer.field("content-length").is_some(), "what came whole has a length: {}", answer.head);
    let said = json(&answer.text());
    let server = &said["server"];
    for (name, value) in [
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", "/index.php"),
        ("PATH_INFO", "/extra/path"),
        ("PHP_SELF", "/index.php/extra/path"),
        ("REQUEST_URI", "/index.php/extra/path?a=1&b=%20"),
        ("QUERY_STRING", "a=1&b=%20"),
        ("SERVER_NAME", "shop.test"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REQUEST_SCHEME", "http"),
        ("HTTP_X_OWN", "yes"),
        ("APP_ENV", "test"),
    ] {
        assert_eq!(server[name], value, "{name} of {server}");
    }
    assert_eq!(server["DOCUMENT_ROOT"], fpm.root().display().to_string());
    assert_eq!((&said["cookie"]["one"], &said["cookie"]["two"]), (&"1".into(), &"2".into()));
    assert_eq!((&said["get"]["a"], &said["get"]["b"]), (&"1".into(), &" ".into()));
    assert!(server["HTTP_PROXY"].is_null() && server["HTTPS"].is_null(), "{server}");
    assert_ne!(server["HTTP_X_FORWARDED_HOST"], "evil");
    let answer = edge.ask("GET /index.php HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    assert_eq!(json(&answer.text())["server"]["REMOTE_ADDR"], "127.0.0.1", "nobody trusts this client");
    for (path, script) in [("/", "/index.php"), ("/sub/", "/sub/index.php"), ("/any/page/", "/index.php")] {
        assert_eq!(json(&edge.get(path).text())["server"]["SCRIPT_NAME"], script, "{path}");
    }
}

#[test]
fn a_relative_root_counts_from_the_folder_of_each_instance() {
    let fpm = Fpm::start("relative", true);
    let mut snapshot = fpm.snapshot();
    snapshot.services[0].wire.fastcgi.as_mut().unwrap().root = "./www".to_owned();
    snapshot.services[0].instances[0].folder = Some(fpm.folder.display().to_string());
    let mut edge = Edge::start(snapshot.clone());
    let own = fpm.root().join("own.php").display().to_string();
    let told = json(&edge.get("/own.php").text());
    assert_eq!(told, serde_json::json!([own, fpm.root().display().to_string(), own]));
    // Another release beside it, by another process manager in the product.
    let next = fpm.folder.join("next");
    fs::create_dir_all(next.join("www")).unwrap();
    fs::copy(&own, next.join("www/own.php")).unwrap();
    let instance = &mut snapshot.services[0].instances[0];
    (instance.id.generation, instance.folder) = (2, Some(next.display().to_string()));
    edge.apply(snapshot);
    edge.set_health(0, evenkeel_core::status::Health::Healthy);
    let own = next.join("www/own.php").display().to_string();
    assert_eq!(json(&edge.get("/own.php").text())[0], own);
}

#[test]
fn behind_trusted_proxies_the_client_is_whom_they_name() {
    let fpm = Fpm::start("trusted", true);
    let mut snapshot = fpm.snapshot();
    let network = |address: &str, prefix| Network { address: address.parse().unwrap(), prefix };
    snapshot.listeners[0].trusted = vec![network("127.0.0.0", 8), network("10.0.0.0", 8)];
    let edge = Edge::start(snapshot);
    for (said, client) in [
        ("", "127.0.0.1"),
        ("X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7"),
        ("X-Forwarded-For: 192.0.2.66, 198.51.100.7, 10.0.0.2\r\n", "198.51.100.7"),
        ("X-Forwarded-For: 192.0.2.66, unknown\r\n", "127.0.0.1"),
    ] {
        let answer = edge.ask(&format!("GET /index.php HTTP/1.1\r\nHost: a\r\n{said}\r\n"));
        assert_eq!(json(&answer.text())["server"]["REMOTE_ADDR"], client, "{said}");
    }
}

#[test]
fn bodies_arrive_whole_in_any_framing() {
    let fpm = Fpm::start("bodies", true);
    let edge = fpm.edge();
    let form = "name=J%C3%BCrgen&x=1";
    let answer = edge.ask(&format!(
        "POST /index.php HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    ));
    assert_eq!(json(&answer.text())["post"]["name"], "Jürgen");
    let large = vec![b'x'; 3_000_000];
    let mut client = edge.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", large.len()).as_bytes());
    client.send(&large);
    assert_eq!(json(&client.answer().text())["length"], large.len());
    // The same connection of the client goes on.
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    );
    let said = json(&client.answer().text());
    assert_eq!((&said["length"], &said["server"]["CONTENT_LENGTH"]), (&11.into(), &"11".into()));
    assert_eq!(said["digest"], "5eb63bbbe01eeed093cb22bb8f5acdc3", "of `hello world`");
    // What waits to be asked for is asked for.
    let mut client = edge.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer_to_head().status(), 100);
    client.send(b"abc");
    assert_eq!(json(&client.answer().text())["length"], 3);
    // Scripts must know a length, so what has none is gathered, up to a bound.
    let mut client = edge.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n", &vec![b'y'; 0x1_0000][..], b"\r\n"].concat();
    // The refusal may come before all of it was taken.
    let refused = (0..40).any(|_| client.stream.write_all(&chunk).is_err());
    let _ = refused || client.stream.write_all(b"0\r\n\r\n").is_err();
    assert_eq!(client.answer().status(), 411);
}

#[test]
fn answers_are_those_of_the_script() {
    let fpm = Fpm::start("answers", false);
    let mut edge = fpm.edge();
    let answer = edge.get("/missing.php");
    assert_eq!((answer.status(), answer.text().as_str(), answer.field("x-own")), (404, "not here", Some("x")));
    assert_eq!(answer.fields("set-cookie"), ["a=1", "b=2"]);
    let answer = edge.get("/large.php");
    assert_eq!((answer.status(), answer.body.len()), (200, 5000 * 1024));
    assert!(answer.body.iter().zip(0..).all(|(byte, at)| *byte == b'a' + u8::try_from(at / 1024 % 26).unwrap()));
    let answer = edge.get("/broken.php");
    // What it complained of goes to its own log.
    let said = |notice: Notice| match notice {
        Notice::Complained { instance, text, cut: false, .. } if text.contains("it is broken") => Some(instance),
        _ => None,
    };
    let start = Instant::now();
    let whose = loop {
        if let Some(whose) = edge.notices().into_iter().find_map(said) {
            break whose;
        }
        assert!(start.elapsed() < PATIENCE, "its complaint is passed on");
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(whose.id.name, "app/1");
    assert_eq!((answer.status(), answer.field("location")), (303, Some("/elsewhere")));
    let mut client = edge.client();
    client.send(b"HEAD /large.php HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer_to_head().status(), 200);
    client.send(b"GET /missing.php HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "not here", "no body came with the answer to HEAD");
    assert_eq!(edge.get("/nothing.php").status(), 404, "PHP says so");
    for out in ["/../outside.php", "/%2e%2e/outside.php", "/a.php/..%2f..%2f../x", "/x%00.php", "/sub/%2e%2e/index.php"]
    {
        let answer = edge.get(out);
        assert!(answer.status() == 400 && !answer.text().contains("outside"), "{out}: {}", answer.text());
    }
}

#[test]
fn a_worker_that_dies_costs_no_answer() {
    let fpm = Fpm::start("dies", true);
    let edge = fpm.edge();
    let mut client = edge.client();
    client.send(b"GET /once.php HTTP/1.1\r\nHost: a\r\n\r\n");
    fpm.kill_worker_of("mark");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "answered"), "it was asked again");
    // A request that is not idempotent is never asked again.
    fs::remove_file(fpm.root().join("mark")).unwrap();
    let mut client = edge.client();
    client.send(b"POST /once.php HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    fpm.kill_worker_of("mark");
    assert_eq!(client.answer().status(), 502);
    // One that has begun to answer cannot be taken for whole.
    let mut client = edge.client();
    client.send(b"POST /half.php HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    fpm.kill_worker_of("half");
    let mut rest = Vec::new();
    let whole = client.stream.read_to_end(&mut rest).is_ok() && rest.ends_with(b"half") && rest.len() > 1000;
    assert!(!whole, "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn what_is_no_fastcgi_is_a_failed_try() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        }
    });
    let edge = Edge::start(played(&address.to_string()));
    let answer = edge.get("/");
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("could not be understood"), "{}", answer.text());
}

/// An instance that a test plays.
fn played(address: &str) -> Snapshot {
    let mut snapshot = snapshot(&[SocketAddr::from(([127, 0, 0, 1], 1))]);
    let fastcgi = FastCgi {
        root: "/srv".to_owned(),
        index: "index.php".to_owned(),
        ending: ".php".to_owned(),
        folders: Vec::new(),
        params: Vec::new(),
    };
    let service = &mut snapshot.services[0];
    address.clone_into(&mut service.instances[0].address);
    service.wire = Wire { fastcgi: Some(fastcgi), ..Wire::default() };
    snapshot
}

/// A whole answer, or the end of a request that was not begun (sections 5.5 and 6.2 of FastCGI's specification).
fn answer_of(text: &str, protocol_status: u8) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    let end = [1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, protocol_status, 0, 0, 0];
    [&[1, 6, 0, 1, 0, length, 0, 0], text.as_bytes(), &end].concat()
}

#[test]
fn a_request_that_an_instance_did_not_begin_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::start(played(&listener.local_addr().unwrap().to_string()));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // 2: it is overloaded.
    for (text, status) in [("", 2), ("Content-Type: text/plain\r\n\r\nbegun", 0)] {
        // Whoever asks nothing only looks whether somebody listens.
        let mut asking = listener.incoming().flatten().filter_map(|mut one| match one.read(&mut [0; 4096]) {
            Ok(1..) => Some(one),
            _ => None,
        });
        asking.next().unwrap().write_all(&answer_of(text, status)).unwrap();
    }
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "begun"));
}

#[test]
fn a_socket_whose_queue_is_full_is_waited_for() {
    let folder = std::env::temp_dir().join(format!("keel-fastcgi-{}-queue", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("fpm.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // The smallest queue there is; what waits in it fills it.
    rustix::net::listen(&listener, 0).unwrap();
    let first = UnixStream::connect(&path).unwrap();
    let mut snapshot = played(&format!("unix:{}", path.display()));
    // Nothing else waits in its place.
    snapshot.services[0].hold.max_ms = 0;
    snapshot.services[0].limits.connect_timeout_ms = 20_000;
    let edge = Edge::start(snapshot);
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // The request has found the queue full for a while before there is room.
    client.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(client.stream.peek(&mut [0]).is_err(), "it waits");
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(first);
    let _ = listener.accept().unwrap();
    let (mut instance, _) = listener.accept().unwrap();
    let _ = instance.read(&mut [0; 4096]).unwrap();
    instance.write_all(&answer_of("\r\nhere", 0)).unwrap();
    assert_eq!(client.answer().text(), "here");
    fs::remove_dir_all(&folder).unwrap();
}
