//! The pieces of a packet: fixed-width numbers, strings, lists and optional values.
//!
//! [`Writer`] appends to a buffer of its own; [`Reader`] borrows the packet and advances. Neither knows a message.
//! The only bound that a writer checks is the packet's size, at the end.

use thiserror::Error;

/// Why bytes are no message, or a message no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The packet ends within a field.
    #[error("the packet ends within a field")]
    Short,
    /// There are bytes after the last field.
    #[error("{bytes} bytes follow the last field")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The other side speaks another version.
    #[error("the packet is of version {got}")]
    Version {
        /// Its version.
        got: u8,
    },
    /// Nothing has this tag.
    #[error("there is no message, option or status with tag {tag}")]
    Tag {
        /// The tag.
        tag: u8,
    },
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// More descriptors came with the packet than any message has.
    #[error("more than one descriptor came with the packet")]
    Descriptors,
    /// More than [`MAX_PACKET_BYTES`](super::MAX_PACKET_BYTES).
    #[error("the message is {bytes} bytes long, more than fit into a packet")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// Builds a packet.
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(version: u8) -> Self {
        Self { bytes: vec![version] }
    }

    pub(super) fn finish(self, max_bytes: usize) -> Result<Vec<u8>, Malformed> {
        // A length that `length` had to cut would need far more content than any packet holds.
        if self.bytes.len() > max_bytes {
            return Err(Malformed::TooLarge { bytes: self.bytes.len() });
        }
        Ok(self.bytes)
    }

    pub(super) fn byte(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn string(&mut self, value: &str) -> &mut Self {
        self.length(value.len()).raw(value.as_bytes())
    }

    pub(super) fn list<T>(&mut self, items: &[T], item: impl Fn(&mut Self, &T)) {
        self.length(items.len());
        for each in items {
            item(self, each);
        }
    }

    pub(super) fn option<T>(&mut self, value: Option<&T>, some: impl FnOnce(&mut Self, &T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            some(self, value);
        }
    }

    fn length(&mut self, length: usize) -> &mut Self {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX))
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }
}

/// Takes a packet apart.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(packet: &'a [u8]) -> Self {
        Self { rest: packet }
    }

    pub(super) const fn finish(&self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(Malformed::Trailing { bytes }),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self) -> Result<String, Malformed> {
        let length = self.length()?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(std::str::from_utf8(text).map_err(|_| Malformed::Utf8)?.to_owned())
    }

    /// Reads a list item by item, without believing the announced count: every item takes at least four bytes, so
    /// a false count ends in [`Malformed::Short`] before much is allocated.
    pub(super) fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let length = self.length()?;
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(super) fn option<T>(
        &mut self,
        some: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.byte()? {
            0 => Ok(None),
            1 => some(self).map(Some),
            tag => Err(Malformed::Tag { tag }),
        }
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.u32()?).map_err(|_| Malformed::Short)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*array)
    }
}
