//! `Messages` over a socket in memory, in virtual time.
#![allow(
    clippy::disallowed_methods,
    reason = "what is measured is how long it took"
)]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use futures_sink::Sink;
use heartbeat_tokio::core::{AbortReason, AnyDialect, Cause, FramesOnly, GiveUp, JsonType, Phase};
use heartbeat_tokio::messages::{Codec, Connecting, Event, Frame, Messages, Refused, Traffic};
use heartbeat_tokio::{Attempt, Config, Ping, Reason};
use tokio::time::{Instant, sleep, timeout};
use tungstenite::Message;

// ---- a socket in memory ------------------------------------------------------------------------

/// The test's handle on the socket, as the peer.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    incoming: VecDeque<Option<Result<Message, String>>>,
    /// Given to the library and not yet flushed.
    given: Vec<Message>,
    written: Vec<Message>,
    stuck: bool,
    traffic: Traffic,
    waker: Option<Waker>,
    dropped: bool,
}

impl Socket {
    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.0.lock().unwrap();
        let result = change(&mut state);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        result
    }

    fn says(&self, message: Message) {
        self.with(|state| state.incoming.push_back(Some(Ok(message))));
    }

    fn written(&self) -> Vec<Message> {
        self.with(|state| std::mem::take(&mut state.written))
    }
}

/// The driver's side of the socket.
struct Ours(Socket);

impl Drop for Ours {
    fn drop(&mut self) {
        self.0.with(|state| state.dropped = true);
    }
}

