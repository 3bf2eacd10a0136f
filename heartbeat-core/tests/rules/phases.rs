//! What each event does in each phase, as a table that can be read (`phases.txt`) and as a diagram
//! (`docs/phases.mmd`). Both are written by the machine itself and compared here, so that neither can
//! tell something else than it does. `UPDATE_SNAPSHOTS=1` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use heartbeat_core::{Action, Cause, Config, Event, Failure, Instant, Phase, Route, Step};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::support::*;
use heartbeat_kit::{Resolver, scripts};

const HOUR: u64 = 3600 * S;

/// Without checks, whose wakes would hide the others.
fn config() -> Config {
    Config::builder()
        .check_interval(None)
        .backoff(secs(2), secs(60), 0)
        .build()
        .unwrap()
}

/// A machine in each situation that matters, and what is said about it.
fn situations() -> Vec<(&'static str, u64, Rig)> {
    let dialling = || {
        let mut rig = Rig::new(config());
        rig.step(0, TICK);
        rig
    };
    let open = || Rig::open_at(config(), 0);
    let after = |mut rig: Rig, steps: &[(u64, Event<'static>)]| {
        for (at, event) in steps {
            rig.step(*at, *event);
        }
        rig
    };
    vec![
        ("waiting for the first dial", 0, Rig::new(config())),
        (
            "waiting, 1 s after a loss",
            3 * S,
            after(open(), &[(2 * S, closed(1, Cause::Eof)), (3 * S, TICK)]),
        ),
        (
            "waiting, 1 s after a Retry-After of a minute",
            3 * S,
            after(
                dialling(),
                &[(
                    2 * S,
                    closed(
                        1,
                        Cause::Http {
                            status: 503,
                            retry_after: Some(secs(60)),
                        },
                    ),
                )],
            ),
        ),
        ("connecting, for 1 s", S, dialling()),
        ("open, a byte heard 1 s ago", S, open()),
        (
            "open, a probe unanswered for 1 s",
            31 * S,
            after(open(), &[(30 * S, TICK)]),
        ),
        (
            "open, the probe of a late tick unanswered for 1 s",
            HOUR + S,
            after(open(), &[(HOUR, TICK)]),
        ),
        (
            "open, a write blocked for 1 s",
            2 * S,
            after(open(), &[(S, write_blocked(1))]),
        ),
        (
            "open, reading paused for 1 s",
            2 * S,
            after(open(), &[(S, read_paused(1))]),
        ),
        (
            "open, the session asked for and not ready for 1 s",
            S,
            Rig::open_at(
                config()
                    .to_builder()
                    .session_timeout(secs(15))
                    .build()
                    .unwrap(),
                0,
            ),
        ),
        (
            "open since it was accepted, 1 s ago",
            S,
            Rig::accepted_at(config(), 0),
        ),
        ("closing, for 1 s", 2 * S, after(open(), &[(S, STOP)])),
        (
            "stopped",
            2 * S,
            after(open(), &[(S, STOP), (S, closed(1, Cause::Close(1000)))]),
        ),
    ]
}

/// Every event, and those that a phase may tell apart more than once.
fn events(wake: Option<u64>, now: u64) -> Vec<(&'static str, u64, Event<'static>)> {
    let wake = wake.unwrap_or(now + S);
    let cause = |cause| closed(1, cause);
    vec![
        ("tick, at once", now, TICK),
        ("tick, 1 ns early", wake.saturating_sub(1).max(now), TICK),
        ("tick, in time", wake, TICK),
        ("tick, late by the grace", wake + S, TICK),
        ("tick, an hour late", wake + HOUR, TICK),
        ("connected", now, connected(1)),
        ("connected, another", now, connected(ANOTHER)),
        ("ready", now, ready(1)),
        ("received data", now, data(1)),
        ("received data, an hour late", wake + HOUR, data(1)),
        ("received a ping frame", now, ping(1, b"!")),
        ("received a ping text", now, text(1, JSON_PING)),
        ("received a pong frame", now, pong(1, &[0; 8])),
        ("progress", now, progress(1)),
        ("write_blocked", now, write_blocked(1)),
        ("wrote", now, wrote(1)),
        ("ping_waiting", now, ping_waiting(1)),
        ("ping_written", now, ping_written(1)),
        ("ping_unsent", now, ping_unsent(1)),
        ("routed", now, routed(1, Route::ONLY)),
        ("read_paused", now, read_paused(1)),
        ("read_resumed", now, read_resumed(1)),
        ("closed, end of stream", now, cause(Cause::Eof)),
        ("closed, 1012", now, cause(Cause::Close(1012))),
        ("closed, 1008", now, cause(Cause::Close(1008))),
        ("closed, 1002", now, cause(Cause::Close(1002))),
        (
            "closed, session refused",
            now,
            cause(Cause::Session(Failure::Refresh)),
        ),
        ("anything else, another", now, data(ANOTHER)),
        ("kick", now, KICK),
        ("stop", now, STOP),
    ]
}

/// A new event must find its place here, and so in the table.
fn kind(event: &Event<'_>) -> &'static str {
    match event {
        Event::Tick => "tick",
        Event::Connected(_) => "connected",
        Event::Ready(_) => "ready",
        Event::Received(..) => "received",
        Event::Progress(_) => "progress",
        Event::WriteBlocked(_) => "write_blocked",
        Event::Wrote(_) => "wrote",
        Event::PingWaiting(_) => "ping_waiting",
        Event::PingWritten(_) => "ping_written",
        Event::PingUnsent(_) => "ping_unsent",
        Event::Routed(..) => "routed",
        Event::ReadPaused(_) => "read_paused",
        Event::ReadResumed(_) => "read_resumed",
        Event::Closed(..) => "closed",
        Event::Kick => "kick",
        Event::Stop => "stop",
    }
}

/// A connection that is not the current one in any situation.
const ANOTHER: u64 = 9;

/// What the table calls "anything else, another".
const ANOTHERS: [Event<'static>; 13] = [
    ready(ANOTHER),
    data(ANOTHER),
    ping(ANOTHER, b"!"),
    progress(ANOTHER),
    write_blocked(ANOTHER),
    wrote(ANOTHER),
    ping_waiting(ANOTHER),
    ping_written(ANOTHER),
    ping_unsent(ANOTHER),
    routed(ANOTHER, Route::ONLY),
    read_paused(ANOTHER),
    read_resumed(ANOTHER),
    closed(ANOTHER, Cause::Close(1002)),
];

/// The snapshot in `path` is `text`, or becomes it.
fn compare(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(path, text).expect("written");
        return;
    }
    let expected = fs::read_to_string(&path).expect("a snapshot");
    for (number, (line, expected)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(
            line,
            expected,
            "line {} of {} (UPDATE_SNAPSHOTS=1 writes it anew)",
            number + 1,
            path.display()
        );
    }
    assert_eq!(text, expected, "{}", path.display());
}

// ---- the table ---------------------------------------------------------------------------------

#[test]
fn the_table_has_each_event_and_each_phase() {
    let events: BTreeSet<_> = events(None, 0).iter().map(|row| kind(&row.2)).collect();
    assert_eq!(events.len(), 16, "{events:?}");
    let phases: BTreeSet<_> = situations()
        .iter()
        .map(|row| row.2.phase().as_str())
        .collect();
    assert_eq!(phases.len(), 5, "{phases:?}");
}

#[test]
fn each_event_does_in_each_phase_what_the_table_says() {
    let mut table = String::from(
        "What each event does in each phase. Written by the machine: see phases.rs.\n\
         Event, phase after it, time until the next wake, actions. Defaults, without\n\
         checks and without jitter.\n",
    );
    for (situation, now, rig) in situations() {
        let _ = writeln!(table, "\n{situation}");
        for (name, at, event) in events(rig.wake(), now) {
            let mut machine = rig.machine.clone();
            let step = machine.step(instant(at), event);
            let actions: Vec<String> = step.actions.iter().map(tell).collect();
            let actions = if actions.is_empty() {
                "-".to_owned()
            } else {
                actions.join(", ")
            };
            let wake = step.wake.map_or("never".to_owned(), |wake| span(wake, at));
            let stale = if step.stale { " (stale)" } else { "" };
            let phase = machine.phase();
            let line = format!(
                "    {:<34}{:<12}{wake:<14}{actions}",
                format!("{name}{stale}"),
                phase.as_str()
            );
            let _ = writeln!(table, "{}", line.trim_end());
        }
    }
    compare("tests/rules/phases.txt", &table);
}

#[test]
fn whatever_another_connection_says_is_the_same_in_each_phase() {
    for (situation, now, rig) in situations() {
        let answers = ANOTHERS.map(|event| {
            let mut machine = rig.machine.clone();
            let step = machine.step(instant(now), event);
            (did(&step), step.wake, step.stale, machine.phase())
        });
        for answer in &answers {
            assert_eq!(answer, &answers[0], "{situation}");
        }
    }
}

fn tell(action: &Action<'_>) -> String {
    match action {
        Action::Connect {
            conn,
            attempt,
            refresh,
        } => {
            let refresh = if *refresh { ", refresh" } else { "" };
            format!("connect({conn}, attempt {attempt}{refresh})")
        }
        Action::SendPong { .. } => "send_pong".into(),
        Action::SendPing { .. } => "send_ping".into(),
        Action::Close { code, .. } => format!("close({code})"),
        Action::Abort { conn, reason } => format!("abort({conn}, {reason})"),
        Action::ReconnectAt { attempt, delay, .. } => {
            format!("reconnect_at(in {delay:?}, attempt {attempt})")
        }
        Action::Ending { why, within, .. } => format!("ending(in {within:?}, {why})"),
        Action::Renew { code, why, .. } => format!("renew({code}, {why})"),
        Action::Check { idle, .. } => format!("check(idle {idle:?})"),
        Action::GaveUp { reason } => format!("gave_up({reason:?})"),
    }
}

fn span(wake: Instant, now: u64) -> String {
    format!("{:?}", wake.saturating_duration_since(instant(now)))
}

// ---- the diagram -------------------------------------------------------------------------------

/// Phases before and after, and what led from one to the other.
type Transitions = BTreeMap<(&'static str, &'static str), BTreeSet<String>>;

fn observe(
    transitions: &mut Transitions,
    before: Phase,
    event: &Event<'_>,
    step: &Step<'_>,
    after: Phase,
) {
    if before != after {
        let label = label(before, event, step, after);
        transitions
            .entry((before.as_str(), after.as_str()))
            .or_default()
            .insert(label);
    }
}

/// What a transition is called: the verdict or the plan that made it, else the event.
fn label(before: Phase, event: &Event<'_>, step: &Step<'_>, after: Phase) -> String {
    let gave_up = step
        .actions
        .iter()
        .any(|action| matches!(action, Action::GaveUp { .. }));
    let own = step.actions.iter().rev().find_map(|action| match action {
        Action::Connect { .. } => Some("time to dial".to_owned()),
        Action::Renew { .. } => Some("renew".to_owned()),
        Action::Abort { conn, reason } if !(step.stale && names(event, conn.get())) => {
            Some(reason.as_str().to_owned())
        }
        _ => None,
    });
    let cause = match (own, event) {
        (_, Event::Stop) => "stop".to_owned(),
        (Some(own), _) => own,
        (None, Event::Connected(_)) => "connected".to_owned(),
        (None, Event::Closed(..)) => "closed".to_owned(),
        (None, other) => panic!("a transition by {other:?}"),
    };
    if gave_up {
        format!("{cause}, given up")
    } else if (before, after) == (Phase::Open, Phase::Stopped) {
        format!("{cause}, accepted")
    } else {
        cause
    }
}

fn names(event: &Event<'_>, conn: u64) -> bool {
    matches!(event, Event::Connected(id) if id.get() == conn)
}

/// Steps of a life that gives up after one attempt, and more: a broken one must not go on for ever.
const LIFE: usize = 1000;

/// All transitions of the table, and of machines that may give up after one attempt.
fn transitions() -> Transitions {
    let mut transitions = Transitions::new();
    for (_, now, rig) in situations() {
        for (_, at, event) in events(rig.wake(), now) {
            let mut machine = rig.machine.clone();
            let step = machine.step(instant(at), event);
            observe(
                &mut transitions,
                rig.phase(),
                &event,
                &step,
                machine.phase(),
            );
        }
    }
    // Each verdict, with and without another attempt after it.
    let silent = || quiet().backoff(secs(2), secs(60), 0).max_attempts(2);
    let verdicts = [
        silent().idle_timeout(secs(5)),
        silent()
            .ping(heartbeat_core::Ping::Every(secs(2)))
            .pong_timeout(secs(3)),
        silent().data_timeout(secs(5)),
        silent().write_timeout(secs(5)),
        silent().session_timeout(secs(5)),
    ];
    for builder in verdicts {
        let config = builder.build().unwrap();
        let mut accepted = Rig::accepted_at(config.clone(), 0).machine;
        let _ = accepted.step(instant(0), write_blocked(1));
        for _ in 0..LIFE {
            let Some(now) = accepted.wake() else { break };
            let before = accepted.phase();
            let step = accepted.step(now, TICK);
            observe(&mut transitions, before, &TICK, &step, accepted.phase());
        }
        let mut machine = Rig::new(config).machine;
        for _ in 0..LIFE {
            let Some(now) = machine.wake() else { break };
            for event in [Some(TICK), machine_connected(&machine)]
                .into_iter()
                .flatten()
            {
                let before = machine.phase();
                let step = machine.step(now, event);
                observe(&mut transitions, before, &event, &step, machine.phase());
            }
            if let (Phase::Open, Some(conn)) = (machine.phase(), machine.conn()) {
                let _ = machine.step(now, Event::WriteBlocked(conn));
            }
        }
    }
    // A renewal, answered and not.
    for answered in [true, false] {
        let config = quiet().lifetime(secs(100)).build().unwrap();
        let mut machine = Rig::open_at(config, 0).machine;
        while let Some(now) = machine.wake().filter(|wake| *wake < instant(110 * S)) {
            let closing = machine.conn().filter(|_| machine.phase() == Phase::Closing);
            let event = match closing {
                Some(conn) if answered => Event::Closed(conn, Cause::Close(4000)),
                _ => TICK,
            };
            let before = machine.phase();
            let step = machine.step(now, event);
            observe(&mut transitions, before, &event, &step, machine.phase());
        }
    }
    // Dials that time out until it gives up.
    let mut machine = Rig::new(silent().build().unwrap()).machine;
    for _ in 0..LIFE {
        let Some(now) = machine.wake() else { break };
        let before = machine.phase();
        let step = machine.step(now, TICK);
        observe(&mut transitions, before, &TICK, &step, machine.phase());
    }
    transitions
}

fn machine_connected(machine: &Machine) -> Option<Event<'static>> {
    // A dial that the tick before began, or is about to begin.
    let next = u64::from(machine.stats().dials) + 1;
    (machine.phase() == Phase::Waiting).then_some(connected(next))
}

