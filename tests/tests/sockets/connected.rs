//! Waiting for a connection, in parallel with the events.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use heartbeat_tokio::core::{Cause, GiveUp};
use heartbeat_tokio::{
    Event, Message, NotConnected, OnConnect, Opening, Options, Progress, Reason, Request, Response,
    SendError, WaitEnd,
};
use tokio::runtime::Runtime;

use crate::harness::{PATIENCE, Server, hang_up, read_to_the_end};

/// A client of either adapter that drives itself.
enum Client {
    Tokio(heartbeat_tokio::Client, Runtime),
    Blocking(heartbeat_blocking::Client),
}

impl Client {
    fn both(options: impl Fn() -> Options) -> [Self; 2] {
        let runtime = Runtime::new().expect("a runtime");
        let client = {
            let _inside = runtime.enter();
            heartbeat_tokio::Client::spawn(options()).expect("no TLS, no error")
        };
        let blocking = heartbeat_blocking::Client::spawn(options()).expect("no TLS, no error");
        [Self::Tokio(client, runtime), Self::Blocking(blocking)]
    }

    /// `None` is a timeout.
    fn connected(&self, timeout: Duration) -> Result<u16, Option<NotConnected>> {
        match self {
            Self::Tokio(client, runtime) => within(timeout, runtime, client.connected()),
            Self::Blocking(client) => unless_late(client.connected(timeout)),
        }
    }

    fn ready(&self, timeout: Duration) -> Result<u16, Option<NotConnected>> {
        match self {
            Self::Tokio(client, runtime) => within(timeout, runtime, client.ready()),
            Self::Blocking(client) => unless_late(client.ready(timeout)),
        }
    }

    fn try_send(&self, text: &str) -> Result<(), SendError> {
        match self {
            Self::Tokio(client, _) => client.sender().try_send(text),
            Self::Blocking(client) => client.sender().try_send(text),
        }
    }

    fn next(&mut self) -> Option<Event> {
        match self {
            Self::Tokio(client, runtime) => runtime.block_on(client.next()),
            Self::Blocking(client) => client.recv(),
        }
    }

    fn phase(&self) -> heartbeat_tokio::Phase {
        match self {
            Self::Tokio(client, _) => client.stats().phase,
            Self::Blocking(client) => client.stats().phase,
        }
    }

    fn stop(&self) {
        match self {
            Self::Tokio(client, _) => client.sender().stop(),
            Self::Blocking(client) => client.sender().stop(),
        }
    }
}

type Waited = Result<Arc<Response>, NotConnected>;

fn within(
    timeout: Duration,
    runtime: &Runtime,
    wait: impl Future<Output = Waited>,
) -> Result<u16, Option<NotConnected>> {
    let wait = async { tokio::time::timeout(timeout, wait).await };
    unless_late(runtime.block_on(wait).map_err(|_| None)?)
}

fn unless_late(waited: Waited) -> Result<u16, Option<NotConnected>> {
    match waited {
        Ok(response) => Ok(response.status()),
        Err(error) if error.why == WaitEnd::Timeout => Err(None),
        Err(error) => Err(Some(error)),
    }
}

const BRISK: &str =
    r#"{"close_timeout": "1s", "backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;

#[test]
fn a_wait_ends_with_the_answer_as_often_as_one_asks_and_takes_no_event() {
    let server = Server::start();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut open: Vec<_> = (0..2).map(|_| server.upgrade()).collect();
            for ws in &mut open {
                read_to_the_end(ws.get_mut());
            }
        });
        for mut client in Client::both(|| server.options(BRISK)) {
            assert_eq!(client.connected(PATIENCE), Ok(101));
            assert_eq!(client.connected(PATIENCE), Ok(101));
            assert!(matches!(client.next(), Some(Event::Connecting { .. })));
            assert!(matches!(client.next(), Some(Event::Connected { .. })));
            client.stop();
            while client.next().is_some() {}
            assert_eq!(client.phase(), heartbeat_tokio::Phase::Stopped);
            let ended = client.connected(PATIENCE).expect_err("it was stopped");
            assert_eq!(ended.expect("no timeout").why, WaitEnd::Stopped);
        }
    });
}

#[test]
fn a_refusal_ends_the_wait_with_its_words() {
    let server = Server::start();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                let mut stream = server.accept();
                let _ = stream.read(&mut [0; 4096]);
                let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno feed";
                stream.write_all(answer.as_bytes()).expect("it reads");
            }
        });
        for client in Client::both(|| server.options(BRISK)) {
            let refused = client.connected(PATIENCE).expect_err("it was refused");
            let refused = refused.expect("no timeout");
            let WaitEnd::GaveUp(GiveUp::Cause(cause @ Cause::Http { status: 404, .. })) =
                refused.why
            else {
                panic!("{refused:?}");
            };
            assert_eq!(refused.last, Some(Reason::Cause(cause)));
            assert_eq!(
                refused.response.as_ref().expect("an answer").body(),
                b"no feed"
            );
            let words = refused.to_string();
            let start = format!("127.0.0.1:{}: gave up: http 404", server.port());
            assert!(words.starts_with(&start), "{words}");
        }
    });
}

#[test]
fn a_wait_goes_over_failed_dials_and_ends_when_its_time_has_passed() {
    let server = Server::start();
    thread::scope(|scope| {
        let (fail, failed) = channel::<()>();
        let server = &server;
        scope.spawn(move || {
            while failed.try_recv() == Err(TryRecvError::Empty) {
                hang_up(&server.accept());
            }
            let mut open: Vec<_> = (0..2).map(|_| server.upgrade()).collect();
            for ws in &mut open {
                read_to_the_end(ws.get_mut());
            }
        });
        let clients = Client::both(|| server.options(BRISK));
        for client in &clients {
            assert_eq!(client.connected(Duration::from_millis(200)), Err(None));
        }
        drop(fail);
        for client in &clients {
            assert_eq!(client.connected(PATIENCE), Ok(101));
        }
    });
}

