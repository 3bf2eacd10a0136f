//! The timing rules of a client. A [`Config`] is always consistent: the builder checks it.

mod builder;
#[cfg(feature = "serde")]
pub(crate) mod text;

use core::time::Duration;

use crate::backoff::Backoff;
use crate::cause::{Cause, Overrides, RetryPolicy};
use crate::time::{Instant, Span};

use builder::Set;
#[cfg(feature = "dialects")]
use builder::following;
pub use builder::{ConfigBuilder, ConfigError};
#[cfg(feature = "serde")]
pub use text::ConfigTextError;

/// The shortest time of any setting: 1 ms. A shorter timer would be a busy loop.
pub const MIN_DURATION: Duration = Duration::from_millis(1);

/// The longest time of any setting: 100 years of 365 days.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The smallest `backoff.base`: twice [`DIAL_FLOOR`](crate::DIAL_FLOOR), so that jitter has room above the floor.
pub const MIN_BACKOFF_BASE: Duration = Duration::from_millis(50);

/// The time in which an application must make its session ready if it asks for a session and gives no time: 15 s. A
/// SignalR server gives a client the same time for its handshake (`HandshakeTimeout`).
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(15);

/// The time in which a client waits for the body of an answer that refuses a dial, counted from the answer's head:
/// 1 s. This is several round trips around the world (0.3 s each). The default delay before the next dial is
/// longer, so the wait delays only the report of the refusal.
pub const REFUSAL_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// The shortest `lifetime` of a connection: 1 s. With less a client would do little but dial.
pub const MIN_LIFETIME: Duration = Duration::from_secs(1);

/// The time of the client's pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ping {
    /// Never. The client only watches for inbound silence.
    Never,
    /// Once, after this much silence. The next ping follows only after a byte was heard.
    AfterSilence(Duration),
    /// At this interval, whether or not anything is heard.
    Every(Duration),
}

/// Policy for a permanent error: a TLS error, a wrong certificate, HTTP 301, 308 and 4xx, close codes 1002, 1003,
/// 1007, 1009, 1010 and 1015.
///
/// Refused credentials (HTTP 401 and 407, close codes 1008, 3000 and 4401) follow another rule. With `GiveUp` and
/// `GiveUpUnlessStable` the client gives up when fresh credentials are refused, even if the endpoint was stable.
///
/// This policy does not apply to rows that a configuration replaces ([`ConfigBuilder::on`]), nor to a service's own
/// close codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PermanentErrors {
    /// Give up at once.
    GiveUp,
    /// Give up, unless the endpoint has had a stable connection. A URL that never worked is wrong. A URL that
    /// worked for hours meets a deploy, a captive portal or a restart, so dialling goes on after the backoff.
    #[default]
    GiveUpUnlessStable,
    /// Always dial again after the backoff, even if fresh credentials were refused. The dial factory is asked for
    /// fresh ones each time. A device whose clock is not set yet takes every certificate for invalid.
    Retry,
}

