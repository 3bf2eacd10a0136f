//! Many clients share one budget of dials: exactly in virtual time, and with both adapters together on
//! sockets.
#![allow(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "what is measured is how long a crowd of real dials takes"
)]

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heartbeat_core::{Clock, Config, Instant};
use heartbeat_driver::{DialBudget, DialLimiter, Engine, Event, Grant, Options, Turn};

const MS: u64 = 1_000_000;

#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Clock for Hands {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// A stream that never comes: every dial fails, or hangs.
struct Never;

impl Read for Never {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for Never {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn engine(budget: &Arc<impl DialBudget + 'static>, seed: u64, clock: &Hands) -> Engine<Never> {
    let config = r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}, "connect_timeout": "300ms"}"#;
    let options = Options::new("ws://127.0.0.1:9/")
        .expect("a URL")
        .config(Config::from_json(config).expect("a configuration"))
        .seed(seed)
        .dial_budget(Arc::clone(budget));
    let silent = || Box::new(|| ());
    Engine::new(options, clock.now(), silent()).expect("no TLS")
}

/// Runs until there is nothing to do at this moment. True if a dial began.
fn turn(engine: &mut Engine<Never>, clock: &Hands, refuse: bool) -> (bool, Vec<Event>) {
    let (mut dialled, mut events) = (false, Vec::new());
    loop {
        match engine.turn(clock) {
            Turn::Event(event) => events.push(event),
            Turn::Dial(dial) => {
                dialled = true;
                if refuse {
                    let refused = Error::from(ErrorKind::ConnectionRefused);
                    engine.dialed(dial.conn, Err(refused), clock);
                }
            }
            Turn::Again => {}
            Turn::Idle | Turn::Ended => return (dialled, events),
        }
    }
}

/// 20 clients that would each dial 20 times a second. Together they dial 10 times, evenly, each in its
/// turn.
#[test]
fn clients_that_share_a_budget_dial_in_turn_and_at_its_rate() {
    let clock = Hands::default();
    let second = Duration::from_secs(1);
    let budget = DialLimiter::with_clock(10, second, 1, clock.clone()).expect("a rate");
    let budget = Arc::new(budget);
    let mut engines: Vec<_> = (0..20).map(|seed| engine(&budget, seed, &clock)).collect();
    let mut dials: Vec<(u64, usize)> = Vec::new();
    while clock.now().as_nanos() < 10_000 * MS {
        for (client, engine) in engines.iter_mut().enumerate() {
            if turn(engine, &clock, true).0 {
                dials.push((clock.now().as_nanos() / MS, client));
            }
        }
        let wake = engines.iter().filter_map(Engine::wake).min();
        let wake = wake.expect("all want to dial").as_nanos();
        assert!(wake > clock.now().as_nanos(), "nobody spins");
        clock.0.store(wake, Ordering::SeqCst);
    }
    let times: Vec<u64> = dials.iter().map(|(at, _)| *at).collect();
    let even: Vec<u64> = (0..100).map(|number| number * 100).collect();
    assert_eq!(times, even);
    // First come, first served: every client has had its turn before any client has a second one.
    for round in dials.chunks(20) {
        let clients: BTreeSet<_> = round.iter().map(|(_, client)| client).collect();
        assert_eq!(clients.len(), 20);
    }
}

/// Waiting for a turn does not count as dialling.
#[test]
fn the_connect_timeout_starts_when_the_dial_does() {
    let clock = Hands::default();
    let hour = Duration::from_secs(3600);
    let budget = Arc::new(DialLimiter::with_clock(60, hour, 1, clock.clone()).expect("a rate"));
    assert_eq!(budget.ask(), Grant::After(Duration::ZERO));
    let mut engine = engine(&budget, 7, &clock);
    assert_eq!(turn(&mut engine, &clock, false), (false, Vec::new()));
    assert_eq!(engine.wake(), Some(Instant::from_nanos(60_000 * MS)));
    clock.0.store(60_000 * MS, Ordering::SeqCst);
    assert!(turn(&mut engine, &clock, false).0);
    assert_eq!(engine.wake(), Some(Instant::from_nanos(60_300 * MS)));
}

#[test]
fn a_kick_waits_for_its_turn_and_a_stop_for_none() {
    for stop in [false, true] {
        let clock = Hands::default();
        let second = Duration::from_secs(1);
        let budget = DialLimiter::with_clock(1, second, 1, clock.clone()).expect("a rate");
        let budget = Arc::new(budget);
        assert_eq!(budget.ask(), Grant::After(Duration::ZERO));
        let mut engine = engine(&budget, 7, &clock);
        assert!(!turn(&mut engine, &clock, true).0);
        if stop {
            engine.send_queue().stop();
            let (dialled, events) = turn(&mut engine, &clock, true);
            assert!(
                !dialled && matches!(events[..], [Event::Stopped { .. }]),
                "{events:?}"
            );
            continue;
        }
        engine.send_queue().kick();
        assert!(!turn(&mut engine, &clock, true).0);
        assert_eq!(engine.wake(), Some(Instant::from_nanos(1000 * MS)));
        clock.0.store(1000 * MS, Ordering::SeqCst);
        assert!(turn(&mut engine, &clock, true).0);
    }
}

/// After a suspend every client holds a turn of the past. These turns are lost, and the clients ask again.
#[test]
fn turns_that_were_slept_through_are_asked_for_anew() {
    let clock = Hands::default();
    let second = Duration::from_secs(1);
    let budget = DialLimiter::with_clock(1, second, 1, clock.clone()).expect("a rate");
    let budget = Arc::new(budget);
    let mut engines: Vec<_> = (0..5).map(|seed| engine(&budget, seed, &clock)).collect();
    let mut count = |at: u64| {
        clock.0.store(at, Ordering::SeqCst);
        let dials = engines
            .iter_mut()
            .filter_map(|engine| turn(engine, &clock, false).0.then_some(()));
        dials.count()
    };
    assert_eq!(count(0), 1);
    // One of the four that waited. The one that dialled an hour ago finds its dial dead.
    assert_eq!(count(3_600_000 * MS), 1);
}

/// Ten clients of each adapter in one process, five dials in 100 ms: 20 connections take at least 300 ms.
#[test]
fn both_adapters_keep_to_one_budget() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of the loopback interface");
    let url = format!("ws://{}/", listener.local_addr().expect("it is bound"));
    let budget = DialLimiter::new(50, Duration::from_secs(1), 5).expect("a rate");
    let budget = Arc::new(budget);
    let options = || {
        let options = Options::new(&url).expect("a URL");
        options.dial_budget(Arc::clone(&budget))
    };
    let start = std::time::Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let _tokio: Vec<_> = {
        let _guard = runtime.enter();
        (0..10)
            .map(|_| heartbeat_tokio::Client::spawn(options()).expect("no TLS"))
            .collect()
    };
    let _blocking: Vec<_> = (0..10)
        .map(|_| heartbeat_blocking::Client::spawn(options()).expect("no TLS"))
        .collect();
    let _accepted: Vec<_> = (0..20)
        .map(|_| listener.accept().expect("a client"))
        .collect();
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "{:?}",
        start.elapsed()
    );
    runtime.shutdown_background();
}
