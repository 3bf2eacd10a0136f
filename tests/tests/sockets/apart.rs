//! The driver of a client in various places: in a thread of its own, outside any runtime, in the
//! application's own code.

use std::fs;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use heartbeat_tokio::core::{Config, RotationTimes};
use heartbeat_tokio::{
    Event, InPlace, Message, OnConnect, Opening, Options, Progress, Request, Rotating,
    RotatingEvent, SendErrorKind, StartError,
};
use tokio::runtime::Builder;
use tungstenite::Message as Frame;

use crate::harness::{Case, How, PATIENCE, Sender, Server, read_to_the_end};

cases! {
    everywhere: [
        code_that_the_client_runs_is_refused_what_it_would_wait_for_for_ever,
    ]
}

/// Wakes a thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Awaits without a runtime, also inside one.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
}

/// Threads of this process with this name.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.trim() == name).count()
}

fn until_there_are(count: usize) {
    let end = Instant::now() + PATIENCE;
    while threads("heartbeat") != count {
        assert!(Instant::now() < end, "{} threads", threads("heartbeat"));
        thread::yield_now();
    }
}

fn alone(name: &'static str, body: impl FnOnce()) {
    let how = How::TokioTask;
    Case { how, name }.alone(body);
}

#[test]
fn heartbeats_go_on_while_tasks_block_every_worker() {
    const WORKERS: usize = 2;
    let server = Server::start();
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .expect("a runtime");
    let options = server.options("{}");
    thread::scope(|scope| {
        let pongs = scope.spawn(|| {
            let mut ws = server.upgrade();
            ws.send("begin".into()).expect("the client reads");
            let mut slowest = Duration::ZERO;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(2500) {
                let asked = Instant::now();
                ws.send(Frame::Ping(vec![1].into()))
                    .expect("the client reads");
                while !ws.read().expect("the client answers").is_pong() {}
                slowest = slowest.max(asked.elapsed());
                thread::sleep(Duration::from_millis(200));
            }
            ws.send("end".into()).expect("the client reads");
            read_to_the_end(ws.get_mut());
            slowest
        });
        runtime.block_on(async {
            let mut client = heartbeat_tokio::Client::spawn_thread(options).expect("a thread");
            let blocked = Arc::new(std::sync::Barrier::new(WORKERS + 1));
            let mut texts = Vec::new();
            while let Some(event) = client.next().await {
                if let Event::Message { message, .. } = event {
                    texts.push(message.as_text().unwrap_or("?").to_owned());
                    if texts.len() == 1 {
                        for _ in 0..WORKERS {
                            let blocked = Arc::clone(&blocked);
                            tokio::spawn(async move {
                                blocked.wait();
                                thread::sleep(Duration::from_secs(3));
                            });
                        }
                        // This thread is not a worker, and is kept just as busy.
                        blocked.wait();
                        thread::sleep(Duration::from_secs(3));
                    } else {
                        break;
                    }
                }
            }
            assert_eq!(texts, ["begin", "end"]);
            assert!(client.stop().await.is_empty());
        });
        let slowest = pongs.join().expect("no panic");
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    });
    runtime.shutdown_background();
}

#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "Linux tells how many threads there are"
)]
fn a_client_with_a_thread_of_its_own_needs_no_runtime_and_leaves_no_thread() {
    let name = "apart::a_client_with_a_thread_of_its_own_needs_no_runtime_and_leaves_no_thread";
    alone(&format!("sockets::{name}").leak()[..], || {
        for stops in [true, false] {
            let server = Server::start();
            let mut client =
                heartbeat_tokio::Client::spawn_thread(server.options("{}")).expect("a thread");
            let mut ws = thread::scope(|scope| {
                let upgrade = scope.spawn(|| server.upgrade());
                block_on(async {
                    while !matches!(client.next().await, Some(Event::Connected { .. })) {}
                });
                upgrade.join().expect("no panic")
            });
            assert_eq!(threads("heartbeat"), 1);
            block_on(client.sender().send("hello")).expect("room");
            assert_eq!(ws.read().expect("a message"), "hello".into());
            let begun = Instant::now();
            thread::scope(|scope| {
                scope.spawn(|| while ws.read().is_ok() {});
                if stops {
                    assert!(block_on(client.stop()).is_empty());
                } else {
                    drop(client);
                }
            });
            until_there_are(0);
            assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        }
        // The end of `main` does not wait for a client.
        let server = Server::start();
        let client = heartbeat_tokio::Client::spawn_thread(server.options("{}"));
        std::mem::forget(client.expect("a thread"));
    });
}

