//! `[[routes]]`: a match and the service it leads to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    rails::{By, Mirror, Rates, Redirect, Split},
    transform::{HeaderChanges, Rewrite},
};

/// `[[routes]]`: matched by host, then longest path, then order in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Only requests on this listener. Default: every listener.
    #[serde(default)]
    pub listener: Option<String>,
    /// Only requests for this host, as `shop.example.com` or `*.example.com`, without port. Default: every host.
    #[serde(default)]
    pub host: Option<String>,
    /// Only requests whose path is this one or lies below it: `/api` matches `/api` and `/api/orders`, not `/apis`. Paths are
    /// compared in a normal form: percent-encoded bytes are decoded once, slashes in a row are one, `.` and `..` are
    /// resolved. So `//api`, `/%61pi` and `/x/../api` match too; the instance gets what the client sent. An encoded slash
    /// (`%2F`) separates nothing, and a semicolon is part of a name: a service that decodes the one, or drops what follows
    /// the other (`/api;x`), has to close such paths itself. 400: paths that climb above the root, or on some servers only,
    /// as `/..%2Fx` and `/..;/x`.
    #[serde(default = "Route::default_path")]
    pub path: String,
    /// Only requests with these methods, as `["GET", "HEAD"]`. Default: every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Only requests with exactly these header values. A canary by header is a route of its own above the others:
    /// `headers = { x-canary = "1" }` with `service = "next"`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Requests with an `Idempotency-Key` header may be sent again although their method is not idempotent. Say
    /// so only where the application answers the same key with the same result.
    #[serde(default)]
    pub idempotency_key: bool,
    /// Another target for the instance, as `{ strip_prefix = "/api" }` or `{ host = "app.internal" }`. A path with `.`
    /// or `..` segments, also encoded ones, is answered with 400 where a prefix is taken away or put in front.
    #[serde(default)]
    pub rewrite: Option<Rewrite>,
    /// Changes to the header fields that instances get.
    #[serde(default)]
    pub request_headers: HeaderChanges,
    /// Changes to the header fields of instances' answers, 101 among them; other interim answers (1xx) and those that the
    /// edge makes itself stay as they are.
    #[serde(default)]
    pub response_headers: HeaderChanges,
    /// The service that answers. Only a route with `redirect` has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// The edge's answer: it sends the client elsewhere, as `"https://{host}{uri}"`, or
    /// `{ to = "https://example.com{uri}", status = 301 }`. Without `status`: 308. Behind a proxy that ends TLS, match
    /// `headers = { x-forwarded-proto = "http" }` in the same route, or clients go in circles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Bounds on how often a client may ask, as `{ requests = 100, per = "1s", burst = 50, by = "address" }`, or a list
    /// of them; beyond it 429 with `Retry-After`.
    #[serde(default, skip_serializing_if = "Rates::is_empty")]
    pub rate: Rates,
    /// Other services that get a part of the requests, as `[{ service = "next", percent = 5 }]`; the rest goes to
    /// `service`, as does everything while nobody of the other one is healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<Split>,
    /// How a request's part is found: `request` (in turn, each one anew), or by `address`, `header:NAME` or `cookie:NAME`,
    /// so that who has the same has the same part; without the header or cookie in turn.
    #[serde(default = "By::request", deserialize_with = "By::of_split")]
    pub split_by: By,
    /// A service that gets copies of requests, once the original was answered, as `{ service = "next", percent = 10 }`.
    /// A copy has `X-Mirrored: 1`, is sent once or not at all, and its answer is dropped. Not copied: requests whose body
    /// is larger than 64 KiB or comes in pieces, upgrades, and what is too much for the other service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// `CONNECT` is passed on, and a 2xx of the instance makes a tunnel of the connection. Without it: 501.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub connect: bool,
}

impl Route {
    fn default_path() -> String {
        "/".to_owned()
    }

    /// The route that leads everything to `service`.
    pub(super) fn everything_to(service: &str) -> Self {
        Self {
            listener: None,
            host: None,
            path: Self::default_path(),
            methods: Vec::new(),
            headers: BTreeMap::new(),
            idempotency_key: false,
            rewrite: None,
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            service: service.to_owned(),
            redirect: None,
            rate: Rates::default(),
            split: Vec::new(),
            split_by: By::request(),
            mirror: None,
            connect: false,
        }
    }
}
