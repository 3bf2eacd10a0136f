//! Connections through a proxy: CONNECT and SOCKS5, with and without TLS inside, and proxies that
//! misbehave.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use heartbeat_tests::lines::Lines;
use heartbeat_tokio::core::{Cause, Config, GiveUp};
use heartbeat_tokio::{Event, Options, Proxy, Request};
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;

use crate::garbage::read_head;
use crate::harness::{Case, Client, Server, TEXT, frame, read_to_the_end};

cases! {
    everywhere: [
        an_http_proxy_carries_the_connection,
        a_socks_proxy_carries_the_connection_and_resolves_the_name,
        tls_goes_through_a_proxy_to_the_server,
        a_proxy_that_answers_byte_by_byte_is_understood,
        a_silent_proxy_ends_at_connect_timeout,
        what_an_http_proxy_refuses_is_judged_by_its_status,
        what_a_socks_proxy_refuses_is_judged_as_http_would_be,
        a_proxy_that_speaks_nonsense_is_final_and_bounded,
        a_proxy_that_is_not_there_is_named,
        no_credentials_are_logged_shown_or_sent_to_the_wrong_one,
        a_proxys_challenge_is_answered_and_then_the_servers,
        what_a_proxy_says_beside_its_refusal_is_told,
        a_proxy_that_has_spoken_and_gone_is_heard,
    ]
}

const QUICK: &str = r#"{"connect_timeout": "20s", "backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;

fn http(proxy: &Server) -> Proxy {
    Proxy::new(&format!("http://me:p%40ss@127.0.0.1:{}", proxy.port())).expect("a proxy")
}

fn socks(proxy: &Server) -> Proxy {
    Proxy::new(&format!("socks5://me:p%40ss@127.0.0.1:{}", proxy.port())).expect("a proxy")
}

/// Only the proxy knows this name.
fn options(scheme: &str, server: &Server, proxy: Proxy) -> Options {
    Options::new(&format!("{scheme}://server.test:{}/", server.port()))
        .expect("a URL")
        .config(Config::from_json(QUICK).expect("a configuration"))
        .proxy(proxy)
}

fn exactly<const N: usize>(socket: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    socket.read_exact(&mut bytes).expect("the client's words");
    bytes
}

/// `me:p@ss`, encoded as in RFC 7617 §2.
const BASIC: &str = "Proxy-Authorization: Basic bWU6cEBzcw==\r\n";

/// Accepts a CONNECT to the server and opens the tunnel.
fn connect(socket: &mut TcpStream, port: u16, pieces: usize) {
    let head = String::from_utf8(read_head(socket)).expect("ASCII");
    let target = format!("server.test:{port}");
    let start = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    assert!(head.starts_with(&start) && head.contains(BASIC), "{head}");
    say(
        socket,
        b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n",
        pieces,
    );
}

/// Accepts a SOCKS5 login and request and opens the tunnel.
fn socks_connect(socket: &mut TcpStream, port: u16, pieces: usize) {
    assert_eq!(
        exactly::<4>(socket),
        [5, 2, 0, 2],
        "with and without a login"
    );
    say(socket, &[5, 2], pieces);
    assert_eq!(exactly::<9>(socket), *b"\x01\x02me\x04p@ss");
    say(socket, &[1, 0], pieces);
    let [high, low] = port.to_be_bytes();
    let request = [&[5, 1, 0, 3, 11][..], b"server.test", &[high, low]].concat();
    assert_eq!(exactly::<18>(socket)[..], request);
    // The bound address is a name, so the client must heed its length.
    say(socket, b"\x05\x00\x00\x03\x05proxy\x00\x50", pieces);
}

fn say(socket: &mut TcpStream, words: &[u8], pieces: usize) {
    for piece in words.chunks(pieces) {
        socket.write_all(piece).expect("the client reads");
        if pieces == 1 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Copies bytes in both directions until both are done.
fn carry(client: TcpStream, server: &Server) {
    let upstream = TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens");
    let copy = |mut from: &TcpStream, mut to: &TcpStream| {
        // Ends with either side. Others check what the end was.
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(&client, &upstream));
        copy(&upstream, &client);
    });
}

fn echoes_through(
    case: Case,
    pieces: usize,
    proxy: fn(&Server) -> Proxy,
    open: fn(&mut TcpStream, u16, usize),
) {
    let (server, way) = (Server::start(), Server::start());
    let mut client = case.start(options("ws", &server, proxy(&way)));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = way.accept();
            open(&mut socket, server.port(), pieces);
            carry(socket, &server);
        });
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let message = ws.read().expect("a message");
            ws.send(message).expect("the client reads");
            while ws.read().is_ok() {}
        });
        client.until_connected();
        client
            .sender()
            .try_send("there and back")
            .expect("connected");
        assert_eq!(client.message(), "there and back".into());
        drop(client);
    });
}

