//! The codings themselves: bytes in, coded bytes out, as a stream with bounded memory.
//!
//! A coder belongs to one answer. What it needs of memory depends on the coding and on nothing that a client or an
//! instance says: about 350 KiB for gzip, 700 KiB for Zstandard, and 1.8 MiB for Brotli; less for answers that are known to
//! be short. Up to [`KEPT`] of those that can be used again are kept by each thread.

use std::{cell::RefCell, io::Write};

use brotli::{CompressorWriter, enc::BrotliEncoderParams};
use evenkeel_core::snapshot::Encoding;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::{
    stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer},
    zstd_safe::Strategy,
};

/// Beyond such a length the Brotli coder would take a table of 4 MiB.
const LONGEST_HINT: u64 = (1 << 20) - 1;
/// Most idle coders of one kind that a thread keeps.
const KEPT: usize = 4;

/// zlib's middle: little is gained beyond it.
const GZIP_LEVEL: u32 = 5;
/// Of 0 to 11; beyond it each byte costs several times as much.
const BROTLI_QUALITY: i32 = 4;
/// Zstandard's own default.
const ZSTD_LEVEL: i32 = 3;
/// Window for bodies of unknown or large length: 2 to the power of this many bytes. RFC 8878 section 3.1.1.1.2 asks every
/// decoder for 8 MiB; a window this small needs a fraction of the memory and loses little on what web servers answer.
const WINDOW_LOG: u32 = 17;
/// The smallest window.
const LEAST_WINDOW_LOG: u32 = 12;
/// Room that is made in the output at a time, in bytes.
const ROOM: usize = 4 << 10;

/// Why a coder does not fail: it works in memory, on any input, and an allocation that fails ends the process.
const NEVER_FAILS: &str = "a coder in memory takes any input";

thread_local! {
    static GZIPS: RefCell<Vec<Compress>> = const { RefCell::new(Vec::new()) };
    static ZSTDS: RefCell<Vec<Encoder<'static>>> = const { RefCell::new(Vec::new()) };
}

/// A coder.
pub(crate) enum Coder {
    Gzip(Compress),
    Br(Box<CompressorWriter<Vec<u8>>>),
    Zstd(Encoder<'static>),
}

/// What is done with what a coder holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Keep,
    Flush,
    Finish,
}

impl Coder {
    /// What one takes at most, in bytes.
    pub(crate) const fn most_bytes(encoding: Encoding) -> usize {
        match encoding {
            Encoding::Gzip => 350 << 10,
            Encoding::Br => 1850 << 10,
            Encoding::Zstd => 700 << 10,
        }
    }

    /// For a body of this length, if that is known.
    pub(crate) fn new(encoding: Encoding, length: Option<u64>) -> Self {
        let window_log = length
            .map_or(WINDOW_LOG, |length| (u64::BITS - length.leading_zeros()).clamp(LEAST_WINDOW_LOG, WINDOW_LOG));
        match encoding {
            Encoding::Gzip => {
                let kept = GZIPS.with_borrow_mut(Vec::pop);
                Self::Gzip(kept.unwrap_or_else(|| Compress::new_gzip(Compression::new(GZIP_LEVEL), 15)))
            }
            Encoding::Br => {
                let params = BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: i32::try_from(window_log).expect("a window's logarithm is small"),
                    size_hint: length.map_or(0, |length| {
                        usize::try_from(length.min(LONGEST_HINT)).expect("a length that was bounded is small")
                    }),
                    ..BrotliEncoderParams::default()
                };
                Self::Br(Box::new(CompressorWriter::with_params(Vec::new(), ROOM, &params)))
            }
            Encoding::Zstd => {
                let kept = ZSTDS.with_borrow_mut(Vec::pop);
                let mut encoder = kept.unwrap_or_else(|| Encoder::new(ZSTD_LEVEL).expect(NEVER_FAILS));
                let parameters = [
                    CParameter::WindowLog(window_log),
                    CParameter::HashLog(window_log.min(15)),
                    CParameter::ChainLog(window_log.min(15)),
                    CParameter::Strategy(Strategy::ZSTD_dfast),
                ];
                for parameter in parameters {
                    encoder.set_parameter(parameter).expect(NEVER_FAILS);
                }
                Self::Zstd(encoder)
            }
        }
    }

    /// Takes content; appends what comes of it at once.
    pub(crate) fn push(&mut self, content: &[u8], out: &mut Vec<u8>) {
        self.run(content, Then::Keep, out);
    }

    /// Appends everything that was taken and held back so far.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        self.run(b"", Then::Flush, out);
    }

    /// Appends the rest and the end.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        if let Self::Br(writer) = self {
            let mut writer = *writer;
            out.append(writer.get_mut());
            out.append(&mut writer.into_inner());
            return;
        }
        self.run(b"", Then::Finish, out);
        self.keep();
    }

    /// Makes it ready for another answer, if it can be used again.
    fn keep(self) {
        fn put<T: 'static>(kept: &'static std::thread::LocalKey<RefCell<Vec<T>>>, one: T) {
            kept.with_borrow_mut(|kept| {
                if kept.len() < KEPT {
                    kept.push(one);
                }
            });
        }
        match self {
            Self::Gzip(mut compress) => {
                compress.reset();
                put(&GZIPS, compress);
            }
            Self::Zstd(mut encoder) => {
                if encoder.reinit().is_ok() {
                    put(&ZSTDS, encoder);
                }
            }
            Self::Br(_) => {}
        }
    }

    fn run(&mut self, content: &[u8], then: Then, out: &mut Vec<u8>) {
        match self {
            Self::Gzip(compress) => gzip(compress, content, then, out),
            Self::Zstd(encoder) => zstandard(encoder, content, then, out),
            Self::Br(writer) => {
                writer.write_all(content).expect(NEVER_FAILS);
                if then == Then::Flush {
                    writer.flush().expect(NEVER_FAILS);
                }
                out.append(writer.get_mut());
            }
        }
    }
}

