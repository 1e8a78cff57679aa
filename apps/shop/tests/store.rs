//! The storage on real files: several stores on one file stand for several instances.

// A test that cannot go on says so by panicking, in its helpers as well.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use evenkeel_shop::{
    Cents, ChargeFuture, Checkout, Email, IdempotencyKey, Method, NewOrder, NewProduct, Order, OrderStatus,
    PaymentError, PaymentProvider, Placed, ProductId, ProductQuery, Quantity, ShopError, Sort, Store, TestProvider,
};
use rusqlite::Connection;

fn checkout(store: &Store) -> Checkout {
    Checkout::new(store.clone(), Arc::new(TestProvider::new(store.clone())))
}

async fn publish(store: &Store, stock: i64) -> ProductId {
    let new = NewProduct::new("Sextant", "outdoors", ("Finds noon.", ""), Cents(9_900), stock, "").unwrap();
    store.publish(new).await.unwrap().id
}

fn order(key: &str, product: ProductId, pieces: i64, method: Method) -> NewOrder {
    let lines = vec![(product, Quantity::new(pieces).unwrap())];
    let email = Email::parse("ada@example.com").unwrap();
    NewOrder::of_lines(IdempotencyKey::parse(key).unwrap(), lines, email, method).unwrap()
}

async fn stock(store: &Store, product: ProductId) -> i64 {
    store.product(product).await.unwrap().stock
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Runs `work` once for each of `count` stores on the same file, at the same time, each on a thread of its own.
fn at_once<T: Send + 'static>(path: &Path, count: usize, work: fn(usize, Store) -> T) -> Vec<T> {
    let start = Arc::new(std::sync::Barrier::new(count));
    let threads: Vec<_> = (0..count)
        .map(|number| {
            let (path, start) = (path.to_owned(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                work(number, Store::open(&path).unwrap())
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn instances_that_start_at_the_same_moment_seed_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let path = folder.path().join(format!("{round}.db"));
        let totals = at_once(&path, 4, |_, store| {
            let everything = ProductQuery::new("", "", 1, Sort::Featured).unwrap();
            block_on(store.product_page(everything)).unwrap().total
        });
        assert!(totals.iter().all(|total| *total == totals[0] && *total >= 60), "{totals:?}");
    }
}

#[test]
fn stock_is_never_sold_twice() {
    const UNITS: i64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let store = Store::open(&path).unwrap();
    let product = block_on(publish(&store, UNITS));
    assert_eq!(product, 65, "the threads below order the product just published");
    let sold: i64 = at_once(&path, 4, |number, store| {
        block_on(async {
            let checkout = checkout(&store);
            let mut sold = 0;
            for attempt in 0..20 {
                let pieces = 1 + attempt % 2;
                match checkout.place(order(&format!("{number}-{attempt}"), 65, pieces, Method::TestCard)).await {
                    Ok(placed) => {
                        assert_eq!(placed.order().status, OrderStatus::Paid);
                        sold += pieces;
                    }
                    Err(ShopError::Conflict(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            sold
        })
    })
    .into_iter()
    .sum();
    let left = block_on(stock(&store, product));
    assert_eq!(sold + left, UNITS);
    assert!(left <= 1, "120 pieces were asked for and {left} of {UNITS} are left");
}

#[test]
fn one_key_is_one_order_from_whichever_instance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let placed: Vec<(bool, Order)> = at_once(&path, 4, |_, store| {
        match block_on(checkout(&store).place(order("the-same", 1, 3, Method::TestCard))).unwrap() {
            Placed::New(order) => (true, order),
            Placed::Before(order) => (false, order),
        }
    });
    assert_eq!(placed.iter().filter(|(is_new, _)| *is_new).count(), 1);
    assert!(placed.iter().all(|(_, order)| order.id == placed[0].1.id));
    block_on(async {
        let store = Store::open(&path).unwrap();
        assert_eq!(stock(&store, 1).await, 999_997);
        let charges = TestProvider::new(store.clone()).charges_of(&placed[0].1.id).await.unwrap();
        assert_eq!(charges.len(), 1, "{charges:?}");
        assert_eq!(charges[0].amount_cents, 3 * 6_400);
        let other = store.place_order(order("the-same", 1, 4, Method::TestCard)).await;
        assert!(matches!(other, Err(ShopError::Invalid(_))), "{other:?}");
        let key = IdempotencyKey::parse("the-same").unwrap();
        assert_eq!(store.orders_under(key).await.unwrap().len(), 1);
    });
}

#[tokio::test]
async fn a_declined_payment_puts_the_stock_back_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("shop.db")).unwrap();
    let product = publish(&store, 5).await;
    let checkout = checkout(&store);
    for _ in 0..3 {
        let placed = checkout.place(order("declined", product, 2, Method::TestDeclined)).await.unwrap();
        assert_eq!(placed.order().status, OrderStatus::PaymentFailed);
        assert!(placed.order().payment_note.is_some());
        assert_eq!(stock(&store, product).await, 5);
    }
}

#[tokio::test]
async fn an_order_whose_instance_died_before_charging_is_paid_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let dying = Store::open(&path).unwrap();
    // What an instance leaves behind that dies right after the order's transaction.
    let Placed::New(left) = dying.place_order(order("left", 1, 1, Method::TestCard)).await.unwrap() else {
        panic!("the key is new");
    };
    drop(dying);
    let store = Store::open(&path).unwrap();
    let checkout = checkout(&store);
    assert_eq!(store.order(left.id.clone()).await.unwrap().status, OrderStatus::PendingPayment);
    make_due(&path);
    assert_eq!(checkout.recover().await.unwrap(), 1);
    assert_eq!(checkout.recover().await.unwrap(), 0);
    assert_eq!(store.order(left.id.clone()).await.unwrap().status, OrderStatus::Paid);
    let charges = TestProvider::new(store).charges_of(&left.id).await.unwrap();
    assert_eq!((charges.len(), charges[0].attempts), (1, 1));
}

/// A provider that charges and then loses the answer, as when an instance dies between the two.
struct Forgetful(TestProvider);

impl PaymentProvider for Forgetful {
    fn charge(&self, charge: evenkeel_shop::Charge) -> ChargeFuture<'_> {
        Box::pin(async move {
            self.0.charge(charge).await?;
            Err(PaymentError::NoAnswer)
        })
    }
}

#[tokio::test]
async fn a_charge_whose_answer_was_lost_is_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let store = Store::open(&path).unwrap();
    let provider = TestProvider::new(store.clone());
    let forgetful = Checkout::new(store.clone(), Arc::new(Forgetful(provider.clone())));
    let placed = forgetful.place(order("lost", 1, 1, Method::TestCard)).await.unwrap();
    let id = placed.order().id.clone();
    assert_eq!(placed.order().status, OrderStatus::PendingPayment);
    make_due(&path);
    assert_eq!(checkout(&store).recover().await.unwrap(), 1);
    assert_eq!(store.order(id.clone()).await.unwrap().status, OrderStatus::Paid);
    let charges = provider.charges_of(&id).await.unwrap();
    assert_eq!((charges.len(), charges[0].attempts), (1, 2));
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let store = Store::open(&path).unwrap();
    let checkout = checkout(&store);
    let placed = checkout.place(order("slow", 1, 1, Method::TestUnreliable)).await.unwrap();
    assert_eq!(placed.order().status, OrderStatus::PendingPayment);
    assert_eq!(checkout.recover().await.unwrap(), 0, "the next attempt is not due yet");
    make_due(&path);
    assert_eq!(checkout.recover().await.unwrap(), 1);
    assert_eq!(store.order(placed.order().id.clone()).await.unwrap().status, OrderStatus::Paid);
}

#[tokio::test]
async fn readers_go_on_and_writers_wait_while_another_process_holds_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let store = Store::open(&path).unwrap();
    let holder = Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE; UPDATE stock SET units = 1 WHERE product_id = 1").unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.place_order(order("waits", 2, 1, Method::TestCard)).await }
    });
    for _ in 0..100 {
        assert_eq!(stock(&store, 1).await, 1_000_000, "what is not committed is not seen");
    }
    assert!(!writing.is_finished(), "the order cannot have been placed");
    // As when the holder is killed: its transaction is undone and the lock is free.
    drop(holder);
    writing.await.unwrap().unwrap();
    assert_eq!(stock(&store, 2).await, 999_999);
    assert_eq!(stock(&store, 1).await, 1_000_000);
}

#[test]
fn a_database_of_a_newer_program_and_a_file_that_is_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("newer.db");
    drop(Store::open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = Store::open(&newer).err().unwrap().to_string();
    assert!(refused.contains("newer program"), "{refused}");
    let text = folder.path().join("letter.txt");
    std::fs::write(&text, "Dear Sir or Madam, ".repeat(100)).unwrap();
    let refused = Store::open(&text).err().unwrap().to_string();
    assert!(refused.contains("letter.txt") && refused.contains("not a database"), "{refused}");
    let refused = Store::open(&folder.path().join("no/such/folder.db")).err().unwrap().to_string();
    assert!(refused.contains("no/such/folder.db"), "{refused}");
}

/// Makes every pending payment due now, in place of waiting.
fn make_due(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute("UPDATE payments SET next_attempt_ms = 0", []).unwrap();
}
