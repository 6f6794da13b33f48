//! `storage-fuzz [--inputs N] [--seed N] [TARGET...]`: a long run on all processors, N inputs for each target. Prints the
//! first inputs that break a property.

use std::process::ExitCode;
use std::time::Duration;

use seeded::Arguments;
use storage_fuzz::{Check, TARGETS};

const USAGE: &str = "usage: storage-fuzz [--inputs N] [--seed N] [keys] [tus] [ranges] [sigv4] [chunked]";
/// Longer than any input of these may take, even on a busy machine.
const TOO_SLOW: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let Some(asked) = Arguments::read(std::env::args().skip(1), &TARGETS.map(|(name, _)| name)) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let mut good = true;
    for (name, check) in TARGETS.into_iter().filter(|(name, _)| asked.wants(name)) {
        good &= run(name, check, &asked);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// True when every property held.
fn run(name: &str, check: Check, asked: &Arguments) -> bool {
    let tally = seeded::run::<2, _>(name, asked.seeds(), || |seed| check(seed).map(|reached| reached as usize));
    let [refused, accepted] = tally.counts;
    eprintln!(
        "{name}: {refused} inputs refused, {accepted} meant something, {} broke a property, in {:.0} s; the slowest took {} us \
         (seed {})",
        tally.failures,
        tally.took.as_secs_f64(),
        tally.slowest.0.as_micros(),
        tally.slowest.1,
    );
    tally.failures == 0 && tally.slowest.0 < TOO_SLOW
}
