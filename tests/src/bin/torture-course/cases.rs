//! The cases: the task of server and client, and the judgement of the outcome from what the server saw.

use std::time::Duration;

use serde_json::Value;

use crate::trial::Seen;

/// The settings for every client, in ms: ping after `PING`, dead after `DEATH`, a dial given up after
/// `CONNECT`, first reconnect after `BACKOFF`, later ones after up to eight times that.
pub(crate) const PING: u64 = 2000;
pub(crate) const DEATH: u64 = 4000;
pub(crate) const CONNECT: u64 = 3000;
pub(crate) const BACKOFF: u64 = 500;

/// The time that a busy machine may add before a verdict counts as late, in ms.
const SLACK: f64 = 500.0;

/// How long a process is stopped: three times `DEATH`.
const STOPPED: Duration = Duration::from_millis(3 * DEATH);

/// How many messages a burst has.
const BURST: u64 = 2000;

/// The shortest average time between dials that a first delay of `BACKOFF`, halved by jitter, allows.
const LEAST_PAUSE: f64 = BACKOFF as f64 / 2.0;

pub(crate) struct Case {
    /// `T1`.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The server's behaviour, in a sentence or two, for the table.
    pub(crate) world: &'static str,
    /// The rule for passing, for the table.
    pub(crate) rule: &'static str,
    pub(crate) variants: &'static [Variant],
    /// How often each variant is run, unless the command line says otherwise.
    pub(crate) repeats: usize,
    /// Uses the processor, so it does not run beside trials whose times count.
    pub(crate) heavy: bool,
}

pub(crate) struct Variant {
    pub(crate) path: &'static str,
    /// Further arguments of the driver.
    pub(crate) args: &'static [&'static str],
    pub(crate) span: Duration,
    /// The process is stopped this long after the start, for `STOPPED`.
    pub(crate) stop_at: Option<Duration>,
    pub(crate) judge: Judge,
}

/// How an outcome is judged.
#[derive(Clone, Copy)]
pub(crate) enum Judge {
    /// The client ends the first connection within this many ms of its last byte, and a second one follows.
    Death(f64),
    /// The same, counted from the moment when the stopped process continued.
    DeathAfterStop(f64),
    /// The same, counted from the upgrade.
    DeathAfterUpgrade(f64),
    /// The same, counted from accept.
    DialDeath(f64),
    /// One connection, still open.
    Lives,
    /// The second connection is open, and there is no third.
    SecondLives,
    /// One connection, with the whole of a message.
    Whole,
    /// One connection, 20 001 messages in order.
    AllInOrder,
    /// At least two connects, and at most one in each `LEAST_PAUSE`.
    Backoff,
    /// At least two connects, the second at least this many ms after the first.
    NotBefore(f64),
    /// At most this many connects, then none.
    GivesUp(u64),
    /// All pings answered in order.
    Answers,
    /// The process lives, its memory is bounded, the connection is ended, no storm.
    Survives,
    /// One connection, still open, and the message arrives whole and once.
    Uploaded,
    /// The message is whole, and each pong came within this many ms.
    PongsWithin(u64),
    /// A second connection within this many ms of the last byte on the first.
    Back(f64),
    /// A connection after the first is upgraded and still open.
    ComesBack,
    /// No accepted message is lost or arrives twice.
    Accounts,
}

