//! One HTTP request and the head of its answer, over a stream that does not wait.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::Cause;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::clock;
use crate::session::io_cause;
use crate::stream::Stream;

/// The largest head of an answer. Common servers send at most 8 to 16 KiB; a peer must not make us
/// hold more for nothing.
const MAX_HEAD: usize = 64 * 1024;

/// The most headers in it.
const MAX_HEADERS: usize = 128;

/// The most interim answers before the one that counts; real servers send one or two.
const MAX_INTERIM: u8 = 8;

const PREFIX: &[u8] = b"HTTP/1.";

/// The status and headers with which a server answered the upgrade.
///
/// Without the headers that are the upgrade's own business. `Debug` shows no header's value, for cookies
/// live there, and no body, which may repeat the request.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Headers that say nothing but that the upgrade was done.
const OWN: [&str; 3] = ["connection", "upgrade", "sec-websocket-accept"];

impl Response {
    /// The HTTP status: 101 if a connection came of it.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, if there is one and it is ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let header =
            |(name, value): (_, _)| (HeaderName::as_str(name), HeaderValue::as_bytes(value));
        self.headers.iter().map(header)
    }

    /// The subprotocol that the server chose, one of those that were offered.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.header("sec-websocket-protocol")
    }

    /// What of the body of a refusal came along with the head, as it stood on the wire: at most 2 KiB, and
    /// nothing after 101. Services often say here why they refuse. The rest is not waited for.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn with_body(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    /// The same with the header that only the handshake needs taken out.
    pub(crate) fn for_users(mut self) -> Arc<Self> {
        for name in OWN {
            self.headers.remove(name);
        }
        Arc::new(self)
    }

    /// True if a header of this name holds this token (RFC 9110 §5.6.1).
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        let values = self.headers.get_all(name).iter();
        let mut tokens = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
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

    /// Of several, the longest: a server's time is never undercut.
    fn retry_after(&self) -> Option<Duration> {
        let values = self.headers.get_all(http::header::RETRY_AFTER).iter();
        values
            .filter_map(|value| retry_after(value.to_str().ok()?))
            .max()
    }

    /// `None` if it is no head of HTTP/1.
    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let broken = |_| Refusal::broken("its answer is not HTTP");
        match parsed.parse(bytes) {
            Ok(_) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
            Err(error) => return Err(broken(error)),
        }
        if (parsed.version, parsed.code) == (Some(0), Some(101)) {
            // RFC 6455 §4.2.2: HTTP/1.1 or higher.
            return Err(Refusal::broken("it upgrades with HTTP/1.0, which cannot"));
        }
        let mut headers = HeaderMap::new();
        for header in parsed.headers {
            // httparse has seen to both; its rules are stricter.
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let value = HeaderValue::from_bytes(header.value);
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        Ok(Self {
            status: parsed.code.unwrap_or_default(),
            headers,
            body: Vec::new(),
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

/// Why a dial has come to nothing.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) cause: Cause,
    pub(crate) detail: Option<Box<str>>,
    /// The server's answer, if it was one.
    pub(crate) response: Option<Arc<Response>>,
}

impl Refusal {
    pub(crate) fn new(cause: Cause, detail: impl fmt::Display) -> Self {
        Self {
            cause,
            detail: Some(detail.to_string().into()),
            response: None,
        }
    }

    pub(crate) fn io(error: &io::Error) -> Self {
        let (cause, detail) = io_cause(error);
        Self {
            cause,
            detail,
            response: None,
        }
    }

    /// The peer breaks the protocol: the same code as for an open connection (RFC 6455 §7.4.1).
    pub(crate) fn broken(detail: impl fmt::Display) -> Self {
        Self::new(Cause::Close(1002), detail)
    }

    /// A proxy's answer: its status counts, its headers are nobody's business.
    pub(crate) fn http(response: Response, words: &str) -> Self {
        let status = response.status;
        Self::new(response.cause(), format_args!("{words}: status {status}"))
    }

    /// Says that it was this proxy.
    pub(crate) fn of(mut self, proxy: &str) -> Self {
        let detail = self.detail.as_deref().unwrap_or("no answer");
        self.detail = Some(format!("the proxy {proxy}: {detail}").into());
        self
    }
}

fn too_large() -> Refusal {
    Refusal::new(
        Cause::Close(1009),
        format_args!("the head of its answer is over {MAX_HEAD} bytes or {MAX_HEADERS} headers"),
    )
}

/// A request on its way out, and its answer on its way in.
pub(crate) struct Exchange {
    out: Vec<u8>,
    sent: usize,
    flushed: bool,
    /// What the peer said before it went away is worth more than "broken pipe".
    write_error: Option<io::Error>,
    head: Vec<u8>,
    /// How many interim answers came before it.
    interim: u8,
}

impl Exchange {
    pub(crate) fn new(request: Vec<u8>) -> Self {
        Self {
            out: request,
            sent: 0,
            flushed: false,
            write_error: None,
            head: Vec::new(),
            interim: 0,
        }
    }

    /// Goes on as far as the stream lets it; the answer, and the bytes after it, once it is whole.
    pub(crate) fn proceed<S: Read + Write>(
        &mut self,
        stream: &mut Stream<S>,
    ) -> Result<Option<(Response, Vec<u8>)>, Refusal> {
        if !self.flushed && !self.send(stream)? {
            return Ok(None);
        }
        let mut buffer = [0; 2048];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(0) => {
                    let gone = self.write_error.take();
                    return Err(Refusal::io(
                        &gone.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()),
                    ));
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self
                        .write_error
                        .take()
                        .map_or(Ok(None), |error| Err(Refusal::io(&error)));
                }
                Err(error) => return Err(Refusal::io(&error)),
            };
            // The end may lie across the seam.
            let from = self.head.len().saturating_sub(3);
            self.head.extend_from_slice(&buffer[..count]);
            if let Some(answer) = self.answer(from)? {
                return Ok(Some(answer));
            }
        }
    }

    /// The answer and what follows it, if it is there. Its end is looked for from this byte on.
    fn answer(&mut self, mut from: usize) -> Result<Option<(Response, Vec<u8>)>, Refusal> {
        loop {
            let seen = self.head.len().min(PREFIX.len());
            if self.head[..seen] != PREFIX[..seen] {
                return Err(Refusal::broken("its answer is not HTTP"));
            }
            let Some(end) = end_of_head(&self.head, from) else {
                return if self.head.len() > MAX_HEAD {
                    Err(too_large())
                } else {
                    Ok(None)
                };
            };
            let rest = self.head.split_off(end);
            let response = Response::parse(&self.head)?;
            // RFC 9110 §15.2: a client must bear those that come before the answer (103, say).
            if !matches!(response.status(), 100 | 102..=199) {
                return Ok(Some((response, rest)));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Refusal::broken("its answer does not come"));
            }
            self.head = rest;
            from = 0;
        }
    }

    /// True once there is nothing more to send.
    fn send<S: Read + Write>(&mut self, stream: &mut Stream<S>) -> Result<bool, Refusal> {
        while !self.flushed {
            let result = if self.sent < self.out.len() {
                stream
                    .write(&self.out[self.sent..])
                    .map(|count| self.sent += count)
            } else {
                stream.flush().map(|()| self.flushed = true)
            };
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.write_error = stream.wire_mut().write_error();
                    self.flushed = self.write_error.is_some();
                    return Ok(self.flushed);
                }
                Err(error) => return Err(Refusal::io(&error)),
            }
        }
        // It may hold credentials, and nobody needs it any more.
        self.out = Vec::new();
        Ok(true)
    }
}

