//! The running program over HTTP: the API, bad input, trouble with the database, stopping.

// A test that cannot go on says so by panicking, in its helpers as well.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use common::{Instance, get, request, send_json, shop};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn products_are_listed_found_and_published() {
    let (_folder, shop) = shop();
    let at = shop.address;
    let first = get(at, "/api/products").json();
    assert_eq!((first["items"].as_array().unwrap().len(), &first["page"]), (24, &json!(1)));
    let pages = first["pages"].as_i64().unwrap();
    let listed: i64 = (1..=pages)
        .map(|page| get(at, &format!("/api/products?page={page}")).json()["items"].as_array().unwrap().len())
        .map(|length| i64::try_from(length).unwrap())
        .sum();
    assert_eq!(json!(listed), first["total"]);
    let found = get(at, "/api/products?query=oak%20bo").json();
    assert_eq!(found["items"][0]["name"], "End-grain oak board");
    assert_eq!(get(at, "/api/products?query=lamp&category=kitchen").json()["total"], 0);
    assert_eq!(get(at, "/api/products?query=%22%29%20OR%20%2A").status, 200);
    let new = json!({ "name": "Sextant", "category": "outdoors", "summary": "Finds noon <at sea>.",
                      "price_cents": 9900, "stock": 3 });
    assert_eq!(send_json(at, "POST", "/api/products", &[], &new).status, 401);
    let wrong = [("Authorization", "Bearer a-token-for-the-tesst")];
    assert_eq!(send_json(at, "POST", "/api/products", &wrong, &new).status, 401);
    let right = [("Authorization", "Bearer a-token-for-the-tests")];
    let published = send_json(at, "POST", "/api/products", &right, &new);
    assert_eq!(published.status, 201, "{}", published.body);
    let id = published.json()["id"].as_i64().unwrap();
    assert_eq!(get(at, "/api/products?query=sextant").json()["items"][0]["id"], id);
    let page = get(at, &format!("/products/{id}")).body;
    assert!(page.contains("Finds noon &lt;at sea&gt;.") && page.contains("Only 3 left"), "{page}");
}

#[test]
fn carts_become_orders_once() {
    let (_folder, shop) = shop();
    let at = shop.address;
    let key = [("Idempotency-Key", "cart-1")];
    let cart = request(at, "POST", "/api/carts", &key, "").unwrap().json();
    let cart = cart["id"].as_str().unwrap().to_owned();
    assert_eq!(request(at, "POST", "/api/carts", &key, "").unwrap().json()["id"], cart);
    let item = format!("/api/carts/{cart}/items/2");
    assert_eq!(send_json(at, "PUT", &item, &[], &json!({ "quantity": 2 })).json()["total_cents"], 23_800);
    assert_eq!(send_json(at, "PUT", &item, &[], &json!({ "quantity": 100 })).status, 422);
    assert_eq!(send_json(at, "PUT", &item, &[], &json!({ "quantity": 3 })).json()["total_cents"], 35_700);
    assert_eq!(get(at, &format!("/api/carts/{cart}")).json()["items"][0]["quantity"], 3);
    let body = json!({ "cart": cart, "email": "ada@example.com" });
    let placed = send_json(at, "POST", "/api/orders", &[("Idempotency-Key", "order-1")], &body);
    assert_eq!(placed.status, 201, "{}", placed.body);
    assert_eq!((placed.json()["status"].as_str(), &placed.json()["total_cents"]), (Some("paid"), &json!(35_700)));
    let again = send_json(at, "POST", "/api/orders", &[("Idempotency-Key", "order-1")], &body);
    assert_eq!((again.status, again.body), (200, placed.body.clone()));
    let other_key = send_json(at, "POST", "/api/orders", &[("Idempotency-Key", "order-2")], &body);
    assert_eq!(other_key.status, 409, "{}", other_key.body);
    assert_eq!(send_json(at, "PUT", &item, &[], &json!({ "quantity": 1 })).status, 409);
    let other_body = json!({ "cart": cart, "email": "bob@example.com" });
    assert_eq!(send_json(at, "POST", "/api/orders", &[("Idempotency-Key", "order-1")], &other_body).status, 422);
    assert_eq!(get(at, "/api/orders?key=order-1").json(), json!([placed.json()]));
    assert_eq!(get(at, "/api/orders?key=order-2").json(), json!([]));
    assert_eq!(get(at, placed.header("location").unwrap()).json(), placed.json());
}

