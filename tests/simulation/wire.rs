//! RFC 6455 §5.2 once more, independent of the library under test: what the client wrote is read here,
//! what the server says is written here.

/// What a client wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// The HTTP request, and the key in it.
    Upgrade { key: String },
    /// A frame: its opcode and its payload, unmasked.
    Frame(u8, Vec<u8>),
    /// What no client may write.
    Garbage(String),
}

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
    /// Bytes of all that was taken out so far.
    pub(crate) taken: u64,
}

impl Decoder {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole thing that was written.
    pub(crate) fn next(&mut self) -> Option<Wrote> {
        let (len, wrote) = if self.upgraded {
            frame(&self.bytes)?
        } else {
            self.upgraded = true;
            match upgrade(&self.bytes) {
                Some(upgrade) => upgrade,
                None => {
                    self.upgraded = false;
                    return None;
                }
            }
        };
        self.bytes.drain(..len);
        self.taken += len as u64;
        Some(wrote)
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

fn frame(bytes: &[u8]) -> Option<(usize, Wrote)> {
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
    // A client masks each frame, and this one does not cut its messages.
    if second & 0x80 == 0 || first & 0xF0 != 0x80 {
        return Some((
            bytes.len(),
            Wrote::Garbage(format!("{first:#x} {second:#x}")),
        ));
    }
    let mask: [u8; 4] = rest.get(extended..extended + 4)?.try_into().ok()?;
    let payload = rest.get(extended + 4..extended + 4 + len)?;
    let payload = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    Some((2 + extended + 4 + len, Wrote::Frame(first & 0x0F, payload)))
}

/// A server's frame.
pub(crate) fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    heartbeat_tests::frames::encode(0x80 | opcode, payload)
}
