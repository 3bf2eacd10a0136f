//! Requests: factories that wait, endpoints in turn, redirects, subprotocols, addresses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tokio::core::{Cause, Config, GiveUp};
use heartbeat_tokio::{Attempt, Event, Options, Reason, Request, RequestError, Response};
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;

use crate::garbage::read_head;
use crate::harness::{Case, Client, Server, read_to_the_end};

cases! {
    everywhere: [
        a_factory_is_told_how_the_last_connection_ended,
        an_async_factory_is_awaited_and_dropped_at_connect_timeout,
        an_async_factory_that_wakes_itself_while_it_is_polled_is_polled_again,
        a_blocking_factory_delays_nothing_and_is_never_called_twice_at_once,
        endpoints_take_turns,
        a_redirect_is_followed_and_takes_no_credentials_to_another_host,
        a_redirect_that_is_not_followed_is_judged_by_its_status,
        redirects_without_end_come_to_one,
        the_subprotocol_that_the_server_chose_is_told,
        a_subprotocol_that_was_not_offered_is_final,
        an_address_that_swallows_packets_costs_a_quarter_of_a_second,
        all_addresses_are_tried_before_a_dial_fails,
        what_the_server_answered_is_told_at_both_ends,
        a_servers_own_time_is_heeded_whatever_the_status,
        an_override_leaves_a_row_to_the_servers_time,
        header_names_arrive_in_the_case_in_which_they_were_given,
        a_scoped_address_is_dialled_through_its_interface,
        a_lenient_head_is_understood,
        a_refusal_is_heard_though_the_request_is_not_read_to_its_end,
        two_answers_to_one_key_are_refused,
        the_body_of_a_refusal_is_waited_for_however_it_ends,
        a_body_that_does_not_come_is_not_waited_for_long,
        a_body_is_not_waited_for_beyond_connect_timeout,
        a_factory_answers_the_challenge_that_refused_it,
        a_redirect_to_where_the_dial_has_been_ends_it_at_once,
        hops_are_no_closer_together_than_dials,
        a_redirect_is_followed_when_the_server_wants_it,
    ]
}

const QUICK: &str = r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;

fn config(json: &str) -> Config {
    Config::from_json(json).expect("a configuration")
}

fn request(server: &Server) -> Request {
    Request::new(&format!("ws://127.0.0.1:{}/", server.port())).expect("a URL")
}

