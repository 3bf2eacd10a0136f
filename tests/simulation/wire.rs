//! RFC 6455 §5.2 once more, independent of the library under test: reads the client's bytes, and writes the
//! server's.

/// An item that a client wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// The HTTP request, and the key in it.
    Upgrade { key: String },
    /// A frame: its opcode and its payload, unmasked.
    Frame(u8, Vec<u8>),
    /// An item that no client may write.
    Garbage(String),
}

const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Turns a client's bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    upgraded: bool,
    /// The message that comes in fragments: its opcode and its bytes so far.
    partial: Option<(u8, Vec<u8>)>,
    /// The last data frame was a fragment, so control frames may have overtaken the items that wait for the message's
    /// end.
    pub(crate) in_fragments: bool,
    /// How many bytes were taken out so far.
    pub(crate) taken: u64,
}

impl Decoder {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole item that was written.
    pub(crate) fn next(&mut self) -> Option<Wrote> {
        if !self.upgraded {
            let (len, wrote) = upgrade(&self.bytes)?;
            self.upgraded = true;
            self.consume(len);
            return Some(wrote);
        }
        loop {
            let (len, first, payload) = match frame(&self.bytes)? {
                Ok(frame) => frame,
                Err(garbage) => {
                    self.consume(self.bytes.len());
                    return Some(Wrote::Garbage(garbage));
                }
            };
            self.consume(len);
            let (is_last, opcode) = (first & 0x80 != 0, first & 0x0F);
            if opcode >= CLOSE {
                return Some(Wrote::Frame(opcode, payload));
            }
            match (&mut self.partial, opcode) {
                (None, TEXT | BINARY) if is_last => {
                    self.in_fragments = false;
                    return Some(Wrote::Frame(opcode, payload));
                }
                (None, TEXT | BINARY) => self.partial = Some((opcode, payload)),
                (Some((_, whole)), CONTINUATION) => whole.extend(payload),
                _ => return Some(Wrote::Garbage(format!("{first:#x} out of place"))),
            }
            self.in_fragments = true;
            if is_last && let Some((opcode, whole)) = self.partial.take() {
                return Some(Wrote::Frame(opcode, whole));
            }
        }
    }

    fn consume(&mut self, len: usize) {
        self.bytes.drain(..len);
        self.taken += len as u64;
    }
}

fn upgrade(bytes: &[u8]) -> Option<(usize, Wrote)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let key = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .map(|(_, value)| value.trim().to_owned());
    let wrote = match key {
        Some(key) if head.starts_with("GET ") => Wrote::Upgrade { key },
        _ => Wrote::Garbage(head.into_owned()),
    };
    Some((end, wrote))
}

/// Its length, its first byte and its payload; or the reason why it is not a client's frame.
type RawFrame = Result<(usize, u8, Vec<u8>), String>;

fn frame(bytes: &[u8]) -> Option<RawFrame> {
    let [first, second, rest @ ..] = bytes else {
        return None;
    };
    let (extended, len) = match second & 0x7F {
        126 => (
            2,
            usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)),
        ),
        127 => (
            8,
            u64::from_be_bytes(rest.get(..8)?.try_into().ok()?) as usize,
        ),
        short => (0, usize::from(short)),
    };
    // A client masks each frame, and does not fragment control frames.
    let is_cut_control = first & 0x88 == 0x08;
    if second & 0x80 == 0 || first & 0x70 != 0 || is_cut_control {
        return Some(Err(format!("{first:#x} {second:#x}")));
    }
    let mask: [u8; 4] = rest.get(extended..extended + 4)?.try_into().ok()?;
    let payload = rest.get(extended + 4..extended + 4 + len)?;
    let payload = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    Some(Ok((2 + extended + 4 + len, *first, payload)))
}

/// A server's frame.
pub(crate) fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    heartbeat_tests::frames::encode(0x80 | opcode, payload)
}
