//! One HTTP request and the head of its answer, over a stream that does not wait.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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

/// Empty lines that are passed over before an answer: what some servers write behind an interim one.
const MAX_LEADING: usize = 4;

const PREFIX: &[u8] = b"HTTP/1.";

/// The status and headers with which a server answered the upgrade, or a proxy refused to open a way to it.
///
/// Without the headers that are the upgrade's own business. `Debug` shows no header's value, for cookies
/// live there, and no body, which may repeat the request.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    is_from_proxy: bool,
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

    /// The subprotocol that the server chose, one of those that were offered. An empty header chooses
    /// none.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        let mut chosen = self.list("sec-websocket-protocol");
        chosen
            .next()
            .and_then(|name| std::str::from_utf8(name).ok())
    }

    /// The body of a refusal: at most its first 2 KiB, and nothing after 101. Services often say here why
    /// they refuse. It is waited for, for [`REFUSAL_BODY_TIMEOUT`](heartbeat_core::REFUSAL_BODY_TIMEOUT)
    /// behind the head and not beyond `connect_timeout`; what has come until then is here. Chunks are put
    /// together, and what is compressed stays so.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// True if this is a proxy's answer to CONNECT, and not the server's.
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

    /// What the headers of this name list. Empty elements are none (RFC 9110 §5.6.1.2).
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

    /// Of several, the longest: a server's time is never undercut.
    fn retry_after(&self) -> Option<Duration> {
        // A date is meant by the server's clock; ours may not even be set.
        let date = self.header("date").map(httpdate::parse_http_date);
        let now = date.and_then(Result::ok).unwrap_or_else(clock::wall);
        let values = self.headers.get_all(http::header::RETRY_AFTER).iter();
        values
            .filter_map(|value| retry_after(value.to_str().ok()?, now))
            .max()
    }

    /// `None` if it is no head of HTTP/1.
    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let mut config = httparse::ParserConfig::default();
        config
            // RFC 9112 §5.2: a user agent reads a folded line as one.
            .allow_obsolete_multiline_headers_in_responses(true)
            // §5.1: in a response, spaces before the colon are taken away.
            .allow_spaces_after_header_name_in_responses(true)
            // §4: whitespace between the parts of the first line, whatever it is.
            .allow_multiple_spaces_in_response_status_delimiters(true);
        match config.parse_response(&mut parsed, bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
            Ok(httparse::Status::Partial) | Err(_) => {
                return Err(Refusal::broken("its answer is not HTTP"));
            }
        }
        if (parsed.version, parsed.code) == (Some(0), Some(101)) {
            // RFC 6455 §4.2.2: HTTP/1.1 or higher.
            return Err(Refusal::broken("it upgrades with HTTP/1.0, which cannot"));
        }
        let mut headers = HeaderMap::new();
        for header in parsed.headers {
            // httparse has seen to both; its rules are stricter.
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

    /// Says that it was this proxy.
    pub(crate) fn of(mut self, proxy: &str) -> Self {
        let detail = self.detail.as_deref().unwrap_or("no answer");
        self.detail = Some(format!("the proxy {proxy}: {detail}").into());
        self
    }
}

/// True for the beginning of a connection in HTTP/2: a SETTINGS frame on stream 0 (RFC 9113 §3.4, §4.1).
fn is_http_2(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, 4, _, 0, 0, 0, 0, ..])
}

fn too_large() -> Refusal {
    Refusal::new(
        Cause::Close(1009),
        format_args!("the head of its answer is over {MAX_HEAD} bytes or {MAX_HEADERS} headers"),
    )
}

/// A write that failed. What the peer said before it went away is worth more than "broken pipe".
#[derive(Debug, Default)]
pub(crate) struct Lost {
    error: Option<io::Error>,
    doubted: bool,
}

impl Lost {
    /// True if the last write failed; nothing more is to be written then.
    pub(crate) fn note(&mut self, error: Option<io::Error>) -> bool {
        self.error = error;
        self.error.is_some()
    }

    /// The stream has nothing to read. Who remembers readiness may not know yet what came before the end:
    /// the first time it is [doubted](Self::is_doubtful), then it is the end.
    pub(crate) fn ran_dry(&mut self) -> Result<(), Refusal> {
        if self.error.is_some() && std::mem::replace(&mut self.doubted, true) {
            return Err(self.end());
        }
        Ok(())
    }

    /// The socket itself is to be asked before anything follows from its silence.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.error.is_some() && self.doubted
    }

    /// The stream has ended.
    pub(crate) fn end(&mut self) -> Refusal {
        let error = self.error.take();
        Refusal::io(&error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))
    }
}

/// A request on its way out, and its answer on its way in.
pub(crate) struct Exchange {
    out: Vec<u8>,
    sent: usize,
    flushed: bool,
    lost: Lost,
    head: Vec<u8>,
    /// How many interim answers came before it.
    interim: u8,
    /// Bytes of empty lines before it.
    leading: usize,
}

