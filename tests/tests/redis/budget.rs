//! A budget of dials in a Redis server, so that processes on several machines share it. An example of
//! [`DialBudget`]: it never waits in `ask`, and falls back to this process's own budget when Redis is down.
//!
//! It implements the one command that it needs. An application would use the `redis` crate.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_driver::{DialBudget, DialLimiter, Grant};

/// Redis must answer within this time, or it counts as down.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long Redis is left alone then.
const AWAY: Duration = Duration::from_secs(1);
/// A client asks again after this time while Redis is being asked.
const SOON: Duration = Duration::from_millis(5);
/// An unused turn is discarded after this time.
const STALE: Duration = Duration::from_secs(1);

/// The generic cell rate algorithm, as in `heartbeat_core::Limiter`, run by Redis on Redis's own clock.
/// Times are in microseconds; it answers how long to wait. The key expires when it no longer matters.
const SCRIPT: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local place = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
redis.call('SET', KEYS[1], string.format('%d', place + interval), 'PX', math.ceil((place + interval - now) / 1000) + 1000)
return math.max(place - tonumber(ARGV[2]) - now, 0)";

/// The budget, as one process sees it.
pub(crate) struct RedisBudget {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wanted: Condvar,
    local: DialLimiter,
}

#[derive(Default)]
struct State {
    /// A turn that Redis has given to this process: when the answer came, and how long to wait from then.
    turn: Option<(Instant, Duration)>,
    is_wanted: bool,
    away: bool,
    ended: bool,
}

impl RedisBudget {
    /// `per_second` dials for all processes that name the same `key`, up to `burst` at once. Without Redis,
    /// `local` decides.
    pub(crate) fn new(
        address: SocketAddr,
        key: &str,
        per_second: u32,
        burst: u32,
        local: DialLimiter,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wanted: Condvar::new(),
            local,
        });
        let interval = 1_000_000 / per_second;
        let ahead = interval * (burst - 1);
        let command = [
            "EVAL".into(),
            SCRIPT.into(),
            "1".into(),
            key.to_owned(),
            interval.to_string(),
            ahead.to_string(),
        ];
        let worker = Arc::clone(&shared);
        thread::spawn(move || worker.run(address, &command));
        Self { shared }
    }

    pub(crate) fn is_away(&self) -> bool {
        self.shared.state().away
    }
}

impl DialBudget for RedisBudget {
    fn ask(&self) -> Grant {
        let mut state = self.shared.state();
        if let Some((told, wait)) = state.turn.take() {
            let passed = told.elapsed();
            if passed < wait + STALE {
                return Grant::After(wait.saturating_sub(passed));
            }
        }
        if state.away {
            return self.shared.local.ask();
        }
        state.is_wanted = true;
        self.shared.wanted.notify_one();
        Grant::AskAgain(SOON)
    }
}

impl Drop for RedisBudget {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.wanted.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks Redis for a turn whenever one is wanted. Only this thread ever waits for Redis.
    fn run(&self, address: SocketAddr, command: &[String]) {
        let mut connection = None;
        loop {
            let idle = |state: &mut State| !state.is_wanted && !state.away && !state.ended;
            let state = self.wanted.wait_while(self.state(), idle);
            let ended = state.unwrap_or_else(PoisonError::into_inner).ended;
            if ended {
                return;
            }
            let answer = connect(&mut connection, address)
                .and_then(|connection| evaluate(connection, command));
            let told = Instant::now();
            let mut state = self.state();
            match answer {
                Ok(micros) => {
                    if std::mem::replace(&mut state.away, false) {
                        tracing::info!("redis is back: dials keep to the shared budget");
                    }
                    state.turn = Some((told, Duration::from_micros(micros)));
                    state.is_wanted = false;
                }
                Err(error) => {
                    connection = None;
                    if !std::mem::replace(&mut state.away, true) {
                        tracing::warn!(%error, "redis is away: dials keep to this process's own budget");
                    }
                    let ended = |state: &mut State| !state.ended;
                    drop(self.wanted.wait_timeout_while(state, AWAY, ended));
                }
            }
        }
    }
}

fn connect(
    connection: &mut Option<BufReader<TcpStream>>,
    address: SocketAddr,
) -> io::Result<&mut BufReader<TcpStream>> {
    if connection.is_none() {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        *connection = Some(BufReader::new(stream));
    }
    connection
        .as_mut()
        .ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// Sends a command and reads the integer that answers it (RESP: `:1234\r\n`).
fn evaluate(connection: &mut BufReader<TcpStream>, command: &[String]) -> io::Result<u64> {
    let mut request = format!("*{}\r\n", command.len());
    for word in command {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    connection.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let number = line
        .strip_prefix(':')
        .and_then(|text| text.trim_end().parse().ok());
    number.ok_or_else(|| io::Error::other(format!("redis says {line:?}")))
}
