//! Messages that arrive compressed: heartbeats among them are answered, and bombs end the connection.

use std::io::Write;
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use heartbeat_tokio::core::{AnyDialect, Cause, GiveUp};
use heartbeat_tokio::{Bytes, Decode, Event, Message, Undecodable};
use tungstenite::Message as Frame;

use crate::harness::{Case, Server};

cases! {
    everywhere: [
        a_compressed_ping_is_answered_and_compressed_data_arrives_as_text,
        a_message_that_inflates_beyond_the_limit_ends_with_1009,
        a_message_that_cannot_be_inflated_ends_with_1007,
        a_decoder_is_made_anew_for_each_connection,
    ]
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory").into()
}

fn a_compressed_ping_is_answered_and_compressed_data_arrives_as_text(case: Case) {
    let server = Server::start();
    let options = server
        .options("{}")
        .dialect(AnyDialect::named("htx").expect("in the catalogue"))
        .decoder(|| heartbeat_tokio::Inflate::Gzip);
    let mut client = case.start(options);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let ping = gzip(br#"{"ping":1492420473027}"#);
            ws.send(Frame::Binary(ping)).expect("the client reads");
            let pong = ws.read().expect("an answer");
            assert_eq!(pong, Frame::text(r#"{"pong":1492420473027}"#));
            let data = gzip(br#"{"ch":"market.btcusdt.kline.1min"}"#);
            ws.send(Frame::Binary(data)).expect("the client reads");
            let _ = ws.read();
        });
        let data = client.message();
        assert_eq!(
            data.as_text(),
            Some(r#"{"ch":"market.btcusdt.kline.1min"}"#)
        );
        drop(client);
    });
}

fn ends_with(case: Case, message: Bytes, code: u16) {
    let server = Server::start();
    let options = server
        .options("{}")
        .max_message_size(1 << 16)
        .decoder(|| heartbeat_tokio::Inflate::Gzip);
    let mut client = case.start(options);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            ws.send(Frame::Binary(message)).expect("the client reads");
            let close = ws.read();
            assert!(
                matches!(&close, Ok(Frame::Close(Some(frame))) if u16::from(frame.code) == code),
                "{close:?}"
            );
        });
        let cause = Cause::Protocol(code);
        assert_eq!(client.until_disconnected().reason, cause.to_string());
        let gave_up = client.until(|event| match event {
            Event::GaveUp { reason, .. } => Some(Some(reason)),
            Event::Reconnect { .. } => Some(None),
            _ => None,
        });
        // A message that is too large is a matter of settings. A garbled message is corruption, which passes.
        assert_eq!(gave_up, (code == 1009).then_some(GiveUp::Cause(cause)));
    });
}

fn a_message_that_inflates_beyond_the_limit_ends_with_1009(case: Case) {
    ends_with(case, gzip(&vec![0; 8 << 20]), 1009);
}

fn a_message_that_cannot_be_inflated_ends_with_1007(case: Case) {
    let whole = gzip(b"half of this is missing");
    ends_with(case, whole.slice(..whole.len() / 2), 1007);
}

/// Numbers the messages of a connection.
struct Numbers(u32);

impl Decode for Numbers {
    fn decode(&mut self, _: Message, _: usize) -> Result<Message, Undecodable> {
        self.0 += 1;
        Ok(Message::from(self.0.to_string()))
    }
}

fn a_decoder_is_made_anew_for_each_connection(case: Case) {
    let server = Server::start();
    let config = r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;
    let mut client = case.start(server.options(config).decoder(|| Numbers(0)));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                let mut ws = server.upgrade();
                for _ in 0..3 {
                    ws.send(Frame::text("x")).expect("the client reads");
                }
            }
        });
        for number in ["1", "2", "3", "1", "2", "3"] {
            let message = client.until(|event| match event {
                Event::Message { message, .. } => Some(message),
                _ => None,
            });
            assert_eq!(message, number.into());
        }
    });
}
