//! Frame headers (RFC 6455 §5.2), read and written.

use super::Violation;

/// The opcode of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

pub(super) const FIN: u8 = 0x80;
pub(super) const RSV: u8 = 0x70;
/// The message is compressed (RFC 7692 §6).
#[cfg(feature = "deflate")]
pub(super) const RSV1: u8 = 0x40;
pub(super) const MASKED: u8 = 0x80;

/// The longest payload of a control frame (RFC 6455 §5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// The longest header of a frame that is not masked.
pub(super) const MAX_HEADER: usize = 10;

/// The header of a received frame. For a masked frame it excludes the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    /// RSV1 to RSV3, at their positions in the first byte.
    pub(super) reserved: u8,
    pub(super) opcode: Opcode,
    pub(super) is_masked: bool,
    /// Bytes of payload.
    pub(super) len: u64,
    /// Bytes of the header.
    pub(super) size: usize,
}

/// Parses the header at the start of `bytes`. Returns `None` if the header is incomplete.
#[inline(always)]
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let (len, size) = match second & !MASKED {
        126 => match rest.first_chunk() {
            Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(len) => (u64::from_be_bytes(*len), 10),
            None => return Ok(None),
        },
        len => (u64::from(len), 2),
    };
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        reserved => return Err(Violation::ReservedOpcode(reserved)),
    };
    Ok(Some(Header {
        fin: first & FIN != 0,
        reserved: first & RSV,
        opcode,
        is_masked: second & MASKED != 0,
        len,
        size,
    }))
}

/// Appends the header of a masked frame.
#[inline]
pub(super) fn write(to: &mut Vec<u8>, first: u8, len: usize, key: [u8; 4]) {
    match len {
        0..=125 => to.extend_from_slice(&[first, MASKED | len as u8]),
        126..=65_535 => {
            let [high, low] = (len as u16).to_be_bytes();
            to.extend_from_slice(&[first, MASKED | 126, high, low]);
        }
        _ => {
            to.extend_from_slice(&[first, MASKED | 127]);
            to.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    to.extend_from_slice(&key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_was_written_is_read_back_and_no_shorter_piece_of_it_is() {
        for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 40] {
            let mut bytes = Vec::new();
            write(&mut bytes, FIN | Opcode::Text as u8, len, [1, 2, 3, 4]);
            let size = bytes.len() - 4;
            let header = Header {
                fin: true,
                reserved: 0,
                opcode: Opcode::Text,
                is_masked: true,
                len: len as u64,
                size,
            };
            assert_eq!(parse(&bytes), Ok(Some(header)), "{len}");
            for short in 0..size {
                assert_eq!(parse(&bytes[..short]), Ok(None), "{len}, {short}");
            }
        }
    }

    #[test]
    fn reserved_opcodes_are_named() {
        for opcode in [3, 7, 11, 15] {
            let parsed = parse(&[FIN | opcode, 0]);
            assert_eq!(parsed, Err(Violation::ReservedOpcode(opcode)));
        }
    }
}
