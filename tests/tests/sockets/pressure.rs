//! Back-pressure in both directions: an application that takes nothing, and a server that does not read.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use heartbeat_tokio::core::{Class, Dialect};
use heartbeat_tokio::{Event, Message, Unsent};

use crate::harness::{
    BINARY, Case, Client, PING, Server, TEXT, frame, read_to_the_end, write_until_full,
};

cases! {
    everywhere: [
        a_frozen_server_with_a_full_send_path_is_dead_at_idle_timeout,
        a_frozen_server_with_a_full_send_path_is_dead_at_a_shorter_write_timeout,
        a_connection_that_dies_in_a_send_burst_accounts_for_every_message,
        a_ping_during_an_upload_is_answered_between_its_fragments,
        an_endless_row_of_empty_fragments_keeps_neither_a_timeout_nor_a_stop_from_its_time,
    ],
    driven: [
        an_application_that_takes_nothing_for_three_idle_timeouts_loses_nothing,
        a_queue_of_16_holds_what_is_promised_and_no_more,
    ]
}

fn an_application_that_takes_nothing_for_three_idle_timeouts_loses_nothing(case: Case) {
    let server = Server::narrow();
    let config =
        r#"{"idle_timeout": "400ms", "ping": {"every": "100ms"}, "pong_timeout": "300ms"}"#;
    let mut client = case.start(server.options(config).queue(16));
    let (busy, pings) = (AtomicBool::new(true), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let mut writer = ws.get_ref().try_clone().expect("a second handle");
            let busy = &busy;
            scope.spawn(move || {
                for n in 0_u64.. {
                    let mut payload = n.to_be_bytes().to_vec();
                    payload.resize(1024, b'.');
                    writer
                        .write_all(&frame(BINARY, &payload))
                        .expect("the client reads at last");
                    if !busy.load(Ordering::Relaxed) {
                        break;
                    }
                }
                writer
                    .write_all(&frame(BINARY, b""))
                    .expect("the client reads");
            });
            // tungstenite would answer pings itself, between the writer's frames. The client does not read here, so
            // no answer is needed.
            while let Ok(message) = read_frame(ws.get_mut()) {
                if message == 0x9 {
                    pings.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        client.until_connected();
        let before = pings.load(Ordering::Relaxed);
        // The application is busy with other work.
        thread::sleep(Duration::from_millis(1300));
        let meanwhile = pings.load(Ordering::Relaxed) - before;
        assert!(meanwhile >= 3, "{meanwhile} pings went out meanwhile");
        busy.store(false, Ordering::Relaxed);
        for n in 0_u64.. {
            let Message::Binary(bytes) = client.message() else {
                panic!("text?")
            };
            if bytes.is_empty() {
                assert!(n > 16, "it was not kept busy");
                break;
            }
            assert_eq!(bytes[..8], n.to_be_bytes());
        }
        drop(client);
    });
}

/// The server is slow, so only the order on the wire counts. The pong is behind the bytes that the client's
/// kernel and its own buffer held when the pong was made (a fragment each, and some more), and not behind
/// the rest of the upload.
fn a_ping_during_an_upload_is_answered_between_its_fragments(case: Case) {
    let server = Server::narrow();
    let mut client = case.connect(&server, "{}");
    thread::scope(|scope| {
        let (tell, is_answered) = mpsc::channel();
        scope.spawn(|| {
            let mut ws = server.upgrade();
            asks_amid_an_upload(ws.get_mut(), is_answered);
        });
        upload(&mut client, tell);
    });
}

const UPLOAD: usize = 20 << 20;

/// Sends a large message, and reports when a ping has been answered meanwhile.
pub(crate) fn upload(client: &mut Client, tell: mpsc::Sender<()>) {
    client.until_connected();
    let message = client.sender().try_send(vec![7; UPLOAD]);
    message.expect("connected");
    client.until(|event| matches!(event, Event::PongSent { .. }).then_some(()));
    tell.send(()).expect("the server waits for it");
    assert_eq!(client.message(), "done".into());
    assert_eq!(client.stats().messages_sent, 1);
}

/// Pings when 5 MiB of the upload have come, and reads on only when the client has answered.
pub(crate) fn asks_amid_an_upload(stream: &mut (impl Read + Write), answered: mpsc::Receiver<()>) {
    let (mut received, mut behind) = (0, None);
    let mut fragments = 0;
    while received < UPLOAD {
        if received >= 5 << 20 && behind.is_none() {
            stream.write_all(&frame(PING, b"?")).expect("it reads");
            answered.recv().expect("it answers");
            behind = Some(received);
        }
        let (first, len) = skip_frame(stream).expect("it goes on");
        if first == 0x8a {
            let bytes = received - behind.expect("it was asked for");
            // Elsewhere the kernel takes as much as it wants.
            let is_short = cfg!(any(target_os = "linux", target_os = "android"));
            let most = if is_short { 400_000 } else { UPLOAD / 2 };
            assert!(bytes < most, "{bytes} bytes stood before the pong");
            behind = Some(UPLOAD);
        } else {
            let is_last = received + len == UPLOAD;
            let expected = u8::from(is_last) << 7 | if received == 0 { 0x02 } else { 0x00 };
            assert_eq!(first, expected);
            received += len;
            fragments += 1;
        }
    }
    assert_eq!(
        behind,
        Some(UPLOAD),
        "the pong came before the upload's end"
    );
    assert_eq!(fragments, UPLOAD.div_ceil(64 << 10));
    stream.write_all(&frame(TEXT, b"done")).expect("it reads");
}

/// The first byte of the client's next frame, and the length of its payload.
fn skip_frame(stream: &mut impl Read) -> io::Result<(u8, usize)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut long = [0; 8];
    let extended = match head[1] & 0x7f {
        126 => &mut long[6..],
        127 => &mut long[..],
        short => {
            long[7] = short;
            &mut []
        }
    };
    stream.read_exact(extended)?;
    let len = u64::from_be_bytes(long);
    io::copy(&mut stream.take(4 + len), &mut io::sink())?;
    Ok((head[0], usize::try_from(len).expect("it is read")))
}