fn an_http_proxy_carries_the_connection(case: Case) {
    echoes_through(case, 4096, http, connect);
}

fn a_socks_proxy_carries_the_connection_and_resolves_the_name(case: Case) {
    echoes_through(case, 4096, socks, socks_connect);
}

fn a_proxy_that_answers_byte_by_byte_is_understood(case: Case) {
    echoes_through(case, 1, http, connect);
    echoes_through(case, 1, socks, socks_connect);
}

fn tls_goes_through_a_proxy_to_the_server(case: Case) {
    let (server, way) = (Server::start(), Server::start());
    let (theirs, ours) = crate::tls::for_name("server.test");
    let mut client = case.start(options("wss", &server, socks(&way)).tls(ours));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = way.accept();
            socks_connect(&mut socket, server.port(), 4096);
            carry(socket, &server);
        });
        scope.spawn(|| {
            let mut ws = crate::tls::upgrade(&server, theirs);
            ws.send(Message::text("in private"))
                .expect("the client reads");
            while ws.read().is_ok() {}
        });
        assert_eq!(client.message(), "in private".into());
        drop(client);
    });
}

fn a_silent_proxy_ends_at_connect_timeout(case: Case) {
    for proxy in [http, socks] {
        let (server, way) = (Server::start(), Server::start());
        let config = Config::from_json(r#"{"connect_timeout": "300ms"}"#).expect("a configuration");
        let mut client = case.start(options("ws", &server, proxy(&way)).config(config));
        thread::scope(|scope| {
            scope.spawn(|| read_to_the_end(&mut way.accept()));
            assert_eq!(client.until_disconnected().reason, "connect_timeout");
        });
    }
}

/// The end of a dial whose proxy does this, and whether it is final.
fn ends(
    case: Case,
    proxy: fn(&Server) -> Proxy,
    script: fn(&mut TcpStream),
) -> (String, String, Client) {
    let (server, way) = (Server::start(), Server::start());
    let mut client = case.start(options("ws", &server, proxy(&way)));
    let end = thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = way.accept();
            script(&mut socket);
        });
        client.until_disconnected()
    });
    assert!(
        end.detail.contains("the proxy ") && end.detail.contains(&way.port().to_string()),
        "{end:?}"
    );
    assert!(
        !end.detail.contains("p@ss") && !end.detail.contains("me:"),
        "{end:?}"
    );
    (end.reason, end.detail, client)
}

fn gave_up(client: &mut Client) -> Option<GiveUp> {
    client.until(|event| match event {
        Event::GaveUp { reason, .. } => Some(Some(reason)),
        Event::Reconnect { .. } => Some(None),
        _ => None,
    })
}

fn what_an_http_proxy_refuses_is_judged_by_its_status(case: Case) {
    let (reason, _, mut client) = ends(case, http, |socket| {
        read_head(socket);
        say(socket, b"HTTP/1.1 403 Forbidden\r\n\r\n", 4096);
    });
    assert_eq!(reason, "http 403");
    assert!(gave_up(&mut client).is_some());
    let (reason, detail, mut client) = ends(case, http, |socket| {
        read_head(socket);
        say(socket, b"HTTP/1.0 503 Busy\r\nRetry-After: 7\r\n\r\n", 4096);
    });
    assert!(reason.starts_with("http 503"), "{reason}");
    assert!(
        detail.contains("refuses to open a way: status 503"),
        "{detail}"
    );
    let delay = client.until(|event| match event {
        Event::Reconnect { delay, .. } => Some(delay),
        _ => None,
    });
    assert!(delay >= Duration::from_secs(7), "{delay:?}");

    // R6: also with a status that alone would mean giving up, and with one that asks for credentials.
    for answer in ["403 No", "407 Who"] {
        let (server, way) = (Server::start(), Server::start());
        let mut client = case.start(options("ws", &server, http(&way)));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut socket = way.accept();
                read_head(&mut socket);
                let words = format!("HTTP/1.1 {answer}\r\nRetry-After: 6.2\r\n\r\n");
                say(&mut socket, words.as_bytes(), 4096);
            });
            let delay = client.until(|event| match event {
                Event::Reconnect { delay, .. } => Some(delay),
                _ => None,
            });
            assert!(delay >= Duration::from_secs(7), "{answer}: {delay:?}");
        });
    }

    // A 407 asks the factory for fresh credentials, once.
    let (server, way) = (Server::start(), Server::start());
    let target = Request::new(&format!("ws://server.test:{}/", server.port())).expect("a URL");
    let (told, port) = (Arc::new(Mutex::new(Vec::new())), way.port());
    let notes = Arc::clone(&told);
    let factory = Options::from_factory(move |attempt| {
        notes.lock().expect("no panic").push(attempt.refresh);
        let password = if attempt.refresh { "new" } else { "old" };
        let proxy = Proxy::new(&format!("http://me:{password}@127.0.0.1:{port}"))?;
        Ok(target.clone().proxy(proxy))
    });
    let mut client = case.start(factory.config(Config::from_json(QUICK).expect("a configuration")));
    thread::scope(|scope| {
        scope.spawn(|| {
            for login in ["bWU6b2xk", "bWU6bmV3"] {
                let mut socket = way.accept();
                let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
                assert!(head.contains(login), "{head}");
                say(&mut socket, b"HTTP/1.1 407 Who are you?\r\n\r\n", 4096);
            }
        });
        let reason = client.until(|event| match event {
            Event::GaveUp { reason, .. } => Some(reason),
            _ => None,
        });
        let cause = Cause::Http {
            status: 407,
            retry_after: None,
        };
        assert_eq!(reason, GiveUp::Credentials(cause));
    });
    assert_eq!(*told.lock().expect("no panic"), [false, true]);
}

