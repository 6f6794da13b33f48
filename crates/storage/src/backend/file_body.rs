//! A file, or a part of one, as the body of an answer.
//!
//! What the system has in memory is read at once, without another thread (`RWF_NOWAIT`); what it would have to fetch is
//! read where blocking is allowed. One piece at a time: a client that does not take costs one piece of memory.

use std::fs::File;
use std::future::Future as _;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;

/// Bytes that are read at once.
const PIECE: usize = 128 * 1024;

pub(crate) struct FileBody {
    file: Arc<File>,
    range: Range<u64>,
    /// The system reads without waiting.
    nowait: bool,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    pub(crate) fn new(file: File, range: Range<u64>) -> Self {
        Self { file: Arc::new(file), range, nowait: true, reading: None }
    }

    fn next_piece(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).unwrap_or(PIECE).min(PIECE)
    }

    /// What is in memory already.
    fn read_cached(&mut self) -> Result<Bytes, Errno> {
        let mut buffer = vec![0; self.next_piece()];
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let read = rustix::io::preadv2(&*self.file, &mut slices, self.range.start, ReadWriteFlags::NOWAIT)?;
        buffer.truncate(read);
        Ok(buffer.into())
    }

    fn took(&mut self, piece: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if piece.is_empty() {
            // Shorter than its row says: the length has been announced, so that the connection has to break.
            self.range.start = self.range.end;
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        self.range.start += piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

fn read(file: &File, start: u64, length: usize) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut buffer[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.into())
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            return match read {
                Ok(Ok(piece)) => self.took(piece),
                Ok(Err(error)) => Poll::Ready(Some(Err(error))),
                Err(error) => Poll::Ready(Some(Err(io::Error::other(error)))),
            };
        }
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        if self.nowait {
            match self.read_cached() {
                // The end of the file is told by the other way.
                Ok(piece) if !piece.is_empty() => return self.took(piece),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.nowait = false,
            }
        }
        let (file, start, length) = (self.file.clone(), self.range.start, self.next_piece());
        self.reading = Some(tokio::task::spawn_blocking(move || read(&file, start, length)));
        self.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty() && self.reading.is_none()
    }

    /// Unknown on purpose: who knows the length announces it in a header, and answers of unknown length are not counted
    /// as if they were held in memory.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
