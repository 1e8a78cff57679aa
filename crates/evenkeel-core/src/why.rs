//! How a subject is and why, in one sentence: the head of `keel why`, shared by whoever explains a state.
//!
//! Pure words over what was observed: the cause comes first (how the last process ended, what it said last, what
//! its check saw), then what follows from it. Nothing is decided here, and nothing is made up: what is not known is
//! not said.

use crate::{
    health::{ENLISTED, KEPT, NOT_PASSED},
    journal::{Entry, Level, Role},
    status::{Basis, DnsStatus, Health, InstanceStatus, Phase, ServiceStatus, Status},
    time::WallTime,
};

/// Longest piece of an instance's output in a sentence, in characters.
const OUTPUT_CHARS: usize = 200;

/// How long an error leads the explanation of its subject, in milliseconds.
const RECENT_MS: u64 = 3_600_000;

/// How an instance is, and why.
pub fn instance(instance: &InstanceStatus) -> String {
    trouble(instance).unwrap_or_else(|| {
        let name = &instance.name;
        let before = instance.last_exit.as_ref().map(|exit| format!("; before that, {}", ending(exit)));
        match instance.phase {
            Some(Phase::Draining) => format!("{name} is draining: it finishes {}", requests(instance.in_flight)),
            Some(Phase::Stopping) => format!("{name} was told to stop"),
            Some(Phase::Waiting) => format!("{name} waits to be started"),
            _ if instance.drained.is_some() => drained(instance),
            _ if instance.basis == Basis::Kept => format!("{name} gets requests: {}", instance.reason),
            _ => format!("{name} is healthy and gets requests{}", before.unwrap_or_default()),
        }
    })
}

/// Who drains an instance, and why.
fn drained(instance: &InstanceStatus) -> String {
    let (by, reason) = instance.drained.as_ref().map_or(("", ""), |drain| (&drain.by, &drain.reason));
    let by = if by.is_empty() { "an operator" } else { by };
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("{} runs and gets no new requests, since {by} drains it{why}", instance.name)
}

/// What keeps an instance from serving; `None` where nothing does, or where it is about to leave or drained by an
/// operator.
pub fn trouble(instance: &InstanceStatus) -> Option<String> {
    if instance.drained.is_some() && matches!(instance.phase, None | Some(Phase::Starting | Phase::Running)) {
        return None;
    }
    let InstanceStatus { name, health, reason, generation, restarts, .. } = instance;
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let end = instance.last_exit.as_deref().map(ending);
    let said = last_words(instance);
    Some(match (instance.phase, health) {
        (Some(Phase::GaveUp), _) => {
            let end = end.unwrap_or_else(|| "it never started".to_owned());
            let starts = if *generation == 1 { "one start".to_owned() } else { format!("{generation} starts") };
            format!("{name} gave up after {starts}: {end}{said}")
        }
        (Some(Phase::Waiting), _) => {
            format!(
                "{name} does not stay up: {}{said}; it waits to be started again ({} so far)",
                end?,
                starts_again(*restarts)
            )
        }
        (Some(Phase::Starting), _) => match end {
            Some(end) if !said.is_empty() || *restarts > 0 => {
                // A start that took too long says already what its check saw.
                let saw = if end.contains(reason.as_str()) { String::new() } else { check_saw(reason) };
                format!("{name} is starting again after {end}{said}{saw}")
            }
            _ => format!("{name} is starting and has not passed its check yet{}{said}", after(NOT_PASSED, reason)),
        },
        (Some(Phase::Draining | Phase::Stopping), _) | (_, Health::Healthy | Health::Draining) => return None,
        (_, Health::Ejected) if reason.ends_with(ENLISTED) => format!("{name} is ejected{because}"),
        (_, Health::Unhealthy) if reason.ends_with(ENLISTED) => format!("{name} fails its check{because}"),
        (_, Health::Ejected) => format!("{name} is ejected and gets no requests for a while{because}"),
        (_, Health::Silent) => format!("{name} is silent and gets no new requests{because}"),
        (_, Health::Unhealthy) => format!("{name} fails its check and gets no new requests{because}"),
        (_, Health::Unknown) => format!("{name} gets no requests: {NOT_PASSED}{}{said}", after(NOT_PASSED, reason)),
    })
}

