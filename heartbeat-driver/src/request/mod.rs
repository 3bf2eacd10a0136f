//! Requests: the URL and the headers of an upgrade.

mod environment;
mod error;
mod headers;
mod proxy;
mod url;

use std::fmt;
use std::net::SocketAddr;

use http::Uri;
use http::uri::PathAndQuery;

use self::url::{Host, host_and_port, lower_scheme, resolve};

pub(crate) use self::environment::{Environment, Proxies};
pub use self::error::RequestError;
use self::headers::Headers;
pub use self::proxy::Proxy;
pub(crate) use self::proxy::ProxyKind;
pub(crate) use self::url::shown;

/// The target of a dial: a `ws://` or `wss://` URL, and headers to send with the upgrade.
///
/// `Debug` and `Display` show neither the path, nor the query, nor header values, nor subprotocols: these may
/// hold credentials.
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::Request; // or heartbeat_blocking
/// # if cfg!(not(feature = "tls")) { return Ok(()) }
/// let request = Request::new("wss://example.org/feed")?
///     .header("Authorization", "Bearer TOKEN")?
///     .subprotocol("graphql-transport-ws")?;
/// assert_eq!(request.to_string(), "wss://example.org/…");
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    uri: Uri,
    host: Host,
    /// The host in the form for name resolution.
    resolved: String,
    port: u16,
    tls: bool,
    headers: Headers,
    subprotocols: Vec<String>,
    route: Route,
    addresses: Vec<SocketAddr>,
}

/// The proxy setting of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Route {
    /// Uses the proxy of the client's options.
    #[default]
    AsConfigured,
    Direct,
    Via(Proxy),
}

/// Headers that the upgrade sets itself.
const RESERVED: [&str; 8] = [
    "host",
    "connection",
    "upgrade",
    "sec-websocket-version",
    "sec-websocket-key",
    "sec-websocket-extensions",
    "content-length",
    "transfer-encoding",
];

/// Headers that a redirect carries to another host: they identify the client and grant no access.
const PUBLIC: [&str; 3] = ["user-agent", "origin", "accept-language"];

