use crate::{Reached, TARGETS};

#[test]
fn random_inputs_mean_what_they_say_or_are_refused() {
    for (name, check) in TARGETS {
        let (count, mut accepted) = (4_000, 0);
        for seed in 0..count {
            match check(seed) {
                Ok(reached) => accepted += u64::from(reached == Reached::Accepted),
                Err(what) => panic!("{name}, seed {seed}: {what}"),
            }
        }
        assert!(accepted * 20 > count && accepted < count, "{name}: {accepted} of {count} meant something");
    }
}
