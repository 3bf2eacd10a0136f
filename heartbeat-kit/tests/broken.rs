//! The auditor names the rule that a wrong driver or machine breaks.

use heartbeat_core::{
    Action, Cause, Config, ConnId, Event, FramesOnly, Heartbeat, Instant, Message,
};
use heartbeat_kit::{Audited, Auditor};

fn second(count: u64) -> Instant {
    Instant::from_nanos(count * 1_000_000_000)
}

/// Reports these events to a machine and an auditor. Returns the first broken rule.
fn broken_by(events: &[(u64, Event<'_>)]) -> Option<&'static str> {
    let mut machine = Heartbeat::new(Config::default(), FramesOnly, 7, second(0));
    let mut auditor = Auditor::new().of_driver();
    events.iter().find_map(|(at, event)| {
        let step = machine.step(second(*at), *event);
        let judged = auditor.step(second(*at), event, &step, machine.phase());
        judged.err().map(|broken| broken.rule())
    })
}

#[test]
fn a_driver_that_does_as_it_should_is_left_alone() {
    let conn = ConnId::new(1);
    assert_eq!(
        broken_by(&[
            (0, Event::Tick),
            (1, Event::Connected(conn)),
            (2, Event::Received(conn, Message::Ping(b""))),
            (3, Event::Closed(conn, Cause::Eof)),
            (600, Event::Tick),
        ]),
        None
    );
}

#[test]
fn each_mistake_of_a_driver_has_its_sentence() {
    let conn = ConnId::new(1);
    let open = [(0, Event::Tick), (1, Event::Connected(conn))];
    for (mistake, rule) in [
        (
            vec![(0, Event::Tick)],
            "A driver's time does not run backwards.",
        ),
        (
            vec![(1, Event::Progress(ConnId::new(2)))],
            "A driver names only connections that were handed out.",
        ),
        (
            vec![(1, Event::Connected(conn))],
            "A dial is answered once.",
        ),
        (
            vec![
                (1, Event::Closed(conn, Cause::Eof)),
                // Allowed: found by the same read of the socket.
                (1, Event::Wrote(conn)),
                (2, Event::Wrote(conn)),
            ],
            "A connection says nothing after its end.",
        ),
    ] {
        assert_eq!(broken_by(&[&open[..], &mistake[..]].concat()), Some(rule));
    }
    assert_eq!(
        broken_by(&[(0, Event::Tick), (1, Event::Progress(conn))]),
        Some("A connection says nothing before it is connected.")
    );
}

/// The auditor is given the same answer twice, as if the machine had dialled twice.
#[test]
fn an_answer_that_breaks_a_rule_is_told() {
    let mut machine = Heartbeat::new(Config::default(), FramesOnly, 7, second(0));
    let mut auditor = Auditor::new();
    let step = machine.step(second(0), Event::Tick);
    assert!(matches!(step.actions[0], Action::Connect { .. }));
    assert_eq!(
        auditor.step(second(0), &Event::Tick, &step, machine.phase()),
        Ok(())
    );
    // The second `Connect` would be a second connection.
    let again = auditor.step(second(0), &Event::Tick, &step, machine.phase());
    assert_eq!(
        again.unwrap_err().rule(),
        "There are never two connections at once."
    );
}

#[test]
#[should_panic(expected = "A connection says nothing after its end.")]
fn an_audited_machine_panics_with_the_rule_and_the_trace() {
    let machine = Heartbeat::new(Config::default(), FramesOnly, 7, second(0));
    let mut machine = Audited::new(machine, second(0)).with_driver();
    let conn = ConnId::new(1);
    for (at, event) in [
        (0, Event::Tick),
        (0, Event::Closed(conn, Cause::Eof)),
        (1, Event::Wrote(conn)),
    ] {
        let _ = machine.step(second(at), event);
    }
}

/// A stop applies before anything due at the same time, so the abandoned closing handshake belongs to the stop.
#[test]
fn a_stop_just_when_the_close_of_a_renewal_is_given_up_is_no_loss() {
    let config = Config::from_json(
        r#"{"idle_timeout": "3s", "ping": "never", "pong_timeout": null, "lifetime": "1s", "close_timeout": "1s",
            "connect_timeout": "1s", "backoff": {"base": "1s", "cap": "1s", "jitter_percent": 0}}"#,
    );
    let machine = Heartbeat::new(config.expect("consistent"), FramesOnly, 0, second(0));
    let mut machine = Audited::new(machine, second(0));
    for (at, event) in [
        (0, Event::Tick),
        (1, Event::Connected(ConnId::new(1))),
        (2, Event::Tick),
        (3, Event::Stop),
    ] {
        let _ = machine.step(second(at), event);
    }
    assert_eq!(machine.stats().aborts.close_timeout, 1);
}