/// Reads an upgrade request and answers it with these lines. `KEY` becomes the matching key.
fn answer(server: &Server, lines: &str) -> (TcpStream, String) {
    let mut socket = server.accept();
    let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
    let key = header(&head, "Sec-WebSocket-Key").unwrap_or_default();
    let lines = lines.replace("KEY", &derive_accept_key(key.as_bytes()));
    let answer = format!("HTTP/1.1 {}\r\n\r\n", lines.replace('\n', "\r\n"));
    socket
        .write_all(answer.as_bytes())
        .expect("the client reads");
    (socket, head)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

const SWITCH: &str = "101 Switching Protocols\nUpgrade: websocket\nConnection: keep-alive, Upgrade\nSec-WebSocket-Accept: KEY";

fn until_given_up(client: &mut Client) -> GiveUp {
    client.until(|event| match event {
        Event::GaveUp { reason, .. } => Some(reason),
        _ => None,
    })
}

fn connected(client: &mut Client) -> Arc<Response> {
    client.until(|event| match event {
        Event::Connected { response, .. } => Some(response),
        Event::Disconnected { reason, detail, .. } => panic!("{reason} {detail:?}"),
        _ => None,
    })
}

fn a_factory_is_told_how_the_last_connection_ended(case: Case) {
    let server = Server::start();
    let target = request(&server);
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    let options = Options::from_factory(move |attempt| {
        notes.lock().expect("no panic").push(attempt.clone());
        match attempt.attempt {
            1 => Err(RequestError::failed(Cause::Io, "the token server is down")),
            2.. => target.clone().header("Authorization", "fresh"),
            0 => target.clone().header("Authorization", "stale"),
        }
    });
    let mut client = case.start(options.config(config(QUICK)));
    thread::scope(|scope| {
        scope.spawn(|| {
            let (_, head) = answer(&server, "401 Unauthorized\nContent-Length: 0");
            assert_eq!(header(&head, "authorization"), Some("stale"));
            let (_socket, head) = answer(&server, SWITCH);
            assert_eq!(header(&head, "authorization"), Some("fresh"));
        });
        assert_eq!(client.until_disconnected().reason, "http 401");
        let end = client.until_disconnected();
        assert_eq!(
            (end.reason.as_str(), end.detail.as_str()),
            ("io", "the token server is down")
        );
        connected(&mut client);
    });
    let http = |status| {
        Reason::Cause(Cause::Http {
            status,
            retry_after: None,
        })
    };
    let told: Vec<(u32, bool, Option<Reason>)> = told
        .lock()
        .expect("no panic")
        .iter()
        .map(|told: &Attempt| (told.attempt, told.refresh, told.last))
        .collect();
    let io = Some(Reason::Cause(Cause::Io));
    assert_eq!(told[0], (0, false, None));
    assert_eq!(told[1], (1, true, Some(http(401))));
    assert_eq!((told[2].0, told[2].2), (2, io));
}

/// A token that another thread provides when it is set.
#[derive(Clone, Default)]
struct Token(Arc<Mutex<(bool, Option<Waker>)>>);

impl Token {
    fn set(&self) {
        let mut inner = self.0.lock().expect("no panic");
        inner.0 = true;
        if let Some(waker) = inner.1.take() {
            waker.wake();
        }
    }
}

/// Records that it was dropped.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn an_async_factory_is_awaited_and_dropped_at_connect_timeout(case: Case) {
    let server = Server::start();
    let (target, token, dropped) = (
        request(&server),
        Token::default(),
        Arc::new(AtomicBool::new(false)),
    );
    let (comes, flag) = (token.clone(), Arc::clone(&dropped));
    let options = Options::from_async_factory(move |attempt| {
        let (target, comes, guard) = (target.clone(), comes.clone(), OnDrop(Arc::clone(&flag)));
        async move {
            let _guard = guard;
            if attempt.attempt == 0 {
                std::future::pending::<()>().await;
            }
            std::future::poll_fn(|cx| {
                let mut inner = comes.0.lock().expect("no panic");
                inner.1 = Some(cx.waker().clone());
                if inner.0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            Ok(target)
        }
    });
    let config = config(
        r#"{"connect_timeout": "400ms", "backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#,
    );
    let mut client = case.start(options.config(config));
    thread::scope(|scope| {
        assert_eq!(client.until_disconnected().reason, "connect_timeout");
        assert!(
            dropped.load(Ordering::Acquire),
            "the first one waits for ever"
        );
        scope.spawn(|| drop(server.upgrade().send(Message::text("welcome"))));
        client.until(|event| matches!(event, Event::Connecting { .. }).then_some(()));
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            token.set();
        });
        assert_eq!(client.message(), "welcome".into());
    });
}

fn an_async_factory_that_wakes_itself_while_it_is_polled_is_polled_again(case: Case) {
    let server = Server::start();
    let target = request(&server);
    let options = Options::from_async_factory(move |attempt| {
        let target = target.clone();
        async move {
            if attempt.attempt == 0 {
                return Err(RequestError::failed(Cause::Io, "not yet"));
            }
            let mut turns = 0;
            // A wake-up before the poll has returned (by another thread, for example) looks like this.
            std::future::poll_fn(|cx| {
                turns += 1;
                cx.waker().wake_by_ref();
                if turns > 3 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            Ok(target)
        }
    });
    let slow = r#"{"backoff": {"base": "60s", "cap": "60s", "jitter_percent": 0}}"#;
    let mut client = case.start(options.config(config(slow)));
    client.until_disconnected();
    client.drive_for(Duration::from_millis(50));
    // The kick uses up the client's wake-up.
    client.sender().kick();
    thread::scope(|scope| {
        scope.spawn(|| drop(server.upgrade().send(Message::text("welcome"))));
        assert_eq!(client.message(), "welcome".into());
    });
}

fn a_blocking_factory_delays_nothing_and_is_never_called_twice_at_once(case: Case) {
    let server = Server::start();
    let target = request(&server);
    let (calls, running) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (counted, within) = (Arc::clone(&calls), Arc::clone(&running));
    let options = Options::from_blocking_factory(move |_| {
        assert_eq!(within.fetch_add(1, Ordering::AcqRel), 0, "one at a time");
        if counted.fetch_add(1, Ordering::AcqRel) == 0 {
            thread::sleep(Duration::from_millis(900));
        }
        within.fetch_sub(1, Ordering::AcqRel);
        Ok(target.clone())
    });
    let config = config(
        r#"{"connect_timeout": "200ms", "backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#,
    );
    let mut client = case.start(options.config(config));
    thread::scope(|scope| {
        scope.spawn(|| drop(server.upgrade().send(Message::text("welcome"))));
        let begun = Instant::now();
        assert_eq!(client.until_disconnected().reason, "connect_timeout");
        assert!(
            begun.elapsed() < Duration::from_millis(800),
            "the call does not keep the client"
        );
        client.until(|event| matches!(event, Event::Message { .. }).then_some(()));
    });
    // The first result was discarded. Of the dials during that run, only the last was served.
    assert!(calls.load(Ordering::Acquire) >= 2);
}

fn endpoints_take_turns(case: Case) {
    let servers = [Server::start(), Server::start(), Server::start()];
    let urls: Vec<_> = servers
        .iter()
        .map(|server| format!("ws://127.0.0.1:{}/", server.port()))
        .collect();
    let options = Options::endpoints(urls.iter().map(String::as_str)).expect("URLs");
    let mut client = case.start(options.config(config(QUICK)));
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..4 {
                let mut ws = servers[turn % 3].upgrade();
                ws.send(Message::text(format!("{turn}")))
                    .expect("the client reads");
            }
        });
        for turn in 0..4 {
            let message = client.until(|event| match event {
                Event::Message { message, .. } => Some(message),
                _ => None,
            });
            assert_eq!(message, format!("{turn}").into());
        }
    });
}

