//! What an end means for the next dial: an endpoint that was once stable is retried, the client gives up
//! only when fresh credentials were refused, and each endpoint has its own record.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use heartbeat_tests::frames::CLOSE;
use heartbeat_tests::lines::Lines;
use heartbeat_tokio::core::{Cause, Config, Description, GiveUp};
use heartbeat_tokio::{Event, Options, Request, RequestError};
use rustls::{ServerConfig, ServerConnection};
use tungstenite::Message as Frame;

use crate::garbage::read_head;
use crate::harness::{Case, Client, Server, TEXT, frame, hang_up, read_to_the_end};
use crate::tls::{self, Authority};

cases! {
    everywhere: [
        fresh_credentials_stay_asked_for_until_a_server_has_judged_some,
        an_accepted_dial_ends_the_row_of_refused_credentials,
        fresh_credentials_that_are_refused_are_given_up,
        a_fixed_url_that_is_closed_with_1008_comes_back_each_time,
        one_bad_moment_after_a_stable_connection_is_waited_for,
        one_bad_moment_of_tls_after_a_stable_connection_is_waited_for,
        a_bad_moment_that_is_waited_for_is_a_warning_that_names_it,
        a_bad_moment_before_any_stable_connection_is_given_up_at_once,
        a_bad_moment_of_tls_before_any_stable_connection_is_given_up_at_once,
        permanent_errors_are_believed_or_not_as_the_setting_says,
        corruption_of_an_open_connection_is_backoff_whoever_it_is,
        corruption_under_tls_is_backoff_whoever_it_is,
        an_endpoint_that_is_hopeless_keeps_nobody_from_the_next_one,
        an_endpoint_that_is_hopeless_is_not_dialled_again_while_another_is_well,
        a_client_gives_up_when_all_of_its_endpoints_are_hopeless,
        a_status_means_what_the_service_says_unless_the_answer_or_the_configuration_says_more,
    ]
}

const QUICK: &str =
    r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}, "stable_after": "100ms"}"#;

/// Longer than `stable_after`.
const STABLE: Duration = Duration::from_millis(250);

fn config(json: &str) -> Config {
    Config::from_json(json).expect("a configuration")
}

