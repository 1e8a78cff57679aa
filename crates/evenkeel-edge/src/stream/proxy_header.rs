//! PROXY headers, read and written: who the client is, said by a proxy in front of the bytes of its connection
//! (HAProxy's `proxy-protocol.txt`, versions 1 and 2).
//!
//! Reading is strict and bounded: a header is whole, incomplete or malformed, nothing behind it is looked at, and one
//! that claims more than [`MOST_BYTES`] is malformed before it has arrived. A checksum is verified where there is one.
//! Whether anybody is believed is decided elsewhere: only connections of trusted networks are read here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use evenkeel_core::snapshot::ProxyHeader;

/// The longest header of version 1, with the end of its line (section 2.1).
const V1_BYTES: usize = 107;
/// What version 2 begins with (section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Length of the fixed part of version 2.
const FIXED_BYTES: usize = 16;
/// Most bytes of additional values (TLVs) behind the addresses.
const TLV_BYTES: usize = 4 << 10;
/// The longest addresses, those of Unix sockets.
const UNIX_BYTES: usize = 216;
/// The longest header that is understood.
pub const MOST_BYTES: usize = FIXED_BYTES + UNIX_BYTES + TLV_BYTES;
/// `PP2_TYPE_CRC32C`: a checksum of the whole header.
const CHECKSUM: u8 = 0x03;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length in bytes: the client's own bytes begin there.
    pub length: usize,
    /// What it says.
    pub says: Says,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// The connection is one of this client.
    Client {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// The connection is the proxy's own, as for its check (`LOCAL`).
    Own,
    /// It is somebody's of whom nothing is said, or nothing that could be an address here (`UNKNOWN`, `AF_UNSPEC`, Unix
    /// sockets).
    Nothing,
}

/// A header that is none, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// The bytes begin with something else.
pub const MISSING: Malformed = Malformed("a connection without a PROXY header");

/// Reads the header at the beginning of `input`; `None`: it is not complete.
pub fn parse(input: &[u8]) -> Result<Option<Header>, Malformed> {
    match input.first() {
        None => Ok(None),
        Some(b'P') => parse_text(input),
        Some(b'\r') => parse_binary(input),
        Some(_) => Err(MISSING),
    }
}

/// Writes the header that names this client.
pub fn write(version: ProxyHeader, source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let both = (source.ip().to_canonical(), destination.ip().to_canonical());
    match version {
        ProxyHeader::V1 => {
            let (family, (from, to)) = match both {
                (IpAddr::V4(from), IpAddr::V4(to)) => ("TCP4", (IpAddr::V4(from), IpAddr::V4(to))),
                (from, to) => ("TCP6", (IpAddr::V6(six(from)), IpAddr::V6(six(to)))),
            };
            let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
            out.extend_from_slice(line.as_bytes());
        }
        ProxyHeader::V2 => {
            out.extend_from_slice(&SIGNATURE);
            // Version 2, PROXY; then family and transport.
            match both {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    out.extend_from_slice(&[0x21, 0x11, 0, 12]);
                    out.extend_from_slice(&from.octets());
                    out.extend_from_slice(&to.octets());
                }
                (from, to) => {
                    out.extend_from_slice(&[0x21, 0x21, 0, 36]);
                    out.extend_from_slice(&six(from).octets());
                    out.extend_from_slice(&six(to).octets());
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
        }
    }
}

/// The header of a connection of our own, as of a probe: it names nobody.
pub fn own(version: ProxyHeader) -> &'static [u8] {
    match version {
        ProxyHeader::V1 => b"PROXY UNKNOWN\r\n",
        ProxyHeader::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    }
}

fn six(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(four) => four.to_ipv6_mapped(),
        IpAddr::V6(six) => six,
    }
}