fn a_redirect_is_followed_and_takes_no_credentials_to_another_host(case: Case) {
    let (first, second) = (Server::start(), Server::start());
    let target = request(&first)
        .header("Authorization", "SECRET")
        .and_then(|request| request.header("X-Api-Key", "SECRET"))
        .and_then(|request| request.header("User-Agent", "test"))
        .expect("headers");
    let options = Options::from_request(target).max_redirects(3);
    let mut client = case.start(options);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (_, head) = answer(&first, "307 Temporary Redirect\nLocation: /here?x=1");
            assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
            let location = format!(
                "302 Found\nLocation: http://127.0.0.1:{}/there",
                second.port()
            );
            let (_, head) = answer(&first, &location);
            assert!(head.starts_with("GET /here?x=1 HTTP/1.1\r\n"), "{head}");
            assert_eq!(header(&head, "x-api-key"), Some("SECRET"), "the same host");
            let (_socket, head) = answer(&second, SWITCH);
            assert!(head.starts_with("GET /there HTTP/1.1\r\n"), "{head}");
            assert_eq!(header(&head, "user-agent"), Some("test"));
            assert!(!head.contains("SECRET"), "{head}");
        });
        assert_eq!(connected(&mut client).status(), 101);
    });
}

fn a_redirect_that_is_not_followed_is_judged_by_its_status(case: Case) {
    // By default no redirect is followed. 301 and 308 are final, the others are not.
    for (hops, lines, is_final, words) in [
        (0, "302 Found\nLocation: /there", false, "no more redirects"),
        (0, "301 Moved\nLocation: /there", true, "no more redirects"),
        (9, "302 Found\nLocation: mailto:me@here", false, "not a URL"),
        (
            9,
            "308 Permanent\nLocation: ws://me:SECRET@here/",
            true,
            "not a URL",
        ),
        (9, "302 Found", false, ""),
    ] {
        let server = Server::start();
        let options = server.options(QUICK).max_redirects(hops);
        let mut client = case.start(options);
        thread::scope(|scope| {
            scope.spawn(|| {
                answer(&server, lines);
                if !is_final {
                    drop(server.accept());
                }
            });
            let end = client.until_disconnected();
            assert_eq!(end.reason, format!("http {}", &lines[..3]));
            assert!(
                end.detail.contains(words) && !end.detail.contains("SECRET"),
                "{end:?}"
            );
            if is_final {
                until_given_up(&mut client);
            } else {
                client.until_disconnected();
            }
        });
    }
}

fn redirects_without_end_come_to_one(case: Case) {
    let server = Server::start();
    let mut client = case.start(server.options(QUICK).max_redirects(4));
    thread::scope(|scope| {
        scope.spawn(|| {
            for hop in 0..5 {
                answer(&server, &format!("302 Found\nLocation: /{hop}"));
            }
        });
        assert_eq!(client.until_disconnected().reason, "http 302");
        let next = client.until(|event| matches!(event, Event::Reconnect { .. }).then_some(event));
        assert!(
            matches!(next, Event::Reconnect { attempt: 1, .. }),
            "one dial: {next:?}"
        );
    });
}

fn the_subprotocol_that_the_server_chose_is_told(case: Case) {
    let server = Server::start();
    let offered = request(&server)
        .subprotocol("v2.chat")
        .and_then(|request| request.subprotocol("v1.chat"));
    let mut client = case.start(Options::from_request(offered.expect("tokens")));
    thread::scope(|scope| {
        scope.spawn(|| {
            let lines = format!("{SWITCH}\nSec-WebSocket-Protocol: v1.chat");
            let (_socket, head) = answer(&server, &lines);
            assert_eq!(
                header(&head, "sec-websocket-protocol"),
                Some("v2.chat, v1.chat")
            );
        });
        assert_eq!(connected(&mut client).subprotocol(), Some("v1.chat"));
    });
}