/// Sends a text, and is ready once another text has come.
struct Login;

impl OnConnect for Login {
    fn connected(&mut self, opening: &mut Opening<'_>) -> Progress {
        opening.send("login");
        Progress::Pending
    }

    fn message(&mut self, _: &Message, _: &mut Opening<'_>) -> Progress {
        Progress::Ready
    }
}

#[test]
fn a_wait_for_a_session_outlives_connections_whose_login_fails_and_ends_when_messages_are_accepted()
{
    let server = Server::start();
    thread::scope(|scope| {
        let (go_on, may_go_on) = channel::<()>();
        let server = &server;
        scope.spawn(move || {
            for answers in [false, true] {
                let mut open: Vec<_> = (0..2).map(|_| server.upgrade()).collect();
                for ws in &mut open {
                    assert_eq!(ws.read().expect("it says so"), "login".into());
                }
                may_go_on.recv().expect("it is told");
                if !answers {
                    continue;
                }
                for ws in &mut open {
                    ws.send("welcome".into()).expect("it reads");
                }
                for ws in &mut open {
                    assert_eq!(ws.read().expect("at once"), "first".into());
                    read_to_the_end(ws.get_mut());
                }
            }
        });
        let options = || server.options(BRISK).on_connect(Login);
        let mut clients = Client::both(options);
        for client in &clients {
            assert_eq!(client.connected(PATIENCE), Ok(101));
            assert_eq!(client.ready(Duration::from_millis(100)), Err(None));
            if let Client::Blocking(client) = client {
                let late = client.ready(Duration::ZERO).expect_err("no login yet");
                assert!(late.open);
                let words = format!("127.0.0.1:{}: connected, but not ready", server.port());
                assert!(late.to_string().starts_with(&words), "{late}");
            }
        }
        go_on.send(()).expect("it waits");
        for client in &clients {
            assert_eq!(client.ready(Duration::from_millis(100)), Err(None));
        }
        go_on.send(()).expect("it waits");
        for client in &mut clients {
            assert_eq!(client.ready(PATIENCE), Ok(101));
            assert_eq!(client.try_send("first"), Ok(()));
            client.stop();
            while client.next().is_some() {}
            let ended = client.ready(PATIENCE).expect_err("it was stopped");
            assert_eq!(ended.expect("no timeout").why, WaitEnd::Stopped);
        }
    });
}

#[test]
fn without_a_session_whoever_is_connected_is_ready() {
    let server = Server::start();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut open: Vec<_> = (0..2).map(|_| server.upgrade()).collect();
            for ws in &mut open {
                read_to_the_end(ws.get_mut());
            }
        });
        for client in Client::both(|| server.options(BRISK)) {
            assert_eq!(client.ready(PATIENCE), Ok(101));
            assert_eq!(client.try_send("at once"), Ok(()));
            client.stop();
        }
    });
}

#[test]
fn code_that_the_client_runs_is_refused_the_wait() {
    let server = Server::start();
    let place = Arc::new(std::sync::OnceLock::<heartbeat_blocking::Client>::new());
    let (tell, told) = channel();
    let (within, port) = (Arc::clone(&place), server.port());
    let options = Options::from_factory(move |_| {
        let client = loop {
            if let Some(client) = within.get() {
                break client;
            }
            thread::yield_now();
        };
        let _ = tell.send(client.connected(PATIENCE).map_err(|error| error.why));
        Request::new(&format!("ws://127.0.0.1:{port}/"))
    });
    thread::scope(|scope| {
        scope.spawn(|| read_to_the_end(server.upgrade().get_mut()));
        let client = heartbeat_blocking::Client::spawn(options).expect("no TLS, no error");
        assert!(place.set(client).is_ok());
        let told = told.recv_timeout(PATIENCE).expect("it was told");
        assert_eq!(told.err(), Some(WaitEnd::Inside));
        let client = place.get().expect("a client");
        assert!(client.connected(PATIENCE).is_ok(), "it was not in the way");
        client.sender().stop();
    });
}

#[test]
fn the_last_of_the_attempts_is_told_with_its_error() {
    let gone = Server::start().port();
    let options = || {
        let config = r#"{"max_attempts": 2, "backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;
        let options = Options::new(&format!("ws://127.0.0.1:{gone}/")).expect("a URL");
        options.config(heartbeat_tokio::Config::from_json(config).expect("consistent"))
    };
    for mut client in Client::both(options) {
        let ended = client.connected(PATIENCE).expect_err("nobody is there");
        let words = ended.expect("no timeout").to_string();
        let (mut dials, mut last) = (0, None);
        while let Some(event) = client.next() {
            match event {
                Event::Connecting { .. } => dials += 1,
                Event::GaveUp { reason, detail } => last = Some((reason, detail)),
                _ => {}
            }
        }
        let (reason, detail) = last.expect("it gives up");
        assert_eq!(dials, 2);
        let refused = Reason::Cause(Cause::Refused);
        assert_eq!(reason, GiveUp::MaxAttempts(refused));
        let detail = detail.expect("the error's words");
        assert!(detail.contains("refused"), "{detail}");
        assert_eq!(
            words,
            format!("127.0.0.1:{gone}: gave up: {reason} ({detail})")
        );
    }
}
