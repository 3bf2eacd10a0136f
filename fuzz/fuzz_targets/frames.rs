//! Any bytes as the server's half of an open connection: no panic, and the engine comes to rest.
#![no_main]

use std::io::{Read, Write};

use heartbeat_core::{Clock, Instant};
use heartbeat_driver::{Engine, Options, Turn};
use heartbeat_tests::sim::{End, pipe};
use libfuzzer_sys::fuzz_target;

struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ORIGIN
    }
}

fuzz_target!(|data: &[u8]| {
    let options = Options::new("ws://server.test/")
        .expect("a URL")
        .max_message_size(1 << 16)
        .seed(7);
    let mut engine: Engine<End> =
        Engine::new(options, Still.now(), Box::new(|| {}), Box::new(|| {})).expect("no TLS");
    let (ours, mut theirs) = pipe(1 << 20);
    let mut stream = Some(ours);
    let mut rest = data;
    let mut answered = false;
    // Far more turns than the bytes can ask for: what does not come to rest by then never does.
    for _ in 0..data.len() * 4 + 100 {
        match engine.turn(&Still) {
            Turn::Event(_) | Turn::Again => {}
            Turn::Ended => return,
            Turn::Dial(dial) => match stream.take() {
                Some(stream) => engine.dialed(dial.conn, Ok(stream), &Still),
                None => return,
            },
            Turn::Idle if !answered => {
                answered = true;
                answer_upgrade(&mut theirs);
            }
            Turn::Idle if rest.is_empty() => return,
            Turn::Idle => {
                let (piece, later) = rest.split_at(rest.len().min(1 + usize::from(rest[0]) * 16));
                rest = later;
                if theirs.write_all(piece).is_err() {
                    return;
                }
                drain(&mut theirs);
            }
        }
    }
    panic!("the engine does not come to rest");
});

fn answer_upgrade(server: &mut End) {
    let request = drain(server);
    let request = String::from_utf8_lossy(&request);
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap_or_default();
    let accept = heartbeat_tests::sim::accept_key(key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    server.write_all(answer.as_bytes()).expect("room");
}

fn drain(end: &mut End) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = end.read(&mut buffer) {
        all.extend_from_slice(&buffer[..count]);
    }
    all
}
