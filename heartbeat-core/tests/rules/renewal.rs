//! Renewals: a connection is closed and dialled anew before its service ends it.

use heartbeat_core::{
    Action, AnyDialect, Cause, Config, ConfigBuilder, ConfigError, Description, Event, Heartbeat,
    Message, Phase, Renewal,
};

use crate::support::*;

fn living(seconds: u64) -> ConfigBuilder {
    quiet()
        .lifetime(secs(seconds))
        .close_timeout(secs(5))
        .backoff(secs(2), secs(60), 0)
        .stable_after(secs(30))
}

/// A rig whose connection has just been closed to be renewed, and when.
fn renewing(config: ConfigBuilder) -> (Rig, u64) {
    let mut rig = Rig::open_at(config.build().unwrap(), 0);
    let (why, at) = rig.machine.renewal().expect("planned");
    assert_eq!(why, Renewal::Lifetime);
    let at = at.as_nanos();
    let dids = rig.run(at);
    assert!(matches!(dids[0], (_, Did::Ending(1, Renewal::Lifetime, _))));
    assert_eq!(
        dids[1..],
        [(at, Did::Renew(1, 4000, Renewal::Lifetime))],
        "{}",
        rig.trace
    );
    assert_eq!(rig.phase(), Phase::Closing);
    (rig, at)
}

#[test]
fn a_renewal_is_told_after_80_to_90_percent_of_the_lifetime_and_comes_a_twentieth_later() {
    let (mut first, mut last) = (u64::MAX, 0);
    for seed in 0..500 {
        let config = living(100).build().unwrap();
        let mut machine = Heartbeat::new(config, heartbeat_core::FramesOnly, seed, instant(0));
        let _ = machine.step(instant(0), TICK);
        let _ = machine.step(instant(0), connected(1));
        let (_, renewed) = machine.renewal().expect("planned");
        let told = machine.wake().expect("the note");
        assert_eq!(renewed, told.saturating_add(secs(5)));
        assert!(
            machine
                .step(instant(told.as_nanos() - 1), TICK)
                .actions
                .is_empty()
        );
        let step = machine.step(told, TICK);
        assert!(matches!(step.actions[..], [Action::Ending { within, .. }] if within == secs(5)));
        (first, last) = (first.min(told.as_nanos()), last.max(told.as_nanos()));
    }
    assert!((80 * S..81 * S).contains(&first), "{first}");
    assert!((89 * S..=90 * S).contains(&last), "{last}");
    // A long life's note comes a minute before.
    let long = living(86_400).idle_timeout(secs(200_000));
    let rig = Rig::open_at(long.build().unwrap(), 0);
    let (_, at) = rig.machine.renewal().expect("planned");
    assert_eq!(at, rig.machine.wake().unwrap().saturating_add(secs(60)));
}

#[test]
fn the_next_dial_follows_the_handshake_at_the_floor_with_no_failure_counted() {
    let (mut rig, at) = renewing(living(100));
    let dids = rig.step(at + S, closed(1, Cause::Close(4000)));
    let floor = 25 * MS;
    let (next, attempt) = (at + S + floor, 0);
    assert_eq!(
        dids,
        [Did::Reconnect {
            at: next,
            attempt,
            delay: floor
        }]
    );
    assert_eq!(rig.run(next), [(next, Did::Connect(2, 0))]);
    rig.step(next, connected(2));
    assert!(
        rig.machine
            .renewal()
            .is_some_and(|(_, renewed)| renewed.as_nanos() > next + 85 * S)
    );
    let stats = rig.machine.stats();
    assert_eq!((stats.renewals, stats.losses, stats.connects), (1, 0, 2));
    assert_eq!(stats.time_open, core::time::Duration::from_nanos(at));
}

#[test]
fn a_handshake_that_is_not_answered_takes_the_close_timeout_and_the_dial_follows() {
    let (mut rig, at) = renewing(living(100));
    let late = at + 5 * S;
    let dids = rig.run(late);
    let abort = Did::Abort(1, heartbeat_core::AbortReason::CloseTimeout);
    assert_eq!(dids[0], (late, abort), "{}", rig.trace);
    assert_eq!(rig.reconnect(), late + 25 * MS);
}

#[test]
fn whatever_the_peer_says_of_its_close_the_plan_stands_and_a_stop_ends_it() {
    for cause in [
        Cause::Close(1008),
        Cause::Protocol(1002),
        Cause::Eof,
        Cause::Close(1012),
    ] {
        let (mut rig, at) = renewing(living(100));
        assert_eq!(delay_of(&rig.step(at, closed(1, cause))), 25 * MS);
    }
    let (mut rig, at) = renewing(living(100));
    assert_eq!(rig.step(at, Event::Kick), []);
    assert_eq!(rig.step(at, Event::Stop), [], "its Close is on its way");
    assert_eq!(rig.step(at, closed(1, Cause::Close(4000))), []);
    assert_eq!(rig.phase(), Phase::Stopped);
}

#[test]
fn failures_before_a_stable_connection_are_forgotten_by_its_renewal() {
    let mut rig = Rig::new(living(100).build().unwrap());
    rig.step(0, TICK);
    rig.step(0, closed(1, Cause::Refused));
    let open = rig.reconnect();
    let (_, at) = rig.machine.renewal().unwrap();
    rig.run(at.as_nanos());
    rig.step(at.as_nanos(), closed(2, Cause::Close(4000)));
    assert!(at.as_nanos() > open + 80 * S);
    assert_eq!(
        rig.run(at.as_nanos() + S),
        [(at.as_nanos() + 25 * MS, Did::Connect(3, 0))]
    );
}

