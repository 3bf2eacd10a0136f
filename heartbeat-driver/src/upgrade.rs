//! From a byte stream to an open WebSocket: TLS and the HTTP upgrade, driven without waiting.

use std::io::{Read, Write};
use std::time::Duration;

use heartbeat_core::Cause;
use tungstenite::WebSocket;
use tungstenite::error::Error;
use tungstenite::handshake::client::{ClientHandshake, Response};
use tungstenite::handshake::{HandshakeError, MidHandshake};

use crate::clock;
use crate::engine::websocket_config;
use crate::options::Options;
use crate::request::Request;
use crate::session::cause_of;
use crate::stream::Stream;

/// Why it cannot be begun.
type Refusal = (Cause, Option<Box<str>>);

pub(crate) struct Upgrade<S: Read + Write> {
    /// `None` only after its end.
    handshake: Option<MidHandshake<ClientHandshake<Stream<S>>>>,
}

pub(crate) enum Progress<S: Read + Write> {
    Waits,
    Done(Box<WebSocket<Stream<S>>>),
    Failed(Cause, Option<Box<str>>),
}

impl<S: Read + Write> Upgrade<S> {
    pub(crate) fn start(io: S, request: &Request, options: &mut Options) -> Result<Self, Refusal> {
        let stream = options.stream(io, request)?;
        let refuse = |error: Error| cause_of(&error);
        let config = Some(websocket_config(options));
        let handshake = ClientHandshake::start(stream, request.upgrade().map_err(refuse)?, config)
            .map_err(refuse)?;
        Ok(Self {
            handshake: Some(handshake),
        })
    }

    pub(crate) fn socket(&self) -> Option<&S> {
        self.handshake
            .as_ref()
            .map(|handshake| handshake.get_ref().get_ref().wire().get_ref())
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.handshake
            .as_ref()
            .is_some_and(|handshake| handshake.get_ref().get_ref().wire().write_blocked)
    }

    pub(crate) fn socket_mut(&mut self) -> Option<&mut S> {
        self.handshake
            .as_mut()
            .map(|handshake| handshake.get_mut().get_mut().wire_mut().get_mut())
    }

    pub(crate) fn proceed(&mut self) -> Progress<S> {
        let Some(handshake) = self.handshake.take() else {
            return Progress::Waits;
        };
        let error = match handshake.handshake() {
            Ok((ws, _)) => return Progress::Done(Box::new(ws)),
            Err(HandshakeError::Interrupted(mut handshake)) => {
                match handshake.get_mut().get_mut().wire_mut().write_error() {
                    Some(error) => Error::Io(error),
                    None => {
                        self.handshake = Some(handshake);
                        return Progress::Waits;
                    }
                }
            }
            Err(HandshakeError::Failure(error)) => error,
        };
        let (cause, detail) = match &error {
            Error::Http(response) => (http_cause(response), None),
            other => cause_of(other),
        };
        Progress::Failed(cause, detail)
    }
}

fn http_cause(response: &Response) -> Cause {
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(retry_after);
    Cause::Http {
        status: response.status().as_u16(),
        retry_after,
    }
}

/// `Retry-After` in both of its forms (RFC 9110 §10.2.3): seconds, or a date.
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(clock::wall()).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after("Fri, 01 Jan 2010 00:00:00 GMT"),
            Some(Duration::ZERO),
            "long ago"
        );
        let later = httpdate::fmt_http_date(clock::wall() + Duration::from_secs(100));
        let after = retry_after(&later).unwrap();
        assert!((98..=100).contains(&after.as_secs()), "{after:?}");
        for nonsense in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(retry_after(nonsense), None, "{nonsense}");
        }
    }
}
