//! WebSocket frames by hand (RFC 6455 §5.2), because a library would answer pings and refuse to send
//! garbage.

/// FIN and text.
pub const TEXT: u8 = 0x81;
/// FIN and binary.
pub const BINARY: u8 = 0x82;
/// FIN and Close.
pub const CLOSE: u8 = 0x88;
/// FIN and ping.
pub const PING: u8 = 0x89;
/// FIN and pong.
pub const PONG: u8 = 0x8a;

/// No client of the course sends a larger frame.
const MAX_PAYLOAD: u64 = 64 << 20;

/// A client's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, reserved bits and opcode, as received.
    pub first: u8,
    /// Unmasked.
    pub payload: Vec<u8>,
}

/// A server's frame: unmasked.
#[must_use]
pub fn encode(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=65_535 => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// The first whole frame in `bytes`, and its length there.
///
/// # Errors
///
/// It is not masked, or larger than 64 MiB, so it is not a frame of one of our clients.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, &'static str> {
    let Some((head, length)) = head(bytes) else {
        return Ok(None);
    };
    if bytes[1] & 0x80 == 0 {
        return Err("a frame without a mask");
    }
    if length > MAX_PAYLOAD {
        return Err("a frame larger than 64 MiB");
    }
    let end = head + 4 + length as usize;
    if bytes.len() < end {
        return Ok(None);
    }
    let mask = [
        bytes[head],
        bytes[head + 1],
        bytes[head + 2],
        bytes[head + 3],
    ];
    let payload = bytes[head + 4..end].iter().zip(mask.iter().cycle());
    let frame = Frame {
        first: bytes[0],
        payload: payload.map(|(byte, mask)| byte ^ mask).collect(),
    };
    Ok(Some((frame, end)))
}

/// Where the mask begins, and the length of the payload.
fn head(bytes: &[u8]) -> Option<(usize, u64)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((
            4,
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        )),
        127 => Some((10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?))),
        length => Some((2, u64::from(length))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = encode(first, payload);
        let head = frame.len() - payload.len();
        frame[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        for (byte, mask) in frame[head..].iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        frame.splice(head..head, mask);
        frame
    }

    #[test]
    fn frames_of_all_three_lengths_are_taken_one_by_one_once_they_are_whole() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let whole = masked(BINARY, &payload);
            let mut bytes = whole[..whole.len() - 1].to_vec();
            assert_eq!(decode(&bytes), Ok(None));
            bytes.push(*whole.last().unwrap());
            bytes.extend(&whole);
            let (frame, end) = decode(&bytes).unwrap().unwrap();
            assert_eq!((frame.first, end), (BINARY, whole.len()));
            assert!(frame.payload == payload);
            assert!(decode(&bytes[end..]).unwrap() == Some((frame, end)));
        }
        assert!(decode(&encode(TEXT, b"x")).is_err());
    }
}
