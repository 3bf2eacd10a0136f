//! How the client says goodbye: the code and the reason of a Close frame of its own.

use heartbeat_core::Failure;

use crate::websocket::Goodbye;

/// The code and the reason of a Close frame that is to be sent (RFC 6455 §5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseFrame {
    pub(crate) code: u16,
    pub(crate) reason: Box<str>,
}

/// Why a Close frame cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClose {
    /// The code is none that may be sent.
    #[error(
        "close code {code} cannot be sent: it must be 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 §7.4)"
    )]
    Code {
        /// The code.
        code: u16,
    },
    /// The reason does not fit into a control frame.
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

/// The purpose of the connection is fulfilled (RFC 6455 §7.4.1).
const NORMAL: u16 = 1000;

/// For private use (RFC 6455 §7.4.2), and the first code that a browser may send beside 1000 and those that libraries
/// register.
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

    /// What is said where nobody has said otherwise. 1000 says that the session is over, and services that can resume
    /// one (Discord, for example) forget it: it is for clients that do not come back.
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
