//! Buffers: taken from a pool of the thread, given back before a connection waits for its next request.
//!
//! An idle connection therefore costs no buffer. The pool belongs to one thread and keeps a bounded number of
//! buffers of bounded size; what has grown beyond that is freed.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
};

/// Capacity of a fresh buffer, in bytes. Most heads and small answers fit with room to spare.
pub(crate) const FRESH_BYTES: usize = 16 << 10;
/// Capacity for what waits for an answer, in bytes: most requests without a body. Thousands may wait at once, so what they
/// hold must be small.
const SMALL_BYTES: usize = 2 << 10;
/// Sizes that are kept, in bytes, and how many of each by thread at most.
const KEPT: [(usize, usize); 4] = [(SMALL_BYTES, 1024), (FRESH_BYTES, 256), (64 << 10, 64), (LARGEST_BYTES, 16)];
/// The place of [`FRESH_BYTES`] there.
const FRESH: usize = 1;
/// The largest that is kept, in bytes: more than this moves no byte faster.
pub(crate) const LARGEST_BYTES: usize = 256 << 10;

/// The buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// By their sizes: each has at least as many bytes as [`KEPT`] says at its place.
    free: [RefCell<Vec<Vec<u8>>>; KEPT.len()],
}

impl Buffers {
    /// An empty buffer with at least [`FRESH_BYTES`] of room.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free[FRESH].borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES))
    }

    /// An empty buffer with at least so much room, and not much more where that is little.
    pub(crate) fn take_of(&self, bytes: usize) -> Vec<u8> {
        let Some(size) = KEPT.iter().position(|&(size, _)| size >= bytes) else {
            return Vec::with_capacity(bytes);
        };
        self.free[size].borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(KEPT[size].0))
    }

    /// Puts one of at least this capacity in the place of a smaller one, with the same bytes in it.
    pub(crate) fn widen(&self, buffer: &mut Vec<u8>, capacity: usize) {
        if buffer.capacity() < capacity {
            let mut wide = self.take_of(capacity);
            wide.extend_from_slice(buffer);
            self.give(std::mem::replace(buffer, wide));
        }
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() > LARGEST_BYTES {
            return;
        }
        // One that is larger than its size says would keep more memory than it is good for.
        let size = match buffer.capacity() {
            SMALL_BYTES => 0,
            capacity if capacity < FRESH_BYTES => return,
            capacity => KEPT.iter().rposition(|&(size, _)| size <= capacity).expect("it is no smaller than fresh ones"),
        };
        let mut free = self.free[size].borrow_mut();
        if free.len() < KEPT[size].1 {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// Bytes received and not used yet.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    /// Around a buffer of the pool.
    pub(crate) fn new(buffer: Vec<u8>) -> Self {
        Self { bytes: buffer, start: 0 }
    }

    /// The bytes at hand.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether nothing is at hand.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Whether a buffer is attached.
    pub(crate) fn has_buffer(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Drops the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len(), "more consumed than received");
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Puts these bytes in the place of the first `count`.
    pub(crate) fn replace(&mut self, count: usize, new: &[u8]) {
        self.bytes.splice(self.start..self.start + count, new.iter().copied());
    }

    /// Gives the buffer back if nothing is at hand: the next who reads gets it while the processor's caches still have it.
    pub(crate) fn rest(&mut self, buffers: &Buffers) {
        if self.is_empty() {
            buffers.give(self.release());
        }
    }

    /// The buffer, to be given back. What was in it is lost.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        self.start = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Makes room for more, up to `most` bytes at hand in all. Returns whether there is any.
    pub(crate) fn make_room(&mut self, most: usize) -> bool {
        let used = self.filled().len();
        if used >= most {
            return false;
        }
        if self.bytes.len() == self.bytes.capacity()
            || (self.start > 0 && used + FRESH_BYTES / 2 > self.bytes.capacity() - self.start)
        {
            self.bytes.drain(..self.start);
            self.start = 0;
            if used == self.bytes.capacity() {
                self.bytes.reserve_exact(used.clamp(FRESH_BYTES, most));
            }
        }
        true
    }

    /// Has at least this capacity from now on, for bodies that fill it again and again.
    pub(crate) fn widen(&mut self, capacity: usize, buffers: &Buffers) {
        if self.bytes.capacity() < capacity {
            self.bytes.drain(..std::mem::take(&mut self.start));
            buffers.widen(&mut self.bytes, capacity);
        }
    }

    /// Reads once into the room there is. `Ok(0)` is the end of the stream; [`Self::make_room`] comes first.
    pub(crate) fn poll_fill<R>(&mut self, reader: &mut R, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
    {
        debug_assert!(self.bytes.len() < self.bytes.capacity(), "room is made before reading");
        pin!(reader.read_buf(&mut self.bytes)).poll(cx)
    }

    /// Reads once where nothing is at hand, and holds a buffer only while there is something to read: for waits that may
    /// be long. `Ok(0)` is the end of the stream.
    pub(crate) fn poll_arrived(
        &mut self,
        stream: &mut TcpStream,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty(), "what is at hand would be lost");
        if !self.has_buffer() {
            *self = Self::new(buffers.take());
        }
        let read = self.poll_fill(stream, cx);
        if read.is_pending() {
            buffers.give(self.release());
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_buffers_come_back_empty() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(b"used");
        buffers.give(buffer);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        buffers.give(Vec::with_capacity(LARGEST_BYTES + 1));
        assert!(buffers.free.iter().all(|free| free.borrow().is_empty()), "one that grew too large is not kept");
        buffers.give(Vec::with_capacity(SMALL_BYTES + 1));
        assert!(buffers.free.iter().all(|free| free.borrow().is_empty()), "nor is one of no size that is kept");
        let small = buffers.take_of(SMALL_BYTES);
        assert_eq!(small.capacity(), SMALL_BYTES);
        buffers.give(small);
        assert!(buffers.take().capacity() >= FRESH_BYTES);
        let large = buffers.take_of(LARGEST_BYTES);
        let place = large.as_ptr();
        buffers.give(large);
        let (small, large) = (buffers.take(), buffers.take_of(64 << 10 | 1));
        assert_ne!(small.as_ptr(), place, "large ones are for those who need them");
        assert_eq!(large.as_ptr(), place);
    }

    #[test]
    fn room_is_bounded() {
        let mut input = Input::new(Vec::with_capacity(FRESH_BYTES));
        assert!(input.make_room(10));
        input.bytes.extend_from_slice(&[b'x'; 10]);
        assert!(!input.make_room(10));
        input.consume(4);
        assert!(input.make_room(10));
        assert_eq!(input.filled(), [b'x'; 6]);
        input.consume(6);
        assert!(input.is_empty());
    }
}
