//! The invariants of DESIGN, each as tests that fail if it is broken. Numbers as there; times exact
//! to the nanosecond. Random traces over random configurations are held to the same rules by
//! `reference.rs`, all short traces by `small_world.rs`.

use crate::support::*;
use heartbeat_core::{
    AbortReason, Action, Actions, Cause, Config, ConfigBuilder, DIAL_FLOOR, GiveUp, Instant, Phase,
    Ping, Reason,
};

const GRACE: u64 = S;

// ---- 1: wake lies in the future ----------------------------------------------------------------

/// Ticks far too late, each a full hour after the last: everything is due at once, all the time.
#[test]
fn wake_is_later_than_now_after_every_step_however_late() {
    let config = Config::builder()
        .keepalive(secs(7))
        .data_timeout(secs(50))
        .ping(Ping::Every(secs(20)))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    for hour in 1..200 {
        let now = hour * 3600 * S;
        rig.step(now, TICK);
        let wake = rig.wake().expect("an endless life");
        assert!(wake > now, "{}", rig.trace);
    }
}

#[test]
fn wake_is_later_than_the_clamped_now_when_time_runs_backwards() {
    let mut rig = Rig::open_at(Config::default(), 100 * S);
    rig.step(130 * S, TICK);
    rig.step(3 * S, data(1));
    assert_eq!(rig.wake(), Some(160 * S));
}

// ---- 2: wake is exact --------------------------------------------------------------------------

#[test]
fn each_timer_acts_at_wake_and_not_a_nanosecond_before() {
    let builders = [
        quiet().check_interval(secs(30)),
        quiet().ping(Ping::AfterSilence(secs(30))),
        quiet().ping(Ping::Every(secs(30))),
        quiet().keepalive(secs(30)),
        quiet().data_timeout(secs(30)),
        quiet().idle_timeout(secs(30)),
    ];
    for builder in builders {
        let mut rig = Rig::open_at(builder.build().unwrap(), 5 * S);
        assert_eq!(rig.wake(), Some(35 * S), "{}", rig.trace);
        assert_eq!(rig.step(35 * S - 1, TICK), [], "{}", rig.trace);
        assert_eq!(rig.wake(), Some(35 * S), "{}", rig.trace);
        assert_ne!(rig.step(35 * S, TICK), [], "{}", rig.trace);
    }
}

#[test]
fn a_dial_comes_at_wake_and_not_a_nanosecond_before() {
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    let delay = delay_of(&rig.step(0, closed(1, Cause::Refused)));
    assert_eq!(rig.wake(), Some(delay));
    assert_eq!(rig.step(delay - 1, TICK), []);
    assert_eq!(rig.step(delay, TICK), [Did::Connect(2, 1)]);
}

// ---- 3: the idle timeout -----------------------------------------------------------------------

#[test]
fn the_idle_verdict_falls_exactly_at_its_time_and_once() {
    let mut rig = Rig::open_at(quiet().idle_timeout(secs(90)).build().unwrap(), 0);
    rig.step(7 * S + 1, data(1));
    assert_eq!(rig.step(97 * S, TICK), []);
    let dids = rig.step(97 * S + 1, TICK);
    assert_eq!(dids[0], Did::Abort(1, AbortReason::IdleTimeout));
    assert!(
        matches!(dids[1], Did::Reconnect { attempt: 1, .. }),
        "{dids:?}"
    );
    assert_eq!(rig.step(97 * S + 1, TICK), []);
    assert_eq!(rig.machine.stats().aborts.idle_timeout, 1);
}

/// The service that this library began from: interval 30 s, threshold 90 s, retry in 2 s.
#[test]
fn the_defaults_declare_a_dead_peer_dead_at_90_seconds_for_silence() {
    let mut rig = Rig::open_at(Config::default(), 0);
    assert_eq!(
        rig.run(90 * S - 1),
        [
            (30 * S, Did::Check(1, 30 * S)),
            (30 * S, Did::Ping(1, 0)),
            (60 * S, Did::Check(1, 60 * S)),
        ]
    );
    let dids = rig.step(90 * S, TICK);
    assert_eq!(dids[0], Did::Abort(1, AbortReason::IdleTimeout));
    assert!((S..=2 * S).contains(&delay_of(&dids)), "{dids:?}");
}

/// Every event that means bytes from the peer is life; every other one is not.
#[test]
fn any_byte_is_life_and_nothing_else_is() {
    let config = || quiet().idle_timeout(secs(90)).build().unwrap();
    let bytes = [
        data(1),
        ping(1, b"x"),
        pong(1, b"not asked for"),
        text(1, JSON_PING),
        text(1, "half a word"),
        progress(1),
    ];
    for event in bytes {
        let mut rig = Rig::open_at(config(), 0);
        rig.step(40 * S, event);
        assert_eq!(rig.run_to_abort(), (130 * S, AbortReason::IdleTimeout));
    }
    let other = [
        TICK,
        connected(1),
        connected(2),
        data(2),
        progress(0),
        write_blocked(1),
        wrote(1),
        read_resumed(1),
        closed(2, Cause::Eof),
    ];
    for event in other {
        let mut rig = Rig::open_at(config(), 0);
        rig.step(40 * S, event);
        assert_eq!(rig.run_to_abort(), (90 * S, AbortReason::IdleTimeout));
    }
}

#[test]
fn the_upgrade_is_the_first_byte_heard() {
    let mut rig = Rig::new(quiet().idle_timeout(secs(90)).build().unwrap());
    rig.step(0, TICK);
    rig.step(3 * S, connected(1));
    assert_eq!(rig.run_to_abort(), (93 * S, AbortReason::IdleTimeout));
}

// ---- 4: the pong timeout -----------------------------------------------------------------------

fn probing() -> heartbeat_core::ConfigBuilder {
    quiet()
        .ping(Ping::AfterSilence(secs(30)))
        .pong_timeout(secs(10))
}

#[test]
fn an_unanswered_probe_is_a_verdict_exactly_at_its_time() {
    let mut rig = Rig::open_at(probing().build().unwrap(), 0);
    assert_eq!(rig.run(40 * S - 1), [(30 * S, Did::Ping(1, 0))]);
    assert_eq!(
        rig.step(40 * S, TICK)[0],
        Did::Abort(1, AbortReason::PongTimeout)
    );
}

/// The first unanswered probe counts, not the latest: more pings do not buy more time.
/// RFC 6298 §2 by hand: 80 ms give 80 + 4·40; then 160 ms give 90 + 4·50, between floor and ceiling.
#[test]
fn with_a_floor_the_pong_timeout_follows_the_round_trips() {
    for (floor, expected) in [
        (None, [10 * S, 10 * S, 10 * S]),
        (Some(millis(1)), [10 * S, 240 * MS, 290 * MS]),
        (Some(millis(250)), [10 * S, 250 * MS, 290 * MS]),
        (Some(secs(9)), [10 * S, 9 * S, 9 * S]),
    ] {
        for (pongs, expected) in expected.into_iter().enumerate() {
            let config = probing().pong_timeout_floor(floor).build().unwrap();
            let mut rig = Rig::open_at(config, 0);
            let mut asked = 30 * S;
            for (number, took) in [(0u64, 80 * MS), (1, 160 * MS)].into_iter().take(pongs) {
                rig.run(asked);
                rig.step(asked + took, pong(1, &number.to_be_bytes()));
                asked += took + 30 * S;
            }
            assert_eq!(
                rig.run_to_abort(),
                (asked + expected, AbortReason::PongTimeout),
                "{floor:?} after {pongs} pongs"
            );
        }
    }
}

/// What one connection has measured says nothing about the next.
#[test]
fn a_new_connection_measures_its_round_trips_afresh() {
    let config = probing().pong_timeout_floor(millis(1)).build().unwrap();
    let mut rig = Rig::open_at(config, 0);
    rig.run(30 * S);
    rig.step(30 * S + MS, pong(1, &0u64.to_be_bytes()));
    let (dead, _) = rig.run_to_abort();
    assert_eq!(dead, 60 * S + MS + 3 * MS);
    rig.run(dead + 10 * S);
    rig.step(dead + 10 * S, connected(2));
    let asked = dead + 40 * S;
    assert_eq!(
        rig.run_to_abort(),
        (asked + 10 * S, AbortReason::PongTimeout)
    );
}