/// The timing rules of a client, checked for consistency when built.
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use core::time::Duration;
/// use heartbeat_tokio::core::{Config, Ping}; // or heartbeat_core
///
/// let config = Config::builder()
///     .idle_timeout(Duration::from_secs(20))
///     .ping(Ping::AfterSilence(Duration::from_secs(5)))
///     .pong_timeout(Duration::from_secs(5))
///     .build()?;
/// assert_eq!(config.worst_case_detection(), Duration::from_secs(10));
/// # Ok::<(), heartbeat_core::ConfigError>(())
/// ```
///
/// | setting | default | source of the default |
/// |---|---|---|
/// | [`idle_timeout`](ConfigBuilder::idle_timeout) | 90 s | the service that this library began from |
/// | [`check_interval`](ConfigBuilder::check_interval) | 30 s | the same service |
/// | [`ping`](ConfigBuilder::ping) | after 30 s of silence; if `idle_timeout` is set, after a third of it, at most 30 s | the same service (its heartbeat interval) |
/// | [`pong_timeout`](ConfigBuilder::pong_timeout) | 60 s; if `idle_timeout` is set and `ping` is not, the rest of it | `idle_timeout` − `ping`: a probe brings the verdict no earlier than silence alone would |
/// | [`pong_timeout_floor`](ConfigBuilder::pong_timeout_floor) | off: `pong_timeout` is fixed | |
/// | [`keepalive`](ConfigBuilder::keepalive) | off | |
/// | [`data_timeout`](ConfigBuilder::data_timeout) | off | |
/// | [`connect_timeout`](ConfigBuilder::connect_timeout) | 10 s | Python `websockets`' `open_timeout` |
/// | [`write_timeout`](ConfigBuilder::write_timeout) | 60 s | nginx's `send_timeout` |
/// | [`close_timeout`](ConfigBuilder::close_timeout) | 5 s | half of Python `websockets`' `close_timeout`: nobody waits 10 s for a program to end |
/// | [`late_grace`](ConfigBuilder::late_grace) | 1 s | longer than a scheduler's hiccup, shorter than a suspend |
/// | [`backoff`](ConfigBuilder::backoff) | 2 s doubling to 60 s, jitter 50 % | base: the same service; "equal jitter" |
/// | [`stable_after`](ConfigBuilder::stable_after) | 30 s | one heartbeat interval survived |
/// | [`max_attempts`](ConfigBuilder::max_attempts) | no limit | |
/// | [`session_timeout`](ConfigBuilder::session_timeout) | off: a connection is ready as soon as it is open | |
/// | [`lifetime`](ConfigBuilder::lifetime) | off: a connection lives until something ends it | |
/// | [`permanent_errors`](ConfigBuilder::permanent_errors) | give up, unless the endpoint was once stable | reports of clients that one bad moment of a deploy had ended for good (`docs/field.md`) |
/// | [`fixed_credentials`](ConfigBuilder::fixed_credentials) | no | |
/// | [`time_to_live`](ConfigBuilder::time_to_live) | 60 s | the backoff's cap: one attempt at the least falls into it |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) idle_timeout: Span,
    pub(crate) check_interval: Span,
    pub(crate) ping_after_silence: Span,
    pub(crate) ping_every: Span,
    pub(crate) keepalive: Span,
    pub(crate) pong_timeout: Span,
    pub(crate) pong_timeout_floor: Span,
    pub(crate) data_timeout: Span,
    pub(crate) connect_timeout: Span,
    pub(crate) write_timeout: Span,
    pub(crate) close_timeout: Span,
    pub(crate) late_grace: Span,
    pub(crate) backoff: Backoff,
    pub(crate) stable_after: Span,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) session_timeout: Span,
    pub(crate) lifetime: Span,
    pub(crate) time_to_live: Span,
    pub(crate) overrides: Overrides,
    pub(crate) permanent_errors: PermanentErrors,
    pub(crate) fixed_credentials: bool,
    pub(crate) ping_origin: Origin,
}

/// Says whether `ping` and `pong_timeout` were set or follow `idle_timeout`. A service's `ping` replaces one that
/// follows. Two configurations that differ in this alone are equal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    Set,
    Follows,
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl Default for Config {
    fn default() -> Self {
        ConfigBuilder::default().config
    }
}

impl Config {
    /// Returns a builder with the defaults.
    #[must_use]
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Returns a builder with this configuration's settings. All settings count as set: none follows a new
    /// `idle_timeout`.
    #[must_use]
    pub fn to_builder(&self) -> ConfigBuilder {
        ConfigBuilder {
            config: self.clone(),
            complaint: None,
            set: Set::ALL,
        }
    }

    /// Returns a preset for feeds where seconds count (trading).
    ///
    /// The client sends a ping after 5 s of silence. It declares the connection dead 5 s after the ping or after 15
    /// s of silence. A dial may take 5 s, and delays between dials range from 500 ms to 30 s.
    #[must_use]
    pub fn brisk() -> Self {
        let seconds = |seconds| Span::new(Duration::from_secs(seconds));
        Self {
            idle_timeout: seconds(15),
            ping_after_silence: seconds(5),
            pong_timeout: seconds(5),
            connect_timeout: seconds(5),
            write_timeout: seconds(10),
            backoff: Backoff {
                base: Span::new(Duration::from_millis(500)),
                cap: seconds(30),
                jitter_percent: 50,
            },
            ..Self::default()
        }
    }

