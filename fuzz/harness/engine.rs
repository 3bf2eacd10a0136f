//! The whole engine over a stream in memory: any bytes in any cuts, any calls of the application's and the adapter's in
//! between, at any times.
//!
//! What holds is checked from outside: each message that was accepted is on the wire or handed back, once and in order;
//! events follow each other as they may; what the server said is delivered; an engine that rests has nothing to do and is
//! woken when it has; a stream that is not wanted is closed; and each step of the machine passes the core's auditor.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future as _;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use heartbeat_driver::core::{AnyDialect, Cause, Clock, Config, ConnId, Failure, Instant, Phase};
use heartbeat_driver::{
    Deflate, Engine, Event, Message, MessageRef, Opening, Options, Progress, Reason, SendError,
    SendErrorKind, Turn, Unsent,
};
use tungstenite::handshake::derive_accept_key;

#[path = "audited.rs"]
mod audited;
use audited::Audited;

const MS: u64 = 1_000_000;

/// The largest message either way.
const LARGEST: usize = 2048;

/// A clock that is set by hand.
#[derive(Clone, Copy)]
struct At(u64);

impl Clock for At {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0)
    }
}

const CONFIGS: [&str; 4] = [
    // Nothing happens by itself.
    r#"{"idle_timeout": "900s", "ping": "never", "check_interval": null, "pong_timeout": null, "write_timeout": null,
        "time_to_live": "5s"}"#,
    // Much does.
    r#"{"idle_timeout": "3s", "check_interval": "1s", "ping": {"after_silence": "1s"}, "pong_timeout": "2s",
        "connect_timeout": "2s", "write_timeout": "2s", "backoff": {"base": "250ms", "cap": "2s", "jitter_percent": 50},
        "stable_after": "5s", "time_to_live": "1s", "close_timeout": "1s"}"#,
    "{}",
    r#"{"ping": {"every": "2s"}, "pong_timeout": "1500ms", "permanent_errors": "give_up", "max_attempts": 3,
        "backoff": {"base": "100ms", "cap": "1s"}, "idle_timeout": "60s"}"#,
];

/// What of a stream is in the server's hands.
#[derive(Default)]
struct Wire {
    /// What the client may read now.
    said: VecDeque<u8>,
    /// After that.
    end: Option<Result<(), ErrorKind>>,
    /// The most bytes of one read, of one write.
    pieces: (usize, usize),
    /// Bytes that the client may still write.
    room: usize,
    breaks: Option<ErrorKind>,
    /// All that it has written.
    taken: Vec<u8>,
    read: u64,
    is_dropped: bool,
}

struct Stream(Rc<RefCell<Wire>>);

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        let count = wire.said.len().min(buffer.len()).min(wire.pieces.0);
        if count > 0 {
            for (to, from) in buffer.iter_mut().zip(wire.said.drain(..count)) {
                *to = from;
            }
            wire.read += count as u64;
            return Ok(count);
        }
        match wire.end {
            _ if buffer.is_empty() => Ok(0),
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Ok(())) => Ok(0),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        if let Some(error) = wire.breaks {
            return Err(error.into());
        }
        let count = wire.room.min(bytes.len()).min(wire.pieces.1);
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.room -= count;
        wire.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.borrow_mut().is_dropped = true;
    }
}

/// The server of one connection.
struct Server {
    wire: Rc<RefCell<Wire>>,
    /// So much of what the client wrote has been looked at.
    seen: usize,
    is_upgraded: bool,
    /// It has answered the request, in whichever way.
    has_answered: bool,
    /// permessage-deflate was agreed on.
    deflates: bool,
    inflate: flate2::Decompress,
    /// Of the message that is being read: its bytes, whether they are compressed. None between two.
    message: Option<(Vec<u8>, bool)>,
    /// A data frame has begun and is not whole.
    in_frame: bool,
    has_closed: bool,
    /// Messages that it has said before anything else, in order.
    said: VecDeque<Vec<u8>>,
    /// It has said something that need not be understood; nor need what it says after that.
    is_garbled: bool,
    /// Nothing that is said now counts: an end has been.
    has_ended: bool,
}

/// Where a message of the application's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Accepted,
    Written,
    Returned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Queue,
    Opening,
}

struct Sent {
    place: Place,
    /// Which one of all that were accepted.
    order: u64,
    lane: Lane,
    /// When it was first seen to wait for a connection.
    noted: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Down,
    Connecting,
    Connected,
    Ready,
}