#[test]
fn a_lifetime_is_a_second_at_the_least_and_an_accepted_connection_has_none() {
    let short = Config::builder().lifetime(millis(999)).build();
    assert!(matches!(
        short,
        Err(ConfigError::TooShort {
            key: "lifetime",
            ..
        })
    ));
    let rig = Rig::accepted_at(living(100).build().unwrap(), 0);
    assert_eq!(rig.machine.renewal(), None);
    assert_eq!(
        Rig::open_at(quiet().build().unwrap(), 0).machine.renewal(),
        None
    );
}

// ---- an announced end ---------------------------------------------------------------------------

type Announcing = Heartbeat<Config, AnyDialect>;

fn announcing(config: ConfigBuilder, seed: u64) -> Announcing {
    let dialect = r#"{"rules": [{"text": "bye", "ending": "40s"}, {"text": "soon", "ending": true},
        {"json": {"/left": {"is": "number"}}, "ending": {"s": "/left"}}]}"#;
    let dialect = Description::from_json(dialect).unwrap().into();
    let mut machine = Heartbeat::new(config.build().unwrap(), dialect, seed, instant(0));
    let _ = machine.step(instant(0), TICK);
    let _ = machine.step(instant(0), connected(1));
    machine
}

fn hear(machine: &mut Announcing, at: u64, text: &str) {
    let message = Event::Received(id(1), Message::Text(text));
    let _ = machine.step(instant(at), message);
}

#[test]
fn an_announced_end_is_told_in_the_first_half_of_its_time_and_renewed_a_quarter_later() {
    for (text, within) in [("bye", 40 * S), ("soon", 10 * S), (r#"{"left":8}"#, 8 * S)] {
        let (mut first, mut last) = (u64::MAX, 0);
        for seed in 0..200 {
            let mut machine = announcing(quiet().stable_after(secs(30)), seed);
            hear(&mut machine, 50 * S, text);
            let (why, renewed) = machine.renewal().expect("announced");
            assert_eq!(why, Renewal::Announced);
            let told = machine.wake().unwrap();
            assert_eq!(renewed.as_nanos(), told.as_nanos() + within / 4);
            (first, last) = (first.min(told.as_nanos()), last.max(told.as_nanos()));
            // Said again it changes nothing.
            hear(&mut machine, 50 * S, text);
            assert_eq!(machine.renewal(), Some((why, renewed)));
            let _ = machine.step(told, TICK);
            hear(&mut machine, told.as_nanos(), text);
            assert_eq!(machine.renewal(), Some((why, renewed)));
            let step = machine.step(renewed, TICK);
            assert!(matches!(
                step.actions[..],
                [Action::Renew { code: 4000, .. }]
            ));
        }
        assert!(first < 50 * S + within / 20, "{first}");
        assert!(
            last > 50 * S + within / 20 * 9 && last <= 50 * S + within / 2,
            "{last}"
        );
    }
}

#[test]
fn no_announcement_postpones_what_is_due_and_none_counts_on_an_accepted_connection() {
    let mut machine = announcing(living(100), 7);
    let planned = machine.renewal();
    hear(&mut machine, 0, r#"{"left":5000}"#);
    assert!(machine.renewal().map(|(_, at)| at) <= planned.map(|(_, at)| at));
    let near = machine.wake().unwrap().as_nanos() - 1;
    let before = machine.renewal();
    hear(&mut machine, near, r#"{"left":5000}"#);
    assert_eq!(machine.renewal(), before);
    let dialect =
        Description::from_json(r#"{"rules": [{"text": "bye", "ending": true}]}"#).unwrap();
    let mut accepted = Heartbeat::accepted(Config::default(), dialect, 7, instant(0));
    let _ = accepted.step(instant(1), Event::Received(id(1), Message::Text("bye")));
    assert_eq!(accepted.renewal(), None);
}

/// A server that announces the end of each connection as soon as that is open.
#[test]
fn an_end_that_is_announced_before_a_connection_is_stable_is_a_failure() {
    let config = quiet().stable_after(secs(30)).backoff(secs(2), secs(60), 0);
    let mut machine = announcing(config.max_attempts(3), 7);
    let mut delays = Vec::new();
    for conn in 1..=3 {
        let now = machine.wake().unwrap_or(instant(0));
        if conn > 1 {
            let _ = machine.step(now, TICK);
            let _ = machine.step(now, connected(conn));
        }
        let at = if conn > 1 { now } else { instant(0) };
        let _ = machine.step(at, Event::Received(id(conn), Message::Text("soon")));
        let (_, renewed) = machine.renewal().expect("announced");
        let _ = machine.step(machine.wake().unwrap(), TICK);
        let _ = machine.step(renewed, TICK);
        let step = machine.step(renewed, closed(conn, Cause::Close(4000)));
        delays.extend(
            step.actions
                .iter()
                .map(|action| match action {
                    Action::ReconnectAt { delay, attempt, .. } => (delay.as_secs(), *attempt),
                    _ => (0, 0),
                })
                .filter(|_| conn < 3),
        );
        if conn == 3 {
            assert_eq!(machine.phase(), Phase::Stopped, "given up");
        }
    }
    assert_eq!(delays, [(2, 1), (4, 2)]);
    assert_eq!((machine.stats().renewals, machine.stats().losses), (3, 3));
}
