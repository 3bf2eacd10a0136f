//! The codec for [`tokio_websockets`](https://docs.rs/tokio-websockets), which needs few instructions per message.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use heartbeat_tokio::messages::tokio_websockets::TokioWebsockets;
//! use heartbeat_tokio::messages::{Connecting, Counted, Event, Messages, keep_unsent_short};
//! use heartbeat_tokio::{Attempt, Config, JsonType};
//! use tokio::net::TcpStream;
//! use tokio_websockets::{ClientBuilder, WebSocketStream};
//!
//! let connect = |_: Attempt| -> Connecting<WebSocketStream<Counted<TcpStream>>> {
//!     Box::pin(async {
//!         let stream = TcpStream::connect("example.org:80").await?;
//!         stream.set_nodelay(true)?;
//!         keep_unsent_short(&stream);
//!         let uri = "ws://example.org/feed".parse().expect("a URI");
//!         let builder = ClientBuilder::from_uri(uri);
//!         let (socket, _) = builder.connect_on(Counted::new(stream)).await?;
//!         Ok(socket)
//!     })
//! };
//! let client = Messages::<_, TokioWebsockets>::connecting(connect, Config::default(), Arc::new(JsonType));
//! let mut client = client.traffic(|socket| socket.get_ref().traffic());
//! while let Some(event) = client.next().await {
//!     if let Event::Message { message, .. } = event {
//!         println!("{}", message.as_text().unwrap_or("(binary)"));
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! For `wss://`, enable the TLS features of `tokio-websockets`, and connect with `ClientBuilder::connect`.

use heartbeat_driver::core::Cause;
use tokio_websockets::upgrade::Error as UpgradeError;
use tokio_websockets::{CloseCode, Error, Message};

use super::{Codec, Frame, Refused};

/// The codec for [`tokio_websockets::WebSocketStream`](https://docs.rs/tokio-websockets).
#[derive(Clone, Copy, Debug)]
pub struct TokioWebsockets;

impl Codec for TokioWebsockets {
    type Message = Message;
    type Error = Error;
    const ANSWERS_PINGS: bool = true;

    fn frame(message: &Message) -> Option<Frame<'_>> {
        let payload = &message.as_payload()[..];
        Some(if message.is_text() {
            Frame::Text(message.as_text()?)
        } else if message.is_binary() {
            Frame::Binary(payload)
        } else if message.is_ping() {
            Frame::Ping(payload)
        } else if message.is_pong() {
            Frame::Pong(payload)
        } else {
            Frame::Close(message.as_close().map(|(code, _)| code.into()))
        })
    }

    fn message(frame: Frame<'_>) -> Message {
        match frame {
            Frame::Text(text) => Message::text(text.to_owned()),
            Frame::Binary(bytes) => Message::binary(bytes.to_vec()),
            Frame::Ping(payload) => Message::ping(payload.to_vec()),
            Frame::Pong(payload) => Message::pong(payload.to_vec()),
            Frame::Close(code) => {
                let code = code.and_then(|code| CloseCode::try_from(code).ok());
                Message::close(code.filter(|code| !code.is_reserved()), "")
            }
        }
    }

    fn cause(error: &Error) -> Cause {
        match error {
            Error::AlreadyClosed => Cause::Eof,
            Error::Io(error) => heartbeat_driver::io_cause(error).0,
            // RFC 6455 §7.4.1: 1002 is a protocol error, 1009 a message that is too large.
            Error::Protocol(_) => Cause::Protocol(1002),
            Error::PayloadTooLong { .. } => Cause::Protocol(1009),
            Error::Upgrade(UpgradeError::DidNotSwitchProtocols(status)) => Cause::Http {
                status: *status,
                retry_after: None,
            },
            Error::Upgrade(_) => Cause::Close(1002),
            _ => Cause::Io,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            cause: TokioWebsockets::cause(&error),
            detail: Some(error.to_string().into()),
        }
    }
}
