//! A client's figures for the `metrics` facade, independent of the exporter.
//!
//! Handles are created once. Counters of messages and bytes are set when the engine comes to rest, so a message
//! costs nothing. Nothing is recorded without the feature `metrics`, or for a client without
//! [`Options::metrics`](crate::Options::metrics).

#[cfg(feature = "metrics")]
pub(crate) use on::Meter;

#[cfg(feature = "metrics")]
mod on {
    use std::time::{Duration, SystemTime};

    use heartbeat_core::{AbortReason, Phase};
    use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

    use super::super::shared::ClientStats;
    use crate::clock;
    use crate::event::Reason;

    /// Every state with its value of the label `state`.
    const STATES: [&str; 6] = [
        "waiting",
        "connecting",
        "opening",
        "ready",
        "closing",
        "stopped",
    ];

    pub(crate) struct Meter {
        client: String,
        states: [Gauge; 6],
        heard: Gauge,
        waiting: Gauge,
        paused: Gauge,
        rtt: Histogram,
        verdicts: [(AbortReason, Counter); 8],
        counters: [Counter; 15],
        /// Bytes received at the last update.
        received: u64,
    }

    /// Names and descriptions of the counters, in the order of [`figures`].
    const COUNTERS: [(&str, Unit, &str); 15] = [
        ("heartbeat_dials_total", Unit::Count, "Dials begun"),
        (
            "heartbeat_reconnects_total",
            Unit::Count,
            "Dials after the first",
        ),
        (
            "heartbeat_sessions_total",
            Unit::Count,
            "Connections whose session became ready",
        ),
        ("heartbeat_pings_sent_total", Unit::Count, "Pings sent"),
        (
            "heartbeat_pongs_sent_total",
            Unit::Count,
            "Pings of the server that were answered",
        ),
        (
            "heartbeat_pongs_received_total",
            Unit::Count,
            "Pongs received",
        ),
        (
            "heartbeat_messages_received_total",
            Unit::Count,
            "Application messages received",
        ),
        (
            "heartbeat_messages_sent_total",
            Unit::Count,
            "Application messages handed to the operating system",
        ),
        (
            "heartbeat_bytes_received_total",
            Unit::Bytes,
            "Bytes read, framing included",
        ),
        (
            "heartbeat_bytes_sent_total",
            Unit::Bytes,
            "Bytes written, framing included",
        ),
        (
            "heartbeat_unsent_total",
            Unit::Count,
            "Messages handed back: unsent or expired",
        ),
        (
            "heartbeat_reading_pauses_total",
            Unit::Count,
            "How often reading was paused because the application took no events",
        ),
        (
            "heartbeat_messages_dropped_total",
            Unit::Count,
            "Messages dropped because the application did not take them",
        ),
        (
            "heartbeat_heartbeat_events_dropped_total",
            Unit::Count,
            "Notes on heartbeats left out because the application was behind",
        ),
        (
            "heartbeat_unsent_dropped_total",
            Unit::Count,
            "Messages handed back and forgotten because nobody took them",
        ),
    ];

    const fn figures(stats: &ClientStats) -> [u64; 15] {
        let machine = &stats.machine;
        [
            machine.dials as u64,
            machine.reconnects as u64,
            machine.sessions as u64,
            machine.pings_sent as u64,
            machine.pongs_sent as u64,
            machine.pongs_received as u64,
            stats.messages_received,
            stats.messages_sent,
            stats.bytes_received,
            stats.bytes_sent,
            stats.unsent,
            stats.reading_pauses,
            stats.messages_dropped,
            stats.heartbeat_events_dropped,
            stats.unsent_dropped,
        ]
    }

    impl Meter {
        pub(crate) fn new(client: String) -> Self {
            describe();
            let verdict = |reason: AbortReason| {
                let labels = [
                    ("client", client.clone()),
                    ("reason", reason.as_str().to_owned()),
                ];
                (reason, counter!("heartbeat_verdicts_total", &labels))
            };
            Self {
                states: STATES.map(|state| {
                    let labels = [("client", client.clone()), ("state", state.to_owned())];
                    gauge!("heartbeat_state", &labels)
                }),
                heard: gauge!("heartbeat_heard_timestamp_seconds", "client" => client.clone()),
                waiting: gauge!("heartbeat_waiting_messages", "client" => client.clone()),
                paused: gauge!("heartbeat_reading_paused_timestamp_seconds", "client" => client.clone()),
                rtt: histogram!("heartbeat_rtt_seconds", "client" => client.clone()),
                verdicts: [
                    AbortReason::ConnectTimeout,
                    AbortReason::IdleTimeout,
                    AbortReason::PongTimeout,
                    AbortReason::DataTimeout,
                    AbortReason::WriteTimeout,
                    AbortReason::SessionTimeout,
                    AbortReason::CloseTimeout,
                    AbortReason::Stale,
                ]
                .map(verdict),
                counters: COUNTERS.map(|(name, ..)| counter!(name, "client" => client.clone())),
                received: 0,
                client,
            }
        }

