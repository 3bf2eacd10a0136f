//! From a byte stream to an open WebSocket: the proxy, TLS and the HTTP upgrade, driven without waiting.
//!
//! The upgrade's few lines are our own: a library would write the whole request, credentials included, into a log.

use std::io::{Read, Write};
use std::sync::Arc;

use heartbeat_core::Cause;

use crate::exchange::{Exchange, Refusal, Response};
use crate::options::Options;
use crate::proxy::{Proxy, Tunnel};
use crate::request::Request;
use crate::stream::{Security, Stream};
use crate::websocket::handshake;

pub(crate) struct Upgrade<S: Read + Write> {
    request: Request,
    /// `None` only after its end.
    stream: Option<Stream<S>>,
    tunnel: Option<(Tunnel, Security)>,
    exchange: Exchange,
    /// What the server's `Sec-WebSocket-Accept` must be.
    accept: String,
}

pub(crate) enum Progress<S: Read + Write> {
    Waits,
    /// The stream, and what has come after the answer.
    Done(Box<Stream<S>>, Vec<u8>, Arc<Response>),
    /// The server leads elsewhere.
    Redirect(Box<str>, Refusal),
    Failed(Refusal),
}

impl<S: Read + Write> Upgrade<S> {
    pub(crate) fn start(
        io: S,
        request: Request,
        proxy: Option<&Proxy>,
        options: &mut Options,
    ) -> Result<Self, Refusal> {
        let security = options.security(&request)?;
        let (stream, tunnel) = match proxy {
            Some(proxy) => (
                Stream::plain(io),
                Some((Tunnel::new(proxy, &request), security)),
            ),
            None => (Stream::new(io, security), None),
        };
        let key = handshake::key();
        Ok(Self {
            exchange: Exchange::new(request.head(&key)),
            accept: handshake::accept(&key),
            request,
            stream: Some(stream),
            tunnel,
        })
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    pub(crate) fn socket(&self) -> Option<&S> {
        self.stream.as_ref().map(|stream| stream.wire().get_ref())
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|stream| stream.wire().write_blocked)
    }

    pub(crate) fn socket_mut(&mut self) -> Option<&mut S> {
        self.stream
            .as_mut()
            .map(|stream| stream.wire_mut().get_mut())
    }

    pub(crate) fn proceed(&mut self) -> Progress<S> {
        self.try_proceed().unwrap_or_else(Progress::Failed)
    }

    fn try_proceed(&mut self) -> Result<Progress<S>, Refusal> {
        let Some(stream) = &mut self.stream else {
            return Ok(Progress::Waits);
        };
        if let Some((tunnel, _)) = &mut self.tunnel {
            if !tunnel.proceed(stream)? {
                return Ok(Progress::Waits);
            }
            if let (Some((_, security)), Some(stream)) = (self.tunnel.take(), self.stream.take()) {
                self.stream = Some(stream.secured(security));
            }
            return self.try_proceed();
        }
        let answer = self.exchange.proceed(stream);
        let answer = answer.map_err(|refusal| match refusal.cause {
            Cause::Eof | Cause::Reset if stream.is_securing() => Refusal {
                detail: Some("it ended within the TLS handshake: does that port speak TLS?".into()),
                ..refusal
            },
            _ => refusal,
        })?;
        let Some((response, rest)) = answer else {
            return Ok(Progress::Waits);
        };
        if let (301 | 302 | 303 | 307 | 308, Some(location)) =
            (response.status(), response.header("location"))
        {
            let location = location.into();
            return Ok(Progress::Redirect(location, refused(response, rest)));
        }
        if response.status() != 101 {
            return Err(refused(response, rest));
        }
        self.verify(&response)?;
        let Some(stream) = self.stream.take() else {
            return Ok(Progress::Waits);
        };
        Ok(Progress::Done(Box::new(stream), rest, response.for_users()))
    }

    /// RFC 6455 §4.1, what the client must validate.
    fn verify(&self, response: &Response) -> Result<(), Refusal> {
        let chosen = response.subprotocol();
        let offered = self.request.subprotocols();
        let rule = if !response.has_token("upgrade", "websocket") {
            "its answer lacks `Upgrade: websocket`"
        } else if !response.has_token("connection", "upgrade") {
            "its answer lacks `Connection: Upgrade`"
        } else if response.header("sec-websocket-accept") != Some(&self.accept) {
            "its Sec-WebSocket-Accept does not fit our key"
        } else if response.has_twice("sec-websocket-accept")
            || response.has_twice("sec-websocket-protocol")
        {
            // RFC 6455 §11.3.3, §11.3.4.
            "it says Sec-WebSocket-Accept or -Protocol twice"
        } else if response.has("sec-websocket-extensions") {
            "it chose an extension that was not offered"
        } else if chosen.is_none() && !offered.is_empty() {
            "it chose none of the subprotocols that were offered"
        } else if response.has("sec-websocket-protocol")
            && !offered.iter().any(|offer| Some(offer.as_str()) == chosen)
        {
            "it chose a subprotocol that was not offered"
        } else {
            return Ok(());
        };
        Err(Refusal::broken(rule))
    }
}

/// An answer of the server's other than 101.
fn refused(response: Response, body: Vec<u8>) -> Refusal {
    Refusal {
        cause: response.cause(),
        detail: None,
        response: Some(response.with_body(body).for_users()),
    }
}
