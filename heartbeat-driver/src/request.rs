//! Where to, and with which words: the URL and the headers of an upgrade.

use std::fmt;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Uri};
use tungstenite::client::IntoClientRequest;

/// What is dialled: a `ws://` or `wss://` URL, and headers to send with the upgrade.
///
/// `Debug` shows neither the query nor any header's value: credentials live there.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
    headers: HeaderMap,
}

/// Why a URL or a header was refused. Nothing was dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not a URL.
    #[error("\"{url}\" is not a URL: {rule}")]
    Url {
        /// The text, without its query.
        url: String,
        /// What is wrong with it.
        rule: String,
    },
    /// Neither `ws` nor `wss`.
    #[error("the scheme of \"{url}\" must be ws or wss, as in ws://HOST:PORT/")]
    Scheme {
        /// The text, without its query.
        url: String,
    },
    /// No host, or an empty one.
    #[error("\"{url}\" names no host")]
    Host {
        /// The text, without its query.
        url: String,
    },
    /// A user or password in the URL.
    #[error("the URL for {host} holds credentials: send them in an Authorization header instead")]
    Userinfo {
        /// The host.
        host: String,
    },
    /// `wss` without the `tls` feature.
    #[error("\"{url}\" needs the feature `tls`")]
    TlsDisabled {
        /// The text, without its query.
        url: String,
    },
    /// A header name or value that HTTP does not allow, or one that the upgrade itself sets.
    #[error("the header `{name}` {rule}")]
    Header {
        /// The name.
        name: String,
        /// What is wrong with it; never shows the value.
        rule: &'static str,
    },
    /// No trusted root certificates were found on this machine.
    #[error("no trusted root certificates: {0}")]
    Roots(String),
}

/// The headers that the upgrade sets itself.
const RESERVED: [&str; 6] = [
    "host",
    "connection",
    "upgrade",
    "sec-websocket-version",
    "sec-websocket-key",
    "sec-websocket-extensions",
];

impl Request {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`RequestError`] names the URL, without its query, and the rule.
    ///
    /// ```
    /// use heartbeat_driver::Request;
    /// assert_eq!(Request::new("wss://example.org/feed")?.port(), 443);
    /// assert!(Request::new("https://example.org/").is_err());
    /// # Ok::<(), heartbeat_driver::RequestError>(())
    /// ```
    pub fn new(url: &str) -> Result<Self, RequestError> {
        let shown = || url.split(['?', '#']).next().unwrap_or_default().to_owned();
        // The scheme's case means nothing (RFC 3986 §3.1), but `http` keeps it.
        let lower = url
            .split_once("://")
            .map(|(scheme, rest)| format!("{}://{rest}", scheme.to_ascii_lowercase()));
        let uri: Uri =
            lower
                .as_deref()
                .unwrap_or(url)
                .parse()
                .map_err(|error: http::uri::InvalidUri| RequestError::Url {
                    url: if url.contains('@') {
                        "…".into()
                    } else {
                        shown()
                    },
                    rule: error.to_string(),
                })?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if authority.contains('@') {
            return Err(RequestError::Userinfo { host });
        }
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(RequestError::Scheme { url: shown() }),
        };
        if host.is_empty() {
            return Err(RequestError::Host { url: shown() });
        }
        if tls && cfg!(not(feature = "tls")) {
            return Err(RequestError::TlsDisabled { url: shown() });
        }
        // `http` takes a port that is none for no port.
        let has_port = authority
            .rsplit(']')
            .next()
            .is_some_and(|rest| rest.contains(':'));
        let port = match uri.port_u16() {
            Some(port @ 1..) => port,
            None if !has_port => {
                if tls {
                    443
                } else {
                    80
                }
            }
            _ => {
                return Err(RequestError::Url {
                    url: shown(),
                    rule: "the port must lie between 1 and 65535".into(),
                });
            }
        };
        Ok(Self {
            uri,
            host,
            port,
            tls,
            headers: HeaderMap::new(),
        })
    }

    /// Adds a header to the upgrade, such as `Authorization`.
    ///
    /// # Errors
    /// [`RequestError::Header`] if HTTP does not allow the name or value, or if the upgrade sets it itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, RequestError> {
        let refuse = |rule| RequestError::Header {
            name: name.to_owned(),
            rule,
        };
        let parsed =
            HeaderName::try_from(name).map_err(|_| refuse("is not a valid HTTP header name"))?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(refuse("is set by the upgrade itself"));
        }
        let value = HeaderValue::try_from(value)
            .map_err(|_| refuse("has a value that HTTP does not allow"))?;
        self.headers.append(parsed, value);
        Ok(self)
    }

    /// The host to connect to: a name or an address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// True for `wss`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The HTTP request, with a new key.
    pub(crate) fn upgrade(&self) -> Result<http::Request<()>, tungstenite::Error> {
        let mut request = self.uri.clone().into_client_request()?;
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path) = (self.uri.scheme_str().unwrap_or_default(), self.uri.path());
        let authority = self
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{authority}{path}")
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Request")
            .field("url", &self.to_string())
            .field("headers", &headers)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_refused_with_the_rule() {
        for (url, words) in [
            ("", "is not a URL"),
            ("nonsense", "must be ws or wss"),
            ("http://example.org", "must be ws or wss"),
            ("ws://", "is not a URL"),
            ("ws://:80/", "names no host"),
            ("ws://example.org:99999/", "between 1 and 65535"),
            ("ws://example.org:/", "between 1 and 65535"),
            ("ws://example.org:0/", "between 1 and 65535"),
            ("ws://exa mple.org/", "is not a URL"),
        ] {
            let refusal = Request::new(url).expect_err(url).to_string();
            assert!(refusal.contains(words), "{url}: {refusal}");
        }
    }

    #[test]
    fn credentials_are_shown_nowhere() {
        let request = Request::new("wss://example.org/feed?listenKey=SECRET").unwrap();
        let request = request.header("Authorization", "Bearer SECRET").unwrap();
        assert!(!format!("{request:?} {request}").contains("SECRET"));
        for url in [
            "ws://me:SECRET@example.org/",
            "http://example.org/?k=SECRET",
            "ws://me:SECRET@exa mple/",
        ] {
            let error = Request::new(url).unwrap_err();
            assert!(
                !format!("{error:?} {error}").contains("SECRET"),
                "{error:?}"
            );
        }
        let error = Request::new("ws://a")
            .unwrap()
            .header("X-Key", "SECRET\n")
            .unwrap_err();
        assert!(
            !format!("{error:?} {error}").contains("SECRET"),
            "{error:?}"
        );
    }

    #[test]
    fn the_headers_of_the_upgrade_are_its_own() {
        let request = Request::new("WS://[::1]:8080/").unwrap();
        assert_eq!((request.host(), request.port()), ("::1", 8080));
        assert!(request.header("sec-websocket-key", "x").is_err());
    }
}
