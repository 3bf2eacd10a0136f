//! Invariant 20: what each cause of an end means for the next dial, row by row, and how a
//! configuration or a dialect changes it.

use std::time::Duration;

use crate::support::*;
use heartbeat_core::trace::Header;
use heartbeat_core::{
    AbortReason, Cause, CauseKind, Class, Config, ConfigError, Dialect, Failure, GiveUp, Heartbeat,
    Instant, MAX_RETRY_AFTER, Overrides, PermanentErrors, Phase, Reason, Renewal, RetryPolicy,
    Route,
};

const SPREAD: RetryPolicy = RetryPolicy::Spread(secs(5), secs(30));

const fn http(status: u16) -> Cause {
    Cause::Http {
        status,
        retry_after: None,
    }
}

const fn retry_after(status: u16, seconds: u64) -> Cause {
    Cause::Http {
        status,
        retry_after: Some(secs(seconds)),
    }
}

/// The table of DESIGN, and beyond it what stands near to its rows.
fn table() -> Vec<(RetryPolicy, Vec<Cause>)> {
    let closes = |codes: &[u16]| codes.iter().copied().map(Cause::Close).collect::<Vec<_>>();
    let statuses = |codes: &[u16]| codes.iter().copied().map(http).collect::<Vec<_>>();
    vec![
        (
            RetryPolicy::Backoff,
            vec![Cause::Refused, Cause::Reset, Cause::Eof, Cause::Io],
        ),
        (
            RetryPolicy::Backoff,
            closes(&[1000, 1001, 1005, 1006, 1011, 1013, 1014]),
        ),
        (
            RetryPolicy::Backoff,
            statuses(&[408, 425, 500, 502, 503, 504, 599, 429]),
        ),
        // A captive portal, a server that is half started.
        (
            RetryPolicy::Backoff,
            statuses(&[100, 200, 204, 302, 303, 307]),
        ),
        (SPREAD, closes(&[1012])),
        (RetryPolicy::After(secs(7)), vec![retry_after(429, 7)]),
        (RetryPolicy::After(secs(7)), vec![retry_after(503, 7)]),
        // Whatever the status that brings it, also one that gives up without it.
        (
            RetryPolicy::After(secs(7)),
            [
                200, 301, 302, 308, 400, 403, 404, 408, 413, 418, 425, 500, 522, 599, 999,
            ]
            .map(|status| retry_after(status, 7))
            .to_vec(),
        ),
        (RetryPolicy::After(secs(0)), vec![retry_after(403, 0)]),
        (
            RetryPolicy::Never,
            closes(&[1002, 1003, 1007, 1009, 1010, 1015]),
        ),
        (
            RetryPolicy::Never,
            statuses(&[400, 402, 403, 404, 405, 410, 426, 451, 499, 301, 308]),
        ),
        (RetryPolicy::Never, vec![Cause::Tls]),
        (RetryPolicy::Refresh, closes(&[1008, 3000, 4401])),
        (
            RetryPolicy::Refresh,
            vec![
                http(401),
                http(407),
                retry_after(401, 7),
                retry_after(407, 7),
            ],
        ),
        // A service's own codes, and those that have no meaning.
        (
            RetryPolicy::Backoff,
            closes(&[
                4000,
                4001,
                4400,
                4402,
                4999,
                3001,
                3999,
                5000,
                0,
                999,
                u16::MAX,
            ]),
        ),
    ]
}

#[test]
fn each_row_of_the_table_of_causes_holds() {
    let config = Config::default();
    for (verdict, causes) in table() {
        for cause in causes {
            assert_eq!(cause.default_verdict(), verdict, "{cause:?}");
            assert_eq!(config.verdict(cause), verdict, "{cause:?}");
        }
    }
}