/// `QUICK`, with `permanent_errors`.
fn believing(policy: &str) -> String {
    QUICK.replacen('{', &format!(r#"{{"permanent_errors": "{policy}", "#), 1)
}

/// Answers an upgrade request with this status. Returns the request's head.
fn refuse(server: &Server, status: &str) -> String {
    let mut socket = server.accept();
    let head = String::from_utf8(read_head(&mut socket)).expect("ASCII");
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    socket
        .write_all(answer.as_bytes())
        .expect("the client reads");
    head
}

/// Holds a connection until it is stable, and then hangs up.
fn serve_well(server: &Server) {
    let ws = server.upgrade();
    thread::sleep(STABLE);
    hang_up(ws.get_ref());
}

fn say_again(server: &Server) {
    let mut ws = server.upgrade();
    ws.send(Frame::text("again")).expect("the client reads");
    // Reads until the client leaves.
    while ws.read().is_ok() {}
}

/// The reason for the end of each connection or dial, until the message of the last one.
#[track_caller]
fn ends_until_again(client: &mut Client) -> Vec<String> {
    let mut ends = Vec::new();
    let message = client.until(|event| match event {
        Event::Disconnected { reason, .. } => {
            ends.push(reason.to_string());
            None
        }
        Event::GaveUp { reason, .. } => panic!("{reason} after {ends:?}"),
        Event::Message { message, .. } => Some(message),
        _ => None,
    });
    assert_eq!(message, "again".into());
    ends
}

/// The reason for giving up, and how many dials began before.
#[track_caller]
fn given_up(client: &mut Client) -> (GiveUp, usize) {
    let mut dials = 0;
    let reason = client.until(|event| match event {
        Event::GaveUp { reason, .. } => Some(reason),
        Event::Connecting { .. } => {
            dials += 1;
            None
        }
        _ => None,
    });
    (reason, dials)
}

/// For this service 418 is final, 503 means a pause of two seconds, and 404 means nothing.
const SERVICE: &str =
    r#"{"http_statuses": {"418": "never", "503": {"after": "2s"}, "404": "backoff"}}"#;

fn a_status_means_what_the_service_says_unless_the_answer_or_the_configuration_says_more(
    case: Case,
) {
    let server = Server::start();
    let service = Description::from_json(SERVICE).expect("a description");
    let start = |json: &str| case.start(server.options(json).of_service(service.clone()));
    let delay = |client: &mut Client| {
        client.until(|event| match event {
            Event::Reconnect { delay, .. } => Some(delay),
            Event::GaveUp { reason, .. } => panic!("{reason}"),
            _ => None,
        })
    };
    let teapot = "418 I'm a teapot";
    thread::scope(|scope| {
        scope.spawn(|| {
            for status in [
                "404 Not Found",
                "503 Service Unavailable",
                "503 Service Unavailable\r\nRetry-After: 1",
                teapot,
            ] {
                refuse(&server, status);
            }
        });
        let mut client = start(QUICK);
        assert_eq!(delay(&mut client), Duration::from_millis(50));
        assert_eq!(delay(&mut client), Duration::from_secs(2));
        assert_eq!(delay(&mut client), Duration::from_secs(1));
        let end = GiveUp::Cause(Cause::Http {
            status: 418,
            retry_after: None,
        });
        assert_eq!(given_up(&mut client).0, end);
    });
    thread::scope(|scope| {
        scope.spawn(|| refuse(&server, teapot));
        let causes = r#"{"causes": {"http 418": "backoff"}, "#;
        let mut client = start(&QUICK.replacen('{', causes, 1));
        assert_eq!(delay(&mut client), Duration::from_millis(50));
    });
}

/// For each dial, whether the factory was told to refresh.
type Told = Arc<Mutex<Vec<bool>>>;

/// A factory that fails on these dials, and records what it is told.
fn factory(server: &Server, fails: &'static [u32]) -> (Options, Told) {
    let target = Request::new(&format!("ws://127.0.0.1:{}/", server.port())).expect("a URL");
    let told = Told::default();
    let notes = Arc::clone(&told);
    let mut tokens = 0;
    let options = Options::from_factory(move |attempt| {
        let mut notes = notes.lock().expect("no panic");
        let dial = u32::try_from(notes.len()).expect("few");
        notes.push(attempt.refresh);
        tokens += u32::from(attempt.refresh);
        if fails.contains(&dial) {
            return Err(RequestError::failed(Cause::Io, "the token server is down"));
        }
        target
            .clone()
            .header("Authorization", &format!("token {tokens}"))
    });
    (options.config(config(QUICK)), told)
}

#[track_caller]
fn assert_told(told: &Told, expected: &[bool]) {
    assert_eq!(*told.lock().expect("no panic"), expected);
}

/// R3: a factory that fails does not count as a judgement of credentials, nor does a dial that is cut off.
fn fresh_credentials_stay_asked_for_until_a_server_has_judged_some(case: Case) {
    let server = Server::start();
    let (options, told) = factory(&server, &[1]);
    let mut client = case.start(options);
    thread::scope(|scope| {
        scope.spawn(|| {
            refuse(&server, "401 Unauthorized");
            // The factory fails. Then the dial is cut off before an answer. Then the answer is not the server's own.
            drop(server.accept());
            refuse(&server, "503 Service Unavailable");
            say_again(&server);
        });
        let ends = ends_until_again(&mut client);
        assert_eq!(ends[..2], ["http 401", "io"]);
        assert_eq!(ends[3], "http 503");
        drop(client);
    });
    assert_told(&told, &[false, true, true, true, true]);
}

/// R4: the token is good for one connection, and a restart of the server asks for the next one.
fn an_accepted_dial_ends_the_row_of_refused_credentials(case: Case) {
    let server = Server::start();
    let (options, told) = factory(&server, &[]);
    let mut client = case.start(options);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                refuse(&server, "401 Unauthorized");
                // Accepted, and gone before it could count as stable.
                hang_up(server.upgrade().get_ref());
            }
            refuse(&server, "401 Unauthorized");
            say_again(&server);
        });
        ends_until_again(&mut client);
        drop(client);
    });
    assert_told(&told, &[false, true, false, true, false, true, false, true]);
}

