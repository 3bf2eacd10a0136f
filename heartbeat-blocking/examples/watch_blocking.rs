//! Watches a connection live, die and come back.
//!
//! ```sh
//! cargo run --release -p heartbeat-blocking --example watch_blocking                  # a server that misbehaves
//! cargo run --release -p heartbeat-blocking --example watch_blocking -- wss://HOST/   # a server of your own
//! ```
//!
//! The flags, the demo's server and the printing are in `heartbeat_tests::watch`; `--help` lists them.

use std::process::ExitCode;

use heartbeat_blocking::{Client, RecvTimeoutError};
use heartbeat_tests::watch::Watch;

fn main() -> ExitCode {
    run().unwrap_or_else(|status| status)
}

fn run() -> Result<ExitCode, ExitCode> {
    let (mut watch, options) = Watch::from_args()?;
    let mut client = Client::spawn(options).map_err(|error| {
        eprintln!("watch: {error}");
        ExitCode::from(2)
    })?;
    let (sending, stopping) = (client.sender().clone(), client.sender().clone());
    watch.listen_to_the_user(move |line| sending.try_send(line), move || stopping.stop())?;

    loop {
        match client.recv_timeout(watch.time_left()) {
            Ok(event) => {
                if watch.tell(&event).is_err() {
                    client.sender().stop();
                }
            }
            Err(RecvTimeoutError::Timeout) => client.sender().stop(),
            Err(_) => return Ok(watch.status()),
        }
    }
}
