//! The key and the accept value of the upgrade (RFC 6455 §4.1, §4.2.2).

use data_encoding::BASE64;
use sha1_smol::Sha1;

use crate::websocket::frames::mask;

/// The fixed GUID of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Creates a `Sec-WebSocket-Key`: 16 random bytes in Base64.
pub(crate) fn key() -> String {
    let mut key = [0; 16];
    for part in key.chunks_exact_mut(4) {
        part.copy_from_slice(&mask::key());
    }
    BASE64.encode(&key)
}

/// Returns the `Sec-WebSocket-Accept` for this key.
pub(crate) fn accept(key: &str) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(key.as_bytes());
    sha1.update(GUID);
    BASE64.encode(&sha1.digest().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        // RFC 6455 §1.3.
        let answer = accept("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_are_16_bytes_and_differ() {
        let (one, other) = (key(), key());
        assert_ne!(one, other);
        assert_eq!(BASE64.decode(one.as_bytes()).unwrap().len(), 16);
    }
}
