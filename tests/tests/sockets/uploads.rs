//! An upload to a server that reads slowly: the connection is alive while bytes move, and dead once they
//! stop, plain and under TLS.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tests::frames::PONG;
use heartbeat_tokio::core::Config;
use heartbeat_tokio::{Message, Options};
use rustls::{ClientConfig, ServerConfig};

use crate::harness::{Case, PING, Server, TEXT, frame};
use crate::tls;

cases! {
    everywhere: [
        an_upload_that_moves_is_alive_arrives_whole_and_once,
        an_upload_that_moves_under_tls_is_alive_arrives_whole_and_once,
        an_upload_that_stops_moving_is_dead_and_comes_back_cut,
        an_upload_that_stops_moving_under_tls_is_dead_and_comes_back_cut,
        a_verdict_comes_its_time_after_the_last_byte_that_moved,
        a_verdict_comes_its_time_after_the_last_byte_that_moved_under_tls,
        an_upload_of_many_small_messages_that_moves_is_alive,
        an_upload_that_moves_needs_no_word_of_the_peers,
        an_upload_through_a_narrow_window_is_alive,
    ]
}

/// Every time is shorter than the upload takes.
const CONFIG: &str = r#"{"idle_timeout": "2s", "ping": {"after_silence": "400ms"}, "pong_timeout": "1600ms",
    "write_timeout": "5s", "backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;
const IDLE: Duration = Duration::from_secs(2);

/// The message: six seconds at the server's pace.
const UPLOAD: usize = 1_800_000;
/// Bytes that the server reads in `STEP`: 300 kB/s.
const PACE: usize = 6_000;
const STEP: Duration = Duration::from_millis(20);

/// The time that a busy machine may add.
const SLACK: Duration = Duration::from_secs(5);

/// A server with small buffers, and how to reach it.
struct Scene {
    server: Server,
    tls: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Scene {
    fn new(under_tls: bool) -> Self {
        Self {
            server: Server::narrow(),
            tls: under_tls.then(|| tls::for_name("127.0.0.1")),
        }
    }

    fn options(&self) -> Options {
        self.options_with(CONFIG)
    }

    fn options_with(&self, config: &str) -> Options {
        let Some((_, tls)) = &self.tls else {
            return self.server.options(config);
        };
        Options::new(&format!("wss://127.0.0.1:{}/", self.server.port()))
            .expect("a URL")
            .config(Config::from_json(config).expect("a configuration"))
            .tls(Arc::clone(tls))
    }

    fn upgrade(&self) -> Box<dyn Stream> {
        match &self.tls {
            None => Box::new(self.server.upgrade().into_inner()),
            Some((tls, _)) => Box::new(tls::upgrade(&self.server, Arc::clone(tls)).into_inner()),
        }
    }
}

/// Reads no faster than the pace.
struct Slow<'a> {
    stream: &'a mut dyn Stream,
    begun: Instant,
    read: usize,
}

impl<'a> Slow<'a> {
    fn new(stream: &'a mut dyn Stream) -> Self {
        Self {
            stream,
            begun: Instant::now(),
            read: 0,
        }
    }
}

impl Read for Slow<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let due = self.begun + STEP * u32::try_from(self.read / PACE).expect("a short test");
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let room = (PACE - self.read % PACE).min(bytes.len());
        let count = self.stream.read(&mut bytes[..room])?;
        self.read += count;
        Ok(count)
    }
}

/// A frame of the client: its first byte, and its payload unmasked.
fn read_frame(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut long = [0; 8];
    match head[1] & 0x7f {
        126 => stream.read_exact(&mut long[6..])?,
        127 => stream.read_exact(&mut long)?,
        short => long[7] = short,
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask)?;
    let mut payload = vec![0; usize::try_from(u64::from_be_bytes(long)).expect("short")];
    stream.read_exact(&mut payload)?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((head[0], payload))
}

/// No two pieces of it are equal.
fn pattern(len: usize) -> Vec<u8> {
    let words = (0_u32..).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_be_bytes());
    words.take(len).collect()
}

/// Reads data until it has this many bytes. Answers pings when it gets to them, if it answers any.
fn read_slowly(stream: &mut dyn Stream, len: usize, answers: bool) -> Vec<u8> {
    let mut slow = Slow::new(stream);
    let mut data = Vec::new();
    while data.len() < len {
        let (first, payload) = read_frame(&mut slow).expect("the client goes on");
        match first & 0xf {
            9 if answers => slow
                .stream
                .write_all(&frame(PONG, &payload))
                .expect("the client reads"),
            9 => {}
            0..=2 => data.extend(payload),
            opcode => panic!("opcode {opcode} after {} bytes", data.len()),
        }
    }
    data
}

