//! Orders: what was bought, once, and whether it is paid.

use serde::Serialize;

use super::{AccountId, CartId, Cents, Email, IdempotencyKey, MAX_ORDER_LINES, OrderId, ProductId, Quantity};
use crate::error::ShopError;
use crate::payment::Method;

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Stock is set aside and the payment is not decided yet.
    PendingPayment,
    /// Paid.
    Paid,
    /// The provider declined; the stock was put back.
    PaymentFailed,
}

impl OrderStatus {
    /// Its name in the database and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::PendingPayment => "pending_payment",
            Self::Paid => "paid",
            Self::PaymentFailed => "payment_failed",
        }
    }

    /// The status called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::PendingPayment, Self::Paid, Self::PaymentFailed].into_iter().find(|status| status.name() == name)
    }
}

/// An order.
#[derive(Clone, Debug, Serialize)]
pub struct Order {
    /// Its identifier.
    pub id: OrderId,
    /// How far it is.
    pub status: OrderStatus,
    /// What is charged.
    pub total_cents: Cents,
    /// Always `EUR`.
    pub currency: &'static str,
    /// What was bought, at the prices of that moment.
    pub items: Vec<OrderLine>,
    /// When it was placed, in milliseconds since 1970.
    pub created_ms: i64,
    /// Why the payment failed, in the provider's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_note: Option<String>,
    /// Whom to write to. Not in the API: whoever has the order's address can read the rest.
    #[serde(skip)]
    pub email: Email,
}

/// One product of an order.
#[derive(Clone, Debug, Serialize)]
pub struct OrderLine {
    /// The product's number.
    pub product: ProductId,
    /// The product's name when it was bought.
    pub name: String,
    /// Pieces.
    pub quantity: i64,
    /// The price of one piece when it was bought.
    pub unit_price_cents: Cents,
}

/// Where the lines of a new order come from.
#[derive(Clone, Debug)]
pub enum OrderContent {
    /// A cart, as it is when the order is placed.
    Cart(CartId),
    /// Lines named in the request, merged by product and in ascending order.
    Lines(Vec<(ProductId, Quantity)>),
}

/// A request to buy, checked.
#[derive(Clone, Debug)]
pub struct NewOrder {
    pub(crate) key: IdempotencyKey,
    pub(crate) content: OrderContent,
    pub(crate) email: Email,
    pub(crate) method: Method,
    pub(crate) account: Option<AccountId>,
}

impl NewOrder {
    /// An order of a cart.
    pub fn of_cart(key: IdempotencyKey, cart: CartId, email: Email, method: Method) -> Self {
        Self { key, content: OrderContent::Cart(cart), email, method, account: None }
    }

    /// An order of the products in `lines`, 1 to 50 of them; a product named twice counts once with the sum.
    pub fn of_lines(
        key: IdempotencyKey,
        lines: Vec<(ProductId, Quantity)>,
        email: Email,
        method: Method,
    ) -> Result<Self, ShopError> {
        if lines.is_empty() || lines.len() > MAX_ORDER_LINES {
            return Err(ShopError::Invalid(format!("an order has 1 to {MAX_ORDER_LINES} lines")));
        }
        let mut merged = std::collections::BTreeMap::new();
        for (product, quantity) in lines {
            *merged.entry(product).or_insert(0) += quantity.pieces();
        }
        let lines = merged
            .into_iter()
            .map(|(product, pieces)| Ok((product, Quantity::new(pieces)?)))
            .collect::<Result<_, ShopError>>()?;
        Ok(Self { key, content: OrderContent::Lines(lines), email, method, account: None })
    }

    /// The same order, belonging to an account.
    #[must_use]
    pub fn by(mut self, account: Option<AccountId>) -> Self {
        self.account = account;
        self
    }

    /// What must be equal for a repeated key to mean the same request. It does not name the account, which may
    /// have signed out between two attempts.
    pub(crate) fn fingerprint(&self) -> String {
        let content = match &self.content {
            OrderContent::Cart(cart) => format!("cart {}", cart.as_str()),
            OrderContent::Lines(lines) => lines.iter().fold("lines".to_owned(), |text, (product, quantity)| {
                format!("{text} {product}*{}", quantity.pieces())
            }),
        };
        format!("{content} to {} by {}", self.email.as_str(), self.method.name())
    }
}

/// What came of a request to buy.
#[derive(Debug)]
pub enum Placed {
    /// The order was placed by this request.
    New(Order),
    /// An earlier request with the same key had placed it.
    Before(Order),
}

impl Placed {
    /// The order, whichever request placed it.
    pub fn order(&self) -> &Order {
        match self {
            Self::New(order) | Self::Before(order) => order,
        }
    }
}
