//! The meaning of a seed: a client, a network, a server, a host and an application.

use std::time::Duration;

use heartbeat_core::{CauseKind, Config, PermanentErrors, Ping, RetryPolicy};
use heartbeat_driver::Overflow;

use super::dice::Dice;
use super::link::Reception;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const S: u64 = 1_000 * MS;
pub(crate) const HOUR: u64 = 3_600 * S;

/// The code under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// `heartbeat_blocking::InPlace` in a reactor with a clock of its own.
    BlockingInPlace,
    /// `heartbeat_blocking::Client`: its thread, its queues.
    BlockingClient,
    /// `heartbeat_tokio::InPlace` on tokio's paused clock.
    TokioInPlace,
    /// `heartbeat_tokio::Client`: its task, its queues.
    TokioClient,
}

impl Host {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [
        Self::BlockingInPlace,
        Self::BlockingClient,
        Self::TokioInPlace,
        Self::TokioClient,
    ];

    pub(crate) const fn is_tokio(self) -> bool {
        matches!(self, Self::TokioInPlace | Self::TokioClient)
    }

    /// Runs on its own, with a queue between it and the application.
    pub(crate) const fn has_queue(self) -> bool {
        matches!(self, Self::BlockingClient | Self::TokioClient)
    }
}

/// A planted defect, to check that the oracle notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The transport writes an application message twice.
    DuplicatesAMessage,
    /// The transport loses a pong.
    LosesAPong,
    /// The transport loses a message that it took.
    LosesAMessage,
    /// A message that is handed back does not reach the application.
    ForgetsUnsent,
    /// A message of the server's does not reach the application.
    LosesAnEvent,
    /// The client waits twice as long as its user believes.
    SleepsTooLong,
    /// The client declares death after half of the time that its user believes.
    GivesUpHopeTooSoon,
    /// Timers are ignored: only the network ends a wait.
    IgnoresTimers,
    /// The client's backoff is far shorter than its user believes.
    DialsTooSoon,
    /// The client's backoff is far longer than its user believes.
    DialsTooLate,
    /// The old socket stays open.
    KeepsTheOldSocket,
    /// `stop` does not arrive.
    IgnoresStop,
    /// The machine reports a wrong wake.
    ReportsAnotherWake,
    /// The transport takes everything, and hides that bytes wait there.
    HidesThatBytesWait,
    /// The transport says that there is no room, and a moment later that there is.
    MovesForNothing,
    /// The client tolerates a stuck write for far longer than its user believes.
    IgnoresAStuckWrite,
    /// One of the endpoints is never dialled.
    ForgetsAnEndpoint,
    /// The client treats permanent errors as final for every endpoint, against its user's policy.
    BelievesEveryone,
    /// The client treats no error as final.
    BelievesNobody,
    /// A client that does not read is not told of the end.
    OverlooksAnEnd,
    /// The application is not told which messages were dropped.
    ForgetsWhatWasDropped,
    /// The client pauses reading although its user wants messages to be dropped.
    PausesAnyway,
}

