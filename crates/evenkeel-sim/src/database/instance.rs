//! An engine: one instance's log, from whom it receives, what it acknowledges, and what its disk keeps.
//!
//! A log is a list of writes; a position is how many there are, within a history that is named after the token with which
//! it began. Replication is a connection that a standby opens; what arrives on another one than the present is dropped.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_core::{
    engine::Position,
    failover::{Acks, Cause, Content, Disk, Handover, Member, Own, Process, Role, Token, Up},
    time::Moment,
};

/// The name of a member.
pub(super) fn name(member: usize) -> Member {
    Member::from(format!("m{member}"))
}

/// The number of a member.
pub(super) fn number(member: &Member) -> usize {
    member.to_string().trim_start_matches('m').parse().expect("a member of this world")
}

/// One instance.
#[derive(Debug)]
pub(super) struct Instance {
    /// Every write on its disk, in order.
    pub(super) log: Vec<u64>,
    /// Its histories and where each begins, oldest first.
    pub(super) histories: Vec<(u64, usize)>,
    /// What its data directory holds.
    pub(super) content: Content,
    /// The token of the last primary that it was or followed.
    pub(super) disk_token: Token,
    /// It receives from nobody with at most this one.
    pub(super) floor: Token,
    /// It was primary when it last ran.
    pub(super) was_primary: bool,
    /// What it waits for as primary; a setting, kept over restarts and inherited by copies.
    pub(super) acks: Acks,
    /// What runs.
    pub(super) run: Run,
    /// Counts starts and ends, so that what was meant for a former process is dropped.
    pub(super) life: u64,
    /// A long step, as a copy.
    pub(super) busy: Option<String>,
    /// Nothing of it moves until then.
    pub(super) hung_until: Option<Moment>,
    /// Its disk takes nothing until then.
    pub(super) stalled_until: Option<Moment>,
    /// Its disk is full until then.
    pub(super) full_until: Option<Moment>,
    /// Until when the guard lets it live as primary.
    pub(super) armed: Option<Moment>,
    /// When it last received something, or asked for it.
    pub(super) received: Moment,
    /// Why it ended.
    pub(super) ended: Cause,
    /// When.
    pub(super) ended_at: Moment,
}

/// What runs of an instance.
#[derive(Debug)]
pub(super) enum Run {
    /// Nothing.
    Gone,
    /// The main process is gone; others may go on acknowledging.
    Remains(Option<Box<Primary>>),
    /// It starts.
    Starting,
    /// A standby, with its connection to a primary: which member, its token, and the connection's number.
    Standby(Option<(usize, Token, u64)>),
    /// A primary.
    Primary(Box<Primary>),
}

/// What a primary knows.
#[derive(Debug, Default)]
pub(super) struct Primary {
    /// Its token.
    pub(super) token: Token,
    /// Clients are let in.
    pub(super) open: bool,
    /// Where its history begins.
    pub(super) began_at: usize,
    /// A former configuration that some of its processes still go by.
    pub(super) former: Option<Acks>,
    /// How far its log was when the present configuration was in effect everywhere; `None`: it is not yet.
    pub(super) since: Option<usize>,
    /// Enough members have what was written before that.
    pub(super) settled: bool,
    /// How far each connected member is, with its connection.
    pub(super) streams: BTreeMap<usize, (u64, usize)>,
    /// How far each member ever said it was during this life.
    pub(super) flushed: BTreeMap<Member, usize>,
    /// Writes that nobody was told about yet: their place in the log, and whose they are.
    pub(super) pending: Vec<(usize, Client)>,
    /// How much of its log a reader sees.
    pub(super) visible: usize,
    /// How far a switchover is.
    pub(super) handover: Option<Handover>,
}

/// Whose a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Which writer.
    pub(super) writer: usize,
    /// Which write.
    pub(super) id: u64,
    /// By which edge.
    pub(super) edge: usize,
}

impl Instance {
    /// One with an empty directory.
    pub(super) const fn new() -> Self {
        Self {
            log: Vec::new(),
            histories: Vec::new(),
            content: Content::Empty,
            disk_token: Token::new(0),
            floor: Token::new(0),
            was_primary: false,
            acks: Acks { members: BTreeSet::new(), count: 0 },
            run: Run::Gone,
            life: 0,
            busy: None,
            hung_until: None,
            stalled_until: None,
            full_until: None,
            armed: None,
            received: Moment::ORIGIN,
            ended: Cause::Exit,
            ended_at: Moment::ORIGIN,
        }
    }

    /// How far its log is.
    pub(super) fn position(&self) -> Option<Position> {
        let (history, _) = self.histories.last()?;
        Some(Position { history: *history, offset: self.log.len() as u64 })
    }

