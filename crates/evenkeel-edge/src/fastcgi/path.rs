//! From a request's path to the script that answers it. Pure; the file system is not asked, since it may be another
//! machine's.
//!
//! The path is decoded once (RFC 3986 section 2.1). Segments of dots are refused, since clients resolve them before they
//! send (section 5.2.4). Whatever the bytes, the script is below the root. The first segment with the ending of scripts is
//! one, and what follows it is `PATH_INFO` (RFC 3875 section 4.1.5). A path that names none leads to the index: of its
//! folder where the folder has one of its own, else of the root, as front controllers want it. An encoded slash separates
//! nothing up to the script, as where routes are found ([`evenkeel_core::path`]): a script below another route stays there.

use evenkeel_core::snapshot::FastCgi;

/// Which script, as parameters say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// `SCRIPT_NAME`: path of the script below the root.
    pub name: Vec<u8>,
    /// `PATH_INFO`: what follows it; empty or from a slash on.
    pub info: Vec<u8>,
}

/// A path that cannot lead to a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPath(pub &'static str);

/// The script for a path without its query.
pub fn script(path: &[u8], config: &FastCgi) -> Result<Script, BadPath> {
    let decoded = decode(path)?;
    if decoded.split(|&byte| byte == b'/').any(|segment| matches!(segment, b"." | b"..")) {
        return Err(BadPath("a segment of dots in the path"));
    }
    let segments = segments(path)?;
    let ending = config.ending.as_bytes();
    let is_script = |segment: &Vec<u8>| segment.len() > ending.len() && segment.ends_with(ending);
    let is_plain = |segment: &&Vec<u8>| !segment.contains(&b'/');
    let is_folder = path.ends_with(b"/");
    if let Some(at) = segments.iter().take_while(is_plain).position(is_script) {
        let mut info = joined(&segments[at + 1..]);
        if is_folder {
            info.push(b'/');
        }
        return Ok(Script { name: joined(&segments[..=at]), info });
    }
    let mut folder = joined(&segments);
    folder.push(b'/');
    let all_plain = segments.iter().all(|segment| is_plain(&segment));
    let has_own = is_folder && all_plain && config.folders.iter().any(|own| own.as_bytes() == folder);
    let mut name = if has_own { folder } else { b"/".to_vec() };
    name.extend_from_slice(config.index.as_bytes());
    Ok(Script { name, info: Vec::new() })
}

/// `/a/b` of `a` and `b`; nothing of none.
fn joined(segments: &[Vec<u8>]) -> Vec<u8> {
    segments.iter().flat_map(|segment| [b"/", segment.as_slice()]).flatten().copied().collect()
}

fn decode(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let (mut decoded, mut rest) = (Vec::with_capacity(path.len()), path);
    while let Some((&byte, after)) = rest.split_first() {
        let byte = if byte == b'%' {
            let digit = |at: usize| after.get(at).and_then(|&digit| char::from(digit).to_digit(16));
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(BadPath("a percent sign without two hexadecimal digits"));
            };
            rest = &after[2..];
            u8::try_from(high * 16 + low).expect("two digits make a byte")
        } else {
            rest = after;
            byte
        };
        if byte < 0x20 || byte == 0x7f {
            return Err(BadPath("a control character in the path"));
        }
        decoded.push(byte);
    }
    Ok(decoded)
}

/// Segments, decoded, without empty ones.
fn segments(path: &[u8]) -> Result<Vec<Vec<u8>>, BadPath> {
    path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()).map(decode).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> FastCgi {
        FastCgi {
            root: "/srv/www".to_owned(),
            index: "index.php".to_owned(),
            ending: ".php".to_owned(),
            folders: vec!["/wp-admin/".to_owned()],
            params: Vec::new(),
        }
    }

    fn of(path: &str) -> Result<(String, String), BadPath> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        script(path.as_bytes(), &config()).map(|script| (text(&script.name), text(&script.info)))
    }

    #[test]
    fn paths_lead_to_scripts() {
        for (path, name, info) in [
            ("/", "/index.php", ""),
            ("*", "/index.php", ""),
            ("/a.php", "/a.php", ""),
            ("/a.php/", "/a.php", "/"),
            ("/x/a.php/b/c", "/x/a.php", "/b/c"),
            ("/x/a.php/b.php/", "/x/a.php", "/b.php/"),
            ("/blog/2026/post/", "/index.php", ""),
            ("/blog/2026/post", "/index.php", ""),
            ("/wp-admin/", "/wp-admin/index.php", ""),
            ("//wp-admin//", "/wp-admin/index.php", ""),
            ("/wp-admin", "/index.php", ""),
            ("/x/a%2Ephp", "/x/a.php", ""),
            ("/...php", "/...php", ""),
            ("/.php", "/index.php", ""),
            ("/a.PHP", "/index.php", ""),
            ("/caf%c3%a9.php", "/café.php", ""),
            ("/a.php/x%2Fy", "/a.php", "/x/y"),
            ("/wp-admin%2Fa.php", "/index.php", ""),
            ("/x%2Fy/a.php", "/index.php", ""),
            ("/wp-admin%2F", "/index.php", ""),
            ("/wp-admin%2F/", "/index.php", ""),
            ("/image.jpg/a.php", "/image.jpg/a.php", ""),
        ] {
            assert_eq!(of(path), Ok((name.to_owned(), info.to_owned())), "{path}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        for bad in [
            "/..",
            "/../etc/passwd",
            "/a/../../b.php",
            "/a/../b.php",
            "/a/%2e%2e%2fb.php",
            "/./b.php",
            "/a/%2e",
            "/a.php/x%2F..%2Fy",
            "/%2e%2e/a.php",
            "/a.php/../../..",
            "/%2e./x",
            "/a%00.php",
            "/a%",
            "/a%0g",
            "/%0a",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(of("/%252e%252e/a.php"), Ok(("/%2e%2e/a.php".to_owned(), String::new())), "decoded once");
    }

    proptest! {
        #[test]
        fn a_script_is_below_the_root(path in "(/|\\.|\\.\\.|%2e|%2f|a|\\.php|%25|%|\\x00|b){0,12}") {
            if let Ok(script) = script(path.as_bytes(), &config()) {
                let segments: Vec<&[u8]> = script.name.split(|&byte| byte == b'/').skip(1).collect();
                prop_assert!(script.name.starts_with(b"/") && script.name.ends_with(b".php"));
                prop_assert!(segments.iter().all(|segment| !matches!(*segment, b"" | b"." | b"..")));
                prop_assert!(script.info.is_empty() || script.info.starts_with(b"/"));
                prop_assert!(script.info.split(|&byte| byte == b'/').all(|segment| segment != b".."));
            }
        }
    }
}
