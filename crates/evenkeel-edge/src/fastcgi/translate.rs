//! The translator: HTTP with the edge on one side, FastCGI with the instance on the other, for one request.
//!
//! The request comes from the edge itself, so it is well-formed; what the instance says is judged as any stranger's. A
//! body of known length is passed on as it comes. One in chunks is gathered first, since scripts must be told its length;
//! beyond a bound that is refused. Of an answer nothing is kept but its head and what one read brought.

use std::{
    cell::Cell,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel_core::snapshot::{FastCgi, Network};
use httparse::{EMPTY_HEADER, Header, Status};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::UnixStream,
    sync::mpsc,
};

use super::{
    cgi,
    params::{Asked, Params, params},
    records::{self, Part, Records},
};
use crate::{
    http::{
        framing::{Body, Chunked},
        origin,
    },
    messages::Notice,
    shared::InstanceShared,
};

/// Largest body in chunks.
const GATHERED_BYTES: usize = 1 << 20;

/// Most fields of a request: twice what a client may send, since routes and the edge add some.
const FIELDS: usize = 512;

/// Room for one read in each direction.
const PIECE_BYTES: usize = 32 << 10;

/// Bytes of complaints that are passed on of a request.
const COMPLAINT_BYTES: usize = 2 << 10;

/// A thread passes on one request's complaints in this time: whoever can make a script complain must not fill a log.
const COMPLAINT_EVERY: Duration = Duration::from_millis(100);

thread_local! {
    /// When complaints were passed on last, and of how many requests they were not since.
    static COMPLAINTS: Cell<(Option<Instant>, u64)> = const { Cell::new((None, 0)) };
}

/// How long the end of an answer may take to reach the edge, which may have gone.
const LAST_WORDS: Duration = Duration::from_mins(1);

/// What a translator must know.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) fastcgi: FastCgi,
    /// Address of whoever is connected.
    pub(super) peer: IpAddr,
    /// Whom the listener trusts to name clients, where it trusts this one.
    pub(super) trusted: Vec<Network>,
    /// Largest head of an answer.
    pub(super) head_bytes: usize,
    /// Where complaints go.
    pub(super) complaints: Option<Complaints>,
}

/// Where what an application complains of belongs: in the log of its instance, which the node process keeps, since that
/// alone knows what must be masked.
#[derive(Debug)]
pub(super) struct Complaints {
    pub(super) instance: Arc<InstanceShared>,
    pub(super) to: mpsc::Sender<Notice>,
}

/// A request whose head has come.
struct Begun {
    params: Params,
    to_head: bool,
    body: Body,
    expects: bool,
}

/// Why a translation ends early.
enum Stop {
    /// The edge has gone.
    Gone,
    /// The instance has gone in the middle: the edge sees an end in the middle too.
    CutOff,
    /// The instance does not speak FastCGI, or a script no CGI.
    Malformed,
    /// The request cannot be put to an instance: status and reason.
    Refused(u16, &'static str),
}

/// Serves one request.
pub(super) async fn translate<S>(mut edge: UnixStream, instance: S, task: Task)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut answer, mut ask) = split(instance);
    let mut down = Down::new(&task);
    let stop = serve(&mut edge, &mut answer, &mut ask, &mut down, &task).await.err();
    down.complain();
    let last = match stop {
        Some(Stop::Refused(status, reason)) => refusal(status, reason),
        // What is no answer of HTTP is what the edge calls malformed.
        Some(Stop::Malformed) if !down.committed => b"malformed\r\n\r\n".to_vec(),
        _ => return,
    };
    let _ = tokio::time::timeout(LAST_WORDS, edge.write_all(&last)).await;
}