#[test]
fn what_is_not_in_stock_is_not_sold() {
    let (_folder, shop) = shop();
    let at = shop.address;
    let right = [("Authorization", "Bearer a-token-for-the-tests")];
    let new = json!({ "name": "Last one", "category": "desk", "summary": "One.", "price_cents": 100, "stock": 1 });
    let product = send_json(at, "POST", "/api/products", &right, &new).json()["id"].as_i64().unwrap();
    let order = |key: &str, lines: Value| {
        let body = json!({ "items": lines, "email": "ada@example.com" });
        send_json(at, "POST", "/api/orders", &[("Idempotency-Key", key)], &body)
    };
    let refused = order("a", json!([{ "product": 1, "quantity": 1 }, { "product": product, "quantity": 2 }]));
    assert_eq!((refused.status, &refused.json()["error"]["message"]), (409, &json!("only 1 of Last one left")));
    assert_eq!(get(at, "/api/products/1").json()["stock"], 1_000_000, "a refused order takes nothing");
    assert_eq!(order("b", json!([{ "product": product, "quantity": 1 }])).status, 201);
    let refused = order("c", json!([{ "product": product, "quantity": 1 }]));
    assert_eq!((refused.status, &refused.json()["error"]["message"]), (409, &json!("Last one is sold out")));
}

#[test]
fn bad_input_is_told_what_is_wrong() {
    let (_folder, shop) = shop();
    let at = shop.address;
    let line = json!([{ "product": 1, "quantity": 1 }]);
    let key: &[(&str, &str)] = &[("Idempotency-Key", "k")];
    for (headers, body, status) in [
        (&[][..], json!({ "items": line, "email": "ada@example.com" }), 400),
        (&[("Idempotency-Key", "a b")][..], json!({ "items": line, "email": "ada@example.com" }), 400),
        (key, json!({ "items": line, "email": "ada" }), 422),
        (key, json!({ "items": [], "email": "ada@example.com" }), 422),
        (key, json!({ "email": "ada@example.com" }), 422),
        (key, json!({ "items": line, "cart": "x", "email": "ada@example.com" }), 422),
        (key, json!({ "cart": "x", "email": "ada@example.com" }), 404),
        (key, json!({ "items": [{ "product": 1, "quantity": -1 }], "email": "ada@example.com" }), 422),
        (key, json!({ "items": [{ "product": 1, "quantity": 1e30 }], "email": "ada@example.com" }), 422),
        (key, json!({ "items": [{ "product": 9999, "quantity": 1 }], "email": "ada@example.com" }), 422),
        (key, json!({ "items": line, "email": "ada@example.com", "payment_method": "gold" }), 422),
        (key, json!({ "items": line, "email": "ada@example.com", "surprise": 1 }), 422),
        (key, json!([1]), 422),
    ] {
        let answer = send_json(at, "POST", "/api/orders", headers, &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.len() > 8), "{}", answer.body);
    }
    assert_eq!(get(at, "/api/orders?key=k").json(), json!([]), "nothing of this became an order");
}

