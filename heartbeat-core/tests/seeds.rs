//! What the fuzzer begins with: small inputs, kept in `fuzz/seeds/step`, held to the same check as by the
//! fuzz target, without a fuzzer.
//!
//! `UPDATE_SEEDS=1` writes them anew. `SEED=FILE` (an artifact of the fuzzer's, say) checks that file alone
//! and prints it as a trace that `replay` reads.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use heartbeat_core::Action;
use heartbeat_kit::{Resolver, Script};

use support::bytes::{Seed, check, seconds};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/step")
}

// The bytes of an event's kind; see `support::bytes`.
const TICK: u8 = 0;
const CONNECTED: u8 = 8;
const READY: u8 = 11;
const DATA: u8 = 12;
const PING: u8 = 13;
const PONG: u8 = 14;
const TEXT: u8 = 16;
const PROGRESS: u8 = 18;
const WRITE_BLOCKED: u8 = 19;
const WROTE: u8 = 20;
const READ_PAUSED: u8 = 21;
const READ_RESUMED: u8 = 22;
const CLOSED: u8 = 23;
const CLOSED_CODE: u8 = 24;
const CLOSED_REFRESH: u8 = 25;
const CLOSED_HTTP: u8 = 29;
const KICK: u8 = 30;
const STOP: u8 = 31;

fn open(change: &[(usize, u8)]) -> Seed {
    Seed::new(change).wake().later(seconds(1), CONNECTED, 0)
}

fn seeds() -> Vec<(&'static str, Seed)> {
    let ten_hours = 10 * 8 + 6;
    vec![
        (
            "dials_time_out",
            Seed::new(&[]).wake().wake().wake().wake().wake(),
        ),
        ("silence", open(&[(4, 0)]).wake().wake()),
        ("probe_unanswered", open(&[]).wake().wake().wake()),
        (
            "probe_answered",
            open(&[])
                .wake()
                .later(seconds(1), PONG, 1 << 4)
                .wake()
                .wake(),
        ),
        ("pings_of_all_kinds", {
            let ping_1 = open(&[]).later(seconds(1), PING, 5 << 4);
            ping_1
                .later(0, TEXT, 0)
                .later(0, TEXT, 8 << 4)
                .later(0, DATA, 0)
                .wake()
        }),
        ("periodic_and_keepalive", {
            let head = [(3, seconds(2)), (4, seconds(2)), (5, seconds(1))];
            open(&head)
                .wake()
                .wake()
                .wake()
                .wake()
                .later(0, DATA, 0)
                .wake()
        }),
        ("data_timeout", {
            let open = open(&[(7, seconds(6))]);
            open.wake()
                .later(seconds(1), PONG, 1 << 4)
                .wake()
                .later(0, PROGRESS, 0)
                .wake()
                .wake()
        }),
        ("write_blocked", {
            let open = open(&[])
                .later(seconds(1), WRITE_BLOCKED, 0)
                .later(seconds(1), WROTE, 0);
            open.later(0, WRITE_BLOCKED, 0).wake().wake().wake()
        }),
        ("reading_paused", {
            let open = open(&[]).wake().later(seconds(1), READ_PAUSED, 0);
            open.later(seconds(8), TICK, 0)
                .later(0, READ_RESUMED, 0)
                .wake()
                .wake()
        }),
        ("sessions", {
            let late = open(&[(16, seconds(2))])
                .wake()
                .wake()
                .later(0, CONNECTED, 0);
            let lost = late
                .later(seconds(1), READY, 0)
                .later(0, CLOSED, 5 << 4)
                .wake();
            lost.later(0, CONNECTED, 0).later(0, CLOSED, 7 << 4)
        }),
        (
            "late_tick",
            open(&[]).then(7, ten_hours, TICK, 0).wake().wake(),
        ),
        ("kicks", {
            let open = open(&[]).later(0, KICK, 0).later(0, KICK, 0).wake();
            open.later(0, CLOSED, 1 << 4).later(0, KICK, 0).wake()
        }),
        ("codes", {
            let restart = open(&[])
                .later(0, CLOSED_CODE, 12 << 4)
                .wake()
                .later(0, CONNECTED, 0);
            restart
                .later(0, CLOSED_REFRESH, 0)
                .wake()
                .later(0, CLOSED_REFRESH, 0)
                .wake()
        }),
        (
            "retry_after",
            Seed::new(&[])
                .wake()
                .later(seconds(20), CLOSED_HTTP, 0)
                .wake(),
        ),
        ("stop_while_open", open(&[]).later(0, STOP, 0).wake().wake()),
        (
            "stop_while_connecting",
            Seed::new(&[])
                .wake()
                .later(0, STOP, 0)
                .later(0, CONNECTED, 0),
        ),
        ("stale_events", {
            let lost = open(&[]).later(0, CLOSED, 0).wake().later(0, CONNECTED, 12);
            lost.later(0, DATA, 12)
                .later(0, CONNECTED, 15)
                .later(0, CLOSED, 14)
                .wake()
        }),
        (
            "time_runs_backwards",
            open(&[])
                .then(13, seconds(30), DATA, 0)
                .then(14, 0, TICK, 0)
                .wake(),
        ),
        (
            "end_of_time",
            open(&[(0, 128 + 12 * 8 + 3)])
                .wake()
                .wake()
                .wake()
                .then(15, 0, TICK, 0),
        ),
        (
            "gives_up",
            Seed::new(&[(15, 203)])
                .wake()
                .later(0, CLOSED, 0)
                .wake()
                .later(0, CLOSED, 0),
        ),
    ]
}

#[test]
fn each_seed_of_the_fuzzer_obeys_the_model() {
    for (name, seed) in seeds() {
        let (path, bytes) = (folder().join(name), seed.bytes());
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(
            fs::read(&path).unwrap(),
            bytes,
            "{name}: UPDATE_SEEDS=1 writes it anew"
        );
        if let Err(difference) = check(&bytes) {
            panic!("{name}: {difference}");
        }
    }
    assert_eq!(fs::read_dir(folder()).unwrap().count(), seeds().len());
}

/// A seed that is about a verdict reaches it: the bytes mean what their names say.
#[test]
fn the_seeds_reach_every_verdict_and_giving_up() {
    let mut reached = [0; 9];
    for (_, seed) in seeds() {
        let script = Script::from_bytes(&seed.bytes()).unwrap();
        let mut resolver = Resolver::new(script.header.start);
        let mut machine = script.header.heartbeat();
        for op in script.ops {
            let (now, event) = resolver.resolve(&machine, op);
            let step = machine.step(now, event);
            let gave_up = |action: &Action<'_>| matches!(action, Action::GaveUp { .. });
            reached[8] += u32::from(step.actions.iter().any(gave_up));
        }
        let verdicts = machine.stats().aborts;
        let each = [
            verdicts.connect_timeout,
            verdicts.session_timeout,
            verdicts.idle_timeout,
            verdicts.pong_timeout,
            verdicts.data_timeout,
            verdicts.write_timeout,
            verdicts.close_timeout,
            verdicts.stale,
        ];
        for (sum, count) in reached.iter_mut().zip(each) {
            *sum += count;
        }
    }
    assert!(reached.iter().all(|count| *count > 0), "{reached:?}");
}

#[test]
fn a_given_input_is_told_as_a_trace() {
    let Some(path) = std::env::var_os("SEED") else {
        return;
    };
    let bytes = fs::read(path).expect("SEED names a readable file");
    let script = Script::from_bytes(&bytes).expect("at least 17 bytes");
    print!("{}", script.trace());
    if let Err(difference) = check(&bytes) {
        panic!("{difference}");
    }
}
