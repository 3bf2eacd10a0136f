//! A client for a gateway like Discord's. The hello sets the interval, heartbeats carry the last sequence number, and the
//! session is resumed on the next connection, so that no event is lost.
//!
//! ```sh
//! cargo run -p heartbeat-tokio --example gateway
//! ```
//!
//! The gateway (`gateway/server.rs`) freezes the first connection while its events go on. On the second connection it asks
//! the client to reconnect, and on the third it has forgotten the session.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use heartbeat_tokio::{AnyDialect, Client, Config, Event, Failure, Message, Options, Request};
use serde_json::{Value, json};

#[path = "gateway/server.rs"]
mod server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dialect = AnyDialect::named("discord").ok_or("not in the catalogue")?;
    let config = dialect
        .configure(&Config::default())? // the service's times until a hello announces others
        .to_builder()
        .pong_timeout(Duration::from_millis(500)) // an unacknowledged heartbeat marks a zombie connection
        .backoff(Duration::from_millis(200), Duration::from_secs(5), 50);
    let gateway = server::start().await?;
    // A session is resumed at the URL that the gateway named. The factory reads it at each dial.
    let resume_url = Arc::new(Mutex::new(None));
    let url = Arc::clone(&resume_url);
    let options = Options::from_factory(move |_| {
        let url = url.lock().unwrap_or_else(PoisonError::into_inner);
        Request::new(url.as_deref().unwrap_or(&gateway))
    });
    let options = options
        .config(config.build()?)
        .dialect(dialect)
        .session_by_application();
    let mut client = Client::spawn(options)?;
    let sender = client.sender().clone();

    // The session and sequence number for a resume, which outlive a connection. Events of an old connection come before
    // those of a new one, so the number is never overwritten by an older one.
    let (mut session, mut seq) = (None::<String>, Value::Null);
    let mut counts = Vec::new();
    let set_session = |id: Option<&str>, url: Option<&str>| {
        *resume_url.lock().unwrap_or_else(PoisonError::into_inner) = url.map(str::to_owned);
        id.map(str::to_owned)
    };
    while let Some(event) = client.next().await {
        match event {
            Event::Message { conn, message } => {
                let message = parse(&message);
                let (op, name, data) =
                    (message["op"].as_u64(), message["t"].as_str(), &message["d"]);
                match (op, name) {
                    // Hello. The dialect has already read the interval.
                    (Some(10), _) => {
                        let answer = match &session {
                            None => json!({"op": 2, "d": {"token": "…", "intents": 1}}),
                            Some(id) => {
                                json!({"op": 6, "d": {"token": "…", "session_id": id, "seq": seq}})
                            }
                        };
                        // Fails if the connection has just ended. Then another one follows.
                        let _ = sender.send_opening(conn, answer.to_string());
                    }
                    (Some(0), Some("READY")) => {
                        session = set_session(
                            data["session_id"].as_str(),
                            data["resume_gateway_url"].as_str(),
                        );
                        sender.ready(conn);
                    }
                    (Some(0), Some("RESUMED")) => sender.ready(conn),
                    (Some(0), _) => counts.extend(data.as_u64()),
                    (Some(7), _) => {
                        println!("asked to reconnect ({conn})");
                        // 1000 would end the session. `fail` would send 4000 too, but without a reason text.
                        sender.fail_with(conn, Failure::Retry, 4000, "resuming")?;
                    }
                    (Some(9), _) => {
                        println!("the session is invalid ({conn})");
                        session = set_session(None, None);
                        sender.fail(conn, Failure::Retry);
                    }
                    _ => {}
                }
                if op == Some(0) {
                    seq = message["s"].clone();
                }
                if counts.last() == Some(&15) {
                    sender.stop();
                }
            }
            Event::Ready { conn } => println!("ready ({conn}) after {} events", counts.len()),
            Event::PingSent { conn } => println!("heartbeat ({conn})"),
            Event::PongReceived { conn, .. } => println!("acknowledged ({conn})"),
            Event::Disconnected { conn, reason, .. } => println!("disconnected ({conn}): {reason}"),
            _ => {}
        }
    }
    println!("events {counts:?}");
    Ok(())
}

fn parse(message: &Message) -> Value {
    serde_json::from_str(message.as_text().unwrap_or_default()).unwrap_or_default()
}