#[test]
fn what_leads_nowhere_is_told_in_the_form_that_was_asked_for() {
    let (_folder, shop) = shop();
    let at = shop.address;
    let json_type = ("Content-Type", "application/json");
    let large = "x".repeat(70_000);
    for (method, path, headers, body, status) in [
        ("POST", "/api/orders", &[json_type, ("Idempotency-Key", "k")][..], "{", 400),
        ("POST", "/api/orders", &[("Idempotency-Key", "k")], "{}", 415),
        ("POST", "/api/orders", &[json_type, ("Idempotency-Key", "k")], large.as_str(), 413),
        ("DELETE", "/api/orders", &[], "", 405),
        ("GET", "/api/products?page=0", &[], "", 400),
        ("GET", "/api/products?page=x", &[], "", 400),
        ("GET", "/api/products?category=cars", &[], "", 404),
        ("GET", "/api/products/9999", &[], "", 404),
        ("GET", "/api/orders/..%2f", &[], "", 404),
        ("GET", "/api/carts/x", &[], "", 404),
        ("GET", "/api/nothing", &[], "", 404),
    ] {
        let answer = request(at, method, path, headers, body).unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{method} {path}");
    }
    for (path, status) in [("/nothing", 404), ("/products/9999", 404), ("/products?page=0", 400), ("/orders/x", 404)] {
        let answer = get(at, path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body.contains("<h1>") && answer.body.ends_with("</html>"), "{}", answer.body);
    }
}

#[test]
fn a_writer_that_cannot_get_the_lock_says_when_to_come_back() {
    let (folder, shop) = shop();
    let at = shop.address;
    let holder = rusqlite::Connection::open(folder.path().join("shop.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = json!({ "items": [{ "product": 1, "quantity": 1 }], "email": "ada@example.com" });
    let gave_up = send_json(at, "POST", "/api/orders", &[("Idempotency-Key", "k")], &body);
    assert_eq!((gave_up.status, gave_up.header("retry-after")), (503, Some("1")), "{}", gave_up.body);
    assert_eq!(get(at, "/readyz").status, 200);
    drop(holder);
    let placed = send_json(at, "POST", "/api/orders", &[("Idempotency-Key", "k")], &body);
    assert_eq!(placed.status, 201, "{}", placed.body);
}

#[test]
fn sigterm_finishes_what_was_begun_and_exits_with_success() {
    let (folder, mut shop) = shop();
    let at = shop.address;
    let holder = rusqlite::Connection::open(folder.path().join("shop.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let idle = TcpStream::connect(at).unwrap();
    let body = json!({ "items": [{ "product": 1, "quantity": 1 }], "email": "ada@example.com" }).to_string();
    let mut begun = TcpStream::connect(at).unwrap();
    let head = "POST /api/orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\n";
    write!(begun, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    // Connections are taken up in order: when this one is answered, the order above has begun.
    assert_eq!(get(at, "/healthz").status, 200);
    shop.signal(Signal::TERM);
    common::eventually("the listener is closed", || TcpStream::connect(at).is_err().then_some(()));
    drop(holder);
    let mut answer = String::new();
    begun.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(shop.wait().success());
    drop(idle);
}

#[test]
fn a_disk_that_takes_no_more_stops_writes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("shop.db");
    drop(Instance::start(&database));
    // No file may grow beyond 32 KiB: room for the index of the write-ahead log and for few pages in the log.
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_shop")]);
    let shop = Instance::spawn(limited, &database);
    let at = shop.address;
    let body = json!({ "items": [{ "product": 1, "quantity": 1 }], "email": "ada@example.com" });
    let refused = (0..20)
        .map(|number| send_json(at, "POST", "/api/orders", &[("Idempotency-Key", &format!("k{number}"))], &body))
        .find(|answer| answer.status != 201)
        .expect("the log outgrows its limit");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("30")), "{}", refused.body);
    for path in ["/", "/api/products", "/healthz", "/readyz"] {
        assert_eq!(get(at, path).status, 200, "{path}");
    }
}

#[test]
fn requests_are_logged_when_asked_for_and_a_log_nobody_reads_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shop"));
    command.env("RUST_LOG", "info,evenkeel_shop::request=debug");
    let (mut shop, mut log) = Instance::spawn_with_log(command, &folder.path().join("shop.db"));
    request(shop.address, "GET", "/products/1", &[("X-Request-Id", "seen")], "").unwrap();
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&entry["request_id"], &entry["path"], &entry["status"]),
        (&json!("seen"), &json!("/products/1"), &json!(200))
    );
    drop(log);
    for _ in 0..10 {
        assert_eq!(get(shop.address, "/products/1").status, 200);
    }
    shop.signal(Signal::TERM);
    assert!(shop.wait().success());
}
