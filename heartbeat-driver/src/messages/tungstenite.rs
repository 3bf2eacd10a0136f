//! The codec for [`tungstenite`](https://docs.rs/tungstenite).

use heartbeat_core::Cause;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, Utf8Bytes};

use super::{Codec, Frame};
use crate::stream::io_cause;

/// The codec for `tungstenite::WebSocket` and `tokio_tungstenite::WebSocketStream`.
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
            Error::Io(error) => io_cause(error).0,
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

/// Returns the code of a Close frame. tungstenite (0.30) replaces a code that it does not know by 1002 and its
/// own reason. Among the codes that a server may send, that concerns 1014: a gateway has lost its upstream
/// server, and a retry may well succeed.
fn code(frame: &CloseFrame) -> u16 {
    match u16::from(frame.code) {
        1002 if frame.reason.as_str() == "Protocol violation" => 1014,
        code => code,
    }
}