fn a_subprotocol_that_was_not_offered_is_final(case: Case) {
    for (offers, more) in [
        (true, ""),
        (true, "\nSec-WebSocket-Protocol: v3.chat"),
        (false, "\nSec-WebSocket-Protocol: v1.chat"),
        (false, "\nSec-WebSocket-Protocol: \u{e9}"),
        (false, "\nSec-WebSocket-Extensions: permessage-deflate"),
        (false, "\nSec-WebSocket-Accept: another"),
        (
            true,
            "\nSec-WebSocket-Protocol: v1.chat\nSec-WebSocket-Protocol: v1.chat",
        ),
    ] {
        let server = Server::start();
        let mut target = request(&server);
        if offers {
            target = target.subprotocol("v1.chat").expect("a token");
        }
        let mut client = case.start(Options::from_request(target));
        thread::scope(|scope| {
            scope.spawn(|| answer(&server, &format!("{SWITCH}{more}")));
            assert_eq!(
                until_given_up(&mut client),
                GiveUp::Cause(Cause::Close(1002)),
                "{more:?}"
            );
        });
    }
}

/// A server that accepts no connection, so that the system does not answer.
fn blackhole() -> (Server, Vec<TcpStream>) {
    let server = Server::start();
    server.shorten_the_queue();
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let mut waiting = Vec::new();
    while let Ok(socket) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(socket);
        assert!(waiting.len() < 99, "the queue has no end");
    }
    (server, waiting)
}

fn an_address_that_swallows_packets_costs_a_quarter_of_a_second(case: Case) {
    let (swallows, _waiting) = blackhole();
    let server = Server::start();
    let target = request(&server).addresses([
        SocketAddr::from(([127, 0, 0, 1], swallows.port())),
        SocketAddr::from(([127, 0, 0, 1], server.port())),
    ]);
    let mut client = case.start(Options::from_request(target));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            ws.send(Message::text("welcome")).expect("the client reads");
            read_to_the_end(ws.get_mut());
        });
        let after = client.until(|event| match event {
            Event::Connected { after, .. } => Some(after),
            Event::Disconnected { reason, .. } => panic!("{reason}"),
            _ => None,
        });
        assert!(
            after >= Duration::from_millis(240),
            "{after:?}: the first one had no chance"
        );
        assert!(after < Duration::from_secs(5), "{after:?}");
        assert_eq!(client.message(), "welcome".into());
        drop(client);
    });
}

fn all_addresses_are_tried_before_a_dial_fails(case: Case) {
    let (server, gone) = (Server::start(), Server::start().port());
    let nobody = SocketAddr::from(([127, 0, 0, 1], gone));
    let somebody = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let to = |addresses: &[SocketAddr]| {
        let target = request(&server).addresses(addresses.iter().copied());
        Options::from_request(target).config(config(QUICK))
    };
    let mut client = case.start(to(&[nobody, nobody, nobody]));
    assert_eq!(client.until_disconnected().reason, "refused");
    drop(client);
    let mut client = case.start(to(&[nobody, nobody, somebody]));
    thread::scope(|scope| {
        scope.spawn(|| drop(server.upgrade()));
        client.until(|event| match event {
            Event::Connected { after, .. } => {
                assert!(after < Duration::from_secs(5), "{after:?}");
                Some(())
            }
            Event::Disconnected { reason, .. } => panic!("{reason}"),
            _ => None,
        });
    });
}

fn what_the_server_answered_is_told_at_both_ends(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, QUICK);
    thread::scope(|scope| {
        scope.spawn(|| {
            answer(
                &server,
                "500 Oops\nX-Request-Id: 17\nSet-Cookie: SECRET\n\nno SECRET today",
            );
            let _socket = answer(&server, &format!("{SWITCH}\nX-Request-Id: 18"));
        });
        let response = client.until(|event| match event {
            Event::Disconnected { response, .. } => response,
            _ => None,
        });
        assert_eq!(
            (response.status(), response.header("x-request-id")),
            (500, Some("17"))
        );
        assert_eq!(response.header("set-cookie"), Some("SECRET"));
        assert!(response.body().starts_with(b"no SECRET today"));
        assert!(!format!("{response:?}").contains("SECRET"));
        let response = connected(&mut client);
        assert_eq!(response.header("X-Request-Id"), Some("18"));
        assert!(response.body().is_empty());
        assert_eq!(
            response.header("Sec-WebSocket-Accept"),
            None,
            "nobody's business"
        );
    });
}