/// Reads the input.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct World {
    engine: Option<Engine<Stream>>,
    now: u64,
    notified: Arc<AtomicU64>,
    dials: VecDeque<ConnId>,
    servers: BTreeMap<u64, Server>,
    /// All messages that were accepted, by number.
    sent: BTreeMap<u64, Sent>,
    next: u64,
    /// The last of each lane that was written.
    last_written: [Option<u64>; 2],
    told: Told,
    conn: Option<ConnId>,
    /// A `Disconnected` was told, and what follows was not.
    owes_plan: bool,
    has_ended: bool,
    has_stopped: bool,
    received: u64,
    returned: u64,
    written: u64,
    how: How,
    withheld: bool,
}

#[derive(Clone, Copy)]
struct How {
    config: u8,
    holds: bool,
    session: u8,
    automatic: bool,
    deflates: bool,
    paces: bool,
    fragments: bool,
    dialect: u8,
}

impl How {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let (first, second) = (bytes.byte(), bytes.byte());
        Self {
            config: first & 3,
            holds: first & 4 != 0,
            session: first >> 3 & 3,
            automatic: first & 32 != 0,
            deflates: first & 64 != 0,
            paces: first & 128 != 0,
            fragments: second & 1 != 0,
            dialect: second >> 1 & 1,
        }
    }

    fn dialect(self) -> AnyDialect {
        match self.dialect {
            0 => AnyDialect::Frames,
            _ => AnyDialect::JsonType,
        }
    }

    /// Whether everything that the client writes is known to be a message with a number, or a control frame.
    fn knows_all(self) -> bool {
        self.dialect == 0 && matches!(self.session, 0 | 3)
    }

    fn asks_for_session(self) -> bool {
        self.session != 0
    }

    fn options(self, audited: &Arc<Mutex<Option<Audited>>>) -> Options {
        let config = Config::from_json(CONFIGS[usize::from(self.config)]).expect("a configuration");
        let audited = Arc::clone(audited);
        let mut options = Options::new("ws://server.test/")
            .expect("a URL")
            .config(config)
            .dialect(self.dialect())
            .seed(7)
            .proxy(None)
            .read_buffer(512)
            .max_message_size(LARGEST)
            .send_queue(6, 3000)
            .observer(move |now, event, step, _| {
                let mut audited = audited.lock().expect("no panic before");
                audited.as_mut().expect("set").step(now, event, step);
            });
        if self.holds {
            options = options.hold(4, 2000);
        }
        if self.deflates {
            options = options.deflate(Deflate::new());
        }
        if self.fragments {
            options = options.fragment_size(128);
        }
        if self.paces {
            options = options
                .send_rate(3, Duration::from_secs(1))
                .expect("a rate");
        }
        match self.session {
            0 => options,
            1 => options.on_connect(|opening: &mut Opening<'_>| {
                opening.send("hello");
                Progress::Ready
            }),
            2 => options.on_connect(Login),
            _ => options.session_by_application(),
        }
    }
}

/// A session that the server's messages make.
struct Login;

impl heartbeat_driver::OnConnect for Login {
    fn connected(&mut self, opening: &mut Opening<'_>) -> Progress {
        opening.send("login");
        Progress::Pending
    }

    fn message(&mut self, message: &Message, opening: &mut Opening<'_>) -> Progress {
        match message
            .as_text()
            .map(|text| text.as_bytes().first().copied())
        {
            Some(Some(b'0'..=b'4')) => {
                opening.send("subscribe");
                Progress::Ready
            }
            Some(Some(b'5')) => Progress::Failed(Failure::Retry),
            Some(Some(b'6')) => Progress::Failed(Failure::Refresh),
            _ => Progress::Pending,
        }
    }
}

/// What the input says, to its end; then the client is stopped or dropped.
pub(crate) fn check(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let how = How::read(&mut bytes);
    let is_dropped = bytes.byte() & 1 != 0;
    let audited = Arc::new(Mutex::new(None));
    let notified = Arc::new(AtomicU64::new(0));
    let notify = {
        let notified = Arc::clone(&notified);
        Box::new(move || {
            notified.fetch_add(1, Ordering::Relaxed);
        })
    };
    let start = 1_000 * MS;
    let engine = Engine::new(how.options(&audited), At(start).now(), notify).expect("no TLS");
    let config = Config::clone(engine.machine().config());
    *audited.lock().expect("fresh") = Some(Audited::new(config, how.dialect(), 7, At(start).now()));
    let send_queue = Arc::clone(engine.send_queue());
    let mut world = World {
        engine: Some(engine),
        now: start,
        notified,
        dials: VecDeque::new(),
        servers: BTreeMap::new(),
        sent: BTreeMap::new(),
        next: 0,
        last_written: [None; 2],
        told: Told::Down,
        conn: None,
        owes_plan: false,
        has_ended: false,
        has_stopped: false,
        received: 0,
        returned: 0,
        written: 0,
        how,
        withheld: false,
    };
    world.settle();
    let mut sendings = Sendings::default();
    // Each operation costs little, but for the checks after it.
    for _ in 0..400 {
        let Some(op) = bytes.next() else { break };
        world.act(op, &mut bytes, &send_queue, &mut sendings);
    }
    if is_dropped {
        world.dropped(&send_queue, sendings);
    } else {
        world.stopped(&send_queue, sendings);
    }
}