async fn serve<S>(
    edge: &mut UnixStream,
    answer: &mut ReadHalf<S>,
    ask: &mut WriteHalf<S>,
    down: &mut Down<'_>,
    task: &Task,
) -> Result<(), Stop>
where
    S: AsyncRead + AsyncWrite + Send,
{
    let mut input = Vec::with_capacity(4096);
    let mut begun = loop {
        match understand(&mut input, task)? {
            Some(begun) => break begun,
            None => fill(edge, &mut input).await?,
        }
    };
    down.to_head = begun.to_head;
    if begun.expects && !begun.body.is_done() {
        edge.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| Stop::Gone)?;
    }
    if matches!(begun.body, Body::Chunked(_)) {
        gather(edge, &mut input, &mut begun).await?;
    }
    let mut out = Vec::with_capacity(4096);
    records::begin(&mut out);
    records::params(&mut out, &begun.params);
    let (mut from_edge, mut to_edge) = edge.split();
    let up = pass_up(&mut from_edge, input, begun.body, ask, out);
    let down = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = answer.read(&mut piece).await.map_err(|_| Stop::CutOff)?;
            if read == 0 {
                return Err(Stop::CutOff);
            }
            let out = down.digest(&piece[..read])?;
            to_edge.write_all(&out).await.map_err(|_| Stop::Gone)?;
            if down.records.is_over() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        biased;
        ended = down => ended,
        stop = up => Err(stop),
    }
}

async fn fill(edge: &mut UnixStream, input: &mut Vec<u8>) -> Result<(), Stop> {
    match edge.read_buf(input).await {
        Ok(1..) => Ok(()),
        _ => Err(Stop::Gone),
    }
}

/// Reads the head, once it is there, and takes it from the input.
fn understand(input: &mut Vec<u8>, task: &Task) -> Result<Option<Begun>, Stop> {
    let mut room = [EMPTY_HEADER; FIELDS];
    let mut head = httparse::Request::new(&mut room);
    let taken = match head.parse(input) {
        Ok(Status::Complete(taken)) => taken,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(Stop::Refused(400, "the request cannot be put to a script")),
    };
    let has = |name: &str, part: &str| {
        let mut values = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        values.any(|field| field.value.eq_ignore_ascii_case(part.as_bytes()))
    };
    let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse().ok()).unwrap_or(0);
    let body =
        if has("transfer-encoding", "chunked") { Body::Chunked(Chunked::default()) } else { Body::of_length(length) };
    let (method, target) = (head.method.unwrap_or_default(), head.path.unwrap_or_default());
    let client = task.client(head.headers).to_string();
    let asked = Asked { method, target, fields: head.headers, length, client: &client };
    let params = params(&asked, &task.fastcgi).map_err(|bad| Stop::Refused(400, bad.0))?;
    let (to_head, expects) = (method == "HEAD", has("expect", "100-continue"));
    input.drain(..taken);
    Ok(Some(Begun { params, to_head, body, expects }))
}

/// Takes a whole body in chunks and makes it one of known length.
async fn gather(edge: &mut UnixStream, input: &mut Vec<u8>, begun: &mut Begun) -> Result<(), Stop> {
    let mut content = Vec::new();
    loop {
        let step = begun.body.advance_with(input, |part| content.extend_from_slice(part));
        let step = step.map_err(|bad| Stop::Refused(400, bad.0))?;
        input.clear();
        if content.len() > GATHERED_BYTES {
            return Err(Stop::Refused(411, "so large a body needs a Content-Length here"));
        }
        if step.done {
            break;
        }
        fill(edge, input).await?;
    }
    let length = content.len();
    for (name, value) in &mut begun.params {
        if name == b"CONTENT_LENGTH" {
            *value = length.to_string().into_bytes();
        }
    }
    begun.body = Body::of_length(length as u64);
    *input = content;
    Ok(())
}

/// Passes the request on. Comes to an end only where the edge has gone: an instance that takes no more may still answer.
async fn pass_up<R, S>(
    from: &mut R,
    mut input: Vec<u8>,
    mut body: Body,
    ask: &mut WriteHalf<S>,
    mut out: Vec<u8>,
) -> Stop
where
    R: AsyncRead + Unpin,
    S: AsyncWrite,
{
    let mut takes = true;
    loop {
        let done = match body.advance_with(&input, |part| records::stdin(&mut out, part)) {
            Ok(step) => step.done,
            Err(_) => return Stop::Gone,
        };
        if done {
            records::end_of_stdin(&mut out);
        }
        takes = takes && ask.write_all(&out).await.is_ok() && ask.flush().await.is_ok();
        (input, out) = (read_more(from, input).await, Vec::new());
        // Behind the body there is nothing, so whatever comes there is the end.
        if done || input.is_empty() {
            return Stop::Gone;
        }
    }
}

