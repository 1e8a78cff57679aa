//! `/api/carts`: make one, set its items, show it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{Body, idempotency_key};
use crate::domain::{Cart, CartId, ProductId, Quantity};
use crate::error::ShopError;
use crate::web::Shared;

/// An `Idempotency-Key` is welcome: the same key makes one cart, however often it is sent.
pub(super) async fn create(State(app): Shared, headers: HeaderMap) -> Result<(StatusCode, Json<Cart>), ShopError> {
    let id = app.store.create_cart(idempotency_key(&headers)?).await?;
    Ok((StatusCode::CREATED, Json(app.store.cart(id).await?)))
}

pub(super) async fn show(State(app): Shared, Path(id): Path<String>) -> Result<Json<Cart>, ShopError> {
    app.store.cart(parse(&id)?).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    quantity: i64,
}

/// Sets the pieces of a product; 0 takes it out.
pub(super) async fn put_item(
    State(app): Shared,
    Path((id, product)): Path<(String, ProductId)>,
    Body(item): Body<Item>,
) -> Result<Json<Cart>, ShopError> {
    let quantity = if item.quantity == 0 { None } else { Some(Quantity::new(item.quantity)?) };
    app.store.set_cart_item(parse(&id)?, product, quantity).await.map(Json)
}

pub(super) async fn remove_item(
    State(app): Shared,
    Path((id, product)): Path<(String, ProductId)>,
) -> Result<Json<Cart>, ShopError> {
    app.store.set_cart_item(parse(&id)?, product, None).await.map(Json)
}

fn parse(id: &str) -> Result<CartId, ShopError> {
    CartId::parse(id).ok_or(ShopError::NotFound("cart"))
}
