//! The messages of [`tungstenite`], and with them the sockets of `tokio_tungstenite`.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use heartbeat_tokio::messages::tungstenite::Tungstenite;
//! use heartbeat_tokio::messages::{Connecting, Counted, Event, Messages};
//! use heartbeat_tokio::{Attempt, Config, core::JsonType};
//! use tokio::net::TcpStream;
//! use tokio_tungstenite::{WebSocketStream, client_async};
//!
//! let connect = |_: Attempt| -> Connecting<WebSocketStream<Counted<TcpStream>>> {
//!     Box::pin(async {
//!         let stream = TcpStream::connect("example.org:80").await?;
//!         stream.set_nodelay(true)?;
//!         let (socket, _) = client_async("ws://example.org/feed", Counted::new(stream)).await?;
//!         Ok(socket)
//!     })
//! };
//! let client = Messages::<_, Tungstenite>::connecting(connect, Config::default(), Arc::new(JsonType));
//! let mut client = client.traffic(|socket| socket.get_ref().traffic());
//! while let Some(event) = client.next().await {
//!     if let Event::Message { message, .. } = event {
//!         println!("{}", message.to_text().unwrap_or("(binary)"));
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use heartbeat_driver::core::Cause;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, Utf8Bytes};

use super::{Codec, Frame, Refused};

/// The messages of `tokio_tungstenite::WebSocketStream`.
#[derive(Clone, Copy, Debug)]
pub struct Tungstenite;

impl Codec for Tungstenite {
    type Message = Message;
    type Error = Error;
    const ANSWERS_PINGS: bool = true;

    fn frame(message: &Message) -> Option<Frame<'_>> {
        Some(match message {
            Message::Text(text) => Frame::Text(text),
            Message::Binary(bytes) => Frame::Binary(bytes),
            Message::Ping(payload) => Frame::Ping(payload),
            Message::Pong(payload) => Frame::Pong(payload),
            Message::Close(frame) => Frame::Close(frame.as_ref().map(code)),
            Message::Frame(_) => return None,
        })
    }

    fn message(frame: Frame<'_>) -> Message {
        match frame {
            Frame::Text(text) => Message::text(text),
            Frame::Binary(bytes) => Message::binary(bytes.to_vec()),
            Frame::Ping(payload) => Message::Ping(payload.to_vec().into()),
            Frame::Pong(payload) => Message::Pong(payload.to_vec().into()),
            Frame::Close(code) => Message::Close(code.map(|code| CloseFrame {
                code: code.into(),
                reason: Utf8Bytes::default(),
            })),
        }
    }

    fn cause(error: &Error) -> Cause {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Cause::Eof,
            Error::Io(error) => heartbeat_driver::io_cause(error).0,
            Error::Tls(_) => Cause::Tls,
            Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
            ) => Cause::Eof,
            // RFC 6455 §7.4.1.
            Error::Protocol(_) => Cause::Close(1002),
            Error::Utf8(_) => Cause::Close(1007),
            Error::Capacity(_) => Cause::Close(1009),
            Error::Http(response) => Cause::Http {
                status: response.status().as_u16(),
                retry_after: None,
            },
            _ => Cause::Io,
        }
    }
}

/// The code of a Close frame. One that it does not know tungstenite (0.30) replaces by 1002 and words of its own; of those
/// that a server may send that is 1014: a gateway has lost its server, and retrying may well mend it.
fn code(frame: &CloseFrame) -> u16 {
    match u16::from(frame.code) {
        1002 if frame.reason.as_str() == "Protocol violation" => 1014,
        code => code,
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            cause: Tungstenite::cause(&error),
            detail: Some(error.to_string().into()),
        }
    }
}
