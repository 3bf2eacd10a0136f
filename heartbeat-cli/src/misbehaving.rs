//! A scripted WebSocket server that misbehaves.
//!
//! Within half a minute on loopback, it does what servers and networks do to a long-lived client over months: it freezes,
//! refuses, drops connections, flaps, falls silent, goes away and recovers. It reports each act as a [`ServerNote`], so
//! that the server's side can be shown beside the client's.

#![allow(
    clippy::disallowed_methods,
    reason = "the demo server's acts take real time"
)]

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heartbeat_tokio::Seconds;
use serde_json::{Value, json};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

/// The acts for one connection, in order. The server hangs up after the last one. [`Act::Refuse`] can only be the first
/// act, because all others need the upgrade.
pub(crate) type Acts = &'static [Act];

/// The script of the demo. Connection `n` gets line `n`. All connections after the last line get the last line.
///
/// With an `idle_timeout` of 3 s, probes after 1 s of silence, and retries after 250 ms to 2 s, a client reaches the last
/// line after about half a minute.
pub(crate) const DEMO: &[Acts] = &[
    &[
        Act::Talk(Duration::from_secs(2)),
        Act::Quiet(Duration::from_millis(2500)),
        Act::Freeze,
    ],
    &[Act::Refuse {
        status: 503,
        retry_after: Some(Duration::from_secs(2)),
    }],
    &[Act::Talk(Duration::from_secs(2)), Act::Drop],
    &[Act::Drop],
    &[Act::Drop],
    &[Act::Drop],
    &[Act::Quiet(Duration::from_secs(5)), Act::Close(1001)],
    &[Act::Talk(Duration::MAX)],
];

/// An act of the server on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Answers the upgrade with an HTTP error.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The `Retry-After` header, in whole seconds.
        retry_after: Option<Duration>,
    },
    /// For this long, sends data, ping frames and JSON pings, and echoes text.
    Talk(Duration),
    /// For this long, only answers pings and echoes text.
    Quiet(Duration),
    /// Keeps TCP open, but never reads or writes again.
    Freeze,
    /// Drops TCP without a Close frame.
    Drop,
    /// Closes with this code.
    Close(u16),
}

/// A report of the server about an act, or about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerNote {
    /// The number of the connection, from 1.
    pub(crate) connection: u64,
    /// The report, such as `drops TCP without a Close frame`.
    pub(crate) text: String,
}

impl fmt::Display for ServerNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server, connection {}: {}", self.connection, self.text)
    }
}

/// A running server. Dropping it closes all connections, ends its threads and frees the port.
#[derive(Debug)]
pub(crate) struct MisbehavingServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl MisbehavingServer {
    /// Starts the [`DEMO`] on a free port of the loopback interface.
    ///
    /// The server's threads call `tell`, in order for each connection. `tell` must not block, because the server waits for
    /// it. With a channel, pass `move |note| drop(tx.send(note))`.
    ///
    /// # Errors
    ///
    /// The operating system's error if it refuses a port or a thread.
    pub(crate) fn start(tell: impl Fn(ServerNote) + Send + Sync + 'static) -> io::Result<Self> {
        Self::start_with(DEMO, tell)
    }

    /// Like [`start`](Self::start), but with another script.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// If the script is empty.
    pub(crate) fn start_with(
        script: &'static [Acts],
        tell: impl Fn(ServerNote) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        assert!(
            !script.is_empty(),
            "a script needs a line for the first connection"
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            tell: Box::new(tell),
            open: Mutex::default(),
            quotes: AtomicUsize::new(0),
        });
        let accepting = thread::Builder::new().name("misbehaving".into()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, script, &shared)
        })?;
        Ok(Self {
            address,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Returns the server's URL, `ws://127.0.0.1:PORT/`.
    #[must_use]
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }
}