#[test]
fn a_client_that_is_dropped_closes_its_socket_while_its_runtime_lives() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    for apart in [false, true] {
        let server = Server::start();
        let options = server.options("{}");
        let _inside = runtime.enter();
        let spawn = if apart {
            heartbeat_tokio::Client::spawn_thread
        } else {
            heartbeat_tokio::Client::spawn
        };
        let client = spawn(options).expect("no TLS, no error");
        let mut ws = server.upgrade();
        drop(client);
        let begun = Instant::now();
        read_to_the_end(ws.get_mut());
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn outside_of_a_runtime_or_without_its_timer_a_client_is_refused_and_nothing_panics() {
    let options = || Options::new("ws://127.0.0.1:1/").expect("a URL");
    let times = RotationTimes::before(Duration::from_secs(24 * 3600)).expect("times");
    let refused = || {
        assert!(matches!(
            InPlace::new(options()),
            Err(StartError::NoRuntime)
        ));
        let spawned = heartbeat_tokio::Client::spawn(options());
        assert!(matches!(spawned, Err(StartError::NoRuntime)));
        let rotating = Rotating::spawn(times, move |_| heartbeat_tokio::Client::spawn(options()));
        assert!(matches!(rotating, Err(StartError::NoRuntime)));
    };
    refused();
    let no_timer = Builder::new_current_thread().build().expect("a runtime");
    let _inside = no_timer.enter();
    refused();
}

/// A client that was made within a runtime may be driven from anywhere.
#[test]
fn a_client_is_driven_in_the_runtime_in_which_it_was_made() {
    let server = Server::start();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let driver = {
        let _inside = runtime.enter();
        InPlace::new(server.options("{}")).expect("no TLS, no error")
    };
    // Also with no room at all for its events, which counts as room for one.
    let mut client = heartbeat_tokio::Client::drive(driver, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            for number in 0..10 {
                ws.send(number.to_string().into())
                    .expect("the client reads");
            }
            read_to_the_end(ws.get_mut());
        });
        let mut texts = 0;
        while texts < 10 {
            let event = block_on(client.next()).expect("no end");
            texts += usize::from(matches!(event, Event::Message { .. }));
        }
        drop(client);
    });
}

#[test]
fn a_blocking_client_with_no_room_for_events_has_room_for_one() {
    let server = Server::start();
    let driver = heartbeat_blocking::InPlace::new(server.options("{}")).expect("a poll");
    let mut client = heartbeat_blocking::Client::drive(driver, 0).expect("a thread");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            for number in 0..10 {
                ws.send(number.to_string().into())
                    .expect("the client reads");
            }
            read_to_the_end(ws.get_mut());
        });
        let messages = client
            .by_ref()
            .filter(|event| matches!(event, Event::Message { .. }));
        assert_eq!(messages.take(10).count(), 10);
        drop(client);
    });
}

/// Sends like an application that may wait, also in code that runs within a tokio runtime.
fn send(sender: &Sender, text: &str) -> Result<(), SendErrorKind> {
    let sent = match sender {
        Sender::Tokio(sender, _) => block_on(sender.send(text)),
        Sender::Blocking(sender) => sender.send(text),
    };
    sent.map_err(|error| {
        assert_eq!(error.message, text.into(), "handed back");
        error.reason
    })
}

/// Sends four messages where three fit.
fn send_too_much(sender: &OnceLock<Sender>, told: &Mutex<Vec<Result<(), SendErrorKind>>>) {
    let Some(sender) = sender.get() else { return };
    let mut told = told.lock().expect("no panic");
    if told.is_empty() {
        told.extend(["1", "2", "3", "4"].map(|text| send(sender, text)));
    }
}

