//! What differs between two revisions, in words: what `keel apply` prints and the journal keeps.

use evenkeel_core::{
    overrides::Overrides,
    stack::{Service, Stack},
};

use crate::{launch::Launch, state_dir::Revision, words::counted};

/// One clause for each difference that matters to somebody; "only comments or spelling" where there is none.
pub(super) fn between(former: &Revision, next: &Revision) -> Vec<String> {
    let mut changes = Vec::new();
    let (a, b) = (&former.stack, &next.stack);
    if a.stack.name != b.stack.name {
        changes.push(format!("the stack's name: {} → {}", a.stack.name, b.stack.name));
    }
    if a.stack.mode != b.stack.mode {
        changes.push(format!("mode: {} → {}", a.stack.mode.as_str(), b.stack.mode.as_str()));
    }
    listeners(a, b, &mut changes);
    if a.routes != b.routes {
        let (before, after) = (a.routes.len(), b.routes.len());
        changes.push(if before == after {
            "routes: changed".to_owned()
        } else {
            format!("routes: {before} → {after}")
        });
    }
    for (name, service) in &b.services {
        match a.services.get(name) {
            None => changes.push(format!("services.{name}: new, {}", size(service))),
            Some(was) => changes.extend(of_service(name, (was, former), (service, next))),
        }
    }
    for name in a.services.keys().filter(|name| !b.services.contains_key(*name)) {
        changes.push(format!("services.{name}: removed; its instances are drained and stopped"));
    }
    overrides(former, next, &mut changes);
    for (differs, what) in [
        (a.edge != b.edge, "edge: takes effect when `keel up` is started again"),
        (a.logs != b.logs, "logs: bounds of log files"),
        (a.journal != b.journal, "journal: how much of it is kept"),
        (a.drills != b.drills, "drills: what they send and check"),
        (a.objectives != b.objectives, "objectives: how well services must answer"),
        (a.secrets != b.secrets, "secrets: where their values come from"),
    ] {
        if differs {
            changes.push(what.to_owned());
        }
    }
    if a.console.hosts != b.console.hosts {
        changes.push("console: the names under which it may be opened".to_owned());
    }
    if a.console.bind != b.console.bind {
        changes.push(format!("console: {} → {}", a.console.bind, b.console.bind));
    }
    laid_over(former, next, &mut changes);
    if changes.is_empty() {
        changes.push("only comments, spelling or the file's place".to_owned());
    }
    changes
}

/// What differs in the file or in what commands changed, and not in what both come to.
fn laid_over(former: &Revision, next: &Revision, changes: &mut Vec<String>) {
    for (name, is) in &next.declared.services {
        let Some(was) = former.declared.services.get(name).filter(|was| *was != is) else { continue };
        if former.stack.services.get(name) != next.stack.services.get(name) {
            continue;
        }
        changes.push(if was.replicas == is.replicas {
            format!("services.{name}: what the file says, not what is in force")
        } else {
            let (before, after) = (&was.replicas, &is.replicas);
            format!("services.{name}: replicas in the file: {before} → {after}; as many are wanted as before")
        });
    }
    if changes.is_empty() && former.overrides != next.overrides {
        let (before, after) = (former.overrides.in_words(&former.declared), next.overrides.in_words(&next.declared));
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|line| !b.contains(line)).cloned().collect()
        };
        changes.extend(only(&after, &before).iter().map(|line| format!("laid over the file: {line}")));
        changes.extend(only(&before, &after).iter().map(|line| format!("no longer laid over the file: {line}")));
    }
}

/// Releases and drains; numbers of instances are told with their services.
fn overrides(former: &Revision, next: &Revision, changes: &mut Vec<String>) {
    let (a, b) = (&former.overrides, &next.overrides);
    for name in next.stack.services.keys().filter(|name| former.stack.services.contains_key(*name)) {
        let number = |of: &Overrides| of.release(name).map(|release| release.number);
        let told =
            |number: Option<u64>| number.map_or("the stack file's".to_owned(), |number| format!("number {number}"));
        if number(a) != number(b) {
            changes.push(format!("services.{name}: release: {} → {}", told(number(a)), told(number(b))));
        }
    }
    let only = |a: &Overrides, b: &Overrides| -> Vec<String> {
        a.drained.keys().filter(|instance| !b.drained.contains_key(*instance)).cloned().collect()
    };
    changes.extend(only(b, a).iter().map(|instance| format!("{instance}: drained, it gets no new requests")));
    changes.extend(only(a, b).iter().map(|instance| format!("{instance}: drained no more")));
}

