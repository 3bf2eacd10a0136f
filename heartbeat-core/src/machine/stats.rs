//! Statistics of a machine.

use core::time::Duration;

use super::action::AbortReason;

/// Statistics since the machine was made. Counters saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Dials begun.
    pub dials: u32,
    /// Dials that led to an open connection.
    pub connects: u32,
    /// Connections whose session became ready. Without a `session_timeout` every connection counts.
    pub sessions: u32,
    /// Dials after the first.
    pub reconnects: u32,
    /// Connections and dials ended by the peer, the network or a verdict.
    pub losses: u32,
    /// Connections closed to be renewed ([`Renewal`](crate::Renewal)). A renewal counts as a loss only if its end
    /// was announced before the connection was stable.
    pub renewals: u32,
    /// Losses with a permanent error that was tolerated ([`PermanentErrors`](crate::PermanentErrors)).
    pub tolerated: u32,
    /// Pings sent, including probes.
    pub pings_sent: u32,
    /// Pings sent that ask for an answer: all except keepalives.
    pub probes_sent: u32,
    /// Pings of the peer that the machine answered.
    pub pongs_sent: u32,
    /// Pongs heard, solicited or not.
    pub pongs_received: u32,
    /// Verdicts, counted by reason.
    pub aborts: AbortCounts,
    /// Round-trip times from a ping to its pong.
    pub rtt: Rtt,
    /// Total time in which a connection was open, including the present one.
    pub time_open: Duration,
}

/// Number of connections that each timeout ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AbortCounts {
    /// See [`AbortReason::ConnectTimeout`].
    pub connect_timeout: u32,
    /// See [`AbortReason::IdleTimeout`].
    pub idle_timeout: u32,
    /// See [`AbortReason::PongTimeout`].
    pub pong_timeout: u32,
    /// See [`AbortReason::DataTimeout`].
    pub data_timeout: u32,
    /// See [`AbortReason::WriteTimeout`].
    pub write_timeout: u32,
    /// See [`AbortReason::SessionTimeout`].
    pub session_timeout: u32,
    /// See [`AbortReason::CloseTimeout`].
    pub close_timeout: u32,
    /// See [`AbortReason::Stale`].
    pub stale: u32,
}

impl AbortCounts {
    /// Returns the number of connections that this timeout ended.
    #[must_use]
    pub const fn of(&self, reason: AbortReason) -> u32 {
        match reason {
            AbortReason::ConnectTimeout => self.connect_timeout,
            AbortReason::IdleTimeout => self.idle_timeout,
            AbortReason::PongTimeout => self.pong_timeout,
            AbortReason::DataTimeout => self.data_timeout,
            AbortReason::WriteTimeout => self.write_timeout,
            AbortReason::SessionTimeout => self.session_timeout,
            AbortReason::CloseTimeout => self.close_timeout,
            AbortReason::Stale => self.stale,
        }
    }

    pub(crate) fn count(&mut self, reason: AbortReason) {
        let counter = match reason {
            AbortReason::ConnectTimeout => &mut self.connect_timeout,
            AbortReason::IdleTimeout => &mut self.idle_timeout,
            AbortReason::PongTimeout => &mut self.pong_timeout,
            AbortReason::DataTimeout => &mut self.data_timeout,
            AbortReason::WriteTimeout => &mut self.write_timeout,
            AbortReason::SessionTimeout => &mut self.session_timeout,
            AbortReason::CloseTimeout => &mut self.close_timeout,
            AbortReason::Stale => &mut self.stale,
        };
        *counter = counter.saturating_add(1);
    }
}

/// Round-trip times. All zero until the first pong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Rtt {
    /// The latest round trip.
    pub last: Duration,
    /// The smoothed round trip, with a weight of 1/8 for the latest (RFC 6298 §2).
    pub smoothed: Duration,
    /// The shortest round trip.
    pub min: Duration,
    /// The longest round trip.
    pub max: Duration,
    /// The number of measured round trips.
    pub samples: u32,
}

impl Rtt {
    pub(crate) fn measure(&mut self, sample: Duration) {
        self.last = sample;
        if self.samples == 0 {
            (self.smoothed, self.min, self.max) = (sample, sample, sample);
        } else {
            let old = self.smoothed.as_nanos() as u64;
            let new = sample.as_nanos() as u64;
            self.smoothed = Duration::from_nanos(old - old / 8 + new / 8);
            self.min = self.min.min(sample);
            self.max = self.max.max(sample);
        }
        self.samples = self.samples.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtt_is_smoothed_as_rfc_6298_says() {
        let mut rtt = Rtt::default();
        rtt.measure(Duration::from_millis(80));
        assert_eq!(rtt.smoothed, Duration::from_millis(80));
        rtt.measure(Duration::from_millis(160));
        assert_eq!(rtt.smoothed, Duration::from_millis(90));
        assert_eq!(
            (rtt.min, rtt.max, rtt.last),
            (
                Duration::from_millis(80),
                Duration::from_millis(160),
                Duration::from_millis(160),
            )
        );
    }
}
