//! Packets: a tag, lengths, a body (RFC 4880, section 4.2).

use std::io::{self, Read, Write};

/// Bytes of a part of a body whose whole length is not known; a power of two from 512.
const PART: usize = 1 << PART_EXPONENT;
const PART_EXPONENT: u8 = 16;

/// Writes one packet whose length is not known when it begins.
pub(super) struct PacketWriter<W: Write> {
    inner: W,
    buffer: Vec<u8>,
}

impl<W: Write> PacketWriter<W> {
    pub(super) fn begin(mut inner: W, tag: u8) -> io::Result<Self> {
        inner.write_all(&[0xc0 | tag])?;
        Ok(Self { inner, buffer: Vec::with_capacity(PART) })
    }

    /// Writes the last part.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let length = u32::try_from(self.buffer.len()).map_err(io::Error::other)?;
        self.inner.write_all(&[0xff])?;
        self.inner.write_all(&length.to_be_bytes())?;
        self.inner.write_all(&self.buffer)?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for PacketWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let take = data.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&data[..take]);
        if self.buffer.len() == PART {
            self.inner.write_all(&[0xe0 | PART_EXPONENT])?;
            self.inner.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(take)
    }

    /// What is less than a part waits for more.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one short packet whole.
pub(super) fn write_short(inner: &mut impl Write, tag: u8, body: &[u8]) -> io::Result<()> {
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 192);
    let length = length.ok_or_else(|| io::Error::other("a packet of this length is not short"))?;
    inner.write_all(&[0xc0 | tag, length])?;
    inner.write_all(body)
}

/// What is left of the part that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// This many bytes, and another part behind them.
    Partial(u64),
    /// This many bytes, and no more.
    Last(u64),
    /// Up to the end of what the packet is in.
    ToTheEnd,
}

/// Reads the body of one packet.
pub(super) struct PacketReader<R: Read> {
    inner: R,
    pub(super) tag: u8,
    part: Part,
}

impl<R: Read> PacketReader<R> {
    pub(super) fn begin(mut inner: R) -> io::Result<Self> {
        let first = byte(&mut inner)?;
        let (tag, part) = match first {
            0xc0.. => (first & 0x3f, length(&mut inner)?),
            // The old format, in which the two lowest bits say how the length is written.
            0x80..=0xbf => {
                let part = match first & 3 {
                    0 => Part::Last(u64::from(byte(&mut inner)?)),
                    1 => Part::Last(u64::from(u16::from_be_bytes(bytes(&mut inner)?))),
                    2 => Part::Last(u64::from(u32::from_be_bytes(bytes(&mut inner)?))),
                    _ => Part::ToTheEnd,
                };
                ((first >> 2) & 0x0f, part)
            }
            _ => return Err(malformed("no packet begins where one should")),
        };
        Ok(Self { inner, tag, part })
    }

    pub(super) fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for PacketReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let left = match self.part {
                Part::ToTheEnd => return self.inner.read(out),
                Part::Last(0) => return Ok(0),
                Part::Partial(0) => {
                    self.part = length(&mut self.inner)?;
                    continue;
                }
                Part::Partial(left) | Part::Last(left) => left,
            };
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
            let read = self.inner.read(&mut out[..take])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let left = left - read as u64;
            self.part = match self.part {
                Part::Partial(_) => Part::Partial(left),
                _ => Part::Last(left),
            };
            return Ok(read);
        }
    }
}

/// A length in the new format.
fn length(inner: &mut impl Read) -> io::Result<Part> {
    Ok(match byte(inner)? {
        first @ 0..192 => Part::Last(u64::from(first)),
        first @ 192..224 => Part::Last((u64::from(first) - 192) * 256 + u64::from(byte(inner)?) + 192),
        first @ 224..255 => Part::Partial(1 << (first & 0x1f)),
        255 => Part::Last(u64::from(u32::from_be_bytes(bytes(inner)?))),
    })
}

pub(super) fn byte(inner: &mut impl Read) -> io::Result<u8> {
    bytes::<1>(inner).map(|[byte]| byte)
}

pub(super) fn bytes<const N: usize>(inner: &mut impl Read) -> io::Result<[u8; N]> {
    let mut out = [0; N];
    inner.read_exact(&mut out)?;
    Ok(out)
}

pub(super) fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