/// The planned time from this answer to the next dial, or `None` if no dial is planned.
fn planned(case: Case, config: &str, lines: &str) -> Option<Duration> {
    let server = Server::start();
    let mut client = case.connect(&server, config);
    thread::scope(|scope| {
        scope.spawn(|| answer(&server, lines));
        client.until(|event| match event {
            Event::Reconnect { delay, .. } => Some(Some(delay)),
            Event::GaveUp { .. } => Some(None),
            _ => None,
        })
    })
}

/// R6: a ban gives its length.
fn a_servers_own_time_is_heeded_whatever_the_status(case: Case) {
    for status in [
        "200 OK",
        "302 Found",
        "308 Moved\nLocation: /there",
        "401 Who",
        "403 Banned",
        "413 Too much",
        "418 Teapot",
        "429 Too many",
        "503 Busy",
        "522 Timed out",
    ] {
        for (value, least) in [("3", 3), ("1.5", 2), ("99999999999999999999", 86_400)] {
            let delay = planned(case, QUICK, &format!("{status}\nRetry-After: {value}"));
            let delay = delay.expect("the server says when to come back");
            let range = Duration::from_secs(least)..Duration::from_secs(least + 1);
            assert!(range.contains(&delay), "{status}, {value}: {delay:?}");
        }
    }
    for nonsense in ["", "soon", "-3", "3 s"] {
        let lines = format!("403 No\nRetry-After: {nonsense}");
        assert_eq!(planned(case, QUICK, &lines), None, "{nonsense}");
    }
}

fn an_override_leaves_a_row_to_the_servers_time(case: Case) {
    let config = r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0},
        "causes": {"http 418": {"retry_after_or": "2m"}, "http 404": "retry_after"}}"#;
    for (lines, expected) in [
        ("418 Teapot\nRetry-After: 3", 3_000),
        ("418 Teapot", 120_000),
        ("404 None", 50),
    ] {
        let expected = Duration::from_millis(expected);
        assert_eq!(planned(case, config, lines), Some(expected), "{lines}");
    }
}

/// D7: some servers compare the case of header names, although it means nothing.
fn header_names_arrive_in_the_case_in_which_they_were_given(case: Case) {
    let server = Server::start();
    let target = request(&server)
        .header("X-MBX-APIKEY", "1")
        .and_then(|request| request.header("apiKey", "2"))
        .and_then(|request| request.header("x-lower", "3"))
        .expect("headers");
    let mut client = case.start(Options::from_request(target).max_redirects(1));
    thread::scope(|scope| {
        scope.spawn(|| {
            for lines in ["302 Found\nLocation: /here", SWITCH] {
                let (_socket, head) = answer(&server, lines);
                let words = "\r\nX-MBX-APIKEY: 1\r\napiKey: 2\r\nx-lower: 3\r\n";
                assert!(head.contains(words), "{head}");
            }
        });
        connected(&mut client);
    });
}

/// A network namespace with a link-local address on its loopback interface.
struct Scoped(String);

impl Scoped {
    fn new() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let scoped = Self(format!("hb-zone-{}-{number}", std::process::id()));
        let name = &scoped.0;
        for line in [
            format!("netns add {name}"),
            format!("-n {name} link set lo up"),
            format!("-n {name} address add fe80::1/64 dev lo nodad"),
        ] {
            let output = Command::new("ip").args(line.split(' ')).output();
            let output = output.map_err(|error| format!("`ip`: {error}"))?;
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr);
                return Err(format!("`ip {line}`: {}", why.trim()));
            }
        }
        Ok(scoped)
    }
}

impl Scoped {
    /// This test's thread is in the namespace, and everything that it makes from here on.
    #[cfg(target_os = "linux")]
    fn enter(&self) {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd as _;

        let file = std::fs::File::open(format!("/run/netns/{}", self.0)).expect("a namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the right to enter it");
    }

    /// There are no namespaces, so this one was not made.
    #[cfg(not(target_os = "linux"))]
    fn enter(&self) {}
}

impl Drop for Scoped {
    fn drop(&mut self) {
        // The process may not have got that far yet.
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.0])
            .output();
    }
}

