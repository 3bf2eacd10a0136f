//! A server (axum) that detects dead clients and drops them. It uses the machine without dialling.
//!
//! ```sh
//! cargo run -p heartbeat-tokio --example axum_server                       # serves ws://127.0.0.1:3000/
//! cargo run -p heartbeat-cli -- watch --plain ws://127.0.0.1:3000/     # a client; Ctrl-Z freezes it
//! ```
//!
//! The server pings a client after 5 s of silence, and drops it after 15 s without a byte. It answers the client's ping
//! frames and `{"type":"ping"}` messages, and echoes all other messages.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use heartbeat_tokio::messages::{Codec, Event, Frame, Messages};
use heartbeat_tokio::{Config, JsonType, Reason, SharedDialect};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    tracing_subscriber::fmt().init();
    let config: Arc<Config> = Arc::new(Config::from_json(CONFIG).map_err(io::Error::other)?);
    let dialect: SharedDialect = Arc::new(JsonType);
    let upgrade = async move |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |socket| {
            // The machine has logged the reason.
            let _ = serve(socket, config, dialect).await;
        })
    };
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:3000")).await?;
    println!("ws://{}/", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", any(upgrade))).await
}

const CONFIG: &str =
    r#"{"idle_timeout": "15s", "ping": {"after_silence": "5s"}, "pong_timeout": null}"#;

/// Echoes messages until the connection ends, and returns the reason of the end.
pub(crate) async fn serve(
    socket: WebSocket,
    config: Arc<Config>,
    dialect: SharedDialect,
) -> Option<Reason> {
    let mut client = Messages::<_, Axum>::accepted(socket, config, dialect);
    let mut ended = None;
    while let Some(event) = client.next().await {
        match event {
            Event::Message { message, .. } => {
                let taken = client.send(message).is_ok();
                if !taken {
                    // The client sends more than it reads. A server must not queue without a limit.
                    client.stop();
                }
            }
            Event::Disconnected { reason, .. } => ended = Some(reason),
            _ => {}
        }
    }
    ended
}

/// The codec for axum's `WebSocket`.
pub(crate) struct Axum;

impl Codec for Axum {
    type Message = Message;
    type Error = axum::Error;
    const ANSWERS_PINGS: bool = true;

    fn frame(message: &Message) -> Option<Frame<'_>> {
        Some(match message {
            Message::Text(text) => Frame::Text(text),
            Message::Binary(bytes) => Frame::Binary(bytes),
            Message::Ping(payload) => Frame::Ping(payload),
            Message::Pong(payload) => Frame::Pong(payload),
            Message::Close(frame) => Frame::Close(frame.as_ref().map(|frame| frame.code)),
        })
    }

    fn message(frame: Frame<'_>) -> Message {
        match frame {
            Frame::Text(text) => Message::Text(text.into()),
            Frame::Binary(bytes) => Message::Binary(bytes.to_vec().into()),
            Frame::Ping(payload) => Message::Ping(payload.to_vec().into()),
            Frame::Pong(payload) => Message::Pong(payload.to_vec().into()),
            Frame::Close(code) => Message::Close(code.map(|code| CloseFrame {
                code,
                reason: "".into(),
            })),
        }
    }
}