fn what_a_socks_proxy_refuses_is_judged_as_http_would_be(case: Case) {
    type Script = fn(&mut TcpStream);
    fn asked(socket: &mut TcpStream) {
        exactly::<4>(socket);
        say(socket, &[5, 0], 4096);
        exactly::<18>(socket);
    }
    let login: Script = |socket| {
        exactly::<4>(socket);
        say(socket, &[5, 2], 4096);
        exactly::<9>(socket);
        say(socket, &[1, 1], 4096);
    };
    let method: Script = |socket| {
        exactly::<4>(socket);
        say(socket, &[5, 0xff], 4096);
    };
    let rules: Script = |socket| {
        asked(socket);
        say(socket, &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0], 4096);
    };
    let refused: Script = |socket| {
        asked(socket);
        // Cut short, as some proxies do.
        say(socket, &[5, 5], 4096);
    };
    let unreachable: Script = |socket| {
        asked(socket);
        say(socket, &[5, 4, 0, 1], 4096);
    };
    let hangs_up: Script = |socket| {
        exactly::<4>(socket);
        let _ = socket.shutdown(Shutdown::Both);
    };
    for (script, expected, is_final) in [
        (login, "http 407", false),
        (method, "http 407", false),
        (rules, "http 403", true),
        (refused, "refused", false),
        (unreachable, "io", false),
        (hangs_up, "eof", false),
    ] {
        let (reason, detail, mut client) = ends(case, socks, script);
        assert_eq!(reason, expected, "{detail}");
        assert_eq!(
            gave_up(&mut client).is_some(),
            is_final,
            "{reason} {detail}"
        );
    }
}

fn a_proxy_that_speaks_nonsense_is_final_and_bounded(case: Case) {
    for (proxy, words, expected) in [
        (http as fn(&Server) -> Proxy, &b"\x05\x00"[..], "close 1002"),
        (http, b"220 mail.test ESMTP\r\n", "close 1002"),
        // A server cannot speak before it was asked, so these bytes are smuggled in.
        (
            http,
            b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching",
            "close 1002",
        ),
        (socks, b"HTTP/1.1 400 Bad Request\r\n\r\n", "close 1002"),
        (socks, &[5, 7], "close 1002"),
    ] {
        let (server, way) = (Server::start(), Server::start());
        let mut client = case.start(options("ws", &server, proxy(&way)));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut socket = way.accept();
                exactly::<4>(&mut socket);
                say(&mut socket, words, 4096);
                read_to_the_end(&mut socket);
            });
            assert_eq!(client.until_disconnected().reason, expected, "{words:?}");
            assert!(gave_up(&mut client).is_some());
        });
    }
    let (server, way) = (Server::start(), Server::start());
    let mut client = case.start(options("ws", &server, http(&way)));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = way.accept();
            read_head(&mut socket);
            let (mut sent, padding) = (0, b"X-Padding: 0123456789\r\n".repeat(50));
            say(&mut socket, b"HTTP/1.1 200 OK\r\n", 4096);
            while socket.write_all(&padding).is_ok() {
                sent += padding.len();
                assert!(
                    sent < 64 << 20,
                    "the client collects headers without bounds"
                );
            }
        });
        assert_eq!(client.until_disconnected().reason, "close 1009");
    });
}

