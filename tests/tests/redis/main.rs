//! The budgets of two processes in a real Redis server, also while the server is down.
#![allow(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "a real server answers on the real clock"
)]

mod budget;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use budget::RedisBudget;
use heartbeat_driver::{DialBudget, DialLimiter, Grant};
use heartbeat_tests::lines::Lines;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a loopback port that writes no file. It ends when dropped.
struct Redis {
    child: Child,
    address: SocketAddr,
}

impl Redis {
    fn start(port: u16) -> Result<Self, String> {
        let program = std::env::var("HEARTBEAT_REDIS_SERVER");
        let program = program.unwrap_or_else(|_| "redis-server".to_owned());
        let child = Command::new(&program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                env!("CARGO_TARGET_TMPDIR"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut this = Self { child, address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Ok(Some(status)) = this.child.try_wait() {
                return Err(format!("{program} ended at once: {status}"));
            }
            assert!(start.elapsed() < PATIENCE, "redis does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(this)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of the loopback interface");
    listener.local_addr().expect("it is bound").port()
}

/// Asks like a client until it gets a turn. Returns when that was.
fn turn(budget: &RedisBudget) -> Instant {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "a stall");
        match budget.ask() {
            Grant::After(wait) => return Instant::now() + wait,
            Grant::AskAgain(pause) => std::thread::sleep(pause),
        }
    }
}

/// One test, because there is one log.
#[test]
fn processes_share_one_budget_through_redis_and_go_on_without_it() {
    let port = free_port();
    let redis = match Redis::start(port) {
        Ok(redis) => redis,
        Err(why) => {
            eprintln!(
                "SKIPPED redis::processes_share_one_budget_through_redis_and_go_on_without_it: {why}"
            );
            return;
        }
    };
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(lines.clone());
    subscriber.init();

    // Two processes whose own budgets, for bad times, are far tighter than the shared one.
    let local = || DialLimiter::new(10, Duration::from_secs(1), 1).expect("a rate");
    let budget = || RedisBudget::new(redis.address, "dials", 50, 5, local());
    let (one, other) = (budget(), budget());
    let mut turns: Vec<_> = (0..20).flat_map(|_| [turn(&one), turn(&other)]).collect();
    turns.sort_unstable();
    // 40 turns, 5 of them at once, then one every 20 ms. The two clocks and the network may make a turn later,
    // but never much sooner.
    let took = turns[39] - turns[0];
    assert!(took >= Duration::from_millis(650), "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(!one.is_away() && !other.is_away());

    // Redis is down: each process keeps to its own budget, and no client waits for Redis.
    let address = redis.address;
    drop(redis);
    let start = Instant::now();
    let alone: Vec<_> = (0..6).map(|_| turn(&one)).collect();
    assert!(one.is_away());
    assert!(alone.is_sorted());
    assert!(
        alone[5] - alone[1] >= Duration::from_millis(250),
        "{alone:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(lines.text().matches("redis is away").count(), 1);

    // Redis is back, without any help.
    let redis = Redis::start(address.port()).expect("it was there before");
    while one.is_away() {
        assert!(start.elapsed() < PATIENCE, "redis was not found again");
        std::thread::sleep(Duration::from_millis(20));
    }
    turn(&one);
    assert_eq!(lines.text().matches("redis is back").count(), 1);
    drop((one, other, redis));
}
