//! permessage-deflate (RFC 7692): the offer, the agreement, and compression in both directions.

use std::fmt::Write as _;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Violation;

/// Message compression to offer to the server (RFC 7692). If the server declines, messages are sent
/// uncompressed. The server may also ask for smaller windows.
///
/// Compression costs memory: about 270 KB to compress and 45 KB to inflate with windows of 15 bits, allocated when a
/// message first needs it. Without context takeover the memory is freed while the connection is idle. Leave compression
/// off if others can place text of their own next to a secret in one message: the compressed length reveals the secret
/// (CRIME).
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Deflate, Options}; // or heartbeat_blocking
/// let options = Options::new("ws://example.org/")?.deflate(Deflate::new().min_size(256));
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    pub(crate) client_max_window_bits: u8,
    pub(crate) server_max_window_bits: u8,
    pub(crate) client_no_context_takeover: bool,
    pub(crate) server_no_context_takeover: bool,
    pub(crate) level: u32,
    pub(crate) min_size: usize,
}

/// RFC 7692 §7.1.2: 8 to 15. zlib has no raw deflate with 8.
const BITS: std::ops::RangeInclusive<u8> = 9..=15;

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

impl Deflate {
    /// Windows of 15 bits, context takeover both ways, level 6, messages of 64 bytes and more.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            client_max_window_bits: 15,
            server_max_window_bits: 15,
            client_no_context_takeover: false,
            server_no_context_takeover: false,
            level: 6,
            min_size: 64,
        }
    }

    /// Sets the window for sent messages, as a power of two: 9 to 15 (512 bytes to 32 KiB), default 15. Other
    /// values are clamped. The server may ask for a smaller window.
    #[must_use]
    pub fn client_max_window_bits(mut self, bits: u8) -> Self {
        self.client_max_window_bits = bits.clamp(*BITS.start(), *BITS.end());
        self
    }

    /// Sets the window for received messages, likewise. Below 15, a server that does not accept the value is
    /// refused.
    #[must_use]
    pub fn server_max_window_bits(mut self, bits: u8) -> Self {
        self.server_max_window_bits = bits.clamp(*BITS.start(), *BITS.end());
        self
    }

    /// Compresses each sent message on its own, which needs less memory and compresses less. Default: off.
    #[must_use]
    pub fn client_no_context_takeover(mut self) -> Self {
        self.client_no_context_takeover = true;
        self
    }

    /// Asks the server to compress each message on its own. A server that does not accept this is refused.
    /// Default: off.
    #[must_use]
    pub fn server_no_context_takeover(mut self) -> Self {
        self.server_no_context_takeover = true;
        self
    }

    /// Sets zlib's compression level: 0 (none) to 9 (best), default 6. Larger values count as 9.
    #[must_use]
    pub fn level(mut self, level: u32) -> Self {
        self.level = level.min(9);
        self
    }

    /// Sends messages shorter than this, in bytes, uncompressed. Default 64, because shorter messages gain
    /// little.
    #[must_use]
    pub fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Returns the value of `Sec-WebSocket-Extensions` for this offer.
    pub(crate) fn offer(&self) -> String {
        // The parameter has no number, because some servers refuse a client that names fewer bits than they do.
        // Our window may be smaller than agreed in any case.
        let mut offer = String::from("permessage-deflate; client_max_window_bits");
        if self.server_max_window_bits < 15 {
            let bits = self.server_max_window_bits;
            let _ = write!(offer, "; server_max_window_bits={bits}");
        }
        if self.client_no_context_takeover {
            offer.push_str("; client_no_context_takeover");
        }
        if self.server_no_context_takeover {
            offer.push_str("; server_no_context_takeover");
        }
        offer
    }

    /// Returns what the server agreed to in its `Sec-WebSocket-Extensions` (RFC 7692 §7.1).
    ///
    /// # Errors
    /// Returns the rule that the answer breaks.
    pub(crate) fn agree(&self, answer: &str) -> Result<Agreed, &'static str> {
        let mut parts = answer.split(';').map(str::trim);
        if answer.contains(',')
            || !parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate"))
        {
            return Err("it chose an extension that was not offered");
        }
        let (mut client_bits, mut server_bits) = (None, None);
        let (mut client_alone, mut server_alone) = (None, None);
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(value.trim().trim_matches('"'))),
                None => (part, None),
            };
            let bits = || {
                // RFC 7692 §7.1.2.1: a decimal number without leading zeros.
                let value = value.filter(|value| !value.starts_with('0'))?;
                let value = value.parse().ok()?;
                (8..=15).contains(&value).then_some(value)
            };
            let bits_of = |bits: Option<u8>| {
                bits.ok_or("a window of its permessage-deflate is not 8 to 15 bits")
            };
            let was_said = if name.eq_ignore_ascii_case("client_max_window_bits") {
                client_bits.replace(bits_of(bits())?).is_some()
            } else if name.eq_ignore_ascii_case("server_max_window_bits") {
                server_bits.replace(bits_of(bits())?).is_some()
            } else if value.is_some() {
                return Err("its permessage-deflate has a parameter that nobody knows");
            } else if name.eq_ignore_ascii_case("client_no_context_takeover") {
                client_alone.replace(()).is_some()
            } else if name.eq_ignore_ascii_case("server_no_context_takeover") {
                server_alone.replace(()).is_some()
            } else {
                return Err("its permessage-deflate has a parameter that nobody knows");
            };
            if was_said {
                return Err("its permessage-deflate says a parameter twice");
            }
        }
        let server_bits = server_bits.unwrap_or(15);
        if server_bits > self.server_max_window_bits {
            return Err("its permessage-deflate does not heed server_max_window_bits");
        }
        if self.server_no_context_takeover && server_alone.is_none() {
            return Err("its permessage-deflate does not heed server_no_context_takeover");
        }
        let client_bits = client_bits.unwrap_or(15).min(self.client_max_window_bits);
        Ok(Agreed {
            client_bits,
            // A larger window than the server's reads its data as well.
            server_bits: server_bits.max(*BITS.start()),
            client_alone: self.client_no_context_takeover || client_alone.is_some(),
            server_alone: server_alone.is_some(),
            level: self.level,
            // zlib cannot compress with a window of 8 bits, so messages then go uncompressed.
            min_size: if client_bits < *BITS.start() {
                usize::MAX
            } else {
                self.min_size
            },
        })
    }
}