/// What a reason says beyond the words that it begins with, as the end of a sentence that has said those.
fn after(words: &str, reason: &str) -> String {
    let rest = reason.strip_prefix(words).unwrap_or(reason).trim_start_matches(": ");
    if rest.is_empty() { String::new() } else { format!(": {rest}") }
}

/// How a service is, and which instance is the cause where it is not well.
pub fn service(service: &ServiceStatus) -> String {
    let ServiceStatus { name, healthy, replicas, .. } = service;
    let rollout = service.rollout.as_ref().map(|waiting| format!("; a rollout is under way: {waiting}"));
    let deploy = service.deploy.as_ref().map(|deploy| format!("; {}", deploy.message));
    let rollout = deploy.or(rollout).unwrap_or_default();
    let cause = cause(service).map(|cause| format!(": {cause}")).unwrap_or_default();
    let nobody = service.instances.is_empty() && *replicas == 0;
    match (healthy, &service.fallback) {
        _ if service.page => {
            format!("{name} is a page, which the edge answers by itself: {} so far", requests(service.requests))
        }
        _ if service.short.is_some() => {
            let few = service.short.as_deref().unwrap_or_default();
            format!(
                "{name} has too few healthy instances, so those that still answer get requests too ({few}){cause}{rollout}"
            )
        }
        (_, Some(other)) if nobody => format!("{name} has no instance, and {other} answers instead{cause}{rollout}"),
        (_, None) if nobody => format!("{name} has no instance, so requests are held{cause}{rollout}"),
        (0, Some(other)) if *replicas > 0 => {
            format!("{name} has no healthy instance, and {other} answers instead{cause}{rollout}")
        }
        (0, None) if *replicas > 0 => format!("{name} has no healthy instance, so requests are held{cause}{rollout}"),
        _ => {
            let head = unproven(service).map(|unproven| format!("{unproven}; ")).unwrap_or_default();
            format!("{head}{name} has {healthy} healthy of {replicas} wanted instances{cause}{rollout}")
        }
    }
}