/// D16: RFC 6874.
fn a_scoped_address_is_dialled_through_its_interface(case: Case) {
    let scoped = match Scoped::new() {
        Ok(scoped) => scoped,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    scoped.enter();
    // `lo` has index 1 in each namespace.
    let listener = TcpListener::bind("[fe80::1%1]:0").expect("an address");
    let address = listener.local_addr().expect("it is bound");
    let port = address.port();
    // The kernel adds the route to a new address after a short time.
    let has_route = (0..5000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        TcpStream::connect(address).is_ok()
    });
    assert!(has_route, "no route to {address}");
    drop(listener.accept().expect("that connection"));
    for host in ["[fe80::1%25lo]", "[fe80::1%251]", "[fe80::1%lo]"] {
        let url = format!("ws://{host}:{port}/");
        let mut client = case.start(Options::new(&url).expect("a URL"));
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut socket, _) = listener.accept().expect("a client");
                let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
                let named = format!("[fe80::1]:{port}");
                assert_eq!(header(&head, "host"), Some(named.as_str()));
                let key = header(&head, "Sec-WebSocket-Key").unwrap_or_default();
                let lines = SWITCH.replace("KEY", &derive_accept_key(key.as_bytes()));
                let words = format!("HTTP/1.1 {}\r\n\r\n", lines.replace('\n', "\r\n"));
                socket
                    .write_all(words.as_bytes())
                    .expect("the client reads");
                read_to_the_end(&mut socket);
            });
            connected(&mut client);
            drop(client);
        });
    }
}

/// D6: heads that other user agents accept.
fn a_lenient_head_is_understood(case: Case) {
    const SPACED: &str =
        "101 Switching\nUpgrade : websocket\nConnection\t: Upgrade\nSec-WebSocket-Accept : KEY";
    const FOLDED: &str = "101 Web Socket Protocol Handshake, \u{e9}!\nUpgrade:\n websocket\nConnection: keep-alive,\n\t Upgrade\nSec-WebSocket-Accept:\n KEY\nX: a\n b";
    for (lines, more) in [
        (SPACED, ""),
        (FOLDED, ""),
        (
            SWITCH,
            "\nSec-WebSocket-Protocol:\nSec-WebSocket-Extensions: ",
        ),
        (
            SWITCH,
            "\nSec-WebSocket-Protocol: ,\nSec-WebSocket-Extensions: , ,",
        ),
        (SWITCH, "\nX-Name: \u{e9}t\u{e9}"),
    ] {
        let server = Server::start();
        let mut client = case.connect(&server, QUICK);
        thread::scope(|scope| {
            let answered = scope.spawn(|| answer(&server, &format!("{lines}{more}")));
            let response = connected(&mut client);
            assert_eq!(response.subprotocol(), None, "{lines}{more}");
            drop(answered.join());
        });
    }
    // Bare line feeds.
    let server = Server::start();
    let mut client = case.connect(&server, QUICK);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = server.accept();
            let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
            let key = header(&head, "Sec-WebSocket-Key").unwrap_or_default();
            let lines = SWITCH.replace("KEY", &derive_accept_key(key.as_bytes()));
            let words = format!("HTTP/1.1 {lines}\n\n");
            socket
                .write_all(words.as_bytes())
                .expect("the client reads");
            read_to_the_end(&mut socket);
        });
        connected(&mut client);
        drop(client);
    });
}

/// A second header could be meant to give two parsers different values.
fn two_answers_to_one_key_are_refused(case: Case) {
    for more in [
        "\nSec-WebSocket-Accept: another",
        "\nsec-websocket-accept : another",
        "\n another",
        "\nSec-WebSocket-Accept: KEY",
    ] {
        let server = Server::start();
        let mut client = case.connect(&server, QUICK);
        thread::scope(|scope| {
            scope.spawn(|| answer(&server, &format!("{SWITCH}{more}")));
            let end = GiveUp::Cause(Cause::Close(1002));
            assert_eq!(until_given_up(&mut client), end, "{more:?}");
        });
    }
}

/// The end of the first dial, with its body.
fn refused(client: &mut Client) -> (String, Arc<Response>) {
    client.until(|event| match event {
        Event::Disconnected {
            reason, response, ..
        } => Some((reason.to_string(), response.expect("an answer"))),
        _ => None,
    })
}

/// D12: the body comes in a segment of its own.
fn the_body_of_a_refusal_is_waited_for_however_it_ends(case: Case) {
    for (framing, body, stays) in [
        ("Content-Length: 12", "not\nfor\nyou!", true),
        (
            "Transfer-Encoding: chunked",
            "5\r\nnot\nf\r\n7\r\nor\nyou!\r\n0\r\n\r\n",
            true,
        ),
        ("X: y", "not\nfor\nyou!", false),
        ("Content-Length: 99", "not\nfor\nyou!", false),
    ] {
        let server = Server::start();
        let mut client = case.connect(&server, QUICK);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut socket, _) = answer(&server, &format!("403 No\n{framing}"));
                for piece in body.as_bytes().chunks(5) {
                    thread::sleep(Duration::from_millis(20));
                    socket.write_all(piece).expect("the client reads");
                }
                if stays {
                    read_to_the_end(&mut socket);
                }
            });
            let begun = Instant::now();
            let (reason, response) = refused(&mut client);
            assert_eq!(reason, "http 403");
            assert_eq!(response.body(), b"not\nfor\nyou!", "{framing}");
            assert!(!response.is_from_proxy());
            assert!(
                !stays || begun.elapsed() < Duration::from_millis(900),
                "{framing}"
            );
        });
    }
    // Without a body there is no wait at all.
    for lines in ["403 No\nContent-Length: 0", "204 Nothing", "304 As before"] {
        let server = Server::start();
        let mut client = case.connect(&server, QUICK);
        thread::scope(|scope| {
            scope.spawn(|| read_to_the_end(&mut answer(&server, lines).0));
            let begun = Instant::now();
            assert!(refused(&mut client).1.body().is_empty());
            assert!(begun.elapsed() < Duration::from_millis(900), "{lines}");
            drop(client);
        });
    }
}

