//! `listeners.NAME.strict` as its user has it: what an ambiguous client gets, what the journal and the metrics say.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use evenkeel_core::status::Health;

use crate::{
    rig::{self, Rig},
    slow_app::SlowApp,
};

/// Sends bytes and returns the status of the answer.
fn send(rig: &Rig, bytes: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn why(rig: &Rig) -> String {
    String::from_utf8(rig.keel(&["why", "edge"]).stdout).unwrap()
}

#[test]
fn ambiguous_requests_are_reported_while_one_migrates_and_refused_afterwards() {
    let app = SlowApp::start("app", rig::free_port());
    let stack = format!(
        "[listeners.web]\nbind = \"{{listen}}\"\nstrict = \"report\"\n\
         [services.app]\ninstances = [\"{}\"]\ncheck = {{ http = \"/\", interval = \"100ms\" }}\n",
        app.address()
    );
    let rig = Rig::up(&stack);
    rig.wait_until("the instance is healthy", |status| {
        status.services.iter().flat_map(|service| &service.instances).any(|one| one.health == Health::Healthy)
    });
    let old = "GET /old HTTP/1.1\nHost: a\nConnection: close\n\n";
    assert_eq!(send(&rig, old), "200");
    // Two lengths have no common meaning, whatever the listener says.
    assert_eq!(send(&rig, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), "400");
    rig.wait_until("it is said", |_| why(&rig).contains("an ambiguous request to listener web was forwarded"));
    let said = why(&rig);
    assert!(said.contains("GET /old from 127.0.0.1") && said.contains("LF instead of CRLF"), "{said}");

    let file = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("strict = \"report\"\n", "")).unwrap();
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    rig.wait_until("it is served", |_| send(&rig, old) == "400");
    assert_eq!(send(&rig, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "200");
}