/// In one frame, so that a ping waits behind all of it.
fn moves(case: Case, under_tls: bool) {
    let scene = Scene::new(under_tls);
    let mut client = case.start(scene.options().fragment_size(None));
    thread::scope(|scope| {
        let scene = &scene;
        scope.spawn(move || {
            let mut stream = scene.upgrade();
            let begun = Instant::now();
            assert!(read_slowly(&mut *stream, UPLOAD, true) == pattern(UPLOAD));
            assert!(begun.elapsed() > IDLE * 2, "it was no slow upload");
            // Once: the next message follows.
            stream.write_all(&frame(TEXT, b"done")).expect("it reads");
            assert_eq!(next_data(&mut *stream), b"thanks");
            stream.write_all(&frame(TEXT, b"bye")).expect("it reads");
        });
        client.until_connected();
        let sender = client.sender();
        sender.try_send(pattern(UPLOAD)).expect("connected");
        assert_eq!(client.message(), "done".into());
        sender.try_send("thanks").expect("connected");
        assert_eq!(client.message(), "bye".into());
        assert_eq!(client.stats().messages_sent, 2);
    });
}

/// The next message of the client. Pings are answered.
fn next_data(mut stream: &mut dyn Stream) -> Vec<u8> {
    loop {
        let (first, payload) = read_frame(&mut stream).expect("the client goes on");
        if first == PING {
            stream
                .write_all(&frame(PONG, &payload))
                .expect("the client reads");
        } else if first & 0xf < 8 {
            return payload;
        }
    }
}

fn an_upload_that_moves_is_alive_arrives_whole_and_once(case: Case) {
    moves(case, false);
}

fn an_upload_that_moves_under_tls_is_alive_arrives_whole_and_once(case: Case) {
    moves(case, true);
}

fn stops(case: Case, under_tls: bool) {
    let scene = Scene::new(under_tls);
    let mut client = case.start(scene.options());
    thread::scope(|scope| {
        let (stopped, when) = std::sync::mpsc::channel();
        let (scene, (over, is_over)) = (&scene, std::sync::mpsc::channel::<()>());
        scope.spawn(move || {
            let mut stream = scene.upgrade();
            // The upload moves for longer than the client's allowed silence, and then stops.
            read_slowly(&mut *stream, UPLOAD / 2, true);
            stopped.send(Instant::now()).expect("the client waits");
            // The socket stays open until the client has judged.
            let _ = is_over.recv();
            drop(stream);
        });
        client.until_connected();
        let message = Message::from(pattern(UPLOAD));
        client
            .sender()
            .try_send(message.clone())
            .expect("connected");
        let end = client.until_disconnected();
        let judged = Instant::now();
        let stopped = when.try_recv().expect("alive while it moved");
        let took = judged - stopped;
        // The bytes that the kernel still takes move, too. Then the shortest of the times runs.
        assert!(took < IDLE + SLACK, "{took:?}");
        let reason = end.reason.as_str();
        assert!(
            ["idle_timeout", "pong_timeout"].contains(&reason),
            "{reason}"
        );
        let returned: Vec<_> = end.unsent.into_iter().collect();
        assert_eq!(returned.len(), 1);
        assert!(returned[0].cut && returned[0].message == message);
        drop(over);
    });
}

fn an_upload_that_stops_moving_is_dead_and_comes_back_cut(case: Case) {
    stops(case, false);
}

fn an_upload_that_stops_moving_under_tls_is_dead_and_comes_back_cut(case: Case) {
    stops(case, true);
}

/// A ping falls due almost two seconds after the server has stopped reading. The client's own kernel may
/// then take some more bytes, although the server takes none. How many depends on where in its buffer the
/// server has stopped.
fn stops_between_two_pings(case: Case, under_tls: bool) {
    const PIECE: usize = 8 << 10;
    thread::scope(|scope| {
        for more in 0..4 {
            scope.spawn(move || {
                stops_long_before_a_ping(case, under_tls, UPLOAD / 18 + more * PIECE)
            });
        }
    });
}

