//! The till as seen from the shop: a provider that is a service of its own and is asked over HTTP.
//!
//! Each charge is one `POST /charges` under its key, on a connection of its own. Whatever does not end in a decision is
//! no answer: the charge may have happened, and the same key finds out. Nothing is repeated here; that is the business
//! of checkout and of whatever stands in between.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::{Charge, ChargeFuture, ChargeOutcome, PaymentError, PaymentProvider};

/// The host that is asked for, by which a load balancer tells the till from the shop.
pub const TILL_HOST: &str = "till";
/// How long a decision may take. Less than a customer's request waits for it.
const ANSWER_WAIT: Duration = Duration::from_secs(6);
/// The largest answer that is read.
const ANSWER_BYTES: usize = 16 * 1024;

/// A till somewhere else.
#[derive(Clone, Copy, Debug)]
pub struct RemoteTill {
    address: SocketAddr,
}

/// A charge on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChargeRequest {
    /// One per order.
    pub(super) key: String,
    /// The order.
    pub(super) order: String,
    /// The amount, in cents.
    pub(super) amount_cents: i64,
    /// How the customer pays.
    pub(super) method: String,
}

/// A decision on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(super) enum ChargeAnswer {
    /// The money is ours.
    Approved {
        /// The provider's name for the charge.
        reference: String,
    },
    /// The money is not ours.
    Declined {
        /// Why, for the customer.
        reason: String,
    },
}

impl RemoteTill {
    /// The till at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    async fn ask(self, charge: Charge) -> Result<ChargeOutcome, PaymentError> {
        let body = ChargeRequest {
            key: charge.key.clone(),
            order: charge.order.as_str().to_owned(),
            amount_cents: charge.amount.0,
            method: charge.method.name().to_owned(),
        };
        let body = serde_json::to_vec(&body).map_err(|_| PaymentError::NoAnswer)?;
        let request = Request::post("/charges")
            .header(header::HOST, TILL_HOST)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header("Idempotency-Key", charge.key)
            .body(Body::from(body))
            .map_err(|_| PaymentError::NoAnswer)?;
        let answer = exchange(self.address, request).await.ok_or(PaymentError::NoAnswer)?;
        Ok(match answer {
            ChargeAnswer::Approved { reference } => ChargeOutcome::Approved { reference },
            ChargeAnswer::Declined { reason } => ChargeOutcome::Declined { reason },
        })
    }
}

/// One request and its decision, or nothing.
async fn exchange(address: SocketAddr, request: Request<Body>) -> Option<ChargeAnswer> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // It ends with the sender, or with the answer.
    let connection = tokio::spawn(connection);
    let answer = async {
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status();
        let body = to_bytes(Body::new(answer.into_body()), ANSWER_BYTES).await.ok()?;
        (status == StatusCode::OK).then(|| serde_json::from_slice(&body).ok()).flatten()
    };
    let answer = answer.await;
    connection.abort();
    answer
}

impl PaymentProvider for RemoteTill {
    fn charge(&self, charge: Charge) -> ChargeFuture<'_> {
        let asking = self.ask(charge);
        Box::pin(async { tokio::time::timeout(ANSWER_WAIT, asking).await.unwrap_or(Err(PaymentError::NoAnswer)) })
    }
}