fn fresh_credentials_that_are_refused_are_given_up(case: Case) {
    let server = Server::start();
    let (options, told) = factory(&server, &[]);
    let mut client = case.start(options);
    thread::scope(|scope| {
        scope.spawn(|| {
            refuse(&server, "401 Unauthorized");
            refuse(&server, "401 Unauthorized");
        });
        let (reason, dials) = given_up(&mut client);
        assert!(matches!(reason, GiveUp::Credentials(_)), "{reason}");
        assert_eq!(dials, 2);
    });
    assert_told(&told, &[false, true]);
}

/// R5: 1008 also means "too many requests", and there is nothing to refresh.
fn a_fixed_url_that_is_closed_with_1008_comes_back_each_time(case: Case) {
    const TIMES: usize = 5;
    let server = Server::start();
    let url = format!("ws://127.0.0.1:{}/", server.port());
    let fixed = [
        Options::new(&url).expect("a URL"),
        Options::endpoints([url.as_str(), url.as_str()]).expect("URLs"),
    ];
    for options in fixed {
        let mut client = case.start(options.config(config(QUICK)));
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..TIMES {
                    close(&server, 1008);
                }
                say_again(&server);
            });
            assert_eq!(ends_until_again(&mut client), ["close 1008"; TIMES]);
            drop(client);
        });
    }
}

fn close(server: &Server, code: u16) {
    let mut ws = server.upgrade();
    let close = frame(CLOSE, &code.to_be_bytes());
    ws.get_mut().write_all(&close).expect("the client reads");
    // Its answer.
    let _ = ws.read();
}

/// R7: errors that look permanent and are over at the next dial.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Answer(&'static str, &'static str),
    Close(u16),
}

const MOMENTS: [Moment; 14] = [
    Moment::Answer(
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "http 404",
    ),
    Moment::Answer(
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "http 403",
    ),
    Moment::Answer(
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        "http 400",
    ),
    Moment::Answer("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", "http 410"),
    Moment::Answer(
        "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
        "http 426",
    ),
    Moment::Answer(
        "HTTP/1.1 301 Moved Permanently\r\nLocation: http://login.invalid/\r\nContent-Length: 0\r\n\r\n",
        "http 301",
    ),
    Moment::Answer(
        "HTTP/1.1 308 Permanent Redirect\r\nLocation: http://login.invalid/\r\nContent-Length: 0\r\n\r\n",
        "http 308",
    ),
    Moment::Answer("SSH-2.0-OpenSSH_9.9\r\n\r\n", "close 1002"),
    Moment::Answer(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        "close 1002",
    ),
    Moment::Close(1002),
    Moment::Close(1003),
    Moment::Close(1007),
    Moment::Close(1009),
    Moment::Close(1010),
];

impl Moment {
    fn reason(self) -> String {
        match self {
            Self::Answer(_, reason) => reason.to_owned(),
            Self::Close(code) => format!("close {code}"),
        }
    }

    fn play(self, server: &Server) {
        match self {
            Self::Answer(answer, _) => {
                let mut socket = server.accept();
                read_head(&mut socket);
                socket
                    .write_all(answer.as_bytes())
                    .expect("the client reads");
            }
            Self::Close(code) => close(server, code),
        }
    }
}

