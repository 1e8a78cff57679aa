//! `/api/orders`: place one, show one, list what a key has placed.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{Body, idempotency_key};
use crate::domain::{CartId, Email, IdempotencyKey, NewOrder, Order, OrderId, Placed, ProductId, Quantity};
use crate::error::ShopError;
use crate::payment::Method;
use crate::web::Shared;
use crate::web::visitor::Visitor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    cart: Option<String>,
    items: Option<Vec<Line>>,
    email: String,
    payment_method: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    product: ProductId,
    quantity: Quantity,
}

/// 201 for the request that placed the order, 200 for those that repeat it.
pub(super) async fn place(
    State(app): Shared,
    visitor: Visitor,
    headers: HeaderMap,
    Body(asked): Body<Place>,
) -> Result<Response, ShopError> {
    let key = idempotency_key(&headers)?.ok_or_else(|| {
        ShopError::BadRequest("an order needs an Idempotency-Key header, new for each order".to_owned())
    })?;
    let account = visitor.account.map(|account| account.id);
    let placed = app.checkout.place(read(key, asked)?.by(account)).await?;
    let (status, order) = match placed {
        Placed::New(order) => (StatusCode::CREATED, order),
        Placed::Before(order) => (StatusCode::OK, order),
    };
    let location = HeaderValue::from_str(&format!("/api/orders/{}", order.id))
        .map_err(|_| ShopError::Damaged("an order's identifier".to_owned()))?;
    Ok((status, [(header::LOCATION, location)], Json(order)).into_response())
}

pub(super) async fn show(State(app): Shared, Path(id): Path<String>) -> Result<Json<Order>, ShopError> {
    let id = OrderId::parse(&id).ok_or(ShopError::NotFound("order"))?;
    app.store.order(id).await.map(Json)
}

#[derive(Deserialize)]
pub(super) struct ByKey {
    #[serde(default)]
    key: String,
}

pub(super) async fn under_key(State(app): Shared, Query(asked): Query<ByKey>) -> Result<Json<Vec<Order>>, ShopError> {
    app.store.orders_under(IdempotencyKey::parse(&asked.key)?).await.map(Json)
}

fn read(key: IdempotencyKey, asked: Place) -> Result<NewOrder, ShopError> {
    let email = Email::parse(&asked.email)?;
    let method = match asked.payment_method.as_deref() {
        None => Method::default(),
        Some(name) => Method::parse(name).ok_or_else(|| {
            let names: Vec<_> = Method::ALL.iter().map(|(_, name, _)| *name).collect();
            ShopError::Invalid(format!("payment_method must be one of {}", names.join(", ")))
        })?,
    };
    match (asked.cart, asked.items) {
        (Some(cart), None) => {
            let cart = CartId::parse(&cart).ok_or(ShopError::NotFound("cart"))?;
            Ok(NewOrder::of_cart(key, cart, email, method))
        }
        (None, Some(items)) => {
            let lines = items.into_iter().map(|line| (line.product, line.quantity)).collect();
            NewOrder::of_lines(key, lines, email, method)
        }
        _ => Err(ShopError::Invalid("an order has either a cart or items".to_owned())),
    }
}