/// A server's behaviour for its whole life, whatever else happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Well,
    Bad(Reception),
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) host: Host,
    pub(crate) config: Config,
    pub(crate) flaw: Option<Flaw>,
    /// When the application stops the client.
    pub(crate) life: u64,
    /// The application drops the client instead.
    pub(crate) drops: bool,
    /// All times are multiples of this.
    pub(crate) grain: u64,
    /// The time in one direction, without losses.
    pub(crate) latency: (u64, u64),
    /// How much later a lost packet arrives.
    pub(crate) loss_delay: u64,
    pub(crate) loss_permille: u64,
    /// The bytes in flight in one direction.
    pub(crate) capacity: u64,
    /// A middlebox drops a connection after this much silence.
    pub(crate) nat_idle: Option<u64>,
    /// How late timers may be.
    pub(crate) wake_late: u64,
    /// The server sends data: time between messages.
    pub(crate) data_every: Option<(u64, u64)>,
    /// The server pings.
    pub(crate) ask_every: Option<(u64, u64)>,
    /// The application sends.
    pub(crate) send_every: Option<(u64, u64)>,
    /// The application answers each message of the server.
    pub(crate) echoes: bool,
    pub(crate) queue: usize,
    pub(crate) send_queue: (usize, usize),
    /// Mean time between faults.
    pub(crate) fault_every: u64,
    /// Also faults that cannot be overcome.
    pub(crate) fatal: bool,
    /// Stalls, steps and pauses may happen, too.
    pub(crate) host_faults: bool,
    /// The most bytes that a slow server takes in this time: as many as may be in flight, so the server counts
    /// as healthy.
    pub(crate) slowest: u64,
    /// The largest message of the application.
    pub(crate) largest: u64,
    /// The servers that are dialled in turn.
    pub(crate) endpoints: Vec<Endpoint>,
    /// What happens to messages that the application does not take.
    pub(crate) overflow: Overflow,
    pub(crate) heartbeat_events: bool,
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn seconds(dice: &mut Dice, low: u64, high: u64) -> Duration {
    Duration::from_millis(dice.spread(low * 1000, high * 1000))
}

fn odd_config(dice: &mut Dice) -> Config {
    let idle = seconds(dice, 4, 600);
    let part = |dice: &mut Dice, percent_low, percent_high| {
        Duration::from_millis(
            idle.as_millis() as u64 * dice.between(percent_low, percent_high) / 100,
        )
    };
    let ping = match dice.below(5) {
        0 => Ping::Never,
        1 | 2 => Ping::Every(part(dice, 10, 70)),
        _ => Ping::AfterSilence(part(dice, 10, 70)),
    };
    let base = dice.spread(50, 10_000);
    let mut builder = Config::builder()
        .idle_timeout(idle)
        .ping(ping)
        .pong_timeout((dice.below(4) > 0).then(|| part(dice, 20, 120)))
        .check_interval((dice.below(4) > 0).then(|| seconds(dice, 1, 120)))
        .keepalive((dice.below(3) == 0).then(|| part(dice, 5, 200)))
        .data_timeout((dice.below(4) == 0).then(|| part(dice, 100, 400)))
        .connect_timeout(seconds(dice, 2, 30))
        .write_timeout((dice.below(4) > 0).then(|| seconds(dice, 2, 120)))
        .close_timeout(seconds(dice, 1, 10))
        .stable_after(seconds(dice, 1, 300))
        .backoff(
            Duration::from_millis(base),
            Duration::from_millis(dice.spread(base, 300_000)),
            dice.between(0, 100) as u8,
        );
    if dice.below(10) == 0 {
        builder = builder.max_attempts(dice.between(1, 20) as u32);
    }
    builder.build().expect("consistent by construction")
}

/// One healthy server in most runs. Otherwise several, most of them broken.
fn endpoints(dice: &mut Dice) -> Vec<Endpoint> {
    if dice.below(4) > 0 {
        return vec![Endpoint::Well];
    }
    let count = dice.pick(&[2, 2, 3, 3, 5, 8, 64]);
    let mut endpoints: Vec<_> = (0..count)
        .map(|_| {
            let status = dice.pick(&[400, 403, 404, 410, 301, 308, 500, 503]);
            let code = dice.pick(&[1000, 1003, 1008, 1010, 1011, 1013]);
            match dice.below(10) {
                0 | 1 => Endpoint::Well,
                2..5 => Endpoint::Bad(Reception::Http(status, None)),
                5 => Endpoint::Bad(Reception::WrongAnswer),
                6 => Endpoint::Bad(Reception::Refused),
                7 => Endpoint::Bad(Reception::Hangs),
                8 => Endpoint::Bad(Reception::AcceptsAndCloses(code)),
                _ => Endpoint::Bad(Reception::AcceptsAndDrops),
            }
        })
        .collect();
    if dice.below(8) > 0 {
        let well = dice.below(count) as usize;
        endpoints[well] = Endpoint::Well;
    }
    endpoints
}

