//! The command line of a long run.

use std::ops::Range;

/// `[--inputs N] [--seed N] [TARGET...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    inputs: u64,
    seed: u64,
    targets: Vec<String>,
}

impl Arguments {
    /// None when something is not understood; `targets` are those there are.
    pub fn read(arguments: impl IntoIterator<Item = String>, targets: &[&str]) -> Option<Self> {
        let mut read = Self { inputs: 1_000_000, seed: 0, targets: Vec::new() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--inputs" => read.inputs = arguments.next()?.parse().ok()?,
                "--seed" => read.seed = arguments.next()?.parse().ok()?,
                name if targets.contains(&name) => read.targets.push(argument),
                _ => return None,
            }
        }
        Some(read)
    }

    /// The seeds to try.
    pub fn seeds(&self) -> Range<u64> {
        self.seed..self.seed.saturating_add(self.inputs)
    }

    /// Whether a target was asked for; all are when none was named.
    pub fn wants(&self, target: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|name| name == target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_refused() {
        let read = |line: &str| Arguments::read(line.split_whitespace().map(str::to_owned), &["a", "b"]);
        let found = read("--inputs 5 --seed 7 b").unwrap();
        assert_eq!((found.seeds(), found.wants("a"), found.wants("b")), (7..12, false, true));
        assert!(read("").unwrap().wants("a"));
        for bad in ["c", "--inputs", "--inputs x", "--seed -1", "--other 1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