impl Variant {
    /// It is dialled by a name that has several addresses.
    pub(crate) fn has_addresses(&self) -> bool {
        self.path.starts_with("t32/")
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn plain(path: &'static str, span: u64, judge: Judge) -> Variant {
    acting(path, &[], span, judge)
}

const fn acting(
    path: &'static str,
    args: &'static [&'static str],
    span: u64,
    judge: Judge,
) -> Variant {
    Variant {
        path,
        args,
        span: ms(span),
        stop_at: None,
        judge,
    }
}

const fn stopped(path: &'static str, at: u64, rest: u64, judge: Judge) -> Variant {
    Variant {
        path,
        args: &[],
        span: ms(at + 3 * DEATH + rest),
        stop_at: Some(ms(at)),
        judge,
    }
}

const BOUND: f64 = DEATH as f64;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "T1",
        title: "peer freezes, client idle",
        world: "The server talks for 1 s, then neither reads nor writes; TCP stays open and the kernel goes on acknowledging. The client has nothing to send",
        rule: "dead 4 s after the last byte, reconnects",
        variants: &[plain("t1", 12_000, Judge::Death(BOUND))],
        repeats: 10,
        heavy: false,
    },
    Case {
        id: "T2",
        title: "peer freezes, 64 MiB of ours stuck",
        world: "The server stops reading at once; the client sends 64 messages of 1 MiB, so most of them are stuck in its send path when the client has to judge",
        rule: "dead 4 s after the last byte, reconnects",
        variants: &[acting(
            "t2",
            &["--act", "flood"],
            12_000,
            Judge::Death(BOUND),
        )],
        repeats: 10,
        heavy: true,
    },
    Case {
        id: "T3",
        title: "peer freezes, client keeps writing",
        world: "As T1, but the application sends 100 bytes every 1.5 s: the kernel takes these bytes, and they do not count as a sign of life",
        rule: "dead 4 s after the last byte, reconnects",
        variants: &[acting(
            "t3",
            &["--act", "write"],
            12_000,
            Judge::Death(BOUND),
        )],
        repeats: 10,
        heavy: false,
    },
    Case {
        id: "T4",
        title: "quiet but healthy",
        world: "The server answers pings and sends nothing else",
        rule: "no false death in 20 s",
        variants: &[plain("t4", 20_000, Judge::Lives)],
        repeats: 2,
        heavy: false,
    },
    Case {
        id: "T5",
        title: "a 15 MB message takes 16 s",
        world: "A single message takes four times the allowed silence; no pong can come between its bytes",
        rule: "no false death, the message arrives whole",
        variants: &[plain("t5", 21_000, Judge::Whole)],
        repeats: 2,
        heavy: false,
    },
    Case {
        id: "T6",
        title: "application takes nothing for 12 s",
        world: "The application takes no message for 12 s while the server has 20 000 of them, and answers pings between them",
        rule: "no false death, then all 20 000 in order",
        variants: &[acting(
            "t6",
            &["--act", "hold=12000"],
            22_000,
            Judge::AllInOrder,
        )],
        repeats: 2,
        heavy: true,
    },
    Case {
        id: "T7",
        title: "process stopped for 12 s, peer alive",
        world: "The client's process is stopped (SIGSTOP) for three times the allowed silence. When it continues, either the server's messages wait in the socket, or (`quiet`) there is nothing to read",
        rule: "no false death",
        variants: &[
            stopped("t7", 1500, 8000, Judge::Lives),
            stopped("t7/quiet", 1500, 8000, Judge::Lives),
        ],
        repeats: 3,
        heavy: false,
    },
    Case {
        id: "T8",
        title: "process stopped for 12 s, peer died",
        world: "As T7, but the server froze before the client was stopped",
        rule: "dead 1 s + 2 s after the process continues, reconnects",
        variants: &[stopped("t8", 1500, 8000, Judge::DeathAfterStop(3000.0))],
        repeats: 10,
        heavy: false,
    },
    Case {
        id: "T9",
        title: "accepts and drops, for ever",
        world: "For 10 s the server answers each upgrade and then closes TCP",
        rule: "at most one dial each 250 ms",
        variants: &[plain("t9", 10_000, Judge::Backoff)],
        repeats: 1,
        heavy: true,
    },
    Case {
        id: "T10",
        title: "closes with a code",
        world: "Each connection is closed at once with one of seven codes",
        rule: "1000, 1001, 1008, 1011, 1013: backoff; 1012: not before 5 s; 4401: 2 dials at most",
        variants: &[
            plain("t10/1000", 5000, Judge::Backoff),
            plain("t10/1001", 5000, Judge::Backoff),
            plain("t10/1011", 5000, Judge::Backoff),
            plain("t10/1013", 5000, Judge::Backoff),
            plain("t10/1012", 34_000, Judge::NotBefore(5000.0)),
            plain("t10/1008", 5000, Judge::Backoff),
            plain("t10/4401", 6000, Judge::GivesUp(2)),
        ],
        repeats: 1,
        heavy: true,
    },
    Case {
        id: "T11",
        title: "dial hangs: no answer, half an answer, TLS stalls",
        world: "The request is never answered, or half of the answer comes, or the TLS handshake is never answered",
        rule: "given up after 3 s, dialled again",
        variants: &[
            plain("t11/silent", 9000, Judge::DialDeath(3000.0)),
            plain("t11/half", 9000, Judge::DialDeath(3000.0)),
            plain("tls/stall", 9000, Judge::DialDeath(3000.0)),
        ],
        repeats: 4,
        heavy: false,
    },
    Case {
        id: "T12",
        title: "HTTP 401, 403, 404, 429, 503, 301",
        world: "The upgrade is refused with a status; 429 and 503 carry `Retry-After: 2`",
        rule: "401: 2 dials at most; 403, 404, 301: one; 429, 503: not before Retry-After",
        variants: &[
            plain("t12/401", 6000, Judge::GivesUp(2)),
            plain("t12/403", 5000, Judge::GivesUp(1)),
            plain("t12/404", 5000, Judge::GivesUp(1)),
            plain("t12/429", 5000, Judge::NotBefore(2000.0)),
            plain("t12/503", 5000, Judge::NotBefore(2000.0)),
            plain("t12/301", 5000, Judge::GivesUp(1)),
        ],
        repeats: 1,
        heavy: true,
    },
    Case {
        id: "T13",
        title: "late, unasked, other, shared pongs",
        world: "`late`: each pong 6 s after its ping. `unasked`: a pong every 2 s that answers nothing. `other`: pongs with other bytes. `three`: one pong for three pings (the client sends a ping each second, whatever it hears)",
        rule: "late: dead at the bound; the others: no false death",
        variants: &[
            plain("t13/late", 12_000, Judge::DeathAfterUpgrade(BOUND)),
            plain("t13/unasked", 14_000, Judge::Lives),
            plain("t13/other", 14_000, Judge::Lives),
            acting(
                "t13/three",
                &["--ping", "1000", "--every", "1"],
                14_000,
                Judge::Lives,
            ),
        ],
        repeats: 1,
        heavy: false,
    },
    Case {
        id: "T14",
        title: "the old connection speaks late",
        world: "The first connection freezes, is replaced, and then closes with 1008; or (`dial`) the first upgrade is answered after the dial was given up",
        rule: "the new connection lives",
        variants: &[
            plain("t14", 14_000, Judge::SecondLives),
            plain("t14/dial", 12_000, Judge::SecondLives),
        ],
        repeats: 2,
        heavy: false,
    },
    Case {
        id: "T15",
        title: "100 000 pings at once",
        world: "The server sends 100 000 numbered pings without waiting",
        rule: "each answered once, in order",
        variants: &[plain("t15", 30_000, Judge::Answers)],
        repeats: 1,
        heavy: true,
    },
    Case {
        id: "T16",
        title: "protocol garbage",
        world: "A reserved bit, bad UTF-8, a fragmented ping, a length of 2^63, a message announced as 1 TB of which only the beginning comes, half a frame",
        rule: "connection ended, no panic, under 256 MB, no storm",
        variants: &[
            plain("t16/reserved", 4000, Judge::Survives),
            plain("t16/utf8", 4000, Judge::Survives),
            plain("t16/control", 4000, Judge::Survives),
            plain("t16/length", 4000, Judge::Survives),
            plain("t16/large", 6000, Judge::Survives),
            plain("t16/half", 4000, Judge::Survives),
        ],
        repeats: 1,
        heavy: true,
    },
    Case {
        id: "T20",
        title: "connection dies in a send burst",
        world: "The client sends 2000 messages of 1000 bytes at once; the server closes its side after 1 byte, 100 kB or 1 MB, and reads the bytes that were still on their way",
        rule: "each accepted message arrived or was handed back; none twice",
        variants: &[
            acting("t20/1", &["--act", "burst=2000"], 10_000, Judge::Accounts),
            acting(
                "t20/100000",
                &["--act", "burst=2000"],
                6000,
                Judge::Accounts,
            ),
            acting(
                "t20/1000000",
                &["--act", "burst=2000"],
                6000,
                Judge::Accounts,
            ),
        ],
        repeats: 3,
        heavy: true,
    },
    Case {
        id: "T21",
        title: "plain HTTP on the TLS port",
        world: "`wss://` to a port that answers a TLS handshake with an HTTP error",
        rule: "given up at once",
        variants: &[plain("tls/plain", 5000, Judge::GivesUp(1))],
        repeats: 1,
        heavy: false,
    },
    Case {
        id: "T23",
        title: "pongs go on, data has stopped",
        world: "The server talks for 1 s, then only answers pings; the client is told that data must come every 4 s",
        rule: "dead 4 s after the last data (within 1 s of the upgrade), reconnects",
        variants: &[acting(
            "t23",
            &["--data", "4000"],
            12_000,
            Judge::DeathAfterUpgrade(5000.0),
        )],
        repeats: 10,
        heavy: false,
    },
    Case {
        id: "T27",
        title: "a 20 MB upload that takes 13 s",
        world: "The client sends one message of 20 MB; the server reads 1.5 MB a second, and answers pings as it gets to them",
        rule: "no false death, the message arrives whole and once",
        variants: &[acting(
            "t27",
            &["--act", "upload=20000000"],
            20_000,
            Judge::Uploaded,
        )],
        repeats: 2,
        heavy: false,
    },
    Case {
        id: "T28",
        title: "pings amid an upload",
        world: "As T27, with 10 MB in 7 s. Meanwhile the server pings every 0.5 s. The client's own timeouts are too long to matter",
        rule: "each pong within 2 s, the message arrives whole",
        variants: &[acting(
            "t28",
            &[
                "--act",
                "upload=10000000",
                "--ping",
                "60000",
                "--death",
                "120000",
            ],
            18_000,
            Judge::PongsWithin(2000),
        )],
        repeats: 2,
        heavy: false,
    },
    Case {
        id: "T29",
        title: "the connection ends while the application takes nothing",
        world: "The server sends 1200 messages; the application takes none after the first for 15 s. Half a second later the server ends the stream, or resets it",
        rule: "back within 4 s, although nothing is taken",
        variants: &[
            acting(
                "t29/fin",
                &["--act", "hold=15000"],
                9000,
                Judge::Back(BOUND),
            ),
            acting(
                "t29/rst",
                &["--act", "hold=15000"],
                9000,
                Judge::Back(BOUND),
            ),
        ],
        repeats: 2,
        heavy: false,
    },
    Case {
        id: "T30",
        title: "one bad moment of a healthy server",
        world: "The server talks for 2 s, and hangs up; the next upgrade is answered with 404, or with something that is not HTTP. Or the server closes with 1002, or sends a frame with a reserved bit. From then on it is healthy. If a client has a setting for when a connection counts as stable, it is 1 s",
        rule: "comes back",
        variants: &[
            acting("t30/404", &["--stable", "1000"], 14_000, Judge::ComesBack),
            acting(
                "t30/garbage",
                &["--stable", "1000"],
                14_000,
                Judge::ComesBack,
            ),
            acting("t30/1002", &["--stable", "1000"], 14_000, Judge::ComesBack),
            acting("t30/frame", &["--stable", "1000"], 14_000, Judge::ComesBack),
        ],
        repeats: 1,
        heavy: false,
    },
    Case {
        id: "T31",
        title: "a ban that says how long",
        world: "The first upgrade is refused with 429, 418 or 403 and `Retry-After: 3`, or (`fraction`) 429 and `Retry-After: 2.5`; from then on the server is healthy",
        rule: "not dialled before that time, dialled afterwards",
        variants: &[
            plain("t31/429", 12_000, Judge::NotBefore(3000.0)),
            plain("t31/418", 12_000, Judge::NotBefore(3000.0)),
            plain("t31/403", 12_000, Judge::NotBefore(3000.0)),
            plain("t31/fraction", 12_000, Judge::NotBefore(2500.0)),
        ],
        repeats: 1,
        heavy: false,
    },
    Case {
        id: "T32",
        title: "two addresses, one bad",
        world: "The name has two addresses. The one that is dialled first accepts TCP, and never answers the request, or answers 503; the other one works",
        rule: "connected to the other",
        variants: &[
            plain("t32/hang", 14_000, Judge::ComesBack),
            plain("t32/503", 14_000, Judge::ComesBack),
        ],
        repeats: 2,
        heavy: false,
    },
];