impl Exchange {
    pub(crate) fn new(request: Vec<u8>) -> Self {
        Self {
            out: request,
            sent: 0,
            flushed: false,
            lost: Lost::default(),
            head: Vec::new(),
            interim: 0,
            leading: 0,
        }
    }

    /// Goes on as far as the stream lets it; the answer, and the bytes after it, once it is whole. That may
    /// be before [all is sent](Self::is_sent): a request that is too large is refused unread (431).
    pub(crate) fn proceed<S: Read + Write>(
        &mut self,
        stream: &mut Stream<S>,
    ) -> Result<Option<(Response, Vec<u8>)>, Refusal> {
        if !self.flushed {
            self.send(stream)?;
        }
        let mut buffer = [0; 2048];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(0) => return Err(self.lost.end()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.lost.ran_dry().map(|()| None);
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

    /// See [`Lost::is_doubtful`].
    pub(crate) fn is_doubtful(&self) -> bool {
        self.lost.is_doubtful()
    }

    /// True once there is nothing more to send.
    pub(crate) fn is_sent(&self) -> bool {
        self.out.is_empty()
    }

    /// The answer and what follows it, if it is there. Its end is looked for from this byte on.
    fn answer(&mut self, mut from: usize) -> Result<Option<(Response, Vec<u8>)>, Refusal> {
        loop {
            let is_end_of_line = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let leading = self.head.iter().take_while(is_end_of_line).count();
            if leading > 0 {
                self.leading += leading;
                self.head.drain(..leading);
                from = 0;
            }
            let seen = self.head.len().min(PREFIX.len());
            if self.head[..seen] != PREFIX[..seen] || self.leading > MAX_LEADING {
                return Err(Refusal::broken(if is_http_2(&self.head) {
                    "its answer is HTTP/2, and a WebSocket begins in HTTP/1.1"
                } else {
                    "its answer is not HTTP"
                }));
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

    /// Sends as far as the stream takes it.
    fn send<S: Read + Write>(&mut self, stream: &mut Stream<S>) -> Result<(), Refusal> {
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
                    self.flushed = self.lost.note(stream.wire_mut().write_error());
                    if !self.flushed {
                        return Ok(());
                    }
                }
                Err(error) => return Err(Refusal::io(&error)),
            }
        }
        // It may hold credentials, and nobody needs it any more.
        self.out = Vec::new();
        Ok(())
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

/// A value whose lines were folded, as one line (RFC 9112 §5.2).
fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'\n') {
        return value.into();
    }
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(&b' ').into()
}

/// `Retry-After` in both of its forms (RFC 9110 §10.2.3): seconds, or a date.
///
/// Some services send a fraction of a second, which no RFC has; it is rounded up. More seconds than fit
/// are as many as fit, as in RFC 9111 §1.2.2.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Some(seconds) = seconds(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
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
pub(crate) mod tests {
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
    fn a_date_is_meant_by_the_servers_clock() {
        let head = b"HTTP/1.1 503 Busy\r\nDate: Fri, 01 Jan 2010 00:00:00 GMT\r\n\
            Retry-After: Fri, 01 Jan 2010 00:01:00 GMT\r\n\r\n";
        let (response, _) = answer(head, 999).unwrap().unwrap();
        assert_eq!(
            response.cause().retry_after(),
            Some(Duration::from_secs(60))
        );
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

    pub(crate) fn answer(
        bytes: &[u8],
        piece: usize,
    ) -> Result<Option<(Response, Vec<u8>)>, Refusal> {
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

    /// A peer that has said this and gone: every write fails.
    struct Gone(Pieces);

    impl Read for Gone {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn what_the_peer_has_said_outranks_a_write_that_fails() {
        let gone = |said: &str, piece| {
            let mut stream = Stream::plain(Gone(Pieces(said.as_bytes().to_vec(), piece)));
            let mut exchange = Exchange::new(b"GET / HTTP/1.1\r\n\r\n".to_vec());
            let first = exchange.proceed(&mut stream)?;
            // The socket itself is asked once more.
            assert_eq!(first.is_none(), exchange.is_doubtful());
            first.map_or_else(|| exchange.proceed(&mut stream), |answer| Ok(Some(answer)))
        };
        let said = "HTTP/1.1 403 No\r\n\r\n";
        for piece in 1..=said.len() {
            let (response, _) = gone(said, piece).unwrap().unwrap();
            assert_eq!(response.status(), 403);
        }
        // Nothing, or not enough of it.
        for said in ["", "HTTP/1.1 403 No\r\n"] {
            assert_eq!(gone(said, 999).unwrap_err().cause, Cause::Reset);
        }
    }

    /// Takes so many bytes and no more.
    struct Full(Pieces, usize);

    impl Read for Full {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.1.min(bytes.len()) {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count => {
                    self.1 -= count;
                    Ok(count)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_is_heard_before_all_of_the_request_is_sent() {
        let request = b"GET / HTTP/1.1\r\n\r\n";
        for room in [0, 5, request.len(), 99] {
            let said = b"HTTP/1.1 431 Too large\r\n\r\n".to_vec();
            let mut stream = Stream::plain(Full(Pieces(said, 7), room));
            let mut exchange = Exchange::new(request.to_vec());
            let (response, _) = exchange.proceed(&mut stream).unwrap().unwrap();
            assert_eq!(response.status(), 431);
            assert_eq!(exchange.is_sent(), room >= request.len(), "{room}");
        }
    }

    #[test]
    fn a_head_is_read_as_user_agents_read_it() {
        for (head, expected) in [
            // RFC 9112 §5.2.
            ("X: a\r\n b\r\n", "a b"),
            ("X: a \r\n\t  b\r\n c\r\n", "a b c"),
            ("X:\r\n a\r\n", "a"),
            ("X: a\r\n \r\n", "a"),
            ("X: a\n b\n", "a b"),
            // §5.1.
            ("X : a\r\n", "a"),
            ("X\t: a\r\n", "a"),
            // §2.2: a bare LF, and both mixed.
            ("X: a\n", "a"),
            ("X: a\nY: b\r\n", "a"),
            // Optional whitespace, and none.
            ("X:a\r\n", "a"),
            ("X: \t a \t \r\n", "a"),
        ] {
            for start in [
                "200 OK",
                "200",
                "200 ",
                "200  OK",
                "200 \u{e9}t\u{e9}",
                "200 ,;:!?",
            ] {
                let bytes = format!("HTTP/1.1 {start}\r\nA: b\r\n{head}Z: y\r\n\r\nrest");
                for piece in 1..=bytes.len() {
                    let (response, _) = answer(bytes.as_bytes(), piece).unwrap().unwrap();
                    assert_eq!(response.header("x"), Some(expected), "{head:?} {piece}");
                    assert_eq!(response.header("z"), Some("y"), "{head:?}");
                }
            }
        }
        let latin = b"HTTP/1.1 403 No\r\nX: \xe9t\xe9\r\nRetry-After: 7\r\n\r\n";
        let (response, _) = answer(latin, 999).unwrap().unwrap();
        assert_eq!(response.header("x"), None, "not ASCII");
        assert_eq!(response.headers().next(), Some(("x", &b"\xe9t\xe9"[..])));
        assert_eq!(response.cause().retry_after(), Some(Duration::from_secs(7)));
        // Chrome passes over four bytes, too.
        for leading in ["\r\n", "\n", "\r\n\r\n", "\n\n\n\n"] {
            for piece in [1, 2, 999] {
                let bytes = format!("{leading}HTTP/1.1 503 Busy\r\n\r\n");
                let (response, _) = answer(bytes.as_bytes(), piece).unwrap().unwrap();
                assert_eq!(response.status(), 503);
            }
        }
    }

    #[test]
    fn what_user_agents_do_not_read_is_refused() {
        for head in [
            " X: a\r\n",
            "X: a\rb\r\n",
            "X: a\0\r\n",
            "X a\r\n",
            "X Y: a\r\n",
            ": a\r\n",
            "X: a\r\n\x7f: b\r\n",
        ] {
            let bytes = format!("HTTP/1.1 101 Switching\r\n{head}\r\n");
            let refusal = answer(bytes.as_bytes(), 999).unwrap_err();
            assert_eq!(refusal.cause, Cause::Close(1002), "{head:?}");
        }
        for start in ["\r\n\r\n\n", " ", "\tHTTP/1.1 200 OK\r\n\r\n"] {
            let bytes = format!("{start}HTTP/1.1 101 Switching\r\n\r\n");
            assert!(answer(bytes.as_bytes(), 1).is_err(), "{start:?}");
        }
        assert!(answer(&b"\r\n".repeat(5000), 999).is_err());
    }

    #[test]
    fn an_empty_list_is_none() {
        let list = |lines: &str| {
            let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
            let (response, _) = answer(head.as_bytes(), 999).unwrap().unwrap();
            let list = response.list("sec-websocket-protocol");
            let list: Vec<_> = list
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect();
            assert_eq!(response.subprotocol(), list.first().map(String::as_str));
            list
        };
        let name = "Sec-WebSocket-Protocol";
        for empty in [
            "",
            &format!("{name}:\r\n"),
            &format!("{name}: , ,\r\n{name}: \t\r\n"),
        ] {
            assert_eq!(list(empty), [""; 0], "{empty:?}");
        }
        assert_eq!(list(&format!("{name}:\r\n{name}: chat,\r\n")), ["chat"]);
        assert_eq!(list(&format!("{name}: a\r\n{name}: b\r\n")), ["a", "b"]);
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
        let told = |bytes: &[u8]| answer(bytes, 999).unwrap_err().detail.unwrap();
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x80";
        assert!(told(settings).contains("is HTTP/2"));
        assert!(!told(b"\0\0\x06\x07\0\0\0\0\0").contains("HTTP/2"));
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
