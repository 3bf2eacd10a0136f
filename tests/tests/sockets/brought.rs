//! A panic in an application's byte stream, dialer or reactor ends the client like any other end.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use heartbeat_blocking::Reactor;
use heartbeat_tokio::core::{Clock, Config, ConnId, Instant};
use heartbeat_tokio::{Dial, Dialing, Event, Options, Transport};
use tokio::runtime::Builder;

use crate::harness::Server;

const WORDS: &str = "a part of the test";

/// Where something panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Dial,
    DialAgain,
    Read,
    Write,
    Ready,
    Wait,
    Cancel,
    Now,
}

/// A stream that works, except for one fault once a connection is open.
struct Stream {
    stream: TcpStream,
    at: At,
    /// How far the stream has read: the answer to the upgrade is read whole.
    is_open: bool,
}

impl Stream {
    fn dial(port: u16, at: At) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            at,
            is_open: false,
        })
    }

    fn mishap(&self, at: At) {
        assert!(!(self.is_open && self.at == at), "{WORDS}");
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.mishap(At::Read);
        let read = self.stream.read(buffer);
        self.is_open |= read.is_ok();
        read
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.mishap(At::Write);
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Stream {
    /// Polls again and again, because this test has no poller.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.mishap(At::Ready);
        cx.waker().wake_by_ref();
        thread::sleep(Duration::from_millis(1));
        Poll::Ready(())
    }

    fn poll_write_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// A reactor with the same fault.
struct World {
    port: u16,
    at: At,
    clock: heartbeat_driver::HostClock,
    dialing: Option<ConnId>,
    is_open: bool,
}

impl Clock for World {
    fn now(&self) -> Instant {
        assert!(!(self.is_open && self.at == At::Now), "{WORDS}");
        self.clock.now()
    }
}

impl Reactor for World {
    type Socket = Stream;

    fn dial(&mut self, dial: &Dial) {
        assert!(self.at != At::Dial, "{WORDS}");
        self.dialing = Some(dial.conn);
    }

    fn cancel_dial(&mut self) {
        assert!(!(self.is_open && self.at == At::Cancel), "{WORDS}");
    }

    fn dialed(&mut self) -> Option<(ConnId, io::Result<Stream>)> {
        assert!(self.at != At::DialAgain, "{WORDS}");
        let conn = self.dialing.take()?;
        Some((conn, Stream::dial(self.port, self.at)))
    }

    fn wait(&mut self, socket: Option<&mut Stream>, _: Option<Instant>) -> io::Result<()> {
        self.is_open = socket.is_some_and(|socket| socket.is_open);
        assert!(!(self.is_open && self.at == At::Wait), "{WORDS}");
        thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        Arc::new(|| {})
    }
}

/// A server that sends a ping, so that there is something to read and to write.
fn server() -> u16 {
    let server = Server::start();
    let port = server.port();
    thread::spawn(move || {
        let mut ws = server.upgrade();
        let _ = ws.send(tungstenite::Message::Ping(vec![1].into()));
        while ws.read().is_ok() {}
    });
    port
}

fn options() -> Options {
    let config = r#"{"ping": {"every": "1s"}, "check_interval": null}"#;
    Options::new("ws://server.test/")
        .expect("a URL")
        .config(Config::from_json(config).expect("a configuration"))
        .hold(10, 100)
}

/// Takes the events of an end. There must be no others.
fn assert_told(what: &str, code: &str, mut next: impl FnMut() -> Option<Event>) {
    let (mut told, mut unsent) = (Vec::new(), 0);
    while let Some(event) = next() {
        match &event {
            Event::Disconnected { reason, detail, .. } => {
                told.push(format!("{reason}: {}", detail.as_deref().unwrap_or("")));
            }
            Event::GaveUp { reason, .. } => told.push(format!("gave up: {reason}")),
            Event::Stopped { .. } => told.push("stopped".into()),
            _ => {}
        }
        unsent += event.into_unsent().len();
    }
    let expected = [
        format!("session refused: {code} panicked: {WORDS}"),
        "gave up: session refused".into(),
        "stopped".into(),
    ];
    assert_eq!(told, expected, "{what}");
    assert!(unsent <= 1, "{what}: {unsent} unsent");
    assert_eq!(next(), None, "{what}");
}

fn dialer(port: u16, at: At) -> impl FnMut(&Dial) -> Dialing + Send {
    move |_: &Dial| -> Dialing {
        assert!(at != At::Dial, "{WORDS}");
        Box::pin(async move {
            assert!(at != At::DialAgain, "{WORDS}");
            Ok(Box::new(Stream::dial(port, at)?) as Box<dyn Transport>)
        })
    }
}

#[test]
fn a_dialer_or_a_stream_that_panics_under_tokio_ends_the_client_by_events() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for (at, code) in [
        (At::Dial, "the dialer"),
        (At::DialAgain, "the dialer"),
        (At::Read, "the byte stream"),
        (At::Write, "the byte stream"),
        (At::Ready, "the byte stream"),
    ] {
        let _inside = runtime.enter();
        let make = || {
            let client = heartbeat_tokio::InPlace::with_dialer(options(), dialer(server(), at));
            let client = client.expect("no TLS, no error");
            client.sender().try_send("held").expect("room");
            client
        };
        let mut client = make();
        let what = format!("in place, {at:?}");
        assert_told(&what, code, || runtime.block_on(client.next()));
        let mut client = heartbeat_tokio::Client::drive(make(), 100);
        let what = format!("in a task, {at:?}");
        assert_told(&what, code, || runtime.block_on(client.next()));
    }
}

#[test]
fn a_reactor_or_a_stream_that_panics_in_a_thread_ends_the_client_by_events() {
    for (at, code) in [
        (At::Dial, "the reactor"),
        (At::DialAgain, "the reactor"),
        (At::Wait, "the reactor"),
        (At::Cancel, "the reactor"),
        (At::Now, "the clock"),
        (At::Read, "the byte stream"),
        (At::Write, "the byte stream"),
    ] {
        let make = || {
            let world = World {
                port: server(),
                at,
                clock: heartbeat_driver::HostClock::start(),
                dialing: None,
                is_open: false,
            };
            let client = heartbeat_blocking::InPlace::with_reactor(options(), world);
            let client = client.expect("no TLS, no error");
            client.sender().try_send("held").expect("room");
            client
        };
        let mut client = make();
        assert_told(&format!("in place, {at:?}"), code, || client.recv());
        let client = heartbeat_blocking::Client::drive(make(), 100);
        let mut client = client.expect("a thread");
        assert_told(&format!("in a thread, {at:?}"), code, || client.recv());
    }
}
