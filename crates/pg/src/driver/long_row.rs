//! A value too long to be held in memory, on its way from PostgreSQL's socket to the client's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::pool::Lease;
use crate::query::Row;

/// A row longer than this is handed on piece by piece where that is possible, in bytes. Shorter ones are held in memory, so
/// that a slow client keeps no connection to PostgreSQL busy.
pub(super) const LONG_ROW: usize = 8 * 1024 * 1024;
/// A row longer than this is not waited for on a shared connection.
pub(super) const LONG_SHARED_ROW: usize = 512 * 1024;
/// An error message longer than this is not held in memory. Deep recursion makes long ones, by where it happened.
pub(super) const LONG_ERROR: usize = 16 * 1024 * 1024;
/// A notice longer than this is dropped as it comes.
pub(super) const LONG_NOTICE: usize = 16 * 1024;
/// Pieces that may wait for the client; each has as many bytes as came with one read.
const PIECES: usize = 16;
/// How long the client may take nothing before the value is given up.
const STALL: Duration = Duration::from_secs(15);
/// The slowest that a client may take a value, after the first [`STALL`]: its connection to PostgreSQL serves nobody else
/// meanwhile. Bytes per second.
const SLOWEST: u64 = 64 * 1024;

/// The last value of a row, in pieces. Dropping it cancels the statement.
pub struct LongValue {
    length: usize,
    received: usize,
    pieces: mpsc::Receiver<Bytes>,
    /// Goes back to its pool when the value was read to its end, or is no longer wanted.
    lease: Option<Lease>,
}

impl LongValue {
    /// Bytes of the whole value.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn hold(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// The next piece; None at the end.
    ///
    /// # Errors
    /// When the connection to PostgreSQL broke, or the pieces were not taken in time.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.received == self.length {
            self.lease = None;
            return Poll::Ready(None);
        }
        match ready!(self.pieces.poll_recv(cx)) {
            Some(piece) => {
                self.received += piece.len();
                Poll::Ready(Some(Ok(piece)))
            }
            None => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
        }
    }
}

impl std::fmt::Debug for LongValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongValue").field("length", &self.length).finish_non_exhaustive()
    }
}

pub(super) fn channel(length: usize) -> (LongRowSender, LongValue) {
    let (sender, pieces) = mpsc::channel(PIECES);
    let now = Instant::now();
    let sender = LongRowSender { pieces: PollSender::new(sender), stalled: None, began: now, sent: 0 };
    (sender, LongValue { length, received: 0, pieces, lease: None })
}

/// The driver's end.
pub(super) struct LongRowSender {
    pieces: PollSender<Bytes>,
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    began: Instant,
    sent: u64,
}

impl LongRowSender {
    /// Waits for room. False when nobody takes the value any more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Poll::Ready(room) = self.pieces.poll_reserve(cx) {
            self.stalled = None;
            let elapsed = self.began.elapsed();
            let too_slow = elapsed > STALL && self.sent < (elapsed - STALL).as_secs() * SLOWEST;
            return Poll::Ready(room.is_ok() && !too_slow);
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        stalled.as_mut().poll(cx).map(|()| false)
    }

    fn send(&mut self, piece: Bytes) -> bool {
        self.sent += piece.len() as u64;
        self.pieces.send_item(piece).is_ok()
    }
}

/// Rows of JSON on their way to one array, as `json_agg` writes it.
pub(super) struct JoinedRows {
    /// None when nobody takes them any more.
    sender: Option<LongRowSender>,
    buffer: BytesMut,
    ended: bool,
}

/// How `json_agg` begins, separates and ends an array of rows.
const ARRAY: (&[u8], &[u8], &[u8]) = (b"[", b", \n ", b"]");
/// Bytes of rows that become one piece.
const PIECE: usize = 64 * 1024;

impl JoinedRows {
    /// The length of an array of `rows` elements that have `bytes` together.
    pub(super) fn length(rows: usize, bytes: usize) -> usize {
        ARRAY.0.len() + ARRAY.2.len() + bytes + ARRAY.1.len() * rows.saturating_sub(1)
    }

    pub(super) fn new(sender: Option<LongRowSender>) -> Self {
        Self { sender, buffer: BytesMut::new(), ended: false }
    }

    pub(super) fn push(&mut self, row: &[u8], first: bool) {
        if self.sender.is_some() {
            self.buffer.extend_from_slice(if first { ARRAY.0 } else { ARRAY.1 });
            self.buffer.extend_from_slice(row);
        }
    }

    pub(super) fn end(&mut self) {
        if self.sender.is_some() {
            self.buffer.extend_from_slice(ARRAY.2);
        }
        self.ended = true;
    }

    /// Hands on what is enough for a piece, or everything at the end.
    pub(super) fn poll_forward(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.buffer.len() >= PIECE || self.ended && !self.buffer.is_empty() {
            let Some(sender) = &mut self.sender else {
                self.buffer.clear();
                break;
            };
            let here = self.buffer.len().min(PIECE);
            if !(ready!(sender.poll_room(cx)) && sender.send(self.buffer.split_to(here).freeze())) {
                self.sender = None;
            }
        }
        Poll::Ready(())
    }
}

/// What is left of a long row's message.
pub(super) struct LongRow {
    remaining: usize,
    /// None when the rest is thrown away.
    sender: Option<LongRowSender>,
}

impl LongRow {
    pub(super) fn new(remaining: usize, sender: Option<LongRowSender>) -> Self {
        Self { remaining, sender }
    }

    /// Moves what has arrived. Ready(true) at the row's end, Ready(false) when more has to be read.
    pub(super) fn poll_forward(&mut self, cx: &mut Context<'_>, incoming: &mut BytesMut) -> Poll<bool> {
        while self.remaining > 0 && !incoming.is_empty() {
            let here = self.remaining.min(incoming.len());
            if let Some(sender) = &mut self.sender {
                if !ready!(sender.poll_room(cx)) {
                    self.sender = None;
                    continue;
                }
                if !sender.send(incoming.split_to(here).freeze()) {
                    self.sender = None;
                }
            } else {
                incoming.advance(here);
            }
            self.remaining -= here;
        }
        Poll::Ready(self.remaining == 0)
    }
}

/// What the front of a long DataRow message shows.
pub(super) enum Head {
    /// More of it has to arrive.
    Unknown,
    /// Its length is not in its last value, so that it has to be held in memory whole.
    Whole,
    /// Its values but the last, taken off the buffer, and the length of that one.
    Long(Row, usize),
}

/// Reads the head of the DataRow at the front of `incoming`.
pub(super) fn take_head(incoming: &mut BytesMut) -> Head {
    let number = |at: usize| incoming.get(at..at + 4)?.first_chunk().map(|raw| i32::from_be_bytes(*raw));
    let Some(count) = incoming.get(5..7).and_then(|raw| raw.first_chunk()).map(|raw| u16::from_be_bytes(*raw)) else {
        return Head::Unknown;
    };
    let mut at = 7;
    let mut columns = Vec::with_capacity(usize::from(count));
    for left in (0..count).rev() {
        let Some(length) = number(at) else { return Head::Unknown };
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            columns.push(None);
            continue;
        };
        if left == 0 && length > LONG_ROW / 2 {
            columns.push(None);
            return Head::Long(Row::new(incoming.split_to(at).freeze(), columns), length);
        }
        if incoming.len() < at + length {
            // Only the last value may be long.
            return if length > LONG_ROW / 2 { Head::Whole } else { Head::Unknown };
        }
        columns.push(Some(at..at + length));
        at += length;
    }
    Head::Whole
}
