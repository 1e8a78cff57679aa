//! `[drills]`: what drills send and check, what they must hold, and when they are given up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Blackout, Duration, WeekTime};

/// `[drills]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drills {
    /// Path that drills read all the time.
    pub read: String,
    /// Writes that drills make and count afterwards. Default: none, and drills say nothing about lost writes.
    pub write: Option<Write>,
    /// The service of this file that others ask: what `slow-dependency` makes slow. Default: none, and that drill is
    /// refused.
    pub dependency: Option<String>,
    /// What a drill must hold to pass.
    pub objectives: DrillObjectives,
    /// When a drill is given up.
    pub abort: Abort,
    /// Drills that run by themselves.
    pub schedule: Vec<ScheduledDrill>,
    /// When none runs by itself, and by hand only with `--force`, as `["Fri 16:00-Mon 08:00", "09:00-17:00"]` (UTC).
    pub blackout: Vec<Blackout>,
}

impl Default for Drills {
    fn default() -> Self {
        Self {
            read: "/".to_owned(),
            write: None,
            dependency: None,
            objectives: DrillObjectives::default(),
            abort: Abort::default(),
            schedule: Vec::new(),
            blackout: Vec::new(),
        }
    }
}

/// A write that a drill makes with an `Idempotency-Key` of its own each time, and looks for afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Path that takes the write by `POST`; any 2xx acknowledges it.
    pub post: String,
    /// The JSON body.
    pub body: String,
    /// Path that answers with a JSON array of everything written under `{key}`: none for an acknowledged key is a
    /// lost write, more than one a doubled write.
    pub verify: String,
}

/// What a drill must hold to pass, beside that no acknowledged write is lost and none is there twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrillObjectives {
    /// Requests that may fail.
    pub errors: u64,
    /// How long the slowest request may take. Default: as long as it likes.
    pub worst: Option<Duration>,
    /// How long 99 of 100 requests after the harm may take. Default: as long as they like.
    pub p99: Option<Duration>,
    /// How long the harm may stay unnoticed. Default: as long as recovery.
    pub detection: Option<Duration>,
    /// How long it may take until everything is well again, counted from the end of a harm that lasts.
    pub recovery: Duration,
}

impl Default for DrillObjectives {
    fn default() -> Self {
        Self { errors: 0, worst: None, p99: None, detection: None, recovery: Duration::s(30) }
    }
}

/// When a drill is given up: it takes its harm back and fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Abort {
    /// The share of requests that fail, in percent. A request that waits for longer than `objectives.worst`, or 10 s
    /// where that is not set, counts as failing.
    pub errors: u8,
    /// How long this has lasted.
    pub after: Duration,
}

impl Default for Abort {
    fn default() -> Self {
        Self { errors: 50, after: Duration::s(5) }
    }
}

/// A drill that runs by itself. One that is refused, as while something is not well or where it would harm the only
/// instance of a service, is tried again ten minutes later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledDrill {
    /// Which drill, as `kill-instance`; see `keel drill list`.
    pub drill: String,
    /// The service to harm. Default: the only one, or the one that `read` leads to.
    #[serde(default)]
    pub service: Option<String>,
    /// How long after one run comes the next. Either this or `at`.
    #[serde(default)]
    pub every: Option<Duration>,
    /// When it runs, UTC, as `"Tue 03:00"`, or `"03:00"` for each day. In a blackout it is left out.
    #[serde(default)]
    pub at: Option<WeekTime>,
}

/// When a scheduled drill runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So long after its last run.
    Every(Duration),
    /// At this time of the week or day.
    At(WeekTime),
}

impl ScheduledDrill {
    /// When it runs; `None` where that is not said in one way, which no valid stack has.
    pub fn when(&self) -> Option<When> {
        match (self.every, self.at) {
            (Some(every), None) => Some(When::Every(every)),
            (None, Some(at)) => Some(When::At(at)),
            _ => None,
        }
    }