fn stops_long_before_a_ping(case: Case, under_tls: bool, last: usize) {
    const IDLE: Duration = Duration::from_secs(3);
    const CONFIG: &str =
        r#"{"idle_timeout": "3s", "ping": {"after_silence": "2s"}, "pong_timeout": "3s"}"#;
    let scene = Scene::new(under_tls);
    let mut client = case.start(scene.options_with(CONFIG));
    thread::scope(|scope| {
        let (stopped, when) = std::sync::mpsc::channel();
        let (scene, (over, is_over)) = (&scene, std::sync::mpsc::channel::<()>());
        scope.spawn(move || {
            let mut stream = scene.upgrade();
            read_slowly(&mut *stream, UPLOAD / 6, true);
            stream.write_all(&frame(TEXT, b"enough")).expect("it reads");
            read_slowly(&mut *stream, last, true);
            stopped.send(Instant::now()).expect("the client waits");
            let _ = is_over.recv();
            drop(stream);
        });
        client.until_connected();
        client
            .sender()
            .try_send(pattern(UPLOAD))
            .expect("connected");
        let end = client.until_disconnected();
        let took = when.try_recv().expect("alive while it moved").elapsed();
        assert_eq!(end.reason, "idle_timeout");
        assert!(took < IDLE + Duration::from_secs(1), "{took:?}");
        drop(over);
    });
}

fn a_verdict_comes_its_time_after_the_last_byte_that_moved(case: Case) {
    stops_between_two_pings(case, false);
}

fn a_verdict_comes_its_time_after_the_last_byte_that_moved_under_tls(case: Case) {
    stops_between_two_pings(case, true);
}

fn an_upload_of_many_small_messages_that_moves_is_alive(case: Case) {
    const SIZE: usize = 1000;
    let scene = Scene::new(false);
    let mut client = case.start(scene.options());
    let sender = client.sender();
    thread::scope(|scope| {
        let scene = &scene;
        scope.spawn(move || {
            let mut stream = scene.upgrade();
            assert!(read_slowly(&mut *stream, UPLOAD, true) == pattern(UPLOAD));
            stream.write_all(&frame(TEXT, b"done")).expect("it reads");
        });
        client.until_connected();
        scope.spawn(move || {
            for piece in pattern(UPLOAD).chunks(SIZE) {
                sender.send(piece.to_vec()).expect("connected");
            }
        });
        assert_eq!(client.message(), "done".into());
    });
}

/// The peer's window is always smaller than the next segment. Linux has a timer for that
/// (`TCP_USER_TIMEOUT`), which moving bytes do not restart. The upload takes longer than all of the
/// client's times.
fn an_upload_through_a_narrow_window_is_alive(case: Case) {
    const LEN: usize = 300_000;
    const CONFIG: &str = r#"{"idle_timeout": "6s", "ping": {"after_silence": "2s"}, "pong_timeout": "5s",
        "write_timeout": "6s"}"#;
    let server = Server::start();
    server.narrow_to(4096);
    let mut client = case.start(server.options(CONFIG));
    thread::scope(|scope| {
        let server = &server;
        scope.spawn(move || {
            let mut ws = server.upgrade();
            let stream = ws.get_mut();
            let mut read = 0;
            let mut bytes = [0; 2000];
            while read < LEN {
                let count = stream.read(&mut bytes).expect("the client goes on");
                read += count;
                // 20 kB/s.
                thread::sleep(Duration::from_micros(50) * u32::try_from(count).expect("short"));
            }
            stream.write_all(&frame(TEXT, b"done")).expect("it reads");
            crate::harness::read_to_the_end(stream);
        });
        client.until_connected();
        client.sender().try_send(vec![7; LEN]).expect("connected");
        assert_eq!(client.message(), "done".into());
        client.stop();
    });
}

/// The server sends nothing until it has everything, not even answers to pings.
fn an_upload_that_moves_needs_no_word_of_the_peers(case: Case) {
    let scene = Scene::new(false);
    let mut client = case.start(scene.options());
    thread::scope(|scope| {
        let scene = &scene;
        scope.spawn(move || {
            let mut stream = scene.upgrade();
            assert!(read_slowly(&mut *stream, UPLOAD, false) == pattern(UPLOAD));
            stream.write_all(&frame(TEXT, b"done")).expect("it reads");
        });
        client.until_connected();
        client
            .sender()
            .try_send(pattern(UPLOAD))
            .expect("connected");
        assert_eq!(client.message(), "done".into());
    });
}