/// What keeps a service from being well: that its name has no good answer, where it has no instance for that, or else the
/// instance that is rather the cause than others; `None` where nothing does.
pub fn cause(service: &ServiceStatus) -> Option<String> {
    let dns = service.dns.as_ref().and_then(unresolved);
    if service.instances.is_empty() {
        return dns;
    }
    let troubles = service.instances.iter().filter_map(|instance| Some((weight(instance), trouble(instance)?)));
    let worst = troubles.max_by_key(|(weight, _)| *weight).map(|(_, trouble)| trouble);
    let both: Vec<String> = worst.into_iter().chain(dns).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// That a name has no good answer now, why, and what of former ones is in use; `None` where it has one.
pub fn unresolved(dns: &DnsStatus) -> Option<String> {
    let name = &dns.name;
    let Some(failing) = &dns.failing else {
        return (dns.answered.is_none() && dns.addresses == 0).then(|| format!("{name} has not been resolved yet"));
    };
    let at = dns.answered.map(|at| format!(", of {at},")).unwrap_or_default();
    Some(match dns.addresses {
        0 => format!("{name} does not resolve: {failing}; nobody is known yet"),
        1 => format!("{name} does not resolve: {failing}; the last good answer{at} with 1 address stays in use"),
        n => format!("{name} does not resolve: {failing}; the last good answer{at} with {n} addresses stays in use"),
    })
}

/// That nobody passes a service's changed check, where instances are kept healthy against it, and what it sees.
pub fn unproven(service: &ServiceStatus) -> Option<String> {
    let kept = service.instances.iter().find(|instance| instance.basis == Basis::Kept)?;
    let saw = kept.reason.strip_prefix(KEPT).unwrap_or_default();
    let name = &service.name;
    Some(format!("nobody has passed the changed check of {name} yet{saw}, so who was healthy before is kept so"))
}

/// How a stack is: its first problem, or else that there is none.
pub fn stack(status: &Status) -> String {
    let healthy: u32 = status.services.iter().map(|service| service.healthy).sum();
    let wanted: u32 = status.services.iter().map(|service| service.replicas).sum();
    let what = format!("stack `{}` runs revision {}", status.stack, status.revision);
    let count = format!("{healthy} of {wanted} instances are healthy");
    match status.problems.as_slice() {
        [] => format!("{what} without a problem: {count}"),
        [only] => format!("{what} with one problem: {only}; {count}"),
        [first, rest @ ..] => format!("{what} with {} problems: {first}; {count}", rest.len() + 1),
    }
}

/// The sentence about the present with what the journal knows beyond it: an error about this very subject that
/// nothing has put right since comes first. `entries` are the newest first.
pub fn with_entries(subject: &str, sentence: String, entries: &[Entry], now: WallTime) -> String {
    let own = || entries.iter().filter(|entry| entry.subject == subject);
    let put_right = own().find(|entry| entry.level == Level::Info && is_good_news(&entry.kind));
    let error = own().find(|entry| entry.level == Level::Error && entry.kind != "gave-up");
    match error {
        // The kernel's kill for lack of memory: the sentence names it already.
        Some(error) if error.kind == "out-of-memory" && sentence.contains("out of memory") => sentence,
        Some(error)
            if put_right.is_none_or(|good| good.id < error.id)
                && now.as_millis().saturating_sub(error.at.as_millis()) < RECENT_MS =>
        {
            format!("{}. Now {sentence}", with_cause(error))
        }
        _ => sentence,
    }
}

/// How a subject was at a moment, from the entries up to it, newest first.
pub fn then(subject: &str, entries: &[Entry], at: WallTime) -> String {
    let Some(last) = entries.first() else {
        return format!("nothing is known of {subject} at {at}: the journal has no entry that early");
    };
    let about = |entry: &Entry| {
        if entry.subject == subject { String::new() } else { format!("{}: ", entry.subject) }
    };
    let said = |entry: &Entry| format!("{}{}", about(entry), with_cause(entry));
    let trouble = entries.iter().find(|entry| entry.level != Level::Info);
    match trouble {
        Some(trouble) if trouble.id != last.id => format!(
            "at {at} the last of {subject} was: {} (at {}); what had gone wrong last: {} (at {})",
            said(last),
            last.at,
            said(trouble),
            trouble.at
        ),
        _ => format!("at {at} the last of {subject} was: {} (at {})", said(last), last.at),
    }
}

/// What happened last of a kind of work, with its cause; `entries` are the newest first.
pub fn newest(entries: &[Entry]) -> Option<String> {
    let last = entries.first()?;
    Some(format!("{}: {} (at {})", last.subject, with_cause(last), last.at))
}

/// An entry with the first things that were seen, where they say more.
fn with_cause(entry: &Entry) -> String {
    let seen = entry.reasons.iter().filter(|reason| reason.role == Role::Seen && !entry.message.contains(&reason.text));
    let seen: Vec<&str> = seen.take(2).map(|reason| reason.text.as_str()).collect();
    if seen.is_empty() { entry.message.clone() } else { format!("{}: {}", entry.message, seen.join("; ")) }
}

fn is_good_news(kind: &str) -> bool {
    ["applied", "deployed", "healthy", "live", "ready", "resumed", "returned", "started", "trying-again", "bound"]
        .contains(&kind)
}

/// The more, the rather it is the cause of its service's state.
fn weight(instance: &InstanceStatus) -> u8 {
    match (instance.phase, instance.health) {
        (Some(Phase::GaveUp), _) => 5,
        (Some(Phase::Waiting), _) => 4,
        (Some(Phase::Running) | None, Health::Unhealthy | Health::Silent | Health::Ejected) => 3,
        (Some(Phase::Starting), _) if instance.last_exit.is_some() => 2,
        _ => 1,
    }
}

/// How a process ended, as a clause.
fn ending(exit: &str) -> String {
    match exit.split_once(", ") {
        Some((_, why)) if why.starts_with("killed: ") => format!("it was {why}"),
        Some((how, why)) => format!("its process was ended by {how}, {why}"),
        None if exit.starts_with("exit code") => format!("its process ended with {exit}"),
        None if exit.starts_with("SIG") || exit.starts_with("signal ") => {
            format!("its process was ended by {exit}, which keel did not send")
        }
        None => format!("its process could not be started: {exit}"),
    }
}

fn last_words(instance: &InstanceStatus) -> String {
    let line = instance.last_output.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
    let cut = |line: &str| match line.char_indices().nth(OUTPUT_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    line.map(|line| format!("; the last it said: {}", cut(line))).unwrap_or_default()
}

fn check_saw(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!("; its check sees: {reason}") }
}

fn starts_again(n: u64) -> String {
    if n == 1 { "1 restart".to_owned() } else { format!("{n} restarts") }
}

fn requests(n: u64) -> String {
    if n == 1 { "1 request".to_owned() } else { format!("{n} requests") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::Reason, status::DrainStatus};

    fn shop(phase: Phase, health: Health) -> InstanceStatus {
        InstanceStatus {
            name: "shop/1".to_owned(),
            phase: Some(phase),
            health,
            generation: 4,
            ..InstanceStatus::default()
        }
    }

    #[test]
    fn too_few_are_healthy() {
        let mut failing = shop(Phase::Running, Health::Unhealthy);
        failing.reason = format!("3 probes in a row failed: status 500; {ENLISTED}");
        let few = ServiceStatus {
            name: "shop".to_owned(),
            replicas: 2,
            healthy: 0,
            short: Some("0 of 2 instances are healthy, fewer than 50 %; 1 more still answers".to_owned()),
            instances: vec![failing],
            ..ServiceStatus::default()
        };
        assert_eq!(
            service(&few),
            "shop has too few healthy instances, so those that still answer get requests too (0 of 2 instances are \
             healthy, fewer than 50 %; 1 more still answers): shop/1 fails its check: 3 probes in a row failed: status \
             500; it gets requests all the same, since too few are healthy"
        );
    }

    #[test]
    fn the_cause_comes_first() {
        let mut loops = shop(Phase::GaveUp, Health::Unknown);
        loops.last_exit = Some("exit code 3".to_owned());
        loops.last_output = vec!["starting".to_owned(), "Error: no DATABASE_URL".to_owned(), "  ".to_owned()];
        assert_eq!(
            instance(&loops),
            "shop/1 gave up after 4 starts: its process ended with exit code 3; the last it said: Error: no DATABASE_URL"
        );
        let mut never = shop(Phase::GaveUp, Health::Unknown);
        never.last_exit = Some("SIGKILL, killed: not ready within 500 ms of its start; its check saw: 404".to_owned());
        assert_eq!(
            instance(&never),
            "shop/1 gave up after 4 starts: it was killed: not ready within 500 ms of its start; its check saw: 404"
        );
        let mut missing = shop(Phase::Waiting, Health::Unknown);
        missing.last_exit = Some("cannot run `nod`: no such file or directory".to_owned());
        assert_eq!(
            instance(&missing),
            "shop/1 does not stay up: its process could not be started: cannot run `nod`: no such file or directory; it \
             waits to be started again (0 restarts so far)"
        );
        let mut ejected = shop(Phase::Running, Health::Ejected);
        ejected.reason = "5 failures in a row: connect: refused".to_owned();
        assert_eq!(
            instance(&ejected),
            "shop/1 is ejected and gets no requests for a while: 5 failures in a row: connect: refused"
        );
        let mut slow = shop(Phase::Starting, Health::Unknown);
        slow.reason = "no probe has passed yet: connect: refused".to_owned();
        slow.restarts = 1;
        slow.last_exit =
            Some(format!("SIGKILL, killed: not ready within 4 s of its start; its check saw: {}", slow.reason));
        assert_eq!(
            instance(&slow),
            "shop/1 is starting again after it was killed: not ready within 4 s of its start; its check saw: no probe \
             has passed yet: connect: refused"
        );
        let mut drained = shop(Phase::Running, Health::Draining);
        drained.drained = Some(DrainStatus {
            reason: "a look at its memory".to_owned(),
            by: "root (uid 0)".to_owned(),
            since: WallTime::from_millis(1),
            finished: true,
        });
        let sentence = "shop/1 runs and gets no new requests, since root (uid 0) drains it: a look at its memory";
        assert_eq!(instance(&drained), sentence);
        for (phase, health) in [(Phase::Starting, Health::Unknown), (Phase::Running, Health::Healthy)] {
            // No probe reaches it, and what the edge knew of it before is no news.
            (drained.phase, drained.health) = (Some(phase), health);
            assert_eq!((instance(&drained), trouble(&drained)), (sentence.to_owned(), None));
        }
        drained.phase = Some(Phase::GaveUp);
        assert!(instance(&drained).starts_with("shop/1 gave up after 4 starts"));
        let mut killed = shop(Phase::Running, Health::Healthy);
        killed.last_exit = Some("SIGKILL".to_owned());
        assert_eq!(
            instance(&killed),
            "shop/1 is healthy and gets requests; before that, its process was ended by SIGKILL, which keel did not send"
        );
    }

    #[test]
    fn a_service_names_the_instance_that_is_the_cause() {
        let mut gave_up = shop(Phase::GaveUp, Health::Unknown);
        gave_up.last_exit = Some("exit code 1".to_owned());
        let mut other = shop(Phase::Starting, Health::Unknown);
        other.name = "shop/2".to_owned();
        let mut status = ServiceStatus {
            name: "shop".to_owned(),
            replicas: 2,
            instances: vec![other, gave_up],
            ..ServiceStatus::default()
        };
        assert_eq!(
            service(&status),
            "shop has no healthy instance, so requests are held: shop/1 gave up after 4 starts: its process ended with \
             exit code 1"
        );
        status.fallback = Some("sorry".to_owned());
        let said = service(&status);
        assert!(said.starts_with("shop has no healthy instance, and sorry answers instead: shop/1 gave up"), "{said}");
        let page = ServiceStatus { name: "sorry".to_owned(), page: true, requests: 104, ..ServiceStatus::default() };
        assert_eq!(service(&page), "sorry is a page, which the edge answers by itself: 104 requests so far");
        let mut kept = shop(Phase::Running, Health::Healthy);
        (kept.basis, kept.reason) = (Basis::Kept, format!("{KEPT}: status 200 where 404 was wanted"));
        (status.healthy, status.instances) = (2, vec![kept]);
        let head =
            "nobody has passed the changed check of shop yet: status 200 where 404 was wanted, so who was healthy";
        assert!(service(&status).starts_with(head), "{}", service(&status));
        status.healthy = 2;
        status.instances.clear();
        assert_eq!(service(&status), "shop has 2 healthy of 2 wanted instances");
    }

    #[test]
    fn what_is_seen_is_said_once() {
        let mut new = shop(Phase::Running, Health::Unknown);
        new.reason = format!("{NOT_PASSED}: connect: refused");
        new.last_output = vec!["listening on 3000".to_owned()];
        let said =
            "shop/1 gets no requests: no probe has passed yet: connect: refused; the last it said: listening on 3000";
        assert_eq!(instance(&new), said);
        new.phase = Some(Phase::Starting);
        let said = "shop/1 is starting and has not passed its check yet: connect: refused; the last it said: listening on 3000";
        assert_eq!(instance(&new), said);
        (new.reason, new.last_output) = (String::new(), Vec::new());
        assert_eq!(instance(&new), "shop/1 is starting and has not passed its check yet");
    }

    #[test]
    fn a_name_without_an_answer_is_the_cause() {
        let dns = DnsStatus { name: "app.internal:80".to_owned(), ..DnsStatus::default() };
        let mut app = ServiceStatus { name: "app".to_owned(), dns: Some(dns.clone()), ..ServiceStatus::default() };
        let said = "app has no instance, so requests are held: app.internal:80 has not been resolved yet";
        assert_eq!(service(&app), said);
        let failing = Some("no address".to_owned());
        app.dns = Some(DnsStatus { failing: failing.clone(), ..dns.clone() });
        app.fallback = Some("sorry".to_owned());
        let said = "app has no instance, and sorry answers instead: app.internal:80 does not resolve: no address; nobody \
                    is known yet";
        assert_eq!(service(&app), said);
        let mut gone = shop(Phase::Running, Health::Unhealthy);
        (gone.name, gone.phase, gone.reason) = ("app/10.0.0.1:80".into(), None, "connect: refused".into());
        (app.fallback, app.replicas, app.instances) = (None, 1, vec![gone]);
        app.dns =
            Some(DnsStatus { answered: Some(WallTime::from_millis(9_000)), addresses: 1, failing, ..dns.clone() });
        let said = "app has no healthy instance, so requests are held: app/10.0.0.1:80 fails its check and gets no new \
                    requests: connect: refused; app.internal:80 does not resolve: no address; the last good answer, of \
                    1970-01-01T00:00:09.000Z, with 1 address stays in use";
        assert_eq!(service(&app), said);
        app.dns = Some(DnsStatus { answered: Some(WallTime::from_millis(9_000)), addresses: 1, ..dns });
        assert!(!service(&app).contains("internal"), "{}", service(&app));
    }

    fn entry(id: u64, subject: &str, level: Level, kind: &str, message: &str, seen: &str) -> Entry {
        Entry {
            id,
            at: WallTime::from_millis(id * 1000),
            level,
            subject: subject.to_owned(),
            kind: kind.to_owned(),
            message: message.to_owned(),
            reasons: vec![Reason::rule("a rule"), Reason::seen(seen)],
        }
    }

    #[test]
    fn an_error_leads_until_it_is_put_right() {
        let refused = entry(8, "stack", Level::Error, "refused", "keel.toml was not applied", "line 3: unknown key");
        let applied = entry(9, "stack", Level::Info, "applied", "revision 2 is in force", "an operator applied it");
        let lead = |entries: &[Entry], now_ms| {
            with_entries("stack", "all is well".to_owned(), entries, WallTime::from_millis(now_ms))
        };
        let said = "keel.toml was not applied: line 3: unknown key. Now all is well";
        assert_eq!(lead(std::slice::from_ref(&refused), 10_000), said);
        assert_eq!(lead(&[applied, refused.clone()], 10_000), "all is well");
        assert_eq!(lead(&[refused], 10_000 + RECENT_MS), "all is well", "nobody asks for it any more");
        let kill = entry(9, "shop/1", Level::Error, "out-of-memory", "the kernel ended it", "oom_kill grew");
        let said = |sentence: &str| {
            with_entries("shop/1", sentence.to_owned(), std::slice::from_ref(&kill), WallTime::from_millis(10_000))
        };
        assert_eq!(said("ended: out of memory"), "ended: out of memory", "nothing is said twice");
        assert_eq!(said("starting"), "the kernel ended it: oom_kill grew. Now starting");
    }

    #[test]
    fn the_past_is_told_by_its_entries() {
        let ready = entry(9, "shop/1", Level::Info, "ready", "ready 20 ms after its start", "a probe passed");
        let exit = entry(8, "shop/1", Level::Warning, "restarting", "ended; starting it again", "exit code 1");
        let at = WallTime::from_millis(10_000);
        assert_eq!(
            then("shop/1", &[ready, exit.clone()], at),
            "at 1970-01-01T00:00:10.000Z the last of shop/1 was: ready 20 ms after its start: a probe passed (at \
             1970-01-01T00:00:09.000Z); what had gone wrong last: ended; starting it again: exit code 1 (at \
             1970-01-01T00:00:08.000Z)"
        );
        assert!(then("shop", &[exit], at).contains("was: shop/1: ended; starting it again: exit code 1"));
        assert!(then("shop", &[], at).contains("no entry that early"));
        assert_eq!(newest(&[]), None);
    }
}
