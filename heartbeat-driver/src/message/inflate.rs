//! Binary messages that are compressed one by one, as by many exchanges.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use flate2::read::{DeflateDecoder, ZlibDecoder};

use super::Message;
use super::decode::{Decode, Undecodable};

/// A decoder that inflates each binary message on its own. The result is a text message if it is UTF-8.
///
/// Services that compress a connection as one stream (Discord's `zlib-stream`) need a [`Decode`] implementation
/// of their own.
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Inflate, Options}; // or heartbeat_blocking
/// # if cfg!(not(feature = "tls")) { return Ok(()) }
/// let options = Options::new("wss://api.huobi.pro/ws")?.decoder(|| Inflate::Gzip);
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inflate {
    /// gzip (RFC 1952), up to 64 members. A message without gzip's magic number is passed on unchanged.
    Gzip,
    /// zlib (RFC 1950), which HTTP calls `deflate`.
    Zlib,
    /// Bare deflate (RFC 1951).
    Deflate,
}

/// gzip's magic number (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The most gzip members of one message. Each member costs a window of 32 KiB even if it is empty. Without this
/// limit a message made of empty members (20 bytes each) would keep the client busy for minutes.
const MEMBERS: usize = 64;

/// The first size of the buffer for the result, in bytes.
const LEAST: usize = 4096;

impl Decode for Inflate {
    fn decode(&mut self, message: Message, limit: usize) -> Result<Message, Undecodable> {
        let Message::Binary(bytes) = message else {
            return Ok(message);
        };
        let inflated = match self {
            Self::Gzip if !bytes.starts_with(&GZIP) => return Ok(Message::Binary(bytes)),
            Self::Gzip => gunzip(&bytes, limit),
            Self::Zlib => read(Vec::new(), ZlibDecoder::new(&bytes[..]), limit),
            Self::Deflate => read(Vec::new(), DeflateDecoder::new(&bytes[..]), limit),
        }?;
        Ok(match String::from_utf8(inflated) {
            Ok(text) => Message::from(text),
            Err(error) => Message::Binary(Bytes::from(error.into_bytes())),
        })
    }
}

fn gunzip(mut bytes: &[u8], limit: usize) -> Result<Vec<u8>, Undecodable> {
    let mut inflated = Vec::with_capacity(promised(bytes).min(limit).saturating_add(1));
    for _ in 0..MEMBERS {
        let mut decoder = GzDecoder::new(bytes);
        inflated = read(inflated, &mut decoder, limit)?;
        bytes = decoder.into_inner();
        if bytes.is_empty() {
            return Ok(inflated);
        }
    }
    Err(Undecodable::malformed(format_args!(
        "it has more than {MEMBERS} gzip members"
    )))
}

/// Returns the length that the last member promises, but at most the length that deflate can produce from these bytes
/// (1032 times as many).
///
/// A buffer of the right size is not moved. An oversized buffer would be mapped again for each message, with a fault
/// for each page.
fn promised(bytes: &[u8]) -> usize {
    // ISIZE (RFC 1952 §2.3.1): four bytes, the length modulo 2^32.
    let promised = bytes
        .last_chunk()
        .map_or(0, |size| u32::from_le_bytes(*size));
    let most = bytes.len().saturating_mul(1032);
    usize::try_from(promised).unwrap_or(most).min(most)
}

