//! Opens a tunnel through a proxy (RFC 9110 §9.3.6, RFC 1928, RFC 1929).

use std::io::{self, Read, Write};
use std::net::IpAddr;

use data_encoding::BASE64;
use heartbeat_core::Cause;

use crate::http::{DialError, Exchange, Lost, Response};
use crate::request::{Proxy, ProxyKind, Request};
use crate::stream::Stream;

/// The exchange with a proxy, up to the first byte of the server's own traffic.
pub(crate) struct Tunnel {
    /// The proxy's name for error texts, without credentials.
    proxy: String,
    talk: Talk,
}

enum Talk {
    Connect(Exchange),
    Socks5(Socks5),
}

/// The state of the tunnel.
pub(crate) enum Way {
    Waits,
    Open,
    /// The proxy answered with a status other than 2xx. The bytes begin its body.
    Refused(Box<Response>, Vec<u8>),
}

impl Tunnel {
    pub(crate) fn new(proxy: &Proxy, request: &Request) -> Self {
        let talk = match proxy.kind {
            ProxyKind::Connect => Talk::Connect(Exchange::new(connect(proxy, request))),
            ProxyKind::Socks5 => Talk::Socks5(Socks5::new(proxy, request)),
        };
        Self {
            proxy: proxy.to_string(),
            talk,
        }
    }

    /// See [`Lost::is_doubtful`].
    pub(crate) fn is_doubtful(&self) -> bool {
        match &self.talk {
            Talk::Connect(exchange) => exchange.is_doubtful(),
            Talk::Socks5(talk) => talk.lost.is_doubtful(),
        }
    }

    /// Returns the proxy's name for error texts, without credentials.
    pub(crate) fn proxy(&self) -> &str {
        &self.proxy
    }

    /// Continues as far as the stream allows.
    pub(crate) fn proceed<S: Read + Write>(
        &mut self,
        stream: &mut Stream<S>,
    ) -> Result<Way, DialError> {
        let result = match &mut self.talk {
            Talk::Connect(exchange) => match exchange.proceed(stream) {
                Ok(None) => Ok(Way::Waits),
                // Any 2xx opens the tunnel (RFC 9110 §9.3.6).
                Ok(Some((head, rest))) if (200..300).contains(&head.status()) => {
                    // A proxy that sends extra bytes, or answers before the request is fully sent, does not
                    // open it.
                    if rest.is_empty() && exchange.is_sent() {
                        Ok(Way::Open)
                    } else {
                        Err(DialError::broken("it says more than it was asked"))
                    }
                }
                Ok(Some((head, rest))) => Ok(Way::Refused(Box::new(head.said_by_proxy()), rest)),
                Err(refusal) => Err(refusal),
            },
            Talk::Socks5(talk) => talk.proceed(stream).map(|is_open| match is_open {
                true => Way::Open,
                false => Way::Waits,
            }),
        };
        result.map_err(|refusal| refusal.of(&self.proxy))
    }
}

/// Returns the head of a CONNECT request.
fn connect(proxy: &Proxy, request: &Request) -> Vec<u8> {
    let target = request.authority();
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some((user, password)) = &proxy.login
        && !proxy.headers.has("proxy-authorization")
    {
        let login = BASE64.encode(format!("{user}:{password}").as_bytes());
        head.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
    }
    let mut head = head.into_bytes();
    proxy.headers.write(&mut head);
    head.extend(b"\r\n");
    head
}

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;

/// The client's side of SOCKS5. It reads each answer to its last byte and no further.
struct Socks5 {
    login: Option<(String, String)>,
    target: Vec<u8>,
    out: Vec<u8>,
    lost: Lost,
    answer: Vec<u8>,
    awaits: Awaits,
}

#[derive(Clone, Copy)]
enum Awaits {
    Method,
    Login,
    Way,
}

impl Socks5 {
    fn new(proxy: &Proxy, request: &Request) -> Self {
        let mut target = match request.name().parse() {
            Ok(IpAddr::V4(address)) => [&[1][..], &address.octets()].concat(),
            Ok(IpAddr::V6(address)) => [&[4][..], &address.octets()].concat(),
            // `Proxy::check` has checked the length.
            Err(_) => {
                let len = u8::try_from(request.name().len()).unwrap_or(u8::MAX);
                [&[3, len][..], request.name().as_bytes()].concat()
            }
        };
        target.extend(request.port().to_be_bytes());
        let login = proxy.login.clone();
        let out = match login {
            // Offers both methods, because a proxy may want no login.
            Some(_) => vec![VERSION, 2, NO_LOGIN, LOGIN],
            None => vec![VERSION, 1, NO_LOGIN],
        };
        Self {
            login,
            target,
            out,
            lost: Lost::default(),
            answer: Vec::new(),
            awaits: Awaits::Method,
        }
    }

