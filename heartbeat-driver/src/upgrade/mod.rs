//! From a byte stream to an open WebSocket: proxy, TLS and HTTP upgrade, without blocking.
//!
//! In: a [`Stream`] and a request. Out: [`Opened`], or the [`DialError`]. The upgrade is implemented here and
//! not taken from a library, because a library would log the whole request, including credentials. Read this
//! file first.

mod handshake;
mod tunnel;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use heartbeat_core::{Cause, Instant};

use self::tunnel::{Tunnel, Way};
use crate::http::{Body, DialError, Exchange, Response};
use crate::options::Options;
use crate::panics::Panicked;
use crate::request::{Proxy, Request};
use crate::stream::{Security, Stream};
use crate::websocket::Opened;
#[cfg(feature = "deflate")]
use crate::websocket::Sizes;
#[cfg(feature = "deflate")]
use crate::websocket::frames::{Agreed, Deflate};

pub(crate) struct Upgrade<S: Read + Write> {
    request: Request,
    /// `None` only after the end.
    stream: Option<Stream<S>>,
    tunnel: Option<(Tunnel, Security)>,
    exchange: Exchange,
    /// The expected value of the server's `Sec-WebSocket-Accept`.
    accept: String,
    is_deflate_offered: bool,
    /// When the dial began.
    since: Instant,
    /// Redirects are followed.
    follows: bool,
    refused: Option<Box<Refused>>,
}

/// A refusal whose body is being read.
struct Refused {
    response: Response,
    body: Body,
    /// The deadline for the rest of the body.
    until: Instant,
    detail: Option<Box<str>>,
}

pub(crate) enum Progress<S: Read + Write> {
    Waits,
    Done(Box<Opened<S>>, Arc<Response>),
    /// The server redirects elsewhere.
    Redirect(Box<str>, DialError),
    Failed(DialError),
    /// The answer to a challenge was correct, but its nonce has expired. This answer has the next one.
    Stale(DialError),
}

impl<S: Read + Write> Upgrade<S> {
    pub(crate) fn start(
        io: S,
        request: Request,
        proxy: Option<&Proxy>,
        (since, follows): (Instant, bool),
        options: &mut Options,
    ) -> Result<Self, DialError> {
        let security = options.security(&request)?;
        let (stream, tunnel) = match proxy {
            Some(proxy) => (
                Stream::plain(io),
                Some((Tunnel::new(proxy, &request), security)),
            ),
            None => (Stream::new(io, security), None),
        };
        let key = handshake::key();
        #[cfg(feature = "deflate")]
        let offer = options.deflate.as_ref().map(Deflate::offer);
        #[cfg(not(feature = "deflate"))]
        let offer: Option<String> = None;
        Ok(Self {
            exchange: Exchange::new(request.head(&key, offer.as_deref())),
            accept: handshake::accept(&key),
            is_deflate_offered: offer.is_some(),
            request,
            stream: Some(stream),
            tunnel,
            since,
            follows,
            refused: None,
        })
    }

    /// Returns true if the peer is gone, and the socket itself must be asked whether earlier data is left.
    pub(crate) fn is_doubtful(&self) -> bool {
        if self.refused.is_some() {
            return false;
        }
        match &self.tunnel {
            Some((tunnel, _)) => tunnel.is_doubtful(),
            None => self.exchange.is_doubtful(),
        }
    }

    /// Returns when to continue, even if nothing was read.
    pub(crate) fn wake(&self) -> Instant {
        let refused = self.refused.as_ref();
        refused.map_or(Instant::NEVER, |refused| refused.until)
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

    /// Takes the panic of the byte stream, if it has panicked.
    pub(crate) fn panicked(&mut self) -> Option<Panicked> {
        self.stream.as_mut()?.wire_mut().panicked()
    }

    /// Returns true if the last read stopped only to give other tasks a turn.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::was_cut_short)
    }

    pub(crate) fn proceed(&mut self, options: &Options, now: Instant) -> Progress<S> {
        self.try_proceed(options, now)
            .unwrap_or_else(Progress::Failed)
    }

    fn try_proceed(&mut self, options: &Options, now: Instant) -> Result<Progress<S>, DialError> {
        if self.refused.is_some() {
            return self.hear_out(now);
        }
        let Some(stream) = &mut self.stream else {
            return Ok(Progress::Waits);
        };
        if let Some((tunnel, _)) = &mut self.tunnel {
            match tunnel.proceed(stream)? {
                Way::Waits => return Ok(Progress::Waits),
                Way::Open => {}
                Way::Refused(response, rest) => {
                    let status = response.status();
                    let words = format!("refuses to open a way: status {status}");
                    let detail = format!("the proxy {}: {words}", tunnel.proxy()).into();
                    self.refuse(*response, &rest, Some(detail), options, now);
                    return self.hear_out(now);
                }
            }
            if let (Some((_, security)), Some(stream)) = (self.tunnel.take(), self.stream.take()) {
                self.stream = Some(stream.secured(security));
            }
            return self.try_proceed(options, now);
        }
        let answer = self.exchange.proceed(stream);
        let answer = answer.map_err(|refusal| match refusal.cause {
            Cause::Eof | Cause::Reset if stream.is_securing() => DialError {
                detail: Some("it ended within the TLS handshake: does that port speak TLS?".into()),
                ..refusal
            },
            _ => refusal,
        })?;
        let Some((response, rest)) = answer else {
            return Ok(Progress::Waits);
        };
        if response.status() != 101 {
            let leads = matches!(response.status(), 301 | 302 | 303 | 307 | 308);
            let location: Option<Box<str>> = response.header("location").map(Into::into);
            let (location, detail) = match location.filter(|_| leads) {
                Some(location) if self.follows => (Some(location), None),
                Some(_) => {
                    let rule = "redirect not followed: no more redirects are to be followed";
                    (None, Some(rule.into()))
                }
                None => (None, None),
            };
            self.refuse(response, &rest, detail, options, now);
            return match (location, self.refused.take()) {
                // The redirect's target says more than its body.
                (Some(location), Some(refused)) => {
                    Ok(Progress::Redirect(location, refused.into_refusal()))
                }
                (_, refused) => {
                    self.refused = refused;
                    self.hear_out(now)
                }
            };
        }
        if !self.exchange.is_sent() {
            return Err(DialError::broken(
                "it upgrades before it has read the request",
            ));
        }
        self.verify(&response)?;
        #[cfg(feature = "deflate")]
        let agreed = self.agreed(&response, options)?;
        #[cfg(feature = "deflate")]
        let sizes = Sizes {
            deflate: agreed,
            ..options.sizes()
        };
        #[cfg(not(feature = "deflate"))]
        let sizes = options.sizes();
        let Some(stream) = self.stream.take() else {
            return Ok(Progress::Waits);
        };
        let opened = Opened {
            stream,
            rest,
            sizes,
        };
        Ok(Progress::Done(Box::new(opened), response.for_users()))
    }