/// Version 1: a line (section 2.1).
fn parse_text(input: &[u8]) -> Result<Option<Header>, Malformed> {
    const BEGIN: &[u8] = b"PROXY ";
    if !input.starts_with(BEGIN) {
        let may_become = BEGIN.starts_with(input);
        return if may_become { Ok(None) } else { Err(MISSING) };
    }
    let within = &input[..input.len().min(V1_BYTES)];
    let Some(end) = within.iter().position(|&byte| byte == b'\n') else {
        let full = within.len() == V1_BYTES;
        return if full { Err(Malformed("a PROXY header without an end")) } else { Ok(None) };
    };
    let line = within[BEGIN.len()..end].strip_suffix(b"\r").ok_or(Malformed("a PROXY header without CRLF"))?;
    let line = std::str::from_utf8(line).ok().filter(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    let line = line.ok_or(Malformed("a PROXY header that is no text"))?;
    let says = said_in_text(line).ok_or(Malformed("a PROXY header that names no addresses"))?;
    Ok(Some(Header { length: end + 1, says }))
}

/// What a line says behind `PROXY `.
fn said_in_text(line: &str) -> Option<Says> {
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(Says::Nothing);
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    let (from, to) = (words.next()?, words.next()?);
    let (from, to): (IpAddr, IpAddr) = match family {
        "TCP4" => (from.parse::<Ipv4Addr>().ok()?.into(), to.parse::<Ipv4Addr>().ok()?.into()),
        "TCP6" => (from.parse::<Ipv6Addr>().ok()?.into(), to.parse::<Ipv6Addr>().ok()?.into()),
        _ => return None,
    };
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    let whole = words.next().is_none();
    let (source, destination) = (SocketAddr::new(from, from_port), SocketAddr::new(to, to_port));
    whole.then_some(Says::Client { source, destination })
}

/// A number without sign and without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Version 2: binary (section 2.2).
fn parse_binary(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let begun = &input[..input.len().min(SIGNATURE.len())];
    if !SIGNATURE.starts_with(begun) {
        return Err(MISSING);
    }
    let Some(fixed) = input.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let &[.., command, family, high, low] = fixed;
    let own = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("a PROXY header of another version, or with a command that it does not have")),
    };
    let address_bytes = match (family >> 4, family & 15) {
        (0, 0..=2) => 0,
        (1, 0..=2) => 12,
        (2, 0..=2) => 36,
        (3, 0..=2) => UNIX_BYTES,
        _ => return Err(Malformed("a PROXY header of a family that it does not have")),
    };
    let rest_bytes = usize::from(u16::from_be_bytes([high, low]));
    if rest_bytes > address_bytes + TLV_BYTES {
        return Err(Malformed("a PROXY header that is too long"));
    }
    let length = FIXED_BYTES + rest_bytes;
    let Some(header) = input.get(..length) else { return Ok(None) };
    if own {
        return Ok(Some(Header { length, says: Says::Own }));
    }
    let Some((addresses, values)) = header[FIXED_BYTES..].split_at_checked(address_bytes) else {
        return Err(Malformed("a PROXY header without room for its addresses"));
    };
    // Without a family nothing is known of what follows.
    if address_bytes > 0 {
        check_values(header, values)?;
    }
    Ok(Some(Header { length, says: said_in_binary(family, addresses) }))
}

fn said_in_binary(family: u8, addresses: &[u8]) -> Says {
    let port = |bytes: [u8; 2]| u16::from_be_bytes(bytes);
    let client = |from: IpAddr, to: IpAddr, ports: [u8; 4]| Says::Client {
        source: SocketAddr::new(from, port([ports[0], ports[1]])),
        destination: SocketAddr::new(to, port([ports[2], ports[3]])),
    };
    match (family, addresses.len()) {
        (0x11, 12) => {
            let (mut from, mut to, mut ports) = ([0; 4], [0; 4], [0; 4]);
            from.copy_from_slice(&addresses[..4]);
            to.copy_from_slice(&addresses[4..8]);
            ports.copy_from_slice(&addresses[8..]);
            client(from.into(), to.into(), ports)
        }
        (0x21, 36) => {
            let (mut from, mut to, mut ports) = ([0; 16], [0; 16], [0; 4]);
            from.copy_from_slice(&addresses[..16]);
            to.copy_from_slice(&addresses[16..32]);
            ports.copy_from_slice(&addresses[32..]);
            client(from.into(), to.into(), ports)
        }
        _ => Says::Nothing,
    }
}

/// Additional values fill the rest exactly; of a checksum the whole header must be right (section 2.2.3).
fn check_values(header: &[u8], values: &[u8]) -> Result<(), Malformed> {
    const BAD: Malformed = Malformed("a PROXY header whose additional values do not fit");
    let mut rest = values;
    while !rest.is_empty() {
        let (&[kind, high, low], behind) = rest.split_first_chunk::<3>().ok_or(BAD)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, next) = behind.split_at_checked(length).ok_or(BAD)?;
        if kind == CHECKSUM {
            let said = value.first_chunk::<4>().filter(|_| length == 4).ok_or(BAD)?;
            let at = header.len() - behind.len();
            let bytes = header[..at].iter().chain(&[0; 4]).chain(&header[at + 4..]);
            if crc32c(bytes.copied()) != u32::from_be_bytes(*said) {
                return Err(Malformed("a PROXY header whose checksum is wrong"));
            }
        }
        rest = next;
    }
    Ok(())
}

