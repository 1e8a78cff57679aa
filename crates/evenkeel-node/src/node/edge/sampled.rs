//! What clients cause and could cause without end: one of many alike is told, and the others are counted.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use evenkeel_core::{
    ambiguity::{Ambiguity, Named},
    balance::client_hash,
    journal::{Level, Reason},
    link::ProxyFault,
};

use crate::{node::Node, words::counted};

/// Refused requests are summed up so often, so that a hostile client cannot fill the journal.
const REFUSALS_EVERY: Duration = Duration::from_mins(1);

/// How often a client is named for one ambiguity that its requests have, and how many are in that time.
const NAMED_EVERY: Duration = Duration::from_hours(1);
const MOST_NAMED: usize = 1_000;

/// What was told lately.
#[derive(Debug)]
pub(super) struct Samples {
    refusals: Sampled,
    /// Connections closed for want of a PROXY header, by listener.
    proxy_faults: BTreeMap<(String, ProxyFault), Sampled>,
    /// Clients whose requests are ambiguous: listener, what it is, the client's number, whether it passed.
    ambiguous: Named<(String, Ambiguity, u64, bool)>,
}

impl Samples {
    pub(super) fn new() -> Self {
        Self {
            refusals: Sampled::default(),
            proxy_faults: BTreeMap::new(),
            ambiguous: Named::new(NAMED_EVERY, MOST_NAMED),
        }
    }
}

/// Lets one of many alike through, and counts the others.
#[derive(Debug, Default)]
struct Sampled(Option<(Instant, u64)>);

impl Sampled {
    /// Whether this one is to be said, and in words how many were not since the last one.
    fn take(&mut self) -> Option<String> {
        let now = Instant::now();
        if let Some((last, more)) = &mut self.0
            && now.duration_since(*last) < REFUSALS_EVERY
        {
            *more += 1;
            return None;
        }
        let more = self.0.replace((now, 0)).map_or(0, |(_, more)| more);
        Some(if more > 0 {
            format!(" ({} before it)", counted(more, "more sample", "more samples"))
        } else {
            String::new()
        })
    }
}

impl Node {
    pub(super) fn refusal(&mut self, status: u16, reason: &str) {
        if let Some(more) = self.edge.samples.refusals.take() {
            let message = format!("a request was refused with {status}{more}");
            self.note(Level::Info, "edge", "refused-request", message, vec![Reason::seen(reason)]);
        }
    }

    /// Either the proxy sends no header, or somebody else is in its network: whoever looks needs to know which.
    pub(super) fn proxy_fault(&mut self, listener: &str, peer: &str, fault: ProxyFault, reason: &str) {
        let sampled = self.edge.samples.proxy_faults.entry((listener.to_owned(), fault)).or_default();
        let Some(more) = sampled.take() else { return };
        let message = match fault {
            ProxyFault::Missing => format!("a connection was closed: it began without a PROXY header{more}"),
            ProxyFault::Malformed => format!("a connection was closed: its PROXY header is malformed{more}"),
            ProxyFault::Late => format!("a connection was closed: its PROXY header did not come in time{more}"),
        };
        let fix = match fault {
            ProxyFault::Missing | ProxyFault::Late => format!(
                "have {peer} send it (`send-proxy-v2` in HAProxy, `proxy_protocol on` in nginx), or leave it out of \
                 `listeners.{listener}.trusted`, if it is no proxy"
            ),
            ProxyFault::Malformed => {
                format!("look what {peer} sends: version 1 or 2 of the PROXY protocol is understood")
            }
        };
        let rule =
            format!("with `listeners.{listener}.proxy_protocol`, connections from `trusted` networks begin with one");
        let reasons = vec![Reason::seen(format!("{peer}: {reason}")), Reason::rule(rule), Reason::rule(fix)];
        self.note(Level::Warning, &format!("listeners.{listener}"), "proxy-header", message, reasons);
    }

    /// What was put right is refused elsewhere; that is what somebody wants to know before the listener is made strict:
    /// of every client, and everything that it sends.
    pub(super) fn ambiguous(
        &mut self,
        listener: &str,
        client: IpAddr,
        request: &str,
        ambiguity: Ambiguity,
        reported: bool,
    ) {
        let now = self.clock.now();
        if !self.edge.samples.ambiguous.is_due((listener.to_owned(), ambiguity, client_hash(client), reported), now) {
            return;
        }
        let (level, kind, message, rule) = if reported {
            let message = format!("an ambiguous request to listener {listener} was forwarded in one meaning");
            let rule = format!("`listeners.{listener}.strict` is \"report\": otherwise it would be refused or altered");
            (Level::Warning, "ambiguous-request", message, rule)
        } else {
            let message = format!("fields of a request to listener {listener} were left out");
            let rule = "many applications read `_` and `-` in names alike, so such names could pass for others";
            (Level::Info, "left-out-fields", message, rule.to_owned())
        };
        let sent = Reason::seen(format!("{request} from {client}"));
        self.note(level, "edge", kind, message, vec![Reason::seen(ambiguity.in_words()), sent, Reason::rule(rule)]);
    }
}