impl Drop for MisbehavingServer {
    fn drop(&mut self) {
        self.shared.close();
        // `accept` has no timeout, so a connection wakes it.
        drop(TcpStream::connect_timeout(
            &self.address,
            Duration::from_secs(1),
        ));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

/// How long a client may take to send its upgrade request, or to answer a Close.
const PATIENCE: Duration = Duration::from_secs(5);

/// The maximum length of a request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// `Talk` sends a message this often: data, a JSON ping, data and a ping frame, in turn.
const BEAT: Duration = Duration::from_millis(250);

/// State shared by the server's threads.
struct Shared {
    tell: Box<dyn Fn(ServerNote) + Send + Sync>,
    /// A second handle of each open socket, for closing it from another thread.
    open: Mutex<OpenSockets>,
    /// The number of the last quote sent.
    quotes: AtomicUsize,
}

#[derive(Debug, Default)]
struct OpenSockets {
    stopping: bool,
    sockets: HashMap<u64, TcpStream>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn tell(&self, connection: u64, text: impl Into<String>) {
        (self.tell)(ServerNote {
            connection,
            text: text.into(),
        });
    }

    fn next_quote(&self) -> usize {
        self.quotes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Registers a connection. Returns false if the server is stopping and must not serve it.
    fn enter(&self, connection: u64, socket: &TcpStream) -> bool {
        let mut open = self.open();
        if let (false, Ok(second)) = (open.stopping, socket.try_clone()) {
            open.sockets.insert(connection, second);
            return true;
        }
        false
    }

    fn leave(&self, connection: u64) {
        self.open().sockets.remove(&connection);
    }

    /// Closes all connections, so that no thread still waits for a client.
    fn close(&self) {
        let mut open = self.open();
        open.stopping = true;
        for (_, socket) in open.sockets.drain() {
            drop(socket.shutdown(Shutdown::Both));
        }
    }

    fn stopping(&self) -> bool {
        self.open().stopping
    }

    fn open(&self) -> MutexGuard<'_, OpenSockets> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, script: &'static [Acts], shared: &Shared) {
    thread::scope(|threads| {
        for (connection, socket) in (1..).zip(listener.incoming()) {
            let Ok(socket) = socket else { break };
            if !shared.enter(connection, &socket) {
                break;
            }
            let line = usize::try_from(connection - 1)
                .unwrap_or(usize::MAX)
                .min(script.len() - 1);
            threads.spawn(move || {
                let froze = play(script[line], connection, socket, shared);
                // The second handle keeps a frozen connection open without a thread.
                if !froze {
                    shared.leave(connection);
                }
            });
        }
    });
}

/// Plays the acts. Returns true if the connection must stay open, frozen.
fn play(acts: Acts, connection: u64, socket: TcpStream, shared: &Shared) -> bool {
    let ending = match acts.first() {
        Some(&Act::Refuse {
            status,
            retry_after,
        }) => {
            let pause = retry_after.map(|span| format!(", Retry-After: {}", span.as_secs()));
            shared.tell(
                connection,
                format!("refuses: HTTP {status}{}", pause.unwrap_or_default()),
            );
            refuse(socket, status, retry_after)
                .map(|()| Ending::HungUp)
                .map_err(boxed)
        }
        _ => upgrade(socket).and_then(|ws| {
            Session {
                ws,
                connection,
                shared,
                pings: 0,
                answers: 0,
            }
            .play(acts)
        }),
    };
    match ending {
        Ok(Ending::Frozen) => return true,
        Ok(Ending::HungUp) => {}
        Ok(Ending::ClientLeft(how)) => shared.tell(connection, format!("the client left: {how}")),
        Err(_) if shared.stopping() => {}
        Err(error) => shared.tell(connection, format!("the client is gone: {error}")),
    }
    false
}

enum Ending {
    Frozen,
    HungUp,
    ClientLeft(String),
}

type Outcome<T = Ending> = Result<T, Box<tungstenite::Error>>;

fn upgrade(socket: TcpStream) -> Outcome<WebSocket<TcpStream>> {
    socket.set_read_timeout(Some(PATIENCE)).map_err(boxed)?;
    socket.set_nodelay(true).map_err(boxed)?;
    tungstenite::accept(socket).map_err(|error| match error {
        tungstenite::HandshakeError::Failure(error) => Box::new(error),
        tungstenite::HandshakeError::Interrupted(_) => boxed(io::ErrorKind::TimedOut.into()),
    })
}

fn refuse(mut socket: TcpStream, status: u16, retry_after: Option<Duration>) -> io::Result<()> {
    read_head(&mut socket)?;
    let pause = retry_after.map(|span| format!("Retry-After: {}\r\n", span.as_secs()));
    let pause = pause.unwrap_or_default();
    write!(
        socket,
        "HTTP/1.1 {status} Refused\r\n{pause}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// Reads the whole request head. Closing a socket with unread bytes would reset it, and the answer would be lost.
fn read_head(socket: &mut TcpStream) -> io::Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if head.len() > MAX_HEAD => return Err(io::ErrorKind::InvalidData.into()),
            n => head.extend_from_slice(&bytes[..n]),
        }
    }
    Ok(())
}

fn boxed(error: io::Error) -> Box<tungstenite::Error> {
    Box::new(error.into())
}

/// An upgraded connection.
struct Session<'a> {
    ws: WebSocket<TcpStream>,
    connection: u64,
    shared: &'a Shared,
    pings: u64,
    answers: u64,
}

impl Session<'_> {
    fn play(mut self, acts: Acts) -> Outcome {
        for act in acts {
            let left = match *act {
                Act::Refuse { .. } => {
                    unreachable!(
                        "a refusal must be the first act, because the upgrade has been answered"
                    )
                }
                Act::Talk(span) => self.talk(span)?,
                Act::Quiet(span) => {
                    self.tell(format!(
                        "falls silent for {}, but answers pings",
                        Seconds(span)
                    ));
                    self.listen(span)?
                }
                Act::Freeze => {
                    self.tell("freezes: TCP stays open, nothing more is read or said");
                    return Ok(Ending::Frozen);
                }
                Act::Drop => {
                    self.tell("drops TCP without a Close frame");
                    break;
                }
                Act::Close(code) => {
                    self.tell(format!("closes with code {code}"));
                    let code = CloseCode::from(code);
                    self.ws.close(Some(CloseFrame {
                        code,
                        reason: "".into(),
                    }))?;
                    // Waits for the client's Close. Closing the socket earlier could reset it and lose our Close.
                    drop(self.listen(PATIENCE));
                    break;
                }
            };
            if let Some(how) = left {
                return Ok(Ending::ClientLeft(how));
            }
        }
        Ok(Ending::HungUp)
    }

