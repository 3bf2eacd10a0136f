//! Close frames (RFC 6455 §5.5.1, §7.4), received and sent.

use heartbeat_core::Failure;

/// A Close frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code; 1005 if the frame has none.
    pub code: u16,
    /// The reason, if there is one and it is readable.
    pub reason: Option<Box<str>>,
    /// The code of our answer. `None` if the answer has no code either.
    pub answer: Option<u16>,
}

/// A Close frame to send.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Goodbye<'a> {
    pub(crate) code: Option<u16>,
    /// At most 123 bytes. Omitted if there is no code.
    pub(crate) reason: &'a str,
}

impl From<u16> for Goodbye<'_> {
    fn from(code: u16) -> Self {
        let code = Some(code);
        Self { code, reason: "" }
    }
}

/// The frame has no code.
const NO_CODE: u16 = 1005;

/// A gateway lost its upstream server (IANA WebSocket Close Code Number Registry).
const BAD_GATEWAY: u16 = 1014;

impl Close {
    /// Reads a Close frame leniently: a malformed one still closes the connection. Unreadable parts are left
    /// out, and our answer says what was wrong.
    pub(crate) fn parse(payload: &[u8]) -> Self {
        let (code, reason) = match payload {
            [] => return Self::without_code(None),
            [_] => return Self::without_code(Some(1002)),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        let text = std::str::from_utf8(reason).ok();
        let reason = text.filter(|text| !text.is_empty()).map(Into::into);
        let (code, answer) = match (may_be_sent(code), text) {
            (true, Some(_)) => (code, code),
            (true, None) => (code, 1007),
            // A code outside the registry still says that the server is ending. Treat it as a gateway that lost
            // its upstream.
            (false, _) => (BAD_GATEWAY, 1002),
        };
        Self {
            code,
            reason,
            answer: Some(answer),
        }
    }

    /// Returns our answer: an echo of the frame if it was valid (RFC 6455 §5.5.1).
    pub(crate) fn goodbye(&self) -> Goodbye<'_> {
        let reason = self.reason.as_deref().unwrap_or_default();
        Goodbye {
            code: self.answer,
            reason: if self.answer == Some(self.code) {
                reason
            } else {
                ""
            },
        }
    }

    fn without_code(answer: Option<u16>) -> Self {
        Self {
            code: NO_CODE,
            reason: None,
            answer,
        }
    }
}

/// Returns true if this code may stand in a Close frame (RFC 6455 §7.4.1, §7.4.2 and the IANA registry). 1004
/// to 1006 and 1015 are never sent, 1016 to 2999 are reserved.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

impl Goodbye<'_> {
    pub(crate) fn payload(&self) -> Vec<u8> {
        match self.code {
            Some(code) => [&code.to_be_bytes(), self.reason.as_bytes()].concat(),
            None => Vec::new(),
        }
    }
}

/// The code and reason of a Close frame to send (RFC 6455 §5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseFrame {
    pub(crate) code: u16,
    pub(crate) reason: Box<str>,
}

heartbeat_core::debug_as_display!(InvalidClose);

/// Why a Close frame cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClose {
    /// This code may not be sent.
    #[error(
        "close code {code} cannot be sent: it must be 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 §7.4)"
    )]
    Code {
        /// The code.
        code: u16,
    },
    /// The reason does not fit in a control frame.
    #[error(
        "a close reason of {len} bytes cannot be sent: it must have at most 123 (RFC 6455 §5.5)"
    )]
    ReasonTooLong {
        /// Its length in bytes.
        len: usize,
    },
}

/// A control frame has at most 125 bytes (RFC 6455 §5.5), two of them for the code.
const LONGEST_REASON: usize = 123;

/// The connection has fulfilled its purpose (RFC 6455 §7.4.1).
const NORMAL: u16 = 1000;

/// A private-use code (RFC 6455 §7.4.2). It is the lowest code that a browser may send besides 1000 and the
/// codes registered for libraries.
const COMES_BACK: u16 = 4000;

impl CloseFrame {
    pub(crate) fn new(code: u16, reason: &str) -> Result<Self, InvalidClose> {
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(InvalidClose::Code { code });
        }
        if reason.len() > LONGEST_REASON {
            let len = reason.len();
            return Err(InvalidClose::ReasonTooLong { len });
        }
        let reason = reason.into();
        Ok(Self { code, reason })
    }

    /// Returns the default Close frame for a failure. 1000 is for clients that do not come back: it says that
    /// the session is over, and services that can resume a session (Discord, for example) forget it.
    pub(crate) fn of(failure: Failure) -> Self {
        let code = match failure {
            Failure::GiveUp => NORMAL,
            _ => COMES_BACK,
        };
        Self {
            code,
            reason: Box::default(),
        }
    }

    pub(crate) fn goodbye(&self) -> Goodbye<'_> {
        Goodbye {
            code: Some(self.code),
            reason: &self.reason,
        }
    }
}

impl From<u16> for CloseFrame {
    fn from(code: u16) -> Self {
        let reason = Box::default();
        Self { code, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &[u8]) -> (u16, Option<u16>, Option<String>) {
        let close = Close::parse(payload);
        (close.code, close.answer, close.reason.map(Into::into))
    }

    #[test]
    fn a_close_has_closed_whatever_is_wrong_with_it() {
        assert_eq!(parse(b""), (1005, None, None));
        assert_eq!(parse(b"\x03"), (1005, Some(1002), None));
        assert_eq!(parse(b"\x03\xe8"), (1000, Some(1000), None));
        let bye = Some("bye".into());
        assert_eq!(parse(b"\x03\xf4bye"), (1012, Some(1012), bye));
        assert_eq!(parse(b"\x03\xe8\xff"), (1000, Some(1007), None));
        assert_eq!(parse(b"\x03\xe8\xc3"), (1000, Some(1007), None));
    }

    #[test]
    fn codes_come_as_they_are_and_those_that_must_not_be_sent_are_answered_with_1002() {
        for code in [1000, 1003, 1007, 1013, 1014, 3000, 4401, 4999_u16] {
            assert_eq!(parse(&code.to_be_bytes()), (code, Some(code), None));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535_u16] {
            assert_eq!(parse(&code.to_be_bytes()), (1014, Some(1002), None));
        }
    }

    #[test]
    fn codes_that_may_not_be_sent_and_long_reasons_are_refused_by_value_and_rule() {
        for code in [1000, 1001, 1003, 1007, 1014, 3000, 4000, 4999] {
            assert_eq!(CloseFrame::new(code, "").map(|frame| frame.code), Ok(code));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            let refused = CloseFrame::new(code, "").unwrap_err();
            assert_eq!(refused, InvalidClose::Code { code });
            assert!(refused.to_string().contains(&code.to_string()));
        }
        assert!(CloseFrame::new(4000, &"x".repeat(123)).is_ok());
        let refused = CloseFrame::new(4000, &"é".repeat(62)).unwrap_err();
        assert_eq!(refused, InvalidClose::ReasonTooLong { len: 124 });
    }
}