impl Request {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`RequestError`] names the URL, up to its path, and the rule.
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Request; // or heartbeat_blocking
    /// # if cfg!(not(feature = "tls")) { return Ok(()) }
    /// assert_eq!(Request::new("wss://example.org/feed")?.port(), 443);
    /// assert!(Request::new("https://example.org/").is_err());
    /// # Ok::<(), heartbeat_driver::RequestError>(())
    /// ```
    pub fn new(url: &str) -> Result<Self, RequestError> {
        let shown = || shown(url);
        let refuse = |rule: String| RequestError::Url { url: shown(), rule };
        let after_scheme = url.split_once("://").map(|(_, rest)| rest);
        if after_scheme.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
            return Err(RequestError::Host { url: shown() });
        }
        if after_scheme.is_none() && !url.is_empty() {
            return Err(RequestError::Scheme { url: shown() });
        }
        if !url.is_ascii() {
            let rule = "it must be ASCII: a host in Punycode (xn--…), all else percent-encoded";
            return Err(refuse(rule.into()));
        }
        let uri: Uri = lower_scheme(url)
            .parse()
            .map_err(|error: http::uri::InvalidUri| refuse(error.to_string()))?;
        let (host, port) = host_and_port(&uri).map_err(|rule| refuse(rule.into()))?;
        if uri
            .authority()
            .is_some_and(|all| all.as_str().contains('@'))
        {
            let host = host.to_string();
            return Err(RequestError::Userinfo { host });
        }
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(RequestError::Scheme { url: shown() }),
        };
        if host.name.is_empty() {
            return Err(RequestError::Host { url: shown() });
        }
        if tls && cfg!(not(feature = "tls")) {
            return Err(RequestError::TlsDisabled { url: shown() });
        }
        #[cfg(feature = "tls")]
        if tls && !url::can_be_certified(&host.name) {
            return Err(refuse("no certificate can have this host's name".into()));
        }
        Ok(Self {
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            uri,
            resolved: host.to_string(),
            host,
            tls,
            headers: Headers::default(),
            subprotocols: Vec::new(),
            route: Route::default(),
            addresses: Vec::new(),
        })
    }

    /// Adds a header to the upgrade, such as `Authorization`. The name is sent in its original case.
    ///
    /// # Errors
    /// [`RequestError::Header`] if HTTP does not allow the name or value, or if the upgrade sets this header
    /// itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, RequestError> {
        if name.eq_ignore_ascii_case("sec-websocket-protocol") {
            return value
                .split(',')
                .try_fold(self, |request, name| request.subprotocol(name.trim()));
        }
        self.headers.add(name, value, &RESERVED)?;
        Ok(self)
    }

    /// Offers a subprotocol (RFC 6455 §1.9), in order of preference. The server must choose one of those
    /// offered. Otherwise the dial ends with code 1002, as in browsers.
    /// [`Response::subprotocol`](crate::Response::subprotocol) returns the chosen one.
    ///
    /// # Errors
    /// [`RequestError::Subprotocol`] if the name is not an HTTP token, or is offered twice.
    pub fn subprotocol(mut self, name: &str) -> Result<Self, RequestError> {
        let number = self.subprotocols.len() + 1;
        let refuse = |rule| Err(RequestError::Subprotocol { number, rule });
        // RFC 6455 §4.1, item 10: characters U+0021 to U+007E without HTTP's separators, all names unique.
        let is_token =
            |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return refuse("is not a token as RFC 6455 §4.1 wants it");
        }
        if self.subprotocols.iter().any(|known| known == name) {
            return refuse("is offered twice");
        }
        self.subprotocols.push(name.to_owned());
        Ok(self)
    }

    /// Uses this proxy for the request, or none if `None`, whatever the client's options say. A dial factory
    /// can use this to renew the proxy's credentials.
    #[must_use]
    pub fn proxy(mut self, proxy: impl Into<Option<Proxy>>) -> Self {
        self.route = proxy.into().map_or(Route::Direct, Route::Via);
        self
    }

    /// Dials these addresses without resolving the host's name. The certificate must still match the host's
    /// name. A proxy, if there is one, is still asked for the name.
    #[must_use]
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// Returns the host to connect to: a name or an address, without brackets. A zone (RFC 6874) follows the
    /// address, as in `fe80::1%eth0`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.resolved
    }

    /// Returns the host's name for others: without a zone, because zones are local to this machine.
    pub(crate) fn name(&self) -> &str {
        &self.host.name
    }

    /// Returns the default name for a client of this URL. It contains no credentials: it includes the first
    /// part of the path only if that part is a short word.
    pub(crate) fn client_name(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        let mut name = self.host.bracketed();
        if self.port != default {
            name.push_str(&format!(":{}", self.port));
        }
        let first = self.uri.path().split('/').nth(1).unwrap_or_default();
        if is_word(first) {
            name.push('/');
            name.push_str(first);
        }
        name
    }

    /// Returns the host and port in the form for a proxy request.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host.bracketed(), self.port)
    }

    /// Returns the port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns true for `wss`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn to(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the request target and host for the upgrade.
    pub(crate) fn target(&self) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        let host = self.resolved.to_ascii_lowercase();
        let path = self.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        format!("{scheme}://{host}:{} {path}", self.port)
    }

    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    pub(crate) fn subprotocols(&self) -> &[String] {
        &self.subprotocols
    }

    /// Returns the head of the upgrade request (RFC 6455 §4.1), which offers `extensions`.
    pub(crate) fn head(&self, key: &str, extensions: Option<&str>) -> Vec<u8> {
        let mut authority = self.host.bracketed();
        if let Some(port) = self.uri.port() {
            authority.push_str(&format!(":{port}"));
        }
        let target = self.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let slash = if target.starts_with('/') { "" } else { "/" };
        let mut head = format!(
            "GET {slash}{target} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        if !self.subprotocols.is_empty() {
            let offered = self.subprotocols.join(", ");
            head.push_str(&format!("Sec-WebSocket-Protocol: {offered}\r\n"));
        }
        if let Some(extensions) = extensions {
            head.push_str(&format!("Sec-WebSocket-Extensions: {extensions}\r\n"));
        }
        let mut head = head.into_bytes();
        self.headers.write(&mut head);
        head.extend(b"\r\n");
        head
    }

    /// Returns the request for the target of a redirect (RFC 9110 §15.4), or the rule that forbids it.
    ///
    /// Only the headers that identify the client go to another host or port, because others may hold
    /// credentials. Subprotocols may hold credentials too. Without them the request would ask the other server
    /// for something else, so a request with subprotocols is not followed to another host.
    pub(crate) fn redirected(&self, location: &str) -> Result<Self, &'static str> {
        let url = resolve(&self.uri, location);
        let url = match url.split_once("://") {
            Some(("http", rest)) => format!("ws://{rest}"),
            Some(("https", rest)) => format!("wss://{rest}"),
            _ => url,
        };
        let target = Self::new(&url).map_err(|_| "its Location is not a URL for a WebSocket")?;
        if self.tls && !target.tls {
            return Err("it leads from wss to ws");
        }
        let same_port = self.port == target.port || (self.port, target.port) == (80, 443);
        let same = self.resolved.eq_ignore_ascii_case(&target.resolved) && same_port;
        if !same && !self.subprotocols.is_empty() {
            return Err("it leads to another host, and subprotocols may hold credentials");
        }
        Ok(Self {
            headers: if same {
                self.headers.clone()
            } else {
                self.headers.only(&PUBLIC)
            },
            subprotocols: self.subprotocols.clone(),
            route: self.route.clone(),
            // Addresses include a port, so they apply only to the same host and port.
            addresses: if same && self.port == target.port {
                self.addresses.clone()
            } else {
                Vec::new()
            },
            ..target
        })
    }
}

