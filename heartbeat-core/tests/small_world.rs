//! All of it, in small: every sequence of events up to a depth, over a small alphabet of events and
//! times, for a handful of configurations. After each step machine and model agree and no invariant
//! is broken (the auditor of `heartbeat-kit`); and from each state that is reached, a healthy network leads to an
//! open connection within a bound.
//!
//! `SMALL_WORLD_DEPTH=6 cargo test --release -p heartbeat-core --test small_world` goes deeper.

mod support;

use std::time::Duration;

use heartbeat_core::trace::{Header, event_line};
use heartbeat_core::{Cause, Config, ConfigBuilder, Event, Failure, Instant, Message, Phase, Ping};

use heartbeat_kit::script::{Content, Op, Resolver, What, When, Which};
use support::compare::{Pair, header, report};
use support::*;

/// Steps after the prefix that opens a connection.
const DEPTH: usize = 4;

fn depth() -> usize {
    std::env::var("SMALL_WORLD_DEPTH").map_or(DEPTH, |depth| depth.parse().expect("a number"))
}

const CURRENT: Which = Which::Current;

/// At once, in time, and so late that it counts as late.
const TIMES: [When; 3] = [When::Later(0), When::Wake, When::AfterWake(S + 1)];

/// Short times that coincide: idle 4 s, everything else below.
fn small() -> ConfigBuilder {
    Config::builder()
        .idle_timeout(secs(4))
        .check_interval(None)
        .ping(Ping::AfterSilence(secs(2)))
        .pong_timeout(secs(2))
        .connect_timeout(secs(3))
        .write_timeout(secs(3))
        .close_timeout(secs(1))
        .late_grace(secs(1))
        .backoff(secs(1), secs(2), 0)
        .stable_after(secs(3))
}

// ---- exploring ---------------------------------------------------------------------------------

/// A state that was reached, and how.
#[derive(Clone)]
struct Node {
    pair: Pair,
    resolver: Resolver,
    path: Vec<(Instant, Event<'static>)>,
}

impl Node {
    fn new(header: &Header) -> Self {
        Self {
            pair: Pair::new(header.clone()),
            resolver: Resolver::new(header.start),
            path: Vec::new(),
        }
    }

    fn step(&mut self, header: &Header, op: Op) {
        let (now, event) = self.resolver.resolve(&self.pair.machine, op);
        self.path.push((now, event));
        if let Err(difference) = self.pair.step(now, event) {
            self.fail(header, &difference);
        }
    }

    fn fail(&self, header: &Header, difference: &str) -> ! {
        let mut trace = header.line() + "\n";
        for (now, event) in &self.path {
            trace.push_str(&event_line(*now, event));
            trace.push('\n');
        }
        panic!("{}", report(difference, &trace));
    }

