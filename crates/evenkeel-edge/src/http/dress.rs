//! How an answer of an instance differs on its way to the client: other fields, a compressed body, a page of the stack in
//! place of its body.
//!
//! Found at the head of the final answer. Where nothing differs, that costs a look at two pointers. What is found borrows
//! from nothing, since a relay keeps it for long.

use std::{rc::Rc, sync::Arc};

use evenkeel_core::snapshot::{Encoding, Page};

use super::{
    compress::{self, Accepts, Choice, Coder},
    errors::page_for,
    fields::{members, put, put_number},
    framing::Body,
    head_request::{Forwarding, RequestHead},
    head_response::{Delivery, ResponseHead},
    request::{Extras, Request},
    rewrite::AnswerFields,
};
use crate::{local::ServiceLocal, routes::RouteView};

/// Largest whole body that is coded in one go, in bytes.
const WHOLE_BYTES: usize = 64 << 10;

/// What differs.
#[derive(Clone, Debug)]
pub(crate) struct Dress {
    pub(crate) body: NewBody,
    /// It answers a HEAD request.
    to_head: bool,
    /// Caches must know that other clients get another body.
    vary: bool,
}

/// What becomes of the body.
#[derive(Clone, Debug)]
pub(crate) enum NewBody {
    AsIs,
    /// Coded while it comes.
    Coded(Encoding),
    /// The page for this place among the pages of the service.
    Page(Rc<ServiceLocal>, usize),
}

/// Keeps of a request's head what its answer will be dressed by.
pub(crate) fn note(
    request: &mut Request,
    route: &Arc<RouteView>,
    head: &RequestHead<'_, '_>,
    forwarding: &Forwarding<'_>,
) {
    if route.actions.is_some() || request.service.config().answers.compress.is_some() {
        note_some(request, route, head, forwarding);
    }
}

#[cold]
fn note_some(request: &mut Request, route: &Arc<RouteView>, head: &RequestHead<'_, '_>, forwarding: &Forwarding<'_>) {
    let compresses = request.service.config().answers.compress.is_some();
    let fields = AnswerFields::of(route, head, forwarding);
    let accepts = compresses.then(|| Accepts::parse(head.fields_named(b"accept-encoding")));
    if fields.is_some() || compresses {
        let extras = request.extras.get_or_insert_default();
        (extras.fields, extras.accepts) = (fields, accepts);
    }
}

/// What differs in this answer of an instance of `service`; `None`: nothing.
pub(crate) fn find(request: &Request, service: &Rc<ServiceLocal>, head: &ResponseHead<'_, '_>) -> Option<Dress> {
    if head.status >= 400
        && let Some(place) = page_for(&service.config().answers.error_pages, head.status, true)
    {
        return Some(Dress { body: NewBody::Page(Rc::clone(service), place), to_head: request.to_head, vary: false });
    }
    find_by(request, request.extras.as_deref()?, service, head)
}

#[cold]
fn find_by(
    request: &Request,
    extras: &Extras,
    service: &Rc<ServiceLocal>,
    head: &ResponseHead<'_, '_>,
) -> Option<Dress> {
    let config = service.config().answers.compress.as_ref();
    let choice = match (config, extras.accepts) {
        (Some(config), Some(accepts)) => compress::choose(config, accepts, head, request.minor, request.to_head),
        _ => Choice::Unfit,
    };
    let body = match choice {
        Choice::Coded(encoding) => NewBody::Coded(encoding),
        _ => NewBody::AsIs,
    };
    let vary = choice != Choice::Unfit;
    (extras.fields.is_some() || vary).then_some(Dress { body, to_head: request.to_head, vary })
}

/// What has come of an answer's body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<'a> {
    /// As it came.
    pub(crate) body: &'a [u8],
    /// Bytes of content in it.
    pub(crate) content: usize,
    /// It is complete.
    pub(crate) done: bool,
}

/// What an answer's head is written with.
pub(crate) struct Changes<'a> {
    pub(crate) fields: Option<&'a AnswerFields>,
    pub(crate) vary: bool,
    pub(crate) body: ChangedBody<'a>,
}

