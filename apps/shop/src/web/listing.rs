//! What a visitor asks of the catalogue in the address of a list, for pages and API alike.

use serde::Deserialize;

use crate::domain::{ProductQuery, Sort};
use crate::error::ShopError;

/// `?query=…&category=…&sort=…&page=…`, all of them optional.
#[derive(Deserialize)]
pub(in crate::web) struct Listing {
    #[serde(default)]
    query: String,
    #[serde(default)]
    category: String,
    #[serde(default)]
    sort: String,
    page: Option<i64>,
}

impl Listing {
    /// As the store understands it; an unknown category or a page out of range is invalid.
    pub(in crate::web) fn read(&self) -> Result<ProductQuery, ShopError> {
        ProductQuery::new(&self.query, &self.category, self.page.unwrap_or(1), Sort::parse(&self.sort))
    }
}