fn a_body_that_does_not_come_is_not_waited_for_long(case: Case) {
    for lines in [
        "403 No\nContent-Length: 12",
        "403 No",
        "403 No\nTransfer-Encoding: chunked",
    ] {
        let server = Server::start();
        let mut client = case.connect(&server, QUICK);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut socket, _) = answer(&server, lines);
                socket.write_all(b"2\r\n").expect("the client reads");
                read_to_the_end(&mut socket);
            });
            let begun = Instant::now();
            let (reason, response) = refused(&mut client);
            assert_eq!(reason, "http 403");
            assert!(!lines.ends_with('2') || response.body() == b"2\r\n");
            let took = begun.elapsed();
            let range = Duration::from_millis(900)..Duration::from_secs(5);
            assert!(range.contains(&took), "{lines}: {took:?}");
            drop(client);
        });
    }
}

fn a_body_is_not_waited_for_beyond_connect_timeout(case: Case) {
    let server = Server::start();
    let config = r#"{"connect_timeout": "300ms"}"#;
    let mut client = case.connect(&server, config);
    thread::scope(|scope| {
        scope.spawn(|| read_to_the_end(&mut answer(&server, "403 No").0));
        let begun = Instant::now();
        // The known part is reported.
        assert_eq!(refused(&mut client).0, "http 403");
        assert!(begun.elapsed() < Duration::from_millis(900));
        drop(client);
    });
}

/// SHA-256 in hexadecimal digits, which Digest is made of (RFC 7616).
fn sha256(text: &str) -> String {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().expect("a suite of TLS 1.3");
    let hash = suite.common.hash_provider.hash(text.as_bytes());
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The answer of `me`, with the password `secret`, to a challenge.
pub(crate) fn digest(method: &str, uri: &str, challenge: &str) -> String {
    let nonce = challenge
        .split_once("nonce=\"")
        .and_then(|(_, rest)| rest.split('"').next())
        .expect("a nonce");
    let one = sha256("me:here:secret");
    let two = sha256(&format!("{method}:{uri}"));
    let response = sha256(&format!("{one}:{nonce}:00000001:c:auth:{two}"));
    format!(
        "Digest username=\"me\", realm=\"here\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm=SHA-256, \
         qop=auth, nc=00000001, cnonce=\"c\", response=\"{response}\""
    )
}

pub(crate) fn challenge(nonce: &str, more: &str) -> String {
    format!("Digest realm=\"here\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"{more}")
}

/// D13: Digest, whose nonce is called stale when it is answered, and again after the connection was lost.
fn a_factory_answers_the_challenge_that_refused_it(case: Case) {
    let server = Server::start();
    let target = request(&server);
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    let options = Options::from_factory(move |attempt| {
        let refused = attempt.refused.as_ref();
        let status = refused.map(|refused| refused.status());
        let mut notes = notes.lock().expect("no panic");
        notes.push((status, attempt.refresh));
        match refused.and_then(|refused| refused.header("WWW-Authenticate")) {
            Some(challenge) => {
                let said = digest("GET", "/", challenge);
                target.clone().header("Authorization", &said)
            }
            None => Ok(target.clone()),
        }
    });
    let mut client = case.start(options.config(config(QUICK)));
    thread::scope(|scope| {
        scope.spawn(|| {
            let asks = |nonce, more| {
                let challenge = challenge(nonce, more);
                format!("401 Who\nContent-Length: 0\nWWW-Authenticate: {challenge}\nWWW-Authenticate: Basic")
            };
            let right = |head: &str, nonce| {
                let expected = digest("GET", "/", &challenge(nonce, ""));
                assert_eq!(header(head, "Authorization"), Some(expected.as_str()));
            };
            let (_, head) = answer(&server, &asks("one", ""));
            assert_eq!(header(&head, "Authorization"), None);
            let (_, head) = answer(&server, &asks("two", ", stale=true"));
            right(&head, "one");
            let (_, head) = answer(&server, SWITCH);
            right(&head, "two");
            // The dial was accepted, so a new series of refusals begins here.
            let (_, head) = answer(&server, &asks("three", ""));
            assert_eq!(header(&head, "Authorization"), None);
            let (_socket, head) = answer(&server, SWITCH);
            right(&head, "three");
        });
        assert_eq!(client.until_disconnected().reason, "http 401");
        connected(&mut client);
        assert_eq!(client.until_disconnected().reason, "eof");
        assert_eq!(client.until_disconnected().reason, "http 401");
        connected(&mut client);
    });
    let told = told.lock().expect("no panic").clone();
    let asked = (Some(401), true);
    assert_eq!(told[..3], [(None, false), asked, asked]);
    assert_eq!(told[3..], [(None, false), asked]);
}

fn a_redirect_to_where_the_dial_has_been_ends_it_at_once(case: Case) {
    for circle in [&["/"][..], &["/a", "/"], &["/a", "/b?x", "/a"]] {
        let server = Server::start();
        let mut client = case.start(server.options(QUICK).max_redirects(u32::MAX));
        thread::scope(|scope| {
            scope.spawn(|| {
                for location in circle {
                    answer(&server, &format!("302 Found\nLocation: {location}"));
                }
            });
            let end = client.until_disconnected();
            assert_eq!(end.reason, "http 302", "{circle:?}");
            assert!(end.detail.contains("where this dial has been"), "{end:?}");
        });
    }
}

/// "Never two dials within 25 ms", wherever the dials lead.
fn hops_are_no_closer_together_than_dials(case: Case) {
    let server = Server::start();
    let mut client = case.start(server.options(QUICK).max_redirects(u32::MAX));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut before: Option<Instant> = None;
            for hop in 0..10 {
                let mut socket = server.accept();
                let accepted = Instant::now();
                read_head(&mut socket);
                if let Some(before) = before.replace(accepted) {
                    // A moment passes between the dial and this line.
                    let apart = accepted.duration_since(before);
                    assert!(apart >= Duration::from_millis(15), "{apart:?}");
                }
                let words = format!("HTTP/1.1 302 Found\r\nLocation: /{hop}\r\n\r\n");
                socket
                    .write_all(words.as_bytes())
                    .expect("the client reads");
            }
            answer(&server, SWITCH);
        });
        let after = client.until(|event| match event {
            Event::Connected { after, .. } => Some(after),
            Event::Disconnected { reason, detail, .. } => panic!("{reason} {detail:?}"),
            _ => None,
        });
        assert!(after >= Duration::from_millis(250), "{after:?}");
    });
}