/// Appends the decompressed bytes to `inflated`.
fn read(
    mut inflated: Vec<u8>,
    mut decoder: impl Read,
    limit: usize,
) -> Result<Vec<u8>, Undecodable> {
    loop {
        if inflated.len() == inflated.capacity() {
            // The buffer doubles. One byte over the limit shows that the message is too large.
            let left = (limit - inflated.len()).saturating_add(1);
            inflated.reserve_exact(inflated.len().max(LEAST).min(left));
        }
        let room = inflated.capacity() - inflated.len();
        let read = decoder
            .by_ref()
            .take(room as u64)
            .read_to_end(&mut inflated);
        let count = read.map_err(Undecodable::malformed)?;
        if inflated.len() > limit {
            return Err(Undecodable::TooLarge { limit });
        }
        if count < room {
            return Ok(inflated);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &str = r#"{"ping":1492420473027}"#;

    fn all(bytes: &[u8]) -> [(Inflate, Vec<u8>); 3] {
        let best = Compression::best();
        let mut gzip = GzEncoder::new(Vec::new(), best);
        let mut zlib = ZlibEncoder::new(Vec::new(), best);
        let mut deflate = DeflateEncoder::new(Vec::new(), best);
        for encoder in [&mut gzip as &mut dyn Write, &mut zlib, &mut deflate] {
            encoder.write_all(bytes).unwrap();
        }
        [
            (Inflate::Gzip, gzip.finish().unwrap()),
            (Inflate::Zlib, zlib.finish().unwrap()),
            (Inflate::Deflate, deflate.finish().unwrap()),
        ]
    }

    #[test]
    fn what_was_deflated_comes_back_as_text_if_it_is_text() {
        for (mut inflate, bytes) in all(TEXT.as_bytes()) {
            assert_eq!(
                inflate.decode(bytes.into(), 100),
                Ok(TEXT.into()),
                "{inflate:?}"
            );
            assert_eq!(inflate.decode("as it is".into(), 1), Ok("as it is".into()));
        }
        for (mut inflate, bytes) in all(&[0xff; 9]) {
            assert_eq!(inflate.decode(bytes.into(), 100), Ok(vec![0xff; 9].into()));
        }
        let plain = || Message::from(vec![1, 2, 3]);
        assert_eq!(Inflate::Gzip.decode(plain(), 1), Ok(plain()));
    }

    #[test]
    fn the_limit_is_exact_and_a_bomb_is_never_inflated() {
        for (mut inflate, bytes) in all(TEXT.as_bytes()) {
            assert!(inflate.decode(bytes.clone().into(), TEXT.len()).is_ok());
            let limit = TEXT.len() - 1;
            let refused = inflate.decode(bytes.into(), limit);
            assert_eq!(refused, Err(Undecodable::TooLarge { limit }));
        }
        for (mut inflate, bomb) in all(&vec![0; 16 << 20]) {
            let limit = 1 << 16;
            let refused = inflate.decode(bomb.into(), limit);
            assert_eq!(refused, Err(Undecodable::TooLarge { limit }), "{inflate:?}");
        }
    }

    #[test]
    fn a_message_of_many_members_is_whole_and_one_of_nothing_but_beginnings_costs_little() {
        let [(mut gzip, member), ..] = all(b"0123456789");
        let decoded = gzip.decode(member.repeat(MEMBERS).into(), 10 * MEMBERS);
        assert_eq!(decoded, Ok("0123456789".repeat(MEMBERS).as_str().into()));
        let limit = 10 * MEMBERS - 1;
        assert_eq!(
            gzip.decode(member.repeat(MEMBERS).into(), limit),
            Err(Undecodable::TooLarge { limit })
        );
        // 64 MiB of these members would allocate 3 million windows without reaching the limit of bytes.
        let [(mut gzip, empty), ..] = all(b"");
        let refused = gzip.decode(empty.repeat(MEMBERS + 1).into(), 1 << 20);
        assert!(
            matches!(refused, Err(Undecodable::Malformed { .. })),
            "{refused:?}"
        );
        let garbage = [member, vec![1, 2, 3]].concat();
        assert!(gzip.decode(garbage.into(), 100).is_err());
    }

    #[test]
    fn what_is_cut_or_garbled_is_malformed() {
        for (mut inflate, bytes) in all(TEXT.as_bytes()) {
            let cut = bytes[..bytes.len() / 2].to_vec();
            let refused = inflate.decode(cut.into(), 100);
            assert!(
                matches!(refused, Err(Undecodable::Malformed { .. })),
                "{refused:?}"
            );
        }
        let refused = Inflate::Zlib.decode(vec![1, 2, 3].into(), 100);
        assert!(matches!(refused, Err(Undecodable::Malformed { .. })));
    }
}
