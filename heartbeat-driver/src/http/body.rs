//! The body of a refusal, in which the server may explain it.

use super::response::Response;

/// The most bytes of a body that are kept. A sentence or a JSON object of a service fits.
pub(crate) const MAX_BODY: usize = 2048;

/// The most bytes that are read for a body. Chunk framing is not kept, and must be bounded too.
const MAX_READ: usize = 8 * MAX_BODY;

/// A body being received, without its framing (RFC 9112 §6).
pub(crate) struct Body {
    framing: Framing,
    bytes: Vec<u8>,
    read: usize,
}

enum Framing {
    /// This many bytes are still to come.
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// The position in a chunked body (RFC 9112 §7.1).
#[derive(Clone, Copy)]
enum Chunk {
    /// In the size line: the digits so far, if there are any.
    Size(Option<u64>),
    /// In the extension after the size.
    Extension(u64),
    Data(u64),
    /// In the line end after the data.
    End,
    /// After the last chunk, or after malformed data.
    Last,
}

impl Body {
    pub(crate) fn new(response: &Response) -> Self {
        let framing = match response.status() {
            // RFC 9110 §15: these statuses have no body.
            100..=199 | 204 | 304 => Framing::Length(0),
            _ if response.has_token("transfer-encoding", "chunked") => {
                Framing::Chunked(Chunk::Size(None))
            }
            _ if response.has("transfer-encoding") => Framing::UntilClose,
            _ => {
                let length = response.header("content-length");
                let length = length.and_then(|length| length.trim().parse().ok());
                length.map_or(Framing::UntilClose, Framing::Length)
            }
        };
        Self {
            framing,
            bytes: Vec::new(),
            read: 0,
        }
    }

    /// Adds bytes that were read.
    pub(crate) fn take(&mut self, mut raw: &[u8]) {
        self.read += raw.len();
        while let [first, rest @ ..] = raw {
            let left = match &self.framing {
                Framing::UntilClose => u64::MAX,
                Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) => *left,
                Framing::Chunked(_) => 0,
            };
            let count = usize::try_from(left).map_or(raw.len(), |left| left.min(raw.len()));
            let (data, behind) = raw.split_at(count);
            let room = MAX_BODY - self.bytes.len();
            self.bytes.extend_from_slice(&data[..data.len().min(room)]);
            raw = match &mut self.framing {
                Framing::Length(left) | Framing::Chunked(Chunk::Data(left @ 1..)) => {
                    *left -= count as u64;
                    if count == 0 {
                        return;
                    }
                    behind
                }
                Framing::Chunked(chunk) => {
                    *chunk = chunk.next(*first);
                    rest
                }
                Framing::UntilClose => behind,
            };
        }
    }

    /// Returns true if no more bytes are needed.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() >= MAX_BODY
            || self.read >= MAX_READ
            || matches!(
                self.framing,
                Framing::Length(0) | Framing::Chunked(Chunk::Last)
            )
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Chunk {
    /// Returns the position after this byte. For `Data`, the byte is the first one after the data.
    fn next(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let size = size.unwrap_or_default().checked_mul(16);
                size.map_or(Self::Last, |size| Self::Size(Some(size + u64::from(digit))))
            }
            (Self::Size(Some(0)) | Self::Extension(0), b'\n') => Self::Last,
            (Self::Size(Some(size)) | Self::Extension(size), b'\n') => Self::Data(size),
            (Self::Size(Some(size)), b';' | b' ' | b'\t' | b'\r') | (Self::Extension(size), _) => {
                Self::Extension(size)
            }
            (Self::End | Self::Data(_), b'\n') => Self::Size(None),
            (Self::End | Self::Data(_), b'\r') => Self::End,
            (Self::Size(_) | Self::End | Self::Data(_) | Self::Last, _) => Self::Last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::answer;
    use super::*;

    /// Returns the body, and whether it is complete, when fed in pieces of this size.
    fn body(head: &str, raw: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let head = format!("HTTP/1.1 {head}\r\n\r\n");
        let (response, _) = answer(head.as_bytes(), 4096).unwrap().unwrap();
        let mut body = Body::new(&response);
        for piece in raw.chunks(piece) {
            body.take(piece);
        }
        let is_whole = body.is_whole();
        (body.into_bytes(), is_whole)
    }

    #[test]
    fn a_body_ends_where_its_framing_says_however_it_is_cut() {
        const CHUNKED: &str = "403 No\r\nTransfer-Encoding: chunked";
        let all: [(&str, &[u8], &[u8], bool); 17] = [
            ("403 No\r\nContent-Length: 3", b"abcdef", b"abc", true),
            ("403 No\r\nContent-Length: 3", b"ab", b"ab", false),
            ("403 No\r\nContent-Length: 0", b"", b"", true),
            ("403 No\r\nContent-Length: x", b"ab", b"ab", false),
            ("403 No", b"ab", b"ab", false),
            ("204 No", b"ab", b"", true),
            ("304 No", b"", b"", true),
            (CHUNKED, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", true),
            (
                CHUNKED,
                b"3;x=y\nabc\n0A \n0123456789\n0",
                b"abc0123456789",
                false,
            ),
            (CHUNKED, b"000;last\r\n", b"", true),
            (CHUNKED, b"3\r\nab", b"ab", false),
            (CHUNKED, b"3\r\nabcd", b"abc", true),
            (CHUNKED, b"\r\n", b"", true),
            (CHUNKED, b"fffffffffffffffff\r\nab", b"", true),
            (CHUNKED, b"-1\r\nab", b"", true),
            (
                "403 No\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 1",
                b"2\r\nab\r\n0\r\n",
                b"ab",
                true,
            ),
            (
                "403 No\r\nTransfer-Encoding: gzip\r\nContent-Length: 1",
                b"ab",
                b"ab",
                false,
            ),
        ];
        for (head, raw, expected, is_whole) in all {
            for piece in 1..=raw.len().max(1) {
                let found = body(head, raw, piece);
                assert_eq!(found, (expected.to_vec(), is_whole), "{head} {raw:?}");
            }
        }
    }

    #[test]
    fn a_body_without_end_is_bounded() {
        for head in ["403 No", "403 No\r\nContent-Length: 99999999999"] {
            let (bytes, is_whole) = body(head, &[b'x'; MAX_BODY], 999);
            assert_eq!((bytes.len(), is_whole), (MAX_BODY, true), "{head}");
        }
        let chunked = "403 No\r\nTransfer-Encoding: chunked";
        let extension = [&b"1;"[..], &[b'x'; MAX_READ]].concat();
        assert_eq!(body(chunked, &extension, 999), (Vec::new(), true));
    }
}
