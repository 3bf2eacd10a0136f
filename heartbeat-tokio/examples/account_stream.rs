//! Keeps an account in step with an exchange's stream of changes. It logs in and subscribes, and after each gap it fetches
//! a snapshot before it applies changes again.
//!
//! ```sh
//! cargo run -p heartbeat-tokio --example account_stream
//! ```
//!
//! The exchange (`account_stream/exchange.rs`) sends pings as messages, freezes the first connection, refuses the second
//! login, and drops the third connection. It trades all the time.

use std::error::Error;
use std::time::Duration;

use exchange::Exchange;
use heartbeat_tokio::{
    Client, Config, Description, Event, Failure, Message, OnConnect, Opening, Options, Ping,
    Progress,
};
use serde_json::{Value, json};

#[path = "account_stream/exchange.rs"]
mod exchange;

/// The exchange's ping messages, and the ping that it expects from clients.
const DIALECT: &str = r#"{
    "rules": [
        {"json": {"/op": "ping"}, "reply": "{\"op\":\"pong\",\"ts\":${/ts}}"},
        {"json": {"/op": "pong"}, "pong": true}
    ],
    "ping": {"text": "{\"op\":\"ping\",\"req_id\":\"${id}\"}"}
}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (url, exchange) = Exchange::start().await?;
    let config = Config::builder()
        .idle_timeout(Duration::from_secs(2))
        .ping(Ping::AfterSilence(Duration::from_millis(500)))
        .backoff(Duration::from_millis(200), Duration::from_secs(5), 50);
    let options = Options::new(&url)?
        .config(config.build()?)
        .dialect(Description::from_json(DIALECT)?)
        .on_connect(Login { token: 1 });
    let mut client = Client::spawn(options)?;

    let mut account = Account::default();
    let mut snapshot = None;
    // Runs until the account has its third snapshot, and 10 changes after that.
    while account.snapshots < 3 || account.at < account.since + 10 {
        tokio::select! {
            event = client.next() => match event.ok_or("the client has ended")? {
                Event::Gap { cause, .. } => {
                    println!("gap after {cause}: changes wait for a snapshot");
                    account.waiting = Some(Vec::new());
                }
                // The snapshot is fetched after the subscription, so that no change is missed between the two.
                Event::Ready { conn } => {
                    println!("logged in and subscribed ({conn})");
                    snapshot = Some(Box::pin(exchange.snapshot()));
                }
                Event::Message { message, .. } => account.take(message.as_text().unwrap_or_default())?,
                Event::Disconnected { conn, reason, .. } => {
                    println!("disconnected ({conn}): {reason}");
                    snapshot = None;
                }
                _ => {}
            },
            Some((at, balance)) = async { Some(snapshot.as_mut()?.await) } => {
                snapshot = None;
                account.resync(at, balance);
            }
        }
    }
    client.stop().await;
    let truth = exchange.balance_at(account.at);
    println!(
        "balance {} at change {}; the exchange says {truth}",
        account.balance, account.at
    );
    Ok(())
}

/// On each connection, authenticates with a token, and subscribes once the token is accepted.
struct Login {
    token: u32,
}

impl OnConnect for Login {
    fn connected(&mut self, opening: &mut Opening<'_>) -> Progress {
        if opening.attempt().refresh {
            self.token += 1; // a real client fetches a token, see `Options::from_async_factory`
        }
        opening.send(json!({"op": "auth", "token": self.token}).to_string());
        Progress::Pending
    }

    fn message(&mut self, message: &Message, opening: &mut Opening<'_>) -> Progress {
        match message.as_text() {
            Some(r#"{"auth":"ok"}"#) => {
                opening.send(r#"{"op":"subscribe","topic":"account"}"#);
                Progress::Pending
            }
            Some(r#"{"auth":"expired"}"#) => Progress::Failed(Failure::Refresh),
            Some(r#"{"subscribed":"account"}"#) => Progress::Ready,
            _ => Progress::Pending,
        }
    }
}

/// The application's copy of the account.
struct Account {
    balance: i64,
    /// The number of the last change in the balance.
    at: u64,
    /// Changes that wait for a snapshot. `None` while the account is in step.
    waiting: Option<Vec<(u64, i64)>>,
    snapshots: u32,
    /// The number of the last change in the last snapshot.
    since: u64,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            balance: 0,
            at: 0,
            waiting: Some(Vec::new()),
            snapshots: 0,
            since: 0,
        }
    }
}

impl Account {
    fn take(&mut self, text: &str) -> Result<(), Box<dyn Error>> {
        let message: Value = serde_json::from_str(text)?;
        if let (Some(seq), Some(change)) = (message["seq"].as_u64(), message["change"].as_i64()) {
            match &mut self.waiting {
                Some(waiting) => waiting.push((seq, change)),
                None => self.apply(seq, change),
            }
        }
        Ok(())
    }

    fn resync(&mut self, at: u64, balance: i64) {
        (self.at, self.balance, self.since) = (at, balance, at);
        self.snapshots += 1;
        let waiting = self.waiting.take().unwrap_or_default();
        println!(
            "in step with snapshot {}; {} changes were waiting",
            self.snapshots,
            waiting.len()
        );
        for (seq, change) in waiting {
            self.apply(seq, change);
        }
    }

    /// Applies a change, unless the snapshot already includes it.
    fn apply(&mut self, seq: u64, change: i64) {
        if seq > self.at {
            assert_eq!(seq, self.at + 1, "a change is missing");
            (self.at, self.balance) = (seq, self.balance + change);
        }
    }
}
