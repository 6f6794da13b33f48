//! Compression by several threads: pieces that are compressed each for itself and end at a byte are one stream together
//! (RFC 1951), which everybody reads. One thread is slower than pg_dump is.
//!
//! What compresses is our own, made for dumps: where processors are few it decides how long a backup takes, and of the libraries
//! that build without a C toolchain of their own the fastest took two thirds longer for half as much more (docs/performance.md).

mod block;
mod huffman;
mod matches;

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use block::Encoder;

/// Bytes that are compressed at once. What they have in common with the piece before is not seen, which costs one part in a
/// hundred or less.
const PIECE: usize = 256 * 1024;
/// More threads would only wait: pg_dump is read by one.
const MOST_THREADS: usize = 4;
/// The end of a stream: a last block with nothing in it.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Compresses what is written.
pub(super) struct DeflateWriter<W: Write> {
    inner: W,
    piece: Vec<u8>,
    by: By,
    /// Fresh memory costs as much as encrypting what is put there.
    spare: Vec<Work>,
}

/// A piece, and what becomes of it.
#[derive(Default)]
struct Work {
    piece: Vec<u8>,
    compressed: Vec<u8>,
}

/// Who compresses.
enum By {
    /// Nobody: they stay as they are.
    Nobody,
    /// Threads, which get the pieces in turns.
    Threads { workers: Vec<Worker>, given: usize, taken: usize },
}

struct Worker {
    pieces: SyncSender<Work>,
    compressed: Receiver<Work>,
}

impl<W: Write> DeflateWriter<W> {
    /// Threads are worth their cost for much that is compressed well.
    pub(super) fn by_threads(inner: W) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..processors.min(MOST_THREADS)).map(|_| Worker::begin()).collect();
        Self { inner, piece: Vec::new(), by: By::Threads { workers, given: 0, taken: 0 }, spare: Vec::new() }
    }

    /// A stream that is as long as what is in it.
    pub(super) fn stored(inner: W) -> Self {
        Self { inner, piece: Vec::new(), by: By::Nobody, spare: Vec::new() }
    }

    /// Writes the end of the stream.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.end_piece()?;
        while let Some(work) = self.by.take()? {
            self.inner.write_all(&work.compressed)?;
        }
        self.inner.write_all(&LAST_BLOCK)?;
        Ok(self.inner)
    }

    fn end_piece(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        match self.by {
            By::Nobody => {
                let mut work = self.spare.pop().unwrap_or_default();
                block::store(&self.piece, &mut work.compressed);
                self.inner.write_all(&work.compressed)?;
                self.piece.clear();
                self.spare.push(work);
            }
            By::Threads { .. } => {
                // Each thread has one piece in work and one that waits.
                while self.by.is_full() {
                    if let Some(work) = self.by.take()? {
                        self.inner.write_all(&work.compressed)?;
                        self.spare.push(work);
                    }
                }
                let mut work = self.spare.pop().unwrap_or_default();
                std::mem::swap(&mut self.piece, &mut work.piece);
                self.piece.clear();
                self.piece.reserve_exact(PIECE);
                self.by.give(work)?;
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for DeflateWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let take = data.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&data[..take]);
        if self.piece.len() == PIECE {
            self.end_piece()?;
        }
        Ok(take)
    }

    /// What is less than a piece waits for more.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl By {
    fn is_full(&self) -> bool {
        matches!(self, Self::Threads { workers, given, taken } if given - taken >= 2 * workers.len())
    }

    fn give(&mut self, work: Work) -> io::Result<()> {
        if let Self::Threads { workers, given, .. } = self {
            workers[*given % workers.len()].pieces.send(work).map_err(|_| gone())?;
            *given += 1;
        }
        Ok(())
    }

    /// The oldest piece that was given and not taken; None when there is none.
    fn take(&mut self) -> io::Result<Option<Work>> {
        let Self::Threads { workers, given, taken } = self else { return Ok(None) };
        if taken == given {
            return Ok(None);
        }
        let compressed = workers[*taken % workers.len()].compressed.recv().map_err(|_| gone())?;
        *taken += 1;
        Ok(Some(compressed))
    }
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}

