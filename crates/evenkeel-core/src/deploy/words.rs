//! What is said of deploys.

use std::fmt;

use super::{Affected, Deploy, Kind, Phase};

/// `release 3`, or what the stack file says.
pub(super) fn release(number: u64) -> String {
    if number == 0 { "what the stack file says".to_owned() } else { format!("release {number}") }
}

/// How it is or how it ended, as a sentence without its subject's name.
pub(super) fn sentence(deploy: &Deploy, waiting: Option<&str>) -> String {
    let (to, from) = (release(deploy.to_number()), release(deploy.from_number()));
    let what = match deploy.kind {
        Kind::Deploy => format!("the deploy of {to}"),
        Kind::Rollback => format!("the rollback to {to}"),
    };
    let cause = deploy.reasons.first().map(|reason| format!(": {}", reason.text)).unwrap_or_default();
    match &deploy.phase {
        Phase::Before { command, .. } => {
            format!("{what} runs `{}` first", command.first().map_or("", String::as_str))
        }
        Phase::Rolling => match waiting {
            Some(waiting) => format!("{what} is under way: {waiting}"),
            None => format!("{what} is under way"),
        },
        Phase::RollingBack => format!("{what} is being rolled back to {from}{cause}"),
        Phase::Done => format!("{what} is done"),
        Phase::RolledBack => format!("{what} was rolled back to {from}{cause}"),
        Phase::Failed => format!("{what} failed{cause}"),
    }
}

/// How many requests it cost, as a sentence.
impl fmt::Display for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = |n: u64| if n == 1 { "1 request".to_owned() } else { format!("{n} requests") };
        match *self {
            Self { clients: 0, repeated: 0 } => f.write_str("no request was affected"),
            Self { clients: 0, repeated } => {
                write!(f, "no client got an error: {} went to other instances instead", requests(repeated))
            }
            Self { clients, repeated: 0 } => write!(f, "{} got an error", requests(clients)),
            Self { clients, repeated } => {
                write!(f, "{} got an error; {} went to other instances instead", requests(clients), requests(repeated))
            }
        }
    }
}
