//! `storage-fuzz [--inputs N] [--seed N] [TARGET...]`: a long run on all processors, N inputs for each target. Prints the
//! first inputs that break a property.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use storage_fuzz::{Check, Reached, TARGETS};

const USAGE: &str = "usage: storage-fuzz [--inputs N] [--seed N] [keys] [tus] [ranges] [sigv4] [chunked]";
/// So many failures of one thread are printed before it ends.
const MOST_FAILURES: u64 = 5;
/// Longer than any input of these may take, even on a busy machine.
const TOO_SLOW: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let Some(asked) = Asked::read() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let mut good = true;
    for (name, check) in TARGETS {
        if asked.targets.is_empty() || asked.targets.iter().any(|target| target == name) {
            good &= run(name, check, &asked);
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Asked {
    inputs: u64,
    seed: u64,
    targets: Vec<String>,
}

impl Asked {
    fn read() -> Option<Self> {
        let mut asked = Self { inputs: 1_000_000, seed: 0, targets: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--inputs" => asked.inputs = arguments.next()?.parse().ok()?,
                "--seed" => asked.seed = arguments.next()?.parse().ok()?,
                name if TARGETS.iter().any(|(target, _)| *target == name) => asked.targets.push(argument),
                _ => return None,
            }
        }
        Some(asked)
    }
}

/// True when every property held.
fn run(name: &str, check: Check, asked: &Asked) -> bool {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let started = Instant::now();
    let share = asked.inputs.div_ceil(threads);
    let end = asked.seed + asked.inputs;
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let seeds = |n: u64| asked.seed + n * share..(asked.seed + (n + 1) * share).min(end);
        let workers: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(name, check, seeds(n)))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let slowest = tallies.iter().map(|tally| tally.slowest).max().unwrap_or_default();
    eprintln!(
        "{name}: {} inputs refused, {} meant something, {} broke a property, in {:.0} s; the slowest took {} us (seed {})",
        sum(|tally| tally.refused),
        sum(|tally| tally.accepted),
        sum(|tally| tally.failures),
        started.elapsed().as_secs_f64(),
        slowest.0.as_micros(),
        slowest.1,
    );
    sum(|tally| tally.failures) == 0 && slowest.0 < TOO_SLOW
}

#[derive(Default)]
struct Tally {
    refused: u64,
    accepted: u64,
    failures: u64,
    /// The longest time one input took, and its seed.
    slowest: (Duration, u64),
}

fn work(name: &str, check: Check, seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| check(seed)));
        tally.slowest = tally.slowest.max((started.elapsed(), seed));
        let what = match result {
            Ok(Ok(Reached::Refused)) => {
                tally.refused += 1;
                continue;
            }
            Ok(Ok(Reached::Accepted)) => {
                tally.accepted += 1;
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