#[test]
fn further_pings_do_not_postpone_the_verdict_on_the_first() {
    let config = probing()
        .ping(Ping::Every(secs(4)))
        .pong_timeout(secs(10))
        .keepalive(secs(1))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    rig.step(4 * S, TICK);
    rig.step(5 * S, data(1));
    // The first probe after the last byte is the one of 8 s.
    rig.run(9 * S);
    rig.step(9 * S, KICK);
    assert_eq!(rig.run_to_abort(), (18 * S, AbortReason::PongTimeout));
}

#[test]
fn the_verdict_on_a_probe_does_not_wait_for_a_write() {
    for blocked in [false, true] {
        let mut rig = Rig::open_at(probing().build().unwrap(), 0);
        rig.run(30 * S);
        if blocked {
            rig.step(30 * S, write_blocked(1));
        } else {
            rig.step(31 * S, wrote(1));
        }
        assert_eq!(rig.run_to_abort(), (40 * S, AbortReason::PongTimeout));
    }
}

#[test]
fn any_byte_answers_a_probe() {
    for event in [
        data(1),
        progress(1),
        pong(1, b"another's"),
        ping(1, b""),
        text(1, "x"),
    ] {
        let mut rig = Rig::open_at(probing().build().unwrap(), 0);
        rig.run(30 * S);
        rig.step(40 * S - 1, event);
        // Asked again after 30 s of silence, and so on.
        assert_eq!(
            rig.run(79 * S),
            [(70 * S - 1, Did::Ping(1, 1))],
            "{}",
            rig.trace
        );
    }
}

#[test]
fn a_keepalive_ping_asks_for_nothing() {
    let config = quiet()
        .keepalive(secs(10))
        .pong_timeout(secs(3))
        .idle_timeout(secs(60))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    assert_eq!(rig.run_to_abort(), (60 * S, AbortReason::IdleTimeout));
    assert_eq!(rig.machine.stats().pings_sent, 5);
    assert_eq!(rig.machine.stats().probes_sent, 0);
}

// ---- 5: when pings go out ----------------------------------------------------------------------

#[test]
fn one_probe_after_silence_and_no_second_before_something_is_heard() {
    let config = quiet().ping(Ping::AfterSilence(secs(30))).build().unwrap();
    let mut rig = Rig::open_at(config, 0);
    rig.step(5 * S, data(1));
    assert_eq!(rig.run(900 * S), [(35 * S, Did::Ping(1, 0))]);
    rig.step(900 * S, data(1));
    assert_eq!(rig.run(1000 * S), [(930 * S, Did::Ping(1, 1))]);
}

#[test]
fn a_probe_follows_each_silence_of_a_peer_that_only_answers() {
    let mut rig = Rig::open_at(Config::default(), 0);
    for round in 0..20u64 {
        let wakes: Vec<(u64, Did)> = rig.run((round + 1) * 31 * S - 1);
        assert!(wakes.contains(&((round + 1) * 31 * S - S, Did::Ping(1, round))));
        rig.step((round + 1) * 31 * S, pong(1, &round.to_be_bytes()));
    }
    assert_eq!(rig.machine.stats().rtt.samples, 20);
    assert_eq!(rig.machine.stats().rtt.smoothed, secs(1));
}

#[test]
fn periodic_pings_keep_their_interval_whatever_is_heard() {
    let mut rig = Rig::open_at(quiet().ping(Ping::Every(secs(20))).build().unwrap(), 0);
    let mut pings = Vec::new();
    for second in 1..=60 {
        pings.extend(rig.run(second * S));
        rig.step(second * S, data(1));
    }
    let expected = [20, 40, 60].map(|second| (second * S, Did::Ping(1, second / 20 - 1)));
    assert_eq!(pings, expected);
}

#[test]
fn after_a_jump_of_many_periods_one_ping_and_one_check() {
    let config = quiet()
        .ping(Ping::Every(secs(20)))
        .check_interval(secs(30))
        .keepalive(secs(10))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    assert_eq!(
        rig.step(500 * S, TICK),
        [Did::Check(1, 500 * S), Did::Ping(1, 0)]
    );
    assert_eq!(rig.step(500 * S, TICK), []);
    // From the late one on, whole intervals again.
    assert_eq!(
        rig.run(530 * S),
        [
            (510 * S, Did::Ping(1, 1)),
            (520 * S, Did::Ping(1, 2)),
            (530 * S, Did::Check(1, 530 * S)),
            (530 * S, Did::Ping(1, 3)),
        ]
    );
}

#[test]
fn keepalive_counts_only_what_was_sent() {
    let config = || quiet().keepalive(secs(10)).build().unwrap();
    for (event, expected) in [
        (wrote(1), 14),
        (ping(1, b""), 14),
        (text(1, JSON_PING), 14),
        (KICK, 14),
        (data(1), 10),
        (pong(1, b""), 10),
        (progress(1), 10),
        (write_blocked(1), 10),
    ] {
        let mut rig = Rig::open_at(config(), 0);
        rig.step(4 * S, event);
        assert_eq!(rig.wake(), Some(expected * S), "{}", rig.trace);
        assert!(matches!(
            rig.step(expected * S, TICK)[..],
            [Did::Ping(1, _)]
        ));
    }
}

#[test]
fn pings_that_are_due_together_are_one_ping() {
    for ping in [Ping::AfterSilence(secs(10)), Ping::Every(secs(10))] {
        let config = quiet().ping(ping).keepalive(secs(10)).build().unwrap();
        let mut rig = Rig::open_at(config, 0);
        assert_eq!(rig.step(10 * S, TICK), [Did::Ping(1, 0)]);
        assert_eq!(rig.machine.stats().probes_sent, 1);
        assert_eq!(rig.step(10 * S, TICK), []);
    }
}

/// Found by the reference model: a kick once put its ping before a check and beside a second ping.
#[test]
fn a_kick_and_whatever_is_due_with_it_are_one_ping_after_the_check() {
    for ping in [Ping::AfterSilence(secs(10)), Ping::Every(secs(10))] {
        let config = quiet()
            .ping(ping)
            .keepalive(secs(10))
            .check_interval(secs(10))
            .build()
            .unwrap();
        for now in [10 * S, 999 * S] {
            let mut rig = Rig::open_at(config.clone(), 0);
            assert_eq!(
                rig.step(now, KICK),
                [Did::Check(1, now), Did::Ping(1, 0)],
                "{}",
                rig.trace
            );
        }
    }
}

/// Found by the reference model, too.
#[test]
fn a_kick_sends_no_ping_on_a_connection_that_is_judged_in_the_same_step() {
    let mut rig = Rig::open_at(quiet().build().unwrap(), 0);
    let dids = rig.step(1000 * S, KICK);
    assert_eq!(dids[0], Did::Abort(1, AbortReason::IdleTimeout));
    assert_eq!(dids.len(), 2, "{dids:?}");
}

#[test]
fn a_kick_probes_an_open_connection_unless_a_question_is_open() {
    let mut rig = Rig::open_at(probing().build().unwrap(), 0);
    assert_eq!(rig.step(3 * S, KICK), [Did::Ping(1, 0)]);
    assert_eq!(rig.step(5 * S, KICK), []);
    assert_eq!(rig.run_to_abort(), (13 * S, AbortReason::PongTimeout));
}

// ---- 6: pongs ----------------------------------------------------------------------------------

#[test]
fn each_ping_is_answered_at_once_with_its_own_bytes() {
    let mut rig = Rig::open_at(Config::default(), 0);
    for payload in [&b""[..], b"1", &[0xff; 125]] {
        assert_eq!(
            rig.step(S, ping(1, payload)),
            [Did::PongFrame(1, payload.to_vec())]
        );
    }
    // The same again is a ping again.
    for _ in 0..3 {
        assert_eq!(
            rig.step(S, text(1, JSON_PING)),
            [Did::PongText(1, JSON_PONG.into())]
        );
    }
    assert_eq!(rig.machine.stats().pongs_sent, 6);
}

