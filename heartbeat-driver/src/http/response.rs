//! The head of an HTTP answer, as applications see it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heartbeat_core::Cause;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::error::DialError;
use crate::clock;

/// The largest head of an answer. Common servers send at most 8 to 16 KiB. The limit bounds the memory that a
/// peer can make us use.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// The most headers of an answer.
pub(super) const MAX_HEADERS: usize = 128;

/// The status and headers with which a server answered the upgrade, or with which a proxy refused the
/// connection.
///
/// Headers that only concern the upgrade itself are left out. `Debug` shows neither header values, because
/// cookies are among them, nor the body, which may repeat the request.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    is_from_proxy: bool,
}

/// Headers that say nothing beyond a successful upgrade.
const OWN: [&str; 3] = ["connection", "upgrade", "sec-websocket-accept"];

impl Response {
    /// Returns the HTTP status. 101 if the upgrade succeeded.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the first header with this name, if there is one and its value is ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns all headers, with names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let header =
            |(name, value): (_, _)| (HeaderName::as_str(name), HeaderValue::as_bytes(value));
        self.headers.iter().map(header)
    }

    /// Returns the subprotocol that the server chose from those offered. An empty header chooses none.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        let mut chosen = self.list("sec-websocket-protocol");
        chosen
            .next()
            .and_then(|name| std::str::from_utf8(name).ok())
    }

    /// Returns the body of a refusal: at most its first 2 KiB. Empty after 101. Services often explain the
    /// refusal here. The client waits for the body for
    /// [`REFUSAL_BODY_TIMEOUT`](heartbeat_core::REFUSAL_BODY_TIMEOUT) after the head, but not beyond
    /// `connect_timeout`, and keeps the part that has arrived by then. Chunks are joined. Compressed bodies
    /// stay compressed.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns true if a proxy sent this answer to CONNECT, and not the server.
    #[must_use]
    pub fn is_from_proxy(&self) -> bool {
        self.is_from_proxy
    }

    pub(crate) fn with_body(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    pub(crate) fn said_by_proxy(self) -> Self {
        Self {
            is_from_proxy: true,
            ..self
        }
    }

    /// Removes the headers that only the handshake needs.
    pub(crate) fn for_users(mut self) -> Arc<Self> {
        for name in OWN {
            self.headers.remove(name);
        }
        Arc::new(self)
    }

    /// Returns true if a header with this name contains this token (RFC 9110 §5.6.1).
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        let values = self.headers.get_all(name).iter();
        let mut tokens = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
    }

    /// Returns the list elements of all headers with this name. Empty elements are skipped (RFC 9110 §5.6.1.2).
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let values = self.headers.get_all(name).iter();
        values
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    pub(crate) fn has_twice(&self, name: &str) -> bool {
        self.headers.get_all(name).iter().nth(1).is_some()
    }

    pub(crate) fn cause(&self) -> Cause {
        Cause::Http {
            status: self.status,
            retry_after: self.retry_after(),
        }
    }

    /// Returns the longest of several values, so that the client never comes back too early.
    fn retry_after(&self) -> Option<Duration> {
        // The date is on the server's clock. Our clock may not even be set.
        let date = self.header("date").map(httpdate::parse_http_date);
        let now = date.and_then(Result::ok).unwrap_or_else(clock::wall);
        let values = self.headers.get_all(http::header::RETRY_AFTER).iter();
        values
            .filter_map(|value| retry_after(value.to_str().ok()?, now))
            .max()
    }

    /// Parses the head of an HTTP/1 answer.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DialError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let mut config = httparse::ParserConfig::default();
        config
            // RFC 9112 §5.2: a user agent joins a folded line.
            .allow_obsolete_multiline_headers_in_responses(true)
            // §5.1: in a response, spaces before the colon are removed.
            .allow_spaces_after_header_name_in_responses(true)
            // §4: any whitespace may separate the parts of the first line.
            .allow_multiple_spaces_in_response_status_delimiters(true);
        match config.parse_response(&mut parsed, bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
            Ok(httparse::Status::Partial) | Err(_) => {
                return Err(DialError::broken("its answer is not HTTP"));
            }
        }
        if (parsed.version, parsed.code) == (Some(0), Some(101)) {
            // RFC 6455 §4.2.2: HTTP/1.1 or higher.
            return Err(DialError::broken("it upgrades with HTTP/1.0, which cannot"));
        }
        let mut headers = HeaderMap::new();
        for header in parsed.headers {
            // httparse has checked both by stricter rules.
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let value = HeaderValue::from_bytes(&unfolded(header.value));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        Ok(Self {
            status: parsed.code.unwrap_or_default(),
            headers,
            body: Vec::new(),
            is_from_proxy: false,
        })
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

pub(super) fn too_large() -> DialError {
    DialError::new(
        Cause::Close(1009),
        format_args!("the head of its answer is over {MAX_HEAD} bytes or {MAX_HEADERS} headers"),
    )
}

/// Joins a folded value into one line (RFC 9112 §5.2).
fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'\n') {
        return value.into();
    }
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(&b' ').into()
}

/// Parses `Retry-After` in both forms (RFC 9110 §10.2.3): seconds, or a date.
///
/// Some services send a fraction of a second, which no RFC allows. It is rounded up. Too large a number of
/// seconds saturates, as in RFC 9111 §1.2.2.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Some(seconds) = seconds(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Parses a decimal number, rounded up.
fn seconds(value: &str) -> Option<u64> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let digits = whole.trim_start_matches('0');
    // A text of digits alone fails to parse only if it is too long.
    let whole = match digits {
        "" => 0,
        digits => digits.parse().unwrap_or(u64::MAX),
    };
    let more = fraction.bytes().any(|digit| digit != b'0');
    Some(whole.saturating_add(u64::from(more)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let retry_after = |value: &str| retry_after(value, clock::wall());
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after("Fri, 01 Jan 2010 00:00:00 GMT"),
            Some(Duration::ZERO),
            "long ago"
        );
        let later = httpdate::fmt_http_date(clock::wall() + Duration::from_secs(100));
        let after = retry_after(&later).unwrap();
        assert!((98..=100).contains(&after.as_secs()), "{after:?}");
        let nonsense = [
            "",
            ".",
            "soon",
            "-1",
            "-0.5",
            "+1",
            "1,5",
            "1e3",
            "0x7",
            "7 s",
            "1.2.3",
            "NaN",
            "inf",
            "7\u{e9}",
            "Fri, 01 Jan 2010",
        ];
        for nonsense in nonsense {
            assert_eq!(retry_after(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_fraction_of_retry_after_is_rounded_up_and_a_huge_one_is_no_less() {
        let retry_after = |value: &str| retry_after(value, clock::wall());
        for (value, expected) in [
            ("0", 0),
            ("0.0", 0),
            ("0.001", 1),
            ("1.5", 2),
            ("2.0", 2),
            ("2.", 2),
            (".5", 1),
            ("0007", 7),
            ("7.0000000000000000000000000000001", 8),
            ("99999999999999999999999", u64::MAX),
            ("18446744073709551615.5", u64::MAX),
        ] {
            let expected = Some(Duration::from_secs(expected));
            assert_eq!(retry_after(value), expected, "{value}");
        }
    }
}
