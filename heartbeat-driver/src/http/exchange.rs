//! One HTTP request and the head of its answer, over a non-blocking stream.

use std::io::{self, Read, Write};

use super::error::{DialError, Lost};
use super::response::{MAX_HEAD, Response, too_large};
use crate::stream::Stream;

/// The most interim answers before the final one. Real servers send one or two.
const MAX_INTERIM: u8 = 8;

/// The most bytes of empty lines that are skipped before an answer. Some servers send them after an interim
/// answer.
const MAX_LEADING: usize = 4;

const PREFIX: &[u8] = b"HTTP/1.";

/// Returns true if the bytes start an HTTP/2 connection: a SETTINGS frame on stream 0 (RFC 9113 §3.4, §4.1).
fn is_http_2(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, 4, _, 0, 0, 0, 0, ..])
}

/// A request being sent, and its answer being received.
pub(crate) struct Exchange {
    out: Vec<u8>,
    sent: usize,
    flushed: bool,
    lost: Lost,
    head: Vec<u8>,
    /// The number of interim answers so far.
    interim: u8,
    /// The bytes of empty lines before the answer.
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

    /// Continues as far as the stream allows. Returns the answer once its head is complete, with the bytes
    /// after it. That may happen before [all is sent](Self::is_sent), because a server may refuse a large
    /// request unread (431).
    pub(crate) fn proceed<S: Read + Write>(
        &mut self,
        stream: &mut Stream<S>,
    ) -> Result<Option<(Response, Vec<u8>)>, DialError> {
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
                Err(error) => return Err(DialError::io(&error)),
            };
            // The end of the head may span two reads.
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

    /// Returns true once the whole request is sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.out.is_empty()
    }

    /// Returns the answer and the bytes after it, if the head is complete. Looks for the end of the head from
    /// byte `from`.
    fn answer(&mut self, mut from: usize) -> Result<Option<(Response, Vec<u8>)>, DialError> {
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
                return Err(DialError::broken(if is_http_2(&self.head) {
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
            // RFC 9110 §15.2: a client must accept interim answers (103, say).
            if !matches!(response.status(), 100 | 102..=199) {
                return Ok(Some((response, rest)));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(DialError::broken("its answer does not come"));
            }
            self.head = rest;
            from = 0;
        }
    }

    /// Sends as far as the stream takes the request.
    fn send<S: Read + Write>(&mut self, stream: &mut Stream<S>) -> Result<(), DialError> {
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
                Err(error) => return Err(DialError::io(&error)),
            }
        }
        // Dropped early, because it may hold credentials.
        self.out = Vec::new();
        Ok(())
    }
}

/// Returns the end of the head, which is after an empty line. Lines may end without a carriage return (RFC 9112
/// §2.2).
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).find_map(|at| match &bytes[at..] {
        [b'\n', b'\n', ..] => Some(at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::response::MAX_HEADERS;
    use super::*;
    use std::time::Duration;

    use heartbeat_core::Cause;

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

    /// Yields its bytes in pieces of this size, then nothing.
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
    ) -> Result<Option<(Response, Vec<u8>)>, DialError> {
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

    /// A peer that has sent these bytes and left: every write fails.
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
        // No answer, or an incomplete one.
        for said in ["", "HTTP/1.1 403 No\r\n"] {
            assert_eq!(gone(said, 999).unwrap_err().cause, Cause::Reset);
        }
    }

    /// Accepts this many bytes and no more.
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
        // Chrome skips four bytes, too.
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
