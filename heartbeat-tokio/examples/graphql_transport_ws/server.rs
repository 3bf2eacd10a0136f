//! A minimal server with two subscriptions.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::{Router, routing::any};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::interval;

/// Starts the server on a free port.
pub(crate) async fn start() -> std::io::Result<String> {
    let connections = Arc::new(AtomicU32::new(0));
    let upgrade = async move |upgrade: WebSocketUpgrade| {
        let number = connections.fetch_add(1, Ordering::Relaxed) + 1;
        let upgrade = upgrade.protocols(["graphql-transport-ws"]);
        upgrade.on_upgrade(async move |mut socket| {
            if let Some(code) = serve(&mut socket, number).await {
                let reason = match code {
                    4408 => "Connection initialisation timeout",
                    _ => "Too many initialisation requests",
                };
                let reason = reason.into();
                let _ = socket
                    .send(Message::Close(Some(CloseFrame { code, reason })))
                    .await;
                // Reads until the client has answered the Close. Closing earlier could reset the connection.
                while let Some(Ok(_)) = socket.recv().await {}
            }
        })
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("ws://{}/graphql", listener.local_addr()?);
    let router = Router::new().route("/graphql", any(upgrade));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// Serves a connection. Returns the close code, or `None` if the client has left.
async fn serve(socket: &mut WebSocket, number: u32) -> Option<u16> {
    if number == 1 {
        return Some(4408);
    }
    let mut subscribed = BTreeSet::new();
    let mut events = interval(Duration::from_millis(100));
    let (mut price, mut countdown) = (100 * number, 3);
    let end = tokio::time::sleep(Duration::from_secs(2));
    tokio::pin!(end);
    loop {
        tokio::select! {
            message = socket.recv() => {
                let Message::Text(text) = message?.ok()? else { continue };
                let message: Value = serde_json::from_str(&text).ok()?;
                match message["type"].as_str()? {
                    "connection_init" => say(socket, json!({"type": "connection_ack"})).await?,
                    "ping" => say(socket, json!({"type": "pong"})).await?,
                    "subscribe" => {
                        subscribed.insert(message["id"].as_str()?.to_owned());
                    }
                    _ => {}
                }
            }
            // Sends a burst of events and then nothing, so that the client pings.
            _ = events.tick(), if !subscribed.is_empty() && price % 100 < 4 => {
                price += 1;
                let data = json!({"data": {"price": price}});
                say(socket, json!({"id": "1", "type": "next", "payload": data})).await?;
                if subscribed.contains("2") {
                    countdown -= 1;
                    let data = json!({"data": {"countdown": countdown}});
                    say(socket, json!({"id": "2", "type": "next", "payload": data})).await?;
                    if countdown == 0 {
                        subscribed.remove("2");
                        say(socket, json!({"id": "2", "type": "complete"})).await?;
                    }
                }
            }
            () = &mut end => {
                if number > 2 {
                    return Some(4429);
                }
                println!("server: asks once, and freezes");
                say(socket, json!({"type": "ping", "payload": {"n": 17}})).await?;
                // Reads nothing more, not even the answer, and keeps the socket open.
                pending().await
            }
        }
    }
}

async fn say(socket: &mut WebSocket, message: Value) -> Option<()> {
    socket.send(Message::text(message.to_string())).await.ok()
}
