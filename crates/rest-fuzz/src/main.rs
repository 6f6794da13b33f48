//! `rest-fuzz [--inputs N] [--seed N]`: a long run on all processors. Prints the first requests that break a property, and
//! those that take a time out of proportion to their length.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rest_fuzz::generate::{self, Input};
use rest_fuzz::property::Fuzzer;
use rest_fuzz::repeated;
use seeded::Arguments;

const USAGE: &str = "usage: rest-fuzz [--inputs N] [--seed N]";

fn main() -> ExitCode {
    let Some(asked) = Arguments::read(std::env::args().skip(1), &[]) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let slow = out_of_proportion();
    // Each seed is one input, tried with two sets of texts.
    let tally = seeded::run::<5, _>("rest", asked.seeds(), || {
        let fuzzer = Fuzzer::default();
        move |seed| {
            let pair = generate::pair(seed);
            let told = |what: String| format!("{what}\n{:?}\n{:?}", pair.first, pair.second);
            fuzzer.check(seed, &pair).map(|reached| reached as usize).map_err(told)
        }
    });
    eprintln!(
        "{} inputs in {:.0} s: {} no HTTP, {} refused by the parser, {} by the planner, {} without statement, {} statements; \
         the slowest took {} us (seed {})",
        tally.counts.iter().sum::<u64>(),
        tally.took.as_secs_f64(),
        tally.counts[0],
        tally.counts[1],
        tally.counts[2],
        tally.counts[3],
        tally.counts[4],
        tally.slowest.0.as_micros(),
        tally.slowest.1,
    );
    if tally.failures == 0 && slow == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
