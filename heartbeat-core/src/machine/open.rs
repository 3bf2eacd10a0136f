//! The anchors of an open connection, and the deadlines computed from them and the configuration. This file holds
//! no transition: the machine moves the anchors and reads the deadlines.

use super::action::AbortReason;
use crate::config::Config;
use crate::renewal::Ends;
use crate::time::{Instant, Span};

/// Times that a service may announce for a connection. Until then the configuration's times hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct AnnouncedTimes {
    pub(crate) idle_timeout: Span,
    pub(crate) ping_every: Span,
    pub(crate) ping_after_silence: Span,
}

/// The anchors of an open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Open {
    pub(crate) told: AnnouncedTimes,
    pub(crate) since: Instant,
    /// The time of the last byte.
    pub(crate) heard: Instant,
    /// Silence is charged from here: `heard`, moved forward by the time in which reading was paused.
    idle_from: Instant,
    /// Missing data are charged from here.
    data_from: Instant,
    /// The last probe that a late tick sent since `data_from`. Data may be missing until that probe's answer is
    /// due.
    data_probe: Option<Instant>,
    /// The first unanswered probe. A missing pong is charged from here.
    pub(crate) probe: Option<Instant>,
    /// The probe waits behind other bytes. Its time starts once it has left.
    probe_waits: bool,
    /// The latest ping is the probe.
    latest_is_probe: bool,
    /// The latest ping waits behind other bytes.
    ping_waits: bool,
    /// The time when the last ping turned out to be unsendable, or the start.
    unsent: Instant,
    /// Payload and time of the last ping, until its pong arrives.
    pub(crate) asked: Option<(u64, Instant)>,
    round_trip: RoundTrip,
    /// A late tick replaced a verdict by the current probe. Until a byte is heard, this probe alone decides.
    on_last_probe: bool,
    /// The time of the last write, by the machine or the application.
    pub(crate) sent: Instant,
    /// The time of the last periodic ping, or the start.
    pub(crate) pinged: Instant,
    /// The next periodic ping comes this much before the end of its interval.
    pub(crate) ahead: Span,
    /// The time of a one-way ping that was postponed in favour of a probe.
    pub(crate) put_off: Instant,
    /// The time of the last check, or the start.
    pub(crate) checked: Instant,
    /// Bytes have waited to be written, without progress, since this time.
    pub(crate) blocked: Option<Instant>,
    /// The application has taken no messages since this time.
    pub(crate) paused: Option<Instant>,
    pub(crate) session: Session,
    #[cfg_attr(feature = "trace", serde(default))]
    pub(crate) ends: Ends,
}

/// The state of the application's session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(rename_all = "snake_case"))]
pub(crate) enum Session {
    /// The session is not ready yet.
    Opening {
        /// The missing session is charged from here.
        from: Instant,
        /// The last probe that a late tick sent. If the peer was suspended with us, the session may be missing
        /// until the answer is due.
        probe: Option<Instant>,
    },
    Ready {
        since: Instant,
    },
}

/// The connection's round-trip times, from which the pong timeout is computed (RFC 6298 §2).
///
/// Each connection starts its own measurements. A verdict that came too early does not affect the next connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
struct RoundTrip {
    /// SRTT; off until the first pong.
    smoothed: Span,
    /// RTTVAR.
    variation: Span,
}

impl RoundTrip {
    const UNKNOWN: Self = Self {
        smoothed: Span::OFF,
        variation: Span::ZERO,
    };

    fn measure(&mut self, sample: Span) {
        let sample = sample.as_nanos();
        if self.smoothed.is_off() {
            self.smoothed = Span::from_nanos(sample);
            self.variation = Span::from_nanos(sample / 2);
            return;
        }
        let (smoothed, variation) = (self.smoothed.as_nanos(), self.variation.as_nanos());
        let difference = smoothed.abs_diff(sample);
        self.variation = Span::from_nanos(variation - variation / 4 + difference / 4);
        self.smoothed = Span::from_nanos(smoothed - smoothed / 8 + sample / 8);
    }

    fn pong_timeout(&self, config: &Config) -> Span {
        let floor = config.pong_timeout_floor;
        if floor.is_off() || self.smoothed.is_off() {
            return config.pong_timeout;
        }
        let four = Span::from_nanos(self.variation.as_nanos().saturating_mul(4));
        let measured = self.smoothed.plus(four);
        measured.max(floor).min(config.pong_timeout)
    }
}

