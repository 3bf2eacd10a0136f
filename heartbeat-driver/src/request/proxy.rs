//! The proxy for a dial.

use std::fmt;

use http::Uri;

use super::error::RequestError;
use super::headers::Headers;
use super::url::{decode, host_and_port, lower_scheme, shown};

/// An HTTP (CONNECT) or SOCKS5 proxy.
///
/// The proxy resolves the server's name; the client never does. TLS runs between client and server, through the
/// proxy. The connection to the proxy itself is plain.
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
    pub(crate) kind: ProxyKind,
    host: String,
    port: u16,
    pub(crate) login: Option<(String, String)>,
    pub(crate) headers: Headers,
    shown: String,
}

/// Headers of CONNECT that the application cannot set.
const RESERVED: [&str; 3] = ["host", "content-length", "transfer-encoding"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    Connect,
    Socks5,
}

impl Proxy {
    /// Parses `SCHEME://[USER:PASSWORD@]HOST[:PORT]`.
    ///
    /// The scheme is `http` (CONNECT with Basic authentication; default, and port 80 by default), or `socks5`
    /// or `socks5h` (port 1080 by default). User and password are percent-decoded.
    ///
    /// # Errors
    /// [`RequestError::Proxy`] names the URL, without user and password, and the rule.
    pub fn new(url: &str) -> Result<Self, RequestError> {
        let refuse = |rule: &str| RequestError::Proxy {
            url: shown(url),
            rule: rule.to_owned(),
        };
        // The `http` crate ends a URL at `#`, so the client would dial another host.
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
            Some("http") => (ProxyKind::Connect, 80),
            Some("socks5" | "socks5h") => (ProxyKind::Socks5, 1080),
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
                // RFC 7617 §2: a colon ends the user name.
                ProxyKind::Connect if user.contains(':') => {
                    return Err(refuse(
                        "has a user with a colon, which Basic authentication cannot say",
                    ));
                }
                // RFC 1929 §2: lengths are one byte. An empty password is accepted, as by most clients.
                ProxyKind::Socks5
                    if user.is_empty() || user.len() > 255 || password.len() > 255 =>
                {
                    return Err(refuse(
                        "must have a user of 1 to 255 bytes and a password of at most 255",
                    ));
                }
                ProxyKind::Connect | ProxyKind::Socks5 => {}
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

    /// Adds a header to the CONNECT request of an HTTP proxy. The name is sent in its original case.
    /// `Proxy-Authorization` replaces the user and password of the URL. A dial factory that implements Digest
    /// uses it to answer the proxy's challenge ([`Attempt::refused`](crate::Attempt::refused)).
    ///
    /// # Errors
    /// [`RequestError::Header`] if HTTP does not allow the name or value, or if CONNECT sets this header
    /// itself. [`RequestError::Proxy`] for a SOCKS5 proxy, which has no headers.
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
        if self.kind == ProxyKind::Socks5 {
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

    /// Rejects a host that this proxy cannot be asked for.
    pub(super) fn check(&self, host: &str) -> Result<(), RequestError> {
        if self.kind == ProxyKind::Socks5 && host.len() > 255 {
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
