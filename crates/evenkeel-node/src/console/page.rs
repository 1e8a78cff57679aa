//! The page for who is signed in: its head, the panels as they are now, and what the script needs to know.
//!
//! It is whole without the script, which keeps it up to date and gives orders. Whom the page is for stands in `meta`:
//! the role, by which the script disables what the API would refuse, and the value that each order must carry.

use axum::{
    extract::State,
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Signed, assets,
    panels::{self, Panel},
    sprite,
    view::{Look, View},
};
use crate::api::Api;

/// The page.
pub(super) async fn page(State(api): State<Api>, signed: Signed) -> Response {
    match api.views().look_lately(&api).await {
        Some(look) => Html(frame(&look, &signed).into_string()).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "The node process is ending. Try again in a second.").into_response(),
    }
}

fn frame(look: &Look, signed: &Signed) -> Markup {
    let view = &look.view;
    let [pulse, rest @ ..] = panels::ALL;
    let sections = |view: &View| html! { @for panel in rest { (section(panel, view)) } }.into_string();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (view.status.stack) " · Evenkeel" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="csrf" content=(signed.csrf);
                meta name="role" content=(signed.role);
                meta name="now" content=(view.now.as_millis());
                link rel="icon" href=(assets::icon()) type="image/svg+xml";
                link rel="stylesheet" href=(assets::css());
                script src=(assets::js()) defer {}
            }
            body {
                a class="skip" href="#content" { "Skip to the content" }
                (sprite::sprite())
                (head(view, signed, pulse))
                main id="content" {
                    (PreEscaped(look.drawn(sections)))
                    (section(panels::ADMIN, view))
                }
                (foot(view))
                dialog id="ask" aria-labelledby="ask-title" {}
                dialog id="help" aria-labelledby="help-title" { (help()) }
            }
        }
    }
}

fn head(view: &View, signed: &Signed, pulse: &dyn Panel) -> Markup {
    html! {
        header class="top" {
            a class="brand" href="#content" aria-label="Evenkeel, to the top" { (sprite::brand()) span { "Evenkeel" } }
            h1 { (view.status.stack) }
            div class="pulse" data-panel=(pulse.id()) { (pulse.render(view)) }
            div class="tools" {
                span class="live" id="live" role="status" { (panels::words::mark("live")) span { "as it was" } }
                button type="button" id="theme" title="Light, dark, or as the system has it" { "Theme: system" }
                button type="button" id="help-open" title="Keys (?)" aria-label="Keys" { "?" }
                span class="who" title={ "Signed in as " (signed.who) } { (signed.who) ", " (signed.role) }
                button type="button" id="sign-out" { "Sign out" }
            }
        }
        nav class="sections" aria-label="Sections" {
            @for panel in panels::ALL.iter().skip(1).chain([&panels::ADMIN]) {
                a href={ "#" (panel.id()) } { (panel.title()) }
            }
        }
    }
}

fn section(panel: &dyn Panel, view: &View) -> Markup {
    let id = panel.id();
    html! {
        section class="panel" id=(id) aria-labelledby={ (id) "-title" } {
            div class="heading" { h2 id={ (id) "-title" } { (panel.title()) } div class="tools" { (panel.tools()) } }
            div class="content" data-panel=[(!panel.is_still()).then_some(id)] { (panel.render(view)) }
        }
    }
}

fn foot(view: &View) -> Markup {
    html! {
        footer {
            p { "Evenkeel " (view.status.version) ". The command line tells and does the same: "
                code { "keel status" } ", " code { "keel why" } ", " code { "keel logs" } ", " code { "keel drill run" } "." }
        }
    }
}

fn help() -> Markup {
    let key = |key: &str, does: &str| html! { div { dt { kbd { (key) } } dd { (does) } } };
    html! {
        h2 id="help-title" { "Keys" }
        dl class="keys" {
            (key("/", "search the logs"))
            (key("?", "show this"))
            (key("t", "light, dark, or as the system has it"))
            (key("1 … 9", "go to a section"))
            (key("Esc", "close a dialogue"))
        }
        form method="dialog" { button class="act primary" { "Close" } }
    }
}