/// The parameters that client and server have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    client_bits: u8,
    server_bits: u8,
    /// Our messages are each compressed on their own.
    client_alone: bool,
    server_alone: bool,
    level: u32,
    min_size: usize,
}

/// The answer of a server that accepts [`Deflate::new`] and asks for nothing else.
impl Default for Agreed {
    fn default() -> Self {
        let Deflate {
            level, min_size, ..
        } = Deflate::new();
        Self {
            client_bits: *BITS.end(),
            server_bits: *BITS.end(),
            client_alone: false,
            server_alone: false,
            level,
            min_size,
        }
    }
}

/// Bytes that the sender removes from the end of each message and the receiver restores (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Decompression of received messages.
#[derive(Debug)]
pub(super) struct Inflater {
    agreed: Agreed,
    /// Created when first needed.
    state: Option<Decompress>,
}

impl Inflater {
    pub(super) fn new(agreed: Agreed) -> Self {
        Self {
            agreed,
            state: None,
        }
    }

    /// Returns the most compressed bytes of a message of `max` bytes. Incompressible data grows a little, most
    /// with small windows.
    pub(super) fn max_deflated(max: usize) -> usize {
        max.saturating_add(max / 8 + 64)
    }

    /// Appends inflated bytes to `out` until it has [`PIECE`] of them. Returns true at the end of the message. After
    /// false, take the bytes and go on with the same `deflated` and `position`. At most `max` bytes are still allowed.
    ///
    /// # Errors
    /// [`Violation::TooLarge`] once the output exceeds `max` by a byte. [`Violation::NotDeflated`] if the data
    /// is corrupt.
    pub(super) fn inflate(
        &mut self,
        deflated: &[u8],
        position: &mut Position,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Result<bool, Violation> {
        let bits = self.agreed.server_bits;
        let state = self
            .state
            .get_or_insert_with(|| Decompress::new_with_window_bits(false, bits));
        for part in [deflated, &TAIL].into_iter().skip(position.part) {
            if !inflate_part(state, part, &mut position.at, out, max)? {
                return Ok(false);
            }
            (position.part, position.at) = (position.part + 1, 0);
        }
        if self.agreed.server_alone {
            state.reset(false);
        }
        Ok(true)
    }

    pub(super) fn relax(&mut self) {
        if self.agreed.server_alone {
            self.state = None;
        }
    }
}

/// The position up to which a message has been inflated: in its data, or in [`TAIL`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    part: usize,
    at: usize,
}

