//! Dialects on real sockets, through both adapters: pings and answers in the service's own messages,
//! messages on open, tracked values, and the owner of a response.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use heartbeat_driver::core::{AnyDialect, CatalogueEntry, Config, Description, Instant};
use heartbeat_driver::{Engine, Event, Message, Options, Turn};
use tungstenite::{Message as Frame, WebSocket};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server that plays its part and records what it receives. It ends when the part ends.
fn serve(
    part: impl FnOnce(&mut WebSocket<TcpStream>) -> Vec<String> + Send + 'static,
) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut ws = tungstenite::accept(stream).expect("a handshake");
        let heard = part(&mut ws);
        let _ = ws.close(None);
        while ws.read().is_ok() {}
        heard
    });
    (url, server)
}

fn say(ws: &mut WebSocket<TcpStream>, text: &str) {
    ws.send(Frame::text(text)).expect("sent");
}

fn hear(ws: &mut WebSocket<TcpStream>) -> String {
    match ws.read().expect("a message") {
        Frame::Text(text) => text.as_str().into(),
        other => format!("{other:?}"),
    }
}

/// The texts that reach the application, through either adapter, until the connection is lost.
fn messages(adapter: &str, options: Options) -> Vec<String> {
    let (events, received) = mpsc::channel();
    let adapter = adapter.to_owned();
    thread::spawn(move || match adapter.as_str() {
        "blocking" => {
            let mut client = heartbeat_blocking::Client::spawn(options).expect("a client");
            while let Some(event) = client.recv() {
                if events.send(event).is_err() {
                    return;
                }
            }
        }
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let mut client = heartbeat_tokio::Client::spawn(options).expect("a client");
                while let Some(event) = std::future::poll_fn(|cx| client.poll_event(cx)).await {
                    if events.send(event).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let mut texts = Vec::new();
    loop {
        match received.recv_timeout(PATIENCE).expect("an event") {
            Event::Message {
                message: Message::Text(text),
                ..
            } => texts.push(text.as_str().to_owned()),
            Event::Disconnected { .. } => return texts,
            _ => {}
        }
    }
}

fn options(url: &str, dialect: AnyDialect) -> Options {
    let config = dialect.configure(&Config::default()).unwrap();
    Options::new(url)
        .expect("a URL")
        .config(config)
        .dialect(dialect)
}

fn named(name: &str) -> AnyDialect {
    AnyDialect::named(name).expect("in the catalogue")
}

#[test]
fn a_discord_session_beats_with_the_last_number_it_saw() {
    for adapter in ["tokio", "blocking"] {
        let (url, server) = serve(|ws| {
            // 1.2 s: the limits of a hello allow no shorter time.
            say(ws, r#"{"op":10,"d":{"heartbeat_interval":1200}}"#);
            say(ws, r#"{"t":"READY","s":41,"op":0,"d":{}}"#);
            let asked = hear(ws);
            say(ws, r#"{"op":11}"#);
            say(ws, r#"{"op":1,"d":null}"#);
            vec![asked, hear(ws)]
        });
        let texts = messages(adapter, options(&url, named("discord")));
        assert_eq!(
            server.join().expect("a server"),
            [r#"{"op":1,"d":41}"#; 2],
            "{adapter}"
        );
        assert_eq!(
            texts.len(),
            2,
            "{adapter}: the hello and the event are the application's: {texts:?}"
        );
    }
}

#[test]
fn a_deribit_session_is_opened_and_answered_with_ids_of_one_row() {
    for adapter in ["tokio", "blocking"] {
        let (url, server) = serve(|ws| {
            let opened = hear(ws);
            say(
                ws,
                r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#,
            );
            let answered = hear(ws);
            say(
                ws,
                r#"{"jsonrpc":"2.0","id":2,"result":{"version":"1.2.26"}}"#,
            );
            vec![opened, answered]
        });
        let texts = messages(adapter, options(&url, named("deribit")));
        assert_eq!(
            server.join().expect("a server"),
            [
                r#"{"jsonrpc":"2.0","id":1,"method":"public/set_heartbeat","params":{"interval":30}}"#,
                r#"{"jsonrpc":"2.0","id":2,"method":"public/test","params":{}}"#,
            ],
            "{adapter}"
        );
        assert_eq!(texts, [""; 0], "{adapter}");
    }
}

#[test]
fn a_response_reaches_the_application_unless_it_answers_our_question() {
    let description = r#"{
        "rules": [{"json": {"/result": {"exists": true}}, "pong": {"id": "/id"}}],
        "ping": {"text": "{\"id\":${id}}", "every": "50ms", "first": "at_once"}
    }"#;
    for adapter in ["tokio", "blocking"] {
        let dialect = Description::from_json(description).expect("valid");
        let (url, server) = serve(|ws| {
            let asked = hear(ws);
            say(ws, r#"{"id":1,"result":null}"#);
            say(ws, r#"{"id":"mine","result":null}"#);
            vec![asked]
        });
        let texts = messages(
            adapter,
            options(&url, AnyDialect::Described(Box::new(dialect))),
        );
        assert_eq!(
            server.join().expect("a server"),
            [r#"{"id":1}"#],
            "{adapter}"
        );
        assert_eq!(texts, [r#"{"id":"mine","result":null}"#], "{adapter}");
    }
}

#[test]
fn data_beside_a_ping_is_delivered_and_the_ping_answered() {
    for adapter in ["tokio", "blocking"] {
        let (url, server) = serve(|ws| {
            say(ws, "{}\n{\"push\":{}}");
            vec![hear(ws)]
        });
        let texts = messages(adapter, options(&url, named("centrifugo")));
        assert_eq!(server.join().expect("a server"), ["{}"], "{adapter}");
        assert_eq!(texts, ["{}\n{\"push\":{}}"], "{adapter}");
    }
}

#[test]
fn each_ping_of_a_joined_message_is_answered_and_the_data_delivered_once() {
    for adapter in ["tokio", "blocking"] {
        let (url, server) = serve(|ws| {
            say(ws, "{}\n{}\n");
            say(ws, "{}\n{\"push\":{}}\n{}");
            (0..4).map(|_| hear(ws)).collect()
        });
        let texts = messages(adapter, options(&url, named("centrifugo")));
        assert_eq!(server.join().expect("a server"), ["{}"; 4], "{adapter}");
        assert_eq!(texts, ["{}\n{\"push\":{}}\n{}"], "{adapter}");
    }
}

#[test]
fn application_and_dialect_share_one_row_of_ids() {
    // Home Assistant refuses an id that was used, or that is lower than a used one.
    let description = r#"{
        "rules": [{"json": {"/type": "pong"}, "pong": true}],
        "ping": {"text": "{\"id\":${id},\"type\":\"ping\"}", "every": "20ms", "first": "at_once"}
    }"#;
    let part = |ws: &mut WebSocket<TcpStream>| {
        let (mut all, mut own) = (Vec::new(), 0);
        while own < 20 {
            let message: serde_json::Value = serde_json::from_str(&hear(ws)).expect("JSON");
            own += u32::from(message["type"] == "app");
            all.push(message["id"].to_string());
        }
        all
    };
    let check = |mut ids: Vec<String>, adapter: &str| {
        assert!(ids.len() > 20, "{adapter}: no ping in between");
        ids.sort_by_key(|id| id.parse::<u64>().expect("a number"));
        let expected: Vec<String> = (7..).take(ids.len()).map(|id| id.to_string()).collect();
        assert_eq!(ids, expected, "{adapter}: each once, from the first on");
    };
    let message = |id: u64| format!("{{\"id\":{id},\"type\":\"app\"}}");
    let dialect = || {
        let described = Description::from_json(description).expect("valid");
        AnyDialect::Described(Box::new(described))
    };

    let (url, server) = serve(part);
    let options_of = |url: &str| options(url, dialect()).first_id(7);
    let mut client = heartbeat_blocking::Client::spawn(options_of(&url)).expect("a client");
    while !matches!(client.recv().expect("an event"), Event::Connected { .. }) {}
    for _ in 0..20 {
        let sender = client.sender().clone();
        let sent = thread::spawn(move || sender.send(message(sender.take_id())));
        sent.join().expect("a thread").expect("sent");
        thread::sleep(Duration::from_millis(5));
    }
    check(server.join().expect("a server"), "blocking");

    let (url, server) = serve(part);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut client = heartbeat_tokio::Client::spawn(options_of(&url)).expect("a client");
        while !matches!(
            client.next().await.expect("an event"),
            Event::Connected { .. }
        ) {}
        for _ in 0..20 {
            let sender = client.sender().clone();
            let sent = tokio::spawn(async move { sender.send(message(sender.take_id())).await });
            sent.await.expect("a task").expect("sent");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    check(server.join().expect("a server"), "tokio");
}

/// Times, greeting, close codes and messages come with the service's name.
#[test]
fn a_service_in_one_step_asks_and_answers_in_its_words_and_at_its_times() {
    let own = r#"{
        "rules": [{"text": "pong", "pong": true}], "ping": {"text": "ping", "every": "70ms"},
        "close_codes": {"4001": "never"}
    }"#;
    for adapter in ["tokio", "blocking"] {
        let (url, server) = serve(|ws| {
            let asked = (0..3).map(|_| hear(ws)).collect();
            say(ws, "pong");
            ws.close(Some(tungstenite::protocol::CloseFrame {
                code: 4001.into(),
                reason: "".into(),
            }))
            .expect("closed");
            asked
        });
        let own = Description::from_json(own).expect("valid");
        let options = Options::new(&url).expect("a URL").of_service(own);
        let texts = messages(adapter, options);
        assert_eq!(server.join().expect("a server"), ["ping"; 3], "{adapter}");
        assert_eq!(texts, [""; 0], "{adapter}: the pong is no message");
    }
    for adapter in ["tokio", "blocking"] {
        let (url, server) = serve(|ws| vec![hear(ws)]);
        let options = Options::service("deribit", &url).expect("in the catalogue");
        let texts = messages(adapter, options);
        let told = server.join().expect("a server");
        assert!(told[0].contains("set_heartbeat"), "{adapter}: {told:?}");
        assert_eq!(texts, [""; 0], "{adapter}");
    }
}

#[test]
fn a_computed_value_is_made_anew_for_each_message_and_with_that_messages_time() {
    let own = r#"{"rules": [{"text": "pong", "pong": true}], "variables": ["key"], "computed": ["sig"], "close_codes": {"4001": "never"},
        "ping": {"text": "${now_ms} ${key} ${sig}", "every": "70ms"}}"#;
    let own = Description::from_json(own).expect("valid");
    let bare = Options::new("ws://127.0.0.1:9/").expect("a URL");
    let refusal = engine(bare.of_service(own.clone())).map(|_| ());
    assert_eq!(
        refusal.expect_err("nobody computes it").to_string(),
        "the service wants a value `sig` that is computed for each message: give it by `Options::computed`"
    );
    for adapter in ["tokio", "blocking"] {
        let (url, server) = serve(|ws| {
            let asked = (0..3).map(|_| hear(ws)).collect();
            ws.close(Some(tungstenite::protocol::CloseFrame {
                code: 4001.into(),
                reason: "".into(),
            }))
            .expect("closed");
            asked
        });
        let count = std::sync::atomic::AtomicU32::new(0);
        let options = Options::new(&url)
            .expect("a URL")
            .of_service(own.clone())
            .computed("key", |_| "k".into())
            .computed("sig", |_| "replaced".into())
            .computed("sig", move |values| {
                let count = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                format!("{count}:{}", values.unix_ms)
            });
        messages(adapter, options);
        let asked: Vec<String> = server.join().expect("a server");
        for (number, text) in asked.iter().enumerate() {
            let (time, rest) = text.split_once(' ').expect("three words");
            assert_eq!(rest, format!("k {number}:{time}"), "{adapter}");
        }
    }
}

#[test]
fn a_contradiction_with_a_service_is_told_before_anything_is_dialled() {
    let url = "ws://127.0.0.1:9/";
    let kucoin = || Options::service("kucoin", url).expect("in the catalogue");
    let refused = |options: Options| {
        let refusal = heartbeat_blocking::Client::spawn(options).map(|_| ());
        refusal.expect_err("a contradiction").to_string()
    };
    let told = refused(kucoin().config(Config::brisk()));
    assert!(told.contains("kucoin") && told.contains("18s"), "{told}");
    let binance = Options::service("binance", url).expect("in the catalogue");
    let told = refused(
        binance
            .send_rate(6, Duration::from_secs(1))
            .expect("a rate"),
    );
    assert_eq!(told, "`send_rate` is 6/1s, and binance allows 5/1s");
    // The rate that is exceeded, of several.
    let several = r#"{"limits": {"messages": ["10/1s", "300/1m"]}}"#;
    let several = Description::from_json(several).expect("valid");
    let told = refused(
        Options::new(url)
            .expect("a URL")
            .of_service(several)
            .send_rate(6, Duration::from_secs(1))
            .expect("a rate"),
    );
    assert_eq!(told, "`send_rate` is 6/1s, and the service allows 300/60s");
    // Another dialect replaces the service, and with it the service's times.
    let other = kucoin().dialect(named("okx")).config(Config::brisk());
    assert!(engine(other).is_ok());
}

#[test]
fn no_more_messages_go_out_than_the_service_allows_beside_its_heartbeats() {
    let own = r#"{"ping": {"text": "ping", "every": "50ms"}, "limits": {"messages": "2/1h"}}"#;
    let (url, server) = serve(|ws| {
        let mut heard: Vec<String> = Vec::new();
        // The other pings would have come before these.
        while heard.iter().filter(|text| *text == "ping").count() < 5 {
            heard.push(hear(ws));
        }
        heard.retain(|text| text != "ping");
        heard
    });
    let own = Description::from_json(own).expect("valid");
    let options = Options::new(&url).expect("a URL").of_service(own);
    let mut client = heartbeat_blocking::Client::spawn(options).expect("a client");
    while !matches!(client.recv().expect("an event"), Event::Connected { .. }) {}
    for text in ["one", "two", "three"] {
        client.sender().try_send(text).expect("room");
    }
    assert_eq!(server.join().expect("a server"), ["one"]);
    assert_eq!(client.stop().len(), 2, "the others come back");
}

type Silent = std::io::Cursor<Vec<u8>>;

fn engine(options: Options) -> Result<Engine<Silent>, heartbeat_driver::RequestError> {
    Engine::new(options, Instant::ORIGIN, Box::new(|| ()))
}

#[test]
fn the_clients_of_a_service_share_what_it_allows_of_dials() {
    let entry = |name: &str| {
        let mut entry = CatalogueEntry::named("okx").expect("in the catalogue");
        name.clone_into(&mut entry.name);
        entry.dialect = Description::from_json(r#"{"limits": {"dials": "2/20h"}}"#).expect("valid");
        entry
    };
    let dials = |name: &str| {
        let options = Options::new("ws://127.0.0.1:9/").expect("a URL");
        let mut engine = engine(options.of_service(entry(name))).expect("fits");
        let clock = heartbeat_driver::HostClock::start();
        let dialled = loop {
            match engine.turn(&clock) {
                Turn::Dial(_) => break true,
                Turn::Idle => break false,
                Turn::Event(_) | Turn::Again => {}
                Turn::Ended => panic!("ended"),
            }
        };
        (dialled, engine)
    };
    let (first, _first) = dials("a test's service");
    assert!(first);
    let (second, waiting) = dials("a test's service");
    assert!(!second, "its turn comes in hours");
    assert!(waiting.dialing().is_none());
    let (other, _) = dials("another service of a test's");
    assert!(other, "which has a budget of its own");
}