/// Tasks that wait for room.
#[derive(Default)]
struct Sendings<'a>(Vec<(u64, Pin<Box<heartbeat_driver::Sending<'a>>>)>);

impl World {
    fn engine(&mut self) -> &mut Engine<Stream> {
        self.engine.as_mut().expect("not dropped yet")
    }

    fn clock(&self) -> At {
        At(self.now)
    }

    fn current(&self) -> u64 {
        self.conn.map_or(0, ConnId::get)
    }

    fn server(&mut self) -> Option<&mut Server> {
        let conn = self.current();
        self.servers.get_mut(&conn)
    }

    /// A message with a number of its own, and so many bytes at least.
    fn message(&mut self, len: u8, binary: bool) -> (u64, Message) {
        let number = self.next;
        self.next += 1;
        let len = match len {
            0..200 => usize::from(len),
            _ => usize::from(len - 199) * 37,
        };
        let text = format!("#{number:08}#{}", "x".repeat(len));
        let message = if binary {
            Message::from(text.into_bytes())
        } else {
            Message::from(text)
        };
        (number, message)
    }

    /// Messages have their numbers as they are made, and are accepted later where a task waits with them.
    fn accepted(&mut self, number: u64, lane: Lane) {
        let order = self.sent.len() as u64;
        self.sent.insert(
            number,
            Sent {
                place: Place::Accepted,
                order,
                lane,
                noted: None,
            },
        );
    }

    fn handed_over(&mut self, number: u64, lane: Lane, result: Result<(), SendError>) {
        match result {
            Ok(()) => self.accepted(number, lane),
            Err(error) => {
                assert_eq!(
                    number_of(&error.message),
                    number,
                    "another message comes back"
                );
                if self.has_ended {
                    assert_eq!(error.reason, SendErrorKind::Ended);
                }
            }
        }
    }