/// The checksum of Castagnoli (RFC 9260 appendix A), bit by bit: headers are short and few have one.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 })
    };
    !bytes.fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(input: &[u8]) -> Says {
        let header = parse(input).expect("understood").expect("complete");
        assert_eq!(header.length, input.len());
        header.says
    }

    fn client(source: &str, destination: &str) -> Says {
        Says::Client { source: source.parse().expect("valid"), destination: destination.parse().expect("valid") }
    }

    #[test]
    fn lines_of_version_1() {
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
            ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n";
        assert_eq!(says(b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 80\r\n"), client("192.0.2.1:4711", "198.51.100.2:80"));
        assert!(matches!(says(longest.as_bytes()), Says::Client { .. }));
        assert_eq!(says(b"PROXY TCP6 2001:db8::1 ::1 1 0\r\n"), client("[2001:db8::1]:1", "[::1]:0"));
        assert_eq!(says(b"PROXY UNKNOWN\r\n"), Says::Nothing);
        assert_eq!(says(b"PROXY UNKNOWN ffff::1 whatever\r\n"), Says::Nothing);
        for bad in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711 80\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 4711 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711 80 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 04711 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +4711 80\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 4711 80\r\n",
            "PROXY TCP4 192.0.2.1 4711 80\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 4711 80\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 4711 80\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN \0\r\n",
            "PROXY \r\n",
            "proxy TCP4 192.0.2.1 198.51.100.2 4711 80\r\n",
            "POST / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 93]].concat();
        assert_eq!(parse(&endless[..106]), Ok(None));
        assert!(parse(&endless).is_err(), "107 bytes without an end");
    }

    #[test]
    fn headers_of_version_2() {
        let four =
            [SIGNATURE.as_slice(), &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 0, 80]].concat();
        assert_eq!(says(&four), client("192.0.2.1:4711", "198.51.100.2:80"));
        let with = |command: u8, family: u8, rest: &[u8]| {
            let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
            [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
        };
        assert_eq!(says(&with(0x20, 0, b"")), Says::Own);
        assert_eq!(says(&with(0x20, 0x11, &[7; 20])), Says::Own, "whatever stands there");
        assert_eq!(says(&with(0x21, 0, b"anything")), Says::Nothing);
        assert_eq!(says(&with(0x21, 0x31, &[0; 216])), Says::Nothing);
        assert_eq!(says(&with(0x21, 0x12, &[0; 12])), Says::Nothing, "datagrams are no stream");
        let values = [&four[16..], &[0x04, 0, 2, 0, 0, 0xe0, 0, 0]].concat();
        assert_eq!(says(&with(0x21, 0x11, &values)), client("192.0.2.1:4711", "198.51.100.2:80"));
        for bad in [
            with(0x11, 0x11, &[0; 12]),
            with(0x22, 0x11, &[0; 12]),
            with(0x21, 0x41, &[0; 12]),
            with(0x21, 0x13, &[0; 12]),
            with(0x21, 0x11, &[0; 11]),
            with(0x21, 0x11, &[0; 14]),
            with(0x21, 0x11, &[&[0; 12][..], &[4, 0, 2, 0]].concat()),
            with(0x21, 0x11, &[0; 12 + 4097]),
            b"\r\n\r\nGET / HTTP/1.1\r\n".to_vec(),
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        let too_long = [SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat();
        assert!(parse(&too_long).is_err(), "refused before it has arrived");
    }

    #[test]
    fn a_checksum_must_be_right() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        let mut header = SIGNATURE.to_vec();
        header.extend_from_slice(&[0x21, 0x11, 0, 24, 192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 0, 80]);
        header.extend_from_slice(&[CHECKSUM, 0, 4, 0, 0, 0, 0]);
        header.extend_from_slice(&[0x04, 0, 2, 9, 9]);
        let right = crc32c(header.iter().copied()).to_be_bytes();
        header[31..35].copy_from_slice(&right);
        assert_eq!(says(&header), client("192.0.2.1:4711", "198.51.100.2:80"));
        for place in [16, 20, 33, header.len() - 1] {
            let mut wrong = header.clone();
            wrong[place] ^= 1;
            assert!(parse(&wrong).is_err(), "byte {place} was changed");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let pairs = [
            ("192.0.2.1:1", "198.51.100.2:80", "192.0.2.1:1", "198.51.100.2:80"),
            ("[2001:db8::1]:1", "[::1]:2", "[2001:db8::1]:1", "[::1]:2"),
            ("[::ffff:192.0.2.1]:1", "198.51.100.2:80", "192.0.2.1:1", "198.51.100.2:80"),
            ("192.0.2.1:1", "[::1]:2", "[::ffff:192.0.2.1]:1", "[::1]:2"),
        ];
        for version in [ProxyHeader::V1, ProxyHeader::V2] {
            for (from, to, source, destination) in pairs {
                let mut out = Vec::new();
                write(version, from.parse().expect("valid"), to.parse().expect("valid"), &mut out);
                assert_eq!(says(&out), client(source, destination));
                for end in 0..out.len() {
                    assert_eq!(parse(&out[..end]), Ok(None), "{version:?} cut at {end}");
                }
            }
        }
        assert_eq!(says(own(ProxyHeader::V1)), Says::Nothing);
        assert_eq!(says(own(ProxyHeader::V2)), Says::Own);
    }
}