/// The body, as its head has to declare it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChangedBody<'a> {
    AsIs,
    /// Its length, where it is coded already.
    Coded(Encoding, Option<usize>),
    /// It would be coded, were it there: the head answers a HEAD request. Its length is not known (RFC 9110 section 8.6).
    CodedElsewhere(Encoding),
    Page(&'a Page),
}

/// What says something about a body that is another one now.
const OF_THE_BODY: [&[u8]; 13] = [
    b"accept-ranges",
    b"content-digest",
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"content-location",
    b"content-md5",
    b"content-range",
    b"content-type",
    b"digest",
    b"etag",
    b"last-modified",
    b"repr-digest",
];

impl<'a> Changes<'a> {
    /// Of the fields alone; `None`: they stay as they are.
    pub(crate) fn of_fields(extras: Option<&'a Extras>) -> Option<Self> {
        let fields = extras?.fields.as_ref()?;
        Some(Self { fields: Some(fields), vary: false, body: ChangedBody::AsIs })
    }

    fn of(dress: &Dress, extras: Option<&'a Extras>, body: ChangedBody<'a>) -> Self {
        Self { fields: extras.and_then(|extras| extras.fields.as_ref()), vary: dress.vary, body }
    }

    /// Whether the instance's field does not reach the client.
    pub(crate) fn drops(&self, name: &[u8], value: &[u8]) -> bool {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        let of_body = match self.body {
            ChangedBody::AsIs => false,
            ChangedBody::Coded(..) | ChangedBody::CodedElsewhere(_) => {
                is(b"accept-ranges") || is(b"etag") && !value.starts_with(b"W/")
            }
            ChangedBody::Page(_) => is(b"trailer") || OF_THE_BODY.iter().any(|one| is(one)),
        };
        of_body || self.fields.is_some_and(|fields| fields.drops(name))
    }

    /// Appends the lines that the instance's head does not have.
    pub(crate) fn write(&self, out: &mut Vec<u8>, head: &ResponseHead<'_, '_>) {
        let dropped = |name| self.fields.is_some_and(|fields| fields.drops(name));
        match self.body {
            ChangedBody::AsIs => {}
            ChangedBody::Page(_) if dropped(b"content-type") => {}
            ChangedBody::Coded(encoding, _) | ChangedBody::CodedElsewhere(encoding) => {
                // Not byte for byte what the instance named so, but the same in meaning (RFC 9110 section 8.8.1).
                let tags = head.values(b"etag").filter(|tag| !tag.starts_with(b"W/") && !dropped(b"etag"));
                for tag in tags {
                    out.extend_from_slice(b"ETag: W/");
                    out.extend_from_slice(tag);
                    out.extend_from_slice(b"\r\n");
                }
                put(out, b"Content-Encoding", encoding.as_str().as_bytes());
            }
            ChangedBody::Page(page) => {
                let line = page.content_type.split(['\r', '\n']).next().unwrap_or_default();
                put(out, b"Content-Type", line.as_bytes());
            }
        }
        if let Some(fields) = self.fields {
            out.extend_from_slice(&fields.lines);
        }
        let covers =
            |value: &[u8]| members(value).any(|one| one == b"*" || one.eq_ignore_ascii_case(b"accept-encoding"));
        if self.vary && (!head.values(b"vary").any(covers) || self.drops(b"vary", b"")) {
            out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
        }
    }

    /// Appends what says where the body ends; `false`: as the instance's head says it.
    pub(crate) fn write_framing(&self, out: &mut Vec<u8>) -> bool {
        let length = match self.body {
            ChangedBody::AsIs => return false,
            ChangedBody::Coded(_, None) => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                return true;
            }
            ChangedBody::CodedElsewhere(_) => return true,
            ChangedBody::Coded(_, Some(length)) => length,
            ChangedBody::Page(page) => page.body.len(),
        };
        out.extend_from_slice(b"Content-Length: ");
        put_number(out, length as u64);
        out.extend_from_slice(b"\r\n");
        true
    }
}

impl Dress {
    /// Whether the instance's body is dropped.
    pub(crate) const fn is_page(&self) -> bool {
        matches!(self.body, NewBody::Page(..))
    }