pub(crate) const STOP_FOR: Duration = STOPPED;

/// The outcome of a trial.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) pass: bool,
    /// Time of death in ms, if that is judged and it happened.
    pub(crate) death: Option<f64>,
    pub(crate) false_deaths: u64,
    pub(crate) connects: u64,
    /// From the end of the first connection to the next accept, in ms.
    pub(crate) recovery: Option<f64>,
    pub(crate) lost: i64,
    pub(crate) duplicates: u64,
    pub(crate) returned: u64,
    /// In a few words.
    pub(crate) what: String,
}

impl Judge {
    pub(crate) fn bound(self) -> Option<f64> {
        match self {
            Self::Death(bound)
            | Self::DeathAfterStop(bound)
            | Self::DeathAfterUpgrade(bound)
            | Self::DialDeath(bound) => Some(bound),
            _ => None,
        }
    }

    pub(crate) fn judge(self, seen: &Seen) -> Outcome {
        let first = seen.connection(0);
        let ended = first.and_then(|first| first["ended"].as_f64());
        let second = seen.connection(1);
        let mut outcome = Outcome {
            connects: seen.connects(),
            returned: seen.summary("returned"),
            recovery: ended
                .zip(second.and_then(|second| second["accepted"].as_f64()))
                .map(|(ended, accepted)| (accepted - ended).max(0.0)),
            ..Outcome::default()
        };
        match self {
            Self::Death(bound) => death(&mut outcome, seen, ended, time(first, "said"), bound),
            Self::DeathAfterStop(bound) => death(&mut outcome, seen, ended, seen.continued, bound),
            Self::DeathAfterUpgrade(bound) => {
                death(&mut outcome, seen, ended, time(first, "upgraded"), bound);
            }
            Self::DialDeath(bound) => {
                death(&mut outcome, seen, ended, time(first, "accepted"), bound);
            }
            Self::Lives => {
                outcome.false_deaths = outcome.connects.saturating_sub(1)
                    + u64::from(outcome.connects == 1 && ended.is_some());
                outcome.pass = outcome.connects == 1 && ended.is_none();
                outcome.what = false_deaths(outcome.false_deaths);
            }
            Self::SecondLives => {
                let open = second.is_some_and(|second| second["ended"].is_null());
                outcome.pass = outcome.connects == 2 && open;
                outcome.what = format!("{} connects", outcome.connects);
            }
            Self::Whole => {
                let whole = first.is_some_and(|first| has_note(first, "whole"));
                outcome.false_deaths = outcome.connects.saturating_sub(1)
                    + u64::from(outcome.connects == 1 && ended.is_some());
                outcome.pass = whole && outcome.connects == 1 && ended.is_none();
                outcome.what = match outcome.false_deaths {
                    0 if !whole => "not whole by the end".into(),
                    deaths => false_deaths(deaths),
                };
            }
            Self::AllInOrder => {
                let messages = seen.summary("messages");
                let disorder = seen.summary("disorder");
                outcome.false_deaths = outcome.connects.saturating_sub(1);
                outcome.lost = 20_001_i64.saturating_sub_unsigned(messages).max(0);
                outcome.pass = outcome.connects == 1 && messages == 20_001 && disorder == 0;
                outcome.what = match outcome.false_deaths {
                    0 if outcome.pass => "all in order".into(),
                    0 => format!("{messages} of 20 001, {disorder} out of order"),
                    deaths => false_deaths(deaths),
                };
            }
            Self::Backoff => {
                let most = seen.span_ms() / LEAST_PAUSE + 1.0;
                outcome.pass = outcome.connects >= 2 && outcome.connects as f64 <= most;
                outcome.what = format!("{} connects", outcome.connects);
            }
            Self::NotBefore(least) => {
                let pause = second.map(|_| time(second, "accepted") - time(first, "accepted"));
                outcome.pass = pause.is_some_and(|pause| pause >= least);
                outcome.what = match pause {
                    Some(pause) => format!("again after {:.1} s", pause / 1000.0),
                    None => "never again".into(),
                };
            }
            Self::GivesUp(most) => {
                outcome.pass = (1..=most).contains(&outcome.connects);
                outcome.what = format!("{} connects", outcome.connects);
            }
            Self::Answers => {
                // The server stores the count when it has everything, or when the connection has ended.
                let notes = first.map(notes).filter(|notes| !notes.is_empty());
                let notes = notes.unwrap_or_else(|| "not all are answered by the end".into());
                outcome.pass = notes.contains("100000 answers, in order");
                outcome.what = format!("{notes}, {} MB", seen.memory_mb());
            }
            Self::Survives => {
                let storm = outcome.connects as f64 > seen.span_ms() / LEAST_PAUSE + 1.0;
                outcome.pass =
                    !seen.panicked && ended.is_some() && seen.memory_mb() < 256 && !storm;
                outcome.what = match () {
                    () if seen.panicked => "panic".into(),
                    () if ended.is_none() => "stays connected".into(),
                    () if storm => format!("{} connects", outcome.connects),
                    () => format!("{} MB", seen.memory_mb()),
                };
            }
            Self::Uploaded => {
                let whole = first.is_some_and(|first| has_note(first, "whole"));
                let once = seen.report["received"] == 1 && seen.report["duplicates"] == 0;
                outcome.false_deaths = outcome.connects.saturating_sub(1)
                    + u64::from(outcome.connects == 1 && ended.is_some());
                outcome.pass = whole && once && outcome.false_deaths == 0;
                outcome.what = match outcome.false_deaths {
                    0 if !whole => "not whole by the end".into(),
                    0 if !once => "not once".into(),
                    deaths => false_deaths(deaths),
                };
            }
            Self::PongsWithin(most) => {
                let note = first.map(notes).unwrap_or_default();
                let number = note
                    .strip_suffix(" ms")
                    .and_then(|note| note.rsplit(' ').next());
                let longest: Option<u64> = number.and_then(|number| number.parse().ok());
                outcome.pass = note.starts_with("whole") && longest.is_some_and(|ms| ms <= most);
                outcome.what = match longest {
                    Some(ms) if note.starts_with("whole") => {
                        format!("pongs within {:.1} s", ms as f64 / 1000.0)
                    }
                    _ => "not whole by the end".into(),
                };
            }
            Self::Back(bound) => {
                let back = second.map(|_| time(second, "accepted") - time(first, "said"));
                outcome.pass = back.is_some_and(|back| back <= bound + SLACK);
                outcome.what = match back {
                    Some(back) => format!("back after {:.1} s", back / 1000.0),
                    None => "not back while nothing is taken".into(),
                };
            }
            Self::ComesBack => {
                let connections = seen.report["connections"].as_array();
                let open = connections.into_iter().flatten().skip(1);
                outcome.pass = open
                    .into_iter()
                    .any(|one| one["upgraded"].is_f64() && one["ended"].is_null());
                outcome.what = match outcome.connects {
                    connects if outcome.pass => format!("{connects} dials"),
                    1 => "never again".into(),
                    connects => format!("not back after {connects} dials"),
                };
            }
            Self::Accounts => {
                let count = |name: &str| seen.afterwards[name].as_u64().unwrap_or_default();
                let (accepted, returned) = (seen.summary("accepted"), seen.summary("returned"));
                let distinct = count("received") - count("duplicates");
                outcome.duplicates = count("duplicates");
                outcome.lost = accepted as i64 - distinct as i64 - returned as i64;
                // Messages that a client still holds when its process ends are not lost, but not accounted for
                // either.
                let finished = accepted + seen.summary("refused") == BURST;
                outcome.pass = finished && outcome.lost == 0 && outcome.duplicates == 0;
                outcome.what = if !finished {
                    "the burst had no end".into()
                } else {
                    format!(
                        "{accepted} accepted, {} lost, {} twice, {returned} returned",
                        outcome.lost, outcome.duplicates
                    )
                };
            }
        }
        if outcome.connects == 0 {
            outcome.pass = false;
            outcome.what = "never dialled".into();
        }
        outcome
    }
}