    fn now(&self) -> Instant {
        self.path.last().map_or(Instant::ORIGIN, |(now, _)| *now)
    }
}

/// Explores everything that `events` at [`TIMES`] can lead to, from the start and from an open
/// connection. Returns how many states were seen.
fn explore(builder: ConfigBuilder, events: &[What]) -> usize {
    let header = header(builder.build().expect("consistent"), 7, 0);
    let op = |when, what| Op { when, what };
    let alphabet: Vec<Op> = TIMES
        .iter()
        .flat_map(|when| events.iter().map(move |what| op(*when, *what)))
        .collect();
    let mut open = Node::new(&header);
    open.step(&header, op(When::Later(0), What::Tick));
    open.step(&header, op(When::Later(S), What::Connected(CURRENT)));
    let mut seen = 0;
    for (start, depth) in [
        (Node::new(&header), depth().saturating_sub(1)),
        (open, depth()),
    ] {
        seen += descend(&header, &start, &alphabet, depth);
    }
    seen
}

fn descend(header: &Header, node: &Node, alphabet: &[Op], depth: usize) -> usize {
    if depth == 0 {
        return 1;
    }
    // Leaves are inner states of a deeper run: to live on from the others is proof enough.
    live_on(header, node);
    let mut seen = 1;
    for op in alphabet {
        let mut next = node.clone();
        next.step(header, *op);
        seen += descend(header, &next, alphabet, depth - 1);
    }
    seen
}

// ---- liveness ----------------------------------------------------------------------------------

/// What the network does from some time on.
#[derive(Clone, Copy, Debug)]
enum Network {
    /// The current connection is well, too.
    Healthy,
    /// The current connection stays silent for ever; every new dial succeeds at once.
    LosesTheCurrentOne,
}

/// From this state on, `Open` is reached within the bound and kept.
fn live_on(header: &Header, node: &Node) {
    if let Phase::Closing | Phase::Stopped = node.pair.machine.phase() {
        return;
    }
    for network in [Network::Healthy, Network::LosesTheCurrentOne] {
        if let Err(complaint) = reaches_open(header, node, network) {
            node.fail(
                header,
                &format!("from here on, with {network:?}: {complaint}"),
            );
        }
    }
}

fn reaches_open(header: &Header, node: &Node, network: Network) -> Result<(), String> {
    let config = &header.config;
    let mut machine = node.pair.machine.clone();
    let begin = node.now();
    let old = machine.conn();
    let lost = |machine: &Machine| match network {
        Network::Healthy => false,
        Network::LosesTheCurrentOne => machine.conn().is_some() && machine.conn() == old,
    };
    let mut now = begin;
    let mut open_at = None;
    let enough = 3 * config.idle_timeout();
    loop {
        // The driver reads on, its writes move, and what is under way arrives.
        if let Some(conn) = machine.conn() {
            let _ = machine.step(now, Event::ReadResumed(conn));
            if !lost(&machine) {
                for event in [
                    Event::Connected(conn),
                    Event::Ready(conn),
                    Event::Wrote(conn),
                    Event::Received(conn, Message::Data),
                ] {
                    let _ = machine.step(now, event);
                }
            }
        }
        if machine.phase() == Phase::Open && !lost(&machine) {
            let since = *open_at.get_or_insert(now);
            if now.saturating_duration_since(since) >= enough {
                break;
            }
        } else if let Some(since) = open_at {
            return Err(format!("open at {since:?}, lost at {now:?}"));
        }
        let Some(wake) = machine.wake() else {
            // Given up: allowed only where attempts are counted.
            return match (machine.phase(), config.max_attempts()) {
                (Phase::Stopped, Some(_)) => Ok(()),
                (phase, _) => Err(format!("no wake while {phase:?}")),
            };
        };
        // A healthy peer says something twice a second.
        now = wake.min(now.saturating_add(millis(500)));
        let _ = machine.step(now, Event::Tick);
    }
    let took = open_at.map_or(Duration::MAX, |at| at.saturating_duration_since(begin));
    let bound = bound(config, &node.path);
    if took > bound {
        return Err(format!("{took:?} until open, more than {bound:?}"));
    }
    Ok(())
}

/// The longest way to an open connection: to notice that the current one or a dial is dead (if
/// asked late, that takes a whole probe), then to wait for the next dial: the backoff's cap, and where a
/// server has said 1012 the longest of that spread.
fn bound(config: &Config, path: &[(Instant, Event<'_>)]) -> Duration {
    let late_probe = config.pong_timeout().unwrap_or(secs(10));
    let detection = config
        .worst_case_detection()
        .max(late_probe.min(config.idle_timeout()))
        .max(config.connect_timeout());
    let (_, cap, _) = config.backoff();
    let restarts = |event| matches!(event, Event::Closed(_, Cause::Close(1012)));
    let spread = if path.iter().any(|(_, event)| restarts(*event)) {
        secs(30)
    } else {
        Duration::ZERO
    };
    detection + cap.max(spread)
}

#[test]
fn a_way_to_an_open_connection_that_takes_longer_than_the_bound_is_noticed() {
    let world = |wait| {
        let config = small().backoff(wait, wait, 0).build().expect("consistent");
        header(config, 7, 0)
    };
    let slow = world(secs(100));
    let mut node = Node::new(&slow);
    for what in [What::Tick, What::Closed(CURRENT, Cause::Eof)] {
        let when = When::Later(0);
        node.step(&slow, Op { when, what });
    }
    for network in [Network::Healthy, Network::LosesTheCurrentOne] {
        assert_eq!(reaches_open(&slow, &node, network), Ok(()));
        assert_eq!(
            reaches_open(&world(secs(2)), &node, network),
            Err("100s until open, more than 6s".into())
        );
    }
}

// ---- worlds ------------------------------------------------------------------------------------

const BASIC: [What; 4] = [
    What::Tick,
    What::Connected(CURRENT),
    What::Received(CURRENT, Content::Data),
    What::Closed(CURRENT, Cause::Eof),
];

fn with(more: &[What]) -> Vec<What> {
    BASIC.iter().chain(more).copied().collect()
}

/// The world was as large as it was meant to be.
#[track_caller]
fn assert_whole(seen: usize, letters: usize) {
    let words: usize = (0..=depth() as u32).map(|length| letters.pow(length)).sum();
    assert!(seen > words, "{seen} states, not even {words}");
}

#[test]
fn every_short_life_with_probes_obeys_the_rules() {
    let events = with(&[What::Progress(CURRENT)]);
    for pong_timeout in [secs(2), secs(1), secs(3)] {
        let seen = explore(small().pong_timeout(pong_timeout), &events[..4]);
        assert_whole(seen, 12);
    }
    assert_whole(explore(small().pong_timeout(None), &events), 15);
}

#[test]
fn every_short_life_with_pauses_obeys_the_rules() {
    let events = [
        What::Tick,
        What::Received(CURRENT, Content::Data),
        What::ReadPaused(CURRENT),
        What::ReadResumed(CURRENT),
        What::Kick,
    ];
    assert_whole(explore(small(), &events), 15);
}

#[test]
fn every_short_life_with_blocked_writes_obeys_the_rules() {
    let events = with(&[What::WriteBlocked(CURRENT), What::Wrote(CURRENT)]);
    let builder = small().keepalive(secs(1)).ping(Ping::Never);
    assert_whole(explore(builder, &events[2..]), 12);
    assert_whole(explore(small().write_timeout(secs(2)), &events[2..]), 12);
}

#[test]
fn every_short_life_with_periodic_pings_checks_and_a_data_timeout_obeys_the_rules() {
    let events = [
        What::Tick,
        What::Received(CURRENT, Content::Data),
        What::Received(CURRENT, Content::PongTo(1)),
        What::Received(CURRENT, Content::Ping(b"!")),
        What::ReadPaused(CURRENT),
    ];
    let builder = small()
        .ping(Ping::Every(secs(1)))
        .check_interval(secs(1))
        .keepalive(secs(1))
        .data_timeout(secs(1));
    assert_whole(explore(builder, &events), 15);
}

#[test]
fn every_short_life_with_sessions_obeys_the_rules() {
    let events = [
        What::Tick,
        What::Ready(CURRENT),
        What::Received(CURRENT, Content::Data),
        What::ReadPaused(CURRENT),
        What::Closed(CURRENT, Cause::Session(Failure::Refresh)),
    ];
    // Before, with and after the probe, and with the verdict on silence.
    for session_timeout in [secs(1), secs(2), secs(4)] {
        let builder = small()
            .session_timeout(session_timeout)
            .stable_after(secs(1));
        assert_whole(explore(builder.max_attempts(3), &events), 15);
    }
}

#[test]
fn every_short_life_with_kicks_and_stops_obeys_the_rules() {
    let events = [
        What::Tick,
        What::Connected(CURRENT),
        What::Connected(Which::Earlier(1)),
        What::Closed(CURRENT, Cause::Reset),
        What::Kick,
        What::Stop,
    ];
    assert_whole(explore(small().backoff(secs(2), secs(2), 50), &events), 18);
}

#[test]
fn every_short_life_that_may_give_up_obeys_the_rules() {
    let events = [
        What::Tick,
        What::Connected(CURRENT),
        What::Closed(CURRENT, Cause::Close(1008)),
        What::Closed(CURRENT, Cause::Close(1012)),
        What::Closed(CURRENT, Cause::Eof),
    ];
    assert_whole(explore(small().max_attempts(3), &events), 15);
}
