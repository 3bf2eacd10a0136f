//! The core under `smol`: a client whose owner awaits what happens, for a runtime that has no adapter.
//!
//! ```sh
//! cargo run -p heartbeat-core --example smol_client
//! ```
//!
//! `async-io` and `futures-lite` are what `smol` re-exports as `smol::{Async, Timer}` and `smol::future`. The
//! server is that of `mio_loop`: it freezes, refuses, sends away, and at last behaves.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::time::{Duration, Instant as Host};

use async_io::{Async, Timer};
use futures_lite::future::{block_on, or};
use heartbeat_core::{
    AbortReason, Action, Cause, Config, ConnId, Dialect as _, Event, GiveUp, Heartbeat, Instant,
    JsonType, Message, Phase, Ping, PingMessage, Reply,
};
use tungstenite::{HandshakeError, Message as Frame};

use support::wire::{Heard, Socket, cause, io_cause, upgrade};

mod support;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::builder()
        .idle_timeout(Duration::from_secs(2))
        .ping(Ping::AfterSilence(Duration::from_millis(500)))
        .pong_timeout(None)
        .backoff(Duration::from_millis(200), Duration::from_secs(5), 50);
    let mut client = Client::new(config.build()?, support::server::start()?);
    block_on(async {
        while let Some(told) = client.next().await {
            match told {
                Told::Connected(conn) => println!("connected ({conn})"),
                Told::Text(text) => {
                    println!("received {text}");
                    match &*text {
                        "welcome" => client.send("how are you?"),
                        _ => client.step(Event::Stop),
                    }
                }
                Told::Ended(conn, cause) => println!("ended ({conn}): {cause:?}"),
                Told::Dropped(conn, reason) => println!("dropped ({conn}): {reason}"),
                Told::GaveUp(reason) => println!("gave up: {reason:?}"),
            }
        }
    });
    println!("stopped after {} dials", client.machine.stats().dials);
    Ok(())
}

/// What the owner gets to know.
enum Told {
    Connected(ConnId),
    Text(String),
    Ended(ConnId, Cause),
    Dropped(ConnId, AbortReason),
    GaveUp(GiveUp),
}

/// The stream twice: to be read and written, and to be waited for.
type Link = (Socket<TcpStream>, Async<TcpStream>);
type Dial = Pin<Box<dyn Future<Output = Result<Link, Cause>>>>;

struct Client {
    machine: Heartbeat<Config, JsonType>,
    start: Host,
    address: SocketAddr,
    /// Dropped when its time is up, which ends it.
    dial: Option<(ConnId, Dial)>,
    link: Option<Link>,
    /// Bytes wait to be written.
    blocked: bool,
    told: VecDeque<Told>,
}

/// What was waited for.
#[allow(clippy::large_enum_variant, reason = "there is one, and not for long")]
enum Woken {
    Dialled(ConnId, Result<Link, Cause>),
    Socket,
    Timer,
}

impl Client {
    #[allow(clippy::disallowed_methods, reason = "a driver's clock")]
    fn new(config: Config, address: SocketAddr) -> Self {
        Self {
            machine: Heartbeat::new(config, JsonType, 7, Instant::ORIGIN),
            start: Host::now(),
            address,
            dial: None,
            link: None,
            blocked: false,
            told: VecDeque::new(),
        }
    }

