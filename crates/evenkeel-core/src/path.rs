//! The normal form of a request's path, in which routes are found.
//!
//! A path has many spellings, and applications take most of them for one: `//login`, `/%6cogin` and `/a/../login` all lead
//! to `/login`. A route that was found by the bytes as they came would be no lock. So routes are found by a normal form,
//! while the instance gets the bytes that the client sent. It is made so (RFC 3986 section 6.2.2, and what web servers do
//! beyond it):
//!
//! - Percent-encoded bytes are decoded, once. `%2F` and `%3F` stay, in capitals: decoded they would be another path.
//! - Slashes in a row are one.
//! - Segments `.` and `..` are resolved (section 5.2.4). What climbs above the root is refused.
//!
//! An encoded slash separates nothing. Apache answers it with 404 unless it is told otherwise, the routers of frameworks
//! keep it within a segment, and names that have a slash in them are sent so; only nginx, and PHP behind it, take it for a
//! slash. Were it one here, `/open%2Fx` would be led to where `/open` leads, although most applications know no such
//! place. Instances that decode it have to close such paths themselves; `files` and `fastcgi` here never look below a
//! folder for one. Where dots stand beside an encoded slash, or before a semicolon, servers differ on whether they climb:
//! that is refused.
//!
//! Pure, and one look at the path for requests that need none of it.

/// A path that names one place to some servers and another one to others, or a place above the root: what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPath(pub &'static str);

const CLIMBS: BadPath = BadPath("the path climbs above the root");
const DOTS: BadPath = BadPath("the path has dots that climb on some servers only");

/// Whether a target may be spelled otherwise than in its normal form. Looks at the query too, so that the whole is one loop
/// without branches.
#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "without branches, many bytes are compared at a time")]
pub fn is_unusual(target: &[u8]) -> bool {
    let next = target.get(1..).unwrap_or_default();
    let unusual = |(&byte, &next): (&u8, &u8)| (byte == b'%') | ((byte == b'/') & ((next == b'/') | (next == b'.')));
    target.iter().zip(next).fold(false, |found, pair| found | unusual(pair))
}

/// A target without its query.
pub fn without_query(target: &[u8]) -> &[u8] {
    target.split(|&byte| byte == b'?').next().unwrap_or_default()
}

/// Writes the normal form of `path`, which begins with a slash and has no query, into `room`, which is as long as it at
/// least, and returns it.
///
/// # Errors
/// Where it climbs above the root, or on some servers only.
pub fn normalise<'r>(path: &[u8], room: &'r mut [u8]) -> Result<&'r [u8], BadPath> {
    let (mut rest, mut length) = (path, 0);
    while let Some(after) = rest.strip_prefix(b"/") {
        rest = after;
        if rest.first() == Some(&b'/') {
            continue;
        }
        room[length] = b'/';
        let start = length + 1;
        let written;
        (rest, written) = decode_segment(rest, &mut room[start..]);
        length = start + written;
        let segment = &room[start..length];
        // Dots at the end name a folder: what is left of the path keeps its slash.
        let end = |at: usize| if rest.is_empty() { at + 1 } else { at };
        match segment {
            b"." => length = end(start - 1),
            b".." => {
                let parent = room[..start - 1].iter().rposition(|&byte| byte == b'/').ok_or(CLIMBS)?;
                length = end(parent);
            }
            _ if may_be_dots(segment) => return Err(DOTS),
            _ => {}
        }
    }
    Ok(&room[..length])
}

/// The normal form on its own.
///
/// # Errors
/// As [`normalise`].
pub fn normal(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut room = vec![0; path.len()];
    let length = normalise(path, &mut room)?.len();
    room.truncate(length);
    Ok(room)
}

/// What is left of `path` (without query) once `prefix` is taken away, whichever way it is spelled there; the rest stays as
/// it was sent. `None`: it is not the prefix and does not lie below it. Paths with segments of dots are not for this.
pub fn strip_prefix<'p>(path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    let (mut rest, mut prefix) = (path, prefix.strip_suffix(b"/").unwrap_or(prefix));
    while let Some((wanted, wanted_length)) = first(prefix) {
        let (byte, length) = first(rest)?;
        if byte != wanted || byte.is_none() && !rest[..length].eq_ignore_ascii_case(&prefix[..wanted_length]) {
            return None;
        }
        let is_slash = rest[0] == b'/';
        (rest, prefix) = (&rest[length..], &prefix[wanted_length..]);
        while is_slash && rest.first() == Some(&b'/') {
            rest = &rest[1..];
        }
    }
    matches!(rest, [] | [b'/', ..]).then_some(rest)
}

/// Decodes up to the next slash. Returns what follows, and how many bytes were written.
fn decode_segment<'p>(mut rest: &'p [u8], room: &mut [u8]) -> (&'p [u8], usize) {
    let mut written = 0;
    while let Some((byte, length)) = first(rest).filter(|_| rest[0] != b'/') {
        if let Some(byte) = byte {
            room[written] = byte;
            written += 1;
        } else {
            room[written..written + 3].copy_from_slice(&rest[..3]);
            room[written..written + 3].make_ascii_uppercase();
            written += 3;
        }
        rest = &rest[length..];
    }
    (rest, written)
}

