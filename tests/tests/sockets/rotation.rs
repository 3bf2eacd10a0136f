//! Services that end every connection after a time: with a rotation no message is missed, without it some
//! are.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heartbeat_tokio::core::{Description, Generation, RotationTimes};
use heartbeat_tokio::{
    Client, Event, Message, OnConnect, Opening, Options, Progress, Rotating, RotatingEvent,
};
use tokio::runtime::{Builder, Runtime};
use tungstenite::{Message as Frame, WebSocket};

use crate::harness::{PATIENCE, Server};

const SUBSCRIBE: &str = "subscribe";
const SUBSCRIBED: &str = "subscribed";

/// How often each number comes.
const BEAT: Duration = Duration::from_millis(5);

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Ready when the server has confirmed the subscription.
struct Subscribe;

impl OnConnect for Subscribe {
    fn connected(&mut self, opening: &mut Opening<'_>) -> Progress {
        opening.send(SUBSCRIBE);
        Progress::Pending
    }

    fn message(&mut self, message: &Message, _: &mut Opening<'_>) -> Progress {
        if message.as_text() == Some(SUBSCRIBED) {
            Progress::Ready
        } else {
            Progress::Pending
        }
    }
}

/// A feed of numbers, the same for every subscriber. Each connection ends after `limit`.
struct Feed {
    port: u16,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    subscribers: Mutex<Vec<(Instant, WebSocket<TcpStream>)>>,
    heard: Mutex<Vec<String>>,
    /// The most subscribers at one time.
    most: AtomicU64,
    /// How many were ended for their age.
    expired: AtomicU64,
    stop: AtomicBool,
}

impl Feed {
    fn start(limit: Duration) -> Self {
        let server = Server::start();
        let port = server.port();
        let shared = Arc::new(Shared::default());
        let (accepting, ticking) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || {
                loop {
                    let socket = server.accept();
                    if accepting.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(ws) = tungstenite::accept(socket) {
                        accepting.subscribe(ws);
                    }
                }
            }),
            thread::spawn(move || {
                let mut number = 0;
                while !ticking.stop.load(Ordering::Relaxed) {
                    ticking.tick(number, limit);
                    number += 1;
                    thread::sleep(BEAT);
                }
            }),
        ];
        Self {
            port,
            shared,
            threads,
        }
    }

    fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/", self.port)
    }

    /// The messages it received, once all bytes on their way have arrived.
    fn stop(self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A test that waits for a client gets one.
        drop(TcpStream::connect(("127.0.0.1", self.port)).expect("it listens"));
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        let mut heard = self.shared.heard.lock().expect("no panic");
        std::mem::take(&mut heard)
    }
}

impl Shared {
    fn subscribe(&self, mut ws: WebSocket<TcpStream>) {
        if ws.read().is_ok_and(|frame| frame == Frame::text(SUBSCRIBE)) {
            ws.send(Frame::text(SUBSCRIBED)).expect("the client reads");
            ws.get_mut().set_nonblocking(true).expect("an option");
            let mut subscribers = self.subscribers.lock().expect("no panic");
            subscribers.push((Instant::now(), ws));
            self.most
                .fetch_max(subscribers.len() as u64, Ordering::Relaxed);
        }
    }

    /// Sends the next number to every client, and reads their messages.
    fn tick(&self, number: u64, limit: Duration) {
        let mut subscribers = self.subscribers.lock().expect("no panic");
        subscribers.retain_mut(|(since, ws)| {
            if since.elapsed() > limit {
                self.expired.fetch_add(1, Ordering::Relaxed);
                // Silently: the socket is dropped.
                return false;
            }
            loop {
                match ws.read() {
                    Ok(Frame::Text(text)) => {
                        self.heard.lock().expect("no panic").push(text.to_string());
                    }
                    Ok(_) => {}
                    Err(tungstenite::Error::Io(error))
                        if error.kind() == io::ErrorKind::WouldBlock =>
                    {
                        break;
                    }
                    Err(_) => return false,
                }
            }
            ws.send(Frame::text(number.to_string())).is_ok()
        });
    }
}

fn number(message: &Message) -> Option<u64> {
    message.as_text().and_then(|text| text.parse().ok())
}

/// Numbers between the first and the last that never came.
fn missing(numbers: &BTreeSet<u64>) -> u64 {
    let (first, last) = (numbers.first(), numbers.last());
    let span = first.zip(last).map_or(0, |(first, last)| last - first + 1);
    span - numbers.len() as u64
}

async fn next(client: &mut Rotating) -> RotatingEvent {
    tokio::time::timeout(PATIENCE, client.next())
        .await
        .expect("in time")
        .expect("it goes on")
}