/// The most bytes that are inflated before other tasks get a turn.
pub(super) const PIECE: usize = 256 * 1024;

fn inflate_part(
    state: &mut Decompress,
    part: &[u8],
    at: &mut usize,
    out: &mut Vec<u8>,
    max: usize,
) -> Result<bool, Violation> {
    loop {
        if out.len() == out.capacity() {
            if out.len() >= PIECE {
                return Ok(false);
            }
            // The buffer doubles, and never exceeds the limit by more than one byte.
            let most = PIECE.min(max.saturating_add(1)) - out.len();
            let more = (part.len() - *at).saturating_mul(4);
            out.reserve_exact(more.max(out.len()).max(256).min(most));
        }
        let (before, came) = (state.total_in(), out.len());
        let status = state
            .decompress_vec(&part[*at..], out, FlushDecompress::Sync)
            .map_err(|_| Violation::NotDeflated)?;
        *at += (state.total_in() - before) as usize;
        if out.len() > max {
            let len = out.len() as u64;
            return Err(Violation::TooLarge { len, max });
        }
        let is_read = *at == part.len();
        match status {
            // A final block within the message (RFC 7692 §7.2.3.4): the rest begins a new stream.
            Status::StreamEnd => state.reset(false),
            // Free room in the output means that all of it has come out.
            Status::Ok | Status::BufError if is_read && out.len() < out.capacity() => {
                return Ok(true);
            }
            Status::Ok | Status::BufError => {
                let has_moved = out.len() > came || state.total_in() > before;
                if !has_moved && out.len() < out.capacity() {
                    return Err(Violation::NotDeflated);
                }
            }
        }
        if is_read && matches!(status, Status::StreamEnd) {
            return Ok(true);
        }
    }
}

#[cfg(test)]
impl Inflater {
    /// Inflates all of a message.
    pub(super) fn all(&mut self, deflated: &[u8], max: usize) -> Result<Vec<u8>, Violation> {
        let (mut whole, mut position) = (Vec::new(), Position::default());
        loop {
            let (mut out, left) = (Vec::new(), max - whole.len());
            let done = self.inflate(deflated, &mut position, &mut out, left);
            let done = done.map_err(|violation| violation.after(whole.len()))?;
            whole.append(&mut out);
            if done {
                return Ok(whole);
            }
        }
    }
}

/// Compression of sent messages.
#[derive(Debug)]
pub(super) struct Deflater {
    agreed: Agreed,
    /// Created when first needed.
    state: Option<Compress>,
}

impl Deflater {
    pub(super) fn new(agreed: Agreed) -> Self {
        Self {
            agreed,
            state: None,
        }
    }

    /// Returns true if a message of this length is compressed.
    pub(super) fn wants(&self, len: usize) -> bool {
        // An empty message would need an empty block of its own.
        len >= self.agreed.min_size.max(1)
    }

    /// Appends the next piece of a message to `out`. The last piece flushes all output.
    pub(super) fn deflate(&mut self, piece: &[u8], is_last: bool, out: &mut Vec<u8>) {
        let (level, bits) = (self.agreed.level, self.agreed.client_bits);
        let state = self.state.get_or_insert_with(|| {
            Compress::new_with_window_bits(Compression::new(level), false, bits)
        });
        let flush = if is_last {
            FlushCompress::Sync
        } else {
            FlushCompress::None
        };
        let mut rest = piece;
        loop {
            out.reserve(rest.len() / 2 + 64);
            let before = state.total_in();
            // The only error is an inconsistent stream, which cannot happen here.
            let _ = state.compress_vec(rest, out, flush);
            rest = &rest[(state.total_in() - before) as usize..];
            // Free room in the output means that all of it has come out.
            if rest.is_empty() && out.len() < out.capacity() {
                break;
            }
        }
        if is_last {
            if out.ends_with(&TAIL) {
                out.truncate(out.len() - TAIL.len());
            }
            if self.agreed.client_alone {
                state.reset();
            }
        }
    }