/// The opcode of the client's next frame.
fn read_frame(socket: &mut impl std::io::Read) -> std::io::Result<u8> {
    let mut head = [0; 6];
    socket.read_exact(&mut head)?;
    // Short frames only: two bytes, a mask, the payload.
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    socket.read_exact(&mut payload)?;
    Ok(head[0] & 0xf)
}

/// Numbered messages at the server. Returns how many are whole.
fn whole_messages(mut bytes: &[u8]) -> u64 {
    let mut expected = 0_u64;
    // FIN and opcode, 126 and the length, the mask, the payload (RFC 6455 §5.2).
    while bytes.len() >= 8 {
        let length = match bytes[1] & 0x7f {
            126 => usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
            short => {
                // A control frame in between.
                bytes = bytes.get(6 + usize::from(short)..).unwrap_or_default();
                continue;
            }
        };
        let Some(payload) = bytes.get(8..8 + length) else {
            break;
        };
        let number: Vec<u8> = payload
            .iter()
            .zip(bytes[4..8].iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .take(8)
            .collect();
        assert_eq!(number, expected.to_be_bytes());
        expected += 1;
        bytes = &bytes[8 + length..];
    }
    expected
}

/// A message of 1000 bytes that contains its number.
fn numbered(number: u64) -> Message {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(1000, b'.');
    payload.into()
}

#[track_caller]
fn assert_accounts(accepted: u64, received: u64, unsent: Unsent) {
    // All bytes that the operating system took arrive, as whole messages and perhaps a part. The messages
    // handed back begin with the first that did not arrive whole.
    let expected: Vec<Message> = (received..accepted).map(numbered).collect();
    assert_eq!(
        unsent.len(),
        expected.len(),
        "{accepted} accepted, {received} received"
    );
    assert!(unsent.into_messages() == expected, "in order");
}

fn frozen(case: Case, config: &str, verdict: &str) {
    let server = Server::narrow();
    let mut client = case.connect(&server, config);
    let sender = client.sender();
    thread::scope(|scope| {
        let (frozen, thaw) = std::sync::mpsc::channel::<()>();
        let server = &server;
        let receiver = scope.spawn(move || {
            let mut ws = server.upgrade();
            // Reads until the client has dropped its end.
            let _ = thaw.recv();
            whole_messages(&read_to_the_end(ws.get_mut()))
        });
        client.until_connected();
        // The application keeps writing, as long as it can.
        let accepted = scope.spawn(move || {
            (0_u64..)
                .take_while(|&number| sender.send(numbered(number)).is_ok())
                .count() as u64
        });
        let end = client.until_disconnected();
        assert_eq!(end.reason, verdict);
        drop(frozen);
        let (accepted, received) = (
            accepted.join().expect("no panic"),
            receiver.join().expect("no panic"),
        );
        assert!(!end.unsent.is_empty(), "the path was full");
        assert_accounts(accepted, received, end.unsent);
    });
}

fn a_frozen_server_with_a_full_send_path_is_dead_at_idle_timeout(case: Case) {
    let config =
        r#"{"idle_timeout": "500ms", "write_timeout": "60s", "ping": {"after_silence": "200ms"}}"#;
    frozen(case, config, "idle_timeout");
}

fn a_frozen_server_with_a_full_send_path_is_dead_at_a_shorter_write_timeout(case: Case) {
    let config =
        r#"{"idle_timeout": "5s", "write_timeout": "400ms", "ping": {"after_silence": "2s"}}"#;
    frozen(case, config, "write_timeout");
}

fn a_connection_that_dies_in_a_send_burst_accounts_for_every_message(case: Case) {
    const MESSAGES: u64 = 700;
    /// A message with its header, length and mask (RFC 6455 §5.2).
    const FRAME: usize = 1008;
    for read in [0, 1, 1007, 50_000, 400_000] {
        let server = Server::narrow();
        let mut client = case.connect(&server, "{}");
        let sender = client.sender();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let mut ws = server.upgrade();
                let mut bytes = vec![0; read];
                std::io::Read::read_exact(ws.get_mut(), &mut bytes).expect("a burst");
                // The connection ends, and bytes on their way still arrive.
                ws.get_ref()
                    .shutdown(Shutdown::Write)
                    .expect("an open socket");
                bytes.extend(read_to_the_end(ws.get_mut()));
                (whole_messages(&bytes), bytes.len() % FRAME != 0)
            });
            client.until_connected();
            let accepted = scope.spawn(move || {
                (0..MESSAGES)
                    .take_while(|&number| sender.send(numbered(number)).is_ok())
                    .count() as u64
            });
            let end = client.until_disconnected();
            assert_eq!(end.reason, "eof");
            let accepted = accepted.join().expect("no panic");
            let (received, in_two) = receiver.join().expect("no panic");
            let cuts: Vec<usize> = (0..)
                .zip(&end.unsent)
                .filter(|(_, returned)| returned.cut)
                .map(|(index, _)| index)
                .collect();
            assert_eq!(
                cuts,
                if in_two { vec![0] } else { vec![] },
                "the one of which a part arrived"
            );
            assert_accounts(accepted, received, end.unsent);
        });
    }
}

