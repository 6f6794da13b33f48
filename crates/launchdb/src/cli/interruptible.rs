//! Long work of a command: the first signal gives it up in order, the second at once.

use tokio_util::sync::CancellationToken;

use crate::exit::{self, Exit, ResultExt as _};
use crate::run::signals::Signals;

/// Runs `work`, which takes back what it has begun when its token is cancelled.
pub(super) fn run(work: impl AsyncFnOnce(CancellationToken) -> Result<(), Exit>) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.exit(exit::FAILURE)?.block_on(async {
        let (mut signals, cancel) = (Signals::new()?, CancellationToken::new());
        let mut working = std::pin::pin!(work(cancel.clone()));
        tokio::select! {
            result = &mut working => return result,
            _ = signals.next() => cancel.cancel(),
        }
        tokio::select! {
            result = &mut working => result,
            _ = signals.next() => Err(Exit::message(exit::FAILURE, "ended at once")),
        }
    })
}
