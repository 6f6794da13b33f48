//! What of a piece was there before (LZ77): one pass that takes the first match it finds.

/// Deflate's furthest and longest match (RFC 1951, section 3.2.5).
const FURTHEST: usize = 32_768;
const LONGEST: usize = 258;
/// Shorter ones are worth little with codes made for each block, and cost as much time: rows are full of digits, of which four
/// or five were there before somewhere.
const SHORTEST: usize = 6;
/// The table fits into the processor's first cache.
const HASH_BITS: u32 = 14;
/// Behind `1 << PATIENCE` bytes without a match every second is looked at, and so on up to this step: what has none has none soon.
const PATIENCE: u32 = 3;
const LONGEST_STEP: usize = 16;

/// Bytes as they are, and then bytes that were there before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub(super) literals: usize,
    /// 0 at the end of a piece.
    pub(super) length: u16,
    /// So many bytes before: from 1 to 32,768.
    pub(super) distance: u16,
}

/// Finds matches.
pub(super) struct Matcher {
    /// Where bytes of a hash were last, modulo 65,536. What is left of an earlier piece is a place in this one as well as any: the
    /// bytes there decide.
    last: Box<[u16; 1 << HASH_BITS]>,
}

impl Matcher {
    pub(super) fn new() -> Self {
        Self { last: Box::new([0; 1 << HASH_BITS]) }
    }

    /// The sequences of a piece, in place of what is in `sequences`.
    pub(super) fn find(&mut self, piece: &[u8], sequences: &mut Vec<Sequence>) {
        sequences.clear();
        let (mut at, mut from) = (0, 0);
        while let Some(here) = word(piece, at) {
            let before = std::mem::replace(&mut self.last[slot(here)], at as u16);
            let distance = usize::from((at as u16).wrapping_sub(before));
            let step = (1 + ((at - from) >> PATIENCE)).min(LONGEST_STEP);
            let there = match (1..=FURTHEST.min(at)).contains(&distance) {
                true => word(piece, at - distance),
                false => None,
            };
            let mut length = there.map_or(0, |there| same(here, there));
            if length < SHORTEST {
                at += step;
                continue;
            }
            if length == size_of::<u64>() {
                length = common(piece, at - distance, at);
            }
            // What was stepped over may have been there, too.
            while at > from && at > distance && length < LONGEST && piece[at - 1] == piece[at - 1 - distance] {
                at -= 1;
                length += 1;
            }
            sequences.push(Sequence { literals: at - from, length: length as u16, distance: distance as u16 });
            at += length;
            from = at;
            if let Some(inside) = word(piece, at - 2) {
                self.last[slot(inside)] = (at - 2) as u16;
            }
        }
        sequences.push(Sequence { literals: piece.len() - from, length: 0, distance: 0 });
    }
}

/// Eight bytes; none near the end.
#[inline]
fn word(piece: &[u8], at: usize) -> Option<u64> {
    piece.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The place of what begins so in the table.
#[inline]
fn slot(word: u64) -> usize {
    let shortest = word << (u64::BITS as usize - 8 * SHORTEST);
    (shortest.wrapping_mul(0x9E37_79B1_85EB_CA87) >> (u64::BITS - HASH_BITS)) as usize
}

/// How many bytes of two words are the same before one is not.
#[inline]
fn same(one: u64, other: u64) -> usize {
    ((one ^ other).trailing_zeros() / u8::BITS) as usize
}

/// How many bytes at two places are the same.
#[inline]
fn common(piece: &[u8], before: usize, at: usize) -> usize {
    let most = LONGEST.min(piece.len() - at);
    let mut length = 0;
    while length + size_of::<u64>() <= most {
        let (Some(one), Some(other)) = (word(piece, before + length), word(piece, at + length)) else { break };
        if one != other {
            return length + same(one, other);
        }
        length += size_of::<u64>();
    }
    while length < most && piece[before + length] == piece[at + length] {
        length += 1;
    }
    length
}