    /// Whether a whole body is so large that it is coded while it is passed on.
    pub(crate) const fn codes_in_pieces(&self, content_bytes: usize) -> bool {
        matches!(self.body, NewBody::Coded(_)) && content_bytes > WHOLE_BYTES
    }

    /// Appends a whole message. Returns how many bytes of content it has.
    pub(crate) fn write_whole(
        &self,
        out: &mut Vec<u8>,
        (head, whole): (&ResponseHead<'_, '_>, &Whole<'_>),
        extras: Option<&Extras>,
        delivery: &Delivery<'_>,
    ) -> usize {
        let Whole { body, content: content_bytes, .. } = *whole;
        match &self.body {
            NewBody::Page(..) => self.write_page(out, head, extras, delivery),
            NewBody::Coded(encoding) if self.to_head => {
                let changed = ChangedBody::CodedElsewhere(*encoding);
                head.write_changed(out, delivery, Some(&Changes::of(self, extras, changed)));
                0
            }
            NewBody::Coded(encoding) => {
                let coded = code_whole(*encoding, head.body, body, content_bytes);
                // What grows is passed on as it is.
                let smaller = coded.filter(|coded| whole.done && coded.len() < content_bytes);
                let changed = smaller
                    .as_ref()
                    .map_or(ChangedBody::AsIs, |coded| ChangedBody::Coded(*encoding, Some(coded.len())));
                head.write_changed(out, delivery, Some(&Changes::of(self, extras, changed)));
                out.extend_from_slice(smaller.as_deref().unwrap_or(body));
                smaller.map_or(content_bytes, |coded| coded.len())
            }
            NewBody::AsIs => {
                head.write_changed(out, delivery, Some(&Changes::of(self, extras, ChangedBody::AsIs)));
                out.extend_from_slice(body);
                content_bytes
            }
        }
    }

    /// Appends the head of an answer whose body follows piece by piece, and where it is a page that too. Returns how many
    /// bytes of content went out.
    pub(crate) fn write_head(
        &self,
        out: &mut Vec<u8>,
        head: &ResponseHead<'_, '_>,
        extras: Option<&Extras>,
        delivery: &Delivery<'_>,
    ) -> usize {
        let changed = match &self.body {
            NewBody::Page(..) => return self.write_page(out, head, extras, delivery),
            NewBody::Coded(encoding) if self.to_head => ChangedBody::CodedElsewhere(*encoding),
            NewBody::Coded(encoding) => ChangedBody::Coded(*encoding, None),
            NewBody::AsIs => ChangedBody::AsIs,
        };
        head.write_changed(out, delivery, Some(&Changes::of(self, extras, changed)));
        0
    }

    /// What codes the body while it comes; `length` is its declared one. Where that would take too much memory, the body
    /// is none that is coded from now on. Boxed, since few relays have one.
    pub(crate) fn begin_stream(&mut self, length: Option<u64>) -> Option<Box<compress::Stream>> {
        let NewBody::Coded(encoding) = self.body else { return None };
        if self.to_head {
            return None;
        }
        let stream = compress::Stream::begin(encoding, length);
        if stream.is_none() {
            self.body = NewBody::AsIs;
        }
        stream.map(Box::new)
    }

    /// Appends the whole message with the page.
    fn write_page(
        &self,
        out: &mut Vec<u8>,
        head: &ResponseHead<'_, '_>,
        extras: Option<&Extras>,
        delivery: &Delivery<'_>,
    ) -> usize {
        let NewBody::Page(service, place) = &self.body else { return 0 };
        let page = &service.config().answers.error_pages[*place].page;
        head.write_changed(out, delivery, Some(&Changes::of(self, extras, ChangedBody::Page(page))));
        if self.to_head {
            return 0;
        }
        out.extend_from_slice(page.body.as_bytes());
        page.body.len()
    }
}

/// The coded content of a whole body; `None` where it is not as it was declared.
fn code_whole(encoding: Encoding, mut framing: Body, body: &[u8], content_bytes: usize) -> Option<Vec<u8>> {
    let mut coder = Coder::new(encoding, Some(content_bytes as u64));
    let mut made = Vec::with_capacity(content_bytes / 2 + 64);
    framing.advance_with(body, |part| coder.push(part, &mut made)).ok()?;
    coder.finish(&mut made);
    Some(made)
}
