//! `return`: when a service goes back to what it prefers after another one answered in its place; and `page`, the
//! simplest of those that may answer.
//!
//! The window is written in UTC, since a stack runs in several places and a clock change must not move it. When
//! a return is due is decided elsewhere; this module only reads and writes.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::time::WallTime;

/// When a service goes back to its own instances, or to those of its preferred zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Return {
    /// As soon as one of them is healthy.
    #[default]
    AtOnce,
    /// When an operator says so: `keel resume SERVICE`.
    ByHand,
    /// Within this time of day, once one of them is healthy; or when an operator says so.
    Within(Window),
}

/// A time of day in UTC, from its first minute up to but without its last one; may cross midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Minutes since midnight.
    from: u16,
    /// Minutes since midnight.
    to: u16,
}

/// Text that is none of the three ways to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected \"at-once\", \"by-hand\" or a time of day in UTC as \"02:00-04:00\"")]
pub struct NotAReturn;

const MINUTES_OF_A_DAY: u64 = 24 * 60;

impl Window {
    /// Whether it is open at this time.
    pub const fn contains(self, wall: WallTime) -> bool {
        let minute = wall.as_millis() / 60_000 % MINUTES_OF_A_DAY;
        let (from, to) = (self.from as u64, self.to as u64);
        if from < to { from <= minute && minute < to } else { from <= minute || minute < to }
    }

    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute_of_day(from)?, minute_of_day(to)?);
        (from != to).then_some(Self { from, to })
    }
}

/// `HH:MM` as minutes since midnight.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| {
        (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl FromStr for Return {
    type Err = NotAReturn;

    fn from_str(text: &str) -> Result<Self, NotAReturn> {
        match text {
            "at-once" => Ok(Self::AtOnce),
            "by-hand" => Ok(Self::ByHand),
            other => Window::parse(other).map(Self::Within).ok_or(NotAReturn),
        }
    }
}

impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtOnce => f.write_str("at-once"),
            Self::ByHand => f.write_str("by-hand"),
            Self::Within(window) => window.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Return {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: NotAReturn| de::Error::custom(format!("`{text}`: {error}")))
    }
}

impl Serialize for Return {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Return {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Return".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(at-once|by-hand|[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9])$",
            "description": "\"at-once\", \"by-hand\", or a time of day in UTC as \"02:00-04:00\""
        })
    }
}

/// `page = { file = "sorry.html", status = 503 }`: what the edge itself answers to every request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// File with the body, at most 64 KiB of UTF-8, beside the stack file or absolute. It is read when a revision is
    /// put in force and when `keel up` starts.
    #[serde(default)]
    pub file: Option<String>,
    /// The body itself.
    #[serde(default)]
    pub text: Option<String>,
    /// Status code of the answer.
    #[serde(default = "Page::default_status")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// `Content-Type` of the answer. Default: by the file's ending, `text/plain` for `text`.
    #[serde(default)]
    pub content_type: Option<String>,
}

impl Page {
    /// Largest body, in bytes: it is part of every snapshot.
    pub const MOST_BYTES: u64 = 64 << 10;

    const fn default_status() -> u16 {
        503
    }