    /// What happens next; `None` at the end. May be dropped at any time: nothing is lost by it.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            if self.machine.phase() == Phase::Stopped {
                return None;
            }
            // To the end before anything is waited for: what tungstenite has in hand wakes nobody.
            if self.read() {
                continue;
            }
            self.flush();
            self.step(Event::Tick); // after reading: bytes in hand beat a deadline
            if self.told.is_empty()
                && self.machine.phase() != Phase::Stopped
                && let Woken::Dialled(conn, result) = self.wait().await
            {
                self.dialled(conn, result);
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let (start, wake, blocked) = (self.start, self.machine.wake(), self.blocked);
        let timer = async move {
            match wake {
                Some(wake) => Timer::at(start + Duration::from_nanos(wake.as_nanos())).await,
                None => pending().await,
            };
            Woken::Timer
        };
        let Self { dial, link, .. } = self;
        let socket = async move {
            match (dial, link) {
                (Some((conn, future)), _) => Woken::Dialled(*conn, future.await),
                (_, Some((_, io))) if blocked => {
                    let _ = or(io.readable(), io.writable()).await;
                    Woken::Socket
                }
                (_, Some((_, io))) => {
                    let _ = io.readable().await;
                    Woken::Socket
                }
                (None, None) => pending().await,
            }
        };
        or(socket, timer).await
    }

    fn dialled(&mut self, conn: ConnId, result: Result<Link, Cause>) {
        self.dial = None;
        match result {
            Ok(link) => {
                self.link = Some(link);
                self.told.push_back(Told::Connected(conn));
                self.step(Event::Connected(conn));
            }
            Err(cause) => self.ended(conn, cause),
        }
    }

    fn step(&mut self, event: Event<'_>) {
        let now = Instant::ORIGIN.saturating_add(self.start.elapsed());
        for action in self.machine.step(now, event).actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action<'_>) {
        match (action, &mut self.link) {
            (Action::Connect { conn, .. }, _) => {
                self.dial = Some((conn, Box::pin(dial(conn, self.address))))
            }
            (Action::SendPong { reply, .. }, Some((socket, _))) => match reply {
                Reply::Frame(payload) => socket.send(Frame::Pong(payload.to_vec().into())),
                Reply::Text(text) => socket.send(text),
                _ => {} // drafts: of dialects that have a `render`
            },
            (Action::SendPing { ping, .. }, Some((socket, _))) => {
                if let PingMessage::Frame(payload) = ping {
                    socket.send(Frame::Ping(payload.to_vec().into()));
                }
            }
            (Action::Close { code, .. } | Action::Renew { code, .. }, Some((socket, _))) => {
                socket.close(code)
            }
            (
                Action::SendPong { .. }
                | Action::SendPing { .. }
                | Action::Close { .. }
                | Action::Renew { .. },
                None,
            ) => {}
            (Action::Abort { conn, reason }, _) => {
                (self.dial, self.link) = (None, None);
                self.told.push_back(Told::Dropped(conn, reason));
            }
            (Action::GaveUp { reason }, _) => self.told.push_back(Told::GaveUp(reason)),
            (Action::ReconnectAt { .. } | Action::Check { .. } | Action::Ending { .. }, _) => {} // notes, for a log
        }
    }

    /// Reads one message, and tells. False if no other can be read now.
    fn read(&mut self) -> bool {
        let Some((socket, _)) = &mut self.link else {
            return false;
        };
        let conn = socket.conn;
        match socket.read() {
            Heard::Message(Frame::Text(text)) => {
                self.step(Event::Received(conn, Message::Text(&text)));
                if self
                    .machine
                    .dialect()
                    .classify_text(&text)
                    .is_for_application()
                {
                    self.told.push_back(Told::Text(text.to_string()));
                }
            }
            Heard::Message(Frame::Ping(payload)) => {
                self.step(Event::Received(conn, Message::Ping(&payload)));
            }
            Heard::Message(Frame::Pong(payload)) => {
                self.step(Event::Received(conn, Message::Pong(&payload)));
            }
            Heard::Message(_) => self.step(Event::Received(conn, Message::Data)),
            Heard::Part => self.step(Event::Progress(conn)),
            Heard::Dry => return false,
            Heard::Ended(cause) => self.ended(conn, cause),
        }
        true
    }

    /// Writes what waits, and tells what became of it.
    fn flush(&mut self) {
        let Some((socket, _)) = &mut self.link else {
            return;
        };
        let (conn, flushed) = (socket.conn, socket.flush());
        self.blocked = flushed.blocked;
        if flushed.moved {
            self.step(Event::Wrote(conn));
        }
        if flushed.blocked {
            self.step(Event::WriteBlocked(conn));
        }
    }

    fn ended(&mut self, conn: ConnId, cause: Cause) {
        self.link = None;
        self.told.push_back(Told::Ended(conn, cause));
        self.step(Event::Closed(conn, cause));
    }

    fn send(&mut self, text: &str) {
        if let Some((socket, _)) = &mut self.link {
            socket.send(text);
        }
    }
}

/// TCP and the upgrade; ends when it is dropped.
async fn dial(conn: ConnId, address: SocketAddr) -> Result<Link, Cause> {
    let stream = Async::<TcpStream>::connect(address).await;
    let io = stream.map_err(|error| io_cause(&error))?;
    let stream = io.get_ref().try_clone().map_err(|error| io_cause(&error))?;
    let mut result = upgrade(format!("ws://{address}/"), stream);
    loop {
        match result {
            Ok((socket, _)) => return Ok((Socket::new(conn, socket), io)),
            Err(HandshakeError::Failure(error)) => return Err(cause(&error)),
            Err(HandshakeError::Interrupted(upgrade)) => {
                io.readable().await.map_err(|error| io_cause(&error))?;
                result = upgrade.handshake();
            }
        }
    }
}