    /// Sends data and both kinds of pings in turn. If the client leaves, returns how.
    fn talk(&mut self, span: Duration) -> Outcome<Option<String>> {
        let start = Instant::now();
        match span {
            Duration::MAX => self.tell("talks: data, pings by frame and by JSON message"),
            span => self.tell(format!(
                "talks for {}: data, pings by frame and by JSON message",
                Seconds(span)
            )),
        }
        for n in 0_u64.. {
            if start.elapsed() >= span {
                break;
            }
            self.ws.send(match n % 4 {
                1 => Message::text(json!({ "type": "ping" }).to_string()),
                3 => Message::Ping(n.to_string().into()),
                // Numbered across connections, so that a missing number shows a missing message.
                _ => Message::text(
                    json!({ "type": "quote", "n": self.shared.next_quote() }).to_string(),
                ),
            })?;
            self.pings += n % 2;
            if let Some(how) = self.listen(BEAT.min(span.saturating_sub(start.elapsed())))? {
                return Ok(Some(how));
            }
        }
        self.tell(format!(
            "sent {} pings, got {} answers",
            self.pings, self.answers
        ));
        Ok(None)
    }

    /// Reads for this long, echoes text and counts answers. If the client leaves, returns how. tungstenite answers pings
    /// at the start of the next `read`.
    fn listen(&mut self, span: Duration) -> Outcome<Option<String>> {
        let start = Instant::now();
        loop {
            let left = span.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.ws
                .get_ref()
                .set_read_timeout(Some(left))
                .map_err(boxed)?;
            match self.ws.read() {
                Ok(Message::Pong(_)) => self.answers += 1,
                Ok(Message::Text(text)) if is_pong(&text) => self.answers += 1,
                Ok(Message::Text(text)) => {
                    self.tell(format!("echoes {:?}", text.as_str()));
                    self.ws.send(Message::Text(text))?;
                }
                Ok(Message::Close(frame)) => {
                    drop(self.ws.flush());
                    let how =
                        frame.map(|frame| format!("closed with code {}", u16::from(frame.code)));
                    return Ok(Some(how.unwrap_or_else(|| "closed without a code".into())));
                }
                Ok(Message::Binary(_) | Message::Ping(_) | Message::Frame(_)) => {}
                Err(tungstenite::Error::Io(error)) if timed_out(&error) => return Ok(None),
                Err(error) => return Err(Box::new(error)),
            }
        }
    }