async fn read_more<R: AsyncRead + Unpin>(from: &mut R, mut room: Vec<u8>) -> Vec<u8> {
    room.clear();
    room.reserve(PIECE_BYTES);
    // An error is an end.
    let _ = from.read_buf(&mut room).await;
    room
}

fn refusal(status: u16, reason: &str) -> Vec<u8> {
    let length = reason.len();
    format!(
        "HTTP/1.1 {status} Refused\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{reason}"
    )
    .into_bytes()
}

/// How the body goes to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is none.
    None,
    /// So many bytes are missing.
    Length(u64),
    Chunks,
}

/// The answer on its way to the edge.
struct Down<'a> {
    task: &'a Task,
    records: Records,
    /// The head, as long as it is not complete; then what this read brought.
    held: Vec<u8>,
    framing: Option<Framing>,
    to_head: bool,
    committed: bool,
    complaint: Vec<u8>,
    /// There was more of it.
    cut: bool,
}

impl<'a> Down<'a> {
    fn new(task: &'a Task) -> Self {
        Self {
            task,
            records: Records::default(),
            held: Vec::new(),
            framing: None,
            to_head: false,
            committed: false,
            complaint: Vec::new(),
            cut: false,
        }
    }

    /// What the edge gets of these bytes.
    fn digest(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Stop> {
        let (held, complaint, cut, mut end) = (&mut self.held, &mut self.complaint, &mut self.cut, None);
        let walked = self.records.advance(bytes, |part| match part {
            Part::Stdout(part) => held.extend_from_slice(part),
            Part::Stderr(part) => {
                let room = COMPLAINT_BYTES.saturating_sub(complaint.len());
                complaint.extend_from_slice(&part[..part.len().min(room)]);
                *cut |= part.len() > room;
            }
            Part::End { protocol_status } => end = Some(protocol_status),
        });
        walked.map_err(|_| Stop::Malformed)?;
        if let Some(status @ 1..) = end {
            // It was not begun: the instance is overloaded, or has no such role. Another one may take it.
            tracing::debug!(status, "an instance did not begin a request");
            return Err(Stop::CutOff);
        }
        let mut out = Vec::with_capacity(self.held.len() + 256);
        let framing = match self.framing {
            Some(framing) => framing,
            None => match self.begin(&mut out, end.is_some())? {
                Some(framing) => framing,
                None if end.is_some() => return Err(Stop::Malformed),
                None => return Ok(out),
            },
        };
        self.framing = Some(self.body(&mut out, framing, end.is_some())?);
        self.committed |= !out.is_empty();
        Ok(out)
    }

    /// Writes the head, once it is complete. `whole`: everything of the answer is here.
    fn begin(&mut self, out: &mut Vec<u8>, whole: bool) -> Result<Option<Framing>, Stop> {
        let Some(head) = cgi::parse(&self.held).map_err(|_| Stop::Malformed)? else {
            return if self.held.len() > self.task.head_bytes { Err(Stop::Malformed) } else { Ok(None) };
        };
        if head.taken > self.task.head_bytes {
            return Err(Stop::Malformed);
        }
        self.held.drain(..head.taken);
        out.extend_from_slice(format!("HTTP/1.1 {} \r\nConnection: close\r\n", head.status).as_bytes());
        out.extend_from_slice(&head.lines);
        let bodiless = matches!(head.status, 204 | 304);
        let framing = match head.length {
            _ if bodiless => Framing::None,
            Some(length) => Framing::Length(length),
            None if whole && !self.to_head => Framing::Length(self.held.len() as u64),
            None => Framing::Chunks,
        };
        match framing {
            Framing::Length(length) => out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes()),
            Framing::Chunks => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::None => {}
        }
        out.extend_from_slice(b"\r\n");
        Ok(Some(if self.to_head { Framing::None } else { framing }))
    }

