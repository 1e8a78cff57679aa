//! The front page, lists of products, and one product.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};

use super::{availability, category_name, grid, secret};
use crate::domain::{CATEGORIES, Product, ProductId, ProductPage, ProductQuery, Sort, category};
use crate::error::ShopError;
use crate::web::listing::Listing;
use crate::web::picture::picture;
use crate::web::visitor::Visitor;
use crate::web::{Shared, layout};

pub(super) async fn front(State(app): Shared, visitor: Visitor) -> Result<Response, ShopError> {
    let (featured, newest) = app.store.front_page().await?;
    let content = html! {
        section class="hero" {
            div {
                p class="eyebrow" { "Kitchen, table, desk, light, textiles, outdoors" }
                h1 { "Plain things that keep." }
                p class="lead" { "Sixty-odd objects we use ourselves, from people who could repair them. No season, no sale, no clutter." }
                p { a class="button" href="/products" { "See everything" } }
            }
            div class="trio" {
                (picture("lantern", 15)) (picture("cup", 200)) (picture("bag", 150))
            }
        }
        section {
            h2 { "Departments" }
            ul class="tiles" {
                @for category in &CATEGORIES {
                    li { a href={ "/products?category=" (category.slug) } {
                        (picture(category.shape, category.hue))
                        span { strong { (category.name) } small { (category.blurb) } }
                    } }
                }
            }
        }
        section { h2 { "To begin with" } (grid(&featured)) }
        section { h2 { "New on the shelf" } (grid(&newest)) }
    };
    Ok(layout::page(&app, &visitor, "Plain things that keep", &content))
}

pub(super) async fn list(
    State(app): Shared,
    visitor: Visitor,
    Query(asked): Query<Listing>,
) -> Result<Response, ShopError> {
    let query = asked.read()?;
    let page = app.store.product_page(query.clone()).await?;
    let title = match (query.words.as_str(), query.category) {
        ("", None) => "Everything".to_owned(),
        ("", Some(slug)) => category_name(slug).to_owned(),
        (words, None) => format!("“{words}”"),
        (words, Some(slug)) => format!("“{words}” in {}", category_name(slug)),
    };
    let content = html! {
        header class="list-head" {
            div {
                h1 { (title) }
                @if let Some(known) = query.category.filter(|_| query.words.is_empty()).and_then(category) {
                    p class="lead" { (known.blurb) "." }
                }
                p class="quiet" { (page.total) @if page.total == 1 { " product" } @else { " products" } }
            }
            (sorting(&query))
        }
        @if page.items.is_empty() {
            section class="notice" {
                p class="lead" { "Nothing matches. Try fewer letters, or another word for it." }
                p { a class="button" href="/products" { "See everything" } }
            }
        } @else {
            (grid(&page.items))
            (pager(&query, &page))
        }
    };
    Ok(layout::page(&app, &visitor, &title, &content))
}

fn sorting(query: &ProductQuery) -> Markup {
    html! {
        form class="sorting" action="/products" {
            @if !query.words.is_empty() { input type="hidden" name="query" value=(query.words); }
            @if let Some(slug) = query.category { input type="hidden" name="category" value=(slug); }
            label for="sort" { "Sort by" }
            select id="sort" name="sort" {
                @for (sort, name, label) in Sort::ALL {
                    option value=(name) selected[sort == query.sort] { (label) }
                }
            }
            button class="small" { "Sort" }
        }
    }
}

fn pager(query: &ProductQuery, page: &ProductPage) -> Markup {
    let address = |number: i64| {
        let words: String = query.words.bytes().fold(String::new(), |text, byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text + &char::from(byte).to_string(),
            _ => format!("{text}%{byte:02X}"),
        });
        format!(
            "/products?query={words}&category={}&sort={}&page={number}",
            query.category.unwrap_or_default(),
            query.sort.name()
        )
    };
    html! {
        @if page.pages > 1 {
            nav class="pager" aria-label="Pages" {
                @if page.page > 1 { a href=(address(page.page - 1)) rel="prev" { "← Previous" } }
                span { "Page " (page.page) " of " (page.pages) }
                @if page.page < page.pages { a href=(address(page.page + 1)) rel="next" { "Next →" } }
            }
        }
    }
}

pub(super) async fn detail(
    State(app): Shared,
    visitor: Visitor,
    Path(id): Path<ProductId>,
) -> Result<Response, ShopError> {
    let (product, related) = app.store.product_with_related(id).await?;
    let content = html! {
        nav class="crumbs" aria-label="Where this is" {
            a href="/products" { "Everything" } " / "
            a href={ "/products?category=" (product.category) } { (category_name(&product.category)) }
        }
        article class="product" {
            (picture(&product.shape, product.hue))
            div {
                h1 { (product.name) }
                p class="lead" { (product.summary) }
                p class="big-price" { (product.price_cents) " " (availability(product.stock)) }
                (buying(&visitor, &product))
                @if !product.description.is_empty() { p class="story" { (product.description) } }
                ul class="promises" {
                    li { "Repaired for as long as there are parts" }
                    li { "Taken back within sixty days, used or not" }
                    li { "Sent in paper, never in plastic" }
                }
            }
        }
        @if !related.is_empty() {
            section { h2 { "Also in " (category_name(&product.category)) } (grid(&related)) }
        }
    };
    Ok(layout::page(&app, &visitor, &product.name, &content))
}

fn buying(visitor: &Visitor, product: &Product) -> Markup {
    html! {
        @if product.stock > 0 {
            form class="buying" method="post" action="/cart/items" {
                (secret(visitor))
                input type="hidden" name="product" value=(product.id);
                label for="quantity" { "Pieces" }
                input id="quantity" type="number" name="add" value="1" min="1" max=(product.stock.min(99)) required;
                button { "Add to cart" }
            }
        } @else {
            p class="lead quiet" { "Sold out for now." }
        }
    }
}
