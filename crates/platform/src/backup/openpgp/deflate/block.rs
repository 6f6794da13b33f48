//! One piece as blocks that end at a byte (RFC 1951, sections 3.2.3 to 3.2.7): of codes made for it, or as it is.

use super::huffman::{self, Code};
use super::matches::{Matcher, Sequence};

/// What lengths of matches begin at, and how many bits say the rest, from symbol 257 on.
const LENGTHS: [(u16, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
const END: usize = 256;
const LITERALS_AND_LENGTHS: usize = 286;
const DISTANCES: usize = 30;
/// The order in which the lengths of the codes of lengths are written.
const LENGTHS_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Four such codes fit into what [`BitWriter`] holds.
const LONGEST_CODE: usize = 14;
const LONGEST_CODE_OF_LENGTHS: usize = 7;
/// The longest stored block.
const STORED: usize = 65_535;
/// What a block's end takes besides, and what [`BitWriter`] writes beyond it.
const ROOM: usize = 16;
/// A block without compression and with nothing in it, behind the bits of its head: what follows begins at a byte.
const EMPTY: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// Compresses pieces, each for itself.
pub(super) struct Encoder {
    matcher: Matcher,
    sequences: Vec<Sequence>,
    /// By length the symbol, from 257 on.
    length_symbols: [u8; 259],
}

impl Encoder {
    pub(super) fn new() -> Self {
        let mut length_symbols = [0; 259];
        for (symbol, (from, _)) in LENGTHS.iter().enumerate() {
            length_symbols[usize::from(*from)..].fill(symbol as u8);
        }
        Self { matcher: Matcher::new(), sequences: Vec::new(), length_symbols }
    }

    /// Puts the compressed piece in place of what is in `compressed`.
    pub(super) fn compress(&mut self, piece: &[u8], compressed: &mut Vec<u8>) {
        self.matcher.find(piece, &mut self.sequences);
        let (symbols, distances) = self.count(piece);
        let symbol_lengths = huffman::lengths(&symbols, LONGEST_CODE);
        let distance_lengths = huffman::lengths(&distances, LONGEST_CODE);
        let (symbol_codes, distance_codes) = (huffman::codes(&symbol_lengths), huffman::codes(&distance_lengths));

        let bits = |frequencies: &[u32], lengths: &[u8], extra: &dyn Fn(usize) -> u32| -> usize {
            let each = frequencies.iter().zip(lengths).enumerate();
            each.map(|(symbol, (often, length))| *often as usize * (usize::from(*length) + extra(symbol) as usize))
                .sum()
        };
        let length_extra = |symbol: usize| symbol.checked_sub(END + 1).map_or(0, |symbol| LENGTHS[symbol].1);
        let head = Head::new(&symbol_lengths, &distance_lengths);
        let body =
            bits(&symbols, &symbol_lengths, &length_extra) + bits(&distances, &distance_lengths, &distance_extra);
        let size = (head.bits() + body) / 8;
        if size >= piece.len() {
            return store(piece, compressed);
        }
        let mut out = BitWriter::new(compressed, size + ROOM);
        head.write(&mut out);
        let mut rest = piece;
        for sequence in &self.sequences {
            let (literals, behind) = rest.split_at(sequence.literals);
            let mut fours = literals.chunks_exact(4);
            for four in &mut fours {
                for byte in four {
                    out.code(symbol_codes[usize::from(*byte)]);
                }
                out.flush();
            }
            for byte in fours.remainder() {
                out.code(symbol_codes[usize::from(*byte)]);
            }
            out.flush();
            rest = &behind[usize::from(sequence.length)..];
            if sequence.length > 0 {
                let symbol = usize::from(self.length_symbols[usize::from(sequence.length)]);
                let (from, extra) = LENGTHS[symbol];
                out.code(symbol_codes[END + 1 + symbol]);
                out.bits(sequence.length - from, extra);
                let symbol = distance_symbol(sequence.distance);
                let extra = distance_extra(symbol);
                out.code(distance_codes[symbol]);
                out.bits((sequence.distance - 1) & ((1 << extra) - 1), extra);
                out.flush();
            }
        }
        out.code(symbol_codes[END]);
        out.bits(0, 3);
        out.finish();
        compressed.extend_from_slice(&EMPTY);
    }

    /// How often literals and lengths occur, and distances.
    fn count(&self, piece: &[u8]) -> ([u32; LITERALS_AND_LENGTHS], [u32; DISTANCES]) {
        let (mut symbols, mut distances) = ([0; LITERALS_AND_LENGTHS], [0; DISTANCES]);
        // Two, so that one byte does not wait for the same one before it.
        let mut others = [0; 256];
        let mut rest = piece;
        for sequence in &self.sequences {
            let (literals, behind) = rest.split_at(sequence.literals);
            let mut pairs = literals.chunks_exact(2);
            for pair in &mut pairs {
                symbols[usize::from(pair[0])] += 1;
                others[usize::from(pair[1])] += 1;
            }
            for byte in pairs.remainder() {
                symbols[usize::from(*byte)] += 1;
            }
            rest = &behind[usize::from(sequence.length)..];
            if sequence.length > 0 {
                symbols[END + 1 + usize::from(self.length_symbols[usize::from(sequence.length)])] += 1;
                distances[distance_symbol(sequence.distance)] += 1;
            }
        }
        for (symbol, often) in symbols.iter_mut().zip(others) {
            *symbol += often;
        }
        symbols[END] = 1;
        (symbols, distances)
    }
}

/// Puts the piece as it is, in blocks, in place of what is in `stored`.
pub(super) fn store(piece: &[u8], stored: &mut Vec<u8>) {
    stored.clear();
    for block in piece.chunks(STORED) {
        let length = (block.len() as u16).to_le_bytes();
        stored.push(0);
        stored.extend_from_slice(&length);
        stored.extend_from_slice(&length.map(|byte| !byte));
        stored.extend_from_slice(block);
    }
}

/// The symbol of a distance: two for each power of two.
#[inline]
fn distance_symbol(distance: u16) -> usize {
    let beyond = u32::from(distance - 1);
    match beyond.checked_ilog2() {
        None | Some(0) => beyond as usize,
        Some(power) => (2 * power + (beyond >> (power - 1) & 1)) as usize,
    }
}

/// How many bits say the rest of a distance.
#[inline]
fn distance_extra(symbol: usize) -> u32 {
    (symbol as u32 / 2).saturating_sub(1)
}

/// The head of a block that is not the last: the lengths of all codes, one by one, in codes of their own.
struct Head {
    all: Vec<usize>,
    lengths: [u8; LENGTHS_ORDER.len()],
}

impl Head {
    fn new(symbols: &[u8; LITERALS_AND_LENGTHS], distances: &[u8; DISTANCES]) -> Self {
        let all: Vec<_> = symbols.iter().chain(distances).map(|length| usize::from(*length)).collect();
        let mut frequencies = [0; LENGTHS_ORDER.len()];
        all.iter().for_each(|length| frequencies[*length] += 1);
        Self { all, lengths: huffman::lengths(&frequencies, LONGEST_CODE_OF_LENGTHS) }
    }

    fn bits(&self) -> usize {
        let all: usize = self.all.iter().map(|length| usize::from(self.lengths[*length])).sum();
        3 + 5 + 5 + 4 + 3 * LENGTHS_ORDER.len() + all
    }

    fn write(&self, out: &mut BitWriter<'_>) {
        out.bits(0b100, 3);
        out.bits((LITERALS_AND_LENGTHS - 257) as u16, 5);
        out.bits((DISTANCES - 1) as u16, 5);
        out.bits((LENGTHS_ORDER.len() - 4) as u16, 4);
        out.flush();
        for length in LENGTHS_ORDER {
            out.bits(u16::from(self.lengths[length]), 3);
            out.flush();
        }
        let codes = huffman::codes(&self.lengths);
        for length in &self.all {
            out.code(codes[*length]);
            out.flush();
        }
    }
}

/// Writes bits, the lowest first, to memory that is there already.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    at: usize,
    held: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// In place of what is in `out`; `room` is eight bytes more than will be written.
    fn new(out: &'a mut Vec<u8>, room: usize) -> Self {
        if out.len() < room {
            out.resize(room, 0);
        }
        Self { out, at: 0, held: 0, count: 0 }
    }

    /// Between two flushes no more than 56 bits.
    #[inline]
    fn bits(&mut self, bits: u16, count: u32) {
        self.held |= u64::from(bits) << self.count;
        self.count += count;
    }

    #[inline]
    fn code(&mut self, code: Code) {
        self.bits(code.bits, u32::from(code.length));
    }

    #[inline]
    fn flush(&mut self) {
        self.out[self.at..self.at + size_of::<u64>()].copy_from_slice(&self.held.to_le_bytes());
        let whole = self.count / u8::BITS;
        self.at += whole as usize;
        self.held >>= whole * u8::BITS;
        self.count %= u8::BITS;
    }

    /// Ends at a byte, and cuts what was there behind it.
    fn finish(mut self) {
        self.flush();
        self.out.truncate(self.at + usize::from(self.count > 0));
    }
}