/// Where the head ends: after an empty line. Lines may end without a carriage return (RFC 9112 §2.2).
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).find_map(|at| match &bytes[at..] {
        [b'\n', b'\n', ..] => Some(at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// `Retry-After` in both of its forms (RFC 9110 §10.2.3): seconds, or a date.
///
/// Some services send a fraction of a second, which no RFC has; it is rounded up. More seconds than fit
/// are as many as fit, as in RFC 9111 §1.2.2.
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Some(seconds) = seconds(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(clock::wall()).unwrap_or(Duration::ZERO))
}

/// A decimal number, rounded up.
fn seconds(value: &str) -> Option<u64> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let digits = whole.trim_start_matches('0');
    // What is all digits fails to parse by its length alone.
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

    #[test]
    fn of_several_times_the_longest_is_heeded() {
        let head =
            b"HTTP/1.1 403 No\r\nRetry-After: 3\r\nRetry-After: soon\r\nRetry-After: 5\r\n\r\n";
        let (response, _) = answer(head, 999).unwrap().unwrap();
        let retry_after = Some(Duration::from_secs(5));
        let status = 403;
        assert_eq!(
            response.cause(),
            Cause::Http {
                status,
                retry_after
            }
        );
    }

    /// Gives its bytes in pieces of this size, then nothing.
    struct Pieces(Vec<u8>, usize);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len().min(self.1))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answer(bytes: &[u8], piece: usize) -> Result<Option<(Response, Vec<u8>)>, Refusal> {
        let mut stream = Stream::plain(Pieces(bytes.to_vec(), piece));
        Exchange::new(b"GET / HTTP/1.1\r\n\r\n".to_vec()).proceed(&mut stream)
    }

    #[test]
    fn an_answer_is_read_however_it_is_cut() {
        for head in [
            "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nVary: a, b\r\n\r\n",
            "HTTP/1.0 503 Busy\nRetry-After: 7\nVary: a, b\n\n",
        ] {
            for piece in 1..=head.len() {
                let (response, _) = answer(head.as_bytes(), piece).unwrap().unwrap();
                let retry_after = Some(Duration::from_secs(7));
                assert_eq!(
                    response.cause(),
                    Cause::Http {
                        status: 503,
                        retry_after
                    }
                );
                assert!(response.has_token("vary", "B") && !response.has_token("vary", "a, b"));
            }
        }
        let (response, rest) = answer(b"HTTP/1.1 101 \r\n\r\n\x81\x00", 4096)
            .unwrap()
            .unwrap();
        assert_eq!((response.status(), rest), (101, b"\x81\x00".to_vec()));
        assert!(answer(b"HTTP/1.1 101 Switching\r\n", 1).unwrap().is_none());
    }

    #[test]
    fn interim_answers_are_passed_over_and_bounded() {
        let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n";
        let all = format!("{early}HTTP/1.1 101 Switching\r\nX: y\r\n\r\n\x01");
        for piece in 1..=all.len() {
            let mut stream = Stream::plain(Pieces(all.clone().into_bytes(), piece));
            let mut exchange = Exchange::new(Vec::new());
            let (response, rest) = exchange.proceed(&mut stream).unwrap().unwrap();
            assert_eq!((response.status(), response.header("link")), (101, None));
            assert!(rest.is_empty() || rest == [1], "{rest:?}");
        }
        let endless = early.repeat(usize::from(MAX_INTERIM));
        assert_eq!(
            answer(endless.as_bytes(), 999).unwrap_err().cause,
            Cause::Close(1002)
        );
    }

    #[test]
    fn what_is_no_answer_is_refused_at_once_and_bounded() {
        let cause = |bytes: &[u8]| answer(bytes, 999).unwrap_err().cause;
        assert_eq!(cause(b"SSH-2.0-"), Cause::Close(1002));
        assert_eq!(cause(b"HTTP/2"), Cause::Close(1002));
        assert_eq!(cause(b"HTTP/1.1 abc\r\n\r\n"), Cause::Close(1002));
        assert_eq!(cause(b"HTTP/1.0 101 \r\n\r\n"), Cause::Close(1002));
        let long = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; MAX_HEAD]].concat();
        assert_eq!(cause(&long), Cause::Close(1009));
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "X: y\r\n".repeat(MAX_HEADERS + 1)
        );
        assert_eq!(cause(many.as_bytes()), Cause::Close(1009));
    }
}
