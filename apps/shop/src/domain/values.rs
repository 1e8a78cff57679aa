//! Values from outside that can only be made by a check.

use serde::{Deserialize, Serialize};

use crate::error::ShopError;

/// The most lines an order or a cart may have.
pub(crate) const MAX_ORDER_LINES: usize = 50;
/// The most pieces of one product in a cart or an order.
const MAX_QUANTITY: i64 = 99;
const MAX_KEY_CHARS: usize = 200;
/// The longest address that SMTP can carry (RFC 5321, section 4.5.3.1.3, as corrected by erratum 1690).
const MAX_EMAIL_CHARS: usize = 254;

/// A number of pieces, 1 to 99.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Quantity(i64);

impl Quantity {
    /// The quantity `pieces`, if it is from 1 to 99.
    pub fn new(pieces: i64) -> Result<Self, ShopError> {
        if (1..=MAX_QUANTITY).contains(&pieces) {
            return Ok(Self(pieces));
        }
        Err(ShopError::Invalid(format!("the quantity must be from 1 to {MAX_QUANTITY}")))
    }

    /// The number of pieces.
    pub fn pieces(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = ShopError;

    fn try_from(pieces: i64) -> Result<Self, ShopError> {
        Self::new(pieces)
    }
}

impl From<Quantity> for i64 {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

/// An e-mail address, checked for shape only: whether it exists is learned by writing to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Email(String);

impl Email {
    /// The address in `text`: one `@` with something before it and a dotted domain after it, no white space or
    /// control characters, at most 254 characters. Kept in lower case, so that one person has one account.
    pub fn parse(text: &str) -> Result<Self, ShopError> {
        let text = text.trim();
        let shaped = text.split_once('@').is_some_and(|(name, domain)| {
            !name.is_empty()
                && name.len() <= 64
                && domain.contains('.')
                && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
                && domain.chars().all(|c| c.is_alphanumeric() || c == '.' || c == '-')
        });
        let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control() || "<>\"',;()".contains(c));
        if shaped && plain && text.len() <= MAX_EMAIL_CHARS {
            return Ok(Self(text.to_lowercase()));
        }
        Err(ShopError::Invalid("enter an e-mail address like name@example.com".to_owned()))
    }

    /// An address read back from the database, where only checked ones are written.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address with most of its name hidden, for pages that whoever has the link can see.
    pub fn masked(&self) -> String {
        let (name, domain) = self.0.split_once('@').unwrap_or((&self.0, ""));
        format!("{}…@{domain}", name.chars().next().unwrap_or('…'))
    }
}

/// A client's name for one order: however often it is sent, there is one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key in `text`: 1 to 200 visible ASCII characters.
    pub fn parse(text: &str) -> Result<Self, ShopError> {
        if (1..=MAX_KEY_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err(ShopError::BadRequest(format!("an Idempotency-Key is 1 to {MAX_KEY_CHARS} visible ASCII characters")))
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `text` without surrounding white space, if its length in characters is within `min` to `max` and it has no
/// control characters but line breaks. `what` names the field in the message.
pub(crate) fn bounded_text(what: &str, text: &str, min: usize, max: usize) -> Result<String, ShopError> {
    let text = text.trim();
    let chars = text.chars().count();
    if chars < min {
        return Err(ShopError::Invalid(format!("the {what} needs at least {min} characters")));
    }
    if chars > max {
        return Err(ShopError::Invalid(format!("the {what} may have at most {max} characters")));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\r') {
        return Err(ShopError::Invalid(format!("the {what} contains characters that cannot be shown")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Email, IdempotencyKey, Quantity, bounded_text};

    #[test]
    fn addresses_need_a_name_and_a_dotted_domain() {
        assert_eq!(Email::parse(" Ada@Example.com ").unwrap().as_str(), "ada@example.com");
        for text in ["", "a", "a@b", "@b.c", "a@b..c", "a b@c.de", "a@-b.c", "a@b.c\n", "a@b@c.de", "a<b@c.de"] {
            if text == "a@b.c\n" {
                assert!(Email::parse(text).is_ok(), "surrounding white space is removed");
            } else {
                assert!(Email::parse(text).is_err(), "{text:?} was accepted");
            }
        }
        assert!(Email::parse(&format!("a@{}.com", "b".repeat(260))).is_err());
        assert_eq!(Email::parse("ada@example.com").unwrap().masked(), "a…@example.com");
    }

    #[test]
    fn quantities_and_keys_are_bounded() {
        assert!(Quantity::new(0).is_err());
        assert!(Quantity::new(100).is_err());
        assert!(Quantity::new(i64::MIN).is_err());
        assert_eq!(Quantity::new(99).unwrap().pieces(), 99);
        assert!(IdempotencyKey::parse("").is_err());
        assert!(IdempotencyKey::parse("a b").is_err());
        assert!(IdempotencyKey::parse(&"k".repeat(201)).is_err());
        assert!(IdempotencyKey::parse("order-1/é").is_err());
    }

    #[test]
    fn texts_are_trimmed_and_bounded_in_characters() {
        assert_eq!(bounded_text("name", "  éé ", 2, 2).unwrap(), "éé");
        assert!(bounded_text("name", "é", 2, 2).is_err());
        assert!(bounded_text("name", "a\u{0}b", 1, 9).is_err());
    }
}
