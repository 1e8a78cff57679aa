//! Accounts: register, sign in, sign out, past orders.

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::{order, problem, secret};
use crate::domain::{AccountId, Email, NewAccount};
use crate::error::ShopError;
use crate::web::visitor::{Visitor, go_to};
use crate::web::{App, Shared, cookies, layout};

pub(super) async fn overview(State(app): Shared, visitor: Visitor) -> Result<Response, ShopError> {
    let Some(account) = &visitor.account else {
        return Ok(go_to("/account/sign-in", &[]));
    };
    let orders = app.store.orders_of(account.id).await?;
    let content = html! {
        header class="list-head" {
            div {
                h1 { "Hello, " (account.name) }
                p class="quiet" { (account.email.as_str()) }
            }
            div class="row" {
                @if account.staff { a class="button" href="/publish" { "Publish a product" } }
                form method="post" action="/account/sign-out" { (secret(&visitor)) button class="small" { "Sign out" } }
            }
        }
        h2 { "Your orders" }
        @if orders.is_empty() {
            p class="lead quiet" { "None yet." }
        } @else {
            ul class="orders" {
                @for past in &orders {
                    li { a href={ "/orders/" (past.id) } {
                        span { strong { (past.items.iter().map(|line| line.name.as_str()).collect::<Vec<_>>().join(", ")) } }
                        span class="quiet" { (order::short(past.status)) }
                        span class="price" { (past.total_cents) }
                    } }
                }
            }
        }
    };
    Ok(layout::page(&app, &visitor, "Your account", &content))
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    csrf: String,
    email: String,
    password: String,
}

pub(super) async fn sign_in_form(State(app): Shared, visitor: Visitor) -> Response {
    layout::page(&app, &visitor, "Sign in", &sign_in_view(&visitor, "", None))
}

fn sign_in_view(visitor: &Visitor, email: &str, message: Option<&str>) -> Markup {
    html! {
        section class="narrow" {
            h1 { "Sign in" }
            form class="panel form" method="post" action="/account/sign-in" {
                (problem(message))
                (secret(visitor))
                label for="email" { "E-mail" }
                input id="email" type="email" name="email" value=(email) required maxlength="254" autocomplete="username";
                label for="password" { "Password" }
                input id="password" type="password" name="password" required maxlength="200" autocomplete="current-password";
                button class="wide" { "Sign in" }
            }
            p { "New here? " a href="/account/register" { "Make an account" } "." }
        }
    }
}

pub(super) async fn sign_in(
    State(app): Shared,
    visitor: Visitor,
    Form(asked): Form<Credentials>,
) -> Result<Response, ShopError> {
    visitor.check_form(&asked.csrf)?;
    let known = match Email::parse(&asked.email) {
        Ok(email) => app.store.account_with_hash(email).await?,
        Err(_) => None,
    };
    let (account, hash) = known.unzip();
    // Longer than any password that was accepted: not worth a hash.
    let plausible = asked.password.len() <= 800;
    if plausible
        && app.passwords.verify(asked.password, hash).await?
        && let Some(account) = account
    {
        return begin(&app, &visitor, account.id).await;
    }
    let content = sign_in_view(&visitor, &asked.email, Some("the address or the password is wrong"));
    Ok(layout::page_again(&app, &visitor, "Sign in", StatusCode::UNPROCESSABLE_ENTITY, &content))
}

#[derive(Deserialize)]
pub(super) struct Registration {
    csrf: String,
    name: String,
    email: String,
    password: String,
}

pub(super) async fn register_form(State(app): Shared, visitor: Visitor) -> Response {
    layout::page(&app, &visitor, "Make an account", &register_view(&visitor, ("", ""), None))
}

fn register_view(visitor: &Visitor, (name, email): (&str, &str), message: Option<&str>) -> Markup {
    html! {
        section class="narrow" {
            h1 { "Make an account" }
            form class="panel form" method="post" action="/account/register" {
                (problem(message))
                (secret(visitor))
                label for="name" { "Name" }
                input id="name" name="name" value=(name) required maxlength="80" autocomplete="name";
                label for="email" { "E-mail" }
                input id="email" type="email" name="email" value=(email) required maxlength="254" autocomplete="username";
                label for="password" { "Password" }
                input id="password" type="password" name="password" required minlength="8" maxlength="200" autocomplete="new-password";
                p class="hint" { "At least eight characters. A few unrelated words are better than one odd one." }
                button class="wide" { "Make the account" }
            }
            p { "Have one? " a href="/account/sign-in" { "Sign in" } "." }
        }
    }
}

pub(super) async fn register(
    State(app): Shared,
    visitor: Visitor,
    Form(asked): Form<Registration>,
) -> Result<Response, ShopError> {
    visitor.check_form(&asked.csrf)?;
    let created = async {
        let new = NewAccount::new(&asked.email, &asked.name, &asked.password)?;
        let hash = app.passwords.hash(new.password).await?;
        app.store.create_account(new.email, new.name, hash, false).await
    };
    let message = match created.await {
        Ok(account) => return begin(&app, &visitor, account.id).await,
        Err(error @ (ShopError::Conflict(_) | ShopError::Invalid(_))) => error.to_string(),
        Err(error) => return Err(error),
    };
    let content = register_view(&visitor, (&asked.name, &asked.email), Some(&message));
    Ok(layout::page_again(&app, &visitor, "Make an account", StatusCode::UNPROCESSABLE_ENTITY, &content))
}

pub(super) async fn sign_out(
    State(app): Shared,
    visitor: Visitor,
    Form(asked): Form<SignOut>,
) -> Result<Response, ShopError> {
    visitor.check_form(&asked.csrf)?;
    if let Some(token) = visitor.token {
        app.store.end_session(token).await?;
    }
    Ok(go_to("/", &[cookies::forget(cookies::SESSION)]))
}

#[derive(Deserialize)]
pub(super) struct SignOut {
    csrf: String,
}

/// Begins a session with a token of its own, never one that the browser brought.
async fn begin(app: &App, visitor: &Visitor, account: AccountId) -> Result<Response, ShopError> {
    let token = app.store.begin_session(account).await?;
    let session = cookies::set(cookies::SESSION, &token, visitor.secure);
    Ok(go_to("/account", &[session, cookies::forget(cookies::CSRF)]))
}
