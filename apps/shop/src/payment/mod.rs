//! Payment: the seam between the shop and whoever moves the money.
//!
//! The shop writes down the intent to charge in the same transaction as the order, and only then talks to the
//! provider, always with the same idempotency key for the same order. So a process may die at any point: whoever
//! finds the intent pending asks the provider again and gets the answer of the first time. A provider must
//! therefore never charge one key twice, and must answer a repeated key as it did before.

mod remote;
mod test_provider;
mod till;

use std::future::Future;
use std::pin::Pin;

pub use remote::{RemoteTill, TILL_HOST};
pub use test_provider::{ChargeRecord, TestProvider};
pub(crate) use till::router as till_router;

use crate::domain::{Cents, OrderId};

/// How the customer pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The test card that is always approved.
    #[default]
    TestCard,
    /// The test card that is always declined.
    TestDeclined,
    /// The test card whose first charge gets no answer and whose second is approved.
    TestUnreliable,
}

impl Method {
    /// Every method with its name in the API and on pages.
    pub const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::TestCard, "test-card", "Test card, approved"),
        (Self::TestDeclined, "test-declined", "Test card, declined"),
        (Self::TestUnreliable, "test-unreliable", "Test card, answers at the second attempt"),
    ];

    /// Its name in the API and in the database.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(method, ..)| *method == self).map_or("test-card", |(_, name, _)| name)
    }

    /// The method called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(method, ..)| *method)
    }
}

/// What is asked of a provider.
#[derive(Clone, Debug)]
pub struct Charge {
    /// One per order, the same at every attempt.
    pub key: String,
    /// The order, for the provider's statement.
    pub order: OrderId,
    /// The amount in euros.
    pub amount: Cents,
    /// How the customer pays.
    pub method: Method,
}

/// What a provider decided. It does not change for a key that was decided once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// The money is ours; the reference is the provider's.
    Approved {
        /// The provider's name for the charge.
        reference: String,
    },
    /// The money is not ours.
    Declined {
        /// The reason, in words for the customer.
        reason: String,
    },
}

/// Why a provider did not decide. The charge may or may not have happened; asking again with the same key finds out.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// The provider did not answer.
    #[error("the payment provider does not answer")]
    NoAnswer,
    /// The provider's record could not be read or written.
    #[error("the payment provider's record failed: {0}")]
    Record(#[source] Box<crate::error::ShopError>),
}

/// A provider's answer, on its way.
pub type ChargeFuture<'a> = Pin<Box<dyn Future<Output = Result<ChargeOutcome, PaymentError>> + Send + 'a>>;

/// Moves money.
pub trait PaymentProvider: Send + Sync {
    /// Charges, or answers what came of charging this key before.
    fn charge(&self, charge: Charge) -> ChargeFuture<'_>;
}