        /// Sets all figures.
        pub(crate) fn set(&mut self, stats: &ClientStats) {
            let state = match stats.phase {
                Phase::Waiting => 0,
                Phase::Connecting => 1,
                Phase::Open if !stats.ready => 2,
                Phase::Open => 3,
                Phase::Closing => 4,
                Phase::Stopped => 5,
            };
            for (index, gauge) in self.states.iter().enumerate() {
                gauge.set(if index == state { 1.0 } else { 0.0 });
            }
            self.waiting.set(stats.waiting as f64);
            let paused = stats.reading_paused_since;
            let since = paused.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
            self.paused
                .set(since.map_or(0.0, |since| since.as_secs_f64()));
            for (counter, figure) in self.counters.iter().zip(figures(stats)) {
                counter.absolute(figure);
            }
            let verdicts = &stats.machine.aborts;
            for (reason, counter) in &self.verdicts {
                counter.absolute(u64::from(verdicts.of(*reason)));
            }
        }

        /// Sets the figures that change with every message. `traffic`: messages and bytes, received and sent.
        pub(crate) fn traffic(&mut self, traffic: [u64; 4]) {
            let [messages_received, messages_sent, bytes_received, bytes_sent] = traffic;
            if bytes_received != self.received {
                self.received = bytes_received;
                self.heard.set(clock::unix_ms() as f64 / 1000.0);
            }
            let figures = [messages_received, messages_sent, bytes_received, bytes_sent];
            for (counter, figure) in self.counters[6..10].iter().zip(figures) {
                counter.absolute(figure);
            }
        }

        pub(crate) fn rtt(&self, rtt: Duration) {
            self.rtt.record(rtt.as_secs_f64());
        }

        /// Counts the end of a dial or connection. The label has no codes, because a server could create
        /// thousands of series with them.
        pub(crate) fn ended(&self, reason: Reason) {
            let labels = [
                ("client", self.client.clone()),
                ("reason", reason.kind().to_owned()),
            ];
            counter!("heartbeat_disconnects_total", &labels).increment(1);
        }
    }

    fn describe() {
        use metrics::{describe_counter, describe_gauge, describe_histogram};
        for (name, unit, meaning) in COUNTERS {
            describe_counter!(name, unit, meaning);
        }
        describe_counter!(
            "heartbeat_verdicts_total",
            Unit::Count,
            "Connections and dials that this client dropped, by reason"
        );
        describe_counter!(
            "heartbeat_disconnects_total",
            Unit::Count,
            "Connections and dials that ended, by reason"
        );
        describe_gauge!(
            "heartbeat_state",
            "1 for the state in which the client is, 0 for the others"
        );
        describe_gauge!(
            "heartbeat_heard_timestamp_seconds",
            Unit::Seconds,
            "When the last byte was heard, in seconds since 1970"
        );
        describe_gauge!(
            "heartbeat_waiting_messages",
            Unit::Count,
            "Messages that wait to be written"
        );
        describe_gauge!(
            "heartbeat_reading_paused_timestamp_seconds",
            Unit::Seconds,
            "Since when reading is paused, in seconds since 1970; 0 while the client reads"
        );
        describe_histogram!(
            "heartbeat_rtt_seconds",
            Unit::Seconds,
            "Time from a ping to its pong"
        );
    }
}

/// Does nothing, at no cost.
#[cfg(not(feature = "metrics"))]
pub(crate) struct Meter;

#[cfg(not(feature = "metrics"))]
impl Meter {
    pub(crate) fn set(&mut self, _: &super::shared::ClientStats) {}
    pub(crate) fn traffic(&mut self, _: [u64; 4]) {}
    pub(crate) fn rtt(&self, _: std::time::Duration) {}
    pub(crate) fn ended(&self, _: crate::event::Reason) {}
}
