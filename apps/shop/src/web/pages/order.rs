//! One order and how far it is. Whoever has its address may see it, so the e-mail address is not shown whole.

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use crate::domain::{Order, OrderId, OrderStatus};
use crate::error::ShopError;
use crate::web::visitor::Visitor;
use crate::web::{Shared, failure, layout};

/// While the payment is undecided the page looks again after this many seconds.
const LOOK_AGAIN_S: u32 = 3;

pub(super) async fn show(State(app): Shared, visitor: Visitor, Path(id): Path<String>) -> Result<Response, ShopError> {
    let order = app.store.order(OrderId::parse(&id).ok_or(ShopError::NotFound("order"))?).await?;
    let content = html! {
        p class="eyebrow" { "Order " (order.id) }
        h1 { (heading(order.status)) }
        p class="lead" { (explanation(&order)) }
        (steps(order.status))
        section class="panel receipt" {
            ul class="plain" {
                @for line in &order.items {
                    li {
                        span { (line.quantity) " × " a href={ "/products/" (line.product) } { (line.name) } }
                        span { (line.unit_price_cents.times(line.quantity)) }
                    }
                }
            }
            dl class="sums" { dt class="total" { "Total" } dd class="total" { (order.total_cents) } }
        }
        p class="quiet" { "Keep this page's address: it is how to find the order again." }
        p { a class="button" href="/products" { "Back to the shop" } }
    };
    Ok(match order.status {
        OrderStatus::PendingPayment => {
            layout::page_again_in(&app, &visitor, heading(order.status), LOOK_AGAIN_S, &content)
        }
        _ => layout::page(&app, &visitor, heading(order.status), &content),
    })
}

/// A status in a word or two, for lists.
pub(super) fn short(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::PendingPayment => "Waiting for the payment",
        OrderStatus::Paid => "Paid",
        OrderStatus::PaymentFailed => "Declined",
    }
}

/// A status as the title of the order's page.
fn heading(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::PendingPayment => "Waiting for the payment",
        OrderStatus::Paid => "Thank you, it is paid",
        OrderStatus::PaymentFailed => "The payment did not go through",
    }
}

fn explanation(order: &Order) -> String {
    let to = order.email.masked();
    match (order.status, &order.payment_note) {
        (OrderStatus::PendingPayment, _) => {
            "Your order is safe and its goods are set aside. We keep asking the bank; this page looks again by itself."
                .to_owned()
        }
        (OrderStatus::Paid, _) => format!("A receipt goes to {to}."),
        (OrderStatus::PaymentFailed, Some(reason)) => {
            format!("{} Nothing was charged and the goods are back on the shelf.", failure::sentence(reason))
        }
        (OrderStatus::PaymentFailed, None) => "Nothing was charged and the goods are back on the shelf.".to_owned(),
    }
}

fn steps(status: OrderStatus) -> Markup {
    let (second, third) = match status {
        OrderStatus::PendingPayment => ("now", "later"),
        OrderStatus::Paid => ("done", "now"),
        OrderStatus::PaymentFailed => ("failed", "later"),
    };
    html! {
        ol class="steps" {
            li class="done" { "Ordered" }
            li class=(second) { @if status == OrderStatus::PaymentFailed { "Declined" } @else { "Paid" } }
            li class=(third) { "Being packed" }
        }
    }
}
