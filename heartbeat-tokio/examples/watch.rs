//! Watches a connection live, die and come back.
//!
//! ```sh
//! cargo run --release -p heartbeat-tokio --example watch                  # a server that misbehaves
//! cargo run --release -p heartbeat-tokio --example watch -- wss://HOST/   # a server of your own
//! ```
//!
//! The flags, the demo's server and the printing are in `heartbeat_tests::watch`; `--help` lists them.

use std::process::ExitCode;

use heartbeat_tests::watch::Watch;
use heartbeat_tokio::Client;
use tokio::time::sleep_until;

#[tokio::main]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|status| status)
}

async fn run() -> Result<ExitCode, ExitCode> {
    let (mut watch, options) = Watch::from_args()?;
    let mut client = Client::spawn(options).map_err(|error| {
        eprintln!("watch: {error}");
        ExitCode::from(2)
    })?;
    let (sending, stopping) = (client.sender().clone(), client.sender().clone());
    watch.listen_to_the_user(move |line| sending.try_send(line), move || stopping.stop())?;

    let mut deadline = watch.deadline();
    loop {
        let limit = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = client.next() => event,
            () = limit => {
                deadline = None;
                client.sender().stop();
                continue;
            }
        };
        let Some(event) = event else {
            return Ok(watch.status());
        };
        if watch.tell(&event).is_err() {
            client.sender().stop();
        }
    }
}