fn code_that_the_client_runs_is_refused_what_it_would_wait_for_for_ever(case: Case) {
    for place in ["on_connect", "factory", "async factory", "observer"] {
        let server = Server::start();
        let url = format!("ws://127.0.0.1:{}/", server.port());
        let (sender, told) = (Arc::new(OnceLock::new()), Arc::new(Mutex::new(Vec::new())));
        let (theirs, tell) = (Arc::clone(&sender), Arc::clone(&told));
        // The first dial may begin before the sender is known.
        let wait = move || {
            let end = Instant::now() + Duration::from_secs(1);
            while theirs.get().is_none() && Instant::now() < end {
                thread::yield_now();
            }
            send_too_much(&theirs, &tell);
        };
        let options = match place {
            "on_connect" => {
                Options::new(&url)
                    .expect("a URL")
                    .on_connect(move |_: &mut Opening<'_>| {
                        wait();
                        Progress::Ready
                    })
            }
            "factory" => Options::from_factory(move |_| {
                wait();
                Request::new(&url)
            }),
            "async factory" => Options::from_async_factory(move |_| {
                wait();
                let request = Request::new(&url);
                async { request }
            }),
            _ => Options::new(&url)
                .expect("a URL")
                .observer(move |_, _, _, _| wait()),
        };
        let options = options
            .hold(3, 1000)
            .config(Config::from_json(r#"{"session_timeout": "10s"}"#).expect("a configuration"));
        let options = if place == "on_connect" {
            options
        } else {
            options.on_connect(AtOnce)
        };
        let mut client = case.start(options);
        assert!(sender.set(client.sender()).is_ok());
        thread::scope(|scope| {
            let received = scope.spawn(|| {
                let mut ws = server.upgrade();
                let mut texts = Vec::new();
                while texts.len() < 3 {
                    let message = ws.read().expect("a message");
                    texts.push(message.into_text().expect("text").to_string());
                }
                texts
            });
            client.until(|event| matches!(event, Event::Ready { .. }).then_some(()));
            client.drive_for(Duration::from_millis(20));
            assert_eq!(
                received.join().expect("no panic"),
                ["1", "2", "3"],
                "{place}"
            );
        });
        let told = told.lock().expect("no panic").clone();
        assert_eq!(
            told,
            [Ok(()), Ok(()), Ok(()), Err(SendErrorKind::Inside)],
            "{place}"
        );
    }
}

struct AtOnce;

impl OnConnect for AtOnce {
    fn connected(&mut self, _: &mut Opening<'_>) -> Progress {
        Progress::Ready
    }

    fn message(&mut self, _: &Message, _: &mut Opening<'_>) -> Progress {
        Progress::Ready
    }
}

/// A client of a server that only listens. Its own `on_connect` gets hold of the client.
fn within<C: Send + 'static>(
    spawn: impl FnOnce(Options) -> C,
    body: impl Fn(C) + Send + Sync + 'static,
) {
    let server = Server::start();
    let client = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&client);
    let (tell, told) = std::sync::mpsc::channel();
    let options = server.options("{}").on_connect(move |_: &mut Opening<'_>| {
        let client = loop {
            if let Some(client) = theirs.lock().expect("no panic").take() {
                break client;
            }
            thread::yield_now();
        };
        body(client);
        tell.send(()).expect("somebody waits");
        Progress::Ready
    });
    *client.lock().expect("no panic") = Some(spawn(options));
    let mut ws = server.upgrade();
    told.recv_timeout(PATIENCE)
        .expect("it does not wait for itself");
    read_to_the_end(ws.get_mut());
}

#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "Linux tells how many threads there are"
)]
fn a_client_that_stops_itself_in_its_own_code_does_not_wait_for_its_end() {
    let name = "apart::a_client_that_stops_itself_in_its_own_code_does_not_wait_for_its_end";
    alone(&format!("sockets::{name}").leak()[..], || {
        let blocking = |options| heartbeat_blocking::Client::spawn(options).expect("a thread");
        within(blocking, |client: heartbeat_blocking::Client| {
            client.stop();
        });
        within(blocking, |mut client: heartbeat_blocking::Client| {
            while let Ok(event) = client.recv_timeout(PATIENCE) {
                drop(event);
            }
            let refused = client.recv_timeout(PATIENCE).expect_err("none can come");
            assert_eq!(refused, heartbeat_blocking::RecvTimeoutError::Inside);
            drop(client);
        });
        let apart = |options| heartbeat_tokio::Client::spawn_thread(options).expect("a thread");
        within(apart, |client: heartbeat_tokio::Client| {
            block_on(client.stop());
        });
        until_there_are(0);
    });
}

#[test]
fn a_maker_of_clients_that_panics_ends_a_rotating_client_by_events() {
    let server = Server::start();
    let url = format!("ws://127.0.0.1:{}/", server.port());
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    thread::spawn(move || {
        loop {
            let mut ws = server.upgrade();
            thread::spawn(move || while ws.read().is_ok() {});
        }
    });
    runtime.block_on(async {
        let times = RotationTimes::before(Duration::from_secs(24 * 3600)).expect("times");
        let mut made = 0;
        let mut client = Rotating::spawn(times, move |_| {
            made += 1;
            assert!(made == 1, "a part of the test");
            heartbeat_tokio::Client::spawn(Options::new(&url)?)
        })
        .expect("the first one");
        let mut told = Vec::new();
        while let Some(event) = client.next().await {
            match event {
                RotatingEvent::Client {
                    generation,
                    event: Event::Connected { .. },
                } => client.rotate_within(generation, Duration::from_millis(10)),
                RotatingEvent::Client {
                    event: Event::Stopped { .. },
                    ..
                } => told.push("stopped".to_owned()),
                RotatingEvent::NotMade { error, .. } => told.push(error.to_string()),
                _ => {}
            }
        }
        assert_eq!(
            told,
            [
                "the maker of clients panicked: a part of the test",
                "stopped"
            ]
        );
    });
}
