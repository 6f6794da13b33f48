//! Compression by several threads: pieces that are compressed each for itself and end at a byte are one stream together
//! (RFC 1951), which everybody reads. One thread is slower than pg_dump is.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::{Compress, Compression, FlushCompress};

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
    /// The writer itself.
    Itself(Piecewise),
    /// Threads, which get the pieces in turns.
    Threads { workers: Vec<Worker>, given: usize, taken: usize },
}

struct Worker {
    pieces: SyncSender<Work>,
    compressed: Receiver<io::Result<Work>>,
}

impl<W: Write> DeflateWriter<W> {
    /// Threads are worth their cost for much that is compressed well.
    pub(super) fn by_threads(inner: W, level: Compression) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..processors.min(MOST_THREADS)).map(|_| Worker::begin(level)).collect();
        Self { inner, piece: Vec::new(), by: By::Threads { workers, given: 0, taken: 0 }, spare: Vec::new() }
    }

    pub(super) fn by_itself(inner: W, level: Compression) -> Self {
        Self { inner, piece: Vec::new(), by: By::Itself(Piecewise::new(level)), spare: Vec::new() }
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
            By::Itself(ref mut piecewise) => {
                let mut compressed = self.spare.pop().unwrap_or_default().compressed;
                piecewise.compress(&self.piece, &mut compressed)?;
                self.inner.write_all(&compressed)?;
                self.piece.clear();
                self.spare.push(Work { compressed, ..Work::default() });
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
        compressed.map(Some)
    }
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}

impl Worker {
    /// Ends with the writer.
    fn begin(level: Compression) -> Self {
        let (pieces, given) = sync_channel::<Work>(1);
        let (done, compressed) = sync_channel(2);
        thread::spawn(move || {
            let mut piecewise = Piecewise::new(level);
            for mut work in given {
                let outcome = piecewise.compress(&work.piece, &mut work.compressed);
                if done.send(outcome.map(|()| work)).is_err() {
                    return;
                }
            }
        });
        Self { pieces, compressed }
    }
}

/// Compresses pieces each for itself.
struct Piecewise(Compress);

impl Piecewise {
    fn new(level: Compression) -> Self {
        Self(Compress::new(level, false))
    }

    /// Puts the compressed piece in place of what is in `compressed`.
    fn compress(&mut self, piece: &[u8], compressed: &mut Vec<u8>) -> io::Result<()> {
        self.0.reset();
        compressed.clear();
        compressed.reserve(piece.len() / 2 + 64);
        loop {
            let read = usize::try_from(self.0.total_in()).map_err(io::Error::other)?;
            self.0.compress_vec(&piece[read..], compressed, FlushCompress::Sync).map_err(io::Error::other)?;
            // There is more to come as long as it fills all the room.
            if compressed.len() < compressed.capacity() {
                return Ok(());
            }
            compressed.reserve(piece.len() / 4 + 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::DeflateDecoder;

    use super::*;

    #[test]
    fn pieces_are_one_stream_together() {
        let text: Vec<u8> =
            (0..200_000_u32).flat_map(|n| format!("{n}\t{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        let noise: Vec<u8> =
            (0..40_000_u32).flat_map(|n| base::digest::sha256_hex(&n.to_be_bytes()).into_bytes()).collect();
        for plain in [&b""[..], b"x", &text, &noise, &text[..PIECE], &noise[..2 * PIECE]] {
            for level in [Compression::none(), Compression::new(1)] {
                for mut writer in
                    [DeflateWriter::by_itself(Vec::new(), level), DeflateWriter::by_threads(Vec::new(), level)]
                {
                    // However it is cut.
                    for chunk in plain.chunks(70_001) {
                        writer.write_all(chunk).unwrap();
                    }
                    let compressed = writer.finish().unwrap();
                    let mut read = Vec::new();
                    DeflateDecoder::new(&compressed[..]).read_to_end(&mut read).unwrap();
                    assert!(read == plain, "{} bytes, {level:?}", plain.len());
                    assert!(
                        compressed.len() <= plain.len() + plain.len() / 1_000 + 64,
                        "{} of {}",
                        compressed.len(),
                        plain.len()
                    );
                }
            }
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
        let mut writer = DeflateWriter::by_threads(Full, Compression::new(1));
        let result = writer.write_all(&vec![7; 40 * PIECE]);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
