//! The frame of every page: head, menu, foot.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::visitor::Visitor;
use super::{App, assets, cookies};
use crate::domain::CATEGORIES;

/// Marks a response that is a page already although its status says that something failed.
#[derive(Clone)]
pub(super) struct FinishedPage;

/// A page for `visitor`.
pub(super) fn page(app: &App, visitor: &Visitor, title: &str, content: &Markup) -> Response {
    let mut response = Html(frame(app, Some(visitor), title, None, content).into_string()).into_response();
    if visitor.csrf_is_new
        && let Ok(cookie) = HeaderValue::from_str(&cookies::set(cookies::CSRF, &visitor.csrf, visitor.secure))
    {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// A page that asks the browser to load it again after `seconds`.
pub(super) fn page_again_in(app: &App, visitor: &Visitor, title: &str, seconds: u32, content: &Markup) -> Response {
    Html(frame(app, Some(visitor), title, Some(seconds), content).into_string()).into_response()
}

/// A form shown again because what was sent cannot be accepted.
pub(super) fn page_again(app: &App, visitor: &Visitor, title: &str, status: StatusCode, content: &Markup) -> Response {
    let mut response = page(app, visitor, title, content);
    *response.status_mut() = status;
    response.extensions_mut().insert(FinishedPage);
    response
}

/// A page that depends on nobody: for failures, when asking who it is may fail as well.
pub(super) fn bare(app: &App, title: &str, content: &Markup) -> Markup {
    frame(app, None, title, None, content)
}

fn frame(app: &App, visitor: Option<&Visitor>, title: &str, again_s: Option<u32>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = again_s { meta http-equiv="refresh" content=(seconds); }
                title { (title) " · Fairlead" }
                link rel="stylesheet" href=(assets::STYLE_PATH.as_str());
                link rel="icon" type="image/svg+xml" href="/assets/icon.svg";
            }
            body {
                a class="skip" href="#content" { "Skip to the content" }
                (head(visitor))
                main id="content" { (content) }
                (foot(app))
            }
        }
    }
}

fn head(visitor: Option<&Visitor>) -> Markup {
    let account = visitor.and_then(|visitor| visitor.account.as_ref());
    let pieces = visitor.map_or(0, |visitor| visitor.pieces);
    html! {
        header class="top" {
            div class="bar" {
                a class="brand" href="/" aria-label="Fairlead, front page" { (mark()) span { "Fairlead" } }
                form class="search" action="/products" role="search" {
                    input type="search" name="query" placeholder="Search the shop" aria-label="Search the shop" maxlength="100";
                    button { "Search" }
                }
                nav class="tools" aria-label="Yours" {
                    @if let Some(account) = account {
                        a href="/account" { (account.name) }
                    } @else {
                        a href="/account/sign-in" { "Sign in" }
                    }
                    a class="cart" href="/cart" {
                        "Cart"
                        @if pieces > 0 { span class="count" aria-label={ (pieces) " pieces" } { (pieces) } }
                    }
                }
            }
            nav class="departments" aria-label="Departments" {
                a href="/products" { "Everything" }
                @for category in &CATEGORIES {
                    a href={ "/products?category=" (category.slug) } { (category.name) }
                }
            }
        }
    }
}

fn foot(app: &App) -> Markup {
    html! {
        footer class="foot" {
            div {
                p class="brand" { (mark()) span { "Fairlead" } }
                p { "Plain things, made to be used for a long time. A demonstration shop: nothing is shipped and no money moves." }
            }
            nav aria-label="More" {
                @for category in &CATEGORIES {
                    a href={ "/products?category=" (category.slug) } { (category.name) }
                }
            }
            p class="served" { "This page was made by the instance on port " (app.port) "." }
        }
    }
}

/// The shop's mark: a rope through a ring.
fn mark() -> Markup {
    html! {
        svg class="mark" viewBox="0 0 32 32" aria-hidden="true" {
            circle cx="16" cy="16" r="10" fill="none" stroke="currentColor" stroke-width="4" {}
            path d="M2 25C9 25 11 19 16 16S23 7 30 7" fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round" {}
        }
    }
}