/// `01 00`, and then `00 00` without end: there is always more to read, and nothing to report.
fn an_endless_row_of_empty_fragments_keeps_neither_a_timeout_nor_a_stop_from_its_time(case: Case) {
    let server = Server::start();
    let config = r#"{"close_timeout": "300ms", "check_interval": null}"#;
    let mut client = case.connect(&server, config);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = server.upgrade();
            let socket = ws.get_mut();
            let more = [0x00, 0x00].repeat(32 << 10);
            // Writes until the client is gone.
            let _ = socket.write_all(&[0x01, 0x00]);
            while socket.write_all(&more).is_ok() {}
        });
        client.until_connected();
        let begun = std::time::Instant::now();
        client.drive_for(Duration::from_millis(300));
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        let begun = std::time::Instant::now();
        client.stop();
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    });
}

/// Counts what is read: every message is classified once.
struct Counting(Arc<AtomicU64>);

impl Dialect for Counting {
    fn classify_text<'a>(&self, _: &'a str) -> Class<'a> {
        Class::Data
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Class::Data
    }
}

fn a_queue_of_16_holds_what_is_promised_and_no_more(case: Case) {
    const QUEUE: u64 = 16;
    let server = Server::start();
    let taken = Arc::new(AtomicU64::new(0));
    let options = server.options("{}").queue(QUEUE as usize);
    let mut client = case.start(options.dialect(Counting(Arc::clone(&taken))));
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.upgrade());
        client.until_connected();
        let mut ws = upgrade.join().expect("no panic");
        let short = Some(Duration::from_millis(100));
        ws.get_ref().set_write_timeout(short).expect("a timeout");
        // The application takes nothing. The server can write until all buffers of the system are full.
        let written = write_until_full(ws.get_mut(), &frame(BINARY, &[0; 100_000]).repeat(400));
        assert!(
            written > 17 * 100_000,
            "the system holds more than the queue"
        );
        assert_eq!(taken.load(Ordering::Relaxed), QUEUE, "messages were taken");
        // The application takes the first waiting message, and all others with it.
        client.message();
        for _ in 1..QUEUE {
            client.message();
        }
        client.message();
        assert!(taken.load(Ordering::Relaxed) <= 3 * QUEUE);
    });
}