    #[allow(clippy::too_many_lines, reason = "one list of what may be done")]
    fn act<'a>(
        &mut self,
        op: u8,
        bytes: &mut Bytes<'_>,
        send_queue: &'a heartbeat_driver::SendQueue,
        sendings: &mut Sendings<'a>,
    ) {
        let (before, rests) = (self.notified.load(Ordering::Relaxed), send_queue.rest());
        let mut by_engine = false;
        match op % 32 {
            0..=2 => {
                let len = bytes.byte();
                let (number, message) = self.message(len, op & 64 != 0);
                let result = send_queue.try_send(message);
                self.handed_over(number, Lane::Queue, result);
            }
            3 => {
                let len = bytes.byte();
                let (number, message) = self.message(len, op & 64 != 0);
                let result = self.engine().try_send(message);
                self.handed_over(number, Lane::Queue, result);
                by_engine = true;
            }
            4 => {
                let len = bytes.byte();
                let (number, message) = self.message(len, false);
                let conn = ConnId::new(self.current().wrapping_sub(u64::from(op >> 7)));
                let result = send_queue.send_opening(conn, message);
                self.handed_over(number, Lane::Opening, result);
            }
            5 => {
                let len = bytes.byte();
                let (number, message) = self.message(len, false);
                if sendings.0.len() < 8 {
                    sendings
                        .0
                        .push((number, Box::pin(send_queue.send(message))));
                }
            }
            6 => {
                let at = usize::from(bytes.byte());
                if !sendings.0.is_empty() {
                    let at = at % sendings.0.len();
                    drop(sendings.0.remove(at));
                }
            }
            7 => send_queue.kick(),
            8 => {
                let outcome = match op >> 5 {
                    0..=3 => Ok(()),
                    4 => Err(Failure::Retry),
                    _ => Err(Failure::Refresh),
                };
                send_queue.session(ConnId::new(self.current()), outcome);
            }
            9 => {
                let conn = ConnId::new(self.current());
                let code = 990 + u16::from(bytes.byte());
                let _ = send_queue.fail_session(conn, Failure::Retry, code, "no");
            }
            10 => {
                let pauses = op & 64 != 0;
                let clock = self.clock();
                if pauses {
                    self.engine().pause_reading(&clock);
                } else {
                    self.engine().resume_reading(&clock);
                }
                by_engine = true;
            }
            11 => {
                self.withheld = op & 64 != 0;
                let withheld = self.withheld;
                self.engine().withhold_dials(withheld);
                by_engine = true;
            }
            12 => {
                self.engine().hung_up();
                by_engine = true;
            }
            13 => {
                let now = self.clock().now();
                let _ = self.engine().due_socket(now);
                by_engine = true;
            }
            14 => self.passes(u64::from(bytes.byte()) * 10 * MS),
            15 => self.passes(u64::from(bytes.byte()) * 1000 * MS),
            16 => {
                // To the nanosecond, or a nanosecond before.
                if let Some(wake) = self.engine().wake() {
                    let wake = wake.as_nanos() - u64::from(op & 64 != 0);
                    self.now = self.now.max(wake);
                }
            }
            // The dial.
            17 => self.answer_dial(op >> 5, bytes),
            // The server.
            18 => self.upgrade(op >> 5, bytes),
            19 | 20 => self.say(op >> 5, bytes),
            21 => {
                let count = usize::from(bytes.byte());
                let garbage = bytes.take(count);
                if let Some(server) = self.server()
                    && !server.has_ended
                {
                    server.is_garbled |= !garbage.is_empty();
                    server.wire.borrow_mut().said.extend(garbage);
                }
            }
            22 => {
                if let Some(server) = self.server()
                    && !server.has_ended
                {
                    let mut wire = server.wire.borrow_mut();
                    wire.end = Some(match op >> 5 {
                        0..=3 => Ok(()),
                        4 => Err(ErrorKind::ConnectionReset),
                        5 => Err(ErrorKind::TimedOut),
                        _ => Err(ErrorKind::Other),
                    });
                    server.has_ended = true;
                }
            }
            23 => {
                if let Some(server) = self.server() {
                    server.wire.borrow_mut().breaks = Some(ErrorKind::BrokenPipe);
                }
            }
            24 | 25 => {
                let room = usize::from(bytes.byte()) * usize::from(op >> 5);
                if let Some(server) = self.server() {
                    server.wire.borrow_mut().room = room;
                }
            }
            26 => {
                if let Some(server) = self.server() {
                    server.wire.borrow_mut().room = usize::MAX;
                }
            }
            27 => {
                let pieces = (bytes.byte(), bytes.byte());
                if let Some(server) = self.server() {
                    let piece = |size: u8| if size == 0 { usize::MAX } else { size.into() };
                    server.wire.borrow_mut().pieces = (piece(pieces.0), piece(pieces.1));
                }
            }
            28 => self.look(op & 64 != 0),
            29 => {
                send_queue.set_variable("a", "1");
                let _ = send_queue.take_id();
            }
            30 if op == 30 => send_queue.stop(),
            30 if op == 62 => {
                let _ = send_queue.stop_with(900 + 16 * u16::from(bytes.byte()), "bye");
            }
            // Several calls before the engine is turned again.
            _ => return,
        }
        self.poll(sendings);
        if rests && send_queue.is_pending() && !by_engine && !self.has_ended {
            let after = self.notified.load(Ordering::Relaxed);
            assert!(
                after > before,
                "something waits for an engine that rests, and nobody wakes it"
            );
        }
        if op & 0x80 == 0 || !matches!(op % 32, 0..=11) {
            send_queue.rise();
            self.settle();
            self.poll(sendings);
            self.settle();
        }
    }

    fn passes(&mut self, nanos: u64) {
        self.now += nanos;
    }

    fn poll(&mut self, sendings: &mut Sendings<'_>) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut waiting = Vec::new();
        for (number, mut sending) in sendings.0.drain(..) {
            match sending.as_mut().poll(&mut cx) {
                Poll::Ready(result) => {
                    self.handed_over(number, Lane::Queue, result);
                }
                Poll::Pending => waiting.push((number, sending)),
            }
        }
        sendings.0 = waiting;
    }

    /// Reads messages by the short ways.
    fn look(&mut self, lends: bool) {
        let clock = self.clock();
        for _ in 0..3 {
            if lends {
                let mut seen = Vec::new();
                let mut look = |conn, message: MessageRef<'_>| {
                    let bytes = match message {
                        MessageRef::Text(text) => text.as_bytes().to_vec(),
                        MessageRef::Binary(bytes) => bytes.to_vec(),
                    };
                    seen.push((conn, bytes));
                };
                let lent = self.engine().lend(&clock, 2, &mut look);
                assert_eq!(lent as usize, seen.len());
                for (conn, bytes) in seen {
                    self.delivered(conn, &bytes);
                }
            } else if let Some((conn, message)) = self.engine().message(&clock) {
                let bytes = message.into_bytes();
                self.delivered(conn, &bytes);
            }
        }
    }

    fn answer_dial(&mut self, how: u8, bytes: &mut Bytes<'_>) {
        let Some(conn) = self.dials.pop_front() else {
            return;
        };
        let clock = self.clock();
        let answer = if how >= 6 {
            Err(io::Error::from(ErrorKind::ConnectionRefused))
        } else {
            let room = match how {
                0..=3 => usize::MAX,
                _ => usize::from(bytes.byte()),
            };
            Ok(self.connected(conn, room))
        };
        self.engine().dialed(conn, answer, &clock);
    }

    fn connected(&mut self, conn: ConnId, room: usize) -> Stream {
        let wire = Rc::new(RefCell::new(Wire {
            pieces: (usize::MAX, usize::MAX),
            room,
            ..Wire::default()
        }));
        let server = Server {
            wire: Rc::clone(&wire),
            seen: 0,
            is_upgraded: false,
            has_answered: false,
            deflates: false,
            inflate: flate2::Decompress::new(false),
            message: None,
            in_frame: false,
            has_closed: false,
            said: VecDeque::new(),
            is_garbled: false,
            has_ended: false,
        };
        self.servers.insert(conn.get(), server);
        Stream(wire)
    }

    fn upgrade(&mut self, how: u8, bytes: &mut Bytes<'_>) {
        let deflates = self.how.deflates && how & 1 != 0;
        let status = u16::from(bytes.byte());
        let Some(server) = self.server() else { return };
        if how < 6 {
            server.answer(deflates);
        } else if !server.has_answered && !server.has_ended {
            server.has_answered = true;
            server.is_garbled = true;
            let status = 300 + status;
            let answer = format!(
                "HTTP/1.1 {status} No\r\nLocation: /other\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
            );
            server.wire.borrow_mut().said.extend(answer.bytes());
        }
    }

    fn say(&mut self, how: u8, bytes: &mut Bytes<'_>) {
        let len = usize::from(bytes.byte());
        let marks_json = self.how.dialect == 1;
        let Some(server) = self.server() else { return };
        if !server.is_upgraded || server.has_ended {
            return;
        }
        let payload = vec![b'0' + (len % 10) as u8; len];
        match how {
            0 | 1 => server.says(0x81, &payload),
            2 => server.says(0x82, &payload),
            3 => {
                // In fragments, with a ping between.
                let half = len / 2;
                server.frame(0x01, &payload[..half]);
                server.frame(0x89, b"between");
                server.frame(0x80, &payload[half..]);
                server.remember(&payload);
            }
            4 => server.frame(0x89, &payload[..len.min(125)]),
            5 => server.frame(0x8a, &payload[..len.min(125)]),
            6 if marks_json => server.frame(0x81, br#"{"type":"ping"}"#),
            6 => server.says(0x81, br#"{"type":"ping"}"#),
            _ => {
                let code = (1000 + len as u16).to_be_bytes();
                server.frame(0x88, &code);
                server.has_ended = true;
            }
        }
    }

    /// Turns until there is nothing to do, and looks at everything.
    fn settle(&mut self) {
        let (mut turns, mut most) = (0, 0);
        loop {
            let bytes: usize = self
                .servers
                .values()
                .map(|server| server.wire.borrow().said.len())
                .sum();
            turns += 1;
            most = most.max(bytes);
            assert!(turns < 5_000 + 4 * most, "the engine does not come to rest");
            let clock = self.clock();
            match self.engine().turn(&clock) {
                Turn::Event(event) => self.event(event),
                Turn::Dial(dial) => {
                    assert_eq!(self.engine().dialing(), Some(dial.conn));
                    self.dials.push_back(dial.conn);
                    while self.dials.len() > 4 {
                        self.dials.pop_front();
                    }
                }
                Turn::Again => {}
                Turn::Idle | Turn::Ended => {
                    if !self.answers_by_itself() {
                        break;
                    }
                }
            }
        }
        self.rests();
    }

    /// What a server does that is well. True if it did something.
    fn answers_by_itself(&mut self) -> bool {
        if !self.how.automatic || self.has_ended {
            return false;
        }
        if let Some(conn) = self.engine().dialing()
            && self.dials.back() == Some(&conn)
        {
            let clock = self.clock();
            self.dials.pop_back();
            let stream = self.connected(conn, usize::MAX);
            self.engine().dialed(conn, Ok(stream), &clock);
            return true;
        }
        let deflates = self.how.deflates;
        self.server().is_some_and(|server| server.answer(deflates))
    }

    fn event(&mut self, event: Event) {
        self.look_at_writes();
        assert!(!self.has_ended, "{event:?} after the end");
        if self.owes_plan {
            assert!(
                matches!(
                    event,
                    Event::Reconnect { .. } | Event::GaveUp { .. } | Event::Expired { .. }
                ) || matches!(event, Event::Stopped { .. }),
                "{event:?} after an end"
            );
        }
        match event {
            Event::Connecting { conn, .. } => {
                assert_eq!(self.told, Told::Down);
                assert!(self.conn.is_none_or(|last| last < conn), "ids increase");
                self.conn = Some(conn);
                self.told = Told::Connecting;
            }
            Event::Connected { conn, .. } => {
                assert_eq!((self.told, self.conn), (Told::Connecting, Some(conn)));
                self.told = Told::Connected;
            }
            Event::Ready { conn } => {
                assert_eq!((self.told, self.conn), (Told::Connected, Some(conn)));
                assert!(self.how.asks_for_session());
                self.told = Told::Ready;
            }
            Event::Gap { conn, .. } => {
                assert_eq!((self.told, self.conn), (Told::Connected, Some(conn)));
            }
            Event::Message { conn, message } => {
                let bytes = message.into_bytes();
                self.delivered(conn, &bytes);
            }
            Event::PongSent { conn }
            | Event::PingSent { conn }
            | Event::PongReceived { conn, .. }
            | Event::Check { conn, .. } => {
                assert_eq!(self.conn, Some(conn));
            }
            Event::Expired { unsent } => {
                assert!(self.how.holds && !unsent.is_empty());
                assert!(unsent.iter().all(|returned| !returned.cut));
                self.handed_back(&unsent);
            }
            Event::Disconnected {
                conn,
                reason,
                unsent,
                ..
            } => {
                assert_eq!(self.conn, Some(conn));
                assert_ne!(self.told, Told::Down);
                self.ended(reason);
                self.told = Told::Down;
                self.owes_plan = true;
                self.cut(&unsent);
                self.handed_back(&unsent);
            }
            Event::Reconnect { .. } | Event::GaveUp { .. } => {
                assert!(self.owes_plan, "a plan after no end");
                self.owes_plan = false;
            }
            Event::Stopped { unsent, .. } => {
                assert!(!self.has_stopped);
                self.has_stopped = true;
                if std::mem::replace(&mut self.told, Told::Down) == Told::Down {
                    assert!(unsent.iter().all(|returned| !returned.cut));
                } else {
                    self.cut(&unsent);
                }
                self.owes_plan = false;
                self.handed_back(&unsent);
            }
            Event::Lagged { .. } | Event::Skipped { .. } => {
                panic!("told by the queue behind the engine alone")
            }
            _ => {}
        }
    }

    fn delivered(&mut self, conn: ConnId, bytes: &[u8]) {
        assert_eq!(self.conn, Some(conn));
        assert!(
            matches!(self.told, Told::Connected | Told::Ready),
            "a message of no connection"
        );
        self.received += 1;
        let server = self.servers.get_mut(&conn.get()).expect("a server");
        match server.said.pop_front() {
            Some(said) => assert_eq!(said, bytes, "another message"),
            None => assert!(server.is_garbled, "a message that nobody said"),
        }
    }

    /// What had arrived before an end of the peer's was told before it.
    fn ended(&mut self, reason: Reason) {
        let conn = self.current();
        let Some(server) = self.servers.get(&conn) else {
            return;
        };
        let by_peer = matches!(
            reason,
            Reason::Cause(Cause::Eof | Cause::Reset | Cause::Io | Cause::Close(_))
        );
        if by_peer && server.is_upgraded && !server.is_garbled && self.told != Told::Connecting {
            assert!(
                server.said.is_empty(),
                "{} messages were left behind by {reason:?}",
                server.said.len()
            );
        }
    }

    /// Whether a message was cut is what the wire says.
    fn cut(&mut self, unsent: &Unsent) {
        assert!(
            unsent.iter().skip(1).all(|returned| !returned.cut),
            "only the first is cut"
        );
        let is_cut = unsent.iter().next().is_some_and(|first| first.cut);
        let knows_all = self.how.knows_all();
        let Some(server) = self.server() else {
            assert!(!is_cut);
            return;
        };
        let on_wire = server.in_frame || server.message.is_some();
        if knows_all {
            assert_eq!(is_cut, on_wire, "cut or not");
        } else {
            assert!(on_wire || !is_cut, "cut, and nothing of it is on the wire");
        }
    }

    fn handed_back(&mut self, unsent: &Unsent) {
        let mut last = [None; 2];
        for returned in unsent {
            let number = number_of(&returned.message);
            let sent = self.sent.get_mut(&number).expect("was accepted");
            assert_eq!(sent.place, Place::Accepted, "{number} comes back");
            sent.place = Place::Returned;
            let last = last[sent.lane as usize].replace(sent.order);
            assert!(
                last < Some(sent.order),
                "{number} comes back behind a later one"
            );
            self.returned += 1;
        }
    }

    /// Reads what the client has written since the last look.
    fn look_at_writes(&mut self) {
        let mut whole = Vec::new();
        for server in self.servers.values_mut() {
            server.read(&mut whole);
        }
        for message in whole {
            let Some(number) = number_in(&message) else {
                // The session's own, or the dialect's.
                assert!(!self.how.knows_all(), "an unknown message is on the wire");
                continue;
            };
            let sent = self.sent.get_mut(&number).expect("was accepted");
            assert_eq!(sent.place, Place::Accepted, "{number} is written");
            sent.place = Place::Written;
            self.written += 1;
            let last = self.last_written[sent.lane as usize].replace(sent.order);
            assert!(
                last < Some(sent.order),
                "{number} is written behind a later one"
            );
        }
    }

    /// An engine that says that it has nothing to do has nothing to do.
    fn rests(&mut self) {
        self.look_at_writes();
        let clock = self.clock();
        let live: Vec<u64> = self
            .servers
            .iter()
            .filter(|(_, server)| !server.wire.borrow().is_dropped)
            .map(|(conn, _)| *conn)
            .collect();
        let moved = self.moved();
        let engine = self.engine.as_mut().expect("not dropped yet");
        match engine.turn(&clock) {
            Turn::Idle => {}
            Turn::Ended => self.has_ended = true,
            other => panic!("it rested, and now {other:?}"),
        }
        assert_eq!(self.moved(), moved, "it rested, and now reads or writes");
        let engine = self.engine.as_ref().expect("not dropped yet");
        assert!(live.len() <= 1, "two sockets: {live:?}");
        assert_eq!(
            live.len(),
            usize::from(engine.socket().is_some()),
            "a socket is left open"
        );
        if let Some(wake) = engine.wake() {
            assert!(
                wake.as_nanos() > self.now || self.has_ended || self.withheld,
                "it rests, and wants to be woken before now"
            );
        }
        let (phase, is_ready) = (engine.machine().phase(), engine.machine().is_ready());
        let stats = engine.stats();
        if let Some(conn) = live.first() {
            let server = &self.servers[conn];
            let wire = server.wire.borrow();
            if engine.wants_read() {
                assert!(
                    wire.said.is_empty() && wire.end.is_none(),
                    "bytes are left behind"
                );
            }
            let takes = wire.room > 0 && wire.breaks.is_none();
            if takes && phase == Phase::Open {
                assert!(!engine.wants_write(), "the stream takes more");
                if is_ready && !self.how.paces {
                    assert_eq!(stats.waiting, 0, "messages wait, and the stream takes more");
                }
            }
        }
        assert_eq!(
            stats.unsent, self.returned,
            "what the figures say of what came back"
        );
        assert_eq!(
            stats.messages_sent, self.written,
            "what the figures say of what was written"
        );
        let (read, written) = moved;
        assert!(stats.bytes_received <= read && stats.bytes_sent <= written);
        if self.how.dialect == 0 {
            assert_eq!(stats.messages_received, self.received);
        }
        // The time counts from when a message first had to wait for a connection.
        if is_ready || phase == Phase::Closing || self.withheld {
            return;
        }
        let time_to_live = engine.machine().config().time_to_live();
        let now = self.now;
        for (number, sent) in &mut self.sent {
            let noted = *sent.noted.get_or_insert(now);
            if sent.place == Place::Accepted && sent.lane == Lane::Queue {
                assert!(
                    self.how.holds,
                    "{number} is held, and nobody asked for that"
                );
                let until = noted.saturating_add(time_to_live.as_nanos() as u64);
                assert!(now < until, "{number} is held for too long");
            }
        }
    }

    /// All bytes that were read and written.
    fn moved(&self) -> (u64, u64) {
        let mut moved = (0, 0);
        for server in self.servers.values() {
            let wire = server.wire.borrow();
            moved.0 += wire.read;
            moved.1 += wire.taken.len() as u64;
        }
        moved
    }

    /// A client that is stopped comes to its end, and each message is accounted for.
    fn stopped(&mut self, send_queue: &heartbeat_driver::SendQueue, mut sendings: Sendings<'_>) {
        send_queue.stop();
        for _ in 0..100 {
            self.settle();
            self.poll(&mut sendings);
            if self.has_ended {
                break;
            }
            let wake = self.engine().wake().expect("an end to wait for");
            self.now = self.now.max(wake.as_nanos());
        }
        assert!(
            self.has_ended && self.has_stopped,
            "it does not come to its end"
        );
        assert!(
            sendings.0.is_empty(),
            "somebody waits for an engine that has ended"
        );
        for (number, sent) in &self.sent {
            assert_ne!(sent.place, Place::Accepted, "{number} is lost");
        }
        self.refuses(send_queue);
    }

    /// Whoever waits is told of a client that is dropped, and its socket is closed.
    fn dropped(&mut self, send_queue: &heartbeat_driver::SendQueue, mut sendings: Sendings<'_>) {
        self.engine = None;
        self.has_ended = true;
        self.poll(&mut sendings);
        assert!(
            sendings.0.is_empty(),
            "somebody waits for an engine that was dropped"
        );
        for server in self.servers.values() {
            assert!(server.wire.borrow().is_dropped, "a socket is left open");
        }
        self.look_at_writes();
        self.refuses(send_queue);
    }

    fn refuses(&mut self, send_queue: &heartbeat_driver::SendQueue) {
        let (number, message) = self.message(0, false);
        let refused = send_queue.try_send(message);
        assert!(refused.is_err());
        self.handed_over(number, Lane::Queue, refused);
    }
}

impl Server {
    /// 101, if the request is there and has no answer yet.
    fn answer(&mut self, deflates: bool) -> bool {
        if self.has_answered || self.has_ended {
            return false;
        }
        let mut wire = self.wire.borrow_mut();
        let request = String::from_utf8_lossy(&wire.taken).into_owned();
        let Some((head, _)) = request.split_once("\r\n\r\n") else {
            return false;
        };
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .expect("a key");
        let accept = derive_accept_key(key.as_bytes());
        self.deflates = deflates && head.contains("permessage-deflate");
        let extension = if self.deflates {
            "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        } else {
            ""
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             {extension}Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        wire.said.extend(answer.bytes());
        self.seen = head.len() + 4;
        self.has_answered = true;
        self.is_upgraded = true;
        true
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut wire = self.wire.borrow_mut();
        match payload.len() {
            len @ 0..126 => wire.said.extend([first, len as u8]),
            len => wire.said.extend([first, 126, (len >> 8) as u8, len as u8]),
        }
        wire.said.extend(payload);
    }

    fn says(&mut self, first: u8, payload: &[u8]) {
        self.frame(first, payload);
        self.remember(payload);
    }

    fn remember(&mut self, payload: &[u8]) {
        if !self.is_garbled {
            self.said.push_back(payload.to_vec());
        }
    }

    /// Whole messages that the client has written since the last look. Each frame is as the protocol wants it.
    fn read(&mut self, whole: &mut Vec<Vec<u8>>) {
        if !self.is_upgraded {
            return;
        }
        loop {
            let wire = self.wire.borrow();
            let bytes = &wire.taken[self.seen..];
            self.in_frame = bytes.first().is_some_and(|first| first & 8 == 0);
            if bytes.len() < 2 {
                break;
            }
            let (len, size) = match bytes[1] & 0x7f {
                126 if bytes.len() < 4 => break,
                126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 8),
                127 => panic!("none is so large"),
                len => (usize::from(len), 6),
            };
            assert!(bytes[1] & 0x80 != 0, "a client's frame is masked");
            assert!(!self.has_closed, "something comes after the Close");
            if bytes.len() < size + len {
                break;
            }
            let mask = &bytes[size - 4..size];
            let payload: Vec<u8> = bytes[size..size + len]
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            let (first, fin) = (bytes[0], bytes[0] & 0x80 != 0);
            drop(wire);
            self.seen += size + len;
            self.in_frame = false;
            assert_eq!(first & 0x30, 0, "reserved bits");
            match first & 0xf {
                opcode @ (1 | 2) => {
                    assert!(self.message.is_none(), "a message within another: {opcode}");
                    let is_compressed = first & 0x40 != 0;
                    assert!(
                        self.deflates || !is_compressed,
                        "compressed, and nobody agreed"
                    );
                    self.message = Some((Vec::new(), is_compressed));
                }
                0 => {
                    assert!(
                        self.message.is_some() && first & 0x40 == 0,
                        "goes on with nothing"
                    );
                }
                8 => self.has_closed = true,
                9 | 10 => {}
                opcode => panic!("opcode {opcode}"),
            }
            if first & 8 != 0 {
                assert!(fin && len <= 125, "a control frame is whole and small");
                continue;
            }
            let (message, _) = self.message.as_mut().expect("set above");
            message.extend(payload);
            if fin {
                let (message, is_compressed) = self.message.take().expect("set above");
                whole.push(if is_compressed {
                    self.inflated(message)
                } else {
                    message
                });
            }
        }
    }

    fn inflated(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        // RFC 7692 §7.2.2
        message.extend([0, 0, 0xff, 0xff]);
        let mut out = Vec::with_capacity(64 * 1024);
        self.inflate
            .decompress_vec(&message, &mut out, flate2::FlushDecompress::Sync)
            .expect("compressed as it should be");
        out
    }
}

fn number_of(message: &Message) -> u64 {
    number_in(message.as_bytes()).expect("one of ours")
}

/// The number of a message of the application's.
fn number_in(message: &[u8]) -> Option<u64> {
    let digits = message.strip_prefix(b"#")?.get(..8)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
