//! Any bytes as the server's half of a connection: no panic, bounded memory, the engine comes to rest, and
//! the connection has exactly one end, with a reason.

use std::io::{Read, Write};

use heartbeat_driver::core::{Clock, Instant};
use heartbeat_driver::{Engine, Event, Options, Turn};
use heartbeat_kit::peer::{End, pipe};
use tungstenite::handshake::derive_accept_key;

/// Bytes on their way in each direction. Small, so that writes are often stuck.
const PIPE: usize = 4096;

/// What an engine with its connection, its queues of answers (64 KiB) and its write buffer (16 KiB) may hold
/// at most, both ends of the pipe included: twice as much as they may hold, for a `Vec` grows by doubling.
const FIXED: u64 = 2 * (64 + 16 + 2 * 4 + 8) * 1024;

/// A frame and the message that it ends are held at once, each in a buffer that grows by doubling, and while it
/// grows the old one is there, too.
const PER_MESSAGE_BYTE: u64 = 6;

/// The first byte says how; the rest is what the server says.
///
/// | bits | |
/// |---|---|
/// | 0, 1 | the largest message: 128 B, 1 KiB, 16 KiB, 64 KiB |
/// | 2 | the server answers the upgrade itself: `{accept}` in its bytes becomes the right key |
/// | 3 | it never reads |
/// | 4 | it says everything 32 times |
/// | 5 | in small pieces |
/// | 6 | the application stops reading now and then |
pub(crate) fn check(bytes: &[u8]) {
    let Some((&mode, said)) = bytes.split_first() else {
        return;
    };
    let how = |bit: u8| mode & (1 << bit) != 0;
    let largest = [128, 1 << 10, 16 << 10, 64 << 10][usize::from(mode % 4)];
    let said = if how(4) {
        said.repeat(32)
    } else {
        said.to_vec()
    };
    let read_buffer = 4096;
    // What the server has to say is not the client's to hold: its room is there before anything is counted.
    let mut all = Vec::with_capacity(said.len() + 1024);
    let held = allocation_counter::measure(|| {
        let server = Server {
            said: &said,
            answers_itself: how(2),
            never_reads: how(3),
            piece: if how(5) { 7 } else { 1500 },
        };
        let (ends, reasons) = live(server, &mut all, largest, read_buffer, how(6));
        assert_eq!((ends, reasons), (1, 1), "one end, and what follows it");
    });
    let ceiling = FIXED + read_buffer as u64 + PER_MESSAGE_BYTE * largest as u64;
    assert!(
        held.bytes_max <= ceiling,
        "{} bytes were held, {ceiling} are allowed with messages of at most {largest}",
        held.bytes_max
    );
}

struct Server<'a> {
    said: &'a [u8],
    answers_itself: bool,
    never_reads: bool,
    piece: usize,
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ORIGIN
    }
}

/// One connection from its dial to its end: how many ends were told, and how many plans for what follows.
///
/// `all` is empty, with room for what the server says.
fn live(
    server: Server<'_>,
    all: &mut Vec<u8>,
    largest: usize,
    read_buffer: usize,
    pauses: bool,
) -> (u32, u32) {
    let options = Options::new("ws://server.test/")
        .expect("a URL")
        .read_buffer(read_buffer)
        .max_message_size(largest)
        .seed(7);
    let mut engine: Engine<End> =
        Engine::new(options, Still.now(), Box::new(|| {})).expect("no TLS");
    let (ours, theirs) = pipe(PIPE);
    let (mut stream, mut theirs) = (Some(ours), Some(theirs));
    let mut at = 0;
    let (mut ends, mut follows, mut quiet) = (0, 0, 0);
    // Far more turns than the bytes can ask for: what does not come to rest by then never does.
    for turn in 0..server.said.len() * 4 + 1000 {
        let paused = pauses && turn % 7 == 3;
        if paused {
            engine.pause_reading(&Still);
        } else {
            engine.resume_reading(&Still);
        }
        match engine.turn(&Still) {
            Turn::Event(Event::Disconnected { .. }) => ends += 1,
            Turn::Event(Event::Reconnect { .. } | Event::GaveUp { .. }) => follows += 1,
            Turn::Event(Event::Message { message, .. }) => {
                assert!(ends == 0, "a message after the end");
                assert!(message.len() <= largest, "{} bytes", message.len());
            }
            Turn::Event(_) | Turn::Again => {}
            Turn::Ended => return (ends, follows),
            Turn::Dial(dial) => {
                let stream = stream.take().ok_or(std::io::ErrorKind::ConnectionRefused);
                engine.dialed(dial.conn, stream.map_err(Into::into), &Still);
            }
            Turn::Idle if ends > 0 => return (ends, follows),
            Turn::Idle => {
                let Some(end) = &mut theirs else {
                    assert!(paused, "the server has gone, and the end is not told");
                    continue;
                };
                if all.is_empty() {
                    upgraded(end, &server, all);
                }
                let piece = &all[at..all.len().min(at + server.piece)];
                at += end.write(piece).unwrap_or(0);
                if !server.never_reads {
                    drain(end);
                }
                // Said all, or is not listened to any more.
                quiet += 1;
                if at == all.len() || (quiet > 100 && server.never_reads) {
                    theirs = None;
                }
            }
        }
    }
    panic!("the engine does not come to rest");
}

/// All that the server will say, the answer to the upgrade first.
fn upgraded(end: &mut End, server: &Server<'_>, all: &mut Vec<u8>) {
    let request = drain(end);
    let request = String::from_utf8_lossy(&request);
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    let mark = b"{accept}";
    let at = server
        .said
        .windows(mark.len())
        .position(|bytes| bytes == mark);
    match at {
        _ if !server.answers_itself => {
            all.extend_from_slice(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
            );
            all.extend_from_slice(accept.as_bytes());
            all.extend_from_slice(b"\r\n\r\n");
            all.extend_from_slice(server.said);
        }
        Some(at) => {
            all.extend_from_slice(&server.said[..at]);
            all.extend_from_slice(accept.as_bytes());
            all.extend_from_slice(&server.said[at + mark.len()..]);
        }
        None => all.extend_from_slice(server.said),
    }
}

fn drain(end: &mut End) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 512]);
    while let Ok(count @ 1..) = end.read(&mut buffer) {
        all.extend_from_slice(&buffer[..count]);
    }
    all
}
