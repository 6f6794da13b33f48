//! Range headers: what comes out lies within the content, and what is a range is read as RFC 9110 says.

use storage::fuzz::{self, RangeAsked};

use crate::Reached;
use crate::keys::refused;
use seeded::Random;

const PIECES: [&str; 20] = [
    "bytes",
    "=",
    "-",
    "0",
    "1",
    "9",
    "42",
    "18446744073709551615",
    "18446744073709551616",
    " ",
    ",",
    "x",
    "-1",
    "+",
    "\t",
    "Bytes",
    "items",
    "--",
    "0x1",
    "1e3",
];

/// # Errors
/// What is wrong with what became of the headers of this seed.
pub fn check(seed: u64) -> Result<Reached, String> {
    let mut random = Random::new(seed);
    let size = random.any_number();
    if random.chance(40) { meant(&mut random, size) } else { hostile(&mut random, size) }
}

/// A range as clients write it, beside what arithmetic without limits makes of it.
fn meant(random: &mut Random, size: u64) -> Result<Reached, String> {
    let near = |random: &mut Random| match random.below(3) {
        0 => u128::from(size).saturating_add(random.below(5) as u128).saturating_sub(2),
        1 => u128::from(random.number()) << random.below(32),
        _ => u128::from(random.any_number()),
    };
    let (first, last, whole) = (near(random), near(random), u128::from(size));
    let (header, expected) = match random.below(3) {
        0 => (format!("bytes={first}-"), (first < whole).then_some((first, whole))),
        1 => {
            let part = (first != 0 && whole != 0).then(|| (whole.saturating_sub(first), whole));
            (format!("bytes=-{first}"), part)
        }
        _ if first > last => {
            let header = format!("bytes={first}-{last}");
            // Numbers beyond 64 bits are all the same.
            if u64::try_from(first).is_err() || u64::try_from(last).is_err() {
                return Ok(Reached::Refused);
            }
            return match fuzz::range(&header, size) {
                RangeAsked::Whole => Ok(Reached::Accepted),
                other => Err(format!("{header} of {size} was read as {other:?}")),
            };
        }
        _ => (format!("bytes={first}-{last}"), (first < whole).then(|| (first, whole.min(last + 1)))),
    };
    let read = match fuzz::range(&header, size) {
        RangeAsked::Part(part) => Some((u128::from(part.start), u128::from(part.end))),
        RangeAsked::Unsatisfiable => None,
        RangeAsked::Whole => return Err(format!("{header} of {size} was ignored")),
    };
    if read == expected {
        Ok(Reached::Accepted)
    } else {
        Err(format!("{header} of {size}: {read:?}, not {expected:?}"))
    }
}

fn hostile(random: &mut Random, size: u64) -> Result<Reached, String> {
    let mut header = random.joined(&PIECES, 9);
    if random.chance(50) {
        header.insert_str(0, "bytes=");
    }
    if random.chance(20) {
        header = random.damaged(&header);
    }
    let mut reached = Reached::Refused;
    if let RangeAsked::Part(part) = fuzz::range(&header, size) {
        reached = Reached::Accepted;
        if part.start >= part.end || part.end > size {
            return Err(format!("{header:?} of {size} is {part:?}"));
        }
    }
    match fuzz::copied_range(&header, size) {
        Ok(part) if part.start < part.end && part.end <= size => Ok(Reached::Accepted),
        Ok(part) => Err(format!("{header:?} copies {part:?} of {size}")),
        Err(refusal) => refused(&refusal).map(|()| reached),
    }
}
