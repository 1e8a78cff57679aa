//! The shop's nouns: products, carts, orders, accounts, and the small values they are made of.
//!
//! Values that come from outside (an e-mail address, a quantity, an idempotency key) are types that can only be
//! made by a check, so that whatever holds one need not check again. Nothing here reads a clock, a database or
//! a request.

mod account;
mod cart;
mod catalogue;
mod ids;
mod money;
mod order;
mod values;

pub use account::{Account, NewAccount, Session};
pub use cart::{Cart, CartLine};
pub(crate) use catalogue::category;
pub use catalogue::{
    CATEGORIES, CategoryInfo, NewProduct, PAGE_SIZE, Product, ProductPage, ProductQuery, SHAPES, Sort,
};
pub(crate) use ids::random_token;
pub use ids::{AccountId, CartId, OrderId, ProductId};
pub use money::Cents;
pub use order::{NewOrder, Order, OrderContent, OrderLine, OrderStatus, Placed};
pub use values::{Email, IdempotencyKey, Quantity};
pub(crate) use values::{MAX_ORDER_LINES, bounded_text};