fn diagram(transitions: &Transitions) -> String {
    let mut text = String::from(
        "%% Written by the machine itself: see tests/rules/phases.rs.\n\
         stateDiagram-v2\n    [*] --> waiting\n    [*] --> open: accepted\n",
    );
    for ((before, after), labels) in transitions {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let _ = writeln!(text, "    {before} --> {after}: {}", labels.join("<br>"));
    }
    text.push_str("    stopped --> [*]\n");
    text
}

#[test]
fn the_diagram_shows_the_transitions_of_the_machine() {
    compare("docs/phases.mmd", &diagram(&transitions()));
}

/// Whatever happens to a machine, it takes no way that is not in the diagram.
#[test]
fn no_random_trace_leaves_the_diagram() {
    let known = transitions();
    let mut runner = TestRunner::deterministic();
    let scripts = scripts(80);
    for _ in 0..250 {
        let script = scripts.new_tree(&mut runner).expect("a script").current();
        let mut machine = script.header.clone().heartbeat();
        let mut resolver = Resolver::new(script.header.start);
        for op in &script.ops {
            let (now, event) = resolver.resolve(&machine, *op);
            let before = machine.phase();
            let step = machine.step(now, event);
            let mut seen = Transitions::new();
            observe(&mut seen, before, &event, &step, machine.phase());
            for (way, labels) in seen {
                let in_diagram = known.get(&way).is_some_and(|known| labels.is_subset(known));
                assert!(in_diagram, "{way:?} by {labels:?}: {event:?}");
            }
        }
    }
}