    fn proceed<S: Read + Write>(&mut self, stream: &mut Stream<S>) -> Result<bool, DialError> {
        loop {
            while !self.out.is_empty() {
                match stream.write(&self.out) {
                    Ok(count) => drop(self.out.drain(..count)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if !self.lost.note(stream.wire_mut().write_error()) {
                            return Ok(false);
                        }
                        self.out.clear();
                    }
                    Err(error) => return Err(DialError::io(&error)),
                }
            }
            let missing = self.missing()?;
            if missing == 0 {
                if self.answered()? {
                    return Ok(true);
                }
                continue;
            }
            let mut buffer = [0; 262];
            match stream.read(&mut buffer[..missing]) {
                Ok(0) => return Err(self.lost.end()),
                Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.lost.ran_dry().map(|()| false);
                }
                Err(error) => return Err(DialError::io(&error)),
            }
        }
    }

    /// Returns how many bytes of the answer are still missing, as far as is known.
    fn missing(&self) -> Result<usize, DialError> {
        let len = match (self.awaits, self.answer.as_slice()) {
            (Awaits::Method | Awaits::Way, [version, ..]) if *version != VERSION => {
                return Err(DialError::broken("it does not speak SOCKS5"));
            }
            (Awaits::Method | Awaits::Login, _) => 2,
            // Nothing useful follows a refusal, and some proxies leave the rest out.
            (Awaits::Way, [_, 1..=255, ..]) => 2,
            (Awaits::Way, [_, _, _, kind, first, ..]) => match kind {
                1 => 10,
                3 => 7 + usize::from(*first),
                4 => 22,
                _ => return Err(DialError::broken("it names an address of an unknown kind")),
            },
            (Awaits::Way, _) => 5,
        };
        Ok(len.saturating_sub(self.answer.len()))
    }

    /// Handles a complete answer. Returns true if the tunnel is open.
    fn answered(&mut self) -> Result<bool, DialError> {
        let code = self.answer.get(1).copied().unwrap_or_default();
        self.answer.clear();
        match (self.awaits, code) {
            (Awaits::Method, NO_LOGIN) | (Awaits::Login, 0) => {
                self.out = [&[VERSION, 1, 0][..], &self.target].concat();
                self.awaits = Awaits::Way;
            }
            (Awaits::Method, LOGIN) => {
                let Some((user, password)) = &self.login else {
                    return Err(DialError::broken("it chose a login that was not offered"));
                };
                let len = |text: &str| u8::try_from(text.len()).unwrap_or(u8::MAX);
                self.out = [
                    &[1, len(user)][..],
                    user.as_bytes(),
                    &[len(password)],
                    password.as_bytes(),
                ]
                .concat();
                self.awaits = Awaits::Login;
            }
            (Awaits::Method, 0xff) => return Err(refused(407, "wants another kind of login")),
            (Awaits::Method, _) => {
                return Err(DialError::broken("it chose a login that was not offered"));
            }
            (Awaits::Login, _) => return Err(refused(407, "refuses the user or password")),
            (Awaits::Way, 0) => return Ok(true),
            (Awaits::Way, 2) => return Err(refused(403, "does not allow this connection")),
            (Awaits::Way, 5) => {
                return Err(DialError::new(
                    Cause::Refused,
                    "the server refuses the connection",
                ));
            }
            (Awaits::Way, code) => {
                return Err(DialError::new(
                    Cause::Io,
                    match code {
                        3 => "network unreachable",
                        4 => "host unreachable",
                        6 => "TTL expired",
                        7 => "does not know how to connect",
                        8 => "does not know this kind of address",
                        _ => "general failure",
                    },
                ));
            }
        }
        Ok(false)
    }
}

/// Maps SOCKS5's refusals to the equivalent HTTP statuses, so that one table of causes serves both.
fn refused(status: u16, words: &str) -> DialError {
    let cause = Cause::Http {
        status,
        retry_after: None,
    };
    DialError::new(cause, words)
}
