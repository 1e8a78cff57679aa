//! Findings about the machine, about units that start `keel`, and about instances that nobody owns.

use super::{
    Capability, Finding, Observed,
    Severity::{Advice, Error, Warning},
    Unit, bytes, counted,
};

/// The queue of connections that a listener asks the kernel for.
const BACKLOG: u64 = 4096;

/// Open files that an edge needs beside its connections.
const SPARE_FILES: u64 = 200;

pub(super) fn findings(observed: &Observed) -> Vec<Finding> {
    let single = [
        clock(observed),
        memory_bounds(observed),
        memory_short(observed),
        overcommit(observed),
        low_ports(observed),
        open_files(observed),
        queue(observed),
        zombies(observed),
        orphans(observed),
    ];
    let units = observed.units.iter().flat_map(unit);
    single.into_iter().flatten().chain(units).collect()
}

fn clock(observed: &Observed) -> Option<Finding> {
    let synchronised = observed.machine.clock_synchronised?;
    (!synchronised).then(|| {
        Finding::new(Advice, "clock", "machine", "the clock of this machine is not synchronised")
            .seen("adjtimex(2) says STA_UNSYNC")
            .fix("timedatectl set-ntp true")
            .fix("nothing is decided by this clock; times in `keel events` and in certificates depend on it")
    })
}

fn memory_bounds(observed: &Observed) -> Option<Finding> {
    let stack = observed.stack.as_ref()?;
    let bounded: Vec<_> = stack.services.iter().filter_map(|(name, service)| Some((name, service.memory?))).collect();
    let (name, size) = bounded.first()?;
    (observed.machine.memory_bounds? == Capability::No).then(|| {
        Finding::new(Warning, "memory-bound", *name, format!("`memory = \"{size}\"` of {name} is not enforced here"))
            .seen(observed.machine.cgroup.clone())
            .fix("in the systemd unit of keel: `Delegate=yes`, then `systemctl daemon-reload` and restart it")
    })
}

fn memory_short(observed: &Observed) -> Option<Finding> {
    let (total, available) = observed.machine.memory_bytes?;
    let (_, swap_free) = observed.machine.swap_bytes.unwrap_or_default();
    (available < total / 20 && swap_free < total / 20).then(|| {
        Finding::new(Error, "memory", "machine", "memory is nearly used up: the kernel will end a process soon")
            .seen(format!("{} of {} are available (/proc/meminfo)", bytes(available), bytes(total)))
            .seen(format!("{} of swap are free (/proc/meminfo)", bytes(swap_free)))
            .fix("find who has it: ps -eo rss,pid,args --sort=-rss | head")
            .fix("bound each service by `memory = \"…\"`, so that one cannot take what the others need")
    })
}

fn overcommit(observed: &Observed) -> Option<Finding> {
    (observed.machine.overcommit? == 2).then(|| {
        Finding::new(Advice, "overcommit", "machine", "the kernel refuses memory that is not there yet")
            .seen("vm.overcommit_memory is 2 (/proc/sys/vm/overcommit_memory)")
            .fix("sysctl -w vm.overcommit_memory=0, or plan for starts that fail when memory is short")
    })
}

fn low_ports(observed: &Observed) -> Option<Finding> {
    let stack = observed.stack.as_ref()?;
    let start = observed.machine.unprivileged_port_start?;
    // Who runs already has what it needs.
    if observed.running.is_some() || observed.machine.low_ports? == Capability::Yes {
        return None;
    }
    let (name, listener) = stack.listeners.iter().find(|(_, listener)| (1..start).contains(&listener.bind.port()))?;
    let port = listener.bind.port();
    let what = format!("port {port} of listener `{name}` cannot be bound by this user");
    Some(
        Finding::new(Error, "port", format!("listeners.{name}"), what)
            .seen(format!("ports below {start} need CAP_NET_BIND_SERVICE (net.ipv4.ip_unprivileged_port_start)"))
            .fix("in the systemd unit of keel: `AmbientCapabilities=CAP_NET_BIND_SERVICE`")
            .fix("or let systemd bind it (a .socket unit), or choose a port above"),
    )
}

