//! What people and programs are shown of the machine: counts by reason, times as words, events as lines.

use heartbeat_core::trace::{RecordedEvent, event_line, read_event};
use heartbeat_core::{
    AbortCounts, AbortReason, Cause, Clock, Config, Event, Failure, Instant, Message,
};

use crate::support::*;

#[test]
fn each_reason_has_its_own_count() {
    let mut verdicts = AbortCounts::default();
    verdicts.connect_timeout = 11;
    verdicts.idle_timeout = 12;
    verdicts.pong_timeout = 13;
    verdicts.data_timeout = 14;
    verdicts.write_timeout = 15;
    verdicts.session_timeout = 16;
    verdicts.close_timeout = 17;
    verdicts.stale = 18;
    let counts = [
        AbortReason::ConnectTimeout,
        AbortReason::IdleTimeout,
        AbortReason::PongTimeout,
        AbortReason::DataTimeout,
        AbortReason::WriteTimeout,
        AbortReason::SessionTimeout,
        AbortReason::CloseTimeout,
        AbortReason::Stale,
    ]
    .map(|reason| verdicts.of(reason));
    assert_eq!(counts, [11, 12, 13, 14, 15, 16, 17, 18]);
}

#[test]
fn times_are_told_as_words() {
    assert_eq!(format!("{:?}", instant(1_500_000_000)), "1.5s");
    assert_eq!(format!("{:?}", Instant::NEVER), "never");
    let config = format!("{:?}", Config::default());
    for words in ["idle_timeout: 90s", "data_timeout: off", "base: 2s"] {
        assert!(config.contains(words), "{config}");
    }
    assert_eq!(AbortReason::IdleTimeout.to_string(), "idle_timeout");
    assert_eq!(id(7).to_string(), "7");
}

#[test]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a lent dialect is what is tried"
)]
fn a_clock_that_is_lent_tells_the_same_time() {
    struct Still;
    impl Clock for Still {
        fn now(&self) -> Instant {
            instant(7)
        }
    }
    fn read(clock: impl Clock) -> Instant {
        clock.now()
    }
    assert_eq!((read(&Still), read(&&Still)), (instant(7), instant(7)));
}

#[test]
fn an_event_that_is_kept_is_written_and_read_as_itself() {
    let retry_after = |retry_after| Cause::Http {
        status: 429,
        retry_after,
    };
    let events = [
        TICK,
        KICK,
        STOP,
        connected(1),
        ready(1),
        data(1),
        ping(1, b"a"),
        pong(1, b"b"),
        text(1, "c"),
        Event::Received(id(1), Message::Binary(b"d")),
        progress(1),
        write_blocked(1),
        wrote(1),
        read_paused(1),
        read_resumed(1),
        closed(1, Cause::Eof),
        closed(1, Cause::Close(1012)),
        closed(1, retry_after(None)),
        closed(1, retry_after(Some(secs(7)))),
        closed(1, Cause::Session(Failure::Retry)),
        closed(1, Cause::Session(Failure::GiveUp)),
        closed(1, Cause::Session(Failure::RetryAfter(secs(9)))),
    ];
    for event in events {
        let kept = RecordedEvent::new(instant(5), &event);
        assert_eq!(kept.event(), event);
        let line = event_line(instant(5), &event);
        assert_eq!(kept.line(), line);
        let read = read_event(&line).expect(&line);
        assert_eq!((read.at, read.event()), (instant(5), event), "{line}");
    }
}

#[test]
fn a_line_that_is_no_event_is_refused() {
    for line in [
        r#"{"at": 1, "event": "received", "conn": 1, "data": false}"#,
        r#"{"at": 1, "event": "closed", "conn": 1, "cause": {"session": "maybe"}}"#,
        r#"{"at": 1, "event": "closed", "conn": 1, "cause": {"session": {"after": "7s"}}}"#,
        r#"{"at": 1, "event": "closed", "conn": 1, "cause": {"session": 7}}"#,
        r#"{"at": 1, "event": "closed", "conn": 1, "cause": {"close": 1000, "http": 500}}"#,
        r#"{"at": 1, "event": "closed", "conn": 1, "cause": 7}"#,
    ] {
        assert!(read_event(line).is_err(), "{line}");
    }
    let null =
        r#"{"at": 1, "event": "closed", "conn": 1, "cause": {"http": 429, "retry_after": null}}"#;
    let event = read_event(null).expect("no Retry-After");
    let expected = Cause::Http {
        status: 429,
        retry_after: None,
    };
    assert_eq!(event.event(), closed(1, expected));
}

#[test]
fn a_configuration_goes_through_any_serde_format() {
    let config = Config::brisk();
    let text = serde_json::to_string(&config).expect("written");
    assert_eq!(serde_json::from_str::<Config>(&text).expect(&text), config);
    let refused = serde_json::from_str::<Config>(r#"{"idle_timeout": "0s"}"#).unwrap_err();
    assert!(
        refused.to_string().contains("`idle_timeout` is zero"),
        "{refused}"
    );
}
