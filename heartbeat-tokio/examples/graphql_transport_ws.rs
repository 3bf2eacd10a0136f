//! GraphQL subscriptions (`graphql-transport-ws`) that survive reconnects. The client initialises each connection, takes the
//! protocol's pings from the catalogue, handles its close codes, and renews its incomplete subscriptions after a reconnect.
//!
//! ```sh
//! cargo run -p heartbeat-tokio --example graphql_transport_ws
//! ```
//!
//! The server (`graphql_transport_ws/server.rs`) closes the first connection because of a slow initialisation (4408), freezes
//! the second connection, and closes the third one with 4429 (too many initialisation requests).

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use heartbeat_tokio::{
    AnyDialect, CauseKind, Client, Config, ConnId, Event, Options, Ping, Request, RetryPolicy,
    SendError,
};
use serde_json::{Value, json};

#[path = "graphql_transport_ws/server.rs"]
mod server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::builder()
        .idle_timeout(Duration::from_secs(5))
        .ping(Ping::AfterSilence(Duration::from_millis(500)))
        .pong_timeout(Duration::from_secs(1))
        .backoff(Duration::from_millis(200), Duration::from_secs(5), 50)
        // 4408, "connection initialisation timeout", is retried like any other code. The codes below mean that the
        // client did something wrong, and would do it again.
        .on(CauseKind::Close(4400), RetryPolicy::Never) // invalid message
        .on(CauseKind::Close(4409), RetryPolicy::Never) // subscriber already exists
        .on(CauseKind::Close(4429), RetryPolicy::Never); // too many initialisation requests
    let request = Request::new(&server::start().await?)?.subprotocol("graphql-transport-ws")?;
    let options = Options::from_request(request)
        .config(config.build()?)
        .dialect(AnyDialect::named("graphql-transport-ws").ok_or("not in the catalogue")?)
        .session_by_application();
    let mut client = Client::spawn(options)?;

    // The wanted subscriptions, by operation id. They outlive a connection.
    let mut operations = BTreeMap::from([
        ("1", "subscription { price }"),
        ("2", "subscription { countdown }"),
    ]);
    while let Some(event) = client.next().await {
        match event {
            Event::Connected { conn, response, .. } => {
                println!(
                    "connected ({conn}), speaking {}",
                    response.subprotocol().unwrap_or("nothing")
                );
                // Fails if the connection has just ended. Then another one follows.
                let _ = client
                    .sender()
                    .send_opening(conn, r#"{"type":"connection_init"}"#);
            }
            Event::Message { conn, message } => {
                let message: Value = serde_json::from_str(message.as_text().unwrap_or_default())?;
                let id = message["id"].as_str().unwrap_or_default();
                match message["type"].as_str() {
                    Some("connection_ack") => {
                        println!(
                            "acknowledged ({conn}): subscribing to {:?}",
                            operations.keys()
                        );
                        let _ = subscribe(&client, conn, &operations);
                    }
                    Some("next") => println!("next {id}: {}", message["payload"]["data"]),
                    Some("complete" | "error") => {
                        println!("{} {id}", message["type"].as_str().unwrap_or_default());
                        operations.remove(id);
                    }
                    other => println!("ignored: {other:?}"),
                }
            }
            Event::Gap { down_for, .. } => println!("{down_for:.1?} of events may be missing"),
            Event::PongReceived { conn, .. } => println!("pong ({conn})"),
            Event::PongSent { conn } => println!("ping answered ({conn})"),
            Event::Disconnected {
                conn,
                reason,
                detail,
                ..
            } => {
                println!(
                    "disconnected ({conn}): {reason} {}",
                    detail.unwrap_or_default()
                );
            }
            Event::GaveUp { reason, .. } => println!("gave up: {reason:?}"),
            _ => {}
        }
    }
    Ok(())
}

/// Sends all subscriptions ahead of other messages on this connection, and then makes its session ready.
fn subscribe(
    client: &Client,
    conn: ConnId,
    operations: &BTreeMap<&str, &str>,
) -> Result<(), SendError> {
    for (id, query) in operations {
        let message = json!({"id": id, "type": "subscribe", "payload": {"query": query}});
        client.sender().send_opening(conn, message.to_string())?;
    }
    client.sender().ready(conn);
    Ok(())
}