impl Worker {
    /// Ends with the writer.
    fn begin() -> Self {
        let (pieces, given) = sync_channel::<Work>(1);
        let (done, compressed) = sync_channel(2);
        thread::spawn(move || {
            let mut encoder = Encoder::new();
            for mut work in given {
                encoder.compress(&work.piece, &mut work.compressed);
                if done.send(work).is_err() {
                    return;
                }
            }
        });
        Self { pieces, compressed }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::DeflateDecoder;
    use seeded::Random;

    use super::*;

    /// What a writer makes of a text, and that it can be read; how long it is.
    fn check(mut writer: DeflateWriter<Vec<u8>>, plain: &[u8]) -> usize {
        // However it is cut.
        for chunk in plain.chunks(70_001) {
            writer.write_all(chunk).unwrap();
        }
        let compressed = writer.finish().unwrap();
        let mut read = Vec::new();
        DeflateDecoder::new(&compressed[..]).read_to_end(&mut read).unwrap();
        assert!(read == plain, "{} bytes", plain.len());
        assert!(compressed.len() <= plain.len() + plain.len() / 1_000 + 64, "{} of {}", compressed.len(), plain.len());
        compressed.len()
    }

    #[test]
    fn pieces_are_one_stream_together() {
        let text: Vec<u8> =
            (0..200_000_u32).flat_map(|n| format!("{n}\t{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        let hashes = |from: u32| (from..from + 40_000).map(|n| base::digest::sha256_hex(&n.to_be_bytes()));
        let hex: Vec<u8> = hashes(0).flat_map(String::into_bytes).collect();
        let noise: Vec<u8> =
            hex.chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect();
        // What was there exactly as far away as can be said, and one further.
        let far = |distance: usize| [&noise[..distance], &noise[..1_000]].concat();
        let run = vec![b'a'; 2 * PIECE + 300];
        for plain in [
            &b""[..],
            b"x",
            b"abcabcabcabcabcabcabc",
            &text,
            &hex,
            &noise,
            &text[..PIECE],
            &run,
            &far(32_768),
            &far(32_769),
        ] {
            check(DeflateWriter::stored(Vec::new()), plain);
            check(DeflateWriter::by_threads(Vec::new()), plain);
        }
        let part = |plain: &[u8]| check(DeflateWriter::by_threads(Vec::new()), plain) * 100 / plain.len();
        assert_eq!(
            [&text, &hex, &noise, &run, &far(32_768), &far(32_769)].map(|plain| part(plain)),
            [44, 50, 100, 0, 97, 100]
        );
    }

    /// Few kinds of bytes in short and long runs, which is where lengths, distances and codes are at their ends.
    #[test]
    fn whatever_is_written_is_read() {
        for seed in 0..300 {
            let (mut random, mut plain) = (Random::new(seed), Vec::new());
            for _ in 0..random.below(60) {
                let (byte, length) = (random.byte(), 1 + random.below(3_000));
                match random.below(6) {
                    0 => plain.extend(std::iter::repeat_n(byte, length)),
                    1 => plain.extend((0..length).map(|at| byte.wrapping_add((at % 7) as u8))),
                    2 => plain.extend((0..length).map(|_| random.byte())),
                    3 => plain.extend((0..length).map(|_| random.byte().leading_zeros() as u8)),
                    _ => {
                        let from = plain.len().saturating_sub(random.below(40_000));
                        plain.extend_from_within(from..plain.len().min(from + length));
                    }
                }
            }
            check(DeflateWriter::by_threads(Vec::new()), &plain);
        }
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = DeflateWriter::by_threads(Full);
        let result = writer.write_all(&vec![7; 40 * PIECE]);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
