//! What may be sent again after an error.

use crate::error::Error;
use crate::exchange::Exchange;

/// How often an exchange is sent; where one connection was ended or lost its statements, the next may have been too.
const MOST_ATTEMPTS: usize = 4;
/// How often one is given to a connection that turns out to have ended: all of a pool may have ended at once, which costs
/// nothing but to find out.
const MOST_STARTS: usize = 16;

/// What has become of an exchange so far.
#[derive(Default)]
pub(super) struct Tries {
    attempts: usize,
    starts: usize,
    /// What was prepared for it was no longer good once; it may not be on the next connection either.
    pub(super) stale: bool,
}

impl Tries {
    /// Whether it may be sent again after this error.
    pub(super) fn allow(&mut self, error: &Error, exchange: &Exchange) -> bool {
        let stale = matches!(error, Error::Db(cause) if cause.stale);
        self.stale |= stale;
        match error {
            Error::NotStarted => {
                self.starts += 1;
                self.starts < MOST_STARTS
            }
            Error::Lost | Error::Db(_) => {
                self.attempts += 1;
                let repeatable = stale || exchange.read_only && matches!(error, Error::Lost);
                repeatable && self.attempts < MOST_ATTEMPTS
            }
            _ => false,
        }
    }
}
