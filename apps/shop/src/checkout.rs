//! Placing orders and getting them paid, whatever dies in between.
//!
//! The order of things: one transaction makes the order durable with its stock and the intent to charge; the
//! provider is asked; one transaction settles. Each step can be repeated: the first by the client's idempotency
//! key, the second by the order's key at the provider, the third because a settled payment stays as it is. A
//! process that dies after the first step leaves a pending payment, which [`Checkout::recover`] of any instance
//! picks up.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{NewOrder, Order, Placed};
use crate::error::ShopError;
use crate::payment::{Charge, PaymentProvider};
use crate::store::Store;

/// How long a request waits for its payment to be decided once the order is placed; recovery goes on after that.
const PAY_WAIT: Duration = Duration::from_secs(8);
/// Payments taken up in one round of recovery.
const ROUND: i64 = 50;

/// The way from a cart to a paid order.
#[derive(Clone)]
pub struct Checkout {
    store: Store,
    provider: Arc<dyn PaymentProvider>,
}

impl Checkout {
    /// Orders go to `store`, charges to `provider`.
    pub fn new(store: Store, provider: Arc<dyn PaymentProvider>) -> Self {
        Self { store, provider }
    }

    /// Places an order and has it charged, or finds what came of the same key before.
    ///
    /// Once the order is durable this succeeds, whatever becomes of the payment: it may then still be pending.
    /// The work goes on when the caller goes away.
    pub async fn place(&self, new: NewOrder) -> Result<Placed, ShopError> {
        let this = self.clone();
        let work = tokio::spawn(async move {
            let placed = this.store.place_order(new).await?;
            Ok(match placed {
                Placed::New(order) => Placed::New(this.pay(order).await),
                Placed::Before(order) => Placed::Before(this.pay(order).await),
            })
        });
        work.await.unwrap_or(Err(ShopError::Unavailable("the order's task ended early")))
    }

    /// Has an order charged if that is undecided. A failure leaves the payment to recovery.
    async fn pay(&self, order: Order) -> Order {
        let paying = async {
            match self.store.pending_payment(order.id.clone()).await? {
                Some(pending) => self.charge(pending.charge).await,
                None => self.store.order(order.id.clone()).await,
            }
        };
        let paid = tokio::time::timeout(PAY_WAIT, paying).await;
        paid.unwrap_or(Err(ShopError::Unavailable("the payment takes long"))).unwrap_or_else(|error| {
            tracing::warn!(order = %order.id, %error, "the payment stays pending and will be tried again");
            order
        })
    }

    async fn charge(&self, charge: Charge) -> Result<Order, ShopError> {
        let order = charge.order.clone();
        match self.provider.charge(charge).await {
            Ok(outcome) => self.store.settle_payment(order, outcome).await,
            Err(error) => {
                self.store.postpone_payment(order).await?;
                Err(error.into())
            }
        }
    }

    /// Takes up the payments that are due, whoever began them, and answers how many were settled. Several
    /// instances may do so at the same time.
    pub async fn recover(&self) -> Result<usize, ShopError> {
        let mut settled = 0;
        for payment in self.store.due_payments(ROUND).await? {
            let order = payment.charge.order.clone();
            match self.charge(payment.charge).await {
                Ok(_) => settled += 1,
                Err(ShopError::Payment(error)) => tracing::warn!(%order, %error, "the payment stays pending"),
                Err(error) => return Err(error),
            }
        }
        if settled > 0 {
            tracing::info!(settled, "pending payments settled");
        }
        Ok(settled)
    }
}
