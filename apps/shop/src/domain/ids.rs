//! Identifiers. Those of carts and orders are random, since knowing one is what gives access to it.

use std::fmt;

use serde::Serialize;

use crate::error::ShopError;

/// A product's number.
pub type ProductId = i64;
/// An account's number.
pub type AccountId = i64;

/// Crockford's base 32: no letter that is easily taken for a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CART_ID_CHARS: usize = 26;
const ORDER_ID_CHARS: usize = 20;

/// `chars` characters of five random bits each, from the operating system's generator.
pub(crate) fn random_token(chars: usize) -> Result<String, ShopError> {
    let mut bytes = vec![0_u8; chars];
    getrandom::fill(&mut bytes)
        .map_err(|error| ShopError::System { what: "random numbers", source: std::io::Error::other(error) })?;
    Ok(bytes.into_iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect())
}

fn checked(text: &str, chars: usize) -> Option<String> {
    let text = text.to_ascii_lowercase();
    (text.len() == chars && text.bytes().all(|byte| ALPHABET.contains(&byte))).then_some(text)
}

/// A cart's identifier: 130 random bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CartId(String);

impl CartId {
    /// A new identifier.
    pub fn random() -> Result<Self, ShopError> {
        random_token(CART_ID_CHARS).map(Self)
    }

    /// The identifier written in `text`, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        checked(text, CART_ID_CHARS).map(Self)
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An order's identifier: 100 random bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrderId(String);

impl OrderId {
    /// A new identifier.
    pub fn random() -> Result<Self, ShopError> {
        random_token(ORDER_ID_CHARS).map(Self)
    }

    /// The identifier written in `text`, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        checked(text, ORDER_ID_CHARS).map(Self)
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