fn gzip(compress: &mut Compress, content: &[u8], then: Then, out: &mut Vec<u8>) {
    let flush = match then {
        Then::Keep => FlushCompress::None,
        Then::Flush => FlushCompress::Sync,
        Then::Finish => FlushCompress::Finish,
    };
    let start = compress.total_in();
    loop {
        out.reserve(ROOM);
        let taken = usize::try_from(compress.total_in() - start).expect("no more is taken than given");
        let status = compress.compress_vec(&content[taken..], out, flush).expect(NEVER_FAILS);
        let all_taken = compress.total_in() - start == content.len() as u64;
        // Room that is left says that nothing is held back that was to come out.
        if status == Status::StreamEnd || all_taken && out.len() < out.capacity() && then != Then::Finish {
            return;
        }
    }
}

fn zstandard(encoder: &mut Encoder<'static>, content: &[u8], then: Then, out: &mut Vec<u8>) {
    let mut input = InBuffer::around(content);
    while input.pos() < content.len() {
        with_room(out, |output| encoder.run(&mut input, output).expect(NEVER_FAILS));
    }
    loop {
        let left = match then {
            Then::Keep => 0,
            Then::Flush => with_room(out, |output| encoder.flush(output).expect(NEVER_FAILS)),
            Then::Finish => with_room(out, |output| encoder.finish(output, true).expect(NEVER_FAILS)),
        };
        if left == 0 {
            return;
        }
    }
}

/// Lets `code` append to `out`.
fn with_room<T>(out: &mut Vec<u8>, code: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> T) -> T {
    out.reserve(ROOM);
    let filled = out.len();
    code(&mut OutBuffer::around_pos(out, filled))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    const ALL: [Encoding; 3] = [Encoding::Zstd, Encoding::Br, Encoding::Gzip];

    fn decode(encoding: Encoding, coded: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut content = Vec::new();
        match encoding {
            Encoding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut content)?,
            Encoding::Br => brotli::Decompressor::new(coded, 4096).read_to_end(&mut content)?,
            Encoding::Zstd => zstd::Decoder::new(coded)?.read_to_end(&mut content)?,
        };
        Ok(content)
    }

    fn coded(encoding: Encoding, pieces: &[Vec<u8>], flushes: bool, length: Option<u64>) -> Vec<u8> {
        let (mut coder, mut out) = (Coder::new(encoding, length), Vec::new());
        for piece in pieces {
            coder.push(piece, &mut out);
            if flushes {
                coder.flush(&mut out);
            }
        }
        coder.finish(&mut out);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any body through any coding in any pieces decodes to itself, whatever was said of its length before.
        #[test]
        fn every_body_decodes_to_itself(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9000), 0..8),
            repeat in 1usize..12, flushes in any::<bool>(), which in 0usize..3, hint in proptest::option::of(0u64..1 << 20),
        ) {
            let pieces: Vec<Vec<u8>> = pieces.into_iter().map(|piece| piece.repeat(repeat)).collect();
            let coded = coded(ALL[which], &pieces, flushes, hint);
            prop_assert_eq!(decode(ALL[which], &coded).unwrap(), pieces.concat());
        }
    }

    #[test]
    fn what_was_flushed_can_be_read_before_the_end() {
        for encoding in ALL {
            let (mut coder, mut out) = (Coder::new(encoding, None), Vec::new());
            coder.push(b"first line\n", &mut out);
            coder.flush(&mut out);
            let mut first = [0; 11];
            let read = match encoding {
                Encoding::Gzip => flate2::read::GzDecoder::new(&out[..]).read_exact(&mut first),
                Encoding::Br => brotli::Decompressor::new(&out[..], 4096).read_exact(&mut first),
                Encoding::Zstd => zstd::Decoder::new(&out[..]).unwrap().read_exact(&mut first),
            };
            assert!(read.is_ok() && first == *b"first line\n", "{encoding:?}: {read:?}");
        }
    }

    #[test]
    fn what_was_not_finished_does_not_decode() {
        for encoding in ALL {
            let (mut coder, mut out) = (Coder::new(encoding, None), Vec::new());
            coder.push(&b"a line\n".repeat(1000), &mut out);
            coder.flush(&mut out);
            assert!(decode(encoding, &out).is_err(), "{encoding:?}");
        }
    }

    #[test]
    fn text_becomes_much_smaller_and_coders_are_used_again() {
        let text: Vec<u8> = (0..4000).flat_map(|n| format!("line {n} of a text\n").into_bytes()).collect();
        for encoding in ALL {
            let first = coded(encoding, std::slice::from_ref(&text), false, None);
            assert!(first.len() < text.len() / 4, "{encoding:?}: {} of {}", first.len(), text.len());
            assert_eq!(first, coded(encoding, std::slice::from_ref(&text), false, None), "{encoding:?}");
        }
    }
}