/// Returns true for a short word with at most two digits at its end. Tokens are longer, or have more digits.
fn is_word(part: &str) -> bool {
    let letters = part.trim_end_matches(|last: char| last.is_ascii_digit());
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || b"-_.".contains(&byte);
    (1..=16).contains(&letters.len())
        && part.len() <= letters.len() + 2
        && letters.bytes().all(is_letter)
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.uri.to_string()))
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &self.to_string())
            .field("headers", &self.headers)
            .field("subprotocols", &self.subprotocols.len())
            .field("route", &self.route)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_called_by_host_port_and_a_path_that_is_no_token() {
        for (url, name) in [
            ("ws://example.org", "example.org"),
            ("ws://example.org:80/feed", "example.org/feed"),
            (
                "ws://example.org:8080/feed/SECRET?key=SECRET",
                "example.org:8080/feed",
            ),
            ("ws://example.org/?key=SECRET", "example.org"),
            ("ws://[::1]:9/socket.io/", "[::1]:9/socket.io"),
            ("ws://example.org/ws5", "example.org/ws5"),
            ("ws://example.org/v10/x", "example.org/v10"),
            // A token has capitals, more digits, or is longer.
            ("ws://example.org/SECRET", "example.org"),
            ("ws://example.org/a2b4", "example.org"),
            ("ws://example.org/a123", "example.org"),
            ("ws://example.org/42", "example.org"),
            ("ws://example.org/abcdefghijklmnopq", "example.org"),
            ("ws://example.org/a%20b", "example.org"),
        ] {
            let request = Request::new(url).unwrap();
            assert_eq!(request.client_name(), name, "{url}");
        }
    }

    #[test]
    fn a_bad_url_is_refused_with_the_rule() {
        for (url, words) in [
            ("", "is not a URL"),
            ("nonsense", "must be ws or wss"),
            ("example.org/feed", "must be ws or wss"),
            ("http://example.org", "must be ws or wss"),
            ("ws://", "names no host"),
            ("wss:///feed", "names no host"),
            ("wss://bücher.example/", "a host in Punycode"),
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

    #[cfg(feature = "tls")]
    #[test]
    fn a_proxy_whose_password_would_cut_its_url_is_refused_in_words_without_it() {
        for url in ["http://me:SEC#RET@proxy.test", "me:SEC#RET@proxy.test"] {
            let error = crate::Proxy::new(url).unwrap_err().to_string();
            assert!(error.contains("%23"), "{error}");
            assert!(!error.contains("SEC") && !error.contains("RET"), "{error}");
        }
    }

    #[test]
    fn credentials_are_shown_nowhere() {
        let request = Request::new("wss://example.org/ws/SECRET?listenKey=SECRET").unwrap();
        let request = request.header("Authorization", "Bearer SECRET").unwrap();
        let request = request.subprotocol("bearer.SECRET").unwrap();
        let proxy = crate::Proxy::new("http://me:SECRET@proxy.test:3128").unwrap();
        let request = request.proxy(proxy);
        assert!(!format!("{request:?} {request}").contains("SECRET"));
        let twice = request.subprotocol("bearer.SECRET").unwrap_err();
        assert!(!format!("{twice:?} {twice}").contains("SECRET"));
        for url in [
            "ws://me:SECRET@example.org/x@y",
            "http://example.org/ws/SECRET@trade",
            "ws://example.org:0/?t=SECRET@x",
            "ws://example.org:x#SECRET@x",
            "ws://example.org\\SECRET@x",
            "ws://me%3ASECRET%40example.org/",
            "ws:/example.org/SECRET@x",
            "ws://me:SECRET@example.org/",
            "ws://me:SECRET/SECRET@example.org:x/",
            "http://example.org/?k=SECRET",
            "http://example.org/SECRET",
            "example.org/SECRET",
            "ws://me:SECRET@exa mple/",
            "wss://exa_mple!/SECRET",
        ] {
            let error = Request::new(url).unwrap_err();
            assert!(
                !format!("{error:?} {error}").contains("SECRET"),
                "{error:?}"
            );
        }
        for (name, value) in [("X-Key", "SECRET\n"), ("X-Key: SECRET", "")] {
            let request = Request::new("ws://a").unwrap();
            let error = request.header(name, value).unwrap_err();
            let shown = format!("{error:?} {error}");
            assert!(
                shown.contains("X-Key") && !shown.contains("SECRET"),
                "{shown}"
            );
        }
    }

    #[test]
    fn an_at_in_a_path_is_no_user() {
        let request = Request::new("ws://example.org/ws/btcusdt@trade?x@y").unwrap();
        assert_eq!(request.host(), "example.org");
        assert_eq!(request.to_string(), "ws://example.org/…");
        let head = String::from_utf8(request.head("KEY", None)).unwrap();
        let start = "GET /ws/btcusdt@trade?x@y HTTP/1.1\r\nHost: example.org\r\n";
        assert!(head.starts_with(start), "{head}");
    }

    #[test]
    fn header_names_keep_their_case_and_order() {
        let request = Request::new("ws://example.org/")
            .and_then(|request| request.header("X-MBX-APIKEY", "1"))
            .and_then(|request| request.header("apiKey", "2"))
            .and_then(|request| request.header("cookie", "3"))
            .and_then(|request| request.header("Cookie", "4"))
            .unwrap();
        let words = "X-MBX-APIKEY: 1\r\napiKey: 2\r\ncookie: 3\r\nCookie: 4\r\n\r\n";
        for request in [request.redirected("/there").unwrap(), request] {
            let head = String::from_utf8(request.head("KEY", None)).unwrap();
            assert!(head.ends_with(words), "{head}");
        }
        let request = Request::new("ws://example.org/").unwrap();
        assert!(request.clone().header("HOST", "x").is_err());
        let offers = request.header("SEC-WEBSOCKET-PROTOCOL", "chat").unwrap();
        assert_eq!(offers.subprotocols(), ["chat"]);
    }

    #[test]
    fn a_scoped_address_is_dialled_with_its_zone_and_named_without_it() {
        let request = Request::new("ws://[fe80::1%25lo]:81/x").unwrap();
        assert_eq!(request.host(), "fe80::1%lo");
        assert_eq!(
            (request.name(), request.authority().as_str()),
            ("fe80::1", "[fe80::1]:81")
        );
        let head = String::from_utf8(request.head("KEY", None)).unwrap();
        assert!(head.contains("\r\nHost: [fe80::1]:81\r\n"), "{head}");
        let elsewhere = request.redirected("/y").unwrap();
        assert_eq!(elsewhere.host(), "fe80::1%lo");
        let proxy = crate::Proxy::new("http://[fe80::1%25lo]:3128").unwrap();
        assert_eq!(proxy.host(), "fe80::1%lo");
        #[cfg(feature = "tls")]
        assert!(Request::new("wss://[fe80::1%25lo]/").is_ok());
    }

    #[test]
    fn the_headers_of_the_upgrade_are_its_own() {
        let request = Request::new("WS://[::1]:8080/").unwrap();
        assert_eq!((request.host(), request.port()), ("::1", 8080));
        assert!(request.header("sec-websocket-key", "x").is_err());
    }

    #[test]
    fn a_subprotocol_is_a_token_and_offered_once() {
        let request = || Request::new("ws://a").unwrap();
        for name in ["", "a b", "a,b", "é", "a\"b", "a\r\nX: y"] {
            assert!(request().subprotocol(name).is_err(), "{name:?}");
        }
        let two = request()
            .header("Sec-WebSocket-Protocol", "v2.chat, v1.chat")
            .unwrap();
        assert_eq!(two.subprotocols(), ["v2.chat", "v1.chat"]);
        assert!(two.clone().subprotocol("v1.chat").is_err());
        let head = String::from_utf8(two.head("KEY", None)).unwrap();
        assert!(
            head.contains("\r\nSec-WebSocket-Protocol: v2.chat, v1.chat\r\n"),
            "{head}"
        );
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_redirect_leads_where_rfc_3986_says() {
        let base = Request::new("ws://a.test:81/b/c/d?q").unwrap();
        for (location, expected) in [
            ("ws://x.test/y", "ws://x.test/y"),
            ("HTTP://x.test", "ws://x.test/"),
            ("https://x.test/y?z#f", "wss://x.test/y?z"),
            ("//x.test/y", "ws://x.test/y"),
            ("/y", "ws://a.test:81/y"),
            ("y", "ws://a.test:81/b/c/y"),
            ("?y=/", "ws://a.test:81/b/c/d?y=/"),
            ("../y/./z/..", "ws://a.test:81/b/y/"),
            ("../../../y", "ws://a.test:81/y"),
        ] {
            assert_eq!(
                base.redirected(location).unwrap().uri.to_string(),
                expected,
                "{location}"
            );
        }
        for location in [
            "ftp://x.test/",
            "ws://me:pw@x.test/",
            "ws:",
            "mailto:x@y",
            "ws://x.test:0/",
        ] {
            assert!(base.redirected(location).is_err(), "{location}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_redirect_takes_no_credentials_to_another_host_and_never_leaves_tls() {
        let base = Request::new("wss://a.test/")
            .and_then(|request| request.header("Authorization", "SECRET"))
            .and_then(|request| request.header("X-MBX-APIKEY", "SECRET"))
            .and_then(|request| request.header("User-Agent", "me"))
            .unwrap();
        let names = |location| {
            let request = base.redirected(location).unwrap();
            format!("{:?}", request.headers)
        };
        let all = r#"["Authorization", "X-MBX-APIKEY", "User-Agent"]"#;
        assert_eq!(names("/elsewhere"), all);
        assert_eq!(names("wss://A.test:443/"), all);
        for elsewhere in [
            "wss://b.test/",
            "wss://a.test:444/",
            "//sub.a.test/",
            "wss://a.test.b/",
        ] {
            assert_eq!(names(elsewhere), r#"["User-Agent"]"#, "{elsewhere}");
        }
        assert_eq!(
            base.redirected("ws://a.test/"),
            Err("it leads from wss to ws")
        );
        let plain = Request::new("ws://a.test/")
            .unwrap()
            .header("X-Key", "k")
            .unwrap();
        let secured = plain.redirected("wss://a.test/").unwrap();
        assert!(secured.headers.has("x-key"));
    }

    #[test]
    fn a_redirect_takes_no_subprotocol_to_another_host_for_it_may_be_a_token() {
        let base = Request::new("ws://a.test/")
            .and_then(|request| request.subprotocol("chat"))
            .and_then(|request| request.subprotocol("bearer.SECRET"))
            .unwrap();
        let same = base.redirected("/elsewhere").unwrap();
        assert_eq!(same.subprotocols(), base.subprotocols());
        let elsewhere = base.redirected("ws://b.test/").unwrap_err();
        assert!(elsewhere.contains("another host"), "{elsewhere}");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn addresses_for_one_port_are_not_dialled_for_another() {
        let base = Request::new("ws://a.test/").unwrap();
        let base = base.addresses(["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(base.redirected("/elsewhere").unwrap().to(), base.to());
        assert_eq!(base.redirected("wss://a.test/").unwrap().to(), []);
    }
}
