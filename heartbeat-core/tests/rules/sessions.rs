//! Sessions: an open connection is the application's only once it says so, and has a time for that.

use heartbeat_core::{
    AbortReason, Cause, CauseKind, Config, ConfigBuilder, Failure, GiveUp, Phase, Ping, RetryPolicy,
};

use crate::support::*;

fn asked_for() -> ConfigBuilder {
    quiet()
        .session_timeout(secs(15))
        .backoff(secs(2), secs(60), 0)
        .stable_after(secs(30))
}

fn open(config: ConfigBuilder) -> Rig {
    Rig::open_at(config.build().unwrap(), 0)
}

#[test]
fn a_session_that_is_not_ready_is_a_verdict_exactly_at_its_time() {
    let mut rig = open(asked_for());
    assert!(!rig.machine.is_ready());
    assert_eq!(rig.wake(), Some(15 * S));
    // Life is no session: neither data nor a pong nor a write moves its deadline.
    for event in [data(1), pong(1, b""), progress(1), wrote(1)] {
        rig.step(14 * S, event);
        assert_eq!(rig.wake(), Some(15 * S));
    }
    assert_eq!(rig.step(15 * S - 1, TICK), []);
    let dids = rig.step(15 * S, TICK);
    assert_eq!(dids[0], Did::Abort(1, AbortReason::SessionTimeout));
    assert_eq!(delay_of(&dids), 2 * S);
}

#[test]
fn a_session_that_is_ready_in_time_is_never_judged_and_said_twice_changes_nothing() {
    let mut rig = open(asked_for());
    assert_eq!(rig.step(15 * S - 1, ready(1)), []);
    assert!(rig.machine.is_ready());
    let wake = rig.wake();
    assert_eq!(rig.step(500 * S, ready(1)), []);
    assert_eq!(rig.wake(), wake);
    assert_eq!(rig.machine.stats().sessions, 1);
    assert_eq!(rig.run_to_abort(), (1000 * S, AbortReason::IdleTimeout));
}

/// Ready beats the deadline like any event in hand.
#[test]
fn a_session_that_is_ready_at_its_deadline_is_ready() {
    let mut rig = open(asked_for());
    assert_eq!(rig.step(16 * S, ready(1)), []);
    assert!(rig.machine.is_ready());
}

#[test]
fn where_no_session_is_asked_for_a_connection_is_ready_at_once() {
    let mut rig = open(quiet());
    assert!(rig.machine.is_ready());
    assert_eq!(rig.wake(), Some(1000 * S));
    assert_eq!(rig.step(S, ready(1)), []);
    assert_eq!(rig.machine.stats().sessions, 1);
}

#[test]
fn heartbeats_go_on_while_the_session_is_opened() {
    let mut rig = open(asked_for().ping(Ping::AfterSilence(secs(5))));
    assert_eq!(
        rig.step(S, ping(1, b"?")),
        [Did::PongFrame(1, b"?".to_vec())]
    );
    assert_eq!(rig.step(6 * S, TICK), [Did::Ping(1, 0)]);
    assert_eq!(
        rig.step(7 * S, text(1, JSON_PING)),
        [Did::PongText(1, JSON_PONG.to_owned())]
    );
}

/// Accept, let log in, throw out: such a server sees no less backoff than one that refuses the dial.
#[test]
fn the_count_of_failures_restarts_exactly_after_the_stable_time_of_a_ready_session() {
    for (ready_for, expected) in [(30 * S - 1, 4 * S), (30 * S, 2 * S)] {
        let mut rig = open(asked_for());
        rig.step(S, closed(1, Cause::Eof));
        let begin = rig.reconnect();
        rig.step(begin + 10 * S, ready(2));
        let dids = rig.step(begin + 10 * S + ready_for, closed(2, Cause::Eof));
        assert_eq!(delay_of(&dids), expected);
    }
    // However long it was open: what was never ready was never stable.
    let mut rig = open(asked_for().session_timeout(secs(900)));
    rig.step(S, closed(1, Cause::Eof));
    let begin = rig.reconnect();
    let dids = rig.step(begin + 800 * S, closed(2, Cause::Eof));
    assert_eq!(delay_of(&dids), 4 * S);
}