    /// What `Content-Type` the answer gets.
    pub fn content_type(&self) -> String {
        if let Some(own) = &self.content_type {
            return own.clone();
        }
        let name = self.file.as_deref().unwrap_or_default().to_ascii_lowercase();
        let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("html" | "htm") => "text/html; charset=utf-8",
            Some("json") => "application/json",
            Some("xml") => "application/xml",
            Some("svg") => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        };
        kind.to_owned()
    }

    /// What the types alone cannot say: what is wrong and what would be right.
    pub(super) fn fault(&self) -> Option<(&'static str, Option<&'static str>)> {
        let one = Some("page = { file = \"sorry.html\" } or page = { text = \"Back soon.\" }");
        match (&self.file, &self.text) {
            (None, None) => return Some(("`page` says not what to answer", one)),
            (Some(_), Some(_)) => return Some(("both `file` and `text`; it needs one of them", one)),
            (None, Some(text)) if text.len() as u64 > Self::MOST_BYTES => {
                return Some(("`text` may be at most 64KiB", None));
            }
            _ => {}
        }
        if !(200..=599).contains(&self.status) || matches!(self.status, 204 | 205 | 304) {
            return Some(("`status` must be from 200 to 599 and one that has a body", None));
        }
        let visible = |text: &String| !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if self.content_type.as_ref().is_some_and(|kind| !visible(kind)) {
            return Some(("`content_type` is not a value of a header field", None));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: u64, minute: u64) -> WallTime {
        WallTime::from_millis(20_000 * 86_400_000 + (hour * 60 + minute) * 60_000 + 59_999)
    }

    fn window(text: &str) -> Window {
        Window::parse(text).unwrap()
    }

    #[test]
    fn a_window_begins_and_ends_at_its_minutes() {
        let night = window("02:00-04:00");
        let open: Vec<bool> =
            [(1, 59), (2, 0), (3, 59), (4, 0)].map(|(h, m)| night.contains(at(h, m))).into_iter().collect();
        assert_eq!(open, [false, true, true, false]);
    }

    #[test]
    fn a_window_may_cross_midnight() {
        let late = window("23:30-00:15");
        for (hour, minute, open) in [(23, 29, false), (23, 30, true), (0, 0, true), (0, 14, true), (0, 15, false)] {
            assert_eq!(late.contains(at(hour, minute)), open, "{hour}:{minute}");
        }
    }

    #[test]
    fn what_is_written_reads_back_and_the_rest_is_refused() {
        for text in ["at-once", "by-hand", "02:00-04:00", "23:30-00:15"] {
            assert_eq!(text.parse::<Return>().unwrap().to_string(), text);
        }
        for text in ["", "now", "2:00-4:00", "02:00", "24:00-01:00", "02:60-03:00", "02:00-02:00", "02:00 - 04:00"] {
            assert_eq!(text.parse::<Return>(), Err(NotAReturn), "{text}");
        }
    }
    fn refused(service: &str) -> String {
        let text = format!(
            "[stack]\nname = \"t\"\n[services.a]\n{service}\n[services.b]\nrun = [\"b\"]\n[[routes]]\nservice = \"a\"\n"
        );
        crate::stack::parse(&text, "t.toml").map_or_else(|faults| faults.to_string(), |_| "accepted".to_owned())
    }

    #[test]
    fn what_prefer_return_and_page_need_is_said() {
        let zones = "instances = [{ address = \"h:1\", zone = \"north\" }, { address = \"h:2\", zone = \"south\" }]";
        for (service, said) in [
            (format!("{zones}\nprefer = \"north\"\nreturn = \"by-hand\""), "accepted"),
            ("run = [\"a\"]\nfallback = \"b\"\nreturn = \"23:00-01:00\"".to_owned(), "accepted"),
            ("page = { text = \"Back soon.\" }".to_owned(), "accepted"),
            (format!("{zones}\nprefer = \"nord\""), "did you mean `north`?"),
            ("instances = [\"h:1\"]\nprefer = \"north\"".to_owned(), "no instance of this service has a `zone`"),
            ("run = [\"a\"]\nreturn = \"at-once\"".to_owned(), "there is nothing to return from"),
            ("run = [\"a\"]\nfallback = \"b\"\nreturn = \"2-4\"".to_owned(), "02:00-04:00"),
            ("page = { status = 503 }".to_owned(), "`page` says not what to answer"),
            ("page = { text = \"a\", file = \"b\" }".to_owned(), "both `file` and `text`"),
            ("page = { text = \"a\", status = 204 }".to_owned(), "`status` must be"),
            ("page = { text = \"a\", content_type = \"a\\nb\" }".to_owned(), "`content_type` is not a value"),
            ("page = { text = \"a\" }\nrun = [\"a\"]".to_owned(), "has both `run` and `page`"),
            ("page = { text = \"a\" }\nfallback = \"b\"".to_owned(), "a page always answers"),
        ] {
            let refused = refused(&service);
            assert!(refused.contains(said), "{service}\n{refused}");
        }
    }
}
