use crate::generate;
use crate::property::{Fuzzer, Reached};
use crate::repeated;

#[test]
fn random_requests_become_statements_of_parameters_and_quoted_names() {
    let fuzzer = Fuzzer::default();
    let mut statements = 0;
    let count = 3_000;
    for seed in 0..count {
        let pair = generate::pair(seed);
        match fuzzer.check(seed, &pair) {
            Ok(reached) => statements += u64::from(reached == Reached::Statement),
            Err(what) => panic!("seed {seed}: {what}\n{:?}\n{:?}", pair.first, pair.second),
        }
    }
    assert!(statements * 3 > count, "only {statements} of {count} requests became statements");
}

#[test]
fn one_thing_over_and_over_is_read_or_refused() {
    let fuzzer = Fuzzer::default();
    for repeated in repeated::all() {
        if let Err(error) = fuzzer.check_one(&repeated.input(400)) {
            panic!("{}: {error}", repeated.what);
        }
    }
}
