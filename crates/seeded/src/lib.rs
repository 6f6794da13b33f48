//! What fuzzing by seeds takes: random inputs that are the same for the same seed ([`Random`]), and long runs of them on all
//! processors ([`run`]).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

mod arguments;
mod random;
mod run;

pub use arguments::Arguments;
pub use random::{Random, encode, is_unreserved};
pub use run::{Tally, run};
