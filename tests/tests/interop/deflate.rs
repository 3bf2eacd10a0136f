//! permessage-deflate against third-party servers: each set of parameters, messages of all kinds in both
//! directions.

use heartbeat_blocking::{Deflate, Event, InPlace, Message, Options};

use crate::server::{Library, Server};

/// The server's parameters: no context takeover for the server and for the client, window bits for the
/// server and for the client (0: none).
const SERVERS: [(u8, u8, u8, u8); 7] = [
    (0, 0, 0, 0),
    (1, 0, 0, 0),
    (0, 1, 0, 0),
    (1, 1, 0, 0),
    (0, 0, 10, 0),
    (0, 0, 0, 9),
    (1, 1, 9, 12),
];

fn offers() -> [Deflate; 4] {
    let narrow = Deflate::new()
        .client_max_window_bits(10)
        .server_max_window_bits(11);
    [
        Deflate::new().min_size(0),
        narrow.level(9),
        Deflate::new().client_no_context_takeover().level(1),
        narrow.server_no_context_takeover().min_size(1000),
    ]
}

/// Small repeating messages, large ones in fragments, incompressible ones, empty ones.
fn messages() -> Vec<Message> {
    let mut all: Vec<Message> = (0..50)
        .map(|n| format!(r#"{{"e":"trade","s":"BNBBTC","p":"612.{n}","é":true}}"#).into())
        .collect();
    all.push("".into());
    all.push("prices ".repeat(20_000).into());
    let mut seed = 1_u32;
    let noise = std::iter::repeat_with(|| {
        // Numerical Recipes' generator: its output only has to be incompressible.
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    });
    all.push(noise.take(80_000).collect::<Vec<u8>>().into());
    all.push(vec![0; 300_000].into());
    all.push(Vec::new().into());
    all.push("last".into());
    all
}

/// Everything comes back unchanged. Returns how many bytes each direction took.
fn echo(server: &Server, path: &str, deflate: Deflate) -> (String, u64, u64) {
    let options = Options::new(&server.url(path))
        .expect("a URL")
        .deflate(deflate);
    let mut client = InPlace::new(options).expect("a poll");
    let agreed = loop {
        match client.recv().expect("it goes on") {
            Event::Connected { response, .. } => {
                break response
                    .header("sec-websocket-extensions")
                    .unwrap_or_default()
                    .to_owned();
            }
            Event::Connecting { .. } => {}
            event => panic!("{path}, {deflate:?}: {event:?}"),
        }
    };
    for message in messages() {
        let shown = format!("{message:?}");
        client.try_send(message.clone()).expect("connected");
        loop {
            match client.recv().expect("it goes on") {
                Event::Message { message: back, .. } => {
                    assert!(back == message, "{path}, {deflate:?}: {shown}");
                    break;
                }
                Event::Disconnected { reason, detail, .. } => {
                    panic!("{path}, {deflate:?}: {shown}: {reason}, {detail:?}")
                }
                _ => {}
            }
        }
    }
    let stats = client.stats();
    client.stop();
    (agreed, stats.bytes_sent, stats.bytes_received)
}

fn passes(name: &str, library: Library) {
    if let Err(why) = library.install() {
        return crate::skip(name, why);
    }
    let server = Server::start(library);
    let plain: usize = messages().iter().map(Message::len).sum();
    for (server_alone, client_alone, server_bits, client_bits) in SERVERS {
        let path = format!("/deflate/{server_alone}/{client_alone}/{server_bits}/{client_bits}");
        for deflate in offers() {
            let (agreed, sent, received) = echo(&server, &path, deflate);
            assert!(agreed.starts_with("permessage-deflate"), "{path}: {agreed}");
            // The noise is a fifth of all bytes.
            for bytes in [sent, received] {
                assert!(bytes < plain as u64 / 3, "{path}, {agreed}: {bytes} bytes");
            }
        }
    }
    // With a server that declines, messages are not compressed.
    let (agreed, sent, _) = echo(&server, "/deflate/none", Deflate::new());
    assert_eq!(agreed, "");
    assert!(sent > plain as u64);
}

#[test]
fn every_set_of_parameters_passes_with_websockets() {
    passes("deflate: websockets", Library::Websockets);
}

#[test]
fn every_set_of_parameters_passes_with_ws() {
    passes("deflate: ws", Library::Ws);
}
