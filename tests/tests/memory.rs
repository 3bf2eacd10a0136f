//! The memory of a connection: at rest, and after it was busy. Counted in allocated bytes, including the
//! engine's own.

use std::cell::Cell;
use std::io::{Read as _, Write as _};

use heartbeat_driver::core::{Clock, Config, Instant};
use heartbeat_driver::{Engine, Event, Message, Options, Turn};
use heartbeat_kit::peer::{End, pipe};
use heartbeat_tests::frames::{BINARY, TEXT, encode as frame};
use tungstenite::handshake::derive_accept_key;

struct Now(Cell<u64>);

impl Now {
    fn pass(&self, seconds: u64) {
        self.0.set(self.0.get() + seconds * 1_000_000_000);
    }
}

impl Clock for Now {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.get())
    }
}

const PIPE: usize = 64 << 10;

/// A client in this thread, and the server's end of its stream.
struct Pair {
    engine: Engine<End>,
    server: End,
    now: Now,
}

impl Pair {
    fn open() -> Self {
        let now = Now(Cell::new(1));
        let config = Config::from_json(
            r#"{"idle_timeout": "60s", "ping": "never", "check_interval": "10s"}"#,
        );
        let options = Options::new("ws://server.test/")
            .expect("a URL")
            .config(config.expect("a configuration"));
        let engine = Engine::new(options, now.now(), Box::new(|| {}));
        let (ours, server) = pipe(PIPE);
        let mut ours = Some(ours);
        let mut this = Self {
            engine: engine.expect("no TLS"),
            server,
            now,
        };
        let mut request = Vec::new();
        loop {
            match this.engine.turn(&this.now) {
                Turn::Dial(dial) => {
                    let stream = ours.take().expect("one dial");
                    this.engine.dialed(dial.conn, Ok(stream), &this.now);
                }
                Turn::Event(Event::Connected { .. }) => return this,
                Turn::Idle => {
                    let mut buffer = [0; 1024];
                    while let Ok(count @ 1..) = this.server.read(&mut buffer) {
                        request.extend_from_slice(&buffer[..count]);
                    }
                    let request = String::from_utf8_lossy(&request);
                    let key = request
                        .lines()
                        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
                    let accept = derive_accept_key(key.expect("a key").as_bytes());
                    let answer = format!(
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: {accept}\r\n\r\n"
                    );
                    this.server.write_all(answer.as_bytes()).expect("room");
                }
                _ => {}
            }
        }
    }

    /// The server sends this, and `take` gets each message.
    fn say(&mut self, mut bytes: &[u8], mut take: impl FnMut(Message)) {
        loop {
            match self.engine.turn(&self.now) {
                Turn::Event(Event::Message { message, .. }) => take(message),
                Turn::Event(Event::Disconnected { reason, .. }) => panic!("{reason}"),
                Turn::Idle if bytes.is_empty() => return,
                Turn::Idle => {
                    let count = self.server.write(bytes).expect("room");
                    bytes = &bytes[count..];
                }
                _ => {}
            }
        }
    }

    /// A connection whose stream has been full, so that the memory of the test's own pipe no longer changes.
    fn used() -> Self {
        let mut this = Self::open();
        this.say(&frame(BINARY, &vec![7; 4 * PIPE]), drop);
        this.rest();
        this
    }

    /// Time in which nothing happens but checks.
    fn rest(&mut self) {
        for _ in 0..3 {
            self.now.pass(10);
            self.say(b"", |_| {});
        }
    }
}

/// Bytes that `work` has allocated and not freed.
fn held(work: impl FnOnce()) -> i64 {
    allocation_counter::measure(work).bytes_current
}

#[test]
fn a_connection_at_rest_holds_at_most_7_and_a_half_kilobytes() {
    let mut pair = None;
    let open = held(|| pair = Some(Pair::open()));
    // The answer and the request are in the pipe's buffers, each at most 1 KiB.
    assert!(open < 7_500 + 2_048, "{open} bytes");
}

#[test]
fn small_messages_that_are_kept_keep_no_large_ones_alive() {
    let mut pair = Pair::used();
    let small = frame(TEXT, b"a message of 23 bytes!!");
    let said = [small.clone(), frame(BINARY, &vec![7; 1 << 20]), small].concat();
    let mut kept = Vec::with_capacity(100);
    let bytes = held(|| {
        for _ in 0..22 {
            pair.say(&said, |message| {
                if message.len() == 23 {
                    kept.push(message);
                }
            });
        }
    });
    assert_eq!(kept.len(), 44);
    // In addition to the block of a busy connection.
    assert!(bytes < 44 * 23 * 20 + (70 << 10), "{bytes} bytes");
}

#[test]
fn a_large_message_leaves_nothing_behind() {
    let mut pair = Pair::used();
    let said = frame(BINARY, &vec![7; 20 << 20]);
    let mut received = 0;
    let bytes = held(|| {
        pair.say(&said, |message| received += message.len());
        pair.rest();
    });
    assert_eq!(received, 20 << 20);
    assert!(bytes < 1024, "{bytes} bytes");
}

#[test]
fn a_large_message_that_is_sent_is_never_there_twice() {
    let mut pair = Pair::open();
    let message = Message::from(vec![7; 20 << 20]);
    let mut got = 0;
    let sent = allocation_counter::measure(|| {
        pair.engine
            .send_queue()
            .try_send(message)
            .expect("connected");
        let mut buffer = vec![0; PIPE];
        while got < 20 << 20 {
            pair.say(b"", |_| {});
            while let Ok(count @ 1..) = pair.server.read(&mut buffer) {
                got += count;
            }
        }
        pair.rest();
    });
    let most = i64::try_from(sent.bytes_max).expect("little");
    assert!(most < (768 << 10), "{most} bytes");
}