/// The first byte, decoded, and how many it takes; no byte where it has to stay encoded. A percent sign without two
/// hexadecimal digits stands for itself.
fn first(path: &[u8]) -> Option<(Option<u8>, usize)> {
    let &byte = path.first()?;
    let digit = |at: usize| path.get(at).and_then(|&digit| char::from(digit).to_digit(16));
    let (b'%', Some(high), Some(low)) = (byte, digit(1), digit(2)) else { return Some((Some(byte), 1)) };
    let byte = u8::try_from(high * 16 + low).expect("two digits make a byte");
    Some(((!matches!(byte, b'/' | b'?')).then_some(byte), 3))
}

/// Whether some servers take a part of a decoded segment for `.` or `..`: those that take an encoded slash for a slash, or
/// drop what follows a semicolon.
fn may_be_dots(segment: &[u8]) -> bool {
    let mut rest = segment;
    loop {
        let slash = rest.windows(3).position(|three| three == b"%2F");
        let part = &rest[..slash.unwrap_or(rest.len())];
        let name = part.split(|&byte| byte == b';').next().unwrap_or_default();
        if matches!(name, b"." | b"..") {
            return true;
        }
        let Some(slash) = slash else { return false };
        rest = &rest[slash + 3..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(path: &str) -> Result<String, BadPath> {
        normal(path.as_bytes()).map(|path| String::from_utf8_lossy(&path).into_owned())
    }

    #[test]
    fn one_place_has_one_form() {
        for (path, normal) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("//", "/"),
            ("//a", "/a"),
            ("///a////b//", "/a/b/"),
            ("/%61", "/a"),
            ("/%7Ea%2dB", "/~a-B"),
            ("/caf%c3%a9", "/café"),
            ("/%40x%3a%3B", "/@x:;"),
            // Once.
            ("/%2561", "/%61"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%3fb", "/a%3Fb"),
            ("/%", "/%"),
            ("/%6", "/%6"),
            ("/%zz%6", "/%zz%6"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../../c", "/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a//../b", "/b"),
            ("/...", "/..."),
            ("/.a/..b/c..", "/.a/..b/c.."),
            ("/a;b=1/c", "/a;b=1/c"),
            ("/.well-known/x", "/.well-known/x"),
            ("/x%2F.y", "/x%2F.y"),
        ] {
            assert_eq!(of(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn what_climbs_is_refused() {
        for bad in ["/..", "/../", "/../a", "/a/../..", "/%2e%2e/a", "//..", "/./..", "/a/../../b"] {
            assert_eq!(of(bad), Err(CLIMBS), "{bad}");
        }
        for bad in ["/a/..%2fb", "/a%2F..", "/a%2f%2e%2e%2fb", "/a/..;/b", "/a/..;x=1", "/a/..%3bx", "/.;/a", "/.%2Fa"]
        {
            assert_eq!(of(bad), Err(DOTS), "{bad}");
        }
    }

    #[test]
    fn ordinary_paths_are_known_at_a_look() {
        for usual in ["", "/", "/a", "/a/b.c/d-e_f~g;h@i", "/a/b?c=d", "*"] {
            assert!(!is_unusual(usual.as_bytes()), "{usual}");
        }
        for unusual in ["//", "/./a", "/a/..", "/%61", "/a?b=%20", "/.well-known/"] {
            assert!(is_unusual(unusual.as_bytes()), "{unusual}");
        }
    }

    #[test]
    fn a_prefix_is_found_whichever_way_it_is_spelled() {
        let rest = |path: &'static str, prefix: &str| {
            strip_prefix(path.as_bytes(), prefix.as_bytes()).map(|rest| std::str::from_utf8(rest).expect("it is ASCII"))
        };
        for (path, left) in [
            ("/api/v1/x%20y", "/x%20y"),
            ("//api///v1//x", "//x"),
            ("/%61pi/%76%31", ""),
            ("/api/v1/%78", "/%78"),
            ("/api/v1/", "/"),
        ] {
            assert_eq!(rest(path, "/api/v1"), Some(left), "{path}");
            assert_eq!(rest(path, "/api/v1/"), Some(left), "{path}");
        }
        assert_eq!(rest("/Api%2fx/y", "/%41pi%2Fx"), Some("/y"));
        for other in ["/api/v12", "/api%2Fv1", "/api", "/", "/api/v1%2Fx"] {
            assert_eq!(rest(other, "/api/v1"), None, "{other}");
        }
    }

    proptest! {
        /// A normal form begins with a slash, has no empty segments and no dots, and is its own normal form where nothing
        /// in it could be decoded a second time.
        #[test]
        fn a_normal_form_is_one(path in "/(/|\\.|\\.\\.|%2e|%2f|%3F|a|%61|%25|%|;|b){0,12}") {
            if let Ok(form) = of(&path) {
                prop_assert!(form.starts_with('/') && !form.contains("//") && form.len() <= path.len());
                prop_assert!(form.split('/').all(|segment| !matches!(segment, "." | "..")));
                if !form.replace("%2F", "").replace("%3F", "").contains('%') {
                    prop_assert_eq!(of(&form), Ok(form));
                }
            }
            if !is_unusual(path.as_bytes()) {
                prop_assert_eq!(of(&path), Ok(path));
            }
        }
    }
}