#[test]
fn what_the_application_says_of_its_session_decides() {
    let after = |failure, times: u64| {
        let mut rig = open(asked_for());
        let mut dids = Vec::new();
        for _ in 0..times {
            if rig.phase() == Phase::Waiting {
                rig.reconnect();
            }
            let now = rig.machine.open_since().unwrap().as_nanos() + S;
            dids = rig.step(now, closed(rig.conn(), Cause::Session(failure)));
        }
        (rig, dids)
    };
    assert_eq!(delay_of(&after(Failure::Retry, 1).1), 2 * S);
    assert_eq!(delay_of(&after(Failure::Retry, 2).1), 4 * S);
    assert_eq!(delay_of(&after(Failure::RetryAfter(secs(7)), 1).1), 7 * S);
    let (_, dids) = after(Failure::GiveUp, 1);
    assert_eq!(
        dids,
        [Did::GaveUp(GiveUp::Cause(Cause::Session(Failure::GiveUp)))]
    );
    let (mut rig, _) = after(Failure::Refresh, 1);
    let at = rig.wake().unwrap();
    assert_eq!(rig.step(at, TICK), [Did::ConnectAfresh(2, 1)]);
    let (_, dids) = after(Failure::Refresh, 2);
    let refused = GiveUp::Credentials(Cause::Session(Failure::Refresh));
    assert_eq!(dids, [Did::GaveUp(refused)]);
}

/// Credentials that were accepted for the stable time have proved themselves.
#[test]
fn a_stable_session_earns_another_refresh() {
    let mut rig = open(asked_for());
    rig.step(S, closed(1, Cause::Session(Failure::Refresh)));
    let begin = rig.reconnect();
    rig.step(begin, ready(2));
    let dids = rig.step(begin + 30 * S, closed(2, Cause::Close(4401)));
    assert_eq!(delay_of(&dids), 2 * S);
}

#[test]
fn a_row_for_sessions_can_be_replaced_too() {
    let mut rig = open(asked_for().on(CauseKind::Session, RetryPolicy::Never));
    let dids = rig.step(S, closed(1, Cause::Session(Failure::Retry)));
    assert_eq!(
        dids,
        [Did::GaveUp(GiveUp::Cause(Cause::Session(Failure::Retry)))]
    );
}

#[test]
fn the_time_in_which_nothing_is_read_is_not_charged_to_the_session() {
    let mut rig = open(asked_for());
    rig.step(5 * S, read_paused(1));
    assert_eq!(rig.run(100 * S), []);
    rig.step(100 * S, read_resumed(1));
    assert_eq!(rig.wake(), Some(110 * S));
    assert_eq!(rig.run_to_abort(), (110 * S, AbortReason::SessionTimeout));
}

/// Whoever should have made the session ready was stopped with us, and has the time of one probe.
#[test]
fn a_late_tick_never_ends_a_session_without_a_fresh_probe() {
    let config = || asked_for().pong_timeout(secs(4));
    let mut rig = open(config());
    assert_eq!(rig.step(100 * S, TICK), [Did::Ping(1, 0)]);
    // The answer is life, and no session.
    rig.step(101 * S, pong(1, &[0; 8]));
    assert_eq!(rig.run_to_abort(), (104 * S, AbortReason::SessionTimeout));
    let mut rig = open(config());
    assert_eq!(rig.step(100 * S, TICK), [Did::Ping(1, 0)]);
    rig.step(102 * S, ready(1));
    rig.step(102 * S, pong(1, &[0; 8]));
    assert!(rig.machine.is_ready());
    assert_eq!(rig.run_to_abort(), (1102 * S, AbortReason::IdleTimeout));
}

/// Silence, a missing pong and a stuck write explain why there is no session.
#[test]
fn at_equal_deadlines_a_missing_session_is_named_last() {
    let same = |builder: ConfigBuilder| builder.session_timeout(secs(90));
    let cases: [(Config, AbortReason); 3] = [
        (
            same(quiet()).idle_timeout(secs(90)).build().unwrap(),
            AbortReason::IdleTimeout,
        ),
        (
            same(quiet()).data_timeout(secs(90)).build().unwrap(),
            AbortReason::DataTimeout,
        ),
        (
            same(quiet()).write_timeout(secs(90)).build().unwrap(),
            AbortReason::WriteTimeout,
        ),
    ];
    for (config, reason) in cases {
        let mut rig = Rig::open_at(config, 0);
        rig.step(0, write_blocked(1));
        assert_eq!(rig.run_to_abort(), (90 * S, reason));
    }
}

#[test]
fn a_message_that_is_held_expires_at_its_time_to_live() {
    let config = Config::builder().time_to_live(secs(5)).build().unwrap();
    assert_eq!(config.expiry(instant(2 * S)), instant(7 * S));
    assert_eq!(config.expiry(instant(u64::MAX - 1)).as_nanos(), u64::MAX);
}
