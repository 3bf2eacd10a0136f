//! A minimal gateway. Its only event is a counter, which goes on while no client is connected.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::{Router, routing::any};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::interval;

/// The number of events on a connection before it fails.
const EVENTS: u64 = 4;

/// Starts the gateway on a free port. Sessions are resumed at a different path.
pub(crate) async fn start() -> io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("ws://{}", listener.local_addr()?);
    let state = Arc::new((AtomicU64::new(0), format!("{url}/resume")));
    let router = Router::new()
        .route("/{path}", any(upgrade))
        .with_state(state);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("{url}/gateway"))
}

type Shared = Arc<(AtomicU64, String)>;

async fn upgrade(
    Path(path): Path<String>,
    State(state): State<Shared>,
    upgrade: WebSocketUpgrade,
) -> axum::response::Response {
    upgrade.on_upgrade(async move |mut socket| {
        let number = state.0.fetch_add(1, Ordering::Relaxed) + 1;
        println!("gateway: connection {number} comes to /{path}");
        let _ = serve(&mut socket, number, &state.1).await;
    })
}

async fn serve(socket: &mut WebSocket, number: u64, resume_url: &str) -> Option<()> {
    say(socket, json!({"op": 10, "d": {"heartbeat_interval": 1000}})).await?;
    let mut seq = 0;
    let mut events = interval(Duration::from_millis(300));
    let mut left = None;
    loop {
        tokio::select! {
            message = receive(socket) => {
                let message = message?;
                match message["op"].as_u64()? {
                    1 => {
                        println!("gateway: heartbeat with {}", message["d"]);
                        say(socket, json!({"op": 11})).await?;
                    }
                    2 => {
                        let d = json!({"session_id": format!("session {number}"), "resume_gateway_url": resume_url});
                        seq = 1;
                        left = Some(EVENTS);
                        say(socket, json!({"op": 0, "t": "READY", "s": seq, "d": d})).await?;
                    }
                    6 if number == 3 => say(socket, json!({"op": 9, "d": false})).await?,
                    6 => {
                        println!("gateway: resumes {} behind {}", message["d"]["session_id"], message["d"]["seq"]);
                        seq = message["d"]["seq"].as_u64()?;
                        left = Some(EVENTS);
                        say(socket, json!({"op": 0, "t": "RESUMED", "s": seq, "d": {}})).await?;
                    }
                    _ => {}
                }
            }
            _ = events.tick(), if left.is_some() => match (left, number) {
                (Some(0), 1) => {
                    println!("gateway: says nothing more");
                    pending::<()>().await;
                }
                (Some(0), 2) => {
                    left = None;
                    say(socket, json!({"op": 7, "d": null})).await?;
                }
                _ => {
                    left = left.map(|left| left.saturating_sub(1));
                    seq += 1;
                    let count = if number > 3 { seq + 2 * EVENTS } else { seq } - 1;
                    say(socket, json!({"op": 0, "t": "COUNT", "s": seq, "d": count})).await?;
                }
            },
        }
    }
}

async fn say(socket: &mut WebSocket, message: Value) -> Option<()> {
    socket.send(Message::text(message.to_string())).await.ok()
}

/// Returns the next message, or `None` if the client has left.
async fn receive(socket: &mut WebSocket) -> Option<Value> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(frame) => {
                // A gateway like Discord's forgets a session that is closed with 1000 or 1001.
                println!("gateway: closed with {:?}", frame.map(|frame| frame.code));
                return None;
            }
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}
