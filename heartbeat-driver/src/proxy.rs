//! Through which proxy, and how it is asked for a way (RFC 9110 §9.3.6, RFC 1928, RFC 1929).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use data_encoding::BASE64;
use heartbeat_core::Cause;
use http::Uri;

use crate::exchange::{Exchange, Lost, Refusal, Response};
use crate::request::{Headers, Request, RequestError, decode, host_and_port, lower_scheme, shown};
use crate::stream::Stream;

/// A proxy that is asked for a byte stream to the server: HTTP CONNECT or SOCKS5.
///
/// Names are resolved by the proxy, never here. TLS, if any, is spoken with the server through it; the
/// way to the proxy itself is plain.
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::Proxy; // or heartbeat_blocking
/// let proxy = Proxy::new("http://user:p%40ss@proxy.example:3128")?;
/// assert_eq!(proxy.to_string(), "http://…@proxy.example:3128");
/// assert!(Proxy::new("socks5://[::1]:1080").is_ok());
/// assert!(Proxy::new("socks4://proxy.example").is_err());
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    login: Option<(String, String)>,
    headers: Headers,
    shown: String,
}

/// The headers of CONNECT that are not the user's to set.
const RESERVED: [&str; 3] = ["host", "content-length", "transfer-encoding"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connect,
    Socks5,
}

impl Proxy {
    /// Parses `SCHEME://[USER:PASSWORD@]HOST[:PORT]`.
    ///
    /// The scheme is `http` (CONNECT with Basic authentication; default, and port 80 by default), or
    /// `socks5` or `socks5h` (port 1080 by default). User and password are percent-decoded.
    ///
    /// # Errors
    /// [`RequestError::Proxy`] names the URL, without user and password, and the rule.
    pub fn new(url: &str) -> Result<Self, RequestError> {
        let refuse = |rule: &str| RequestError::Proxy {
            url: shown(url),
            rule: rule.to_owned(),
        };
        // `http` would end the URL there, and somewhere else would be dialled.
        if url.contains('#') {
            return Err(refuse(
                "must not hold a #: in a user or a password it is written %23",
            ));
        }
        let url = if url.contains("://") {
            lower_scheme(url)
        } else {
            format!("http://{url}")
        };
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| refuse(&format!("is not a URL: {error}")))?;
        let (kind, default_port) = match uri.scheme_str() {
            Some("http") => (Kind::Connect, 80),
            Some("socks5" | "socks5h") => (Kind::Socks5, 1080),
            _ => return Err(refuse("must begin with http://, socks5:// or socks5h://")),
        };
        let (host, port) = host_and_port(&uri).map_err(refuse)?;
        if host.name.is_empty() {
            return Err(refuse("names no host"));
        }
        if uri
            .path_and_query()
            .is_some_and(|path| path.as_str() != "/")
        {
            return Err(refuse("must end after its host and port"));
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let login = match authority.rsplit_once('@') {
            None => None,
            Some((login, _)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let decode = |text| {
                    decode(text).ok_or_else(|| {
                        refuse("has a user or password with a % that is no percent-encoded UTF-8")
                    })
                };
                Some((decode(user)?, decode(password)?))
            }
        };
        if let Some((user, password)) = &login {
            match kind {
                // RFC 7617 §2: the colon ends the user's name.
                Kind::Connect if user.contains(':') => {
                    return Err(refuse(
                        "has a user with a colon, which Basic authentication cannot say",
                    ));
                }
                // RFC 1929 §2: lengths of one byte. An empty password is let pass, as by most.
                Kind::Socks5 if user.is_empty() || user.len() > 255 || password.len() > 255 => {
                    return Err(refuse(
                        "must have a user of 1 to 255 bytes and a password of at most 255",
                    ));
                }
                Kind::Connect | Kind::Socks5 => {}
            }
        }
        Ok(Self {
            kind,
            host: host.to_string(),
            port: port.unwrap_or(default_port),
            login,
            headers: Headers::default(),
            shown: shown(&url),
        })
    }

    /// Adds a header to what an HTTP proxy is asked with (CONNECT), its name in the case in which it is
    /// given. `Proxy-Authorization` replaces user and password of the URL: a dial factory that knows Digest
    /// answers the proxy's challenge ([`Attempt::refused`](crate::Attempt::refused)) so.
    ///
    /// # Errors
    /// [`RequestError::Header`] if HTTP does not allow the name or value, or if CONNECT sets it itself;
    /// [`RequestError::Proxy`] for a SOCKS5 proxy, which knows no headers.
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Proxy; // or heartbeat_blocking
    /// let proxy = Proxy::new("http://proxy.example:3128")?.header("Proxy-Authorization", "Bearer TOKEN")?;
    /// assert_eq!(format!("{proxy:?}"), r#"Proxy("http://proxy.example:3128")"#);
    /// assert!(Proxy::new("socks5://proxy.example")?.header("X-Token", "TOKEN").is_err());
    /// # Ok::<(), heartbeat_driver::RequestError>(())
    /// ```
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, RequestError> {
        if self.kind == Kind::Socks5 {
            return Err(RequestError::Proxy {
                url: self.shown,
                rule: "speaks SOCKS5, which knows no headers".into(),
            });
        }
        self.headers.add(name, value, &RESERVED)?;
        Ok(self)
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Refuses what cannot be asked of it.
    pub(crate) fn check(&self, request: &Request) -> Result<(), RequestError> {
        if self.kind == Kind::Socks5 && request.name().len() > 255 {
            return Err(RequestError::Proxy {
                url: self.shown.clone(),
                rule: "cannot be asked for a host name of more than 255 bytes".into(),
            });
        }
        Ok(())
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.shown).finish()
    }
}

