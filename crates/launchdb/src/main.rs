use std::process::ExitCode;

fn main() -> ExitCode {
    launchdb::main(std::env::args_os().collect())
}
