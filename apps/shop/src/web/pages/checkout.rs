//! Checking out. The form carries the order's idempotency key, made when the form was shown: sending it twice,
//! by a double click or by a browser that tries again, makes one order.

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::{cart, problem, secret};
use crate::domain::{Cart, CartId, Email, IdempotencyKey, NewOrder, OrderId, random_token};
use crate::error::ShopError;
use crate::payment::Method;
use crate::web::visitor::{Visitor, go_to};
use crate::web::{App, Shared, cookies, layout};

pub(super) async fn form(State(app): Shared, visitor: Visitor) -> Result<Response, ShopError> {
    let Some(cart) = cart::current(&app, &visitor).await? else {
        return Ok(go_to("/cart", &[]));
    };
    let email = visitor.account.as_ref().map_or("", |account| account.email.as_str());
    let content = view(&visitor, &cart, email, None)?;
    Ok(layout::page(&app, &visitor, "Check out", &content))
}

fn view(visitor: &Visitor, cart: &Cart, email: &str, message: Option<&str>) -> Result<Markup, ShopError> {
    let key = random_token(26)?;
    Ok(html! {
        h1 { "Check out" }
        div class="with-side" {
            form class="panel form" method="post" action="/checkout" {
                (problem(message))
                (secret(visitor))
                input type="hidden" name="cart" value=(cart.id.as_str());
                input type="hidden" name="key" value={ "form-" (key) };
                label for="email" { "E-mail" }
                input id="email" type="email" name="email" value=(email) required maxlength="254" autocomplete="email";
                p class="hint" { "For the receipt. We write once." }
                fieldset {
                    legend { "Payment" }
                    @for (method, name, label) in Method::ALL {
                        label class="choice" {
                            input type="radio" name="payment_method" value=(name) checked[method == Method::default()];
                            (label)
                        }
                    }
                }
                button class="wide" { "Order and pay " (cart.total_cents) }
            }
            aside class="panel" {
                h2 { "What you order" }
                ul class="plain" {
                    @for line in &cart.items {
                        li { span { (line.quantity) " × " (line.name) } span { (line.unit_price_cents.times(line.quantity)) } }
                    }
                }
                dl class="sums" { dt class="total" { "Total" } dd class="total" { (cart.total_cents) } }
                p { a href="/cart" { "Change the cart" } }
            }
        }
    })
}

#[derive(Deserialize)]
pub(super) struct Order {
    csrf: String,
    cart: String,
    key: String,
    email: String,
    payment_method: String,
}

pub(super) async fn place(
    State(app): Shared,
    visitor: Visitor,
    Form(asked): Form<Order>,
) -> Result<Response, ShopError> {
    visitor.check_form(&asked.csrf)?;
    let cart = CartId::parse(&asked.cart).ok_or(ShopError::NotFound("cart"))?;
    let placed = async {
        let key = IdempotencyKey::parse(&asked.key)?;
        let email = Email::parse(&asked.email)?;
        let method =
            Method::parse(&asked.payment_method).ok_or_else(|| ShopError::Invalid("choose how to pay".to_owned()))?;
        let account = visitor.account.as_ref().map(|account| account.id);
        app.checkout.place(NewOrder::of_cart(key, cart.clone(), email, method).by(account)).await
    };
    let message = match placed.await {
        Ok(placed) => return Ok(to_order(&placed.order().id)),
        Err(error @ (ShopError::Conflict(_) | ShopError::Invalid(_))) => error.to_string(),
        Err(error) => return Err(error),
    };
    again(&app, &visitor, cart, &asked.email, &message).await
}

/// The form once more with what is wrong, or the order if another copy of the form has placed it already.
async fn again(app: &App, visitor: &Visitor, cart: CartId, email: &str, message: &str) -> Result<Response, ShopError> {
    let cart = app.store.cart(cart).await?;
    if let Some(order) = &cart.order {
        return Ok(to_order(order));
    }
    let content = view(visitor, &cart, email, Some(message))?;
    Ok(layout::page_again(app, visitor, "Check out", StatusCode::UNPROCESSABLE_ENTITY, &content))
}

fn to_order(order: &OrderId) -> Response {
    go_to(&format!("/orders/{order}"), &[cookies::forget(cookies::CART)])
}