    /// Writes what is held of the body.
    fn body(&mut self, out: &mut Vec<u8>, framing: Framing, ends: bool) -> Result<Framing, Stop> {
        let next = match framing {
            Framing::None => Framing::None,
            Framing::Length(left) => {
                // What a script prints beyond its own length belongs to nothing.
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(self.held.len());
                out.extend_from_slice(&self.held[..taken]);
                let left = left - taken as u64;
                if ends && left > 0 {
                    return Err(Stop::CutOff);
                }
                Framing::Length(left)
            }
            Framing::Chunks => {
                if !self.held.is_empty() {
                    out.extend_from_slice(format!("{:x}\r\n", self.held.len()).as_bytes());
                    out.extend_from_slice(&self.held);
                    out.extend_from_slice(b"\r\n");
                }
                if ends {
                    out.extend_from_slice(b"0\r\n\r\n");
                }
                Framing::Chunks
            }
        };
        self.held.clear();
        Ok(next)
    }

    /// Passes on what the application complained of.
    fn complain(&self) {
        let Some(Complaints { instance, to }) = self.task.complaints.as_ref().filter(|_| !self.complaint.is_empty())
        else {
            return;
        };
        let (next, unsaid) = complaint(COMPLAINTS.get(), Instant::now());
        COMPLAINTS.set(next);
        if let Some(unsaid) = unsaid {
            let (text, cut) = (shown(&self.complaint), self.cut);
            let notice = Notice::Complained { instance: Arc::clone(instance), text, cut, unsaid };
            if to.try_send(notice).is_err() {
                COMPLAINTS.set((next.0, unsaid + 1));
            }
        }
    }
}

/// As text, without half a character at its end: what is cut off must still be known for what it begins.
fn shown(complaint: &[u8]) -> String {
    String::from_utf8_lossy(complaint).trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned()
}

/// What follows from another complaint; with it, where it is to be passed on, how many were not.
fn complaint((last, unsaid): (Option<Instant>, u64), now: Instant) -> ((Option<Instant>, u64), Option<u64>) {
    if last.is_some_and(|last| now.duration_since(last) < COMPLAINT_EVERY) {
        ((last, unsaid + 1), None)
    } else {
        ((Some(now), 0), Some(unsaid))
    }
}

impl Task {
    /// Who asks: whom trusted peers name, or else whoever is connected.
    fn client(&self, fields: &[Header<'_>]) -> IpAddr {
        if self.trusted.is_empty() {
            return self.peer;
        }
        let said = fields.iter().rev().filter(|field| field.name.eq_ignore_ascii_case("x-forwarded-for"));
        let trusts = |address| self.trusted.iter().any(|network| network.contains(address));
        origin::named(said.map(|field| field.value), trusts).unwrap_or(self.peer)
    }
}

/// What the edge gets for an instance's bytes, in pieces of this size: for tests of parsers.
pub fn translated(bytes: &[u8], piece: usize, to_head: bool) -> Option<Vec<u8>> {
    let fastcgi = FastCgi {
        root: String::new(),
        index: String::new(),
        ending: String::new(),
        folders: Vec::new(),
        params: Vec::new(),
    };
    let peer = IpAddr::from([192, 0, 2, 1]);
    let task = Task { fastcgi, peer, trusted: Vec::new(), head_bytes: 16 << 10, complaints: None };
    let mut down = Down { to_head, ..Down::new(&task) };
    let mut out = Vec::new();
    for part in bytes.chunks(piece.max(1)) {
        out.extend(down.digest(part).ok()?);
        if down.records.is_over() {
            return Some(out);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_passed_on_now_and_then() {
        let start = Instant::now();
        let (state, said) = complaint((None, 0), start);
        assert_eq!(said, Some(0));
        let (state, said) = complaint(state, start + COMPLAINT_EVERY / 2);
        assert_eq!(said, None);
        let (state, said) = complaint(state, start + COMPLAINT_EVERY);
        assert_eq!((state.1, said), (0, Some(1)));
    }

    #[test]
    fn no_character_is_cut_in_half() {
        assert_eq!(shown("naïve".as_bytes()), "naïve");
        assert_eq!(shown(&"naï".as_bytes()[..3]), "na");
        assert_eq!(shown(b"a\xffb\xc3"), "a\u{fffd}b", "what is no character at all is shown so");
    }
}