    /// Returns the compression that the server has agreed to.
    #[cfg(feature = "deflate")]
    fn agreed(&self, response: &Response, options: &Options) -> Result<Option<Agreed>, DialError> {
        let Some(offered) = &options.deflate else {
            return Ok(None);
        };
        let mut list = response.list("sec-websocket-extensions");
        match (list.next(), list.next()) {
            (None, _) => Ok(None),
            (Some(answer), None) => {
                let answer = std::str::from_utf8(answer).unwrap_or_default();
                offered.agree(answer).map(Some).map_err(DialError::broken)
            }
            (Some(_), Some(_)) => Err(DialError::broken(
                "it chose an extension that was not offered",
            )),
        }
    }

    /// Ends the dial with this answer, once its body has been read.
    fn refuse(
        &mut self,
        response: Response,
        rest: &[u8],
        detail: Option<Box<str>>,
        options: &Options,
        now: Instant,
    ) {
        let mut body = Body::new(&response);
        body.take(rest);
        self.refused = Some(Box::new(Refused {
            response,
            body,
            until: options.config.refusal_until(self.since, now),
            detail,
        }));
    }

    /// Reads the body of a refusal, until it is complete or its deadline has passed.
    fn hear_out(&mut self, now: Instant) -> Result<Progress<S>, DialError> {
        let (Some(refused), Some(stream)) = (&mut self.refused, &mut self.stream) else {
            return Ok(Progress::Waits);
        };
        let mut buffer = [0; 2048];
        while !refused.body.is_whole() {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => refused.body.take(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock && now < refused.until => {
                    return Ok(Progress::Waits);
                }
                // The status is more important than an error in the body.
                Ok(0) | Err(_) => break,
            }
        }
        match self.refused.take() {
            Some(refused)
                if refused.is_stale() && refused.response.cause().retry_after().is_none() =>
            {
                Ok(Progress::Stale(refused.into_refusal()))
            }
            Some(refused) => Err(refused.into_refusal()),
            None => Ok(Progress::Waits),
        }
    }

    /// Validates the answer as a client must (RFC 6455 §4.1).
    fn verify(&self, response: &Response) -> Result<(), DialError> {
        let mut chosen = response.list("sec-websocket-protocol");
        let (chosen, another) = (chosen.next(), chosen.next());
        let offered = self.request.subprotocols();
        let rule = if !response.has_token("upgrade", "websocket") {
            "its answer lacks `Upgrade: websocket`"
        } else if !response.has_token("connection", "upgrade") {
            "its answer lacks `Connection: Upgrade`"
        } else if response.header("sec-websocket-accept") != Some(&self.accept) {
            "its Sec-WebSocket-Accept does not fit our key"
        } else if response.has_twice("sec-websocket-accept") || another.is_some() {
            // RFC 6455 §11.3.3, §11.3.4.
            "it says Sec-WebSocket-Accept or -Protocol twice"
        } else if !self.is_deflate_offered
            && response.list("sec-websocket-extensions").next().is_some()
        {
            "it chose an extension that was not offered"
        } else if chosen.is_none() && !offered.is_empty() {
            "it chose none of the subprotocols that were offered"
        } else if chosen.is_some_and(|name| !offered.iter().any(|offer| offer.as_bytes() == name)) {
            "it chose a subprotocol that was not offered"
        } else {
            return Ok(());
        };
        Err(DialError::broken(rule))
    }
}

impl Refused {
    /// Returns true if the nonce was too old (RFC 7616 §3.3). A client then answers the new nonce without
    /// asking for another password.
    fn is_stale(&self) -> bool {
        let name = match self.response.status() {
            401 => "www-authenticate",
            407 => "proxy-authenticate",
            _ => return false,
        };
        self.response.list(name).any(|element| {
            // `stale` follows the scheme's name, or is a list element of its own.
            let mut words = element.split(|byte| byte.is_ascii_whitespace());
            let last = words.next_back().unwrap_or_default();
            let (name, value) = match last.iter().position(|byte| *byte == b'=') {
                Some(at) => (&last[..at], &last[at + 1..]),
                None => (last, &b""[..]),
            };
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let value = value.strip_suffix(b"\"").unwrap_or(value);
            name.eq_ignore_ascii_case(b"stale") && value.eq_ignore_ascii_case(b"true")
        })
    }

    fn into_refusal(self) -> DialError {
        let response = self.response.with_body(self.body.into_bytes());
        DialError {
            cause: response.cause(),
            detail: self.detail,
            response: Some(response.for_users()),
        }
    }
}