fn one_bad_moment_after_a_stable_connection_is_waited_for(case: Case) {
    let server = Server::start();
    let mut client = case.connect(&server, QUICK);
    thread::scope(|scope| {
        scope.spawn(|| {
            serve_well(&server);
            for moment in MOMENTS {
                moment.play(&server);
            }
            say_again(&server);
        });
        let mut expected = vec!["eof".to_owned()];
        expected.extend(MOMENTS.map(Moment::reason));
        assert_eq!(ends_until_again(&mut client), expected);
        drop(client);
    });
}

/// A handshake that fails in one way or another: its name, and a part of its detail.
struct BadTls(&'static str, Option<Arc<ServerConfig>>, &'static str);

fn bad_tls(ours: &Authority) -> [BadTls; 5] {
    let theirs = Authority::new("theirs");
    [
        BadTls(
            "unknown authority",
            Some(theirs.server("127.0.0.1", 4000)),
            "UnknownIssuer",
        ),
        BadTls("expired", Some(ours.server("127.0.0.1", 2020)), "expired"),
        BadTls(
            "another's name",
            Some(ours.server("127.0.0.2", 4000)),
            "not valid for name",
        ),
        BadTls(
            "plain HTTP",
            None,
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        ),
        // A fatal alert: internal_error (RFC 8446 §6).
        BadTls("an alert", None, "\x15\x03\x03\x00\x02\x02\x50"),
    ]
}

impl BadTls {
    fn play(&self, server: &Server) {
        let mut socket = server.accept();
        match &self.1 {
            Some(config) => {
                let mut session = ServerConnection::new(Arc::clone(config)).expect("a session");
                while session.is_handshaking() && session.complete_io(&mut socket).is_ok() {}
            }
            None => {
                // Reads the greeting, so that no RST overtakes the answer.
                greeting(&mut socket);
                socket
                    .write_all(self.2.as_bytes())
                    .expect("the client reads");
            }
        }
        read_to_the_end(&mut socket);
    }
}

/// The first TLS record.
fn greeting(socket: &mut TcpStream) {
    let mut head = [0; 5];
    socket.read_exact(&mut head).expect("a greeting");
    let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    socket.read_exact(&mut record).expect("a greeting");
}

fn one_bad_moment_of_tls_after_a_stable_connection_is_waited_for(case: Case) {
    let (server, ours) = (Server::start(), Authority::new("ours"));
    let mut client = case.start(tls::options(&server, "127.0.0.1", QUICK, ours.trusted()));
    let good = ours.server("127.0.0.1", 4000);
    thread::scope(|scope| {
        scope.spawn(|| {
            let ws = tls::upgrade(&server, Arc::clone(&good));
            thread::sleep(STABLE);
            hang_up(&ws.get_ref().sock);
            for bad in bad_tls(&ours) {
                bad.play(&server);
            }
            let mut ws = tls::upgrade(&server, Arc::clone(&good));
            ws.send(Frame::text("again")).expect("the client reads");
            while ws.read().is_ok() {}
        });
        let ends = ends_until_again(&mut client);
        assert_eq!(ends[1..], ["tls"; 5], "{}", ends[0]);
        drop(client);
    });
}

fn a_bad_moment_that_is_waited_for_is_a_warning_that_names_it(case: Case) {
    // The client has threads, so one subscriber serves the whole process.
    case.alone(|| {
        let lines = Lines::of_warnings();
        let server = Server::start();
        let mut client = case.connect(&server, QUICK);
        thread::scope(|scope| {
            scope.spawn(|| {
                serve_well(&server);
                refuse(&server, "404 Not Found");
                close(&server, 1003);
                refuse(&server, "503 Service Unavailable");
                say_again(&server);
            });
            ends_until_again(&mut client);
            drop(client);
        });
        let text = lines.text();
        let told = text.lines().filter(|line| line.contains("not believed"));
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), 2, "{text}");
        for (line, cause) in told.iter().zip(["http 404", "close 1003"]) {
            assert!(line.contains("WARN"), "{line}");
            let words = format!("{cause} is a permanent error");
            assert!(line.contains(&words), "{line}");
        }
    });
}

