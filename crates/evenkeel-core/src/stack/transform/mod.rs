//! What becomes of heads and bodies on their way: `rewrite`, `request_headers` and `response_headers` of routes,
//! `error_pages` of listeners and services, `compress` of services.
//!
//! Here is what is written in the stack file, what of it is refused, and how it becomes part of a snapshot. What could
//! change where a message ends, who it is for or whether it may be sent again cannot be written at all.

mod check;

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

pub(super) use self::check::check;
use super::{returning::Page, units::Size};
use crate::snapshot;

/// `rewrite`: another target for the instance. The query stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// Takes this prefix away from paths that are it or lie below it: with `/api`, `/api/orders` becomes `/orders`. The
    /// instance reads in `X-Forwarded-Prefix` what was taken away.
    pub strip_prefix: Option<String>,
    /// Puts this in front of the path, after `strip_prefix`.
    pub add_prefix: Option<String>,
    /// Replaces the whole path.
    pub path: Option<String>,
    /// Replaces `Host`; the client's is in `X-Forwarded-Host`.
    pub host: Option<String>,
}

/// `request_headers` and `response_headers`: changes to header fields, in this order. Values may have `{client}` (its
/// address), `{host}` (the client's, without port), `{path}` (the client's, without query) and `{id}` (the request's
/// identity) in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChanges {
    /// Names of fields that are taken away.
    pub remove: Vec<String>,
    /// Fields that replace those of the same name.
    pub set: BTreeMap<String, String>,
    /// Fields that are put beside those of the same name.
    pub add: BTreeMap<String, String>,
}

/// One page of `error_pages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorPage {
    /// File with the body, at most 64 KiB of UTF-8, beside the stack file or absolute. It is read when a revision is
    /// put in force and when `keel up` starts.
    pub file: Option<String>,
    /// The body itself.
    pub text: Option<String>,
    /// `Content-Type` of the answer. Default: by the file's ending, `text/plain` for `text`.
    pub content_type: Option<String>,
    /// Also in place of the body of an instance's own answer of such a status. Only in services.
    pub of_instances: bool,
}

/// `compress`: answers of instances are compressed for clients that accept it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compress {
    /// Content codings, in order of preference where a client likes several equally: `"zstd"`, `"br"` (Brotli),
    /// `"gzip"`.
    #[schemars(with = "Vec<EncodingNames>")]
    pub encodings: Vec<snapshot::Encoding>,
    /// Answers whose length is known to be below this stay as they are.
    pub min: Size,
    /// Media types that are compressed; `*` stands for any part, as in `text/*`. Never `text/event-stream`.
    pub types: Vec<String>,
}

/// The spellings of [`snapshot::Encoding`], for the schema.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used")]
enum EncodingNames {
    Zstd,
    Br,
    Gzip,
}

/// What may stand for `compress`, for the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum CompressForm {
    Switch(bool),
    Table(Compress),
}

/// What text-like media types web applications answer with.
const TYPES: [&str; 12] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/wasm",
    "image/svg+xml",
    "image/x-icon",
    "image/vnd.microsoft.icon",
    "font/ttf",
    "font/otf",
];

impl Default for Compress {
    fn default() -> Self {
        use snapshot::Encoding::{Br, Gzip, Zstd};
        Self {
            encodings: vec![Zstd, Br, Gzip],
            min: Size::kib(1),
            types: TYPES.iter().map(|&kind| kind.to_owned()).collect(),
        }
    }
}

impl Compress {
    /// Reads `true`, `false` or a table.
    pub(super) fn deserialize_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        struct Form;
        impl<'de> de::Visitor<'de> for Form {
            type Value = Option<Compress>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "true, false or { encodings = [\"zstd\", \"br\", \"gzip\"], min = \"1KiB\", types = [\"text/*\"] }",
                )
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Self::Value, E> {
                Ok(on.then(Compress::default))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Compress::deserialize(de::value::MapAccessDeserializer::new(map)).map(Some)
            }
        }
        deserializer.deserialize_any(Form)
    }

    /// For a snapshot.
    pub(super) fn compile(&self) -> snapshot::Compress {
        snapshot::Compress {
            encodings: self.encodings.clone(),
            min_bytes: self.min.as_bytes(),
            types: self.types.iter().map(|kind| kind.to_ascii_lowercase()).collect(),
        }
    }
}

impl Rewrite {
    /// For a snapshot: prefixes end without a slash.
    pub(super) fn compile(&self) -> snapshot::Rewrite {
        let prefix = |text: &Option<String>| text.as_ref().map(|text| text.trim_end_matches('/').to_owned());
        snapshot::Rewrite {
            strip_prefix: prefix(&self.strip_prefix),
            add_prefix: prefix(&self.add_prefix),
            path: self.path.clone(),
            host: self.host.clone(),
        }
    }
}

impl HeaderChanges {
    /// For a snapshot: names for comparison are in lower case, names that are written are as they stand.
    pub(super) fn compile(&self) -> snapshot::FieldChanges {
        let fields =
            |of: &BTreeMap<String, String>| of.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        snapshot::FieldChanges {
            remove: self.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
            set: fields(&self.set),
            add: fields(&self.add),
        }
    }
}

impl ErrorPage {
    /// The page, with the body that stands in the stack file itself.
    pub fn page(&self) -> Page {
        Page { file: self.file.clone(), text: self.text.clone(), status: 503, content_type: self.content_type.clone() }
    }

    /// First and last status of a key of `error_pages`: `404` or `500-599`; `None` where it is neither.
    pub fn statuses(key: &str) -> Option<(u16, u16)> {
        let number = |text: &str| (text.len() == 3).then(|| text.parse::<u16>().ok()).flatten();
        let (first, last) = match key.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(key)?, number(key)?),
        };
        ((400..=599).contains(&first) && (first..=599).contains(&last)).then_some((first, last))
    }
}

/// `error_pages` for a snapshot; the narrowest range comes first. Bodies of files are filled in by whoever reads them.
pub(super) fn compile_error_pages(pages: &BTreeMap<String, ErrorPage>) -> Vec<snapshot::ErrorPage> {
    let compiled = pages.iter().filter_map(|(key, page)| {
        Some(snapshot::ErrorPage {
            statuses: ErrorPage::statuses(key)?,
            of_instances: page.of_instances,
            page: snapshot::Page {
                status: ErrorPage::statuses(key)?.0,
                content_type: page.page().content_type(),
                body: page.text.clone().unwrap_or_default(),
            },
        })
    });
    let mut compiled: Vec<_> = compiled.collect();
    compiled.sort_by_key(|page| page.statuses.1 - page.statuses.0);
    compiled
}
