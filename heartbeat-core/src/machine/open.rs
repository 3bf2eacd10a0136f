//! The anchors of an open connection, and the deadlines that follow from them and from the
//! configuration. No transition is in here: the machine moves the anchors and asks for the deadlines.

use super::action::AbortReason;
use crate::config::Config;
use crate::renewal::Ends;
use crate::time::{Instant, Span};

/// The times that a service may announce for a connection; the configuration's until it does.
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
    /// The last byte.
    pub(crate) heard: Instant,
    /// From here silence is charged: `heard`, later by the time in which reading was paused.
    idle_from: Instant,
    /// From here missing data is charged.
    data_from: Instant,
    /// The last probe of a late tick since then: missing data has the time of its answer, too.
    data_probe: Option<Instant>,
    /// The first unanswered probe; charged from here like silence.
    pub(crate) probe: Option<Instant>,
    /// The probe waits behind bytes of ours: it is charged once it has left.
    probe_waits: bool,
    /// The latest ping is the probe.
    latest_is_probe: bool,
    /// The latest ping waits behind bytes of ours.
    ping_waits: bool,
    /// When a ping last turned out to be one that cannot be sent (or the start).
    unsent: Instant,
    /// The last ping's payload and time, until its pong came.
    pub(crate) asked: Option<(u64, Instant)>,
    round_trip: RoundTrip,
    /// A late tick turned its verdict into the current probe: until something is heard, that probe
    /// alone decides.
    on_last_probe: bool,
    /// The last thing we sent, or the application did.
    pub(crate) sent: Instant,
    /// The last periodic ping (or the start).
    pub(crate) pinged: Instant,
    /// The next periodic ping comes so much sooner.
    pub(crate) ahead: Span,
    /// When a beat goes out that had to let a question pass.
    pub(crate) put_off: Instant,
    /// The last check (or the start).
    pub(crate) checked: Instant,
    /// Bytes wait and do not move since then.
    pub(crate) blocked: Option<Instant>,
    /// The application takes no messages since then.
    pub(crate) paused: Option<Instant>,
    pub(crate) session: Session,
    #[cfg_attr(feature = "trace", serde(default))]
    pub(crate) ends: Ends,
}

/// Whether the application has made the connection its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(rename_all = "snake_case"))]
pub(crate) enum Session {
    /// Not yet.
    Opening {
        /// From here on the missing session is charged.
        from: Instant,
        /// The last probe of a late tick: whoever was stopped with us has the time of its answer, too.
        probe: Option<Instant>,
    },
    Ready {
        since: Instant,
    },
}

/// What the connection's round trips tell about how long a pong may take (RFC 6298 §2).
///
/// Of this connection alone: after a verdict that came too early the next one begins without prejudice.
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
            // The answer to the upgrade was heard.
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

    /// Any byte is life, and an answer to every open question.
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

    /// Bytes that had to wait have moved: nothing that is missing is charged from before that.
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

    /// A ping goes out now.
    pub(crate) fn ask(&mut self, number: u64, is_probe: bool, now: Instant) {
        self.asked = Some((number, now));
        self.ping_waits = false;
        self.latest_is_probe = is_probe && self.probe.is_none();
        if self.latest_is_probe {
            self.probe = Some(now);
            self.probe_waits = false;
        }
    }

    /// The latest ping has not left us: it asks nobody yet.
    pub(crate) fn ping_waits(&mut self, now: Instant) {
        self.ping_waits |= self.asked.is_some();
        if self.latest_is_probe && self.probe.is_some() && !self.probe_waits {
            self.probe_waits = true;
            if self.on_last_probe {
                // It alone was to decide, and cannot yet: silence does, from here on.
                self.idle_from = now;
            }
        }
    }

    /// All pings have left us: those that waited ask from now on.
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

    /// The latest ping will never leave us: nothing was asked, and after as long a silence as before another
    /// one is tried. Tells what it had been: a probe, or any ping.
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

    /// A pong came so long after its ping.
    pub(crate) fn measure(&mut self, sample: Span) {
        self.round_trip.measure(sample);
    }

    /// Charges no silence for the time in which nothing was read.
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

    // ---- deadlines: anchors and configuration, nothing else -----------------------------------

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

    /// What a missing pong is called: after a late tick the last probe stands in for the silence
    /// timeout too, where that is the shorter one.
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

    /// The verdict that comes first. Of two at the same time the one that says more: silence is
    /// told before a missing pong, both before missing data, all before a stuck write, and all of
    /// these before the session that is missing for whatever reason.
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

    /// One question a silence: the next one only after something was heard.
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

    /// The next deadline of those that move when data are heard, and then only to a later time, or to
    /// one that is still to come.
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

    /// The next one of all others.
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

    /// After a late tick: would silence be judged now, or before a peer that was not asked in all
    /// this time has had a fair chance to answer?
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

    /// Whatever silence came before, this probe alone decides now.
    pub(crate) fn begin_last_probe(&mut self, now: Instant) {
        // A new one, in place of any before it.
        self.probe = None;
        self.probe_waits = false;
        self.on_last_probe = true;
        self.data_probe = Some(now);
        if let Session::Opening { probe, .. } = &mut self.session {
            *probe = Some(now);
        }
    }
}
