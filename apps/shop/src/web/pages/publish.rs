//! Publishing a product, for accounts that may.

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::{problem, secret};
use crate::domain::{CATEGORIES, Cents, NewProduct, SHAPES};
use crate::error::ShopError;
use crate::web::visitor::{Visitor, go_to};
use crate::web::{Shared, layout};

#[derive(Default, Deserialize)]
pub(super) struct Entry {
    csrf: String,
    name: String,
    category: String,
    summary: String,
    description: String,
    price: String,
    stock: String,
    shape: String,
}

pub(super) async fn form(State(app): Shared, visitor: Visitor) -> Result<Response, ShopError> {
    if visitor.account.is_none() {
        return Ok(go_to("/account/sign-in", &[]));
    }
    may_publish(&visitor)?;
    let content = view(&visitor, &Entry { stock: "100".to_owned(), ..Entry::default() }, None);
    Ok(layout::page(&app, &visitor, "Publish a product", &content))
}

pub(super) async fn publish(
    State(app): Shared,
    visitor: Visitor,
    Form(entry): Form<Entry>,
) -> Result<Response, ShopError> {
    may_publish(&visitor)?;
    visitor.check_form(&entry.csrf)?;
    match read(&entry) {
        Ok(new) => {
            let product = app.store.publish(new).await?;
            Ok(go_to(&format!("/products/{}", product.id), &[]))
        }
        Err(error) => {
            let content = view(&visitor, &entry, Some(&error.to_string()));
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(layout::page_again(&app, &visitor, "Publish a product", status, &content))
        }
    }
}

fn may_publish(visitor: &Visitor) -> Result<(), ShopError> {
    match &visitor.account {
        Some(account) if account.staff => Ok(()),
        _ => Err(ShopError::Forbidden("this account may not publish products")),
    }
}

fn read(entry: &Entry) -> Result<NewProduct, ShopError> {
    let stock = entry.stock.trim().parse();
    let stock = stock.map_err(|_| ShopError::Invalid("the stock must be a whole number".to_owned()))?;
    let price = Cents::parse_price(&entry.price)?;
    let texts = (entry.summary.as_str(), entry.description.as_str());
    NewProduct::new(&entry.name, &entry.category, texts, price, stock, &entry.shape)
}

fn view(visitor: &Visitor, entry: &Entry, message: Option<&str>) -> Markup {
    html! {
        section class="narrow" {
            h1 { "Publish a product" }
            form class="panel form" method="post" action="/publish" {
                (problem(message))
                (secret(visitor))
                label for="name" { "Name" }
                input id="name" name="name" value=(entry.name) required minlength="2" maxlength="80";
                label for="category" { "Department" }
                select id="category" name="category" {
                    @for category in &CATEGORIES {
                        option value=(category.slug) selected[category.slug == entry.category] { (category.name) }
                    }
                }
                label for="summary" { "In one sentence" }
                input id="summary" name="summary" value=(entry.summary) required maxlength="160";
                label for="description" { "Description" }
                textarea id="description" name="description" rows="5" maxlength="4000" { (entry.description) }
                div class="pair" {
                    div {
                        label for="price" { "Price in euros" }
                        input id="price" name="price" value=(entry.price) required inputmode="decimal" placeholder="12.50";
                    }
                    div {
                        label for="stock" { "Stock" }
                        input id="stock" name="stock" value=(entry.stock) required inputmode="numeric";
                    }
                }
                label for="shape" { "Picture" }
                select id="shape" name="shape" {
                    option value="" { "That of the department" }
                    @for shape in SHAPES { option value=(shape) selected[shape == entry.shape] { (shape) } }
                }
                button class="wide" { "Publish" }
            }
        }
    }
}
