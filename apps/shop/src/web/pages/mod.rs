//! The pages: rendered here, whole, with forms and no scripts.

mod account;
mod cart;
mod catalogue;
mod checkout;
mod order;
mod publish;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use maud::{Markup, html};

use super::App;
use super::picture::picture;
use super::visitor::Visitor;
use crate::domain::{Product, category};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(catalogue::front))
        .route("/products", get(catalogue::list))
        .route("/products/{id}", get(catalogue::detail))
        .route("/cart", get(cart::show))
        .route("/cart/items", post(cart::change))
        .route("/checkout", get(checkout::form).post(checkout::place))
        .route("/orders/{id}", get(order::show))
        .route("/account", get(account::overview))
        .route("/account/sign-in", get(account::sign_in_form).post(account::sign_in))
        .route("/account/register", get(account::register_form).post(account::register))
        .route("/account/sign-out", post(account::sign_out))
        .route("/publish", get(publish::form).post(publish::publish))
}

/// The secret that a form carries.
fn secret(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="csrf" value=(visitor.csrf); }
}

/// Products side by side.
fn grid(products: &[Product]) -> Markup {
    html! {
        ul class="grid" {
            @for product in products {
                li class="card" {
                    a href={ "/products/" (product.id) } {
                        (picture(&product.shape, product.hue))
                        h3 { (product.name) }
                        p class="summary" { (product.summary) }
                        p class="facts" {
                            span class="price" { (product.price_cents) }
                            (availability(product.stock))
                        }
                    }
                }
            }
        }
    }
}

/// A word about the stock where there is something to say.
fn availability(stock: i64) -> Markup {
    html! {
        @match stock {
            0 => span class="tag none" { "Sold out" },
            1..=50 => span class="tag few" { "Only " (stock) " left" },
            _ => {}
        }
    }
}

/// A department's name on pages.
fn category_name(slug: &str) -> &str {
    category(slug).map_or(slug, |category| category.name)
}

/// A message above a form that was not accepted.
fn problem(message: Option<&str>) -> Markup {
    html! {
        @if let Some(message) = message {
            p class="problem" role="alert" { (super::failure::sentence(message)) }
        }
    }
}