fn a_proxy_that_is_not_there_is_named(case: Case) {
    let server = Server::start();
    let gone = Server::start().port();
    let proxy = Proxy::new(&format!("http://me:SECRET@127.0.0.1:{gone}")).expect("a proxy");
    let mut client = case.start(options("ws", &server, proxy));
    let end = client.until_disconnected();
    assert_eq!(end.reason, "refused");
    let named = format!("the proxy http://…@127.0.0.1:{gone}: ");
    assert!(end.detail.starts_with(&named), "{end:?}");
}

fn no_credentials_are_logged_shown_or_sent_to_the_wrong_one(case: Case) {
    case.alone(|| {
        let lines = Lines::default();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(lines.clone())
            .init();
        let (server, elsewhere, way) = (Server::start(), Server::start(), Server::start());
        let target = Request::new(&format!(
            "ws://server.test:{}/SECRET@SECRET?key=SECRET@SECRET",
            server.port()
        ))
        .and_then(|request| request.header("Authorization", "Bearer SECRET"))
        .and_then(|request| request.header("X-Api-Key", "SECRET"))
        .and_then(|request| request.subprotocol("SECRET"))
        .expect("a request");
        let proxy = Proxy::new(&format!("http://SECRET:SECRET@127.0.0.1:{}", way.port()));
        let options = Options::from_request(target.proxy(proxy.expect("a proxy")))
            .config(Config::from_json(QUICK).expect("a configuration"))
            .max_redirects(1);
        let mut shown = format!("{options:?}");
        let mut client = case.start(options);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Refused by the proxy, refused by the server, redirected, and refused for good.
                let mut socket = way.accept();
                read_head(&mut socket);
                say(
                    &mut socket,
                    b"HTTP/1.1 502 SECRET\r\nX: SECRET\r\n\r\n",
                    4096,
                );
                for answer in [
                    "500 SECRET\r\nSet-Cookie: SECRET\r\n",
                    "302 SECRET\r\nLocation: /SECRET@SECRET?SECRET@SECRET#SECRET@SECRET\r\n",
                ] {
                    let mut socket = way.accept();
                    let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
                    // `SECRET:SECRET`
                    assert!(head.contains("Basic U0VDUkVUOlNFQ1JFVA=="), "{head}");
                    assert!(!head.contains("SECRET"), "{head}");
                    say(&mut socket, b"HTTP/1.1 200 OK\r\n\r\n", 4096);
                    let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
                    assert!(
                        head.contains("X-Api-Key: SECRET") && !head.contains("U0VDUkVU"),
                        "{head}"
                    );
                    say(
                        &mut socket,
                        format!("HTTP/1.1 {answer}\r\n").as_bytes(),
                        4096,
                    );
                }
                let mut socket = way.accept();
                read_head(&mut socket);
                say(&mut socket, b"HTTP/1.1 200 OK\r\n\r\n", 4096);
                carry(socket, &elsewhere);
            });
            scope.spawn(|| {
                let mut socket = elsewhere.accept();
                read_head(&mut socket);
                say(
                    &mut socket,
                    b"HTTP/1.1 403 SECRET\r\nSet-Cookie: SECRET\r\n\r\n",
                    4096,
                );
            });
            while let Some(event) = client.next() {
                shown.push_str(&format!("{event:?}\n"));
            }
        });
        shown.push_str(&lines.text());
        assert!(
            shown.contains("http 502") && shown.contains("http 403"),
            "{shown}"
        );
        assert!(shown.contains("redirected to ws://server.test"), "{shown}");
        for secret in ["SECRET", "U0VDUkVU"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    });
}

