//! `/api/products`: list, search, show, publish.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::Body;
use crate::domain::{Cents, NewProduct, Product, ProductId, ProductPage};
use crate::error::ShopError;
use crate::web::listing::Listing;
use crate::web::visitor::Visitor;
use crate::web::{App, Shared, csrf};

pub(super) async fn list(State(app): Shared, Query(asked): Query<Listing>) -> Result<Json<ProductPage>, ShopError> {
    app.store.product_page(asked.read()?).await.map(Json)
}

pub(super) async fn show(State(app): Shared, Path(id): Path<ProductId>) -> Result<Json<Product>, ShopError> {
    app.store.product(id).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    name: String,
    category: String,
    summary: String,
    #[serde(default)]
    description: String,
    price_cents: i64,
    stock: i64,
    #[serde(default)]
    shape: String,
}

pub(super) async fn publish(
    State(app): Shared,
    visitor: Visitor,
    headers: HeaderMap,
    Body(asked): Body<Publish>,
) -> Result<(StatusCode, Json<Product>), ShopError> {
    may_publish(&app, &visitor, &headers)?;
    let texts = (asked.summary.as_str(), asked.description.as_str());
    let price = Cents(asked.price_cents);
    let new = NewProduct::new(&asked.name, &asked.category, texts, price, asked.stock, &asked.shape)?;
    Ok((StatusCode::CREATED, Json(app.store.publish(new).await?)))
}

/// The administrator's token, or a session of somebody who may publish.
fn may_publish(app: &App, visitor: &Visitor, headers: &HeaderMap) -> Result<(), ShopError> {
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        let token = authorization.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let expected = app.admin_token.as_deref().unwrap_or_default();
        return match token {
            Some(token) if csrf::is_same(expected, token) => Ok(()),
            _ => Err(ShopError::Unauthorised("the token is not the administrator's")),
        };
    }
    match &visitor.account {
        Some(account) if account.staff => Ok(()),
        Some(_) => Err(ShopError::Forbidden("this account may not publish products")),
        None => Err(ShopError::Unauthorised("sign in, or send the administrator's token")),
    }
}
