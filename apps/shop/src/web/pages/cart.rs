//! The cart.

use axum::Form;
use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::secret;
use crate::domain::{Cart, CartLine, ProductId, Quantity};
use crate::error::ShopError;
use crate::web::picture::picture;
use crate::web::visitor::{Visitor, go_to};
use crate::web::{App, Shared, cookies, layout};

pub(super) async fn show(State(app): Shared, visitor: Visitor) -> Result<Response, ShopError> {
    let cart = current(&app, &visitor).await?;
    let content = html! {
        h1 { "Your cart" }
        @match &cart {
            Some(cart) => (lines(&visitor, cart)),
            None => {
                section class="notice" {
                    p class="lead" { "Nothing in it yet." }
                    p { a class="button" href="/products" { "See everything" } }
                }
            }
        }
    };
    Ok(layout::page(&app, &visitor, "Your cart", &content))
}

/// The visitor's cart, if there is something in it and it was not ordered yet.
pub(super) async fn current(app: &App, visitor: &Visitor) -> Result<Option<Cart>, ShopError> {
    let Some(id) = visitor.cart.clone() else {
        return Ok(None);
    };
    match app.store.cart(id).await {
        Ok(cart) => Ok((!cart.items.is_empty() && cart.order.is_none()).then_some(cart)),
        Err(ShopError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn lines(visitor: &Visitor, cart: &Cart) -> Markup {
    html! {
        div class="with-side" {
            ul class="lines" {
                @for line in &cart.items { (cart_line(visitor, line)) }
            }
            aside class="panel" {
                h2 { "Together" }
                dl class="sums" {
                    dt { "Goods" } dd { (cart.total_cents) }
                    dt { "Sending" } dd { "Free" }
                    dt class="total" { "Total" } dd class="total" { (cart.total_cents) }
                }
                p { a class="button wide" href="/checkout" { "Check out" } }
                p class="quiet" { "The cart reserves nothing; what is in stock is yours once you order." }
            }
        }
    }
}

fn cart_line(visitor: &Visitor, line: &CartLine) -> Markup {
    let field = format!("quantity-{}", line.product);
    html! {
        li {
            a href={ "/products/" (line.product) } { (picture(&line.shape, line.hue)) }
            div class="what" {
                a href={ "/products/" (line.product) } { (line.name) }
                span class="quiet" { (line.unit_price_cents) " each" }
                @if line.stock < line.quantity {
                    span class="tag few" { "Only " (line.stock) " left" }
                }
            }
            form class="amount" method="post" action="/cart/items" {
                (secret(visitor))
                input type="hidden" name="product" value=(line.product);
                label class="unseen" for=(field) { "Pieces of " (line.name) }
                input id=(field) type="number" name="set" value=(line.quantity) min="0" max="99" required;
                button class="small" { "Update" }
            }
            form class="remove" method="post" action="/cart/items" {
                (secret(visitor))
                input type="hidden" name="product" value=(line.product);
                input type="hidden" name="set" value="0";
                button class="link" aria-label={ "Remove " (line.name) } { "Remove" }
            }
            span class="price" { (line.unit_price_cents.times(line.quantity)) }
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Change {
    csrf: String,
    product: ProductId,
    /// Pieces to add to those in the cart.
    add: Option<i64>,
    /// Pieces the cart shall have.
    set: Option<i64>,
}

pub(super) async fn change(
    State(app): Shared,
    visitor: Visitor,
    Form(asked): Form<Change>,
) -> Result<Response, ShopError> {
    visitor.check_form(&asked.csrf)?;
    let cart = match (asked.add, asked.set, visitor.cart) {
        (Some(add), _, cart) => app.store.add_to_cart(cart, asked.product, Quantity::new(add)?).await?,
        (None, Some(set), Some(cart)) => {
            let quantity = if set == 0 { None } else { Some(Quantity::new(set)?) };
            app.store.set_cart_item(cart, asked.product, quantity).await?.id
        }
        _ => return Err(ShopError::NotFound("cart")),
    };
    Ok(go_to("/cart", &[cookies::set(cookies::CART, cart.as_str(), visitor.secure)]))
}
