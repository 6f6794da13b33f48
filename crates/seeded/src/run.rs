//! A long run on all processors.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// So many failures of one thread are printed before it ends.
const MOST_FAILURES: u64 = 5;

/// What became of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally<const KINDS: usize> {
    /// How many fell into each kind.
    pub counts: [u64; KINDS],
    /// Inputs that broke a property, or panicked.
    pub failures: u64,
    /// The longest time one input took, and its seed.
    pub slowest: (Duration, u64),
    /// Of the whole run.
    pub took: Duration,
}

impl<const KINDS: usize> Default for Tally<KINDS> {
    fn default() -> Self {
        Self { counts: [0; KINDS], failures: 0, slowest: Default::default(), took: Duration::ZERO }
    }
}

impl<const KINDS: usize> Tally<KINDS> {
    fn add(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(other.counts) {
            *own += other;
        }
        self.failures += other.failures;
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Tries the input of each seed. `begin` makes, for one thread, the function that does: it gives the kind that the input was
/// of, below `KINDS`, or says what is wrong. That is printed behind `name` and the seed.
pub fn run<const KINDS: usize, C>(name: &str, seeds: Range<u64>, begin: impl Fn() -> C + Sync) -> Tally<KINDS>
where
    C: FnMut(u64) -> Result<usize, String>,
{
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = (seeds.end - seeds.start).div_ceil(threads);
    let of_thread = |n: u64| {
        let start = seeds.start.saturating_add(n * share);
        start..start.saturating_add(share).min(seeds.end)
    };
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let begin = &begin;
        let workers: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(name, of_thread(n), begin()))).collect();
        for worker in workers {
            match worker.join() {
                Ok(tally) => total.add(&tally),
                Err(_) => total.failures += 1,
            }
        }
    });
    total.took = started.elapsed();
    total
}

fn work<const KINDS: usize>(
    name: &str,
    seeds: Range<u64>,
    mut check: impl FnMut(u64) -> Result<usize, String>,
) -> Tally<KINDS> {
    let mut tally = Tally::default();
    for seed in seeds {
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| check(seed)));
        tally.slowest = tally.slowest.max((started.elapsed(), seed));
        let what = match result {
            Ok(Ok(kind)) => {
                tally.counts[kind] += 1;
                continue;
            }
            Ok(Err(what)) => what,
            Err(_) => "it panicked".to_owned(),
        };
        eprintln!("{name}, seed {seed}: {what}");
        tally.failures += 1;
        if tally.failures == MOST_FAILURES {
            break;
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_tried_once_and_failures_are_counted() {
        let kinds = |seed: u64| if seed == 7 { Err("seven".to_owned()) } else { Ok((seed % 2 == 1) as usize) };
        let tally = run::<2, _>("test", 0..101, || kinds);
        assert_eq!((tally.counts, tally.failures), ([51, 49], 1));
        let tally = run::<1, _>("test", 5..5, || |_| Ok(0));
        assert_eq!((tally.counts, tally.failures), ([0], 0));
    }
}
