//! Routes: matches, the services they lead to, and what is done on the way.

use serde::{Deserialize, Serialize};

/// A match and the service it leads to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Only requests on this listener; `None`: every listener.
    pub listener: Option<String>,
    /// Lower-case host without port, or `*.` and a suffix; `None`: every host.
    pub host: Option<String>,
    /// Path prefix, matched at segment boundaries; `/` matches all.
    pub path: String,
    /// Header fields (lower-case names) that must have exactly these values.
    pub headers: Vec<(String, String)>,
    /// Methods that match, as `GET`; empty: every one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Name of the service; empty where `actions.redirect` answers.
    pub service: String,
    /// Requests with an `Idempotency-Key` may be sent again although their method is not idempotent.
    pub idempotency_key: bool,
    /// What is done with a request beside leading it to the service; mostly nothing.
    #[serde(default, skip_serializing_if = "Actions::is_empty")]
    pub actions: Actions,
}

/// What is done with the requests of a route beside leading them to its service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actions {
    /// The answer; no service is asked.
    pub redirect: Option<Redirect>,
    /// Bounds on how often a client may ask.
    pub rates: Vec<Rate>,
    /// Other services that get a part of the requests.
    pub split: Vec<Split>,
    /// How a request's part is found.
    pub split_by: SplitBy,
    /// A service that gets copies.
    pub mirror: Option<Mirror>,
    /// Another target.
    pub rewrite: Rewrite,
    /// Changes to the fields that the instance gets.
    pub request_fields: FieldChanges,
    /// Changes to the fields that the client gets.
    pub response_fields: FieldChanges,
    /// `CONNECT` is passed on, and becomes a tunnel with the instance's 2xx.
    pub connect: bool,
}

impl Actions {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// Where, as `https://{host}{uri}`; `{host}` is without port, `{path}` without query, `{uri}` both.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A bound on how often a client may ask: a token bucket; beyond it 429.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// What tells clients apart.
    pub by: RateKey,
    /// Requests allowed …
    pub requests: u32,
    /// … in so long …
    pub per_ms: u64,
    /// … and so many more at once after a quiet time.
    pub burst: u32,
}

/// What tells clients apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateKey {
    /// Their address; an IPv6 address by its first 64 bits.
    #[default]
    Address,
    /// The value of this lower-case field; requests without it count by address.
    Header(String),
    /// The value of this cookie; requests without it count by address.
    Cookie(String),
    /// Nothing: all of them together.
    Route,
}

/// Another service that gets a part of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Its name.
    pub service: String,
    /// Its part.
    pub percent: u8,
}

/// How a request's part is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// In turn, each request anew.
    #[default]
    Request,
    /// By the client's address: the same client always has the same part.
    Address,
    /// By the value of this lower-case field; without it in turn.
    Header(String),
    /// By the value of this cookie; without it in turn.
    Cookie(String),
}

/// A service that gets copies of requests; its answers are read and dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Its name.
    pub service: String,
    /// Percentage of the requests.
    pub percent: u8,
}

/// Another target for the instance. The client's is in `X-Forwarded-Prefix` where a prefix was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// Takes this prefix away, at a segment boundary.
    pub strip_prefix: Option<String>,
    /// Puts this in front.
    pub add_prefix: Option<String>,
    /// Replaces the whole path; the query stays.
    pub path: Option<String>,
    /// Replaces `Host`.
    pub host: Option<String>,
}

/// Changes to header fields, in this order. Values may have `{client}`, `{host}`, `{path}`, `{id}` in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FieldChanges {
    /// Lower-case names that are taken away.
    pub remove: Vec<String>,
    /// Fields that replace those of the same name.
    pub set: Vec<(String, String)>,
    /// Fields that are put beside those of the same name.
    pub add: Vec<(String, String)>,
}

impl FieldChanges {
    /// Whether nothing changes.
    pub const fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// The first word in braces that stands for nothing.
    pub fn unknown_word(value: &str) -> Option<&str> {
        super::template::parts(value).find_map(|part| match part {
            super::template::Part::Unknown(word) => Some(word),
            _ => None,
        })
    }
}
