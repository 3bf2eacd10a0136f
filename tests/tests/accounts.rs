//! Each message is written or handed back, wherever the stream ends: after any byte, with and without
//! fragments and compression.

use std::io::{self, Read, Write};

use heartbeat_driver::core::{Clock, Config, Instant};
use heartbeat_driver::{Engine, Event, Message, Options, Turn, Unsent};
use heartbeat_tokio::Deflate;
use tungstenite::handshake::derive_accept_key;

struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::from_nanos(1)
    }
}

/// A stream that answers the upgrade, takes a fixed number of bytes after it, and then breaks.
struct Cut {
    request: Vec<u8>,
    answer: Vec<u8>,
    taken: Vec<u8>,
    left: usize,
    /// The most bytes that one write takes.
    piece: usize,
}

impl Read for Cut {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.answer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(self.answer.len());
        buffer[..count].copy_from_slice(&self.answer[..count]);
        self.answer.drain(..count);
        Ok(count)
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.request.ends_with(b"\r\n\r\n") {
            self.request.extend_from_slice(bytes);
            let request = String::from_utf8_lossy(&self.request);
            let key = request
                .lines()
                .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            let accept = derive_accept_key(key.expect("a key").as_bytes());
            let extension = if request.contains("permessage-deflate") {
                "Sec-WebSocket-Extensions: permessage-deflate\r\n"
            } else {
                ""
            };
            self.answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 {extension}Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .into();
            return Ok(bytes.len());
        }
        if self.left == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.left).min(self.piece);
        self.taken.extend_from_slice(&bytes[..count]);
        self.left -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn messages() -> Vec<Message> {
    let mut seed = 3_u32;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    });
    vec![
        "first".into(),
        noise.take(1500).collect::<Vec<u8>>().into(),
        "".into(),
        "prices ".repeat(300).into(),
        "last".into(),
    ]
}

/// The messages handed back, and the bytes taken, on a connection that breaks after this many bytes.
fn broken_after(left: usize, piece: usize, options: Options) -> (Option<Unsent>, Vec<u8>) {
    let mut engine = Engine::new(options, Still.now(), Box::new(|| {})).expect("no TLS");
    let mut taken = Vec::new();
    let (mut unsent, mut idle) = (None, 0);
    while unsent.is_none() && idle < 3 {
        match engine.turn(&Still) {
            Turn::Dial(dial) => {
                let stream = Cut {
                    request: Vec::new(),
                    answer: Vec::new(),
                    taken: Vec::new(),
                    left,
                    piece,
                };
                engine.dialed(dial.conn, Ok(stream), &Still);
            }
            Turn::Event(Event::Connected { .. }) => {
                for message in messages() {
                    engine.send_queue().try_send(message).expect("room");
                }
            }
            Turn::Event(Event::Disconnected { unsent: back, .. }) => unsent = Some(back),
            Turn::Idle => idle += 1,
            _ => {}
        }
        if let Some(socket) = engine.socket() {
            taken.clone_from(&socket.taken);
        }
    }
    (unsent, taken)
}

/// The number of whole messages in these bytes, and whether a part of one follows. A connection learns of
/// its end after its last bytes were taken, so the last look at the stream is one write too old. Therefore
/// bytes are counted instead.
fn whole(mut bytes: &[u8]) -> (usize, bool) {
    let (mut count, mut has_begun) = (0, false);
    while bytes.len() >= 2 {
        let (len, size) = match bytes[1] & 0x7f {
            126 if bytes.len() >= 4 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 8),
            126 => break,
            127 => panic!("none is so large"),
            len => (usize::from(len), 6),
        };
        if bytes.len() < size + len {
            break;
        }
        has_begun = bytes[0] & 0x80 == 0;
        count += usize::from(!has_begun);
        bytes = &bytes[size + len..];
    }
    (count, has_begun || !bytes.is_empty())
}

fn every_cut(options: impl Fn() -> Options) {
    let (unsent, all) = broken_after(usize::MAX, usize::MAX, options());
    assert!(unsent.is_none());
    assert_eq!(whole(&all), (messages().len(), false));
    let messages = messages();
    for (piece, step) in [(usize::MAX, 1), (700, 7)] {
        for left in (0..all.len()).step_by(step) {
            let (unsent, _) = broken_after(left, piece, options());
            let unsent = unsent.expect("it broke");
            let (count, is_cut) = whole(&all[..left]);
            let cuts: Vec<bool> = unsent.iter().map(|returned| returned.cut).collect();
            let mut expected = vec![false; messages.len() - count];
            expected[0] = is_cut;
            assert_eq!(cuts, expected, "after {left} bytes");
            assert!(
                unsent.into_messages() == messages[count..],
                "after {left} bytes"
            );
        }
    }
}

fn options() -> Options {
    let config = Config::from_json(r#"{"ping": "never"}"#).expect("a configuration");
    Options::new("ws://server.test/")
        .expect("a URL")
        .config(config)
}

#[test]
fn each_message_is_written_or_comes_back_wherever_the_stream_breaks() {
    every_cut(options);
}

#[test]
fn each_message_in_fragments_is_written_or_comes_back_wherever_the_stream_breaks() {
    every_cut(|| options().fragment_size(1024));
}

#[test]
fn each_compressed_message_is_written_or_comes_back_wherever_the_stream_breaks() {
    every_cut(|| options().fragment_size(1024).deflate(Deflate::new()));
}