fn a_redirect_is_followed_when_the_server_wants_it(case: Case) {
    let server = Server::start();
    let mut client = case.start(server.options(QUICK).max_redirects(1));
    thread::scope(|scope| {
        scope.spawn(|| {
            answer(&server, "307 Later\nLocation: /there\nRetry-After: 1");
            answer(&server, SWITCH);
        });
        let after = client.until(|event| match event {
            Event::Connected { after, .. } => Some(after),
            _ => None,
        });
        assert!(after >= Duration::from_secs(1), "{after:?}");
        drop(client);
    });
    // Not within `connect_timeout`, so the dial has failed.
    let server = Server::start();
    thread::scope(|scope| {
        let mut client = case.start(server.options(QUICK).max_redirects(1));
        scope.spawn(|| answer(&server, "307 Later\nLocation: /there\nRetry-After: 99"));
        let end = client.until_disconnected();
        assert_eq!(end.reason, "http 307, retry after 99 s");
        let delay = client.until(|event| match event {
            Event::Reconnect { delay, .. } => Some(delay),
            _ => None,
        });
        assert!(delay >= Duration::from_secs(99), "{delay:?}");
    });
}

/// A request that is too large is refused before it is read. Then the connection is reset, or stays open.
fn a_refusal_is_heard_though_the_request_is_not_read_to_its_end(case: Case) {
    for resets in [true, false] {
        let server = Server::narrow();
        let (large, waits) = ("x".repeat(8 << 20), Barrier::new(2));
        let target = request(&server)
            .header("X-Large", &large)
            .expect("a header");
        let mut client = case.start(Options::from_request(target).config(config(QUICK)));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut socket = server.accept();
                socket.read_exact(&mut [0; 99]).expect("a request");
                socket
                    .write_all(b"HTTP/1.1 431 Too large\r\nContent-Length: 0\r\n\r\n")
                    .expect("the client reads");
                // Unread bytes turn the end into a reset.
                if !resets {
                    waits.wait();
                }
            });
            let end = client.until_disconnected();
            if !resets {
                waits.wait();
            }
            assert_eq!(end.reason, "http 431", "{resets} {}", end.detail);
        });
    }
}