fn open_files(observed: &Observed) -> Option<Finding> {
    let stack = observed.stack.as_ref()?;
    let edge = observed.running.as_ref().and_then(|running| running.processes.iter().find(|own| own.name == "edge"));
    let (limit, whose) = match edge.and_then(|edge| Some((edge.open_files?.0, edge.pid))) {
        Some((limit, pid)) => (limit, format!("/proc/{pid}/limits, the edge")),
        None => (observed.machine.open_files?, "getrlimit(2), hard limit".to_owned()),
    };
    let connections: u64 = stack.listeners.values().map(|listener| u64::from(listener.limits.connections)).sum();
    // A connection that is being served has a client's end and an instance's.
    let wanted = connections.saturating_mul(2).saturating_add(SPARE_FILES);
    (limit < wanted).then(|| {
        let what = format!(
            "the limit of open files stops listeners at about {} connections, before their own limit of {connections}",
            limit.saturating_sub(SPARE_FILES) / 2
        );
        Finding::new(Advice, "open-files", "machine", what)
            .seen(format!("the limit is {limit} ({whose})"))
            .seen(format!("`limits.connections` of all listeners is {connections}, and each may need two files"))
            .fix(format!(
                "in the systemd unit of keel: `LimitNOFILE={wanted}`, or `ulimit -n {wanted}` before `keel up`"
            ))
            .fix("or a smaller `limits = { connections = … }` for the listeners")
    })
}

fn queue(observed: &Observed) -> Option<Finding> {
    let most = observed.machine.somaxconn?;
    (most < BACKLOG).then(|| {
        let what = format!("a burst of more than {most} new connections is refused while the edge is being replaced");
        Finding::new(Advice, "somaxconn", "machine", what)
            .seen(format!("net.core.somaxconn is {most}; listeners ask for {BACKLOG} (/proc/sys/net/core/somaxconn)"))
            .fix(format!("sysctl -w net.core.somaxconn={BACKLOG}"))
    })
}

fn zombies(observed: &Observed) -> Option<Finding> {
    let (zombies, first) = observed.machine.unreaped.as_ref().filter(|(zombies, _)| *zombies > 0)?;
    let left = counted(*zombies, "ended process is", "ended processes are");
    Some(
        Finding::new(Warning, "zombies", "machine", format!("{left} never cleared away: process 1 does not reap"))
            .seen(format!("process 1 is `{first}`, and they are its children in state Z (/proc/*/stat)"))
            .fix("start the container with an init: docker run --init, or `init: true` in compose"),
    )
}

fn orphans(observed: &Observed) -> Option<Finding> {
    let first = observed.orphans.first()?;
    let n = observed.orphans.len() as u64;
    let what = format!("{} without the keel that started it", counted(n, "instance runs", "instances run"));
    let mut finding = Finding::new(Warning, "orphans", "machine", what);
    for orphan in &observed.orphans {
        finding = finding.seen(format!("process {} is its keeper, and its guard is gone: {}", orphan.pid, orphan.what));
    }
    Some(
        finding
            .fix("keel up FILE with the same --state-dir adopts what it knows")
            .fix(format!("to end it instead: kill {}", first.pid)),
    )
}

fn unit(unit: &Unit) -> Vec<Finding> {
    let finding = |setting: &super::UnitSetting| {
        let severity =
            if ["KillMode", "SendSIGKILL", "Delegate"].contains(&setting.key.as_str()) { Error } else { Warning };
        let fix = if setting.should.is_empty() {
            format!("remove `{}=` from {}", setting.key, unit.path)
        } else {
            format!("set `{}={}` in {}", setting.key, setting.should, unit.path)
        };
        Finding::new(severity, "unit", "unit", setting.why.clone())
            .seen(format!("`{}={}` ({})", setting.key, setting.is, unit.path))
            .fix(fix)
            .fix("then: systemctl daemon-reload")
    };
    unit.settings.iter().map(finding).collect()
}
