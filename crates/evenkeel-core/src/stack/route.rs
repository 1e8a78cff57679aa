//! `[[routes]]`: a match and the service it leads to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Only requests whose path is this one or lies below it: `/api` matches `/api` and `/api/orders`, not `/apis`.
    #[serde(default = "Route::default_path")]
    pub path: String,
    /// Only requests with exactly these header values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Requests with an `Idempotency-Key` header may be sent again although their method is not idempotent. Say
    /// so only where the application answers the same key with the same result.
    #[serde(default)]
    pub idempotency_key: bool,
    /// The service that answers.
    pub service: String,
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
            headers: BTreeMap::new(),
            idempotency_key: false,
            service: service.to_owned(),
        }
    }
}
