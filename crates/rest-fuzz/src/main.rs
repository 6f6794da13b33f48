//! `rest-fuzz [--inputs N] [--seed N]`: a long run on all processors. Prints the first requests that break a property, and
//! those that take a time out of proportion to their length.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rest_fuzz::generate::{self, Input};
use rest_fuzz::property::Fuzzer;
use rest_fuzz::repeated;

const USAGE: &str = "usage: rest-fuzz [--inputs N] [--seed N]";

fn main() -> ExitCode {
    let Some((inputs, seed)) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let slow = out_of_proportion();
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let started = Instant::now();
    let share = inputs.div_ceil(threads);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|n| scope.spawn(move || work(seed + n * share..(seed + (n + 1) * share).min(seed + inputs))))
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let mut total = Tally::default();
    for tally in &tallies {
        total.add(tally);
    }
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{} inputs in {seconds:.0} s: {} no HTTP, {} refused by the parser, {} by the planner, {} without statement, {} \
         statements; the slowest took {} us (seed {})",
        total.counts.iter().sum::<u64>(),
        total.counts[0],
        total.counts[1],
        total.counts[2],
        total.counts[3],
        total.counts[4],
        total.slowest.0.as_micros(),
        total.slowest.1,
    );
    if total.failures == 0 && slow == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The length of what is repeated, and how much more is tried. `http` takes URIs of up to 65,534 bytes.
const SHORT: usize = 7_500;
const TIMES: usize = 8;

/// Prints what takes much longer than its length says; gives how many there are.
fn out_of_proportion() -> usize {
    let fuzzer = Fuzzer::default();
    let time = |input: &Input, times: usize| {
        let once = || {
            let started = Instant::now();
            let result = fuzzer.check_one(input);
            (started.elapsed(), result)
        };
        // The shortest of some, because others use the machine as well.
        let (first, result) = once();
        result.map(|_| (0..times).fold(first, |shortest, _| shortest.min(once().0)))
    };
    let (mut slow, mut slowest) = (0, (Duration::ZERO, String::new()));
    for repeated in repeated::all() {
        let what = &repeated.what;
        let (short, long) = (repeated.input(SHORT), repeated.input(SHORT * TIMES));
        let in_proportion = |short: Duration, long: Duration| long < Duration::from_millis(5) || long < short * 24;
        // Only what looks slow is tried more often.
        let times = |times| (time(&short, times), time(&long, times));
        let result = match times(0) {
            (Ok(short), Ok(long)) if !in_proportion(short, long) => times(20),
            result => result,
        };
        let (short, long) = match result {
            (Ok(short), Ok(long)) => (short, long),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("{what}: {error}");
                slow += 1;
                continue;
            }
        };
        if long > slowest.0 {
            slowest = (long, what.clone());
        }
        // A square would make it 64 times as long.
        if !in_proportion(short, long) {
            eprintln!(
                "out of proportion: {} us, and {} times the length {} us: {what}",
                short.as_micros(),
                TIMES,
                long.as_micros()
            );
            slow += 1;
        }
    }
    eprintln!("of what was repeated {} us was the slowest: {}", slowest.0.as_micros(), slowest.1);
    slow
}

fn arguments() -> Option<(u64, u64)> {
    let (mut inputs, mut seed) = (1_000_000, 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--inputs" => inputs = value,
            "--seed" => seed = value,
            _ => return None,
        }
    }
    Some((inputs, seed))
}

#[derive(Default)]
struct Tally {
    /// By [`Reached`].
    counts: [u64; 5],
    /// The longest time one input took, and its seed.
    slowest: (Duration, u64),
    failures: u64,
}

/// So many failures of one thread are printed before it ends.
const MOST_FAILURES: u64 = 5;

impl Tally {
    fn add(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(other.counts) {
            *own += other;
        }
        self.slowest = self.slowest.max(other.slowest);
        self.failures += other.failures;
    }
}

/// Each seed is one input, tried with two sets of texts.
fn work(seeds: std::ops::Range<u64>) -> Tally {
    let fuzzer = Fuzzer::default();
    let mut tally = Tally::default();
    for seed in seeds {
        let pair = generate::pair(seed);
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| fuzzer.check(seed, &pair)));
        tally.slowest = tally.slowest.max((started.elapsed(), seed));
        let what = match result {
            Ok(Ok(reached)) => {
                tally.counts[reached as usize] += 1;
                continue;
            }
            Ok(Err(what)) => what,
            Err(_) => "it panicked".to_owned(),
        };
        eprintln!("seed {seed}: {what}\n{:?}\n{:?}", pair.first, pair.second);
        tally.failures += 1;
        if tally.failures == MOST_FAILURES {
            break;
        }
    }
    tally
}
