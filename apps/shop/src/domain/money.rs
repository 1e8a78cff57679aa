//! Money: whole cents of one currency, the euro. Never a floating-point number.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ShopError;

/// The dearest price a product may have: one million euros.
const MAX_PRICE_CENTS: i64 = 100_000_000;

/// An amount in cents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cents(pub i64);

impl Cents {
    /// A price of a product: more than nothing, at most a million euros.
    pub fn price(cents: i64) -> Result<Self, ShopError> {
        if (1..=MAX_PRICE_CENTS).contains(&cents) {
            return Ok(Self(cents));
        }
        Err(ShopError::Invalid(format!("the price must be between €0.01 and {}", Self(MAX_PRICE_CENTS))))
    }

    /// A price as a person types it: `12`, `12.5`, `12.50` or `12,50`.
    pub fn parse_price(text: &str) -> Result<Self, ShopError> {
        let wrong = || ShopError::Invalid("write the price in euros, like 12.50".to_owned());
        let text = text.trim().trim_start_matches('€').trim().replace(',', ".");
        let (euros, cents) = text.split_once('.').unwrap_or((&text, "0"));
        if euros.is_empty() || euros.len() > 9 || cents.is_empty() || cents.len() > 2 {
            return Err(wrong());
        }
        if !euros.bytes().chain(cents.bytes()).all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let tens = if cents.len() == 1 { 10 } else { 1 };
        let euros: i64 = euros.parse().map_err(|_| wrong())?;
        let cents: i64 = cents.parse().map_err(|_| wrong())?;
        Self::price(euros * 100 + cents * tens)
    }

    /// This amount `times` over. Prices and quantities are bounded, so that no total of an order can overflow.
    #[must_use]
    pub fn times(self, times: i64) -> Self {
        Self(self.0 * times)
    }
}

impl std::iter::Sum for Cents {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|amount| amount.0).sum())
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = (self.0 / 100).to_string();
        let mut grouped = String::with_capacity(digits.len() + 4);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        write!(f, "€{grouped}.{:02}", self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::Cents;

    #[test]
    fn amounts_are_written_with_groups_and_two_places() {
        assert_eq!(Cents(5).to_string(), "€0.05");
        assert_eq!(Cents(2_450).to_string(), "€24.50");
        assert_eq!(Cents(123_456_789).to_string(), "€1,234,567.89");
    }

    #[test]
    fn prices_are_read_as_people_type_them() {
        for (text, cents) in [("12", 1200), ("12.5", 1250), (" €12,50 ", 1250), ("0.01", 1)] {
            assert_eq!(Cents::parse_price(text).unwrap(), Cents(cents), "{text}");
        }
        for text in ["", "0", "-1", "1.234", "1e3", "99999999999", ".5", "1.", "1.2.3"] {
            assert!(Cents::parse_price(text).is_err(), "{text} was accepted");
        }
    }
}
