//! Which content codings a client accepts (RFC 9110 section 12.5.3).

use evenkeel_core::snapshot::Encoding;

use crate::http::fields::members;

/// Weights in thousandths of the codings that the edge knows; 0: not acceptable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    zstd: u16,
    br: u16,
    gzip: u16,
    /// Of an answer as it is; 0 where it is not named, since then any coding that is acceptable is liked better.
    identity: u16,
}

impl Accepts {
    /// What the values of all `Accept-Encoding` fields say. A member that is malformed counts as not acceptable.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut zstd, mut br, mut gzip, mut identity, mut others) = (None, None, None, None, 0);
        for member in values.flat_map(members) {
            let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let coding = parts.next().unwrap_or_default();
            let weight = match (parts.next(), parts.next()) {
                (None, _) => 1000,
                (Some(weight), None) => thousandths(weight).unwrap_or(0),
                _ => 0,
            };
            let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
            if is(b"gzip") || is(b"x-gzip") {
                gzip = Some(weight);
            } else if is(b"br") {
                br = Some(weight);
            } else if is(b"zstd") {
                zstd = Some(weight);
            } else if is(b"identity") {
                identity = Some(weight);
            } else if coding == b"*" {
                others = weight;
            }
        }
        Self {
            zstd: zstd.unwrap_or(others),
            br: br.unwrap_or(others),
            gzip: gzip.unwrap_or(others),
            identity: identity.unwrap_or(0),
        }
    }

    /// The one that the client likes best; among equals the first of `ours`. `None`: the answer stays as it is.
    pub fn best(self, ours: &[Encoding]) -> Option<Encoding> {
        let mut best = None;
        let mut most = self.identity.max(1) - 1;
        for &one in ours {
            let weight = self.weight(one);
            if weight > most {
                (best, most) = (Some(one), weight);
            }
        }
        best.filter(|_| most >= self.identity)
    }

    const fn weight(self, encoding: Encoding) -> u16 {
        match encoding {
            Encoding::Zstd => self.zstd,
            Encoding::Br => self.br,
            Encoding::Gzip => self.gzip,
        }
    }
}

/// `q=0.5` as 500 (RFC 9110 section 12.4.2).
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, digits) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut number = u16::from(whole - b'0');
    for place in 0..3 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        number = number * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    (number <= 1000).then_some(number)
}

#[cfg(test)]
mod tests {
    use Encoding::{Br, Gzip, Zstd};

    use super::*;

    fn best(values: &[&str]) -> Option<Encoding> {
        Accepts::parse(values.iter().map(|value| value.as_bytes())).best(&[Zstd, Br, Gzip])
    }

    #[test]
    fn the_client_chooses_and_among_equals_the_order_of_the_stack() {
        for (values, chosen) in [
            (&["gzip, deflate, br, zstd"][..], Some(Zstd)),
            (&["gzip, br"], Some(Br)),
            (&["GZIP"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["br;q=0.5, gzip;q=0.8"], Some(Gzip)),
            (&["br;q=0.5", "gzip ; q=1.000"], Some(Gzip)),
            (&["*"], Some(Zstd)),
            (&["*;q=0.1, gzip;q=0.2"], Some(Gzip)),
            (&["gzip;q=0, *"], Some(Zstd)),
            (&["zstd;q=0, br;q=0, *;q=0.3"], Some(Gzip)),
            (&["identity;q=0, gzip"], Some(Gzip)),
            (&["identity;q=0.5, gzip;q=0.5"], Some(Gzip)),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0"], None),
            (&["*;q=0"], None),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000"], None),
            (&[""], None),
            (&[], None),
            (&["deflate, compress"], None),
            (&["gzip;q=2"], None),
            (&["gzip;q=1.001"], None),
            (&["gzip;q=-1"], None),
            (&["gzip;q=0.0001"], None),
            (&["gzip;level=9"], None),
            (&["gzip;q=1;x=y"], None),
            (&["gzip\u{e9}"], None),
        ] {
            assert_eq!(best(values), chosen, "{values:?}");
        }
    }
}
