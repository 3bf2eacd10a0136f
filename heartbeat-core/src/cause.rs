//! Why a connection ended, and what that means for the next one.

use core::fmt;
use core::time::Duration;

use arrayvec::ArrayVec;

/// Why a dial failed or a connection ended, as the driver saw it.
///
/// A driver reports the first thing that happened. After a local verdict the connection is no longer current,
/// so nothing that the dying socket says changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The dial was refused (`ECONNREFUSED`).
    Refused,
    /// The connection was reset (`ECONNRESET`, `EPIPE`, aborted).
    Reset,
    /// The byte stream ended without a WebSocket Close frame (what RFC 6455 §7.1.5 calls 1006).
    Eof,
    /// TLS failed: a bad certificate, a wrong host name, a peer that does not speak TLS.
    Tls,
    /// Any other I/O error: DNS, unreachable network, a proxy's refusal.
    Io,
    /// The peer sent a Close frame with this code; a Close frame without a code is 1005. For a dial, 1002
    /// means that the answer did not come from a WebSocket server.
    Close(u16),
    /// The peer broke the protocol, or exceeded a limit of ours, on the open connection. The code is the one
    /// that RFC 6455 §7.4.1 has for this: 1002 (a bad frame), 1007 (bad UTF-8, a bad body), 1009 (too large).
    Protocol(u16),
    /// The server answered the upgrade with this HTTP status instead of 101.
    Http {
        /// The status code.
        status: u16,
        /// The `Retry-After` header as a span from now, if there was one.
        retry_after: Option<Duration>,
    },
    /// The application could not open its session on the open connection, and says what to do about that.
    Session(Failure),
}

/// The application's verdict on a session that it could not open, for example because the login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// Dial again after the ordinary backoff.
    Retry,
    /// Dial again after the ordinary backoff, but not before this span has passed. Spans over
    /// [`MAX_RETRY_AFTER`] are cut to it.
    RetryAfter(Duration),
    /// Fetch new credentials and dial once more. Give up if that fails in the same way before a stable
    /// connection.
    Refresh,
    /// Give up: dialling again cannot help.
    GiveUp,
}

/// What a [`Cause`] asks the machine to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryPolicy {
    /// Dial again after the ordinary backoff.
    Backoff,
    /// Dial again after the ordinary backoff, but not before this span has passed.
    /// Spans over [`MAX_RETRY_AFTER`] are cut to it.
    After(Duration),
    /// Dial again at a moment drawn evenly from this range, or after the ordinary backoff if that is longer.
    /// Cut to [`MAX_RETRY_AFTER`], too. Meant for a whole fleet that was sent away at once and must not come
    /// back at once.
    Spread(Duration, Duration),
    /// Fetch new credentials (the dial factory is told) and dial once more after the ordinary backoff, but
    /// not before the server's own time ([`Cause::retry_after`]). Give up if the new credentials are refused
    /// too before the connection was stable.
    Refresh,
    /// Dial again after the ordinary backoff, but not before the server's own time ([`Cause::retry_after`]).
    /// If the server names none, not before `or` has passed; `Duration::ZERO` leaves that case to the
    /// backoff. Both are cut to [`MAX_RETRY_AFTER`].
    ///
    /// For a row that would otherwise give up without a `Retry-After`:
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use core::time::Duration;
    /// use heartbeat_tokio::core::{Config, CauseKind, RetryPolicy}; // or heartbeat_core
    /// // A ban that does not say how long it lasts is over in two minutes.
    /// let or = Duration::from_secs(120);
    /// let config = Config::builder().on(CauseKind::Http(418), RetryPolicy::RetryAfter { or }).build();
    /// assert!(config.is_ok());
    /// ```
    RetryAfter {
        /// The least time to wait if the server names none.
        or: Duration,
    },
    /// Give up: dialling again cannot help.
    Never,
}

/// The longest `Retry-After` that is heeded: 24 hours. A peer that asks for more (or sends
/// garbage) must not be able to silence a client for years.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Range of the delay after close code 1012 (service restart): RFC 6455's registry suggests
/// "a randomized delay of 5 - 30s" (IANA WebSocket Close Code Number Registry, 1012).
const RESTART_SPREAD: RetryPolicy =
    RetryPolicy::Spread(Duration::from_secs(5), Duration::from_secs(30));