    /// Returns a preset for devices that pay for each packet.
    ///
    /// The client sends a ping after 4 minutes of silence less a margin of 10 s. Of the large clouds' load
    /// balancers, Azure's has the shortest idle limit above a minute: 4 minutes. The client declares the connection
    /// dead a minute after the ping. Delays between dials range from 5 s to 5 minutes. The client never gives up
    /// for a [permanent error](PermanentErrors).
    #[must_use]
    pub fn thrifty() -> Self {
        let seconds = |seconds| Span::new(Duration::from_secs(seconds));
        Self {
            idle_timeout: seconds(290),
            check_interval: seconds(300),
            ping_after_silence: seconds(230),
            pong_timeout: seconds(60),
            connect_timeout: seconds(30),
            backoff: Backoff {
                base: seconds(5),
                cap: seconds(300),
                jitter_percent: 50,
            },
            stable_after: seconds(300),
            permanent_errors: PermanentErrors::Retry,
            ..Self::default()
        }
    }

    /// Returns true for `ping`, and for `pong_timeout`, if its value was not set and follows from `idle_timeout`.
    #[cfg(feature = "dialects")]
    pub(crate) fn follows(&self) -> (bool, bool) {
        let default = Self::default();
        let follows = matches!(self.ping_origin, Origin::Follows);
        let (_, rest) = following(self.idle_timeout());
        let pong = self.pong_timeout();
        (
            follows || self.ping() == default.ping(),
            (follows && pong == Some(rest)) || pong == default.pong_timeout(),
        )
    }

    /// Returns the longest time from the last byte heard to the verdict, provided that ticks come in time and no
    /// bytes of the client wait to be written.
    ///
    /// While bytes wait, the time also counts from the last progress of a write. A ping that waits among those
    /// bytes does not count. A peer that stops reading is declared dead within the shorter of `idle_timeout` and
    /// `write_timeout`.
    ///
    /// A tick that is late by at most `late_grace` adds its lateness. A later tick adds its lateness and the time
    /// of one probe. Time in which the application kept the driver from reading is not counted.
    #[must_use]
    pub fn worst_case_detection(&self) -> Duration {
        // A byte may arrive right after a periodic ping. Only the next ping then probes for silence.
        let asked = self.ping_after_silence.min(self.ping_every);
        self.idle_timeout
            .min(asked.plus(self.pong_timeout))
            .duration()
    }

    /// Returns the time in which a probe after a late tick must be answered: `pong_timeout`, but no more than
    /// `idle_timeout` and no more than 20 s, because a person who has just opened a laptop is waiting.
    pub(crate) fn late_probe_timeout(&self) -> Span {
        LATE_PROBE.min(self.pong_timeout).min(self.idle_timeout)
    }

    /// Returns the least time that a peer gets to answer after a late tick.
    pub(crate) fn least_answer_time(&self) -> Span {
        LEAST_ANSWER.min(self.late_probe_timeout())
    }

    /// Returns the policy for a cause: the override if there is one, otherwise the built-in table's.
    #[must_use]
    pub fn verdict(&self, cause: Cause) -> RetryPolicy {
        self.overrides
            .get(cause.signal())
            .unwrap_or_else(|| cause.default_verdict())
    }

