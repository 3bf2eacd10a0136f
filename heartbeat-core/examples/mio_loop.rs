//! The core in a loop of one's own: a WebSocket client on `mio`, without runtime and without thread.
//!
//! ```sh
//! cargo run -p heartbeat-core --example mio_loop
//! ```
//!
//! Its server (`support/server.rs`) asks twice and freezes, refuses the second dial, sends the third
//! connection away, and behaves on the fourth. `docs/embedding.md` builds such a driver step by step.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant as Host};

use heartbeat_core::{
    Action, Cause, Config, ConnId, Dialect as _, Event, Heartbeat, Instant, JsonType, Message,
    Phase, Ping, PingMessage, Reply,
};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tungstenite::handshake::MidHandshake;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::{HandshakeError, Message as Frame};

use support::wire::{Counted, Heard, Socket, Upgraded, cause, io_cause, upgrade};

mod support;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::builder()
        .idle_timeout(Duration::from_secs(2))
        .ping(Ping::AfterSilence(Duration::from_millis(500)))
        .pong_timeout(None)
        .backoff(Duration::from_millis(200), Duration::from_secs(5), 50);
    let mut driver = Driver {
        machine: Heartbeat::new(config.build()?, JsonType, 7, Instant::ORIGIN),
        start: start(),
        address: support::server::start()?,
        poll: Poll::new()?,
        link: Link::Down,
    };
    let mut ready = Events::with_capacity(8);
    driver.step(Event::Tick);
    while driver.machine.phase() != Phase::Stopped {
        let wake = driver.machine.wake();
        let timeout = wake.map(|wake| wake.saturating_duration_since(driver.now()));
        match driver.poll.poll(&mut ready, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        driver.turn();
        driver.step(Event::Tick); // last: bytes in hand beat a deadline
    }
    println!("stopped after {} dials", driver.machine.stats().dials);
    Ok(())
}

/// The one place that asks for the time.
#[allow(clippy::disallowed_methods, reason = "a driver's clock")]
fn start() -> Host {
    Host::now()
}

struct Driver {
    machine: Heartbeat<Config, JsonType>,
    start: Host,
    address: SocketAddr,
    poll: Poll,
    link: Link,
}

enum Link {
    Down,
    Connecting(ConnId, TcpStream),
    Upgrading(ConnId, MidHandshake<ClientHandshake<Counted<TcpStream>>>),
    Open(Box<Socket<TcpStream>>),
}

impl Driver {
    fn now(&self) -> Instant {
        Instant::ORIGIN.saturating_add(self.start.elapsed())
    }

    fn step(&mut self, event: Event<'_>) {
        for action in self.machine.step(self.now(), event).actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action<'_>) {
        match (action, &mut self.link) {
            (Action::Connect { conn, attempt, .. }, _) => {
                println!("connecting ({conn}), retry {attempt}");
                if let Err(error) = self.dial(conn) {
                    self.ended(conn, io_cause(&error));
                }
            }
            (Action::SendPong { reply, .. }, Link::Open(socket)) => match reply {
                Reply::Frame(payload) => socket.send(Frame::Pong(payload.to_vec().into())),
                Reply::Text(text) => socket.send(text),
                _ => {} // drafts: of dialects that have a `render`
            },
            (Action::SendPing { ping, .. }, Link::Open(socket)) => {
                if let PingMessage::Frame(payload) = ping {
                    socket.send(Frame::Ping(payload.to_vec().into()));
                }
            }
            (Action::Close { code, .. } | Action::Renew { code, .. }, Link::Open(socket)) => {
                socket.close(code)
            }
            (
                Action::SendPong { .. }
                | Action::SendPing { .. }
                | Action::Close { .. }
                | Action::Renew { .. },
                _,
            ) => {}
            (Action::Abort { conn, reason }, _) => {
                println!("dropped ({conn}): {reason}");
                self.link = Link::Down; // which closes the socket, without a goodbye
            }
            (Action::ReconnectAt { attempt, .. }, _) => println!("retry {attempt} is planned"),
            (Action::Ending { why, within, .. }, _) => println!("ends in {within:?}: {why}"),
            (Action::Check { idle, .. }, _) => println!("idle for {idle:?}"),
            (Action::GaveUp { reason }, _) => println!("gave up: {reason:?}"),
        }
    }

    fn dial(&mut self, conn: ConnId) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(0), both)?;
        self.link = Link::Connecting(conn, stream);
        Ok(())
    }

    /// Goes on with whatever is under way, as far as the socket lets it.
    fn turn(&mut self) {
        match std::mem::replace(&mut self.link, Link::Down) {
            Link::Connecting(conn, stream) => match is_connected(&stream) {
                Ok(true) => self.upgrade(conn, upgrade(format!("ws://{}/", self.address), stream)),
                Ok(false) => self.link = Link::Connecting(conn, stream),
                Err(error) => self.ended(conn, io_cause(&error)),
            },
            Link::Upgrading(conn, upgrade) => self.upgrade(conn, upgrade.handshake()),
            link @ (Link::Down | Link::Open(_)) => self.link = link,
        }
        // All of it, for `mio` does not tell twice; and what arrived with the upgrade is not told at all.
        while self.read() {}
        self.flush();
    }

    fn upgrade(&mut self, conn: ConnId, result: Upgraded<TcpStream>) {
        match result {
            Ok((socket, _)) => {
                println!("connected ({conn})");
                self.link = Link::Open(Box::new(Socket::new(conn, socket)));
                self.step(Event::Connected(conn));
            }
            Err(HandshakeError::Interrupted(upgrade)) => self.link = Link::Upgrading(conn, upgrade),
            Err(HandshakeError::Failure(error)) => self.ended(conn, cause(&error)),
        }
    }

    /// Reads one message, and tells. False if no other can be read now.
    fn read(&mut self) -> bool {
        let Link::Open(socket) = &mut self.link else {
            return false;
        };
        let conn = socket.conn;
        match socket.read() {
            Heard::Message(Frame::Text(text)) => {
                let class = self.machine.dialect().classify_text(&text);
                self.step(Event::Received(conn, Message::Text(&text)));
                if class.is_for_application() {
                    self.application(&text);
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
        let Link::Open(socket) = &mut self.link else {
            return;
        };
        let (conn, flushed) = (socket.conn, socket.flush());
        if flushed.moved {
            self.step(Event::Wrote(conn));
        }
        if flushed.blocked {
            self.step(Event::WriteBlocked(conn));
        }
    }

    fn ended(&mut self, conn: ConnId, cause: Cause) {
        println!("ended ({conn}): {cause:?}");
        self.link = Link::Down;
        self.step(Event::Closed(conn, cause));
    }

    /// What all this is for.
    fn application(&mut self, text: &str) {
        println!("received {text}");
        match (text, &mut self.link) {
            ("welcome", Link::Open(socket)) => socket.send("how are you?"),
            _ => self.step(Event::Stop),
        }
    }
}

fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        result => result.map(|_| true),
    }
}
