//! The till as a process of its own: what it decides, and what becomes of orders while it is gone.

// A test that cannot go on says so by panicking, in its helpers as well.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Answer, Instance, eventually, get, send_json};
use serde_json::json;

fn order(shop: &Instance, key: &str, method: &str) -> Answer {
    let body =
        json!({ "items": [{ "product": 1, "quantity": 1 }], "email": "ada@example.com", "payment_method": method });
    send_json(shop.address, "POST", "/api/orders", &[("Idempotency-Key", key)], &body)
}

#[test]
fn the_till_decides_and_without_it_orders_stay_pending() {
    let folder = tempfile::tempdir().unwrap();
    let mut till = Instance::start_with(&folder.path().join("till.db"), &[("SHOP_ROLE", "till")]);
    let address = till.address.to_string();
    let shop = Instance::start_with(&folder.path().join("shop.db"), &[("SHOP_TILL", &address)]);
    assert_eq!(get(till.address, "/healthz").status, 200);
    assert_eq!(get(till.address, "/api/products").status, 404, "it sells nothing");

    assert_eq!(order(&shop, "a", "test-card").json()["status"], "paid");
    let declined = order(&shop, "b", "test-declined");
    assert_eq!(declined.status, 201, "{}", declined.body);
    assert_ne!(declined.json()["status"], "paid");
    let doubtful = order(&shop, "c", "test-unreliable").json();
    assert_ne!(doubtful["status"], "paid", "its first charge gets no answer");
    eventually("recovery has asked again", || {
        let orders = get(shop.address, "/api/orders?key=c").json();
        (orders[0]["status"] == "paid").then_some(())
    });
    let charge = |method: &str| {
        let body = json!({ "key": "k", "order": doubtful["id"], "amount_cents": 5, "method": method });
        send_json(till.address, "POST", "/charges", &[], &body)
    };
    let first = charge("test-card");
    assert_eq!((first.status, charge("test-declined").body), (200, first.body), "a key is decided once");
    assert_eq!(charge("gold").status, 422);

    till.kill();
    let kept = order(&shop, "d", "test-card");
    assert_eq!((kept.status, &kept.json()["status"]), (201, &doubtful["status"]), "{}", kept.body);
}
