//! Values of header fields with placeholders: `{client}`, `{host}`, `{path}`, `{id}`.
//!
//! A placeholder is a word of lower-case letters in braces; every other brace is text, so that JSON may stand in a
//! value. What a word stands for is known only to whoever has the request.

/// A part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// As it stands.
    Text(&'a str),
    /// The client's address.
    Client,
    /// The host that the client asked for, without port.
    Host,
    /// The path that the client asked for, without query.
    Path,
    /// The request's identity.
    Id,
    /// A word that stands for nothing; the stack file's validation refuses it.
    Unknown(&'a str),
}

/// The parts of a value, in order.
pub fn parts(value: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(word) = word(rest) {
            rest = &rest[word.len() + 2..];
            return Some(match word {
                "client" => Part::Client,
                "host" => Part::Host,
                "path" => Part::Path,
                "id" => Part::Id,
                _ => Part::Unknown(word),
            });
        }
        let next = rest.char_indices().skip(1).find(|(at, _)| word(&rest[*at..]).is_some());
        let (text, more) = rest.split_at(next.map_or(rest.len(), |(at, _)| at));
        rest = more;
        Some(Part::Text(text))
    })
}

/// The word in braces at the beginning.
fn word(text: &str) -> Option<&str> {
    let (word, _) = text.strip_prefix('{')?.split_once('}')?;
    (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_braces_are_placeholders_and_other_braces_are_text() {
        let all = |value| parts(value).collect::<Vec<_>>();
        assert_eq!(
            all("a {client}{id}/{path}{host}."),
            [Part::Text("a "), Part::Client, Part::Id, Part::Text("/"), Part::Path, Part::Host, Part::Text(".")]
        );
        let json = "{\"group\":\"x\",\"max_age\":1}";
        assert_eq!(all(json), [Part::Text(json)]);
        assert_eq!(all("{uri}{"), [Part::Unknown("uri"), Part::Text("{")]);
        assert_eq!(all("{{host}}"), [Part::Text("{"), Part::Host, Part::Text("}")]);
        assert!(all("").is_empty());
    }
}