fn listeners(a: &Stack, b: &Stack, changes: &mut Vec<String>) {
    for (name, listener) in &b.listeners {
        match a.listeners.get(name) {
            None => changes.push(format!("listeners.{name}: new, on {}", listener.bind)),
            Some(was) if was.protocol != listener.protocol => {
                changes.push(format!("listeners.{name}: another protocol, on {}", listener.bind));
            }
            Some(was) if was.bind != listener.bind => {
                changes.push(format!("listeners.{name}: {} → {}", was.bind, listener.bind));
            }
            Some(was) if was != listener => {
                changes.push(format!("listeners.{name}: settings that act on what comes from now on"));
            }
            Some(_) => {}
        }
    }
    let gone = a.listeners.keys().filter(|name| !b.listeners.contains_key(*name));
    changes.extend(gone.map(|name| format!("listeners.{name}: removed")));
}

fn of_service(name: &str, (was, former): (&Service, &Revision), (is, next): (&Service, &Revision)) -> Vec<String> {
    let mut changes = Vec::new();
    let digest = |service, revision: &Revision| Launch::new(service, &revision.dir).map(|launch| launch.digest);
    if was.is_run() != is.is_run() {
        return vec![format!("services.{name}: now {}", size(is))];
    }
    if was.is_run() && was.replicas != is.replicas {
        let (before, after) = (was.replicas.to_string(), instances(is));
        changes.push(if after.starts_with(&format!("{before} ")) {
            format!("services.{name}: how many of {before} instances are wanted")
        } else {
            format!("services.{name}: {before} → {after}")
        });
    }
    if digest(was, former) != digest(is, next) {
        changes.push(format!("services.{name}: what its processes start with; they are replaced one by one"));
    }
    if was.instances != is.instances {
        changes.push(format!("services.{name}: addresses, now {}", size(is)));
    }
    // Whatever else differs acts on what runs.
    let rest = |service: &Service| Service {
        run: None,
        files: None,
        instances: None,
        replicas: evenkeel_core::stack::Replicas::default(),
        env: std::collections::BTreeMap::new(),
        dir: None,
        user: None,
        memory: None,
        ..service.clone()
    };
    if rest(was) != rest(is) {
        changes.push(format!("services.{name}: settings that act without a restart"));
    }
    changes
}

fn instances(service: &Service) -> String {
    match service.replicas.elastic() {
        None => counted(service.replicas.min(), "instance", "instances"),
        Some(_) => format!("{} instances", service.replicas),
    }
}

fn size(service: &Service) -> String {
    match &service.instances {
        Some(of) => of.to_string(),
        None if service.page.is_some() => "a page".to_owned(),
        None => instances(service),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(text: &str) -> Revision {
        let text = format!("[stack]\nname = \"t\"\n{text}");
        let stack = evenkeel_core::stack::parse(&text, "keel.toml").unwrap();
        Revision::new(1, text, "keel.toml".to_owned(), "/srv".into(), stack)
    }

    #[test]
    fn differences_are_named() {
        let base = "[listeners.web]\nbind = \"127.0.0.1:80\"\n[services.a]\nrun = [\"x\"]\nreplicas = 2\n";
        let former = revision(base);
        let next = revision(
            "[listeners.web]\nbind = \"127.0.0.1:81\"\n[[routes]]\nservice = \"a\"\n[services.a]\nrun = [\"y\"]\nreplicas = 3\n\
             start_timeout = \"5s\"\n[services.b]\ninstances = [\"127.0.0.1:9\"]\n",
        );
        let changes = between(&former, &next).join("\n");
        for part in [
            "listeners.web: 127.0.0.1:80 → 127.0.0.1:81",
            "services.a: 2 → 3 instances",
            "services.a: what its processes start with",
            "services.a: settings that act without a restart",
            "services.b: new, 1 fixed instance",
        ] {
            assert!(changes.contains(part), "{part} is missing from\n{changes}");
        }
        let page = format!("{base}[[routes]]\nservice = \"a\"\n[services.sorry]\npage = {{ text = \"Back soon.\" }}\n");
        assert!(between(&former, &revision(&page)).contains(&"services.sorry: new, a page".to_owned()), "{page}");
        assert_eq!(
            between(&former, &revision(&format!("# a comment\n{base}"))),
            ["only comments, spelling or the file's place"]
        );
    }

    #[test]
    fn what_the_file_says_otherwise_is_no_comment() {
        let with = |replicas: &str, scaled: Option<u32>| {
            let mut overrides = Overrides::default();
            overrides.of("a").replicas = scaled;
            revision(&format!("[services.a]\nrun = [\"x\"]\nreplicas = {replicas}\n")).with(overrides)
        };
        let said = "services.a: replicas in the file: 2 → 5; as many are wanted as before";
        assert_eq!(between(&with("2", Some(5)), &with("5", None)), [said]);
        let pinned = between(&with("5", None), &with("5", Some(5)));
        assert!(pinned.len() == 1 && pinned[0].starts_with("laid over the file: "), "{pinned:?}");
        let elastic = "{ min = 2, max = 8, target = { concurrency = 10 } }";
        let other = between(&with(elastic, None), &with(&elastic.replace("10", "20"), None));
        assert_eq!(other, ["services.a: how many of 2 to 8 instances are wanted"]);
    }
}