impl Cause {
    /// The verdict of the built-in table, before any override.
    ///
    /// | cause | verdict |
    /// |---|---|
    /// | HTTP 401, 407 | refresh credentials once, not before `Retry-After` if there is one |
    /// | any other HTTP status with `Retry-After` | backoff, not before that time |
    /// | refused, reset, eof, i/o; HTTP 408, 425, 429, 5xx | backoff |
    /// | close 1008, 3000, 4401 | refresh credentials once |
    /// | HTTP 301, 308 and other 4xx; TLS | give up |
    /// | HTTP 1xx, 2xx, other 3xx (a captive portal, a half-started server) | backoff |
    /// | close 1002, 1003, 1007, 1009, 1010, 1015 | give up |
    /// | close 1012 | spread over 5–30 s |
    /// | any other close code, 1000 and 4000–4999 among them | backoff |
    /// | a session that could not be opened | what the application says |
    #[must_use]
    pub const fn default_verdict(self) -> RetryPolicy {
        match self {
            Self::Refused | Self::Reset | Self::Eof | Self::Io => RetryPolicy::Backoff,
            Self::Tls => RetryPolicy::Never,
            Self::Close(code) => match code {
                1002 | 1003 | 1007 | 1009 | 1010 | 1015 => RetryPolicy::Never,
                1008 | 3000 | 4401 => RetryPolicy::Refresh,
                1012 => RESTART_SPREAD,
                _ => RetryPolicy::Backoff,
            },
            // Too large is a matter of settings; anything else is corruption, which passes.
            Self::Protocol(1009) => RetryPolicy::Never,
            Self::Protocol(_) => RetryPolicy::Backoff,
            Self::Http {
                status,
                retry_after,
            } => match (status, retry_after) {
                // A proxy's 401 (RFC 9110 §15.5.8).
                (401 | 407, _) => RetryPolicy::Refresh,
                // RFC 9110 §10.2.3 ties `Retry-After` to no status: a ban comes as 403, 413, 418 or 522, too.
                (_, Some(after)) => RetryPolicy::After(after),
                (408 | 425 | 429, _) => RetryPolicy::Backoff,
                (301 | 308 | 400..=499, _) => RetryPolicy::Never,
                _ => RetryPolicy::Backoff,
            },
            Self::Session(failure) => match failure {
                Failure::Retry => RetryPolicy::Backoff,
                Failure::RetryAfter(least) => RetryPolicy::After(least),
                Failure::Refresh => RetryPolicy::Refresh,
                Failure::GiveUp => RetryPolicy::Never,
            },
        }
    }

    /// The time that the peer itself has named: the `Retry-After` of an HTTP answer, or the application's
    /// [`Failure::RetryAfter`] for a session.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Http { retry_after, .. } => retry_after,
            Self::Session(Failure::RetryAfter(least)) => Some(least),
            _ => None,
        }
    }

    /// The row of the table of causes that this cause belongs to. Overrides are filed under it.
    #[must_use]
    pub const fn signal(self) -> CauseKind {
        match self {
            Self::Refused => CauseKind::Refused,
            Self::Reset => CauseKind::Reset,
            Self::Eof => CauseKind::Eof,
            Self::Tls => CauseKind::Tls,
            Self::Io => CauseKind::Io,
            Self::Close(code) | Self::Protocol(code) => CauseKind::Close(code),
            Self::Http { status, .. } => CauseKind::Http(status),
            Self::Session(_) => CauseKind::Session,
        }
    }
}

/// Words for people: `reset`, `close 1012`, `http 503, retry after 7 s`.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Eof => f.write_str("eof"),
            Self::Tls => f.write_str("tls"),
            Self::Io => f.write_str("io"),
            Self::Close(code) => write!(f, "close {code}"),
            Self::Protocol(code) => write!(f, "protocol error, close {code}"),
            Self::Http {
                status,
                retry_after,
            } => {
                write!(f, "http {status}")?;
                let Some(after) = retry_after else {
                    return Ok(());
                };
                // Not before this time: so rounded up.
                let seconds = u128::from(after.as_secs()) + u128::from(after.subsec_nanos() > 0);
                write!(f, ", retry after {seconds} s")
            }
            Self::Session(_) => f.write_str("session refused"),
        }
    }
}

/// A [`Cause`] without its particulars: a row of the table of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CauseKind {
    /// See [`Cause::Refused`].
    Refused,
    /// See [`Cause::Reset`].
    Reset,
    /// See [`Cause::Eof`].
    Eof,
    /// See [`Cause::Tls`].
    Tls,
    /// See [`Cause::Io`].
    Io,
    /// See [`Cause::Close`] and [`Cause::Protocol`].
    Close(u16),
    /// See [`Cause::Http`].
    Http(u16),
    /// See [`Cause::Session`].
    Session,
}

/// Rows of the table of causes that a configuration replaces.
///
/// At most [`Overrides::MAX`]; kept inline, so that the machine needs no allocator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(ArrayVec<(CauseKind, RetryPolicy), { Overrides::MAX }>);

impl Overrides {
    /// How many rows can be replaced.
    pub const MAX: usize = 16;

    /// Replaces a row; false if the table is full.
    pub(crate) fn set(&mut self, signal: CauseKind, verdict: RetryPolicy) -> bool {
        match self.0.iter_mut().find(|(known, _)| *known == signal) {
            Some(row) => {
                row.1 = verdict;
                true
            }
            None => self.0.try_push((signal, verdict)).is_ok(),
        }
    }

    /// The verdict that replaces the built-in one for this signal.
    #[must_use]
    pub fn get(&self, signal: CauseKind) -> Option<RetryPolicy> {
        self.iter()
            .find(|(known, _)| *known == signal)
            .map(|(_, verdict)| verdict)
    }

    /// The rows that were replaced.
    pub fn iter(&self) -> impl Iterator<Item = (CauseKind, RetryPolicy)> + '_ {
        self.0.iter().copied()
    }
}
