//! The console's address: taken, tried again, moved, refused.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use serde_json::json;

use super::{STACK, World};

/// The stack with its console at this address.
fn at(address: SocketAddr) -> String {
    STACK.replace("[console]\nbind = \"127.0.0.1:0\"", &format!("[console]\nbind = \"{address}\""))
}

/// What answers there says of itself.
fn page(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn is_ours(address: &str) -> bool {
    page(address).is_some_and(|page| page.contains("Sign in – Evenkeel"))
}

#[test]
fn a_taken_address_is_not_said_to_be_ours_and_is_tried_again() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let world = World::new(&at(address));
    let node = world.start();
    let status = world.wait_healthy(2);
    assert_eq!(status.console, None);
    let problem = status.problems.iter().find(|problem| problem.contains("metrics are not served"));
    let holder = format!("process {}", std::process::id());
    assert!(problem.is_some_and(|problem| problem.contains(&holder)), "{:?}", status.problems);

    drop(stranger);
    let status = world.wait("the console is served", |status| status.console.is_some());
    assert_eq!((status.console, status.problems), (Some(address.to_string()), Vec::new()));
    assert!(is_ours(&address.to_string()));
    let said = world.kinds("node").iter().filter(|kind| *kind == "metrics").count();
    assert_eq!(said, 1, "it is said once, however often it is tried");
    world.end(node);
}

#[test]
fn another_address_counts_at_once_and_is_refused_where_it_is_taken() {
    let world = World::new(STACK);
    let node = world.start();
    let former = world.wait_healthy(2).console.expect("it is served");
    let apply = |address: SocketAddr| {
        let text = at(address).replace("LISTEN", &world.free);
        world.post("/v1/apply", &json!({ "text": text, "file": "keel.toml" }))
    };
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let (code, body) = apply(address);
    assert!(code == 409 && body.to_string().contains("the console cannot be bound to"), "{body}");
    assert_eq!(world.wait_healthy(2).console, Some(former.clone()));

    drop(stranger);
    let (code, body) = apply(address);
    assert!(code == 200 && body["changes"][0].as_str().unwrap().starts_with("console: 127.0.0.1:0 → "), "{body}");
    assert!(is_ours(&address.to_string()));
    assert_eq!(world.wait_healthy(2).console, Some(address.to_string()));
    world.wait("the former one is closed", |_| page(&former).is_none());

    // The same port on every address cannot be had beside the former.
    let (code, body) = apply(SocketAddr::from(([0, 0, 0, 0], address.port())));
    assert_eq!(code, 200, "{body}");
    let status = world.wait("it is served there", |status| {
        status.console.as_ref().is_some_and(|console| console.starts_with("0.0.0.0:"))
    });
    assert_eq!(status.problems, Vec::<String>::new());
    assert!(is_ours(&address.to_string()));
    world.end(node);
}
