//! `[objectives.SERVICE]`: how well a service must answer, over which time.
//!
//! Only the declaration is here; what is left of the budget that follows from it is computed in [`crate::objectives`].

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Duration, Stack, names::nearest, reach::led_to};
use crate::{link::LATENCY_BOUNDS_US, snapshot::Protocol};

/// `[objectives.SERVICE]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// The share of requests that must end well, as `"99.9%"`: every one that does not, which is an answer of 5xx or
    /// none at all, spends some of what is allowed. Default: none.
    #[serde(default)]
    pub availability: Option<Percent>,
    /// How long 99 of 100 requests may take at most; at most `60s`. Default: as long as they like.
    #[serde(default)]
    pub p99: Option<Duration>,
    /// The time that both are counted over, from `1h` to `90d`, up to now.
    #[serde(default = "Objective::default_window")]
    pub window: Duration,
}

impl Objective {
    /// The longest window, for which counters are kept.
    pub const LONGEST_WINDOW: Duration = Duration::s(90 * 24 * 3600);

    const SHORTEST_WINDOW: Duration = Duration::s(3600);

    const fn default_window() -> Duration {
        Duration::s(30 * 24 * 3600)
    }
}

/// A share of more than nothing and less than everything, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    /// So many millionths; `None` where that is nothing, everything or more.
    pub const fn of_millionths(millionths: u32) -> Option<Self> {
        if millionths > 0 && millionths < 1_000_000 { Some(Self(millionths)) } else { None }
    }

    /// From 0 to 1, both excluded.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// Reads `99.9%`, with at most four digits behind the point.
    fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?.trim_end();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || whole.len() > 3 || fraction.len() > 4 {
            return None;
        }
        Self::of_millionths(format!("{whole}{fraction:0<4}").parse().ok()?)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

const EXPECTED: &str = "a share of more than 0 and less than 100 percent, as \"99.9%\"";

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Percent, E> {
                Percent::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{1,2}(\\.[0-9]{1,4})? *%$", "description": EXPECTED })
    }
}

/// Finds objectives of services that there are not, that nobody could hold or miss, and that nothing is counted for.
pub(super) fn check(stack: &Stack, fault: &mut impl FnMut(&[&str], String, Option<String>)) {
    for (name, objective) in &stack.objectives {
        let path = ["objectives", name.as_str()];
        match stack.services.get(name) {
            None => {
                let near = nearest(name, stack.services.keys().map(String::as_str));
                let help = near.map(|near| format!("did you mean `{near}`?"));
                fault(&path, format!("there is no service `{name}`"), help);
            }
            Some(service) if service.page.is_some() => {
                let help = "leave it out, or declare it for the service that it stands in for".to_owned();
                fault(&path, format!("`{name}` is a page, which the edge answers by itself"), Some(help));
            }
            Some(_) if counts_nothing(stack, name) => {
                let help = "leave it out: what passes is shown by `keel status`".to_owned();
                fault(&path, format!("only UDP leads to `{name}`, and datagrams are no requests"), Some(help));
            }
            Some(_) => {}
        }
        check_numbers(name, objective, fault);
    }
}

fn check_numbers(name: &str, objective: &Objective, fault: &mut impl FnMut(&[&str], String, Option<String>)) {
    if objective.availability.is_none() && objective.p99.is_none() {
        let help = "availability = \"99.9%\" or p99 = \"250ms\"".to_owned();
        fault(&["objectives", name], format!("`objectives.{name}` asks for nothing"), Some(help));
    }
    // Nothing is known of a time above the last bound but that it lies there.
    let longest_ms = LATENCY_BOUNDS_US.last().copied().unwrap_or_default() / 1000;
    if objective.p99.is_some_and(|p99| p99.as_ms() == 0 || p99.as_ms() > longest_ms) {
        let message = format!("`p99` must be longer than nothing and at most {}", Duration::ms(longest_ms));
        fault(&["objectives", name, "p99"], message, None);
    }
    let windows = Objective::SHORTEST_WINDOW..=Objective::LONGEST_WINDOW;
    if !windows.contains(&objective.window) {
        let message = format!("`window` must be from {} to {}", windows.start(), windows.end());
        fault(&["objectives", name, "window"], message, None);
    }
}

/// Whether UDP leads to a service and nothing else.
fn counts_nothing(stack: &Stack, name: &str) -> bool {
    let leads = |protocol| led_to(stack, protocol).contains(name);
    leads(Protocol::Udp) && !leads(Protocol::Http) && !leads(Protocol::Tcp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::parse;

    const HEAD: &str = "[stack]\nname = \"t\"\n[services.shop]\nrun = [\"shop\"]\n";

    #[test]
    fn percentages_are_read_and_written_as_people_do() {
        for (text, millionths) in [("99.9%", 999_000), ("99%", 990_000), ("99.95 %", 999_500), ("0.0001%", 1)] {
            assert_eq!(Percent::parse(text), Percent::of_millionths(millionths), "{text}");
        }
        for text in ["", "%", "99.9", "100%", "0%", "99.99999%", "-1%", "9.%", ".9%", "1e1%", "100.0%", "9999%"] {
            assert_eq!(Percent::parse(text), None, "{text}");
        }
        for text in ["99.9%", "99%", "99.9999%", "0.5%"] {
            assert_eq!(Percent::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_objective_has_a_window_of_a_month() {
        let stack = parse(&format!("{HEAD}[objectives.shop]\navailability = \"99.9%\"\n"), "keel.toml").unwrap();
        let objective = &stack.objectives["shop"];
        assert_eq!((objective.window.to_string().as_str(), objective.p99), ("30d", None));
        let written = toml::to_string(objective).unwrap();
        assert_eq!(toml::from_str::<Objective>(&written).unwrap(), *objective);
    }

    #[test]
    fn what_nobody_could_hold_is_refused_with_its_place() {
        for (text, said) in [
            ("[objectives.shp]\np99 = \"1s\"", "did you mean `shop`?"),
            ("[objectives.shop]", "asks for nothing"),
            ("[objectives.shop]\navailability = \"100%\"", "less than 100 percent"),
            ("[objectives.shop]\navailability = 99.9", "as \"99.9%\""),
            ("[objectives.shop]\np99 = \"0ms\"", "longer than nothing"),
            ("[objectives.shop]\np99 = \"2m\"", "at most 1m"),
            ("[objectives.shop]\np99 = \"1s\"\nwindow = \"91d\"", "from 1h to 90d"),
            ("[objectives.sorry]\np99 = \"1s\"\n[services.sorry]\npage = { text = \"sorry\" }", "is a page"),
        ] {
            let faults = parse(&format!("{HEAD}{text}\n"), "keel.toml").unwrap_err().to_string();
            assert!(faults.contains(said), "{text}\n{faults}");
        }
    }
}
