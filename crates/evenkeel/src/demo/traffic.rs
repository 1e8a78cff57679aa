//! The visitors of the demo: they browse, search, fill a cart and order, about forty requests a second in all.
//!
//! They are strict: a request counts as failed unless it ends in a whole answer of 2xx, and none is repeated. Each
//! visitor has one connection, as a browser would keep it. Orders and carts carry an `Idempotency-Key`, so that
//! the edge may send them again where an instance died over them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use super::tally::Tally;
use crate::{
    api::encode,
    http::{Ask, Connection, HttpError},
};

/// How many visitors there are.
const VISITORS: u32 = 8;
/// How long each looks at an answer before it asks for more: five requests a second each.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a visitor waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a visitor whose connection broke waits to hear that the stack was stopped.
const END_WAIT: Duration = Duration::from_secs(1);
/// One visit in so many ends in an order.
const ORDER_EVERY: u64 = 3;
/// What visitors search for.
const WORDS: [&str; 6] = ["pan", "knife", "cup", "oak", "linen", "glass"];
/// Products with less than this are left to people: a demo that runs for days would buy them all.
const PLENTY: u64 = 10_000;

/// Visitors that can be sent home.
pub(super) struct Visitors(JoinSet<()>);

impl Visitors {
    /// Waits until every request on its way has ended.
    pub(super) async fn finish(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

/// Lets visitors in; they come until `ended` says so.
pub(super) fn start(port: u16, tally: &Tally, ended: &watch::Receiver<bool>) -> Visitors {
    let mut visitors = JoinSet::new();
    for number in 0..VISITORS {
        let visitor = Visitor {
            number,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            connection: None,
            tally: tally.clone(),
            ended: ended.clone(),
            keys: 0,
        };
        visitors.spawn(visitor.stay());
    }
    Visitors(visitors)
}

struct Visitor {
    number: u32,
    address: SocketAddr,
    connection: Option<Connection>,
    tally: Tally,
    ended: watch::Receiver<bool>,
    keys: u64,
}

#[derive(Deserialize)]
struct Products {
    items: Vec<Product>,
}

#[derive(Deserialize)]
struct Product {
    id: u64,
    stock: u64,
}

#[derive(Deserialize)]
struct Made {
    id: String,
}

/// The visit is over: a request failed, or the demo ends.
struct Over;

impl Visitor {
    async fn stay(mut self) {
        // They do not all come at the same moment.
        tokio::time::sleep(PAUSE * self.number / VISITORS).await;
        for visit in u64::from(self.number).. {
            if *self.ended.borrow() {
                return;
            }
            // A visit that failed is counted request by request; the next one begins from the front page.
            let _ = self.visit(visit).await;
        }
    }

    async fn visit(&mut self, visit: u64) -> Result<(), Over> {
        self.ask(Method::GET, "/", None).await?;
        let word = WORDS[usize::try_from(visit).unwrap_or_default() % WORDS.len()];
        self.ask(Method::GET, &format!("/products?query={}", encode(word)), None).await?;
        let products: Products = read(&self.ask(Method::GET, "/api/products", None).await?)?;
        let plenty: Vec<u64> = products.items.iter().filter(|p| p.stock >= PLENTY).map(|p| p.id).collect();
        let Some(product) = plenty.get(usize::try_from(visit).unwrap_or_default() % plenty.len().max(1)) else {
            return Ok(());
        };
        self.ask(Method::GET, &format!("/products/{product}"), None).await?;
        if visit.is_multiple_of(ORDER_EVERY) { self.order(*product).await } else { Ok(()) }
    }

    async fn order(&mut self, product: u64) -> Result<(), Over> {
        let cart: Made = read(&self.ask(Method::POST, "/api/carts", Some(String::new())).await?)?;
        let item = format!("/api/carts/{}/items/{product}", encode(&cart.id));
        self.ask(Method::PUT, &item, Some(json!({ "quantity": 1 }).to_string())).await?;
        let order = json!({ "cart": cart.id, "email": format!("visitor{}@example.com", self.number) });
        let order: Made = read(&self.ask(Method::POST, "/api/orders", Some(order.to_string())).await?)?;
        self.tally.add_order();
        self.ask(Method::GET, &format!("/api/orders/{}", encode(&order.id)), None).await.map(drop)
    }

    /// One request, counted, after a pause.
    async fn ask(&mut self, method: Method, target: &str, body: Option<String>) -> Result<Vec<u8>, Over> {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = self.ended.wait_for(|ended| *ended) => return Err(Over),
        }
        let what = format!("{method} {target}");
        let headers = self.headers(&method);
        let ask = Ask { method, target, headers: &headers, body: body.unwrap_or_default().into_bytes() };
        let begun = Instant::now();
        let answer = self.send(ask).await;
        let took = begun.elapsed();
        match answer {
            Ok((status, body)) if (200..300).contains(&status) => {
                self.tally.add(took, None);
                Ok(body)
            }
            Ok((status, _)) => {
                self.tally.add(took, Some(format!("{what}: status {status}")));
                Err(Over)
            }
            Err(error) => {
                self.connection = None;
                if self.is_end().await {
                    return Err(Over);
                }
                self.tally.add(took, Some(format!("{what}: {error}")));
                Err(Over)
            }
        }
    }

    /// Whether the whole stack is being stopped by somebody else, which ends this demo a moment later. What breaks
    /// off then is no failure of the shop.
    async fn is_end(&mut self) -> bool {
        tokio::time::timeout(END_WAIT, self.ended.wait_for(|ended| *ended)).await.is_ok()
    }

    fn headers(&mut self, method: &Method) -> Vec<(&'static str, String)> {
        if method != Method::POST {
            return Vec::new();
        }
        self.keys += 1;
        let now = crate::words::now().as_millis();
        vec![("idempotency-key", format!("demo-{now}-{}-{}", self.number, self.keys))]
    }

    async fn send(&mut self, ask: Ask<'_>) -> Result<(u16, Vec<u8>), HttpError> {
        // A connection that was closed between two requests is no failure: nothing was on its way.
        let open = match &mut self.connection {
            Some(connection) => connection.is_open().await,
            None => false,
        };
        if !open {
            self.connection = Some(Connection::tcp(self.address).await?);
        }
        let connection = self.connection.as_mut().expect("it was just made");
        let answer = connection.ask(ask, PATIENCE).await?;
        Ok((answer.status.as_u16(), answer.body.to_vec()))
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Over> {
    serde_json::from_slice(body).map_err(|_| Over)
}
