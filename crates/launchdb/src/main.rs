use std::process::ExitCode;

/// A request allocates some dozen times; see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    launchdb::main(std::env::args_os().collect())
}