/// The talk with a proxy, up to the byte from which on the server is spoken to.
pub(crate) struct Tunnel {
    /// How the proxy may be called in front of people.
    proxy: String,
    talk: Talk,
}

enum Talk {
    Connect(Exchange),
    Socks5(Socks5),
}

/// How far the talk has got.
pub(crate) enum Way {
    Waits,
    Open,
    /// Answered with another status than 2xx, and these first bytes of its body.
    Refused(Box<Response>, Vec<u8>),
}

impl Tunnel {
    pub(crate) fn new(proxy: &Proxy, request: &Request) -> Self {
        let talk = match proxy.kind {
            Kind::Connect => Talk::Connect(Exchange::new(connect(proxy, request))),
            Kind::Socks5 => Talk::Socks5(Socks5::new(proxy, request)),
        };
        Self {
            proxy: proxy.shown.clone(),
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

    /// How the proxy may be called in front of people.
    pub(crate) fn proxy(&self) -> &str {
        &self.proxy
    }

    /// Goes on as far as the stream lets it.
    pub(crate) fn proceed<S: Read + Write>(
        &mut self,
        stream: &mut Stream<S>,
    ) -> Result<Way, Refusal> {
        let result = match &mut self.talk {
            Talk::Connect(exchange) => match exchange.proceed(stream) {
                Ok(None) => Ok(Way::Waits),
                // Any 2xx opens the way (RFC 9110 §9.3.6).
                Ok(Some((head, rest))) if (200..300).contains(&head.status()) => {
                    // Nor has one an answer that has not read the question.
                    if rest.is_empty() && exchange.is_sent() {
                        Ok(Way::Open)
                    } else {
                        Err(Refusal::broken("it says more than it was asked"))
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

/// The head of a CONNECT request.
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

/// A SOCKS5 client's side. Answers are read to their last byte and not beyond.
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
            // `Proxy::check` has seen to its length.
            Err(_) => {
                let len = u8::try_from(request.name().len()).unwrap_or(u8::MAX);
                [&[3, len][..], request.name().as_bytes()].concat()
            }
        };
        target.extend(request.port().to_be_bytes());
        let login = proxy.login.clone();
        let out = match login {
            // A proxy that wants no login is to be found out, too.
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

    fn proceed<S: Read + Write>(&mut self, stream: &mut Stream<S>) -> Result<bool, Refusal> {
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
                    Err(error) => return Err(Refusal::io(&error)),
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
                Err(error) => return Err(Refusal::io(&error)),
            }
        }
    }

    /// How many bytes of the answer are still to come, as far as can be told.
    fn missing(&self) -> Result<usize, Refusal> {
        let len = match (self.awaits, self.answer.as_slice()) {
            (Awaits::Method | Awaits::Way, [version, ..]) if *version != VERSION => {
                return Err(Refusal::broken("it does not speak SOCKS5"));
            }
            (Awaits::Method | Awaits::Login, _) => 2,
            // Nothing of use follows a refusal, and some proxies leave it out.
            (Awaits::Way, [_, 1..=255, ..]) => 2,
            (Awaits::Way, [_, _, _, kind, first, ..]) => match kind {
                1 => 10,
                3 => 7 + usize::from(*first),
                4 => 22,
                _ => return Err(Refusal::broken("it names an address of an unknown kind")),
            },
            (Awaits::Way, _) => 5,
        };
        Ok(len.saturating_sub(self.answer.len()))
    }

    /// A whole answer; true if the way is open.
    fn answered(&mut self) -> Result<bool, Refusal> {
        let code = self.answer.get(1).copied().unwrap_or_default();
        self.answer.clear();
        match (self.awaits, code) {
            (Awaits::Method, NO_LOGIN) | (Awaits::Login, 0) => {
                self.out = [&[VERSION, 1, 0][..], &self.target].concat();
                self.awaits = Awaits::Way;
            }
            (Awaits::Method, LOGIN) => {
                let Some((user, password)) = &self.login else {
                    return Err(Refusal::broken("it chose a login that was not offered"));
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
                return Err(Refusal::broken("it chose a login that was not offered"));
            }
            (Awaits::Login, _) => return Err(refused(407, "refuses the user or password")),
            (Awaits::Way, 0) => return Ok(true),
            (Awaits::Way, 2) => return Err(refused(403, "does not allow this connection")),
            (Awaits::Way, 5) => {
                return Err(Refusal::new(
                    Cause::Refused,
                    "the server refuses the connection",
                ));
            }
            (Awaits::Way, code) => {
                return Err(Refusal::new(
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

/// SOCKS5's refusals as the HTTP statuses that say the same, so that one table of causes serves both.
fn refused(status: u16, words: &str) -> Refusal {
    let cause = Cause::Http {
        status,
        retry_after: None,
    };
    Refusal::new(cause, words)
}