#[test]
fn with_a_rotation_nothing_is_missed_and_nothing_that_is_sent_is_lost() {
    let feed = Feed::start(Duration::from_secs(5));
    let mut numbers = BTreeSet::new();
    let mut sent = Vec::new();
    let mut generations: BTreeSet<Generation> = BTreeSet::new();
    runtime().block_on(async {
        let times = RotationTimes::new(Duration::from_secs(1)).expect("times");
        let url = feed.url();
        let mut client = Rotating::spawn(times, move |_| {
            Client::spawn(Options::new(&url)?.on_connect(Subscribe))
        })
        .expect("no TLS, no error");
        let mut hand_overs = 0;
        while hand_overs < 3 {
            match next(&mut client).await {
                RotatingEvent::HandedOver { from, to, seamless } => {
                    assert!(seamless && from < to, "{from} to {to}");
                    assert_eq!(client.generation(), to);
                    hand_overs += 1;
                }
                RotatingEvent::Client {
                    generation,
                    event: Event::Message { message, .. },
                } => {
                    generations.insert(generation);
                    let Some(number) = number(&message) else {
                        continue;
                    };
                    numbers.insert(number);
                    let text = format!("{} {number}", sent.len());
                    client.sender().try_send(text.as_str()).expect("accepted");
                    sent.push(text);
                }
                RotatingEvent::Client {
                    event: Event::Gap { since, .. },
                    ..
                } => panic!("a gap since {since:?}"),
                RotatingEvent::Client { event, .. } => assert!(event.into_unsent().is_empty()),
                other => panic!("{other:?}"),
            }
        }
        assert!(client.stop().await.is_empty());
    });
    assert_eq!(missing(&numbers), 0, "{} came", numbers.len());
    assert!(generations.len() >= 3, "{generations:?}");
    let shared = Arc::clone(&feed.shared);
    let mut heard = feed.stop();
    assert_eq!(shared.expired.load(Ordering::Relaxed), 0, "we were first");
    assert_eq!(shared.most.load(Ordering::Relaxed), 2);
    // Each number comes once. The order of two connections is not guaranteed.
    let place = |text: &String| text.split(' ').next().and_then(|n| n.parse::<usize>().ok());
    heard.sort_by_key(place);
    assert_eq!(heard, sent);
}

#[test]
fn without_a_rotation_there_is_a_gap_and_numbers_are_missing() {
    let feed = Feed::start(Duration::from_secs(1));
    let mut numbers = BTreeSet::new();
    runtime().block_on(async {
        let options = Options::new(&feed.url()).expect("a URL");
        let mut client = Client::spawn(options.on_connect(Subscribe)).expect("no TLS, no error");
        let mut gap = false;
        loop {
            let event = tokio::time::timeout(PATIENCE, client.next()).await;
            match event.expect("in time").expect("it goes on") {
                Event::Gap { .. } => gap = true,
                Event::Message { message, .. } => {
                    let Some(number) = number(&message) else {
                        continue;
                    };
                    numbers.insert(number);
                    if gap {
                        break;
                    }
                }
                _ => {}
            }
        }
        client.stop().await;
    });
    // The first retry comes after 1 to 2 s.
    assert!(missing(&numbers) > 20, "{}", missing(&numbers));
    feed.stop();
}

/// The service announces an end, and the application does not call `rotate_within`.
#[test]
fn an_announced_end_has_a_successor_ready_before_the_connection_is_closed() {
    let server = Server::start();
    let url = format!("ws://127.0.0.1:{}/", server.port());
    thread::scope(|scope| {
        let peer = scope.spawn(|| {
            let mut first = server.upgrade();
            first.send(Frame::text("bye")).expect("it reads");
            let mut second = server.upgrade();
            // The old connection lives until the new one is open, and is closed then.
            let last = std::iter::from_fn(|| first.read().ok()).last();
            let told =
                matches!(last, Some(Frame::Close(Some(close))) if u16::from(close.code) == 1000);
            while second.read().is_ok() {}
            told
        });
        runtime().block_on(async {
            // Reported within 20 s; with this seed after 0.1 s.
            let service = r#"{"rules": [{"text": "bye", "ending": "40s"}]}"#;
            let service = Description::from_json(service).expect("a description");
            let times = RotationTimes::new(Duration::from_secs(100)).expect("times");
            let mut client = Rotating::spawn(times, move |_| {
                let options = Options::new(&url)?.seed(196);
                Client::spawn(options.of_service(service.clone()))
            })
            .expect("no TLS, no error");
            let one = client.generation();
            let mut story = Vec::new();
            loop {
                match next(&mut client).await {
                    RotatingEvent::Client { generation, event } => match event {
                        Event::Ending { .. } => story.push(format!("ending {generation}")),
                        Event::Connected { .. } => story.push(format!("connected {generation}")),
                        Event::Stopped { .. } => break,
                        Event::Disconnected { reason, .. } => panic!("{reason}"),
                        _ => {}
                    },
                    RotatingEvent::HandedOver { seamless, .. } => {
                        story.push(format!("seamless: {seamless}"))
                    }
                    other => panic!("{other:?}"),
                }
            }
            let two = client.generation();
            let expected = [
                format!("connected {one}"),
                format!("ending {one}"),
                format!("connected {two}"),
                "seamless: true".into(),
            ];
            assert_eq!(story, expected);
            client.stop().await;
        });
        assert!(peer.join().expect("no panic"), "closed by its successor");
    });
}

