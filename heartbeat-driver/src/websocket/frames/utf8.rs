//! UTF-8 validation of text that arrives in pieces.

use super::Violation;
use super::blocks::PIECE;

/// An incomplete text. The pieces may end within a character.
#[derive(Debug, Default)]
pub(super) struct TextPieces {
    pub(super) text: String,
    /// The beginning of a character whose rest has not arrived.
    cut: [u8; 4],
    cut_len: usize,
}

impl TextPieces {
    /// Returns the number of bytes so far.
    pub(super) fn len(&self) -> usize {
        self.text.len() + self.cut_len
    }

    /// # Errors
    /// [`Violation::NotUtf8`] as soon as no further bytes can make the text valid.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while self.cut_len > 0 {
            let Some((&first, rest)) = bytes.split_first() else {
                return Ok(());
            };
            self.cut[self.cut_len] = first;
            self.cut_len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.cut[..self.cut_len]) {
                Ok(character) => {
                    self.text.push_str(character);
                    self.cut_len = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
                Err(_) => {}
            }
        }
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(PIECE));
            match std::str::from_utf8(piece) {
                Ok(text) => {
                    self.text.push_str(text);
                    bytes = rest;
                }
                Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
                Err(error) => {
                    let (whole, cut) = piece.split_at(error.valid_up_to());
                    if let Ok(whole) = std::str::from_utf8(whole) {
                        self.text.push_str(whole);
                    }
                    if rest.is_empty() {
                        self.cut[..cut.len()].copy_from_slice(cut);
                        self.cut_len = cut.len();
                        return Ok(());
                    }
                    bytes = &bytes[error.valid_up_to()..];
                }
            }
        }
        Ok(())
    }

    /// # Errors
    /// [`Violation::NotUtf8`] if the text ends within a character.
    pub(super) fn finish(self) -> Result<String, Violation> {
        if self.cut_len > 0 {
            return Err(Violation::NotUtf8);
        }
        Ok(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(bytes: &[u8], piece: usize) -> Result<String, (usize, Violation)> {
        let mut text = TextPieces::default();
        for (number, piece) in bytes.chunks(piece).enumerate() {
            text.push(piece).map_err(|error| (number, error))?;
        }
        text.finish().map_err(|error| (bytes.len(), error))
    }

    #[test]
    fn any_cuts_give_the_same_text() {
        let long = "é€𐍈z".repeat(1000);
        for text in ["", "a", "é", "€", "𐍈", "aé€𐍈z", &long] {
            for piece in [1, 2, 3, 4, 5, 7, 2047, 2048, 2049, 5000, 50_000] {
                assert_eq!(in_pieces(text.as_bytes(), piece).as_deref(), Ok(text));
            }
        }
    }

    #[test]
    fn what_cannot_become_utf8_fails_at_the_byte_that_shows_it() {
        // A surrogate, more than U+10FFFF, overlong forms, a tail without a head, a head without a tail.
        let wrong: [(&[u8], usize); 7] = [
            (b"ab\xed\xa0\x80", 3),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xe0\x80\x80", 1),
            (b"\xc0\x80", 0),
            (b"a\x80", 1),
            (b"\xc3a", 1),
            (b"\xff", 0),
        ];
        for (bytes, at) in wrong {
            assert_eq!(in_pieces(bytes, 1), Err((at, Violation::NotUtf8)));
        }
        assert_eq!(in_pieces(b"a\xc3", 1), Err((2, Violation::NotUtf8)));
    }
}