fn a_bad_moment_before_any_stable_connection_is_given_up_at_once(case: Case) {
    for moment in MOMENTS {
        let server = Server::start();
        let mut client = case.connect(&server, QUICK);
        thread::scope(|scope| {
            scope.spawn(|| moment.play(&server));
            let (reason, dials) = given_up(&mut client);
            assert!(
                matches!(reason, GiveUp::Cause(cause) if cause.to_string() == moment.reason()),
                "{moment:?}: {reason}"
            );
            assert_eq!(dials, 1, "{moment:?}");
        });
    }
    // A connection that ended before `stable_after` proves nothing.
    let server = Server::start();
    let mut client = case.connect(&server, &QUICK.replace("100ms", "60s"));
    thread::scope(|scope| {
        scope.spawn(|| {
            serve_well(&server);
            refuse(&server, "404 Not Found");
        });
        assert_eq!(given_up(&mut client).1, 2);
    });
}

fn a_bad_moment_of_tls_before_any_stable_connection_is_given_up_at_once(case: Case) {
    let ours = Authority::new("ours");
    for bad in bad_tls(&ours) {
        let server = Server::start();
        let mut client = case.start(tls::options(&server, "127.0.0.1", QUICK, ours.trusted()));
        thread::scope(|scope| {
            scope.spawn(|| bad.play(&server));
            let end = client.until_disconnected();
            assert_eq!(end.reason, "tls", "{}: {}", bad.0, end.detail);
            if bad.1.is_some() {
                assert!(end.detail.contains(bad.2), "{}: {}", bad.0, end.detail);
            }
            assert_eq!(
                given_up(&mut client).0,
                GiveUp::Cause(Cause::Tls),
                "{}",
                bad.0
            );
            drop(client);
        });
    }
}

fn permanent_errors_are_believed_or_not_as_the_setting_says(case: Case) {
    // At once, although the endpoint was stable.
    for moment in [MOMENTS[0], Moment::Close(1002)] {
        let server = Server::start();
        let mut client = case.connect(&server, &believing("give_up"));
        thread::scope(|scope| {
            scope.spawn(|| {
                serve_well(&server);
                moment.play(&server);
            });
            assert_eq!(given_up(&mut client).1, 2, "{moment:?}");
        });
    }
    // Never, although the endpoint was never stable.
    let server = Server::start();
    let mut client = case.connect(&server, &believing("retry"));
    thread::scope(|scope| {
        scope.spawn(|| {
            for moment in MOMENTS {
                moment.play(&server);
            }
            say_again(&server);
        });
        assert_eq!(ends_until_again(&mut client), MOMENTS.map(Moment::reason));
        drop(client);
    });
}

/// A bad frame, and text that is not UTF-8: for an endpoint that was never stable, too.
fn corruption_of_an_open_connection_is_backoff_whoever_it_is(case: Case) {
    let bad = [frame(0xf1, b"x"), frame(TEXT, &[0xff]), frame(0x09, b"x")];
    for policy in ["give_up", "give_up_unless_stable", "retry"] {
        let server = Server::start();
        let mut client = case.connect(&server, &believing(policy));
        thread::scope(|scope| {
            scope.spawn(|| {
                for bytes in &bad {
                    let mut ws = server.upgrade();
                    ws.get_mut().write_all(bytes).expect("the client reads");
                    // Its Close.
                    let _ = ws.read();
                }
                say_again(&server);
            });
            assert_eq!(ends_until_again(&mut client).len(), 3, "{policy}");
            drop(client);
        });
    }
}

