//! A client's address as text, made when it is needed, without an allocation.
//!
//! An idle connection does not keep it. Addresses of version 4, which is most of them, are written digit by digit: the
//! general way of formatting costs more than everything else that is said about the client.

use std::{io::Write, net::IpAddr};

/// The longest textual address, one of version 6 with a mapped one of version 4 in it.
const LONGEST: usize = 45;

/// The text.
pub(crate) struct AddressText {
    bytes: [u8; ROOM],
    length: usize,
}

/// A power of two, so that no place is ever outside.
const ROOM: usize = LONGEST.next_power_of_two();

impl AddressText {
    /// Writes it.
    pub(crate) fn new(address: IpAddr) -> Self {
        let mut text = Self { bytes: [0; ROOM], length: 0 };
        match address {
            IpAddr::V4(address) => {
                for (place, octet) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        text.push(b'.');
                    }
                    if octet >= 100 {
                        text.push(b'0' + octet / 100);
                    }
                    if octet >= 10 {
                        text.push(b'0' + octet / 10 % 10);
                    }
                    text.push(b'0' + octet % 10);
                }
            }
            IpAddr::V6(_) => text.format(address),
        }
        text
    }

    #[cold]
    fn format(&mut self, address: IpAddr) {
        let mut rest = &mut self.bytes[..];
        write!(rest, "{address}").expect("the longest textual address has 45 bytes");
        self.length = ROOM - rest.len();
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length % ROOM] = byte;
        self.length += 1;
    }

    /// The text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_standard_library_writes() {
        let long = "1111:2222:3333:4444:5555:6666:255.255.255.255";
        for text in ["0.0.0.0", "1.20.100.255", "127.0.0.1", "199.9.99.10", "::1", "2001:db8::ffff:1:2", long] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(AddressText::new(address).as_bytes(), address.to_string().as_bytes());
        }
    }
}
