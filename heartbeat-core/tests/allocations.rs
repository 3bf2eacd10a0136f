//! Invariant 19: a step allocates nothing, whatever the event.

mod support;

use heartbeat_core::{Cause, Config, Event, FramesOnly, Heartbeat, Instant, JsonType, Ping};
use support::*;

fn allocations(f: impl FnOnce()) -> u64 {
    allocation_counter::measure(f).count_total
}

fn busy() -> Config {
    Config::builder()
        .ping(Ping::Every(secs(3)))
        .keepalive(secs(2))
        .check_interval(secs(5))
        .data_timeout(secs(60))
        .build()
        .unwrap()
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

#[test]
fn a_machine_is_made_without_allocating() {
    let config = busy();
    let made = allocations(|| {
        let machine = Heartbeat::new(&config, FramesOnly, 7, Instant::ORIGIN);
        std::hint::black_box(&machine);
    });
    assert_eq!(made, 0);
}

#[test]
fn a_whole_life_allocates_nothing() {
    let mut machine = Heartbeat::new(busy(), JsonType, 7, Instant::ORIGIN);
    let roomy = r#" { "a" : [1, null, "pong"], "type" : "ping" , "z":{"ping":""} } "#;
    let long = format!(r#"{{"type":"ping","pad":"{}"}}"#, "x".repeat(4000));
    let count = allocations(|| {
        for conn in 1..200 {
            let mut now = machine.wake().expect("a planned dial").as_nanos();
            let mut step = |now, event: Event<'_>| {
                let step = machine.step(instant(now), event);
                std::hint::black_box(&step);
            };
            for event in [TICK, connected(conn), KICK] {
                step(now, event);
            }
            for round in 0..40u64 {
                now += 2 * S;
                for event in [
                    TICK,
                    ping(conn, b"hello"),
                    pong(conn, &round.to_be_bytes()),
                    text(conn, JSON_PING),
                    text(conn, roomy),
                    text(conn, &long),
                    text(conn, r#"{"type":"trade"#),
                    text(conn, "ping"),
                    data(conn),
                    progress(conn),
                    write_blocked(conn),
                    wrote(conn),
                    read_paused(conn),
                    read_resumed(conn),
                    connected(conn - 1),
                    closed(conn - 1, Cause::Eof),
                    KICK,
                ] {
                    step(now, event);
                }
            }
            match conn % 4 {
                0 => step(now, closed(conn, Cause::Close(1012))),
                1 => step(
                    now,
                    closed(
                        conn,
                        Cause::Http {
                            status: 429,
                            retry_after: Some(secs(7)),
                        },
                    ),
                ),
                2 => step(now + 3600 * S, TICK),
                _ => step(now, closed(conn, Cause::Reset)),
            }
            if conn % 4 == 2 {
                // The late tick asked; nobody answers.
                step(now + 7200 * S, TICK);
            }
        }
        let _ = machine.step(machine.wake().unwrap(), STOP);
    });
    assert_eq!(count, 0);
    assert_eq!(machine.stats().losses, 199);
    assert!(machine.stats().pongs_sent > 20_000);
}

/// What `serde_json` cannot parse in place, in a text that may be a ping: it unescapes a key or word
/// into a buffer, keeps a stack of the brackets of nested values, and boxes an error. All is gone
/// when the step is over, and none of it can be large: a text is looked at only up to
/// [`JsonType::MAX_LEN`].
#[test]
fn a_json_text_with_escapes_or_nesting_or_errors_costs_a_few_passing_allocations() {
    let mut machine = Heartbeat::new(busy(), JsonType, 7, Instant::ORIGIN);
    let _ = machine.step(Instant::ORIGIN, TICK);
    let _ = machine.step(Instant::ORIGIN, connected(1));
    let escapes = format!(r#"{{"{}":1,"type":"ping"}}"#, "\\u0070".repeat(600));
    for json in [
        r#"{"t\u0079pe":"\u0070ing"}"#,
        r#"{"type":"pi\ng"#,
        r#"{"type":"ping""#,
        r#"{"type":"trade","note":[{"text":"\"ping\""}]}"#,
        &escapes,
    ] {
        let info = allocation_counter::measure(|| {
            let step = machine.step(Instant::ORIGIN, text(1, json));
            std::hint::black_box(&step);
        });
        assert!(info.count_total <= 16, "{json}: {info:?}");
        assert!(
            info.bytes_max <= 2 * JsonType::MAX_LEN as u64,
            "{json}: {info:?}"
        );
        assert_eq!(info.bytes_current, 0, "{json}: {info:?}");
    }
}