/// What the machine does is what the table says, while it dials and while it is open.
#[test]
fn the_machine_acts_on_each_row_of_the_table() {
    for (verdict, causes) in table() {
        for cause in causes {
            for open in [false, true] {
                let mut rig = Rig::new(Config::default());
                rig.step(0, TICK);
                if open {
                    rig.step(0, connected(1));
                }
                let dids = rig.step(S, closed(1, cause));
                let [did] = &dids[..] else {
                    panic!("{cause:?}: {dids:?}");
                };
                // A bad record on an open connection is corruption.
                let verdict = match cause {
                    Cause::Tls if open => RetryPolicy::Backoff,
                    _ => verdict,
                };
                let (least, most, afresh) = match verdict {
                    RetryPolicy::Never => {
                        assert_eq!(*did, Did::GaveUp(GiveUp::Cause(cause)));
                        assert_eq!((rig.phase(), rig.wake()), (Phase::Stopped, None));
                        continue;
                    }
                    RetryPolicy::Backoff => (S, 2 * S, false),
                    RetryPolicy::Refresh if cause.retry_after().is_some() => (7 * S, 8 * S, true),
                    RetryPolicy::Refresh => (S, 2 * S, true),
                    RetryPolicy::After(Duration::ZERO) => (S, 2 * S, false),
                    RetryPolicy::After(_) => (7 * S, 8 * S, false),
                    RetryPolicy::Spread(..) => (5 * S, 30 * S, false),
                    other => panic!("{other:?}"),
                };
                let delay = delay_of(&dids);
                assert!((least..=most).contains(&delay), "{cause:?}: {dids:?}");
                let dial = if afresh {
                    Did::ConnectAfresh(2, 1)
                } else {
                    Did::Connect(2, 1)
                };
                assert_eq!(rig.step(S + delay, TICK), [dial], "{cause:?}");
            }
        }
    }
}