    /// The primary that it is, running or dying.
    pub(super) fn primary(&mut self) -> Option<&mut Primary> {
        match &mut self.run {
            Run::Primary(primary) | Run::Remains(Some(primary)) => Some(primary),
            _ => None,
        }
    }

    /// Nothing runs any more.
    pub(super) fn end(&mut self, cause: Cause, now: Moment) {
        self.ended_at = now;
        self.run = Run::Gone;
        self.life += 1;
        self.ended = cause;
        self.hung_until = None;
    }

    /// Becomes primary: in place, or with a history of its own that begins here.
    pub(super) fn lead(&mut self, token: Token, history: bool) {
        let len = self.log.len();
        if history {
            self.histories.push((token.number(), len));
        }
        let began_at = self.histories.last().map_or(0, |(_, at)| *at);
        let since = Some(len);
        self.run = Run::Primary(Box::new(Primary { token, began_at, since, visible: len, ..Primary::default() }));
        self.disk_token = token;
        self.was_primary = true;
        self.settle();
    }

    /// Takes a write; its place in the log.
    pub(super) fn write(&mut self, client: Client) -> usize {
        self.log.push(client.id);
        let len = self.log.len();
        if let Some(primary) = self.primary() {
            primary.pending.push((len, client));
        }
        len
    }

    /// A member said how far it is: which writes are acknowledged by that.
    pub(super) fn heard(&mut self, member: usize, connection: u64, offset: usize) -> Vec<Client> {
        let Some(primary) = self.primary() else {
            return Vec::new();
        };
        if let Some((current, reached)) = primary.streams.get_mut(&member)
            && *current == connection
        {
            *reached = offset.max(*reached);
            let known = primary.flushed.entry(name(member)).or_default();
            *known = offset.max(*known);
        }
        self.settle();
        self.acknowledge()
    }

    /// Which writes are acknowledged now.
    pub(super) fn acknowledge(&mut self) -> Vec<Client> {
        let acks = self.acks.clone();
        let Some(primary) = self.primary() else {
            return Vec::new();
        };
        let flushed = &primary.flushed;
        let former = primary.former.clone();
        let enough =
            |place: usize| has(&acks, flushed, place) || former.as_ref().is_some_and(|f| has(f, flushed, place));
        let (told, pending): (Vec<_>, Vec<_>) = primary.pending.iter().partition(|(place, _)| enough(*place));
        primary.pending = pending;
        primary.visible = told.iter().map(|(place, _)| *place).fold(primary.visible, usize::max);
        told.into_iter().map(|(_, client)| client).collect()
    }

    /// Looks whether the configuration is settled.
    pub(super) fn settle(&mut self) {
        let acks = self.acks.clone();
        if let Some(primary) = self.primary()
            && let Some(since) = primary.since
        {
            primary.settled |= has(&acks, &primary.flushed, since);
        }
    }

    /// What its agent sees of it.
    pub(super) fn own(&self, now: Moment) -> Own {
        let process = match &self.run {
            Run::Gone => Process::Gone,
            Run::Remains(_) => Process::Remains,
            Run::Starting => Process::Starting,
            Run::Standby(from) => Process::Up(self.up(Role::Standby, from.map(|(_, token, _)| token), None)),
            Run::Primary(primary) => Process::Up(self.up(Role::Primary, Some(primary.token), Some(primary))),
        };
        Own {
            process,
            disk: Disk {
                content: self.content.clone(),
                position: self.position(),
                token: self.disk_token,
                was_primary: self.was_primary,
            },
            floor: self.floor,
            armed: self.armed,
            unfit: self.full_until.is_some_and(|until| now < until).then(|| "its disk is full".to_owned()),
            ended: self.ended.clone(),
            ended_at: self.ended_at,
            busy: self.busy.clone(),
            priority: 0,
        }
    }

    fn up(&self, role: Role, token: Option<Token>, primary: Option<&Primary>) -> Up {
        let caught_up = |reached: usize| reached + 20 >= self.log.len();
        Up {
            role,
            position: self.position().unwrap_or(Position { history: 0, offset: 0 }),
            token,
            open: primary.is_some_and(|primary| primary.open),
            began_at: primary.map_or(0, |primary| primary.began_at as u64),
            acks: self.acks.clone(),
            settled: primary.is_some_and(|primary| primary.settled),
            streaming: primary
                .map(|p| p.streams.iter().filter(|(_, (_, at))| caught_up(*at)).map(|(m, _)| name(*m)).collect())
                .unwrap_or_default(),
            handover: primary.and_then(|primary| primary.handover),
        }
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether enough members have everything up to `place`.
fn has(acks: &Acks, flushed: &BTreeMap<Member, usize>, place: usize) -> bool {
    acks.members.iter().filter(|member| flushed.get(member).is_some_and(|at| *at >= place)).count() >= acks.count
}
