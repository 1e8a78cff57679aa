//! Accounts and sessions.

use super::{AccountId, Email, bounded_text};
use crate::error::ShopError;

/// Somebody who can sign in.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// Its address, by which it signs in.
    pub email: Email,
    /// How it is greeted.
    pub name: String,
    /// Whether it may publish products.
    pub staff: bool,
}

/// A signed-in browser.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who is signed in.
    pub account: Account,
    /// What the forms of this session must carry.
    pub csrf: String,
}

/// An account to create, checked; the password is still to be hashed.
#[derive(Debug)]
pub struct NewAccount {
    pub(crate) email: Email,
    pub(crate) name: String,
    pub(crate) password: String,
}

impl NewAccount {
    /// Checks address, name and length of the password (8 to 200 characters, whatever they are: NIST SP 800-63B,
    /// section 5.1.1.2, asks for length and against rules of composition).
    pub fn new(email: &str, name: &str, password: &str) -> Result<Self, ShopError> {
        let chars = password.chars().count();
        if !(8..=200).contains(&chars) {
            return Err(ShopError::Invalid("the password must have 8 to 200 characters".to_owned()));
        }
        Ok(Self {
            email: Email::parse(email)?,
            name: bounded_text("name", name, 1, 80)?,
            password: password.to_owned(),
        })
    }
}
