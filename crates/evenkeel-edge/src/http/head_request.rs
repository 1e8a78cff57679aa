//! The head of a request: parsed strictly, then written anew for the instance (RFC 9112 sections 2 to 6).
//!
//! What could be read in more than one way is refused, with the status that says why. What is passed on is in
//! origin-form, has exactly one `Host` and at most one statement of its length, no field that is meant for one
//! connection only, and says about the client what the edge knows or a trusted peer has said. Parsing borrows
//! from the input and keeps nothing.

use std::mem::MaybeUninit;

use evenkeel_core::snapshot::ClientLimits;
use httparse::{Error, Header, ParserConfig, Status};

use super::{
    fields::{
        BadFraming, Framing, Known, MOST_FIELDS, Marks, classify, copy_fields, is_listed, lines_end_with_crlf, offset,
        put, put_number, put_upgrade, upgrades, welcomes_trailers,
    },
    framing::{Body, Chunked},
    rewrite::HeadChanges,
    target::{Target, is_authority},
};

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The answer's status.
    pub status: u16,
    /// What is wrong, for the answer's text and for events.
    pub reason: &'static str,
}

impl Reject {
    /// A refusal.
    pub const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }
}

/// Room for the fields of one head, on the stack.
pub type FieldRoom<'b> = [MaybeUninit<Header<'b>>; MOST_FIELDS];

/// A head that was understood.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own about the message.
pub struct RequestHead<'b, 'f> {
    /// The whole head with its last empty line.
    head: &'b [u8],
    fields: &'f [Header<'b>],
    framing: Framing,
    marks: Marks,
    /// The client takes trailer fields.
    trailers: bool,
    /// It has fields whose names have an underscore, so that many applications take them for others.
    pub underscored: bool,
    /// Those fields are passed on all the same. False as parsed.
    pub keeps_underscored: bool,
    /// Bytes of the input that precede the body, empty lines before the head included.
    pub length: usize,
    /// The method, case-sensitive.
    pub method: &'b [u8],
    /// Path and query, or `*`.
    pub path: &'b [u8],
    /// Host and port, empty where an HTTP/1.0 request has none.
    pub authority: &'b [u8],
    /// 0 or 1 of `HTTP/1.x`.
    pub minor: u8,
    /// How the body ends.
    pub body: Body,
    /// The client may send another request on this connection.
    pub keep_alive: bool,
    /// The client waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// The client asks for another protocol on its connection, and the instance gets to see that.
    pub upgrades: bool,
}

/// Parses the head at the start of `input`. `None`: more is needed. The limits' sizes are enforced also while
/// the head is incomplete.
pub fn parse<'b, 'f>(
    input: &'b [u8],
    room: &'f mut FieldRoom<'b>,
    limits: &ClientLimits,
) -> Result<Option<RequestHead<'b, 'f>>, Reject> {
    let (skipped, input) = skip_empty_lines(input)?;
    let mut request = httparse::Request::new(&mut []);
    let most = usize::from(limits.headers).min(MOST_FIELDS);
    let parsed = ParserConfig::default().parse_request_with_uninit_headers(&mut request, input, &mut room[..most]);
    let limit = usize::try_from(limits.head_bytes).unwrap_or(usize::MAX);
    let length = match parsed {
        Ok(Status::Complete(length)) if length <= limit => length,
        Ok(Status::Partial) if input.len() < limit => {
            return incomplete(input, limits).map(|()| None);
        }
        Ok(_) => return Err(too_large(input, limits)),
        // The parser gives up within the version; which status that means is known at the end of its line.
        Err(Error::Version) if input.len() < limit && !input.iter().any(|byte| matches!(byte, b'\r' | b'\n')) => {
            return incomplete(input, limits).map(|()| None);
        }
        Err(error) => return Err(malformed(error, input)),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Reject::new(400, "malformed request line"));
    };
    let (method, target, head) = (method.as_bytes(), target.as_bytes(), &input[..length]);
    if target.len() > usize::try_from(limits.target_bytes).unwrap_or(usize::MAX) {
        return Err(Reject::new(414, "request target too long"));
    }
    let fields: &'f [Header<'b>] = request.headers;
    if !lines_end_with_crlf(head, fields) || !request_line_ends_with_crlf(head, target) {
        return Err(Reject::new(400, "a line of the head does not end with CRLF"));
    }
    let noted = note(fields, minor)?;
    let target = Target::parse(method, target)?;
    let authority = noted.authority(minor)?;
    if target.authority.is_some_and(|named| !named.eq_ignore_ascii_case(authority)) {
        return Err(Reject::new(400, "request target and Host differ"));
    }
    let body = noted.body(minor)?;
    // RFC 9110 section 7.8: not in HTTP/1.0. One with a body would have to be answered in between.
    let may_upgrade = noted.framing.upgrade && minor >= 1 && body == Body::Empty;
    Ok(Some(RequestHead {
        head,
        fields,
        framing: noted.framing,
        marks: noted.marks,
        trailers: noted.trailers && minor >= 1,
        underscored: noted.underscored,
        keeps_underscored: false,
        length: skipped + length,
        method,
        path: target.path,
        authority: target.authority.unwrap_or(authority),
        minor,
        upgrades: may_upgrade && upgrades(fields).next().is_some(),
        body,
        keep_alive: noted.framing.persists(minor),
        expects_continue: noted.expects_continue && minor >= 1,
    }))
}