    pub(super) fn relax(&mut self) {
        if self.agreed.client_alone {
            self.state = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(offer: Deflate, answer: &str) -> Agreed {
        offer.agree(answer).unwrap()
    }

    fn deflated(deflater: &mut Deflater, message: &[u8], piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let pieces = message.chunks(piece).count();
        for (number, piece) in message.chunks(piece).enumerate() {
            deflater.deflate(piece, number + 1 == pieces, &mut out);
        }
        out
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut seed = 7_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn messages() -> Vec<Vec<u8>> {
        let trade = br#"{"e":"trade","E":1672515782136,"s":"BNBBTC","p":"612.40"}"#;
        vec![
            trade.to_vec(),
            trade.to_vec(),
            vec![b'x'; 70_000],
            noise(20_000),
            b"a".to_vec(),
            trade.repeat(300),
            noise(3000),
        ]
    }

    #[test]
    fn what_was_deflated_comes_back_with_every_set_of_parameters() {
        let answers = [
            "permessage-deflate",
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9",
            "permessage-deflate;server_max_window_bits=12;client_max_window_bits=\"12\"",
        ];
        for answer in answers {
            for level in [0, 1, 6, 9] {
                let ours = agreed(Deflate::new().level(level), answer);
                // The peer inflates with the parameters that it has agreed to for us.
                let theirs = Agreed {
                    server_bits: ours.client_bits,
                    server_alone: ours.client_alone,
                    ..ours
                };
                for piece in [1 << 20, 1000] {
                    let mut deflater = Deflater::new(ours);
                    let mut inflater = Inflater::new(theirs);
                    for message in messages() {
                        let deflated = deflated(&mut deflater, &message, piece);
                        assert!(deflated.len() <= Inflater::max_deflated(message.len()));
                        let inflated = inflater.all(&deflated, message.len());
                        assert!(inflated.as_ref() == Ok(&message), "{answer}, {level}");
                        inflater.relax();
                        deflater.relax();
                    }
                }
            }
        }
    }

    #[test]
    fn context_takeover_makes_the_second_of_two_equal_messages_small() {
        let message = noise(500);
        let sizes = |answer| {
            let mut deflater = Deflater::new(agreed(Deflate::new(), answer));
            deflated(&mut deflater, &message, 1000);
            deflated(&mut deflater, &message, 1000).len()
        };
        assert!(sizes("permessage-deflate") < 20);
        assert!(sizes("permessage-deflate; client_no_context_takeover") > 490);
    }

    #[test]
    fn the_limit_is_exact_and_a_bomb_is_never_inflated() {
        let answer = agreed(Deflate::new(), "permessage-deflate");
        let mut deflater = Deflater::new(answer);
        let bomb = deflated(&mut deflater, &vec![0; 16 << 20], 1 << 20);
        assert!(bomb.len() < 20_000);
        for max in [0, 1, 255, 256, 257, 100_000, (16 << 20) - 1] {
            let mut inflater = Inflater::new(answer);
            let refused = inflater.all(&bomb, max).unwrap_err();
            let len = max as u64 + 1;
            assert_eq!(refused, Violation::TooLarge { len, max });
        }
        let held = allocation_counter::measure(|| {
            let _ = Inflater::new(answer).all(&bomb, 100_000);
        });
        assert!(held.bytes_max < 400_000, "{held:?}");
        let mut inflater = Inflater::new(answer);
        assert_eq!(inflater.all(&bomb, 16 << 20).unwrap().len(), 16 << 20);
    }

    #[test]
    fn the_examples_of_the_rfc_are_read_as_there() {
        let answer = agreed(Deflate::new(), "permessage-deflate");
        let mut inflater = Inflater::new(answer);
        // RFC 7692 §7.2.3.1, .2 (with the window of the first), .3, .4 (a last block in it), .5 (two blocks).
        let examples: [&[u8]; 5] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            &[0xf2, 0x00, 0x11, 0x00, 0x00],
            &[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
        ];
        for example in examples {
            assert_eq!(inflater.all(example, 5).unwrap(), b"Hello", "{example:x?}");
        }
        assert_eq!(inflater.all(&[0x00], 0).unwrap(), b"");
    }

    #[test]
    fn memory_is_taken_when_needed_and_given_back_where_each_message_is_alone() {
        let alone = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
        for (answer, is_given_back) in [("permessage-deflate", false), (alone, true)] {
            let agreed = agreed(Deflate::new(), answer);
            let (mut deflater, mut inflater) = (Deflater::new(agreed), Inflater::new(agreed));
            let mut kept = Vec::new();
            let compressing = allocation_counter::measure(|| {
                kept = deflated(&mut deflater, &[b'x'; 100], 1000);
            });
            let inflating = allocation_counter::measure(|| {
                kept = inflater.all(&kept, 100).unwrap();
            });
            // `Deflate` and `docs/speed.md` give these figures.
            assert!(compressing.bytes_max < 400_000, "{compressing:?}");
            assert!(inflating.bytes_max < 60_000, "{inflating:?}");
            let given_back = allocation_counter::measure(|| {
                deflater.relax();
                inflater.relax();
            });
            let freed = -given_back.bytes_current;
            assert_eq!(freed > 200_000, is_given_back, "{freed}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        let answer = agreed(Deflate::new(), "permessage-deflate");
        for garbage in [&[0xff, 0xff][..], &[0x07], &[0x00, 0x01, 0x00, 0x00, 0x00]] {
            let refused = Inflater::new(answer).all(garbage, 1000);
            assert_eq!(refused, Err(Violation::NotDeflated), "{garbage:x?}");
        }
    }

    #[test]
    fn offers_say_what_was_chosen() {
        assert_eq!(
            Deflate::new().offer(),
            "permessage-deflate; client_max_window_bits"
        );
        let all = Deflate::new()
            .client_max_window_bits(8)
            .server_max_window_bits(10)
            .client_no_context_takeover()
            .server_no_context_takeover();
        assert_eq!(
            all.offer(),
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10; \
             client_no_context_takeover; server_no_context_takeover"
        );
    }

    #[test]
    fn answers_are_held_to_the_offer_and_to_the_rfc() {
        let plain = Deflate::new();
        let strict = plain
            .server_max_window_bits(10)
            .server_no_context_takeover();
        let fit = [
            (plain, "permessage-deflate"),
            (plain, " PerMessage-Deflate ; server_max_window_bits=8"),
            (
                plain,
                "permessage-deflate; client_max_window_bits=8; server_no_context_takeover",
            ),
            (
                strict,
                "permessage-deflate; server_max_window_bits=9; server_no_context_takeover",
            ),
        ];
        for (offer, answer) in fit {
            assert!(offer.agree(answer).is_ok(), "{answer}");
        }
        let unfit = [
            (plain, ""),
            (plain, "permessage-bzip2"),
            (plain, "permessage-deflate, permessage-deflate"),
            (plain, "permessage-deflate; server_max_window_bits=16"),
            (plain, "permessage-deflate; server_max_window_bits=7"),
            (plain, "permessage-deflate; server_max_window_bits=09"),
            (plain, "permessage-deflate; server_max_window_bits"),
            (plain, "permessage-deflate; client_max_window_bits"),
            (plain, "permessage-deflate; client_max_window_bits=x"),
            (plain, "permessage-deflate; server_no_context_takeover=1"),
            (
                plain,
                "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            ),
            (plain, "permessage-deflate; unknown"),
            (plain, "permessage-deflate; unknown=1"),
            (plain, "permessage-deflate;"),
            (strict, "permessage-deflate"),
            (strict, "permessage-deflate; server_max_window_bits=10"),
            (
                strict,
                "permessage-deflate; server_max_window_bits=11; server_no_context_takeover",
            ),
        ];
        for (offer, answer) in unfit {
            assert!(offer.agree(answer).is_err(), "{answer}");
        }
        // The server may compress with a window of 8 bits. We send uncompressed then, because zlib has no such
        // window.
        let narrow = agreed(plain, "permessage-deflate; client_max_window_bits=8");
        assert!(!Deflater::new(narrow).wants(1 << 20));
        assert!(!Deflater::new(agreed(plain.min_size(0), "permessage-deflate")).wants(0));
    }
}
