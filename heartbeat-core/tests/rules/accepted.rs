//! A server's side: a connection that was accepted is judged like one that was dialled, and is the last.

use heartbeat_core::{AbortReason, AnyDialect, Cause, Config, Heartbeat, Phase, Ping};

use crate::support::*;

#[test]
fn it_is_open_as_connection_1_from_the_start_and_is_never_dialled() {
    let rig = Rig::accepted_at(Config::default(), 5 * S);
    assert_eq!((rig.phase(), rig.conn()), (Phase::Open, 1));
    assert_eq!(
        rig.wake(),
        Some(35 * S),
        "30 s of silence, and nothing else to do"
    );
    let stats = rig.machine.stats();
    assert_eq!((stats.dials, stats.connects, stats.sessions), (0, 1, 1));
    assert!(rig.machine.is_ready());
}

#[test]
fn a_silent_client_is_asked_and_then_dropped_at_the_idle_timeout_and_nothing_follows() {
    let mut rig = Rig::accepted_at(quiet_checks(), 0);
    assert_eq!(
        rig.run(1000 * S),
        [
            (30 * S, Did::Ping(1, 0)),
            (90 * S, Did::Abort(1, AbortReason::IdleTimeout)),
        ]
    );
    assert_eq!((rig.phase(), rig.wake()), (Phase::Stopped, None));
    assert_eq!(rig.step(2000 * S, KICK), []);
    assert_eq!(rig.machine.stats().losses, 1);
}

#[test]
fn a_client_that_answers_or_talks_lives() {
    let mut rig = Rig::accepted_at(quiet_checks(), 0);
    let mut now = 0;
    for number in 0..100u64 {
        now += 30 * S;
        assert_eq!(rig.run(now), [(now, Did::Ping(1, number))]);
        assert_eq!(rig.step(now, pong(1, &number.to_be_bytes())), []);
    }
    assert_eq!(rig.phase(), Phase::Open);
}

#[test]
fn its_pings_are_answered() {
    let mut rig = Rig::accepted_at(Config::default(), 0);
    assert_eq!(
        rig.step(S, ping(1, b"!")),
        [Did::PongFrame(1, b"!".to_vec())]
    );
    assert_eq!(
        rig.step(S, text(1, JSON_PING)),
        [Did::PongText(1, JSON_PONG.into())]
    );
}

#[test]
fn every_end_is_the_last_whatever_the_table_of_causes_says() {
    for cause in [
        Cause::Eof,
        Cause::Reset,
        Cause::Close(1000),
        Cause::Close(1002),
        Cause::Close(1008),
        Cause::Close(1012),
    ] {
        let mut rig = Rig::accepted_at(Config::default(), 0);
        assert_eq!(rig.step(S, closed(1, cause)), [], "{cause:?}");
        assert_eq!(
            (rig.phase(), rig.wake()),
            (Phase::Stopped, None),
            "{cause:?}"
        );
        let (dids, stale) = rig.step_whole(2 * S, data(1));
        assert!(dids.is_empty() && stale, "{cause:?}");
    }
}

#[test]
fn a_stop_closes_it_and_aborts_after_the_close_timeout() {
    let mut rig = Rig::accepted_at(Config::default(), 0);
    assert_eq!(rig.step(S, STOP), [Did::Close(1, 1000)]);
    let timeout = nanos(Config::default().close_timeout());
    assert_eq!(rig.run_to_abort(), (S + timeout, AbortReason::CloseTimeout));
    assert_eq!((rig.phase(), rig.wake()), (Phase::Stopped, None));
}

#[test]
fn a_dial_that_nobody_made_is_aborted_as_stale() {
    let mut rig = Rig::accepted_at(Config::default(), 0);
    assert_eq!(
        rig.step_whole(S, connected(1)),
        (vec![], false),
        "known already"
    );
    assert_eq!(
        rig.step(S, connected(2)),
        [Did::Abort(2, AbortReason::Stale)]
    );
}

/// The first tick is due at once where the dialect asks at once.
#[test]
fn a_first_ping_at_once_is_due_at_the_first_tick() {
    let dialect = AnyDialect::from_value(&serde_json::json!({
        "rules": [], "ping": {"text": "hb", "every": "10s", "first": "at_once"}
    }));
    let dialect = dialect.expect("a dialect");
    let config = dialect.configure(&Config::default()).unwrap();
    assert_eq!(config.ping(), Ping::Every(secs(10)));
    let mut machine = Heartbeat::accepted(config, dialect, 7, instant(0));
    assert_eq!(machine.wake(), Some(instant(0)));
    let step = machine.step(instant(0), TICK);
    assert_eq!(step.actions.len(), 1, "{step:?}");
    assert_eq!(step.wake, Some(instant(10 * S)));
}

/// The defaults without checks.
fn quiet_checks() -> Config {
    Config::builder().check_interval(None).build().unwrap()
}