/// The successor's server is slow, and the current client's server dies meanwhile.
#[test]
fn a_successor_under_way_takes_over_from_a_connection_that_is_lost() {
    let server = Server::start();
    let url = format!("ws://127.0.0.1:{}/", server.port());
    let subscribed = |ws: &mut WebSocket<TcpStream>| {
        assert_eq!(ws.read().expect("a message"), Frame::text(SUBSCRIBE));
    };
    thread::scope(|scope| {
        let peer = scope.spawn(|| {
            let mut first = server.upgrade();
            subscribed(&mut first);
            first.send(Frame::text(SUBSCRIBED)).expect("it reads");
            let mut second = server.upgrade();
            subscribed(&mut second);
            drop(first);
            // `HandedOver` comes without any call of ours.
            assert_eq!(second.read().expect("a message"), Frame::text("seen"));
            second.send(Frame::text(SUBSCRIBED)).expect("it reads");
            while second.read().is_ok() {}
        });
        runtime().block_on(async {
            let times = RotationTimes::new(Duration::from_secs(100))
                .and_then(|times| times.ready_within(Duration::from_secs(60)))
                .expect("times");
            let mut client = Rotating::spawn(times, move |_| {
                Client::spawn(Options::new(&url)?.on_connect(Subscribe))
            })
            .expect("no TLS, no error");
            let mut story = Vec::new();
            let mut conn = None;
            loop {
                match next(&mut client).await {
                    RotatingEvent::Client { generation, event } => match event {
                        Event::Connected { conn: id, .. } => conn = Some(id),
                        Event::Ready { .. } if generation.get() == 1 => {
                            // An announcement: at once.
                            client.rotate_within(generation, Duration::ZERO);
                            story.push("ready 1");
                        }
                        Event::Ready { .. } => {
                            story.push("ready 2");
                            break;
                        }
                        Event::Disconnected { .. } => {
                            assert_eq!(generation.get(), 1);
                            story.push("lost 1");
                        }
                        _ => {}
                    },
                    RotatingEvent::HandedOver { to, seamless, .. } => {
                        assert!(!seamless);
                        story.push("handed over");
                        let (successor, conn) = (client.client(to).expect("it is there"), conn);
                        let sender = successor.sender();
                        sender
                            .send_opening(conn.expect("it is open"), "seen")
                            .expect("it is open");
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(story, ["ready 1", "lost 1", "handed over", "ready 2"]);
            client.stop().await;
        });
        peer.join().expect("no panic");
    });
}

/// A feed without a login has no `Ready` to wait for, so connected means ready.
#[test]
fn a_feed_without_a_session_rotates_too() {
    let server = Server::start();
    let url = format!("ws://127.0.0.1:{}/", server.port());
    let runtime = runtime();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut heard = Vec::new();
            for generation in 0..3 {
                let mut ws = server.upgrade();
                if generation > 0 {
                    heard.push(ws.read().expect("a message"));
                }
                // The successor is open before this one is closed.
                scope.spawn(move || while ws.read().is_ok() {});
            }
            heard
        });
        runtime.block_on(async {
            let times = RotationTimes::new(Duration::from_millis(500)).expect("times");
            let make = move |_| Client::spawn(Options::new(&url)?);
            let mut client = Rotating::spawn(times, make).expect("a client");
            let mut handed_over = 0;
            while handed_over < 2 {
                let event = tokio::time::timeout(PATIENCE, client.next());
                match event.await.expect("it rotates") {
                    Some(RotatingEvent::HandedOver { seamless, .. }) => {
                        assert!(seamless);
                        handed_over += 1;
                        client.sender().try_send("in use").expect("connected");
                    }
                    Some(_) => {}
                    None => panic!("the end"),
                }
            }
            // Accepted messages are written.
            assert!(client.stop().await.is_empty());
        });
        assert_eq!(
            serving.join().expect("no panic"),
            [Frame::text("in use"), Frame::text("in use")]
        );
    });
}