impl Open {
    pub(crate) fn new(now: Instant, config: &Config, ahead: Span, ends: Ends) -> Self {
        Self {
            told: AnnouncedTimes {
                idle_timeout: config.idle_timeout,
                ping_every: config.ping_every,
                ping_after_silence: config.ping_after_silence,
            },
            since: now,
            // The peer's answer to the upgrade was the first sign of life.
            heard: now,
            idle_from: now,
            data_from: now,
            data_probe: None,
            probe: None,
            probe_waits: false,
            latest_is_probe: false,
            ping_waits: false,
            unsent: now,
            asked: None,
            round_trip: RoundTrip::UNKNOWN,
            on_last_probe: false,
            sent: now,
            pinged: now,
            ahead,
            put_off: Instant::NEVER,
            checked: now,
            blocked: None,
            paused: None,
            session: if config.session_timeout.is_off() {
                Session::Ready { since: now }
            } else {
                Session::Opening {
                    from: now,
                    probe: None,
                }
            },
            ends,
        }
    }

    /// Notes a byte: a sign of life, and an answer to every pending probe.
    #[inline]
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.idle_from = now;
        self.probe = None;
        self.on_last_probe = false;
    }

    #[inline]
    pub(crate) fn hear_data(&mut self, now: Instant) {
        self.data_from = now;
        self.data_probe = None;
    }

    /// Notes that waiting bytes have moved. Time before `now` is no longer charged as silence.
    pub(crate) fn moved(&mut self, now: Instant) {
        if self.blocked.is_none() {
            return;
        }
        self.idle_from = now;
        self.data_from = now;
        self.probe = self.probe.map(|_| now);
        if let Session::Opening { from, .. } = &mut self.session {
            *from = now;
        }
    }

    /// Notes that a ping is sent now.
    pub(crate) fn ask(&mut self, number: u64, is_probe: bool, now: Instant) {
        self.asked = Some((number, now));
        self.ping_waits = false;
        self.latest_is_probe = is_probe && self.probe.is_none();
        if self.latest_is_probe {
            self.probe = Some(now);
            self.probe_waits = false;
        }
    }

    /// Notes that the latest ping waits behind other bytes. Its time has not started.
    pub(crate) fn ping_waits(&mut self, now: Instant) {
        self.ping_waits |= self.asked.is_some();
        if self.latest_is_probe && self.probe.is_some() && !self.probe_waits {
            self.probe_waits = true;
            if self.on_last_probe {
                // This probe alone was to decide, and cannot yet. Silence decides instead, charged from now on.
                self.idle_from = now;
            }
        }
    }

    /// Notes that all pings have left. The time of those that waited starts now.
    pub(crate) fn pings_written(&mut self, now: Instant) {
        if core::mem::take(&mut self.ping_waits)
            && let Some((_, at)) = &mut self.asked
        {
            *at = now;
        }
        if core::mem::take(&mut self.probe_waits) {
            self.probe = self.probe.map(|_| now);
        }
    }

    /// Takes back the latest ping, which will never be sent. The next one is tried after another such silence.
    /// Returns true if the ping was a probe, and `None` if there was no ping.
    pub(crate) fn ping_unsent(&mut self, now: Instant) -> Option<bool> {
        self.asked.take()?;
        self.ping_waits = false;
        self.unsent = now;
        let was_probe = self.latest_is_probe && self.probe.is_some();
        if was_probe {
            self.probe = None;
            if core::mem::take(&mut self.on_last_probe) {
                self.idle_from = now;
            }
        }
        Some(was_probe)
    }

    /// Adds a measured round trip.
    pub(crate) fn measure(&mut self, sample: Span) {
        self.round_trip.measure(sample);
    }

    /// Ends a pause. The time in which nothing was read is not charged as silence.
    pub(crate) fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take() {
            let excuse = |anchor: Instant| anchor.after(now.since(paused.max(anchor)));
            self.idle_from = excuse(self.idle_from);
            self.data_from = excuse(self.data_from);
            self.data_probe = self.data_probe.map(excuse);
            self.probe = self.probe.map(excuse);
            if let Session::Opening { from, probe } = &mut self.session {
                *from = excuse(*from);
                *probe = probe.map(excuse);
            }
        }
    }

    // ---- deadlines: computed from anchors and configuration alone --------------------------------

    fn idle_deadline(&self) -> Instant {
        if self.on_last_probe && !self.probe_waits {
            Instant::NEVER
        } else {
            self.idle_from.after(self.told.idle_timeout)
        }
    }

    fn pong_deadline(&self, config: &Config) -> Instant {
        let timeout = if self.on_last_probe {
            config.late_probe_timeout()
        } else {
            self.round_trip.pong_timeout(config)
        };
        match self.probe {
            Some(probe) if !self.probe_waits => probe.after(timeout),
            _ => Instant::NEVER,
        }
    }

    /// Returns the reason for a missing pong. After a late tick the last probe stands in for `idle_timeout` as
    /// well, if that is the shorter one.
    fn pong_reason(&self, config: &Config) -> AbortReason {
        if self.on_last_probe && config.late_probe_timeout() < config.pong_timeout {
            AbortReason::IdleTimeout
        } else {
            AbortReason::PongTimeout
        }
    }

    fn data_deadline(&self, config: &Config) -> Instant {
        let deadline = self.data_from.after(config.data_timeout);
        self.data_probe.map_or(deadline, |probe| {
            deadline.max(probe.after(config.late_probe_timeout()))
        })
    }

    fn write_deadline(&self, config: &Config) -> Instant {
        self.blocked.map_or(Instant::NEVER, |blocked| {
            blocked.after(config.write_timeout)
        })
    }

    fn session_deadline(&self, config: &Config) -> Instant {
        match self.session {
            Session::Ready { .. } => Instant::NEVER,
            Session::Opening { from, probe } => {
                let deadline = from.after(config.session_timeout);
                probe.map_or(deadline, |probe| {
                    deadline.max(probe.after(config.late_probe_timeout()))
                })
            }
        }
    }

    /// Returns the verdict that comes first. Among verdicts at the same time the most specific one wins: silence
    /// before a missing pong, then missing data, then a stuck write, then a missing session.
    pub(crate) fn first_verdict(&self, config: &Config) -> (Instant, AbortReason) {
        let mut first = (self.write_deadline(config), AbortReason::WriteTimeout);
        if self.paused.is_none() {
            let session = self.session_deadline(config);
            if session < first.0 {
                first = (session, AbortReason::SessionTimeout);
            }
            for (deadline, reason) in [
                (self.data_deadline(config), AbortReason::DataTimeout),
                (self.pong_deadline(config), self.pong_reason(config)),
                (self.idle_deadline(), AbortReason::IdleTimeout),
            ] {
                if deadline <= first.0 {
                    first = (deadline, reason);
                }
            }
        }
        first
    }

    pub(crate) fn next_check(&self, config: &Config) -> Instant {
        self.checked.after(config.check_interval)
    }

    pub(crate) fn next_periodic_ping(&self) -> Instant {
        self.pinged.after(self.told.ping_every.less(self.ahead))
    }

    /// Returns the time of the next ping after silence. Each silence has one ping; the next one needs a byte heard
    /// in between.
    pub(crate) fn next_silence_ping(&self) -> Instant {
        if self.probe.is_some() {
            Instant::NEVER
        } else {
            self.heard
                .max(self.unsent)
                .after(self.told.ping_after_silence)
        }
    }

    pub(crate) fn next_keepalive(&self, config: &Config) -> Instant {
        self.sent.after(config.keepalive)
    }

    /// Returns the first of the deadlines that incoming data move. Data move such a deadline only to a later time,
    /// or to one that is still to come.
    #[inline]
    pub(crate) fn heard_deadline(&self, config: &Config) -> Instant {
        let ping = self.next_silence_ping();
        if self.paused.is_some() {
            return ping;
        }
        ping.min(self.idle_deadline())
            .min(self.pong_deadline(config))
            .min(self.data_deadline(config))
    }

    /// Returns the first of all other deadlines.
    pub(crate) fn unheard_deadline(&self, config: &Config) -> Instant {
        let session = match self.paused {
            None => self.session_deadline(config),
            Some(_) => Instant::NEVER,
        };
        session
            .min(self.write_deadline(config))
            .min(self.next_check(config))
            .min(self.next_periodic_ping())
            .min(self.next_keepalive(config))
            .min(self.put_off)
            .min(self.ends.next)
    }

    // ---- late ticks ---------------------------------------------------------------------------

    /// Returns true if a late tick must probe before it judges: a verdict for silence would fall now, or before a
    /// peer that was not asked in all this time has had time to answer.
    pub(crate) fn needs_last_probe(&self, config: &Config, now: Instant) -> bool {
        if self.paused.is_some() || self.on_last_probe {
            return false;
        }
        let silence = self
            .idle_deadline()
            .min(self.data_deadline(config))
            .min(self.session_deadline(config));
        let fair = now.after(config.least_answer_time());
        self.pong_deadline(config).min(silence).is_due(now)
            || (self.probe.is_none() && self.idle_deadline() < fair)
    }

    /// Begins a probe that alone decides, however long the silence before.
    pub(crate) fn begin_last_probe(&mut self, now: Instant) {
        // Replace any earlier probe.
        self.probe = None;
        self.probe_waits = false;
        self.on_last_probe = true;
        self.data_probe = Some(now);
        if let Session::Opening { probe, .. } = &mut self.session {
            *probe = Some(now);
        }
    }
}