/// A record that cannot be decrypted, a record of no known type, plain HTTP, and an alert.
fn corruption_under_tls_is_backoff_whoever_it_is(case: Case) {
    let bad: [&[u8]; 4] = [
        b"\x17\x03\x03\x00\x20 this was never encrypted by us. ",
        b"\x63\x03\x03\x00\x01x",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x14",
    ];
    let ours = Authority::new("ours");
    let good = ours.server("127.0.0.1", 4000);
    for policy in ["give_up", "give_up_unless_stable"] {
        let server = Server::start();
        let believing = believing(policy);
        let mut client = case.start(tls::options(
            &server,
            "127.0.0.1",
            &believing,
            ours.trusted(),
        ));
        thread::scope(|scope| {
            scope.spawn(|| {
                for bytes in bad {
                    let mut ws = tls::upgrade(&server, Arc::clone(&good));
                    // Messages that came before it are delivered, even if one read brought both.
                    ws.send(Frame::text("before")).expect("the client reads");
                    let socket = &mut ws.get_mut().sock;
                    socket.write_all(bytes).expect("the client reads");
                    read_to_the_end(socket);
                }
                let mut ws = tls::upgrade(&server, Arc::clone(&good));
                ws.send(Frame::text("again")).expect("the client reads");
                while ws.read().is_ok() {}
            });
            for _ in bad {
                assert_eq!(client.message(), "before".into(), "{policy}");
                assert_eq!(client.until_disconnected().reason, "tls", "{policy}");
            }
            assert_eq!(ends_until_again(&mut client).len(), 0, "{policy}");
            drop(client);
        });
    }
}

fn endpoints(servers: &[&Server], json: &str) -> Options {
    let url = |server: &&Server| format!("ws://127.0.0.1:{}/", server.port());
    let urls: Vec<_> = servers.iter().map(url).collect();
    let options = Options::endpoints(urls.iter().map(String::as_str)).expect("URLs");
    options.config(config(json))
}

/// R8, in both orders.
fn an_endpoint_that_is_hopeless_keeps_nobody_from_the_next_one(case: Case) {
    let (bad, good) = (Server::start(), Server::start());
    for order in [[&bad, &good], [&good, &bad]] {
        let mut client = case.start(endpoints(&order, QUICK));
        thread::scope(|scope| {
            scope.spawn(|| {
                refuse(&bad, "404 Not Found");
            });
            scope.spawn(|| {
                if std::ptr::eq(order[0], &good) {
                    // Too short to count as stable.
                    hang_up(good.upgrade().get_ref());
                }
                say_again(&good);
            });
            let ends = ends_until_again(&mut client);
            assert_eq!(ends.last().map(String::as_str), Some("http 404"));
            drop(client);
        });
    }
}

fn an_endpoint_that_is_hopeless_is_not_dialled_again_while_another_is_well(case: Case) {
    let (bad, good) = (Server::start(), Server::start());
    let mut client = case.start(endpoints(&[&bad, &good], QUICK));
    thread::scope(|scope| {
        scope.spawn(|| {
            refuse(&bad, "404 Not Found");
            for _ in 0..4 {
                hang_up(good.upgrade().get_ref());
            }
            // A bad moment of the only one left is final: it has never been stable.
            refuse(&good, "403 Forbidden");
        });
        let (reason, dials) = given_up(&mut client);
        assert_eq!((reason.to_string().contains("403"), dials), (true, 6));
    });
}

fn a_client_gives_up_when_all_of_its_endpoints_are_hopeless(case: Case) {
    let servers = [Server::start(), Server::start(), Server::start()];
    let mut client = case.start(endpoints(&[&servers[0], &servers[1], &servers[2]], QUICK));
    thread::scope(|scope| {
        scope.spawn(|| {
            for server in &servers {
                refuse(server, "404 Not Found");
            }
        });
        assert_eq!(given_up(&mut client).1, 3);
    });
    // One of them was stable once, so only the other is ruled out.
    let servers = [Server::start(), Server::start()];
    let mut client = case.start(endpoints(&[&servers[0], &servers[1]], QUICK));
    thread::scope(|scope| {
        scope.spawn(|| {
            serve_well(&servers[0]);
            refuse(&servers[1], "404 Not Found");
            refuse(&servers[0], "404 Not Found");
            refuse(&servers[0], "404 Not Found");
            say_again(&servers[0]);
        });
        assert_eq!(ends_until_again(&mut client).len(), 4);
        drop(client);
    });
}
