//! The torture course's relay works as described, exact to the byte, also with our clients behind it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tests::torture::relay::{self, Fault};
use heartbeat_tests::torture::{OnTls, Times, TortureServer};
use heartbeat_tokio::Options;
use heartbeat_tokio::core::Config;

use crate::harness::{Case, PATIENCE};

cases! {
    everywhere: [
        a_path_that_freezes_is_dead_at_the_bound_and_dialled_again,
        a_path_that_trickles_is_life,
    ]
}

/// Both ends of a connection through the relay: the client's, and the server's.
fn through(fault: Fault) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let server = listener.local_addr().expect("it is bound");
    let relay = relay::start(0, server, fault).expect("a port");
    let client = TcpStream::connect(relay).expect("the relay accepts");
    let (server, _) = listener.accept().expect("the relay dials");
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    }
    (client, server)
}

fn read(mut socket: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

/// The next event of the stream: its end, or an error.
fn rest(mut socket: &TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    let end = socket.read_to_end(&mut bytes);
    end.map(|_| bytes).map_err(|error| error.kind())
}

#[test]
fn without_a_fault_bytes_and_ends_pass_both_ways() {
    let (mut client, mut server) = through(Fault::None);
    client.write_all(b"hello").expect("open");
    assert_eq!(read(&server, 5), b"hello");
    server.write_all(&[7; 100_000]).expect("open");
    assert_eq!(read(&client, 100_000), [7; 100_000]);
    client.shutdown(Shutdown::Write).expect("open");
    assert_eq!(rest(&server), Ok(Vec::new()));
}

#[test]
fn a_cut_comes_after_its_byte_on_both_sides() {
    let (client, mut server) = through(Fault::Cut(10));
    server.write_all(&[7; 1000]).expect("open");
    assert_eq!(rest(&client), Ok(vec![7; 10]));
    // Unread bytes at the close turn the end into a reset.
    assert!(matches!(
        rest(&server),
        Ok(_) | Err(ErrorKind::ConnectionReset)
    ));
}

#[test]
fn a_reset_comes_after_its_byte_on_both_sides() {
    let (client, mut server) = through(Fault::Reset(10));
    server.write_all(&[7; 10]).expect("open");
    assert_eq!(read(&client, 10), [7; 10]);
    assert_eq!(rest(&client), Err(ErrorKind::ConnectionReset));
    assert_eq!(rest(&server), Err(ErrorKind::ConnectionReset));
}

#[test]
fn frozen_means_that_nothing_passes_and_nothing_closes() {
    let (mut client, mut server) = through(Fault::Freeze(10));
    server.write_all(&[7; 1000]).expect("open");
    assert_eq!(read(&client, 10), [7; 10]);
    // The relay has stopped by the time when the first of these should pass.
    thread::sleep(Duration::from_millis(200));
    client.write_all(b"is anybody there?").expect("open");
    for socket in [&client, &server] {
        let span = Some(Duration::from_millis(300));
        socket.set_read_timeout(span).expect("a socket");
        assert_eq!(rest(socket), Err(ErrorKind::WouldBlock));
    }
}

#[test]
fn a_trickle_keeps_to_its_rate() {
    let (client, mut server) = through(Fault::Trickle(1000));
    let begun = Instant::now();
    server.write_all(&[7; 500]).expect("open");
    assert_eq!(read(&client, 500), [7; 500]);
    // Five pieces of a tenth each, with four pauses between them.
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

#[test]
fn a_drop_after_the_upgrade_lets_its_head_pass_and_nothing_more() {
    let (client, mut server) = through(Fault::DropAfterUpgrade);
    let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    server.write_all(head).expect("open");
    // The relay may be gone by now.
    let _ = server.write_all(b"a first frame");
    assert!(matches!(
        rest(&client),
        Ok(bytes) if bytes == head
    ));
}

#[test]
fn faults_are_read_from_text_and_others_are_refused() {
    for (text, fault) in [
        ("none", Fault::None),
        ("freeze=0", Fault::Freeze(0)),
        ("trickle=9", Fault::Trickle(9)),
        ("cut=9", Fault::Cut(9)),
        ("reset=9", Fault::Reset(9)),
        ("drop-after-upgrade", Fault::DropAfterUpgrade),
    ] {
        assert_eq!(text.parse(), Ok(fault));
    }
    for text in ["", "freeze", "trickle=0", "cut=-1", "none=1", "thaw=3"] {
        let error = text.parse::<Fault>().expect_err("no fault");
        assert!(error.contains(&format!("`{text}`")), "{error}");
    }
}

const CONFIG: &str = r#"{"idle_timeout": "1s", "ping": {"after_silence": "400ms"}, "pong_timeout": "600ms",
    "connect_timeout": "10s", "backoff": {"base": "100ms", "cap": "400ms"}}"#;

/// A client behind a relay of the torture server.
fn behind(case: Case, mode: &str, fault: Fault) -> (TortureServer, crate::harness::Client) {
    let times = Times {
        ping: Duration::from_millis(400),
        death: Duration::from_secs(1),
        connect: Duration::from_secs(10),
    };
    let server = TortureServer::start((Ipv4Addr::LOCALHOST, 0), times, OnTls::Stall);
    let server = server.expect("a port");
    let relay = relay::start(0, server.address(), fault).expect("a port");
    let options = Options::new(&format!("ws://{relay}/@x/{mode}")).expect("a URL");
    let client = case.start(options.config(Config::from_json(CONFIG).expect("a configuration")));
    (server, client)
}

fn a_path_that_freezes_is_dead_at_the_bound_and_dialled_again(case: Case) {
    // The head of the upgrade and some of the messages pass.
    let (_server, mut client) = behind(case, "t7", Fault::Freeze(300));
    client.until_connected();
    let opened = Instant::now();
    let end = client.until_disconnected();
    assert!(
        ["idle_timeout", "pong_timeout"].contains(&end.reason.as_str()),
        "{end:?}"
    );
    assert!(opened.elapsed() >= Duration::from_millis(900));
    client.until_connected();
}

fn a_path_that_trickles_is_life(case: Case) {
    // A thirtieth of the bytes that `t6` sends in this time, so a message takes longer than any timeout.
    let (server, mut client) = behind(case, "t6", Fault::Trickle(400));
    client.until_connected();
    let message = client.message();
    assert!(message.as_text().is_some(), "{message:?}");
    assert_eq!(server.report("x")["connects"], 1);
}
