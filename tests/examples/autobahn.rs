//! Our client for the Autobahn test suite's fuzzing server. It asks for the number of cases, echoes in
//! each, and asks for the report. It offers permessage-deflate, which the server accepts in cases 12 and 13
//! only. `tests/autobahn/run` runs both sides.
//!
//! `autobahn ws://127.0.0.1:9001 tokio|blocking`

#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "a program for real sockets"
)]

use heartbeat_tokio::core::FramesOnly;
use heartbeat_tokio::{Config, Deflate, Event, Message, Options};

/// The messages of a connection, until its end.
trait Session {
    fn next(&mut self) -> Option<Event>;
    fn send(&mut self, message: Message);
}

struct OnTokio(heartbeat_tokio::Client, tokio::runtime::Runtime);

impl Session for OnTokio {
    fn next(&mut self) -> Option<Event> {
        self.1.block_on(self.0.next())
    }

    fn send(&mut self, message: Message) {
        // The fuzzing server may have closed meanwhile. Then it counts the messages that it got.
        let _ = self.1.block_on(self.0.sender().send(message));
    }
}

struct OnThread(heartbeat_blocking::Client);

impl Session for OnThread {
    fn next(&mut self) -> Option<Event> {
        self.0.recv()
    }

    fn send(&mut self, message: Message) {
        let _ = self.0.sender().send(message);
    }
}

fn open(url: &str, adapter: &str) -> Box<dyn Session> {
    let options = Options::new(url)
        .unwrap_or_else(|error| panic!("{error}"))
        .config(Config::default())
        .dialect(FramesOnly)
        .deflate(Deflate::new());
    if adapter == "blocking" {
        let client = heartbeat_blocking::Client::spawn(options);
        return Box::new(OnThread(client.expect("a thread")));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let client = {
        let _inside = runtime.enter();
        heartbeat_tokio::Client::spawn(options).expect("no TLS, no error")
    };
    Box::new(OnTokio(client, runtime))
}

/// Echoes until the connection ends. Returns the last text.
fn echo(url: &str, adapter: &str) -> Option<String> {
    let mut session = open(url, adapter);
    let mut last = None;
    while let Some(event) = session.next() {
        match event {
            Event::Message { message, .. } => {
                last = message.as_text().map(str::to_owned);
                session.send(message);
            }
            // The next case is on another connection.
            Event::Disconnected { .. } => break,
            _ => {}
        }
    }
    last
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(server), Some(adapter)) = (args.next(), args.next()) else {
        eprintln!("autobahn ws://HOST:PORT tokio|blocking");
        std::process::exit(2);
    };
    let count = echo(&format!("{server}/getCaseCount"), &adapter);
    let count: u32 = count
        .and_then(|text| text.parse().ok())
        .expect("a number of cases");
    for case in 1..=count {
        echo(
            &format!("{server}/runCase?case={case}&agent=heartbeat-{adapter}"),
            &adapter,
        );
    }
    echo(
        &format!("{server}/updateReports?agent=heartbeat-{adapter}"),
        &adapter,
    );
    println!("{count} cases on {adapter}");
}
