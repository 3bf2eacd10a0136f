//! Simulates a fleet of clients against a server farm. `--help` says how.

use std::process::ExitCode;

fn main() -> ExitCode {
    heartbeat_tests::fleet::command::main()
}