impl Plan {
    /// The run that this seed stands for.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let host = dice.weighted(&[
            (45, Host::BlockingInPlace),
            (10, Host::BlockingClient),
            (25, Host::TokioInPlace),
            (20, Host::TokioClient),
        ]);
        let (config, life) = match dice.below(100) {
            0..35 => (Config::default(), dice.spread(HOUR / 10, 2_000 * HOUR)),
            35..70 => (Config::thrifty(), dice.spread(HOUR, 20_000 * HOUR)),
            70..80 => (Config::brisk(), dice.spread(HOUR / 60, 60 * HOUR)),
            _ => {
                let config = odd_config(&mut dice);
                let idle = nanos(config.idle_timeout());
                (config, dice.spread(idle * 5, idle * 5000))
            }
        };
        Self::of(seed, dice, host, config, life)
    }

    /// A world for this client.
    pub(crate) fn of(seed: u64, mut dice: Dice, host: Host, mut config: Config, life: u64) -> Self {
        let fatal = dice.below(8) == 0;
        if !fatal {
            let mut builder = config.to_builder();
            for code in [1002, 1007, 1009] {
                builder = builder.on(CauseKind::Close(code), RetryPolicy::Backoff);
            }
            config = builder.build().expect("consistent before");
        }
        let policy = match dice.below(if fatal { 4 } else { 1 }) {
            1 | 2 => PermanentErrors::GiveUp,
            3 => PermanentErrors::Retry,
            _ => PermanentErrors::GiveUpUnlessStable,
        };
        // As for a client of a fixed URL.
        let builder = config.to_builder().fixed_credentials(true);
        let builder = builder.permanent_errors(policy);
        config = builder.build().expect("consistent before");
        let idle = nanos(config.idle_timeout());
        let pong = config.pong_timeout().map_or(idle, nanos);
        let first_ask = match config.ping() {
            Ping::Never => idle / 2,
            Ping::AfterSilence(time) | Ping::Every(time) => nanos(time),
        };
        // The longest time in one direction on a healthy network, so that health is well defined.
        let most = [
            idle - first_ask,
            pong,
            10 * S,
            nanos(config.connect_timeout()) / 2,
        ]
        .into_iter()
        .min()
        .unwrap_or(S)
            / 5;
        let grain = if host.is_tokio() { MS } else { 1 };
        let slowest = dice.spread(MS / 10, (most / 2).min(300 * MS));
        let latency = (slowest / 2, slowest);
        let rate = |dice: &mut Dice, most: u64| {
            let mean = dice.spread((most / 3).max(MS), most * 2 / 3);
            (mean / 2, (mean * 3 / 2).min(most))
        };
        let needs_data = config.data_timeout().map(|timeout| nanos(timeout) / 3);
        let must_speak = (config.ping() == Ping::Never).then_some(idle / 3);
        let data_every = match (needs_data, must_speak) {
            (None, None) => (dice.below(4) == 0)
                .then(|| dice.spread(idle / 2, idle * 20))
                .map(|mean| (mean / 2, mean * 2)),
            (one, other) => {
                let most = one.unwrap_or(u64::MAX).min(other.unwrap_or(u64::MAX));
                Some(rate(&mut dice, most))
            }
        };
        let ask_every = (dice.below(4) == 0)
            .then(|| dice.spread(idle / 4, idle * 20))
            .map(|mean| (mean / 2, mean * 2));
        let send_every = (dice.below(3) == 0)
            .then(|| dice.spread(S, idle * 50))
            .map(|mean| (mean / 2, mean * 2));
        // A talkative server makes simulated hours expensive. A shorter life shows as much.
        let busiest = [data_every, ask_every, send_every]
            .into_iter()
            .flatten()
            .map(|(low, _)| low)
            .min();
        let life = life.min(busiest.map_or(u64::MAX, |every| every.saturating_mul(20_000)));
        let nat_idle = (dice.below(6) == 0).then(|| dice.spread(idle / 4, idle * 4));
        let exact = host.is_tokio() || dice.below(3) > 0;
        let late_probe = (20 * S).min(pong).min(idle);
        let slowest = (idle - first_ask).min(pong).min(late_probe) / 3;
        let mut more = Dice::new(seed ^ 0x0E4D_9017);
        let endpoints = endpoints(&mut more);
        if endpoints.len() > 1 {
            let policy = more.pick(&[
                PermanentErrors::GiveUp,
                PermanentErrors::GiveUpUnlessStable,
                PermanentErrors::GiveUpUnlessStable,
                PermanentErrors::Retry,
            ]);
            let builder = config.to_builder().permanent_errors(policy);
            config = builder.build().expect("consistent before");
        }
        let capacity = dice.spread(2_000, 65_536);
        let is_wide = more.below(10) == 0;
        let capacity = if is_wide {
            more.spread(65_536, 3 << 20)
        } else {
            capacity
        };
        Self {
            seed,
            host,
            flaw: None,
            life,
            drops: dice.below(4) == 0,
            grain,
            latency,
            loss_delay: dice.spread(10 * MS, (most / 2).max(10 * MS)).min(most / 2),
            loss_permille: dice.pick(&[0, 0, 1, 20, 200]),
            capacity,
            nat_idle,
            wake_late: if exact {
                0
            } else {
                dice.spread(1, nanos(config.late_grace()) / 4).min(most / 2)
            },
            data_every,
            ask_every,
            send_every,
            echoes: dice.below(2) == 0,
            queue: dice.spread(1, 1024) as usize,
            send_queue: (
                dice.spread(1, 1024) as usize,
                dice.spread(100, 1 << 20) as usize,
            ),
            fault_every: dice.spread((life / 1_000).max(idle / 4), (life / 3).max(idle)),
            fatal,
            host_faults: dice.below(3) > 0,
            slowest,
            largest: (100 * capacity).min(if is_wide { 4 << 20 } else { 1 << 20 }),
            endpoints,
            overflow: more.pick(&[
                Overflow::Pause,
                Overflow::Pause,
                Overflow::DropOldest,
                Overflow::DropNewest,
                Overflow::Discard,
            ]),
            heartbeat_events: more.below(4) > 0,
            config,
        }
    }

    /// A life of at most `longest`, with as many faults.
    pub(crate) fn shorten(&mut self, longest: Duration) {
        let longest = nanos(longest);
        if self.life > longest {
            self.life = longest;
            self.fault_every = self.fault_every.min(longest / 20);
        }
    }

    /// The longest way of a packet on a healthy network.
    pub(crate) fn longest_way(&self) -> u64 {
        self.latency.1 + self.loss_delay + self.grain
    }

    /// How late a timer of the client may be.
    pub(crate) fn slack(&self) -> u64 {
        if self.host.is_tokio() {
            MS
        } else {
            self.wake_late
        }
    }

    /// How long the probe of a late step may stay unanswered (DESIGN: "a late timer").
    pub(crate) fn late_probe(&self) -> u64 {
        let pong = self.config.pong_timeout().map_or(u64::MAX, nanos);
        (20 * S).min(pong).min(nanos(self.config.idle_timeout()))
    }

    /// The time from the last byte to the verdict, by the rules and not by the code: silence, or an unanswered
    /// ping, whichever comes first.
    pub(crate) fn detection(&self) -> u64 {
        let idle = nanos(self.config.idle_timeout());
        let asked = match self.config.ping() {
            Ping::Never => return idle,
            Ping::AfterSilence(time) | Ping::Every(time) => nanos(time),
        };
        let pong = self.config.pong_timeout().map_or(u64::MAX, nanos);
        idle.min(asked.saturating_add(pong))
    }
}