/// What the edge says about the client.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The client's address as text.
    pub client: &'a [u8],
    /// What it says about its own clients is believed.
    pub trusted: bool,
    /// The request's identity.
    pub id: &'a [u8],
    /// Whether the instance should be asked for a 100.
    pub expect: bool,
}

impl<'b> RequestHead<'b, '_> {
    /// The first field of this lower-case name.
    pub fn field(&self, name: &[u8]) -> Option<&'b [u8]> {
        self.fields.iter().find(|field| field.name.as_bytes().eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The values of all fields of this lower-case name, in order.
    pub fn values(&self, name: &[u8]) -> impl DoubleEndedIterator<Item = &'b [u8]> {
        self.fields
            .iter()
            .filter(move |field| field.name.as_bytes().eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// The first field of this lower-case name, if the instance gets to see it.
    pub fn passes_on(&self, name: &[u8]) -> Option<&'b [u8]> {
        self.field(name).filter(|_| !(self.framing.lists && is_listed(self.fields, name)))
    }

    /// Whether some field of this name has exactly this value.
    pub fn field_is(&self, name: &[u8], value: &[u8]) -> bool {
        self.fields.iter().any(|f| f.value == value && f.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Host without port.
    pub fn host(&self) -> &'b [u8] {
        let authority = self.authority;
        if authority.starts_with(b"[") {
            return authority.iter().position(|&b| b == b']').map_or(authority, |end| &authority[..=end]);
        }
        authority.iter().position(|&b| b == b':').map_or(authority, |colon| &authority[..colon])
    }

    /// The fields of this lower-case name.
    pub(crate) fn fields_named(&self, name: &'static [u8]) -> impl Iterator<Item = &'b [u8]> {
        let named = self.fields.iter().filter(|field| field.name.as_bytes().eq_ignore_ascii_case(name));
        named.map(|field| field.value)
    }

    /// Appends the head that the instance gets.
    pub fn write(&self, out: &mut Vec<u8>, forwarding: &Forwarding<'_>) {
        self.write_changed(out, forwarding, None);
    }

    /// The same with what the route changes.
    pub(crate) fn write_changed(
        &self,
        out: &mut Vec<u8>,
        forwarding: &Forwarding<'_>,
        changes: Option<&HeadChanges<'_>>,
    ) {
        let target = changes.map_or(self.path, |changes| &changes.target);
        let authority = changes.and_then(|changes| changes.host).unwrap_or(self.authority);
        for part in [self.method, b" ", target, b" HTTP/1.1\r\nHost: ", authority, b"\r\n"] {
            out.extend_from_slice(part);
        }
        let trusted = forwarding.trusted;
        let mut said = Said::default();
        let connection_names = self.framing.lists;
        copy_fields(self.head, self.fields, out, |place, field| {
            let name = field.name.as_bytes();
            if changes.is_some_and(|changes| changes.drops(name)) {
                return false;
            }
            if !self.marks.has(place) {
                return !(connection_names && is_listed(self.fields, name));
            }
            match classify(name) {
                Known::Underscored if !self.keeps_underscored => false,
                Known::Other | Known::IdempotencyKey | Known::Underscored => {
                    !(connection_names && is_listed(self.fields, name))
                }
                Known::ForwardedOther => trusted,
                Known::ForwardedProto => {
                    said.proto |= trusted;
                    trusted
                }
                Known::ForwardedHost => {
                    said.host |= trusted;
                    trusted
                }
                Known::ForwardedFor => {
                    said.forwarded_for |= trusted;
                    false
                }
                _ => false,
            }
        });
        match self.body {
            Body::Chunked(_) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            _ => {
                if let Some(length) = self.framing.content_length {
                    out.extend_from_slice(b"Content-Length: ");
                    put_number(out, length);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        if self.upgrades {
            put_upgrade(out, self.fields);
        } else if self.trailers {
            // RFC 9110 section 10.1.4: a wish for one connection, expressed anew for the next.
            out.extend_from_slice(b"Connection: te\r\nTE: trailers\r\n");
        }
        if forwarding.expect {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        self.write_forwarded(out, forwarding, said, changes);
        if let Some(changes) = changes {
            out.extend_from_slice(&changes.lines);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_forwarded(
        &self,
        out: &mut Vec<u8>,
        forwarding: &Forwarding<'_>,
        said: Said,
        changes: Option<&HeadChanges<'_>>,
    ) {
        // What the route says itself, or wants nobody to say, is not said here.
        let ours = |name: &[u8]| !changes.is_some_and(|changes| changes.drops(name));
        if ours(b"x-forwarded-for") {
            self.write_forwarded_for(out, forwarding, said);
        }
        if !said.proto && ours(b"x-forwarded-proto") {
            out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
        }
        if !said.host && !self.authority.is_empty() && ours(b"x-forwarded-host") {
            put(out, b"X-Forwarded-Host", self.authority);
        }
        put(out, b"X-Request-Id", forwarding.id);
    }

    fn write_forwarded_for(&self, out: &mut Vec<u8>, forwarding: &Forwarding<'_>, said: Said) {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if said.forwarded_for {
            // Several fields of a list mean the same as one with their values in order (RFC 9110 section 5.3).
            for field in self.fields.iter().filter(|f| classify(f.name.as_bytes()) == Known::ForwardedFor) {
                if !field.value.is_empty() {
                    out.extend_from_slice(field.value);
                    out.extend_from_slice(b", ");
                }
            }
        }
        out.extend_from_slice(forwarding.client);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a trusted peer said that is passed on.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    forwarded_for: bool,
    proto: bool,
    host: bool,
}

/// RFC 9112 section 2.2: empty lines before a request line are ignored, here at most two.
fn skip_empty_lines(input: &[u8]) -> Result<(usize, &[u8]), Reject> {
    let mut rest = input;
    for _ in 0..2 {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
    }
    match rest {
        [b'\n', ..] | [b'\r', _, ..] => Err(Reject::new(400, "malformed request line")),
        [b'\r'] => Ok((input.len() - rest.len(), &[])),
        _ => Ok((input.len() - rest.len(), rest)),
    }
}

/// Refuses what can only get worse, while the head is incomplete.
fn incomplete(input: &[u8], limits: &ClientLimits) -> Result<(), Reject> {
    let line_ended = input.contains(&b'\n');
    // Method, version and two spaces fit into 64 bytes beside the target.
    if !line_ended && input.len() > usize::try_from(limits.target_bytes).unwrap_or(usize::MAX).saturating_add(64) {
        return Err(Reject::new(414, "request target too long"));
    }
    Ok(())
}

fn too_large(input: &[u8], limits: &ClientLimits) -> Reject {
    incomplete(input, limits).err().unwrap_or(Reject::new(431, "request head too large"))
}

fn malformed(error: Error, input: &[u8]) -> Reject {
    match error {
        Error::TooManyHeaders => Reject::new(431, "too many header fields"),
        Error::Version if names_other_version(input) => Reject::new(505, "HTTP version not supported"),
        Error::HeaderName => Reject::new(400, "malformed header field name"),
        Error::HeaderValue => Reject::new(400, "malformed header field value"),
        Error::NewLine => Reject::new(400, "a line of the head does not end with CRLF"),
        _ => Reject::new(400, "malformed request line"),
    }
}

/// Whether the request line ends with a well-formed version that is not HTTP/1.0 or HTTP/1.1.
fn names_other_version(input: &[u8]) -> bool {
    let line = input.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]) = line.last_chunk::<8>() else {
        return false;
    };
    major.is_ascii_digit() && minor.is_ascii_digit() && line.split(|&byte| byte == b' ').count() == 3
}

fn request_line_ends_with_crlf(head: &[u8], target: &[u8]) -> bool {
    let end = offset(head, target) + target.len() + " HTTP/1.1".len();
    head.get(end..end + 2) == Some(b"\r\n")
}

#[derive(Debug, Default)]
struct Noted<'b> {
    framing: Framing,
    marks: Marks,
    hosts: usize,
    host: &'b [u8],
    expects_continue: bool,
    trailers: bool,
    underscored: bool,
}

fn note<'b>(fields: &[Header<'b>], minor: u8) -> Result<Noted<'b>, Reject> {
    let mut noted = Noted::default();
    for (place, field) in fields.iter().enumerate() {
        let known = classify(field.name.as_bytes());
        if known == Known::Other {
            continue;
        }
        noted.marks.set(place);
        match known {
            Known::Host => {
                noted.hosts += 1;
                noted.host = field.value;
            }
            Known::Expect if minor >= 1 => {
                if !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Reject::new(417, "expectation not supported"));
                }
                noted.expects_continue = true;
            }
            Known::Te => noted.trailers |= welcomes_trailers(field.value),
            Known::Underscored => noted.underscored = true,
            _ => noted.framing.note(known, field.value).map_err(|bad| match bad {
                BadFraming::Length(reason) | BadFraming::Coding(reason) => Reject::new(400, reason),
                BadFraming::TooLong => Reject::new(413, "request body too large"),
                BadFraming::UnknownCoding => Reject::new(501, "transfer coding not supported"),
            })?,
        }
    }
    Ok(noted)
}

impl<'b> Noted<'b> {
    /// RFC 9112 section 3.2: exactly one `Host`; HTTP/1.0 may have none.
    fn authority(&self, minor: u8) -> Result<&'b [u8], Reject> {
        match self.hosts {
            0 if minor == 0 => Ok(b""),
            0 => Err(Reject::new(400, "no Host field")),
            1 if is_authority(self.host) => Ok(self.host),
            1 => Err(Reject::new(400, "malformed Host field")),
            _ => Err(Reject::new(400, "more than one Host field")),
        }
    }

    /// RFC 9112 section 6.3 without its leniences.
    fn body(&self, minor: u8) -> Result<Body, Reject> {
        match (self.framing.chunked, self.framing.content_length) {
            _ if self.framing.repeated_length => Err(Reject::new(400, "more than one Content-Length field")),
            (true, Some(_)) => Err(Reject::new(400, "both Content-Length and Transfer-Encoding")),
            (true, None) if minor == 0 => Err(Reject::new(400, "Transfer-Encoding in HTTP/1.0")),
            (true, None) => Ok(Body::Chunked(Chunked::default())),
            (false, length) => Ok(Body::of_length(length.unwrap_or(0))),
        }
    }
}