impl Stream for Ours {
    type Item = Result<Message, String>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.0.lock().unwrap();
        match state.incoming.pop_front() {
            Some(item) => Poll::Ready(item),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Sink<Message> for Ours {
    type Error = String;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), String> {
        self.0.0.lock().unwrap().given.push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        let mut state = self.0.0.lock().unwrap();
        if state.stuck {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let given = std::mem::take(&mut state.given);
        state.written.extend(given);
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.poll_flush(cx)
    }
}

/// The codec of a library that does not answer pings by itself.
#[derive(Debug)]
struct Bare;

impl Codec for Bare {
    type Message = Message;
    type Error = String;
    const ANSWERS_PINGS: bool = false;

    fn frame(message: &Message) -> Option<Frame<'_>> {
        Some(match message {
            Message::Text(text) => Frame::Text(text),
            Message::Binary(bytes) => Frame::Binary(bytes),
            Message::Ping(payload) => Frame::Ping(payload),
            Message::Pong(payload) => Frame::Pong(payload),
            Message::Close(frame) => Frame::Close(frame.as_ref().map(|frame| frame.code.into())),
            Message::Frame(_) => return None,
        })
    }

    fn message(frame: Frame<'_>) -> Message {
        match frame {
            Frame::Text(text) => Message::text(text),
            Frame::Binary(bytes) => Message::binary(bytes.to_vec()),
            Frame::Ping(payload) => Message::Ping(payload.to_vec().into()),
            Frame::Pong(payload) => Message::Pong(payload.to_vec().into()),
            Frame::Close(_) => Message::Close(None),
        }
    }
}

type Driver = Messages<Ours, Bare>;

fn accepted(config: Config) -> (Driver, Socket) {
    let socket = Socket::default();
    let driver = Messages::accepted(Ours(socket.clone()), config, Arc::new(JsonType));
    (driver, socket)
}

/// A configuration in which nothing falls due for 1000 s.
fn quiet() -> heartbeat_tokio::core::ConfigBuilder {
    Config::builder()
        .idle_timeout(secs(1000))
        .check_interval(None)
        .ping(Ping::Never)
        .pong_timeout(None)
        .write_timeout(None)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Runs the driver for this time, and returns its events.
async fn run(driver: &mut Driver, span: Duration) -> Vec<Event<Message>> {
    let mut events = Vec::new();
    let driven = async {
        while let Some(event) = driver.next().await {
            events.push(event);
        }
    };
    let _ = timeout(span, driven).await;
    events
}

fn numbers(messages: &[Message]) -> Vec<u64> {
    let payload = |message: &Message| match message {
        Message::Ping(payload) => u64::from_be_bytes(payload[..].try_into().unwrap()),
        other => panic!("{other:?}"),
    };
    messages.iter().map(payload).collect()
}

// ---- a server's side ---------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_asked_and_dropped_at_the_idle_timeout_and_nothing_follows() {
    let (mut driver, socket) = accepted(Config::default());
    let begin = Instant::now();
    let event = driver.next().await.unwrap();
    let took = begin.elapsed();
    assert!(
        (secs(90)..secs(90) + Duration::from_millis(5)).contains(&took),
        "{took:?}"
    );
    let Event::Disconnected {
        reason, idle, open, ..
    } = &event
    else {
        panic!("{event:?}");
    };
    assert_eq!(*reason, Reason::Aborted(AbortReason::IdleTimeout));
    assert!(*idle >= secs(90) && *open >= secs(90), "{event:?}");
    assert!(socket.with(|state| state.dropped), "at once");
    assert_eq!(numbers(&socket.written()), [0]);
    assert!(matches!(driver.next().await, Some(Event::Stopped { .. })));
    assert_eq!(driver.next().await, None);
    assert_eq!(driver.machine().phase(), Phase::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_was_flushed_after_the_last_message_is_in_doubt() {
    let (mut driver, socket) = accepted(Config::default());
    driver.send(Message::text("before")).unwrap();
    assert_eq!(run(&mut driver, secs(1)).await, []);
    socket.says(Message::text("heard"));
    assert_eq!(run(&mut driver, secs(1)).await.len(), 1);
    for text in ["one", "two"] {
        driver.send(Message::text(text)).unwrap();
    }
    let events = run(&mut driver, secs(100)).await;
    let Event::Disconnected {
        uncertain,
        in_doubt,
        ..
    } = &events[0]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*uncertain, *in_doubt), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_lives_for_hours() {
    let (mut driver, socket) = accepted(Config::default());
    for hour in 0..1200 {
        assert_eq!(run(&mut driver, Duration::from_millis(30_001)).await, []);
        let pings = socket.written();
        assert_eq!(numbers(&pings), [hour]);
        socket.says(Message::Pong(pings[0].clone().into_data()));
    }
    assert_eq!(driver.machine().stats().rtt.samples, 1199);
}

#[tokio::test(start_paused = true)]
async fn each_ping_is_answered_once_in_order_and_before_what_follows_it() {
    let (mut driver, socket) = accepted(quiet().build().unwrap());
    for number in 0..1000u32 {
        socket.says(Message::Ping(number.to_be_bytes().to_vec().into()));
        socket.says(Message::text(r#"{"type":"ping"}"#));
    }
    socket.says(Message::text("data"));
    let event = driver.next().await.unwrap();
    assert!(matches!(event, Event::Message { message, .. } if message == Message::text("data")));
    let written = socket.written();
    assert_eq!(written.len(), 2000);
    for (number, pair) in written.chunks(2).enumerate() {
        let frame = Message::Pong((number as u32).to_be_bytes().to_vec().into());
        assert_eq!(pair, [frame, Message::text(r#"{"type":"pong"}"#)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_asks_and_does_not_read_is_not_read_from_without_end() {
    let config = quiet().write_timeout(secs(60)).build().unwrap();
    let (mut driver, socket) = accepted(config);
    socket.with(|state| state.stuck = true);
    for _ in 0..10_000 {
        socket.says(Message::Ping(vec![0; 125].into()));
    }
    let begin = Instant::now();
    let events = run(&mut driver, secs(100)).await;
    let reason = Reason::Aborted(AbortReason::WriteTimeout);
    assert!(
        matches!(&events[..], [Event::Disconnected { reason: given, .. }, Event::Stopped { .. }] if *given == reason),
        "{events:?}"
    );
    assert!(begin.elapsed() >= secs(60));
    let left = socket.with(|state| state.incoming.len());
    assert!(left > 9_000, "{left} of 10000 left");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_given_comes_back_and_what_was_is_counted() {
    let (mut driver, socket) = accepted(quiet().write_timeout(secs(5)).build().unwrap());
    socket.with(|state| state.stuck = true);
    driver.send(Message::text("first")).unwrap();
    assert_eq!(run(&mut driver, secs(1)).await, []);
    driver.send(Message::text("second")).unwrap();
    driver.send(Message::text("third")).unwrap();
    let events = run(&mut driver, secs(10)).await;
    let Some(Event::Disconnected {
        unsent, uncertain, ..
    }) = events.first()
    else {
        panic!("{events:?}");
    };
    assert_eq!(*unsent, [Message::text("second"), Message::text("third")]);
    assert_eq!(*uncertain, 1);
    assert!(
        !format!("{events:?}").contains("second"),
        "no message in Debug"
    );
    assert_eq!(
        driver.send(Message::text("late")),
        Err(Message::text("late"))
    );
}

/// After a suspend, the deadline of a stuck write has long passed, but the socket has room again.
#[tokio::test(start_paused = true)]
async fn a_stuck_write_is_tried_again_before_a_late_step_judges_it() {
    for ping in [false, true] {
        let (mut driver, socket) = accepted(quiet().write_timeout(secs(5)).build().unwrap());
        socket.with(|state| state.stuck = true);
        driver.send(Message::text("first")).unwrap();
        assert_eq!(run(&mut driver, secs(1)).await, []);
        // Changes the state without waking the driver, as during a suspend.
        {
            let mut state = socket.0.lock().unwrap();
            state.stuck = false;
            if ping {
                let message = Message::Ping(vec![7].into());
                state.incoming.push_back(Some(Ok(message)));
            }
        }
        tokio::time::advance(secs(20)).await;
        assert_eq!(run(&mut driver, secs(1)).await, [], "ping: {ping}");
        assert_eq!(socket.written()[0], Message::text("first"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_what_is_taken_is_written_in_order() {
    let (driver, socket) = accepted(quiet().build().unwrap());
    let mut driver = driver.queue(2);
    assert!(driver.send(Message::text("1")).is_ok() && driver.send(Message::text("2")).is_ok());
    assert!(!driver.has_room());
    assert_eq!(driver.send(Message::text("3")), Err(Message::text("3")));
    assert_eq!(run(&mut driver, secs(1)).await, []);
    assert!(driver.has_room());
    assert_eq!(socket.written(), [Message::text("1"), Message::text("2")]);
}

#[tokio::test(start_paused = true)]
async fn stop_writes_what_was_taken_then_closes_and_waits_for_the_peer() {
    let (mut driver, socket) = accepted(quiet().build().unwrap());
    for number in 0..200 {
        driver.send(Message::text(number.to_string())).unwrap();
    }
    driver.stop();
    assert_eq!(
        driver.send(Message::text("late")),
        Err(Message::text("late"))
    );
    assert_eq!(run(&mut driver, secs(1)).await, []);
    let written = socket.written();
    assert_eq!(written.len(), 201);
    assert_eq!(written[199..], [Message::text("199"), Message::Close(None)]);
    socket.says(Message::Close(None));
    let events = run(&mut driver, secs(1)).await;
    assert!(
        matches!(&events[..], [Event::Stopped { unsent, uncertain: 0, .. }] if unsent.is_empty())
    );
    assert!(socket.with(|state| state.dropped));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_the_close_is_dropped_at_the_close_timeout() {
    let (mut driver, socket) = accepted(quiet().build().unwrap());
    driver.stop();
    let begin = Instant::now();
    let event = driver.next().await;
    assert!(matches!(event, Some(Event::Stopped { .. })), "{event:?}");
    assert!(begin.elapsed() >= Config::default().close_timeout());
    assert!(socket.with(|state| state.dropped));
}

#[tokio::test(start_paused = true)]
async fn each_end_is_told_with_its_cause() {
    let close = |code: u16| {
        Message::Close(Some(tungstenite::protocol::CloseFrame {
            code: code.into(),
            reason: "".into(),
        }))
    };
    for (item, cause) in [
        (None, Cause::Eof),
        (Some(Err("broken".to_owned())), Cause::Io),
        (Some(Ok(close(1001))), Cause::Close(1001)),
        (Some(Ok(Message::Close(None))), Cause::Close(1005)),
    ] {
        let (mut driver, socket) = accepted(Config::default());
        socket.with(|state| state.incoming.push_back(item));
        let events = run(&mut driver, secs(1)).await;
        assert!(
            matches!(&events[..], [Event::Disconnected { reason, .. }, Event::Stopped { .. }] if *reason == Reason::Cause(cause)),
            "{events:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_messages_does_not_keep_the_timers_from_their_turn() {
    let config = quiet().ping(Ping::Every(secs(10))).build().unwrap();
    let (mut driver, socket) = accepted(config);
    for _ in 0..1000 {
        socket.says(Message::text("trade"));
    }
    for number in 0..1000 {
        if number == 500 {
            sleep(secs(10)).await;
        }
        assert!(matches!(driver.next().await, Some(Event::Message { .. })));
    }
    assert_eq!(
        numbers(&socket.written()),
        [0],
        "while there was more to read"
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_message_under_way_are_life_where_they_are_told() {
    for told in [false, true] {
        let (driver, socket) = accepted(Config::default());
        let mut driver = if told {
            driver.traffic(|ours| ours.0.0.lock().unwrap().traffic)
        } else {
            driver
        };
        let trickle = async {
            for _ in 0..20 {
                sleep(secs(10)).await;
                socket.with(|state| state.traffic.read += 1);
            }
            socket.says(Message::text("large"));
            std::future::pending::<()>().await;
        };
        let event = tokio::select! {
            event = driver.next() => event,
            () = trickle => None,
        };
        match event {
            Some(Event::Message { .. }) if told => {}
            Some(Event::Disconnected { .. }) if !told => {}
            other => panic!("told: {told}, {other:?}"),
        }
    }
}

// ---- a client ----------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_connection_is_renewed_before_its_lifetime_ends() {
    let sockets: Arc<Mutex<Vec<Socket>>> = Arc::default();
    let made = Arc::clone(&sockets);
    let connect = move |_: Attempt| -> Connecting<Ours> {
        let made = Arc::clone(&made);
        Box::pin(async move {
            let socket = Socket::default();
            made.lock().unwrap().push(socket.clone());
            Ok(Ours(socket))
        })
    };
    let config = quiet().lifetime(secs(100)).close_timeout(secs(5));
    let config = config.build().unwrap();
    let mut driver: Driver = Messages::connecting(connect, config, Arc::new(FramesOnly));
    let begin = Instant::now();
    let mut story = Vec::new();
    while begin.elapsed() < secs(120) {
        let Ok(event) = timeout(secs(100), driver.next()).await else {
            break;
        };
        match event.expect("the client goes on") {
            Event::Connected { conn } => story.push(format!("connected {conn}")),
            Event::Ending { why, within, .. } => {
                let at = begin.elapsed().as_secs();
                assert!((80..=90).contains(&at), "{at}");
                assert!(within <= secs(5) && within > secs(4), "{within:?}");
                story.push(format!("ending: {why}"));
                driver.send(Message::text("last")).unwrap();
            }
            Event::Disconnected {
                reason,
                unsent,
                uncertain,
                ..
            } => {
                assert!(unsent.is_empty() && uncertain == 0);
                story.push(reason.to_string());
            }
            Event::Reconnect { attempt, delay } => story.push(format!("{attempt} in {delay:?}")),
            other => panic!("{other:?}"),
        }
        if story.len() == 5 {
            break;
        }
    }
    let expected = [
        "connected 1",
        "ending: lifetime",
        "renewal (lifetime)",
        "0 in 25ms",
        "connected 2",
    ];
    assert_eq!(story, expected);
    let written = sockets.lock().unwrap()[0].written();
    assert_eq!(written[0], Message::text("last"));
    assert!(written[1].is_close());
}

#[tokio::test(start_paused = true)]
async fn a_client_dials_again_after_a_loss_and_a_refusal_and_knows_why() {
    let sockets: Arc<Mutex<Vec<Socket>>> = Arc::default();
    let attempts: Arc<Mutex<Vec<Attempt>>> = Arc::default();
    let (made, told) = (Arc::clone(&sockets), Arc::clone(&attempts));
    let connect = move |attempt: Attempt| -> Connecting<Ours> {
        told.lock().unwrap().push(attempt.clone());
        let made = Arc::clone(&made);
        Box::pin(async move {
            match attempt.conn.get() {
                2 => Err(Refused {
                    cause: Cause::Refused,
                    detail: Some("nobody there".into()),
                }),
                3 => std::future::pending().await,
                _ => {
                    let socket = Socket::default();
                    made.lock().unwrap().push(socket.clone());
                    Ok(Ours(socket))
                }
            }
        })
    };
    let config = Config::builder()
        .backoff(secs(2), secs(60), 0)
        .build()
        .unwrap();
    let mut driver: Driver = Messages::connecting(connect, config, Arc::new(FramesOnly));
    assert_eq!(
        driver.send(Message::text("early")),
        Err(Message::text("early"))
    );
    let begin = Instant::now();

    assert!(matches!(driver.next().await, Some(Event::Connected { conn }) if conn.get() == 1));
    let socket = sockets.lock().unwrap()[0].clone();
    socket.with(|state| state.incoming.push_back(None));
    let mut story = Vec::new();
    loop {
        match driver.next().await.expect("the client goes on") {
            Event::Disconnected { reason, .. } => story.push(reason.to_string()),
            Event::Reconnect { delay, .. } => story.push(format!("in {delay:?}")),
            Event::Connected { conn } => break assert_eq!(conn.get(), 4),
            other => panic!("{other:?}"),
        }
    }
    let expected = [
        "eof",
        "in 2s",
        "refused",
        "in 4s",
        "connect_timeout",
        "in 8s",
    ];
    assert_eq!(story, expected);
    let took = begin.elapsed();
    assert!(took >= secs(2 + 4 + 10 + 8) && took < secs(25), "{took:?}");
    let last: Vec<_> = attempts
        .lock()
        .unwrap()
        .iter()
        .map(|attempt| attempt.last)
        .collect();
    assert_eq!(
        last,
        [
            None,
            Some(Reason::Cause(Cause::Eof)),
            Some(Reason::Cause(Cause::Refused)),
            Some(Reason::Aborted(AbortReason::ConnectTimeout))
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_gives_up_on_what_no_retry_can_mend() {
    let cause = Cause::Http {
        status: 403,
        retry_after: None,
    };
    let connect = move |_: Attempt| -> Connecting<Ours> {
        Box::pin(async move {
            Err(Refused {
                cause,
                detail: None,
            })
        })
    };
    let mut driver: Driver = Messages::connecting(connect, Config::default(), Arc::new(FramesOnly));
    let events = run(&mut driver, secs(1)).await;
    let [
        Event::Disconnected { .. },
        Event::GaveUp { reason, .. },
        Event::Stopped { .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(*reason, GiveUp::Cause(cause));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_came_with_the_upgrade_is_told_after_the_connection() {
    let connect = |_: Attempt| -> Connecting<Ours> {
        Box::pin(async {
            let socket = Socket::default();
            socket.says(Message::text("hello"));
            Ok(Ours(socket))
        })
    };
    let mut driver: Driver = Messages::connecting(connect, Config::default(), Arc::new(FramesOnly));
    let events = run(&mut driver, secs(1)).await;
    let [Event::Connected { .. }, Event::Message { .. }] = &events[..] else {
        panic!("{events:?}");
    };
}

// ---- common with `Client` ------------------------------------------------------------------------

/// A driver whose dialect joins records by line ends. The record `{}` is a ping.
fn joined() -> (Driver, Socket) {
    let socket = Socket::default();
    let dialect = AnyDialect::named("centrifugo").expect("in the catalogue");
    let driver = Messages::accepted(
        Ours(socket.clone()),
        quiet().build().unwrap(),
        Arc::new(dialect),
    );
    (driver, socket)
}

fn texts(events: Vec<Event<Message>>) -> Vec<String> {
    let text = |event: Event<Message>| match event {
        Event::Message { message, .. } => message.to_string(),
        other => panic!("{other:?}"),
    };
    events.into_iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn of_70_joined_records_each_is_read_and_the_bound_counts_heartbeats() {
    for (pings_before, data_before, answered) in [(0, 64, 6), (0, 70, 1), (69, 0, 64), (64, 1, 64)]
    {
        let (mut driver, socket) = joined();
        let text = [
            "{}\n".repeat(pings_before),
            "{\"push\":{}}\n".repeat(data_before),
            "{}\n".repeat(6_usize.min(71 - pings_before - data_before)),
            "{\"push\":1}".into(),
        ]
        .concat();
        socket.says(Message::text(text.as_str()));
        assert_eq!(
            texts(run(&mut driver, secs(1)).await),
            [text],
            "delivered once"
        );
        assert_eq!(socket.written(), vec![Message::text("{}"); answered]);
    }
}

#[tokio::test(start_paused = true)]
async fn records_without_data_are_not_delivered_and_a_connection_that_ends_meanwhile_ends_them() {
    let (mut driver, socket) = joined();
    socket.says(Message::text("{}\n{}\n"));
    assert_eq!(run(&mut driver, secs(1)).await, []);
    assert_eq!(socket.written(), [Message::text("{}"), Message::text("{}")]);
}

/// An empty ping is still a frame of six bytes, and so is its answer.
#[tokio::test(start_paused = true)]
async fn empty_pings_of_a_peer_that_does_not_read_are_bounded() {
    let (mut driver, socket) = accepted(quiet().build().unwrap());
    socket.with(|state| state.stuck = true);
    for _ in 0..50_000 {
        socket.says(Message::Ping(Vec::new().into()));
    }
    assert_eq!(run(&mut driver, secs(1)).await, []);
    let unread = socket.with(|state| state.incoming.len());
    let answered = 50_000 - unread;
    // Answers of six bytes each (RFC 6455 §5.2) up to 64 KiB, and those read before the next look at the clock.
    assert!(
        (10_922..11_000).contains(&answered),
        "{answered} were taken"
    );
    socket.with(|state| state.stuck = false);
    assert_eq!(run(&mut driver, secs(1)).await, []);
    assert_eq!(
        socket.written().len(),
        50_000,
        "each is answered once it reads"
    );
}

/// Another task gets a turn after each large message, and during a message of many records.
#[tokio::test(start_paused = true)]
async fn others_have_their_turn_between_large_messages_and_between_records() {
    for (text, count) in [("x".repeat(1 << 20), 30), ("\n".repeat(1 << 20), 2)] {
        let (mut driver, socket) = joined();
        for _ in 0..count {
            socket.says(Message::text(text.as_str()));
        }
        let turns = Arc::new(AtomicU32::new(0));
        let others = {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        };
        for _ in 0..count {
            let Some(Event::Message { message, .. }) = driver.next().await else {
                panic!("no message");
            };
            assert_eq!(message.len(), 1 << 20);
        }
        let turns = turns.load(Ordering::Relaxed);
        // A turn is due after 256 KiB of work: in each message of 1 MiB, and in 2^20 records of 33 bytes of work each.
        let least = if count == 2 { 2 * 128 } else { count - 1 };
        assert!(turns >= least, "{turns} turns, {least} are due");
        others.abort();
    }
}

/// A dialect that panics at each text, or at the greeting if the field is true.
struct Mistaken(bool);

impl heartbeat_tokio::core::Dialect for Mistaken {
    fn classify_text<'a>(&self, _: &'a str) -> heartbeat_tokio::core::Class<'a> {
        panic!("a panic on purpose")
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> heartbeat_tokio::core::Class<'a> {
        heartbeat_tokio::core::Class::Data
    }

    fn greeting(&self, _: usize) -> Option<heartbeat_tokio::core::TemplateRef<'static>> {
        assert!(!self.0, "a panic on purpose");
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_applications_ends_it_by_events() {
    let told = async |mut client: Driver| {
        // Refused if no connection is open yet.
        let _ = client.send(Message::text("waits"));
        let mut told = Vec::new();
        while let Some(event) = client.next().await {
            match event {
                Event::Disconnected { reason, detail, .. } => {
                    told.push(format!("{reason}: {}", detail.unwrap_or_default()));
                }
                Event::GaveUp { reason, .. } => told.push(format!("gave up: {reason}")),
                Event::Stopped { .. } => told.push("stopped".into()),
                _ => {}
            }
        }
        assert_eq!(client.machine().phase(), Phase::Stopped);
        told
    };
    let end = |code: &str| format!("session refused: {code} panicked: a panic on purpose");
    let (by_socket, by_connect) = (end("the socket or its dialect"), end("connect"));

    for at_once in [false, true] {
        let socket = Socket::default();
        socket.says(Message::text("data"));
        let dialect = Arc::new(Mistaken(at_once));
        let client = Driver::accepted(Ours(socket), Config::default(), dialect);
        assert_eq!(told(client).await, [by_socket.as_str(), "stopped"]);
    }
    let connect = |_: Attempt| -> Connecting<Ours> { panic!("a panic on purpose") };
    let later =
        |_: Attempt| -> Connecting<Ours> { Box::pin(async { panic!("a panic on purpose") }) };
    let expected = [by_connect.as_str(), "gave up: session refused", "stopped"];
    let dialect = || Arc::new(FramesOnly);
    let client = Driver::connecting(connect, Config::default(), dialect());
    assert_eq!(told(client).await, expected);
    let client = Driver::connecting(later, Config::default(), dialect());
    assert_eq!(told(client).await, expected);
}

#[test]
fn outside_of_a_runtime_the_panic_names_the_call() {
    let panicked = std::panic::catch_unwind(|| accepted(Config::default())).err();
    let words = panicked.expect("there is no runtime");
    let words = words.downcast_ref::<String>().expect("a text");
    assert_eq!(
        words,
        "Messages::accepted must be called within a tokio runtime"
    );
}