#[test]
fn every_row_can_be_overridden() {
    let signals = [
        (CauseKind::Refused, Cause::Refused),
        (CauseKind::Reset, Cause::Reset),
        (CauseKind::Eof, Cause::Eof),
        (CauseKind::Tls, Cause::Tls),
        (CauseKind::Io, Cause::Io),
        (CauseKind::Close(1000), Cause::Close(1000)),
        (CauseKind::Close(1012), Cause::Close(1012)),
        (CauseKind::Close(4001), Cause::Close(4001)),
        (CauseKind::Http(401), http(401)),
        (CauseKind::Http(429), retry_after(429, 7)),
    ];
    let verdicts = [
        RetryPolicy::Backoff,
        RetryPolicy::After(secs(99)),
        RetryPolicy::Spread(secs(70), secs(80)),
        RetryPolicy::Refresh,
        RetryPolicy::RetryAfter { or: secs(99) },
        RetryPolicy::Never,
    ];
    for (signal, cause) in signals {
        for verdict in verdicts {
            let config = Config::builder().on(signal, verdict).build().unwrap();
            assert_eq!(config.verdict(cause), verdict);
            let mut rig = Rig::open_at(config, 0);
            let dids = rig.step(0, closed(1, cause));
            match verdict {
                RetryPolicy::Never => assert_eq!(dids, [Did::GaveUp(GiveUp::Cause(cause))]),
                RetryPolicy::Backoff => assert!((S..=2 * S).contains(&delay_of(&dids))),
                RetryPolicy::After(_) => assert!((99 * S..=100 * S).contains(&delay_of(&dids))),
                RetryPolicy::Spread(..) => assert!((70 * S..=80 * S).contains(&delay_of(&dids))),
                RetryPolicy::Refresh => {
                    let at = delay_of(&dids);
                    assert_eq!(rig.step(at, TICK), [Did::ConnectAfresh(2, 1)]);
                }
                RetryPolicy::RetryAfter { .. } => {
                    let least = if cause == retry_after(429, 7) { 7 } else { 99 };
                    let range = least * S..=(least + 1) * S;
                    assert!(range.contains(&delay_of(&dids)));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn an_override_is_for_its_own_row_alone() {
    let config = Config::builder()
        .on(CauseKind::Close(1000), RetryPolicy::Never)
        .on(CauseKind::Http(403), RetryPolicy::Backoff)
        .build()
        .unwrap();
    assert_eq!(config.verdict(Cause::Close(1001)), RetryPolicy::Backoff);
    assert_eq!(config.verdict(http(1000)), RetryPolicy::Backoff);
    assert_eq!(config.verdict(http(404)), RetryPolicy::Never);
    assert_eq!(config.verdict(Cause::Close(403)), RetryPolicy::Backoff);
}

#[test]
fn the_last_override_of_a_row_counts_and_too_many_are_refused() {
    let builder = Config::builder()
        .on(CauseKind::Eof, RetryPolicy::Never)
        .on(CauseKind::Eof, RetryPolicy::Refresh);
    let config = builder.clone().build().unwrap();
    assert_eq!(config.verdict(Cause::Eof), RetryPolicy::Refresh);
    assert_eq!(config.overrides().iter().count(), 1);

    let full = (1..Overrides::MAX as u16).fold(builder, |builder, code| {
        builder.on(CauseKind::Close(4000 + code), RetryPolicy::Never)
    });
    let full = full.on(CauseKind::Eof, RetryPolicy::Never);
    assert!(full.clone().build().is_ok());
    let over = full.on(CauseKind::Io, RetryPolicy::Never).build();
    assert_eq!(over, Err(ConfigError::TooManyOverrides));
}

// ---- a dialect's own codes ---------------------------------------------------------------------

/// A service whose close code 4100 means: never come back.
struct Service;

impl Dialect for Service {
    fn classify_text<'a>(&self, _: &'a str) -> Class<'a> {
        Class::Data
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
        Class::Data
    }

    fn close_policy(&self, code: u16) -> Option<RetryPolicy> {
        (code == 4100 || code == 1000).then_some(RetryPolicy::Never)
    }
}

fn close_of_a_service(config: Config, code: u16) -> Vec<Did> {
    let mut machine = Heartbeat::new(config, Service, 7, Instant::ORIGIN);
    let _ = machine.step(Instant::ORIGIN, TICK);
    let _ = machine.step(Instant::ORIGIN, connected(1));
    did(&machine.step(Instant::ORIGIN, closed(1, Cause::Close(code))))
}

#[test]
fn a_dialect_decides_its_own_codes_and_a_configuration_outranks_it() {
    for code in [4100, 1000] {
        assert_eq!(
            close_of_a_service(Config::default(), code),
            [Did::GaveUp(GiveUp::Cause(Cause::Close(code)))]
        );
        let config = Config::builder().on(CauseKind::Close(code), RetryPolicy::Backoff);
        let dids = close_of_a_service(config.build().unwrap(), code);
        assert!((S..=2 * S).contains(&delay_of(&dids)));
    }
    assert!(matches!(
        close_of_a_service(Config::default(), 4101)[..],
        [Did::Reconnect { .. }]
    ));
}

// ---- Retry-After -------------------------------------------------------------------------------

/// The delay after one loss by `cause`, for many seeds.
fn delays(config: &Config, cause: Cause) -> Vec<u64> {
    (0..2000)
        .map(|seed| {
            let mut header = Header::default();
            header.config = config.clone();
            header.seed = seed;
            let mut machine = header.heartbeat();
            let _ = machine.step(Instant::ORIGIN, TICK);
            let step = machine.step(Instant::ORIGIN, closed(1, cause));
            delay_of(&did(&step))
        })
        .collect()
}

/// All lie in the range, and they come near to both of its ends.
#[track_caller]
fn assert_fill(delays: &[u64], least: u64, most: u64) {
    let (min, max) = (*delays.iter().min().unwrap(), *delays.iter().max().unwrap());
    assert!(
        min >= least && max <= most,
        "{min}..={max}, not in {least}..={most}"
    );
    let margin = (most - least) / 50;
    assert!(
        min <= least + margin && max >= most - margin,
        "{min}..={max}"
    );
}

#[test]
fn retry_after_is_a_floor_and_jitter_comes_on_top() {
    // The backoff alone: 1 s to 2 s, so that its jitter is 1 s.
    let config = Config::default();
    assert_fill(&delays(&config, retry_after(429, 0)), S, 2 * S);
    assert_fill(&delays(&config, retry_after(429, 1)), S, 2 * S);
    assert_fill(&delays(&config, retry_after(503, 7)), 7 * S, 8 * S);
    // The cap of the backoff is none for the server's wish.
    assert_fill(&delays(&config, retry_after(503, 3600)), 3600 * S, 3601 * S);
    // Within the range of the backoff it only cuts off the lower end, and adds what it cuts.
    let long = Config::builder()
        .backoff(secs(40), secs(60), 50)
        .build()
        .unwrap();
    assert_fill(&delays(&long, retry_after(503, 20)), 20 * S, 40 * S);
    assert_fill(&delays(&long, retry_after(503, 30)), 30 * S, 50 * S);
}

#[test]
fn retry_after_is_cut_to_a_day() {
    let day = nanos(MAX_RETRY_AFTER);
    assert_eq!(day, 86_400 * S);
    for status in [401, 403, 407, 503] {
        for after in [MAX_RETRY_AFTER, secs(86_401), Duration::MAX] {
            let cause = Cause::Http {
                status,
                retry_after: Some(after),
            };
            assert_fill(&delays(&Config::default(), cause), day, day + S);
        }
    }
}

#[test]
fn fresh_credentials_are_not_tried_before_the_servers_time() {
    let config = Config::default();
    for status in [401, 407] {
        assert_fill(&delays(&config, retry_after(status, 7)), 7 * S, 8 * S);
        assert_fill(&delays(&config, http(status)), S, 2 * S);
        // A kick hastens the backoff, and not the server's time.
        let mut rig = Rig::open_at(config.clone(), 0);
        rig.step(0, closed(1, retry_after(status, 7)));
        assert_eq!(rig.step(7 * S - 1, KICK), []);
        assert_eq!(rig.step(7 * S, KICK), [Did::ConnectAfresh(2, 1)]);
    }
}

#[test]
fn an_override_can_leave_it_to_the_server_and_says_what_follows_where_it_says_nothing() {
    let config = |or| {
        let verdict = RetryPolicy::RetryAfter { or };
        let builder = Config::builder()
            .on(CauseKind::Http(418), verdict)
            .on(CauseKind::Session, verdict);
        builder.build().unwrap()
    };
    let (backoff, two_minutes) = (config(secs(0)), config(secs(120)));
    assert_fill(&delays(&backoff, http(418)), S, 2 * S);
    assert_fill(&delays(&two_minutes, http(418)), 120 * S, 121 * S);
    for config in [&backoff, &two_minutes] {
        assert_fill(&delays(config, retry_after(418, 7)), 7 * S, 8 * S);
        let application = Cause::Session(Failure::RetryAfter(secs(9)));
        assert_fill(&delays(config, application), 9 * S, 10 * S);
    }
    let day = nanos(MAX_RETRY_AFTER);
    assert_fill(&delays(&config(Duration::MAX), http(418)), day, day + S);
    // An override of another kind replaces the row with the server's time in it.
    let plain = Config::builder().on(CauseKind::Http(418), RetryPolicy::Backoff);
    assert_fill(
        &delays(&plain.build().unwrap(), retry_after(418, 7)),
        S,
        2 * S,
    );
}

#[test]
fn a_kick_hastens_a_backoff_but_not_a_retry_after() {
    let config = Config::builder()
        .backoff(secs(40), secs(60), 50)
        .build()
        .unwrap();
    // Not before the floor that is under all dials.
    let mut rig = Rig::open_at(config.clone(), 0);
    rig.step(0, closed(1, Cause::Reset));
    assert_eq!(rig.step(25 * MS - 1, KICK), []);
    assert_eq!(rig.wake(), Some(25 * MS));
    assert_eq!(rig.step(25 * MS, TICK), [Did::Connect(2, 1)]);

    let mut rig = Rig::open_at(config.clone(), 0);
    rig.step(0, closed(1, Cause::Reset));
    assert_eq!(rig.step(3 * S, KICK), [Did::Connect(2, 1)]);

    let mut rig = Rig::open_at(config, 0);
    rig.step(0, closed(1, retry_after(429, 7)));
    assert_eq!(rig.step(3 * S, KICK), []);
    assert_eq!(rig.wake(), Some(7 * S));
    assert_eq!(rig.step(7 * S, KICK), [Did::Connect(2, 1)]);
}

// ---- 1012 --------------------------------------------------------------------------------------

#[test]
fn a_restart_spreads_the_clients_over_5_to_30_seconds() {
    let delays_ = delays(&Config::default(), Cause::Close(1012));
    assert_fill(&delays_, 5 * S, 30 * S);
    // Evenly: each of 5 parts has its fifth.
    for part in 0..5 {
        let from = (5 + 5 * part) * S;
        let count = delays_
            .iter()
            .filter(|delay| (from..from + 5 * S).contains(delay))
            .count();
        assert!((340..=460).contains(&count), "part {part}: {count}");
    }
}

#[test]
fn a_restart_is_spread_whatever_the_cap_and_the_backoff_may_be_longer() {
    let short = Config::builder()
        .backoff(millis(50), millis(50), 50)
        .build()
        .unwrap();
    assert_fill(&delays(&short, Cause::Close(1012)), 5 * S, 30 * S);
    let long = Config::builder()
        .backoff(secs(60), secs(60), 50)
        .build()
        .unwrap();
    assert_fill(&delays(&long, Cause::Close(1012)), 30 * S, 60 * S);
}

#[test]
fn a_kick_does_not_undo_the_spread() {
    let mut rig = Rig::open_at(Config::default(), 0);
    let delay = delay_of(&rig.step(0, closed(1, Cause::Close(1012))));
    assert_eq!(rig.step(5 * S - 1, KICK), []);
    // What was drawn stays: a network that comes back for all must not bring all back at once.
    assert_eq!(rig.wake(), Some(delay));
}

// ---- credentials -------------------------------------------------------------------------------

#[test]
fn credentials_are_refreshed_once_and_then_given_up() {
    for (first, second) in [
        (http(401), http(401)),
        (Cause::Close(1008), http(401)),
        (http(401), Cause::Close(4401)),
        (Cause::Close(3000), Cause::Close(3000)),
    ] {
        let mut rig = Rig::new(Config::default());
        rig.step(0, TICK);
        let at = delay_of(&rig.step(0, closed(1, first)));
        assert_eq!(rig.step(at, TICK), [Did::ConnectAfresh(2, 1)]);
        assert_eq!(
            rig.step(at, closed(2, second)),
            [Did::GaveUp(GiveUp::Credentials(second))]
        );
        assert_eq!((rig.phase(), rig.wake()), (Phase::Stopped, None));
    }
}

/// A dial that fails for another reason in between proves nothing about the credentials: no server has judged
/// the fresh ones, so that the next dial is told to bring some, too.
#[test]
fn a_failure_between_two_refusals_does_not_start_the_count_anew() {
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    let mut now = delay_of(&rig.step(0, closed(1, http(401))));
    assert_eq!(rig.step(now, TICK), [Did::ConnectAfresh(2, 1)]);
    now += delay_of(&rig.step(now, closed(2, Cause::Refused)));
    assert_eq!(rig.step(now, TICK), [Did::ConnectAfresh(3, 2)]);
    assert_eq!(
        rig.step(now, closed(3, http(401))),
        [Did::GaveUp(GiveUp::Credentials(http(401)))]
    );
}

#[test]
fn a_stable_connection_earns_a_new_refresh() {
    for (open_for, stable) in [(30 * S, true), (30 * S - 1, false)] {
        let mut rig = Rig::new(Config::default());
        rig.step(0, TICK);
        rig.step(0, closed(1, Cause::Close(4401)));
        let now = rig.reconnect();
        let dids = rig.step(now + open_for, closed(2, Cause::Close(1008)));
        if stable {
            let at = now + open_for + delay_of(&dids);
            assert_eq!(rig.step(at, TICK), [Did::ConnectAfresh(3, 1)]);
        } else {
            let reason = GiveUp::Credentials(Cause::Close(1008));
            assert_eq!(dids, [Did::GaveUp(reason)]);
        }
    }
}

#[test]
fn a_kick_does_not_lose_the_call_for_fresh_credentials() {
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    rig.step(0, closed(1, http(401)));
    assert_eq!(rig.step(S / 2, KICK), [Did::ConnectAfresh(2, 1)]);
}

/// An accepted dial ends the row: what is refused later was not what had been fresh.
#[test]
fn an_upgrade_accepts_what_http_had_refused_but_not_what_the_service_had() {
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    rig.step(0, closed(1, http(401)));
    let now = rig.reconnect();
    // The next token is wanted a moment later.
    let dids = rig.step(now + S, closed(2, Cause::Eof));
    let now = now + S + delay_of(&dids);
    assert_eq!(rig.step(now, TICK), [Did::Connect(3, 2)]);
    let now = now + delay_of(&rig.step(now, closed(3, http(401))));
    assert_eq!(rig.step(now, TICK), [Did::ConnectAfresh(4, 3)]);

    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    rig.step(0, closed(1, Cause::Close(4401)));
    let now = rig.reconnect();
    rig.step(now + S, closed(2, Cause::Eof));
    let now = rig.wake().unwrap();
    // Nobody has judged the fresh ones yet.
    assert!(matches!(
        rig.step(now, TICK)[..],
        [Did::ConnectAfresh(3, 2)]
    ));
}

#[test]
fn a_session_that_is_ready_accepts_what_the_service_had_refused() {
    let config = Config::builder().session_timeout(secs(15)).build().unwrap();
    let mut rig = Rig::new(config);
    rig.step(0, TICK);
    rig.step(0, connected(1));
    rig.step(0, closed(1, Cause::Close(4401)));
    let now = rig.reconnect();
    rig.step(now, ready(2));
    let dids = rig.step(now + S, closed(2, Cause::Close(4401)));
    let at = now + S + delay_of(&dids);
    assert_eq!(rig.step(at, TICK), [Did::ConnectAfresh(3, 2)]);
}

/// A proxy's refusal and the server's beyond it are about two passwords.
#[test]
fn a_proxy_and_the_server_beyond_it_are_each_answered_once() {
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    let mut now = delay_of(&rig.step(0, closed(1, http(407))));
    assert_eq!(rig.step(now, TICK), [Did::ConnectAfresh(2, 1)]);
    now += delay_of(&rig.step(now, closed(2, http(401))));
    assert_eq!(rig.step(now, TICK), [Did::ConnectAfresh(3, 2)]);
    assert_eq!(
        rig.step(now, closed(3, http(401))),
        [Did::GaveUp(GiveUp::Credentials(http(401)))]
    );
}

#[test]
fn where_nothing_can_be_refreshed_1008_is_backoff_and_401_gives_up_at_the_second() {
    let config = || Config::builder().fixed_credentials(true).build().unwrap();
    let mut rig = Rig::new(config());
    for conn in 1..20 {
        rig.step(rig.wake().unwrap(), TICK);
        let now = rig.machine.wake().unwrap().as_nanos() - 10 * S;
        rig.step(now, connected(conn));
        let dids = rig.step(now + S, closed(conn, Cause::Close(1008)));
        assert!(matches!(dids[..], [Did::Reconnect { .. }]), "{dids:?}");
    }
    let mut rig = Rig::new(config());
    rig.step(0, TICK);
    let now = delay_of(&rig.step(0, closed(1, http(401))));
    rig.step(now, TICK);
    assert_eq!(
        rig.step(now, closed(2, http(401))),
        [Did::GaveUp(GiveUp::Credentials(http(401)))]
    );
}

// ---- whoever was once well ----------------------------------------------------------------------

const HOPELESS: [Cause; 10] = [
    Cause::Tls,
    Cause::Close(1002),
    Cause::Close(1003),
    Cause::Close(1007),
    Cause::Close(1009),
    Cause::Close(1010),
    Cause::Protocol(1009),
    http(301),
    http(308),
    http(404),
];

/// A machine whose first connection was stable and has just been lost, and whose next dial has begun.
fn once_well(config: Config) -> (Rig, u64) {
    let mut rig = Rig::open_at(config, 0);
    rig.step(30 * S, data(1));
    let now = 30 * S + delay_of(&rig.step(30 * S, closed(1, Cause::Eof)));
    rig.step(now, TICK);
    (rig, now)
}

fn policy(policy: PermanentErrors) -> Config {
    let config = Config::builder().permanent_errors(policy);
    config.build().unwrap()
}

#[test]
fn whoever_was_once_well_is_waited_for_with_growing_delays() {
    for cause in HOPELESS {
        let (mut rig, mut now) = once_well(Config::default());
        for (attempt, longest) in [(2, 4), (3, 8), (4, 16), (5, 32), (6, 60)] {
            let conn = rig.conn();
            let dids = rig.step(now, closed(conn, cause));
            let [
                Did::Reconnect {
                    attempt: told,
                    delay,
                    ..
                },
            ] = dids[..]
            else {
                panic!("{cause}: {dids:?}");
            };
            assert_eq!(told, attempt);
            assert!(delay >= longest * S / 2 && delay <= longest * S, "{dids:?}");
            now += delay;
            rig.step(now, TICK);
        }
        assert_eq!(rig.machine.stats().tolerated, 5);
    }
}

#[test]
fn whoever_was_never_well_is_given_up_at_once() {
    for cause in HOPELESS {
        let mut rig = Rig::new(Config::default());
        rig.step(0, TICK);
        let reason = GiveUp::Cause(cause);
        assert_eq!(rig.step(0, closed(1, cause)), [Did::GaveUp(reason)]);
    }
    // A connection that was open, and not for long enough, proves nothing.
    let mut rig = Rig::open_at(Config::default(), 0);
    rig.step(29 * S, data(1));
    let now = 29 * S + delay_of(&rig.step(29 * S, closed(1, Cause::Eof)));
    rig.step(now, TICK);
    let reason = GiveUp::Cause(http(404));
    assert_eq!(rig.step(now, closed(2, http(404))), [Did::GaveUp(reason)]);
}

#[test]
fn the_setting_says_otherwise_both_ways() {
    for cause in HOPELESS {
        let (mut rig, now) = once_well(policy(PermanentErrors::GiveUp));
        let reason = GiveUp::Cause(cause);
        assert_eq!(rig.step(now, closed(2, cause)), [Did::GaveUp(reason)]);

        let mut rig = Rig::new(policy(PermanentErrors::Retry));
        rig.step(0, TICK);
        delay_of(&rig.step(0, closed(1, cause)));
    }
}

#[test]
fn what_the_configuration_or_the_application_insists_on_is_believed_of_everyone() {
    let insists = Config::builder()
        .permanent_errors(PermanentErrors::Retry)
        .on(CauseKind::Http(404), RetryPolicy::Never);
    let (mut rig, now) = once_well(insists.build().unwrap());
    let reason = GiveUp::Cause(http(404));
    assert_eq!(rig.step(now, closed(2, http(404))), [Did::GaveUp(reason)]);

    let (mut rig, now) = once_well(policy(PermanentErrors::Retry));
    rig.step(now, connected(2));
    let refused = Cause::Session(Failure::GiveUp);
    let reason = GiveUp::Cause(refused);
    assert_eq!(rig.step(now, closed(2, refused)), [Did::GaveUp(reason)]);
}

#[test]
fn corruption_of_an_open_connection_is_backoff_whoever_it_is() {
    for cause in [Cause::Tls, Cause::Protocol(1002), Cause::Protocol(1007)] {
        for policy in [PermanentErrors::GiveUp, PermanentErrors::GiveUpUnlessStable] {
            let config = Config::builder().permanent_errors(policy).build().unwrap();
            let mut rig = Rig::open_at(config, 0);
            delay_of(&rig.step(0, closed(1, cause)));
        }
    }
}

/// Fresh credentials that are refused would be refused again, however well it went before.
#[test]
fn fresh_credentials_that_were_refused_end_also_whoever_was_well() {
    let (mut rig, now) = once_well(Config::default());
    let at = now + delay_of(&rig.step(now, closed(2, http(401))));
    assert_eq!(rig.step(at, TICK), [Did::ConnectAfresh(3, 2)]);
    let reason = GiveUp::Credentials(http(401));
    assert_eq!(rig.step(at, closed(3, http(401))), [Did::GaveUp(reason)]);
    // Where there are none to be had, it is whoever checks them that is not well.
    let fixed = Config::builder().fixed_credentials(true).build().unwrap();
    let (mut rig, mut now) = once_well(fixed);
    for conn in 2..9 {
        now += delay_of(&rig.step(now, closed(conn, http(401))));
        rig.step(now, TICK);
    }
}

/// `Retry` never gives up: each further dial is asked to bring fresh credentials.
#[test]
fn a_client_that_always_retries_asks_for_fresh_credentials_again_and_again() {
    for cause in [http(401), http(407), Cause::Close(4401)] {
        let mut rig = Rig::new(policy(PermanentErrors::Retry));
        rig.step(0, TICK);
        let mut now = 0;
        for conn in 1..9 {
            if matches!(cause, Cause::Close(_)) {
                rig.step(now, connected(conn));
            }
            now += delay_of(&rig.step(now, closed(conn, cause)));
            let attempt = conn as u32;
            assert_eq!(rig.step(now, TICK), [Did::ConnectAfresh(conn + 1, attempt)]);
        }
    }
}

// ---- several endpoints and addresses ------------------------------------------------------------

const fn of_two(endpoint: u8) -> Route {
    Route {
        endpoint,
        endpoints: 2,
        more_addresses: false,
    }
}

#[test]
fn a_client_gives_up_when_all_its_endpoints_are_hopeless_and_not_before() {
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    rig.step(0, routed(1, of_two(0)));
    let now = delay_of(&rig.step(0, closed(1, http(404))));
    assert!(rig.machine.is_hopeless(0) && !rig.machine.is_hopeless(1));
    rig.step(now, TICK);
    rig.step(now, routed(2, of_two(1)));
    let reason = GiveUp::Cause(Cause::Tls);
    assert_eq!(rig.step(now, closed(2, Cause::Tls)), [Did::GaveUp(reason)]);
}

#[test]
fn each_endpoint_has_its_own_record() {
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    rig.step(0, routed(1, of_two(0)));
    rig.step(0, connected(1));
    rig.step(30 * S, data(1));
    let now = 30 * S + delay_of(&rig.step(30 * S, closed(1, Cause::Eof)));
    // The other one was never well: it is given up, the first is not.
    rig.step(now, TICK);
    rig.step(now, routed(2, of_two(1)));
    let mut now = now + delay_of(&rig.step(now, closed(2, http(404))));
    assert!(rig.machine.is_hopeless(1));
    for conn in 3..9 {
        rig.step(now, TICK);
        rig.step(now, routed(conn, of_two(0)));
        now += delay_of(&rig.step(now, closed(conn, http(404))));
    }
}

#[test]
fn an_address_that_is_hopeless_is_no_reason_while_others_were_not_tried() {
    let route = |more_addresses| Route {
        more_addresses,
        ..Route::ONLY
    };
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    rig.step(0, routed(1, route(true)));
    let now = delay_of(&rig.step(0, closed(1, Cause::Tls)));
    rig.step(now, TICK);
    rig.step(now, routed(2, route(false)));
    let reason = GiveUp::Cause(Cause::Tls);
    assert_eq!(rig.step(now, closed(2, Cause::Tls)), [Did::GaveUp(reason)]);
}

// ---- giving up ---------------------------------------------------------------------------------

#[test]
fn what_cannot_be_mended_outranks_the_number_of_attempts() {
    let config = Config::builder().max_attempts(2).build().unwrap();
    let mut rig = Rig::new(config);
    rig.step(0, TICK);
    let now = delay_of(&rig.step(0, closed(1, Cause::Refused)));
    rig.step(now, TICK);
    assert_eq!(
        rig.step(now, closed(2, Cause::Tls)),
        [Did::GaveUp(GiveUp::Cause(Cause::Tls))]
    );
}

/// A verdict of our own is always worth another dial, whatever rows were overridden.
#[test]
fn a_local_verdict_never_gives_up_by_itself() {
    let signals = [
        CauseKind::Refused,
        CauseKind::Reset,
        CauseKind::Eof,
        CauseKind::Tls,
        CauseKind::Io,
    ];
    let never = signals
        .iter()
        .fold(Config::builder(), |builder, signal| {
            builder.on(*signal, RetryPolicy::Never)
        })
        .build()
        .unwrap();
    let mut rig = Rig::open_at(never, 0);
    assert_eq!(rig.run_to_abort(), (90 * S, AbortReason::IdleTimeout));
    assert_eq!(rig.phase(), Phase::Waiting);
}

#[test]
fn a_close_that_was_asked_for_is_the_end_whatever_its_code() {
    for cause in [
        Cause::Close(1000),
        Cause::Close(1012),
        Cause::Close(1008),
        Cause::Eof,
        Cause::Tls,
    ] {
        let mut rig = Rig::open_at(Config::default(), 0);
        rig.step(0, STOP);
        assert_eq!(rig.step_whole(S, closed(1, cause)), (vec![], false));
        assert_eq!((rig.phase(), rig.wake()), (Phase::Stopped, None));
    }
}

/// For logs: a person reads these.
#[test]
fn causes_and_reasons_to_give_up_are_told_in_words() {
    let words = |cause: Cause| cause.to_string();
    assert_eq!(words(Cause::Reset), "reset");
    assert_eq!(words(Cause::Close(1012)), "close 1012");
    assert_eq!(words(http(403)), "http 403");
    assert_eq!(words(retry_after(429, 7)), "http 429, retry after 7 s");
    let after = |retry_after| Cause::Http {
        status: 503,
        retry_after: Some(retry_after),
    };
    assert_eq!(
        words(after(Duration::from_millis(6_001))),
        "http 503, retry after 7 s"
    );
    assert_eq!(
        words(after(Duration::MAX)),
        "http 503, retry after 18446744073709551616 s"
    );
    assert_eq!(words(Cause::Session(Failure::Refresh)), "session refused");
    for (last, words) in [
        (Reason::Cause(http(503)), "http 503"),
        (
            Reason::Aborted(AbortReason::ConnectTimeout),
            "connect_timeout",
        ),
        (Reason::Renewal(Renewal::Announced), "renewal (announced)"),
    ] {
        assert_eq!(
            GiveUp::MaxAttempts(last).to_string(),
            format!("max_attempts reached, the last attempt ended with {words}")
        );
    }
    assert_eq!(GiveUp::Cause(http(403)).to_string(), "http 403");
    assert_eq!(
        GiveUp::Credentials(http(401)).to_string(),
        "credentials refused twice, the last time by http 401"
    );
}
