//! Whose request it is, behind a proxy that is trusted.
//!
//! A trusted peer stands for many clients, and names them in `X-Forwarded-For`: each proxy appends whom it saw. So the
//! last address that is not trusted itself is the client; what stands before it is the client's own word. What is not
//! an address ends the search. Nothing is kept.

use std::net::{IpAddr, SocketAddr};

use super::{client::Client, head_request::RequestHead};

/// The address of the client: of the connection, or as trusted peers say it.
pub(crate) fn of(client: &Client, head: &RequestHead<'_, '_>) -> IpAddr {
    if !client.place.trusted {
        return client.address;
    }
    let listener = client.place.listener();
    named(head.values(b"x-forwarded-for").rev(), |address| listener.trusts(address)).unwrap_or(client.address)
}

/// The last address that is not trusted, or the first one where all are. `values` begin with the last field.
pub(crate) fn named<'b>(values: impl Iterator<Item = &'b [u8]>, trusts: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut farthest = None;
    for member in
        values.flat_map(|value| value.rsplit(|&byte| byte == b',')).filter(|member| !member.trim_ascii().is_empty())
    {
        let Some(address) = parse(member.trim_ascii()) else { break };
        farthest = Some(address);
        if !trusts(address) {
            break;
        }
    }
    farthest
}

/// An address, with a port or without.
fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(fields: &[&str]) -> Option<String> {
        let values = fields.iter().rev().map(|field| field.as_bytes());
        named(values, |address| address.to_string().starts_with("10.")).map(|address| address.to_string())
    }

    #[test]
    fn the_last_one_that_is_not_trusted() {
        assert_eq!(client(&["192.0.2.1, 198.51.100.7, 10.0.0.3"]).as_deref(), Some("198.51.100.7"));
        assert_eq!(client(&["192.0.2.1", "198.51.100.7:4711,10.0.0.3 , "]).as_deref(), Some("198.51.100.7"));
        assert_eq!(client(&["10.0.0.4, 10.0.0.3"]).as_deref(), Some("10.0.0.4"));
        assert_eq!(client(&["[2001:db8::1]:80"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(client(&["[2001:db8::1]"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(client(&["::ffff:192.0.2.9"]).as_deref(), Some("192.0.2.9"));
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        assert_eq!(client(&["192.0.2.1, unknown, 10.0.0.3"]).as_deref(), Some("10.0.0.3"));
        assert_eq!(client(&["unknown"]), None);
        assert_eq!(client(&["", ",,"]), None);
        assert_eq!(client(&[]), None);
    }
}
