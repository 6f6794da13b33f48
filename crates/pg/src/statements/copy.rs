//! The data of a COPY, up to the line `\.`.

use memchr::memchr;

use super::Piece;

/// Where in a line the data stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CopyState {
    at_line_start: bool,
    /// The beginning of a line that may become `\.`; at most 3 bytes.
    held: Vec<u8>,
}

impl Default for CopyState {
    fn default() -> Self {
        Self { at_line_start: true, held: Vec::new() }
    }
}

impl CopyState {
    /// Takes data; returns how many bytes of `chunk`, and whether the data ended with them.
    pub(super) fn feed<E>(
        &mut self,
        chunk: &[u8],
        line: &mut u64,
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(usize, bool), E> {
        let (mut at, mut begin, mut rows) = (0, 0, 0);
        while at < chunk.len() {
            if !self.at_line_start {
                match memchr(b'\n', &chunk[at..]) {
                    Some(offset) => {
                        at += offset + 1;
                        rows += 1;
                        *line += 1;
                        self.at_line_start = true;
                    }
                    None => at = chunk.len(),
                }
                continue;
            }
            if self.held.is_empty() && chunk[at] != b'\\' {
                self.at_line_start = false;
                continue;
            }
            // A line that begins with a backslash: hold it until it is clear what it is.
            if self.held.is_empty() && begin < at {
                sink(Piece::CopyData { bytes: &chunk[begin..at], rows })?;
                rows = 0;
            }
            self.held.push(chunk[at]);
            at += 1;
            begin = at;
            match self.held.as_slice() {
                b"\\" | b"\\." | b"\\.\r" => {}
                b"\\.\n" | b"\\.\r\n" => {
                    *line += 1;
                    self.held.clear();
                    return Ok((at, true));
                }
                held => {
                    let ends_line = held.last() == Some(&b'\n');
                    sink(Piece::CopyData { bytes: held, rows: u64::from(ends_line) })?;
                    *line += u64::from(ends_line);
                    self.at_line_start = ends_line;
                    self.held.clear();
                }
            }
        }
        if begin < at {
            sink(Piece::CopyData { bytes: &chunk[begin..at], rows })?;
        }
        Ok((at, false))
    }
}