/// D13: the proxy asks for Digest, calls the nonce stale once, and then the server behind it asks too.
fn a_proxys_challenge_is_answered_and_then_the_servers(case: Case) {
    use crate::requests::{challenge, digest};
    let (server, way) = (Server::start(), Server::start());
    let authority = format!("server.test:{}", server.port());
    let target = Request::new(&format!("ws://{authority}/")).expect("a URL");
    let (asked, port) = (authority.clone(), way.port());
    // The answered challenges are kept, but each refusal shows only its own.
    let (mut for_proxy, mut for_server) = (None, None);
    let factory = Options::from_factory(move |attempt| {
        let said = |method, uri: &str, header| {
            let refused = attempt.refused.as_ref()?;
            Some(digest(method, uri, refused.header(header)?))
        };
        for_proxy = said("CONNECT", &asked, "proxy-authenticate").or(for_proxy.take());
        for_server = said("GET", "/", "www-authenticate").or(for_server.take());
        let mut proxy = Proxy::new(&format!("http://127.0.0.1:{port}"))?;
        let mut target = target.clone();
        if let Some(said) = &for_proxy {
            proxy = proxy.header("proxy-AUTHORIZATION", said)?;
        }
        if let Some(said) = &for_server {
            target = target.header("Authorization", said)?;
        }
        Ok(target.proxy(proxy))
    });
    let mut client = case.start(factory.config(Config::from_json(QUICK).expect("a configuration")));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut said: Option<String> = None;
            for (nonce, more) in [("one", ""), ("two", ", STALE=\"TRUE\"")] {
                let mut socket = way.accept();
                let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
                assert!(said.is_none_or(|said| head.contains(&said)), "{head}");
                let challenge = challenge(nonce, more);
                let lines =
                    format!("407 Who\r\nProxy-Authenticate: {challenge}\r\nContent-Length: 0");
                say(
                    &mut socket,
                    format!("HTTP/1.1 {lines}\r\n\r\n").as_bytes(),
                    4096,
                );
                let answer = digest("CONNECT", &authority, &challenge);
                said = Some(format!("\r\nproxy-AUTHORIZATION: {answer}\r\n"));
            }
            for answer in ["401 Who", "101 Switching"] {
                let mut socket = way.accept();
                let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
                assert!(
                    head.contains(said.as_deref().expect("a challenge")),
                    "{head}"
                );
                say(&mut socket, b"HTTP/1.1 200 OK\r\n\r\n", 4096);
                if answer.starts_with("401") {
                    read_head(&mut socket);
                    let challenge = challenge("three", "");
                    let lines =
                        format!("401 Who\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0");
                    say(
                        &mut socket,
                        format!("HTTP/1.1 {lines}\r\n\r\n").as_bytes(),
                        4096,
                    );
                } else {
                    carry(socket, &server);
                }
            }
        });
        scope.spawn(|| {
            let mut socket = server.accept();
            let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
            let expected = digest("GET", "/", &challenge("three", ""));
            assert!(
                head.contains(&format!("\r\nAuthorization: {expected}\r\n")),
                "{head}"
            );
            let key = head
                .lines()
                .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            let accept = derive_accept_key(key.expect("a key").as_bytes());
            let words = format!(
                "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            let welcome = frame(TEXT, b"welcome");
            say(&mut socket, &[words.as_bytes(), &welcome].concat(), 4096);
            read_to_the_end(&mut socket);
        });
        let message = client.until(|event| match event {
            Event::Message { message, .. } => Some(message),
            Event::GaveUp { reason, .. } => panic!("{reason}"),
            _ => None,
        });
        assert_eq!(message, "welcome".into());
        drop(client);
    });
}

/// D12 and D13: with its headers, and a body in a segment of its own.
fn what_a_proxy_says_beside_its_refusal_is_told(case: Case) {
    let (server, way) = (Server::start(), Server::start());
    let mut client = case.start(options("ws", &server, http(&way)));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = way.accept();
            read_head(&mut socket);
            say(
                &mut socket,
                b"HTTP/1.1 403 No\r\nX-Cache : a\r\n\tb\r\nContent-Length: 9\r\n\r\n",
                4096,
            );
            thread::sleep(Duration::from_millis(50));
            say(&mut socket, b"not today", 4096);
            read_to_the_end(&mut socket);
        });
        let (detail, response) = client.until(|event| match event {
            Event::Disconnected {
                detail, response, ..
            } => Some((detail.expect("words"), response.expect("an answer"))),
            _ => None,
        });
        assert!(
            detail.ends_with("refuses to open a way: status 403"),
            "{detail}"
        );
        assert!(response.is_from_proxy());
        assert_eq!(
            (response.status(), response.header("x-cache")),
            (403, Some("a b"))
        );
        assert_eq!(response.body(), b"not today");
        drop(client);
    });
}

/// A SOCKS5 proxy that refuses before it has received everything, and hangs up.
fn a_proxy_that_has_spoken_and_gone_is_heard(case: Case) {
    let (reason, detail, _client) = ends(case, socks, |socket| {
        say(socket, &[5, 0xff], 4096);
        // Its receive buffer is empty, so it sends a FIN, and the client's next write causes a reset.
        exactly::<4>(socket);
        let _ = socket.shutdown(Shutdown::Both);
    });
    assert_eq!(reason, "http 407", "{detail}");
}
