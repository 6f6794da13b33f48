//! Prefix codes of symbols by how often they occur (RFC 1951, section 3.2.2).

/// The longest code that deflate has.
const MOST_BITS: usize = 15;

/// A symbol's code; none where the length is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Code {
    /// As they are written: the first is the lowest.
    pub(super) bits: u16,
    pub(super) length: u8,
}

/// The lengths of the codes that make the text shortest, where none is longer than `longest` bits (nearly so, where that binds).
/// There are two codes at least, which every decoder takes; symbols that do not occur have none else.
pub(super) fn lengths<const N: usize>(frequencies: &[u32; N], longest: usize) -> [u8; N] {
    let mut used: Vec<usize> = (0..N).filter(|symbol| frequencies[*symbol] > 0).collect();
    let unused = (0..N).filter(|symbol| frequencies[*symbol] == 0);
    used.extend(unused.take(2_usize.saturating_sub(used.len())));
    used.sort_by_key(|symbol| frequencies[*symbol]);
    let mut counts = vec![0_usize; longest + 1];
    for depth in depths(&used.iter().map(|symbol| u64::from(frequencies[*symbol])).collect::<Vec<_>>()) {
        counts[depth.min(longest)] += 1;
    }
    shorten(&mut counts);
    let mut lengths = [0; N];
    // Who is rarest has the longest.
    let by_length = (1..=longest).rev().flat_map(|length| std::iter::repeat_n(length as u8, counts[length]));
    for (symbol, length) in used.into_iter().zip(by_length) {
        lengths[symbol] = length;
    }
    lengths
}

/// How deep the leaves of these weights, the lightest first, are in Huffman's tree.
fn depths(leaves: &[u64]) -> Vec<usize> {
    // Behind the leaves the nodes, in the order in which they are made, which is that of their weights: two queues.
    let mut weights = leaves.to_vec();
    let mut parents = vec![0; 2 * leaves.len() - 1];
    let (mut leaf, mut node) = (0, leaves.len());
    while weights.len() < parents.len() {
        let mut weight = 0;
        for _ in 0..2 {
            let leaf_is_lightest = leaf < leaves.len() && (node == weights.len() || weights[leaf] <= weights[node]);
            let lightest = if leaf_is_lightest { &mut leaf } else { &mut node };
            weight += weights[*lightest];
            parents[*lightest] = weights.len();
            *lightest += 1;
        }
        weights.push(weight);
    }
    let mut depths = vec![0; parents.len()];
    for at in (0..parents.len() - 1).rev() {
        depths[at] = depths[parents[at]] + 1;
    }
    depths.truncate(leaves.len());
    depths
}

/// Makes room for codes that were cut to the longest length; `counts` is how many have each length.
fn shorten(counts: &mut [usize]) {
    let longest = counts.len() - 1;
    // In units of the longest.
    let taken: usize = (1..=longest).map(|length| counts[length] << (longest - length)).sum();
    for _ in (1_usize << longest)..taken {
        // A longest one takes the place beside a shorter one, which becomes a bit longer.
        let Some(length) = (1..longest).rev().find(|length| counts[*length] > 0) else { return };
        counts[longest] -= 1;
        counts[length] -= 1;
        counts[length + 1] += 2;
    }
}

/// The codes that have such lengths.
pub(super) fn codes<const N: usize>(lengths: &[u8; N]) -> [Code; N] {
    let mut next = [0_u16; MOST_BITS + 1];
    let mut first = 0;
    for (length, next) in next.iter_mut().enumerate().skip(1) {
        *next = first;
        first = (first + lengths.iter().filter(|other| usize::from(**other) == length).count() as u16) << 1;
    }
    lengths.map(|length| {
        let Some(shift) = u16::BITS.checked_sub(u32::from(length)).filter(|_| length > 0) else {
            return Code::default();
        };
        let code = &mut next[usize::from(length)];
        let bits = code.reverse_bits() >> shift;
        *code += 1;
        Code { bits, length }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_fill_the_space_and_are_no_longer_than_they_may() {
        let mut fibonacci = [1_u32; 40];
        for at in 2..40 {
            fibonacci[at] = fibonacci[at - 1] + fibonacci[at - 2];
        }
        let mut one = [0; 40];
        one[7] = 3;
        for (frequencies, longest) in [(fibonacci, 14), (fibonacci, 7), ([1; 40], 7), (one, 7), ([0; 40], 7)] {
            let lengths = lengths(&frequencies, longest);
            assert!(lengths.iter().all(|length| usize::from(*length) <= longest));
            let space: usize = lengths.iter().filter(|length| **length > 0).map(|length| 1 << (15 - length)).sum();
            assert_eq!(space, 1 << 15, "{frequencies:?}");
            // No code begins with another.
            let codes: Vec<_> = codes(&lengths).into_iter().filter(|code| code.length > 0).collect();
            for (at, code) in codes.iter().enumerate() {
                let begins = |other: &Code| {
                    (code.bits ^ other.bits).trailing_zeros() >= u32::from(code.length.min(other.length))
                };
                assert!(!codes[at + 1..].iter().any(begins), "{frequencies:?}");
            }
        }
        // The fewest bits: 1, 2, 3 and 3 of them.
        assert_eq!(lengths(&[10, 4, 2, 1], 14), [1, 2, 3, 3]);
    }
}