    /// What tells it from others of its stack.
    pub fn key(&self) -> String {
        let when = match self.when() {
            Some(When::Every(every)) => format!("every {every}"),
            Some(When::At(at)) => format!("at {at}"),
            None => String::new(),
        };
        format!("{} {} {when}", self.drill, self.service.as_deref().unwrap_or("*"))
    }
}

/// The shortest interval between two runs: a stack that is harmed all the time is never well.
const LEAST_EVERY: Duration = Duration::s(600);

/// What is wrong with schedules and blackouts.
pub(super) fn check_schedule(stack: &super::Stack, fault: &mut impl FnMut(&[&str], String, Option<String>)) {
    for (index, scheduled) in stack.drills.schedule.iter().enumerate() {
        let index = index.to_string();
        let ScheduledDrill { drill, service, every, at } = scheduled;
        let path = |key: &'static str| ["drills", "schedule", index.as_str(), key];
        let names: Vec<&str> = crate::drill::ALL.iter().map(|drill| drill.name()).collect();
        if !names.contains(&drill.as_str()) {
            let near = super::nearest(drill, names.iter().copied());
            let help =
                near.map_or_else(|| format!("one of: {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
            fault(&path("drill"), format!("there is no drill `{drill}`"), Some(help));
        }
        if let Some(service) = service.as_ref().filter(|service| !stack.services.contains_key(*service)) {
            fault(&path("service"), format!("there is no service `{service}`"), None);
        }
        if scheduled.when().is_none() {
            let message = "a scheduled drill has either `every` or `at`".to_owned();
            fault(&path("drill"), message, Some("as `every = \"24h\"` or `at = \"Tue 03:00\"`".to_owned()));
        }
        if let Some(every) = every.filter(|every| *every < LEAST_EVERY) {
            fault(&path("every"), format!("`{every}` is too often: at least {LEAST_EVERY} lie between two runs"), None);
        }
        let hidden = |at: &WeekTime| stack.drills.blackout.iter().find(|blackout| blackout.always_covers(*at)).copied();
        if let Some((at, blackout)) = at.and_then(|at| Some((at, hidden(&at)?))) {
            fault(&path("at"), format!("`{at}` always lies in the blackout `{blackout}`, so it would never run"), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::stack::parse;

    fn faults(drills: &str) -> String {
        let file = format!("stack = {{ name = \"shop\" }}\n[services.shop]\nrun = [\"shop\"]\n{drills}");
        parse(&file, "keel.toml").map_or_else(|faults| faults.to_string(), |_| String::new())
    }

    #[test]
    fn a_schedule_that_can_never_run_is_refused() {
        let one = |keys: &str| faults(&format!("[[drills.schedule]]\n{keys}\n"));
        assert_eq!(one("drill = \"kill-instance\"\nat = \"Tue 03:00\""), "");
        assert_eq!(one("drill = \"kill-instance\"\nservice = \"shop\"\nevery = \"7d\""), "");
        for (keys, said) in [
            ("drill = \"kill-instanc\"\nevery = \"1h\"", "did you mean `kill-instance`?"),
            ("drill = \"kill-instance\"\nservice = \"api\"\nevery = \"1h\"", "there is no service `api`"),
            ("drill = \"kill-instance\"", "either `every` or `at`"),
            ("drill = \"kill-instance\"\nevery = \"1h\"\nat = \"03:00\"", "either `every` or `at`"),
            ("drill = \"kill-instance\"\nevery = \"1m\"", "too often"),
            ("drill = \"kill-instance\"\nat = \"Tuesday\"", "as \"Tue 03:00\""),
        ] {
            let text = one(keys);
            assert!(text.contains(said), "{keys}: {text}");
        }
        let hidden =
            "[drills]\nblackout = [\"02:00-04:00\"]\n[[drills.schedule]]\ndrill = \"kill-edge\"\nat = \"03:00\"\n";
        assert!(faults(hidden).contains("would never run"), "{}", faults(hidden));
        assert!(faults("[drills]\nblackout = [\"Fri 16:00-08:00\"]\n").contains("a part of the week"));
    }
}
