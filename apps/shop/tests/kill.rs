//! Two real instances on one database; one is killed in the middle of placing orders.

// A test that cannot go on says so by panicking, in its helpers as well.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{Instance, eventually, get, request};
use rustix::process::Signal;
use serde_json::json;

const CLIENTS: usize = 4;
const ORDERS: usize = 60;
const PRODUCT: i64 = 1;

/// Keys with the order that was acknowledged for each, if one was.
type Ledger = Vec<(String, Option<String>)>;

fn place(address: SocketAddr, key: &str) -> std::io::Result<common::Answer> {
    let body = json!({ "items": [{ "product": PRODUCT, "quantity": 2 }], "email": "ada@example.com" }).to_string();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    request(address, "POST", "/api/orders", &headers, &body)
}

/// Places orders one after the other and writes down what was acknowledged.
fn order_many(address: SocketAddr, name: &str, acknowledged: &AtomicUsize) -> Ledger {
    (0..ORDERS)
        .map(|number| {
            let key = format!("{name}-{number}");
            let order = place(address, &key).ok().map(|answer| {
                assert_eq!(answer.status, 201, "{}", answer.body);
                answer.json()["id"].as_str().unwrap().to_owned()
            });
            acknowledged.fetch_add(usize::from(order.is_some()), Ordering::SeqCst);
            (key, order)
        })
        .collect()
}

/// Every acknowledged order exists under its key, every key has one order, all are paid with one charge each, and
/// the stock is what was there less what was sold.
fn check(address: SocketAddr, database: &Path, ledger: &Ledger) {
    for (key, acknowledged) in ledger {
        let orders = eventually("the order is paid", || {
            let orders = get(address, &format!("/api/orders?key={key}")).json();
            (orders[0]["status"] == "paid").then_some(orders)
        });
        assert_eq!(orders.as_array().unwrap().len(), 1, "{key}: {orders}");
        if let Some(id) = acknowledged {
            assert_eq!(orders[0]["id"], **id, "{key}");
        }
    }
    let left = get(address, &format!("/api/products/{PRODUCT}")).json()["stock"].as_i64().unwrap();
    assert_eq!(left, 1_000_000 - 2 * i64::try_from(ledger.len()).unwrap());
    let connection = rusqlite::Connection::open(database).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let number = |sql: &str| usize::try_from(number(sql)).unwrap();
    assert_eq!(number("SELECT count(*) FROM orders"), ledger.len());
    assert_eq!(number("SELECT count(*) FROM test_provider_charges WHERE outcome = 'approved'"), ledger.len());
    assert_eq!(number("SELECT count(DISTINCT order_id) FROM test_provider_charges"), ledger.len());
}

#[test]
fn no_order_is_lost_or_doubled_when_an_instance_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("shop.db");
    let mut dying = Instance::start(&database);
    let surviving = Instance::start(&database);
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let ledger = Arc::new(Mutex::new(Ledger::new()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let address = if client % 2 == 0 { dying.address } else { surviving.address };
            let (acknowledged, ledger) = (Arc::clone(&acknowledged), Arc::clone(&ledger));
            std::thread::spawn(move || {
                let placed = order_many(address, &format!("client{client}"), &acknowledged);
                ledger.lock().unwrap().extend(placed);
            })
        })
        .collect();
    eventually("a third of the orders is placed", || {
        (acknowledged.load(Ordering::SeqCst) > CLIENTS * ORDERS / 3).then_some(())
    });
    dying.kill();
    for client in clients {
        client.join().unwrap();
    }
    let ledger = std::mem::take(&mut *ledger.lock().unwrap());
    let unanswered = ledger.iter().filter(|(_, order)| order.is_none()).count();
    assert!(unanswered > 0, "the instance was killed too late to matter");
    // Every key once more, acknowledged or not, from the instance that lives.
    for (key, _) in &ledger {
        let again = place(surviving.address, key).unwrap();
        assert!(matches!(again.status, 200 | 201), "{}", again.body);
    }
    check(surviving.address, &database, &ledger);
}

#[test]
fn an_instance_frozen_in_the_middle_costs_the_others_a_wait_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("shop.db");
    let mut frozen = Instance::start(&database);
    let healthy = Instance::start(&database);
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let client = std::thread::spawn({
        let (address, acknowledged) = (frozen.address, Arc::clone(&acknowledged));
        move || order_many(address, "frozen", &acknowledged)
    });
    eventually("some orders are placed", || (acknowledged.load(Ordering::SeqCst) > 3).then_some(()));
    frozen.signal(Signal::STOP);
    // It may have been stopped while it held the write lock: reads must not care, and writes may only wait.
    assert_eq!(get(healthy.address, "/api/products").status, 200);
    let waiting = std::thread::spawn({
        let address = healthy.address;
        move || place(address, "waiting").unwrap()
    });
    assert_eq!(get(healthy.address, "/readyz").status, 200);
    frozen.kill();
    let answer = waiting.join().unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let mut ledger = client.join().unwrap();
    ledger.push(("waiting".to_owned(), Some(answer.json()["id"].as_str().unwrap().to_owned())));
    for (key, _) in &ledger {
        assert!(matches!(place(healthy.address, key).unwrap().status, 200 | 201));
    }
    check(healthy.address, &database, &ledger);
}