    fn tell(&self, text: impl Into<String>) {
        self.shared.tell(self.connection, text);
    }
}

fn is_pong(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|message| message["type"] == "pong")
}

/// Returns true for a read timeout, whose error kind differs between systems.
fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tungstenite::HandshakeError;

    const SHORT: &[Acts] = &[
        &[Act::Refuse {
            status: 503,
            retry_after: Some(Duration::from_secs(2)),
        }],
        &[Act::Drop],
        &[Act::Quiet(Duration::from_millis(50)), Act::Close(1001)],
        &[Act::Talk(Duration::MAX)],
        &[Act::Freeze],
    ];

    fn start() -> (MisbehavingServer, mpsc::Receiver<ServerNote>) {
        let (tx, notes) = mpsc::channel();
        let server = MisbehavingServer::start_with(SHORT, move |note| drop(tx.send(note)));
        (server.expect("a port of the loopback interface"), notes)
    }

    fn dial(server: &MisbehavingServer) -> Result<WebSocket<TcpStream>, tungstenite::Error> {
        let socket = TcpStream::connect(server.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        match tungstenite::client(server.url(), socket) {
            Ok((ws, _)) => Ok(ws),
            Err(HandshakeError::Failure(error)) => Err(error),
            Err(HandshakeError::Interrupted(_)) => panic!("no answer to the upgrade"),
        }
    }

    #[test]
    fn each_connection_gets_its_line_of_the_script_and_each_act_is_told() {
        let (server, notes) = start();

        let Err(tungstenite::Error::Http(answer)) = dial(&server) else {
            panic!("not refused")
        };
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "2");

        let dropped = dial(&server).expect("upgrade").read().expect_err("a drop");
        assert!(
            !matches!(dropped, tungstenite::Error::ConnectionClosed),
            "{dropped}"
        );

        let close = dial(&server)
            .expect("upgrade")
            .read()
            .expect("a Close frame");
        assert!(matches!(close, Message::Close(Some(f)) if f.code == CloseCode::Away));

        let mut ws = dial(&server).expect("upgrade");
        for expected in ["quote", "ping", "quote"] {
            let message = ws.read().expect("a message").into_text().expect("text");
            let message: Value = serde_json::from_str(&message).expect("JSON");
            assert_eq!(message["type"], expected);
        }
        assert!(ws.read().expect("a ping").is_ping());
        ws.send(Message::text("over to you")).expect("sent");
        while ws.read().expect("an echo").into_text().expect("text") != "over to you" {}
        ws.close(None).expect("sent");
        while ws.read().is_ok() {}

        let told: Vec<_> = notes
            .iter()
            .take(7)
            .map(|note| (note.connection, note.text))
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|(connection, text)| (*connection, text.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (1, "refuses: HTTP 503, Retry-After: 2"),
                (2, "drops TCP without a Close frame"),
                (3, "falls silent for 50 ms, but answers pings"),
                (3, "closes with code 1001"),
                (4, "talks: data, pings by frame and by JSON message"),
                (4, "echoes \"over to you\""),
                (4, "the client left: closed without a code"),
            ]
        );
    }

    #[test]
    fn dropping_it_hangs_up_and_frees_the_port() {
        let (server, notes) = start();
        let _first = dial(&server).expect_err("503");
        let _second = dial(&server).expect("upgrade");
        let _third = dial(&server).expect("upgrade");
        let mut talking = dial(&server).expect("upgrade");
        let mut frozen = dial(&server).expect("upgrade");
        while notes.recv().expect("a note").connection != 5 {}

        let address = server.address;
        drop(server);

        assert!(frozen.read().is_err(), "a frozen connection stayed open");
        while talking.read().is_ok() {}
        assert!(
            TcpStream::connect(address).is_err(),
            "the port is still in use"
        );
        // Each thread holds a sender, so the channel ends once all threads have ended.
        assert!(notes.iter().all(|note| note.connection < 5));
    }

    #[test]
    fn the_demo_ends_well() {
        assert_eq!(DEMO.last(), Some(&([Act::Talk(Duration::MAX)].as_slice())));
        for acts in DEMO {
            assert!(
                !acts
                    .iter()
                    .skip(1)
                    .any(|act| matches!(act, Act::Refuse { .. }))
            );
        }
    }
}