#[test]
fn the_answer_is_the_first_action_of_its_step() {
    let config = quiet()
        .check_interval(secs(10))
        .ping(Ping::Every(secs(10)))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    assert_eq!(
        rig.step(10 * S, ping(1, b"now")),
        [
            Did::PongFrame(1, b"now".to_vec()),
            Did::Check(1, 0),
            Did::Ping(1, 0)
        ]
    );
}

/// The reply lends the event's own bytes: nothing is copied.
#[test]
fn the_answer_borrows_the_bytes_of_the_ping() {
    let mut rig = Rig::open_at(Config::default(), 0);
    let payload = *b"payload";
    let step = rig.machine.step(instant(S), ping(1, &payload));
    match step.actions[0] {
        Action::SendPong {
            reply: heartbeat_core::Reply::Frame(bytes),
            ..
        } => assert!(core::ptr::eq(bytes, &payload[..])),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_but_a_current_ping_of_an_open_connection_is_answered() {
    let unanswered = [
        TICK,
        data(1),
        pong(1, b""),
        pong(1, &[0; 8]),
        text(1, JSON_PONG),
        text(1, ""),
        text(1, "ping"),
        text(1, r#"{"data":{"type":"ping"}}"#),
        text(1, r#"{"type":"ping""#),
        progress(1),
        write_blocked(1),
        wrote(1),
        read_paused(1),
        read_resumed(1),
        connected(1),
        ping(0, b"old"),
        ping(2, b"not yet"),
        text(2, JSON_PING),
    ];
    for event in unanswered {
        let mut rig = Rig::open_at(Config::default(), 0);
        assert_eq!(rig.step(S, event), [], "{}", rig.trace);
    }

    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    assert_eq!(rig.step(S, ping(1, b"before the upgrade")), []);
    rig.step(S, connected(1));
    rig.step(S, STOP);
    assert_eq!(rig.step(S, ping(1, b"after the stop")), []);
    rig.step(S, closed(1, Cause::Close(1000)));
    assert_eq!(rig.step(S, ping(1, b"after the end")), []);
}

// ---- 7: bytes beat deadlines -------------------------------------------------------------------

#[test]
fn a_byte_after_the_deadline_but_before_the_tick_saves_the_connection() {
    let config = || {
        quiet()
            .idle_timeout(secs(90))
            .ping(Ping::AfterSilence(secs(80)))
            .pong_timeout(secs(10))
            .data_timeout(secs(90))
            .build()
            .unwrap()
    };
    for now in [90 * S, 90 * S + 1, 91 * S, 5000 * S] {
        for event in [data(1), progress(1)] {
            let mut rig = Rig::open_at(config(), 0);
            rig.run(80 * S);
            assert_eq!(rig.step(now, event), [], "{}", rig.trace);
            assert_eq!(rig.run_to_abort().0, now + 90 * S);
        }
    }
}

// ---- 8: the connect timeout --------------------------------------------------------------------

#[test]
fn a_dial_is_aborted_exactly_at_its_time() {
    let mut rig = Rig::new(Config::default());
    rig.step(3, TICK);
    assert_eq!(rig.step(10 * S + 2, TICK), []);
    let dids = rig.step(10 * S + 3, TICK);
    assert_eq!(dids[0], Did::Abort(1, AbortReason::ConnectTimeout));
    assert!(
        matches!(dids[1], Did::Reconnect { attempt: 1, .. }),
        "{dids:?}"
    );
}

#[test]
fn impossible_events_do_not_postpone_the_connect_timeout() {
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    for event in [
        data(1),
        ping(1, b""),
        progress(1),
        write_blocked(1),
        wrote(1),
        read_paused(1),
        read_resumed(1),
    ] {
        assert_eq!(rig.step_whole(5 * S, event), (vec![], false));
    }
    assert_eq!(rig.wake(), Some(10 * S));
}

#[test]
fn a_dial_that_succeeds_at_its_deadline_has_succeeded() {
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    assert_eq!(rig.step(10 * S, connected(1)), []);
    assert_eq!(rig.phase(), Phase::Open);
}

// ---- 9, 10: one connection at a time -----------------------------------------------------------

/// Connections that end in every way: refused, timed out, closed, judged.
#[test]
fn between_two_dials_the_first_connection_has_ended_and_ids_strictly_increase() {
    let mut rig = Rig::new(Config::default());
    for conn in 1..=80 {
        let now = rig.wake().unwrap();
        let dids = rig.step(now, TICK);
        assert!(
            matches!(dids[..], [Did::Connect(id, _)] if id == conn),
            "{}",
            rig.trace
        );
        match conn % 4 {
            0 => drop(rig.step(now, closed(conn, Cause::Refused))),
            1 => drop(rig.run(now + 10 * S)),
            2 => {
                rig.step(now, connected(conn));
                rig.step(now + S, closed(conn, Cause::Reset));
            }
            _ => {
                rig.step(now, connected(conn));
                rig.run_to_abort();
            }
        }
        assert_eq!(rig.phase(), Phase::Waiting, "{}", rig.trace);
        assert_eq!(rig.machine.conn(), None);
    }
}

#[test]
fn an_abandoned_dial_that_succeeds_late_is_aborted_in_every_phase() {
    let stale = |conn| Did::Abort(conn, AbortReason::Stale);
    let mut rig = Rig::new(Config::default());
    rig.step(0, TICK);
    rig.step(10 * S, TICK);
    assert_eq!(rig.phase(), Phase::Waiting);
    assert_eq!(rig.step_whole(10 * S, connected(1)), (vec![stale(1)], true));
    let now = rig.wake().unwrap();
    rig.step(now, TICK);
    assert_eq!(rig.phase(), Phase::Connecting);
    assert_eq!(rig.step_whole(now, connected(1)), (vec![stale(1)], true));
    rig.step(now, connected(2));
    assert_eq!(rig.step_whole(now, connected(1)), (vec![stale(1)], true));
    assert_eq!(rig.phase(), Phase::Open);
    rig.step(now, STOP);
    assert_eq!(rig.step_whole(now, connected(1)), (vec![stale(1)], true));
    assert_eq!(rig.phase(), Phase::Closing);
    rig.step(now, closed(2, Cause::Close(1000)));
    assert_eq!(rig.step_whole(now, connected(1)), (vec![stale(1)], true));
    assert_eq!(rig.step_whole(now, connected(2)), (vec![stale(2)], true));
    assert_eq!(rig.phase(), Phase::Stopped);
}

#[test]
fn a_late_close_of_an_old_socket_does_nothing_to_the_new_one() {
    let mut rig = Rig::open_at(Config::default(), 0);
    rig.step(S, closed(1, Cause::Reset));
    let now = rig.reconnect();
    let wake = rig.wake();
    for event in [
        closed(1, Cause::Tls),
        closed(1, Cause::Close(1002)),
        data(1),
        ping(1, b"x"),
        progress(1),
        write_blocked(1),
        wrote(1),
        read_paused(1),
        read_resumed(1),
        closed(3, Cause::Eof),
        data(u64::MAX),
    ] {
        assert_eq!(rig.step_whole(now + S, event), (vec![], true));
        assert_eq!((rig.phase(), rig.wake()), (Phase::Open, wake));
    }
}

#[test]
fn a_stale_event_still_lets_a_due_timer_act() {
    let mut rig = Rig::open_at(Config::default(), 0);
    let (dids, stale) = rig.step_whole(30 * S, data(9));
    assert_eq!(dids, [Did::Check(1, 30 * S), Did::Ping(1, 0)]);
    assert!(stale);
}

#[test]
fn impossible_events_with_the_current_id_change_nothing_and_are_not_stale() {
    let mut rig = Rig::open_at(Config::default(), 0);
    for event in [connected(1), read_resumed(1), wrote(1)] {
        let wake = rig.wake();
        assert_eq!(rig.step_whole(S, event), (vec![], false));
        assert_eq!((rig.phase(), rig.wake()), (Phase::Open, wake));
    }
}

// ---- 11: every loss is answered ----------------------------------------------------------------

#[test]
fn each_loss_plans_one_dial_and_the_dial_comes_at_the_first_step_from_then_on() {
    for late in [0, 1, 5 * S, 5000 * S] {
        for event in [TICK, data(1), connected(1), closed(7, Cause::Eof)] {
            let mut rig = Rig::open_at(Config::default(), 0);
            let dids = rig.step(S, closed(1, Cause::Eof));
            let at = S + delay_of(&dids);
            assert_eq!(dids.len(), 1);
            assert_eq!(rig.step(at - 1, TICK), []);
            let dids = rig.step(at + late, event);
            assert_eq!(dids.last(), Some(&Did::Connect(2, 1)), "{}", rig.trace);
        }
    }
}

#[test]
fn the_first_dial_is_the_first_step_of_any_kind() {
    for event in [TICK, data(0), KICK, wrote(1)] {
        let mut rig = Rig::starting_at(Config::default(), 50);
        assert_eq!(rig.step(0, event), [Did::Connect(1, 0)]);
    }
}

/// Each of three dials fails, the last one by its timeout.
fn three_dials_in_vain(rig: &mut Rig, mut now: u64, conn: u64, attempt: u32) {
    for tried in 0..3 {
        let (conn, attempt) = (conn + u64::from(tried), attempt + tried);
        assert_eq!(rig.step(now, TICK), [Did::Connect(conn, attempt)]);
        if tried < 2 {
            let dids = rig.step(now, closed(conn, Cause::Refused));
            assert!(
                matches!(dids[..], [Did::Reconnect { attempt: next, .. }] if next == attempt + 1),
                "{dids:?}"
            );
            now += delay_of(&dids);
        }
    }
    let reason = AbortReason::ConnectTimeout;
    assert_eq!(
        rig.step(now + 10 * S, TICK),
        [
            Did::Abort(conn + 2, reason),
            Did::GaveUp(GiveUp::MaxAttempts(Reason::Aborted(reason)))
        ]
    );
    assert_eq!((rig.phase(), rig.wake()), (Phase::Stopped, None));
}

#[test]
fn attempts_count_the_dials_and_the_last_allowed_one_gives_up() {
    let config = |most| Config::builder().max_attempts(most).build().unwrap();
    three_dials_in_vain(&mut Rig::new(config(3)), 0, 1, 0);

    // One dial, and no retry.
    let mut rig = Rig::new(config(1));
    assert_eq!(rig.step(0, TICK), [Did::Connect(1, 0)]);
    let last = Reason::Cause(Cause::Refused);
    assert_eq!(
        rig.step(0, closed(1, Cause::Refused)),
        [Did::GaveUp(GiveUp::MaxAttempts(last))]
    );

    // A connection that is lost before it is stable is an attempt, too.
    let mut rig = Rig::open_at(config(1), 0);
    assert_eq!(
        rig.step(S, closed(1, Cause::Eof)),
        [Did::GaveUp(GiveUp::MaxAttempts(Reason::Cause(Cause::Eof)))]
    );
}

#[test]
fn the_loss_of_a_stable_connection_is_no_attempt() {
    for most in [1, 3] {
        let config = Config::builder().max_attempts(most).build().unwrap();
        let mut rig = Rig::open_at(config, 0);
        rig.step(30 * S, data(1));
        let dids = rig.step(30 * S, closed(1, Cause::Reset));
        let now = 30 * S + delay_of(&dids);
        if most == 3 {
            three_dials_in_vain(&mut rig, now, 2, 1);
        } else {
            assert_eq!(rig.step(now, TICK), [Did::Connect(2, 1)]);
            let last = Reason::Cause(Cause::Refused);
            assert_eq!(
                rig.step(now, closed(2, Cause::Refused)),
                [Did::GaveUp(GiveUp::MaxAttempts(last))]
            );
        }
    }
}

// ---- 12: the delay -----------------------------------------------------------------------------

/// The delays after `failures` failures in a row, under `seeds` different seeds.
fn delays(config: &Config, failures: u32, seeds: u64) -> Vec<u64> {
    (0..seeds)
        .map(|seed| {
            let mut header = heartbeat_core::trace::Header::default();
            header.config = config.clone();
            header.seed = seed;
            let mut machine = header.heartbeat();
            let mut now = Instant::ORIGIN;
            for conn in 1..=u64::from(failures) {
                let _ = machine.step(now, TICK);
                let _ = machine.step(now, closed(conn, Cause::Refused));
                now = machine.wake().unwrap();
            }
            let _ = machine.step(now, TICK);
            let step = machine.step(now, closed(u64::from(failures) + 1, Cause::Refused));
            delay_of(&did(&step))
        })
        .collect()
}

#[test]
fn delays_fill_their_range_and_no_value_is_frequent_at_any_n() {
    const DRAWS: u64 = 100_000;
    let config = Config::default();
    // 2 s, 4 s, 32 s, and from 5 on the cap of 60 s.
    for (n, longest) in [
        (0, 2 * S),
        (1, 4 * S),
        (4, 32 * S),
        (5, 60 * S),
        (70, 60 * S),
    ] {
        let mut delays = delays(&config, n, if n == 70 { DRAWS / 10 } else { DRAWS });
        let shortest = longest / 2;
        let draws = delays.len();
        delays.sort_unstable();
        assert!(delays[0] >= shortest, "n = {n}: {}", delays[0]);
        assert!(delays[draws - 1] <= longest, "n = {n}");
        // The whole range is used, evenly: every twentieth part has its share, give or take a tenth.
        let part = (longest - shortest) / 20 + 1;
        for bucket in 0..20 {
            let from = shortest + bucket * part;
            let count = delays.partition_point(|delay| *delay < from + part)
                - delays.partition_point(|delay| *delay < from);
            let share = draws / 20;
            assert!(
                count.abs_diff(share) < share / 6,
                "n = {n}, part {bucket}: {count} of {draws}"
            );
        }
        let most = delays.chunk_by(|a, b| a == b).map(<[u64]>::len).max();
        assert!(most.unwrap() * 100 <= draws, "n = {n}: {most:?} alike");
    }
}

#[test]
fn jitter_only_shortens_and_never_below_the_floor() {
    for percent in [0, 1, 50, 99, 100] {
        for (base, cap) in [
            (millis(50), millis(50)),
            (millis(60), secs(3)),
            (secs(2), secs(60)),
        ] {
            let config = Config::builder()
                .backoff(base, cap, percent)
                .build()
                .unwrap();
            for n in [0, 1, 3, 9] {
                let longest = nanos((base * 2u32.pow(n)).min(cap));
                let shortest =
                    (longest - longest * u64::from(percent) / 100).max(nanos(DIAL_FLOOR));
                let delays = delays(&config, n, 300);
                let range = shortest..=longest;
                assert!(
                    delays.iter().all(|delay| range.contains(delay)),
                    "{percent} % of {base:?}..{cap:?}, n = {n}: {delays:?}"
                );
                assert!(delays.iter().any(|delay| *delay != longest) || percent == 0);
            }
        }
    }
}

#[test]
fn without_jitter_the_delays_double_exactly_up_to_the_cap() {
    let config = Config::builder()
        .backoff(secs(2), secs(60), 0)
        .build()
        .unwrap();
    let exact: Vec<u64> = (0..8).map(|n| delays(&config, n, 1)[0] / S).collect();
    assert_eq!(exact, [2, 4, 8, 16, 32, 60, 60, 60]);
}

// ---- 13: the count of failures -----------------------------------------------------------------

#[test]
fn the_count_of_failures_restarts_exactly_after_the_stable_time() {
    for (open_for, attempt, longest) in [(30 * S - 1, 3, 8 * S), (30 * S, 1, 2 * S)] {
        let mut rig = Rig::open_at(Config::default(), 0);
        rig.step(0, closed(1, Cause::Eof));
        let now = rig.reconnect();
        rig.step(now, closed(2, Cause::Eof));
        let now = rig.reconnect() + open_for;
        rig.step(now - 1, data(3));
        let dids = rig.step(now, closed(3, Cause::Eof));
        let delay = delay_of(&dids);
        assert!((longest / 2..=longest).contains(&delay), "{dids:?}");
        assert!(matches!(dids[0], Did::Reconnect { attempt: told, .. } if told == attempt));
    }
}

/// To be connected does not mean to be well: the server accepts and drops.
#[test]
fn a_server_that_accepts_and_drops_sees_no_more_than_the_backoff_allows() {
    let mut rig = Rig::new(Config::default());
    let mut longest = 2 * S;
    let mut now = 0;
    for conn in 1..100 {
        let dials = rig.step(now, TICK);
        assert!(matches!(dials[..], [Did::Connect(..)]), "{dials:?}");
        rig.step(now, connected(conn));
        rig.step(now + S, data(conn));
        let delay = delay_of(&rig.step(now + S, closed(conn, Cause::Close(1000))));
        assert!((longest / 2..=longest).contains(&delay), "{}", rig.trace);
        longest = (longest * 2).min(60 * S);
        now += S + delay;
    }
}

#[test]
fn after_very_many_failures_the_delay_is_the_cap() {
    let config = Config::builder()
        .backoff(secs(2), secs(60), 0)
        .build()
        .unwrap();
    let mut rig = Rig::new(config);
    rig.step(0, TICK);
    let mut now = 0;
    for conn in 1..=300 {
        let delay = delay_of(&rig.step(now, closed(conn, Cause::Io)));
        if conn > 5 {
            assert_eq!(delay, 60 * S, "failure {conn}");
        }
        now += delay;
        rig.step(now, TICK);
    }
}

// ---- 14, 15: time ------------------------------------------------------------------------------

#[test]
fn a_second_tick_at_the_same_time_does_nothing() {
    let config = || {
        Config::builder()
            .keepalive(secs(7))
            .ping(Ping::Every(secs(20)))
            .data_timeout(secs(80))
            .build()
            .unwrap()
    };
    // Dial after dial, and a connection that falls silent.
    for mut rig in [Rig::new(config()), Rig::open_at(config(), 0)] {
        for _ in 0..60 {
            let now = rig.wake().expect("an endless life");
            rig.step(now, TICK);
            let wake = rig.wake();
            assert_eq!(rig.step_whole(now, TICK), (vec![], false));
            assert_eq!(rig.wake(), wake);
        }
    }
}

#[test]
fn an_earlier_now_counts_as_the_latest() {
    let mut rig = Rig::open_at(quiet().idle_timeout(secs(90)).build().unwrap(), 0);
    rig.step(50 * S, TICK);
    rig.step(10 * S, data(1));
    assert_eq!(rig.run_to_abort(), (140 * S, AbortReason::IdleTimeout));
}

#[test]
fn at_the_end_of_time_nothing_panics_and_nothing_comes() {
    for left in [0, 1, 1000, S / 2, S, 100 * S] {
        let mut rig = Rig::starting_at(Config::default(), u64::MAX - left);
        for event in [
            TICK,
            connected(1),
            data(1),
            write_blocked(1),
            read_paused(1),
            KICK,
            read_resumed(1),
            closed(1, Cause::Close(1012)),
            KICK,
            TICK,
        ] {
            rig.step(u64::MAX - left, event);
            assert!(rig.wake().is_none_or(|wake| wake < u64::MAX));
        }
        for event in [TICK, KICK, TICK] {
            rig.step(u64::MAX, event);
        }
        assert_eq!(rig.wake(), None, "{}", rig.trace);
        rig.step(u64::MAX, STOP);
    }
}

// ---- 16: stop ----------------------------------------------------------------------------------

#[test]
fn stop_closes_an_open_connection_and_drops_it_after_the_close_timeout() {
    let mut rig = Rig::open_at(Config::default(), 0);
    assert_eq!(rig.step(S, STOP), [Did::Close(1, 1000)]);
    assert_eq!(rig.wake(), Some(6 * S));
    // Whatever happens now, nothing postpones the end.
    for event in [
        STOP,
        data(1),
        ping(1, b""),
        progress(1),
        connected(1),
        KICK,
        write_blocked(1),
        read_paused(1),
    ] {
        assert_eq!(rig.step_whole(6 * S - 1, event), (vec![], false));
        assert_eq!(rig.wake(), Some(6 * S));
    }
    assert_eq!(
        rig.step(6 * S, TICK),
        [Did::Abort(1, AbortReason::CloseTimeout)]
    );
    assert_eq!((rig.phase(), rig.wake()), (Phase::Stopped, None));
}

#[test]
fn stop_in_any_phase_ends_in_nothing() {
    let waiting = || {
        let mut rig = Rig::open_at(Config::default(), 0);
        rig.step(0, closed(1, Cause::Eof));
        rig
    };
    let connecting = || {
        let mut rig = Rig::new(Config::default());
        rig.step(0, TICK);
        rig
    };
    let closing = || {
        let mut rig = Rig::open_at(Config::default(), 0);
        rig.step(0, STOP);
        rig.step(0, closed(1, Cause::Reset));
        rig
    };
    let stopped = || {
        let mut rig = Rig::open_at(Config::default(), 0);
        rig.step(0, closed(1, Cause::Tls));
        rig
    };
    for (mut rig, expected) in [
        (Rig::new(Config::default()), vec![]),
        (waiting(), vec![]),
        (connecting(), vec![Did::Abort(1, AbortReason::Stale)]),
        (closing(), vec![]),
        (stopped(), vec![]),
    ] {
        assert_eq!(rig.step(S, STOP), expected, "{}", rig.trace);
        assert_eq!((rig.phase(), rig.wake()), (Phase::Stopped, None));
        for event in [TICK, STOP, KICK] {
            assert_eq!(rig.step_whole(1000 * S, event), (vec![], false));
        }
        for event in [data(1), ping(1, b""), closed(1, Cause::Eof), progress(2)] {
            assert_eq!(rig.step_whole(1000 * S, event), (vec![], true));
        }
        assert_eq!(
            rig.step_whole(1000 * S, connected(1)),
            (vec![Did::Abort(1, AbortReason::Stale)], true)
        );
        assert_eq!((rig.phase(), rig.wake()), (Phase::Stopped, None));
    }
}

// ---- 17: pauses and late ticks -----------------------------------------------------------------

#[test]
fn a_pause_moves_each_silence_deadline_by_its_length() {
    let reasons = [
        (quiet().idle_timeout(secs(90)), AbortReason::IdleTimeout),
        (quiet().data_timeout(secs(90)), AbortReason::DataTimeout),
        (
            quiet()
                .ping(Ping::AfterSilence(secs(20)))
                .pong_timeout(secs(70)),
            AbortReason::PongTimeout,
        ),
    ];
    for (builder, reason) in reasons {
        let mut rig = Rig::open_at(builder.build().unwrap(), 0);
        rig.run(25 * S);
        rig.step(25 * S, read_paused(1));
        // Said twice, it still began the first time.
        rig.step(26 * S, read_paused(1));
        assert!(
            !rig.run(500 * S)
                .iter()
                .any(|(_, did)| matches!(did, Did::Abort(..)))
        );
        rig.step(537 * S, read_resumed(1));
        rig.step(538 * S, read_resumed(1));
        assert_eq!(rig.run_to_abort(), (602 * S, reason), "{}", rig.trace);
    }
}

#[test]
fn two_pauses_add_up() {
    let mut rig = Rig::open_at(quiet().idle_timeout(secs(90)).build().unwrap(), 0);
    for (from, to) in [(10, 30), (30, 35), (50, 51)] {
        rig.step(from * S, read_paused(1));
        rig.step(to * S, read_resumed(1));
    }
    assert_eq!(rig.run_to_abort(), (116 * S, AbortReason::IdleTimeout));
}

#[test]
fn a_byte_heard_while_paused_is_charged_from_the_resumption_on() {
    let mut rig = Rig::open_at(quiet().idle_timeout(secs(90)).build().unwrap(), 0);
    rig.step(10 * S, read_paused(1));
    rig.step(40 * S, data(1));
    rig.step(60 * S, read_resumed(1));
    assert_eq!(rig.run_to_abort(), (150 * S, AbortReason::IdleTimeout));
}

#[test]
fn a_probe_of_a_pause_has_its_full_time_from_the_resumption_on() {
    let mut rig = Rig::open_at(probing().build().unwrap(), 0);
    rig.step(10 * S, read_paused(1));
    assert_eq!(rig.run(900 * S), [(30 * S, Did::Ping(1, 0))]);
    rig.step(900 * S, read_resumed(1));
    assert_eq!(rig.run_to_abort(), (910 * S, AbortReason::PongTimeout));
}

#[test]
fn pings_and_checks_go_on_while_reading_is_paused() {
    let config = Config::builder().keepalive(secs(20)).build().unwrap();
    let mut rig = Rig::open_at(config, 0);
    rig.step(S, read_paused(1));
    assert_eq!(
        rig.run(50 * S),
        [
            (20 * S, Did::Ping(1, 0)),
            (30 * S, Did::Check(1, 30 * S)),
            (30 * S, Did::Ping(1, 1)),
            (50 * S, Did::Ping(1, 2)),
        ]
    );
}

#[test]
fn a_pause_ends_with_its_connection() {
    let mut rig = Rig::open_at(quiet().idle_timeout(secs(90)).build().unwrap(), 0);
    rig.step(S, read_paused(1));
    rig.step(2 * S, closed(1, Cause::Eof));
    let now = rig.reconnect();
    assert_eq!(rig.run_to_abort(), (now + 90 * S, AbortReason::IdleTimeout));
}

/// Configurations in which each kind of silence verdict comes first, after 90 s.
fn silences() -> [(Config, AbortReason); 3] {
    let asking = quiet().pong_timeout(secs(20));
    [
        (
            asking.clone().idle_timeout(secs(90)),
            AbortReason::IdleTimeout,
        ),
        (
            asking.clone().data_timeout(secs(90)),
            AbortReason::DataTimeout,
        ),
        (
            asking.ping(Ping::AfterSilence(secs(70))),
            AbortReason::PongTimeout,
        ),
    ]
    .map(|(builder, reason)| (builder.build().unwrap(), reason))
}

#[test]
fn a_late_tick_never_kills_without_a_fresh_probe() {
    for (config, reason) in silences() {
        let mut rig = Rig::open_at(config, 0);
        rig.run(89 * S);
        let number = u64::from(rig.machine.stats().pings_sent);
        let now = 90 * S + GRACE + 1;
        assert_eq!(rig.step(now, TICK), [Did::Ping(1, number)], "{reason}");
        assert_eq!(rig.wake(), Some(now + 20 * S), "{reason}");
        assert_eq!(
            rig.run_to_abort(),
            (now + 20 * S, AbortReason::PongTimeout),
            "{}",
            rig.trace
        );
    }
}

#[test]
fn a_tick_that_is_late_by_the_grace_is_judged_as_ever() {
    for (config, reason) in silences() {
        let mut rig = Rig::open_at(config, 0);
        rig.run(89 * S);
        let dids = rig.step(90 * S + GRACE, TICK);
        assert_eq!(dids[0], Did::Abort(1, reason), "{}", rig.trace);
    }
}

/// Not only ticks: any event that comes late tells of a stopped process.
#[test]
fn a_late_event_of_any_kind_asks_before_it_judges() {
    for event in [wrote(1), write_blocked(1), connected(9), data(9), KICK] {
        let (config, _) = silences()[0].clone();
        let mut rig = Rig::open_at(config, 0);
        let dids = rig.step(3600 * S, event);
        assert_eq!(dids.last(), Some(&Did::Ping(1, 0)), "{}", rig.trace);
        assert_eq!(rig.phase(), Phase::Open);
    }
}

#[test]
fn an_answer_to_the_probe_of_a_late_tick_saves_the_connection() {
    for (config, reason) in silences() {
        let mut rig = Rig::open_at(config, 0);
        rig.run(89 * S);
        rig.step(3600 * S, TICK);
        rig.step(3620 * S - 1, progress(1));
        let (at, again) = rig.run_to_abort();
        assert_eq!((at, again), (3710 * S - 1, reason), "{}", rig.trace);
    }
}

/// A late tick forgives nothing, and a second one forgives no more than the first.
#[test]
fn an_unanswered_probe_of_a_late_tick_is_the_end_even_if_the_next_tick_is_late_too() {
    let (config, _) = silences()[0].clone();
    let mut rig = Rig::open_at(config, 0);
    assert_eq!(rig.step(3600 * S, TICK), [Did::Ping(1, 0)]);
    assert_eq!(
        rig.step(7200 * S, TICK)[0],
        Did::Abort(1, AbortReason::PongTimeout)
    );
}

/// The deadline is not over, but the peer was not asked and could hardly answer any more.
#[test]
fn a_late_tick_shortly_before_the_deadline_asks_first() {
    let config = || {
        quiet()
            .idle_timeout(secs(90))
            .check_interval(secs(30))
            .pong_timeout(secs(20))
            .build()
            .unwrap()
    };
    let mut rig = Rig::open_at(config(), 0);
    assert_eq!(
        rig.step(80 * S + 1, TICK),
        [Did::Check(1, 80 * S + 1), Did::Ping(1, 0)]
    );
    assert_eq!(rig.run_to_abort(), (100 * S + 1, AbortReason::PongTimeout));

    // With 10 s left, it is as ever.
    let mut rig = Rig::open_at(config(), 0);
    assert_eq!(rig.step(80 * S, TICK), [Did::Check(1, 80 * S)]);
    assert_eq!(rig.run_to_abort(), (90 * S, AbortReason::IdleTimeout));
}

/// The probe of a late tick has its `pong_timeout`, at most 20 s, and at most the idle timeout.
#[test]
fn the_probe_of_a_late_tick_has_a_short_deadline() {
    for (idle, pong, expected, reason) in [
        (90, None, 20, AbortReason::IdleTimeout),
        (4, None, 4, AbortReason::IdleTimeout),
        (90, Some(60), 20, AbortReason::IdleTimeout),
        (90, Some(20), 20, AbortReason::PongTimeout),
        (90, Some(3), 3, AbortReason::PongTimeout),
        (5, Some(60), 5, AbortReason::IdleTimeout),
    ] {
        let config = quiet()
            .idle_timeout(secs(idle))
            .pong_timeout(pong.map(secs))
            .build()
            .unwrap();
        let mut rig = Rig::open_at(config, 0);
        rig.step(3600 * S, TICK);
        assert_eq!(rig.run_to_abort(), ((3600 + expected) * S, reason));
    }
}

/// Found by the reference model: a pause once shortened the time that a late tick had left for data.
#[test]
fn a_pause_after_a_late_tick_moves_the_data_deadline_too() {
    let config = quiet()
        .data_timeout(secs(1))
        .pong_timeout(secs(10))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    assert_eq!(rig.step(5 * S, TICK), [Did::Ping(1, 0)]);
    rig.step(6 * S, read_paused(1));
    rig.step(26 * S, read_resumed(1));
    assert_eq!(rig.run_to_abort(), (35 * S, AbortReason::PongTimeout));
}

#[test]
fn a_late_tick_while_reading_is_paused_charges_nothing_and_asks_nothing() {
    let (config, _) = silences()[0].clone();
    let mut rig = Rig::open_at(config, 0);
    rig.step(10 * S, read_paused(1));
    assert_eq!(rig.step(3600 * S, TICK), []);
    rig.step(3600 * S, read_resumed(1));
    assert_eq!(rig.run_to_abort(), (3680 * S, AbortReason::IdleTimeout));
}

// ---- 18: writes --------------------------------------------------------------------------------

#[test]
fn a_blocked_write_is_a_verdict_exactly_at_its_time() {
    let config = quiet().write_timeout(secs(60)).build().unwrap();
    let mut rig = Rig::open_at(config, 0);
    rig.step(5 * S, write_blocked(1));
    // Life from the peer does not move our bytes, nor does saying it again.
    rig.step(60 * S, data(1));
    rig.step(61 * S, write_blocked(1));
    assert_eq!(rig.step(65 * S - 1, TICK), []);
    assert_eq!(
        rig.step(65 * S, TICK)[0],
        Did::Abort(1, AbortReason::WriteTimeout)
    );
}

#[test]
fn a_write_that_moves_starts_anew() {
    let config = quiet().write_timeout(secs(60)).build().unwrap();
    let mut rig = Rig::open_at(config, 0);
    rig.step(5 * S, write_blocked(1));
    rig.step(64 * S, wrote(1));
    // Silence is charged from the byte that moved.
    assert_eq!(rig.wake(), Some(1064 * S));
    rig.step(64 * S, write_blocked(1));
    assert_eq!(rig.run_to_abort(), (124 * S, AbortReason::WriteTimeout));
}

#[test]
fn a_blocked_write_moves_no_other_deadline() {
    let config = || {
        Config::builder()
            .keepalive(secs(25))
            .data_timeout(secs(80))
            .pong_timeout(secs(45))
            .write_timeout(secs(500))
            .build()
            .unwrap()
    };
    let mut free = Rig::open_at(config(), 0);
    let mut blocked = Rig::open_at(config(), 0);
    blocked.step(0, write_blocked(1));
    assert_eq!(free.run(90 * S), blocked.run(90 * S));
}

#[test]
fn neither_a_pause_nor_a_late_tick_suspends_the_write_timeout() {
    let config = || quiet().write_timeout(secs(60)).build().unwrap();
    let mut rig = Rig::open_at(config(), 0);
    rig.step(0, write_blocked(1));
    rig.step(S, read_paused(1));
    assert_eq!(rig.run_to_abort(), (60 * S, AbortReason::WriteTimeout));

    let mut rig = Rig::open_at(config(), 0);
    rig.step(0, write_blocked(1));
    assert_eq!(
        rig.step(3600 * S, TICK)[0],
        Did::Abort(1, AbortReason::WriteTimeout)
    );
}

// ---- 24: an upload that moves ------------------------------------------------------------------

/// Idle 60 s, a ping after 2 s of silence, its pong within 4 s: nothing is heard while an upload of 20 MB moves.
fn uploading() -> Rig {
    let config = quiet()
        .idle_timeout(secs(60))
        .ping(Ping::AfterSilence(secs(2)))
        .pong_timeout(secs(4))
        .data_timeout(secs(30))
        .write_timeout(secs(20));
    let mut rig = Rig::open_at(config.build().unwrap(), 0);
    rig.step(0, write_blocked(1));
    rig
}

/// Bytes move, and others still wait.
fn moves(rig: &mut Rig, at: u64) {
    assert_eq!(rig.step(at, wrote(1)), []);
    assert_eq!(rig.step(at, write_blocked(1)), []);
}

#[test]
fn as_long_as_bytes_that_had_to_wait_move_nothing_is_missing() {
    let mut rig = uploading();
    for second in 1..=1000 {
        let now = second * S;
        let mut dids = rig.step(now, wrote(1));
        dids.extend(rig.step(now, write_blocked(1)));
        dids.extend(rig.run(now + S / 2).into_iter().map(|(_, did)| did));
        assert!(
            dids.iter().all(|did| matches!(did, Did::Ping(..))),
            "{dids:?}"
        );
    }
    assert_eq!(rig.phase(), Phase::Open);
}

#[test]
fn once_they_stop_each_verdict_comes_exactly_its_time_after_the_last_one() {
    // The question had left before: it is charged from the byte that moved last.
    let mut rig = uploading();
    assert_eq!(rig.run(2 * S), [(2 * S, Did::Ping(1, 0))]);
    for second in 3..=100 {
        moves(&mut rig, second * S);
    }
    assert_eq!(rig.run_to_abort(), (104 * S, AbortReason::PongTimeout));

    // Each of the others, alone.
    let alone = |build: fn(ConfigBuilder) -> ConfigBuilder| build(quiet()).build().unwrap();
    for (config, reason) in [
        (
            alone(|it| it.idle_timeout(secs(5))),
            AbortReason::IdleTimeout,
        ),
        (
            alone(|it| it.data_timeout(secs(5))),
            AbortReason::DataTimeout,
        ),
        (
            alone(|it| it.write_timeout(secs(5))),
            AbortReason::WriteTimeout,
        ),
        (
            alone(|it| it.session_timeout(secs(5))),
            AbortReason::SessionTimeout,
        ),
    ] {
        let mut rig = Rig::open_at(config, 0);
        rig.step(0, write_blocked(1));
        for second in 1..=100 {
            moves(&mut rig, second * S);
        }
        assert_eq!(rig.run_to_abort(), (105 * S, reason));
    }
}

#[test]
fn a_write_that_did_not_have_to_wait_proves_nothing() {
    let mut rig = Rig::open_at(Config::default(), 0);
    for second in 1..90 {
        rig.step(second * S, wrote(1));
    }
    assert_eq!(rig.run_to_abort(), (90 * S, AbortReason::IdleTimeout));
}

/// The first bytes after a stall, too; and what moves last need not leave anything waiting.
#[test]
fn bytes_that_move_after_a_stall_are_progress_once() {
    let mut rig = Rig::open_at(quiet().idle_timeout(secs(10)).build().unwrap(), 0);
    rig.step(S, write_blocked(1));
    rig.step(9 * S, wrote(1));
    rig.step(10 * S, wrote(1));
    assert_eq!(rig.run_to_abort(), (19 * S, AbortReason::IdleTimeout));
}

// ---- 25: a question counts from when it left ----------------------------------------------------

#[test]
fn a_ping_that_waits_asks_nobody_and_counts_from_when_it_left() {
    let mut rig = uploading();
    assert_eq!(rig.run(2 * S), [(2 * S, Did::Ping(1, 0))]);
    rig.step(2 * S, ping_waiting(1));
    assert_eq!(rig.run(12 * S), []);
    rig.step(12 * S, ping_written(1));
    assert_eq!(rig.run_to_abort(), (16 * S, AbortReason::PongTimeout));
}

#[test]
fn a_peer_that_stops_reading_before_the_ping_has_left_is_dead_by_silence_or_the_stuck_write() {
    for (write_timeout, at, reason) in [
        (Some(secs(20)), 21 * S, AbortReason::WriteTimeout),
        (Some(secs(80)), 61 * S, AbortReason::IdleTimeout),
        (None, 61 * S, AbortReason::IdleTimeout),
    ] {
        let config = quiet()
            .idle_timeout(secs(60))
            .ping(Ping::AfterSilence(secs(2)))
            .pong_timeout(secs(4))
            .write_timeout(write_timeout);
        let mut rig = Rig::open_at(config.build().unwrap(), 0);
        rig.step(0, write_blocked(1));
        moves(&mut rig, S);
        assert_eq!(rig.run(2 * S), [(2 * S, Did::Ping(1, 0))]);
        rig.step(2 * S, ping_waiting(1));
        assert_eq!(rig.run_to_abort(), (at, reason));
    }
}

#[test]
fn a_round_trip_is_measured_from_when_the_ping_left() {
    let mut rig = uploading();
    rig.run(2 * S);
    rig.step(2 * S, ping_waiting(1));
    rig.step(12 * S, ping_written(1));
    rig.step(13 * S, pong(1, &[0; 8]));
    assert_eq!(rig.machine.stats().rtt.last, secs(1));
}

/// The first question has left long ago; a further ping that waits changes nothing about it.
#[test]
fn a_further_ping_that_waits_does_not_postpone_the_verdict_on_the_first() {
    let config = quiet()
        .ping(Ping::Every(secs(3)))
        .pong_timeout(secs(4))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    assert_eq!(rig.run(6 * S).len(), 2);
    rig.step(6 * S, ping_waiting(1));
    assert_eq!(rig.run_to_abort(), (7 * S, AbortReason::PongTimeout));
}

#[test]
fn a_ping_that_cannot_be_sent_is_no_question_and_is_tried_again_after_as_long_a_silence() {
    let config = quiet()
        .idle_timeout(secs(60))
        .ping(Ping::AfterSilence(secs(20)))
        .pong_timeout(secs(4))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    assert_eq!(rig.run(20 * S), [(20 * S, Did::Ping(1, 0))]);
    rig.step(20 * S, ping_unsent(1));
    assert_eq!(rig.machine.stats().pings_sent, 0);
    assert_eq!(rig.run(40 * S), [(40 * S, Did::Ping(1, 1))]);
    rig.step(40 * S, ping_unsent(1));
    assert_eq!(rig.run_to_abort(), (60 * S, AbortReason::IdleTimeout));
}

/// A late step asks once more; where that cannot be sent, or not yet, silence alone decides, from then on.
#[test]
fn a_late_probe_that_cannot_leave_leaves_the_verdict_to_silence() {
    for stuck in [ping_waiting(1), ping_unsent(1)] {
        let mut rig = Rig::open_at(Config::default(), 0);
        let late = 3600 * S;
        assert!(matches!(
            rig.step(late, TICK)[..],
            [Did::Check(..), Did::Ping(..)]
        ));
        rig.step(late, stuck);
        let (at, reason) = rig.run_to_abort();
        assert_eq!((at, reason), (late + 90 * S, AbortReason::IdleTimeout));
    }
}

// ---- 19: bounded and repeatable (allocations: `allocations.rs`) --------------------------------

#[test]
fn the_bound_on_actions_is_attained() {
    // An answer, a check and a ping; where an end is told, too, that stands for the check.
    let config = || {
        quiet()
            .check_interval(secs(10))
            .ping(Ping::Every(secs(10)))
            .build()
            .unwrap()
    };
    let mut rig = Rig::open_at(config(), 0);
    assert_eq!(rig.step(10 * S, ping(1, b"")).len(), Actions::MAX);
    let old = quiet().lifetime(secs(20)).check_interval(secs(8));
    let old = old.ping(Ping::Every(secs(8)));
    let mut rig = Rig::open_at(old.build().unwrap(), 0);
    let (_, renewed) = rig.machine.renewal().expect("planned");
    let dids = rig.step(renewed.as_nanos() - S, ping(1, b""));
    assert!(
        matches!(dids[..], [_, Did::Ending(..), Did::Ping(..)]),
        "{}",
        rig.trace
    );
    // A late dial, a verdict and its plan.
    let mut rig = Rig::open_at(config(), 0);
    rig.run(999 * S);
    assert_eq!(
        rig.step(1000 * S, connected(7)).len(),
        Actions::MAX,
        "{}",
        rig.trace
    );
}

#[test]
fn the_same_config_seed_and_trace_give_the_same_actions() {
    let script = |seed| {
        let mut header = heartbeat_core::trace::Header::default();
        header.seed = seed;
        let mut machine = header.heartbeat();
        let mut lines = Vec::new();
        for conn in 1..30 {
            let now = machine.wake().unwrap();
            for event in [TICK, connected(conn), closed(conn, Cause::Close(1012))] {
                let step = machine.step(now, event);
                lines.push((did(&step), step.wake, step.stale));
            }
        }
        lines
    };
    assert_eq!(script(7), script(7));
    assert_ne!(script(7), script(8));
}

// ---- 20: verdicts (the table of causes: `causes.rs`) -------------------------------------------

#[test]
fn a_local_verdict_outranks_what_the_dying_socket_says() {
    let mut rig = Rig::open_at(quiet().idle_timeout(secs(90)).build().unwrap(), 0);
    rig.step(90 * S, TICK);
    for cause in [
        Cause::Close(1002),
        Cause::Tls,
        Cause::Close(1008),
        Cause::Eof,
    ] {
        assert_eq!(
            rig.step_whole(90 * S, closed(1, cause)),
            (vec![], true),
            "{cause:?}"
        );
    }
    rig.reconnect();
    assert_eq!(rig.phase(), Phase::Open);
}

#[test]
fn at_equal_deadlines_silence_comes_before_a_pong_before_data_before_a_write() {
    let order = [
        AbortReason::IdleTimeout,
        AbortReason::PongTimeout,
        AbortReason::DataTimeout,
        AbortReason::WriteTimeout,
    ];
    for (first, reason) in order.into_iter().enumerate() {
        let mut builder = quiet();
        if first == 0 {
            builder = builder.idle_timeout(secs(60));
        }
        if first <= 1 {
            builder = builder
                .ping(Ping::AfterSilence(secs(20)))
                .pong_timeout(secs(40));
        }
        if first <= 2 {
            builder = builder.data_timeout(secs(60));
        }
        let mut rig = Rig::open_at(builder.write_timeout(secs(60)).build().unwrap(), 0);
        rig.step(0, write_blocked(1));
        assert_eq!(rig.run_to_abort(), (60 * S, reason));
    }
}

/// Of several that are due, the one whose time came first.
#[test]
fn the_earliest_of_several_due_verdicts_is_told() {
    let config = quiet()
        .idle_timeout(secs(60))
        .data_timeout(millis(59_500))
        .write_timeout(millis(59_400))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    rig.step(0, write_blocked(1));
    assert_eq!(
        rig.step(60 * S, TICK)[0],
        Did::Abort(1, AbortReason::WriteTimeout)
    );
}

#[test]
fn a_check_and_a_ping_due_together_come_in_this_order_and_not_after_an_abort() {
    let mut rig = Rig::open_at(Config::default(), 0);
    assert_eq!(
        rig.step(30 * S, TICK),
        [Did::Check(1, 30 * S), Did::Ping(1, 0)]
    );
    rig.run(89 * S);
    // At 90 s a check would be due, too.
    let dids = rig.step(90 * S, TICK);
    assert!(
        matches!(dids[..], [Did::Abort(..), Did::Reconnect { .. }]),
        "{dids:?}"
    );
}

#[test]
fn pongs_without_data_are_a_dead_feed() {
    let config = quiet()
        .ping(Ping::Every(secs(10)))
        .pong_timeout(secs(5))
        .data_timeout(secs(60))
        .build()
        .unwrap();
    let mut rig = Rig::open_at(config, 0);
    for round in 1..6u64 {
        rig.run(round * 10 * S);
        rig.step(round * 10 * S + MS, pong(1, &(round - 1).to_be_bytes()));
        rig.step(round * 10 * S + MS, ping(1, b"heartbeats are no data"));
    }
    assert_eq!(rig.run_to_abort(), (60 * S, AbortReason::DataTimeout));
}

// ---- 21: how long detection takes --------------------------------------------------------------

/// A peer that falls silent at the worst moment, under exact ticking: the bound is attained and
/// never exceeded.
#[test]
fn worst_case_detection_is_attained_and_never_exceeded() {
    let configs = [
        Config::default(),
        Config::brisk(),
        Config::thrifty(),
        quiet().build().unwrap(),
        probing().build().unwrap(),
        quiet()
            .ping(Ping::Every(secs(20)))
            .pong_timeout(secs(7))
            .build()
            .unwrap(),
        quiet().ping(Ping::Every(secs(20))).build().unwrap(),
        quiet()
            .idle_timeout(secs(9))
            .ping(Ping::Every(secs(7)))
            .pong_timeout(secs(7))
            .build()
            .unwrap(),
        quiet()
            .ping(Ping::AfterSilence(secs(20)))
            .keepalive(secs(6))
            .pong_timeout(secs(50))
            .build()
            .unwrap(),
    ];
    for config in configs {
        let bound = nanos(config.worst_case_detection());
        let mut worst = 0;
        // The last byte at many moments between two pings, with and without a kick after it.
        for last in 0..240 {
            let last = last * S / 4;
            for kick in [None, Some(last + 3 * S)] {
                let mut rig = Rig::open_at(config.clone(), 0);
                for second in 0..last / S {
                    rig.run(second * S);
                    rig.step(second * S, data(1));
                }
                rig.run(last);
                rig.step(last, data(1));
                if let Some(kick) = kick {
                    rig.run(kick);
                    if rig.phase() == Phase::Open {
                        rig.step(kick, KICK);
                    } else {
                        continue;
                    }
                }
                let (at, _) = rig.run_to_abort();
                assert!(at - last <= bound, "{config:?}\n{}", rig.trace);
                worst = worst.max(at - last);
            }
        }
        assert_eq!(worst, bound, "{config:?}");
    }
}

#[test]
fn the_presets_keep_the_rules_that_every_configuration_keeps() {
    for preset in [Config::default(), Config::brisk(), Config::thrifty()] {
        assert_eq!(preset.to_builder().build(), Ok(preset));
    }
}

// ---- 22: bounded memory ------------------------------------------------------------------------

/// By construction: no field of the machine grows, nothing is kept of a message.
#[test]
fn a_machine_is_small_and_keeps_nothing_of_what_it_is_told() {
    let own = size_of::<heartbeat_core::Heartbeat<&Config, heartbeat_core::FramesOnly>>();
    assert!(own <= 544, "{own} bytes");
}