    /// See [`ConfigBuilder::idle_timeout`].
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout.duration()
    }

    /// See [`ConfigBuilder::check_interval`].
    #[must_use]
    pub fn check_interval(&self) -> Option<Duration> {
        self.check_interval.option()
    }

    /// See [`ConfigBuilder::ping`].
    #[must_use]
    pub fn ping(&self) -> Ping {
        match (self.ping_after_silence.option(), self.ping_every.option()) {
            (Some(silence), _) => Ping::AfterSilence(silence),
            (None, Some(interval)) => Ping::Every(interval),
            (None, None) => Ping::Never,
        }
    }

    /// See [`ConfigBuilder::keepalive`].
    #[must_use]
    pub fn keepalive(&self) -> Option<Duration> {
        self.keepalive.option()
    }

    /// See [`ConfigBuilder::pong_timeout`].
    #[must_use]
    pub fn pong_timeout(&self) -> Option<Duration> {
        self.pong_timeout.option()
    }

    /// See [`ConfigBuilder::pong_timeout_floor`].
    #[must_use]
    pub fn pong_timeout_floor(&self) -> Option<Duration> {
        self.pong_timeout_floor.option()
    }

    /// See [`ConfigBuilder::data_timeout`].
    #[must_use]
    pub fn data_timeout(&self) -> Option<Duration> {
        self.data_timeout.option()
    }

    /// See [`ConfigBuilder::connect_timeout`].
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout.duration()
    }

    /// See [`ConfigBuilder::write_timeout`].
    #[must_use]
    pub fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout.option()
    }

    /// See [`ConfigBuilder::close_timeout`].
    #[must_use]
    pub fn close_timeout(&self) -> Duration {
        self.close_timeout.duration()
    }

    /// See [`ConfigBuilder::late_grace`].
    #[must_use]
    pub fn late_grace(&self) -> Duration {
        self.late_grace.duration()
    }

    /// Returns the backoff's first delay, its cap, and the percentage by which jitter may shorten a delay.
    #[must_use]
    pub fn backoff(&self) -> (Duration, Duration, u8) {
        (
            self.backoff.base.duration(),
            self.backoff.cap.duration(),
            self.backoff.jitter_percent,
        )
    }

    /// See [`ConfigBuilder::stable_after`].
    #[must_use]
    pub fn stable_after(&self) -> Duration {
        self.stable_after.duration()
    }

    /// See [`ConfigBuilder::max_attempts`].
    #[must_use]
    pub fn max_attempts(&self) -> Option<u32> {
        self.max_attempts
    }

    /// See [`ConfigBuilder::session_timeout`].
    #[must_use]
    pub fn session_timeout(&self) -> Option<Duration> {
        self.session_timeout.option()
    }

    /// See [`ConfigBuilder::lifetime`].
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime.option()
    }

    /// See [`ConfigBuilder::time_to_live`].
    #[must_use]
    pub fn time_to_live(&self) -> Duration {
        self.time_to_live.duration()
    }

    /// See [`ConfigBuilder::permanent_errors`].
    #[must_use]
    pub fn permanent_errors(&self) -> PermanentErrors {
        self.permanent_errors
    }

    /// See [`ConfigBuilder::fixed_credentials`].
    #[must_use]
    pub fn fixed_credentials(&self) -> bool {
        self.fixed_credentials
    }

    /// Returns the time when a message expires that was held since `since`.
    #[must_use]
    pub fn expiry(&self, since: Instant) -> Instant {
        since.after(self.time_to_live)
    }

    /// Returns the time when a driver stops waiting for the body of an answer that refuses a dial:
    /// [`REFUSAL_BODY_TIMEOUT`] after `answered`, but no later than `connect_timeout` allows. The dial began at
    /// `since`, and the answer's head was complete at `answered`.
    #[must_use]
    pub fn refusal_until(&self, since: Instant, answered: Instant) -> Instant {
        let timeout = answered.after(Span::new(REFUSAL_BODY_TIMEOUT));
        timeout.min(since.after(self.connect_timeout))
    }

    /// Returns the replaced rows of the table of causes.
    #[must_use]
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }
}

/// The longest time in which a probe after a late tick waits for its answer: Python `websockets`' default
/// `ping_timeout`.
const LATE_PROBE: Span = Span::new(Duration::from_secs(20));

/// After a late tick, a peer with less time left than this gets a probe: half of `LATE_PROBE`.
const LEAST_ANSWER: Span = Span::new(Duration::from_secs(10));
