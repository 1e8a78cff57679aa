//! The JSON API below `/api`.
//!
//! Amounts are euro cents. A failure is `{"error": {"code", "message"}}` with the status that fits. Placing an
//! order needs an `Idempotency-Key`; everything else that changes something can be repeated as it is, or takes
//! such a key where it cannot.

mod carts;
mod orders;
mod products;

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};

use super::App;
use crate::domain::IdempotencyKey;
use crate::error::ShopError;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/products", get(products::list).post(products::publish))
        .route("/products/{id}", get(products::show))
        .route("/carts", post(carts::create))
        .route("/carts/{id}", get(carts::show))
        .route("/carts/{id}/items/{product}", put(carts::put_item).delete(carts::remove_item))
        .route("/orders", get(orders::under_key).post(orders::place))
        .route("/orders/{id}", get(orders::show))
        .fallback(super::failure::no_such_page)
}

/// A JSON body. What is wrong with it is told in the API's own form.
struct Body<T>(T);

impl<T, S> FromRequest<S> for Body<T>
where
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) if rejection.status() == StatusCode::BAD_REQUEST => {
                Err(ShopError::BadRequest(rejection.body_text()).into_response())
            }
            Err(rejection) if rejection.status() == StatusCode::UNPROCESSABLE_ENTITY => {
                Err(ShopError::Invalid(rejection.body_text()).into_response())
            }
            Err(rejection) => Err(rejection.into_response()),
        }
    }
}

/// The request's `Idempotency-Key`, if it has one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ShopError> {
    headers.get("idempotency-key").map(|key| IdempotencyKey::parse(key.to_str().unwrap_or_default())).transpose()
}
