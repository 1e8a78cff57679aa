//! The till as a process: the test provider behind `POST /charges`, so that the shop has something it depends on.
//!
//! It keeps its record in a database of its own. A key is decided once, whichever till is asked and however often.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::remote::{ChargeAnswer, ChargeRequest};
use super::{Charge, ChargeOutcome, Method, PaymentProvider, TestProvider};
use crate::domain::{Cents, OrderId};

/// Every route of the till.
pub(crate) fn router(provider: TestProvider) -> Router {
    Router::new().route("/healthz", get(async || "ok\n")).route("/charges", post(charge)).with_state(Arc::new(provider))
}

async fn charge(State(provider): State<Arc<TestProvider>>, Json(asked): Json<ChargeRequest>) -> Response {
    let (Some(order), Some(method)) = (OrderId::parse(&asked.order), Method::parse(&asked.method)) else {
        return (StatusCode::UNPROCESSABLE_ENTITY, "no such order or method\n").into_response();
    };
    let charge = Charge { key: asked.key, order, amount: Cents(asked.amount_cents), method };
    match provider.charge(charge).await {
        Ok(ChargeOutcome::Approved { reference }) => Json(ChargeAnswer::Approved { reference }).into_response(),
        Ok(ChargeOutcome::Declined { reason }) => Json(ChargeAnswer::Declined { reason }).into_response(),
        Err(error) => {
            tracing::warn!(%error, "a charge was not decided");
            (StatusCode::SERVICE_UNAVAILABLE, "not decided\n").into_response()
        }
    }
}
