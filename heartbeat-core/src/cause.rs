//! The cause of a failed dial or lost connection, and the policy for the next dial.

use core::fmt;
use core::time::Duration;

use arrayvec::ArrayVec;

/// The cause of a failed dial or lost connection, as the driver saw it.
///
/// A driver reports the first cause only. After a verdict the connection is no longer current, and later reports
/// about its socket change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The dial was refused (`ECONNREFUSED`).
    Refused,
    /// The connection was reset (`ECONNRESET`, `EPIPE`, aborted).
    Reset,
    /// The byte stream ended without a WebSocket Close frame (1006 in RFC 6455 §7.1.5).
    Eof,
    /// TLS failed: a bad certificate, a wrong host name, a peer that does not speak TLS.
    Tls,
    /// Any other I/O error: DNS, unreachable network, a proxy's refusal.
    Io,
    /// The peer sent a Close frame with this code; 1005 stands for a frame without a code. For a dial, 1002 means
    /// that the answer did not come from a WebSocket server.
    Close(u16),
    /// The peer violated the protocol, or exceeded a limit of the client, on the open connection. RFC 6455 §7.4.1
    /// defines the codes: 1002 (a bad frame), 1007 (bad UTF-8, a bad body), 1009 (too large).
    Protocol(u16),
    /// The server answered the upgrade with this HTTP status instead of 101.
    Http {
        /// The status code.
        status: u16,
        /// The `Retry-After` header as a time from now, if there was one.
        retry_after: Option<Duration>,
    },
    /// The application could not open its session on the open connection, and asks for this reaction.
    Session(Failure),
}

/// The application's decision after a session that it could not open, for example because the login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// Dial again after the ordinary backoff.
    Retry,
    /// Dial again after the ordinary backoff, and after this time at the earliest. Times over [`MAX_RETRY_AFTER`]
    /// are cut to it.
    RetryAfter(Duration),
    /// Fetch new credentials and dial once more. Give up if the same failure occurs again before a stable
    /// connection.
    Refresh,
    /// Give up: dialling again cannot help.
    GiveUp,
}

/// The reaction that a [`Cause`] asks the machine for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryPolicy {
    /// Dial again after the ordinary backoff.
    Backoff,
    /// Dial again after the ordinary backoff, and after this time at the earliest. Times over [`MAX_RETRY_AFTER`]
    /// are cut to it.
    After(Duration),
    /// Dial again at a random moment in this range, or after the ordinary backoff if that is longer. Times over
    /// [`MAX_RETRY_AFTER`] are cut to it. This is meant for a whole fleet that was disconnected at once and must
    /// not return at once.
    Spread(Duration, Duration),
    /// Fetch new credentials (the dial factory is told) and dial once more, after the ordinary backoff and the
    /// server's own time ([`Cause::retry_after`]). Give up if the new credentials are refused, too, before the
    /// connection was stable.
    Refresh,
    /// Dial again after the ordinary backoff, and after the server's own time ([`Cause::retry_after`]) at the
    /// earliest. If the server names no time, dial after `or` at the earliest; `Duration::ZERO` leaves this case to
    /// the backoff. Both times are cut to [`MAX_RETRY_AFTER`].
    ///
    /// Use this for a row that would give up without a `Retry-After`:
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use core::time::Duration;
    /// use heartbeat_tokio::core::{Config, CauseKind, RetryPolicy}; // or heartbeat_core
    /// // Two minutes are enough for a ban that names no time.
    /// let or = Duration::from_secs(120);
    /// let config = Config::builder().on(CauseKind::Http(418), RetryPolicy::RetryAfter { or }).build();
    /// assert!(config.is_ok());
    /// ```
    RetryAfter {
        /// The least time to wait if the server names no time.
        or: Duration,
    },
    /// Give up: dialling again cannot help.
    Never,
}

/// The longest `Retry-After` that the machine accepts: 24 hours. A peer that asks for more (or sends garbage) must
/// not be able to silence a client for years.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Range of the delay after close code 1012 (service restart). The registry suggests "a randomized delay of 5 -
/// 30s" (IANA WebSocket Close Code Number Registry, 1012).
const RESTART_SPREAD: RetryPolicy =
    RetryPolicy::Spread(Duration::from_secs(5), Duration::from_secs(30));

impl Cause {
    /// Returns the built-in table's policy, before any override.
    ///
    /// | cause | policy |
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
    /// | a session that could not be opened | the application's choice |
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
            // A message that is too large stays too large until a setting changes. Any other violation is
            // corruption, which passes.
            Self::Protocol(1009) => RetryPolicy::Never,
            Self::Protocol(_) => RetryPolicy::Backoff,
            Self::Http {
                status,
                retry_after,
            } => match (status, retry_after) {
                // A proxy's 407 is its 401 (RFC 9110 §15.5.8).
                (401 | 407, _) => RetryPolicy::Refresh,
                // RFC 9110 §10.2.3 allows `Retry-After` with any status. Bans also come as 403, 413, 418 or 522.
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

    /// Returns the time that the peer named: the `Retry-After` of an HTTP answer, or the [`Failure::RetryAfter`] of
    /// a session.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Http { retry_after, .. } => retry_after,
            Self::Session(Failure::RetryAfter(least)) => Some(least),
            _ => None,
        }
    }

    /// Returns the row of the table of causes to which this cause belongs. Overrides are stored by row.
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

/// Writes a phrase for people: `reset`, `close 1012`, `http 503, retry after 7 s`.
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
                // The dial may not come earlier, so round up.
                let seconds = u128::from(after.as_secs()) + u128::from(after.subsec_nanos() > 0);
                write!(f, ", retry after {seconds} s")
            }
            Self::Session(_) => f.write_str("session refused"),
        }
    }
}

/// A [`Cause`] without its details: a row of the table of causes.
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

/// The replaced rows of the table of causes.
///
/// There are at most [`Overrides::MAX`]. They are stored inline, so that the machine needs no allocator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(ArrayVec<(CauseKind, RetryPolicy), { Overrides::MAX }>);

impl Overrides {
    /// The number of rows that can be replaced.
    pub const MAX: usize = 16;

    /// Replaces a row. Returns false if the table is full.
    pub(crate) fn set(&mut self, signal: CauseKind, verdict: RetryPolicy) -> bool {
        match self.0.iter_mut().find(|(known, _)| *known == signal) {
            Some(row) => {
                row.1 = verdict;
                true
            }
            None => self.0.try_push((signal, verdict)).is_ok(),
        }
    }

    /// Returns the policy that replaces the built-in one for this row.
    #[must_use]
    pub fn get(&self, signal: CauseKind) -> Option<RetryPolicy> {
        self.iter()
            .find(|(known, _)| *known == signal)
            .map(|(_, verdict)| verdict)
    }

    /// Iterates over the replaced rows.
    pub fn iter(&self) -> impl Iterator<Item = (CauseKind, RetryPolicy)> + '_ {
        self.0.iter().copied()
    }
}