fn death(outcome: &mut Outcome, seen: &Seen, ended: Option<f64>, from: f64, bound: f64) {
    // With bytes stuck, the server sees an end a little late. A client that dials again has judged before.
    let again = time(seen.connection(1), "accepted");
    let dialled_first = again > from && ended.is_some_and(|ended| again < ended);
    outcome.death = ended.map(|ended| if dialled_first { again } else { ended } - from);
    // That time includes the pause before the dial.
    let bound = bound + if dialled_first { BACKOFF as f64 } else { 0.0 };
    let late = outcome.death.is_none_or(|death| death > bound + SLACK);
    outcome.pass = !late && outcome.connects >= 2;
    outcome.what = match outcome.death {
        None if outcome.connects >= 2 => "comes back, but the dead socket stays open".into(),
        None => format!("not within {:.0} s", (seen.until - from) / 1000.0),
        Some(_) if outcome.connects < 2 => "does not come back".into(),
        Some(_) => String::new(),
    };
}

fn false_deaths(count: u64) -> String {
    match count {
        0 => "lives".into(),
        1 => "1 false death".into(),
        count => format!("{count} false deaths"),
    }
}

fn time(connection: Option<&Value>, name: &str) -> f64 {
    connection
        .and_then(|connection| connection[name].as_f64())
        .unwrap_or_default()
}

fn notes(connection: &Value) -> String {
    let notes = connection["notes"].as_array().into_iter().flatten();
    notes
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join("; ")
}

fn has_note(connection: &Value, note: &str) -> bool {
    notes(connection).contains(note)
}
