//! Many threads that send without pause: measures the answers to the server's pings, each sender's share, and the
//! throughput.
//!
//! ```sh
//! cargo run --release -p heartbeat-tests --example senders            # 100 threads, 3 s each
//! cargo run --release -p heartbeat-tests --example senders -- 32 10
//! ```
//!
//! Prints, for both adapters: messages a second, the ratio to a `std::sync::mpsc::sync_channel` of the same length
//! between the same threads, the time from a ping's write to its pong's arrival (p50, p99), and the fewest and most
//! messages of a sender. Ends with status 1 if a goal is missed: p99 ≤ 5 ms, share ≥ 0.8, the fewest at least a third
//! of the most.
#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "a measurement on the host's clock"
)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tests::frames::{PING, encode};
use heartbeat_tokio::{Event, Message, Options};

/// The default of `Options::send_queue`.
const QUEUE: usize = 1024;
/// The length of an order or a quote.
const PAYLOAD: usize = 150;
const BETWEEN_PINGS: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    let senders = arguments.next().unwrap_or(100);
    let span = Duration::from_secs(arguments.next().unwrap_or(3) as u64);
    let channel = through_a_channel(senders, span);
    println!("sync_channel: {channel:.0} messages/s of {senders} threads");
    let mut all_good = true;
    for (name, run) in [
        (
            "blocking",
            blocking as fn(&str, usize, &AtomicBool) -> Vec<u64>,
        ),
        ("tokio", tokio),
    ] {
        all_good &= measure(name, run, senders, span, channel);
    }
    ExitCode::from(u8::from(!all_good))
}

fn measure(
    name: &str,
    run: fn(&str, usize, &AtomicBool) -> Vec<u64>,
    senders: usize,
    span: Duration,
    channel: f64,
) -> bool {
    let server = Server::start();
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let mut counts = thread::scope(|scope| {
        let running = scope.spawn(|| run(&server.url, senders, &stop));
        thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        running.join().expect("no panic")
    });
    let rate = server.messages.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    let mut pongs = std::mem::take(&mut *server.pongs.lock().expect("no panic"));
    pongs.sort();
    counts.sort_unstable();
    let at = |share: f64| {
        let index = (pongs.len() as f64 * share) as usize;
        pongs
            .get(index.min(pongs.len().saturating_sub(1)))
            .copied()
            .unwrap_or(Duration::MAX)
    };
    let (fewest, most) = (counts[0], counts[counts.len() - 1]);
    let share = rate / channel;
    println!(
        "{name}: {rate:.0} messages/s, {share:.2} of the channel's; {} pongs, p50 {:.2?}, p99 {:.2?}; a sender {fewest} to {most}",
        pongs.len(),
        at(0.5),
        at(0.99),
    );
    at(0.99) <= Duration::from_millis(5) && share >= 0.8 && fewest * 3 >= most
}

fn message() -> Message {
    vec![b'.'; PAYLOAD].into()
}

/// How many messages a second pass through a channel of the standard library.
fn through_a_channel(senders: usize, span: Duration) -> f64 {
    let (sender, receiver) = mpsc::sync_channel::<Message>(QUEUE);
    let stop = AtomicBool::new(false);
    let mut moved = 0_u64;
    thread::scope(|scope| {
        for _ in 0..senders {
            let (sender, stop) = (sender.clone(), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if sender.send(message()).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let end = Instant::now() + span;
        while receiver.recv().is_ok() {
            moved += 1;
            if moved.is_multiple_of(256) && Instant::now() >= end {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    moved as f64 / span.as_secs_f64()
}

fn blocking(url: &str, senders: usize, stop: &AtomicBool) -> Vec<u64> {
    let options = Options::new(url).expect("a URL");
    let mut client = heartbeat_blocking::Client::spawn(options).expect("a client");
    while !matches!(client.recv().expect("an event"), Event::Connected { .. }) {}
    thread::scope(|scope| {
        let sending: Vec<_> = (0..senders)
            .map(|_| {
                let sender = client.sender().clone();
                scope.spawn(move || {
                    let mut sent = 0;
                    while !stop.load(Ordering::Relaxed) {
                        sender.send(message()).expect("connected");
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        sending
            .into_iter()
            .map(|sending| sending.join().expect("no panic"))
            .collect()
    })
}

/// Here, too, threads of the operating system, so that the figures are comparable.
fn tokio(url: &str, senders: usize, stop: &AtomicBool) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut client = runtime.block_on(async {
        let options = Options::new(url).expect("a URL");
        let mut client = heartbeat_tokio::Client::spawn(options).expect("a client");
        while !matches!(
            client.next().await.expect("an event"),
            Event::Connected { .. }
        ) {}
        client
    });
    let counts = thread::scope(|scope| {
        let sending: Vec<_> = (0..senders)
            .map(|_| {
                let (sender, handle) = (client.sender().clone(), runtime.handle().clone());
                scope.spawn(move || {
                    handle.block_on(async {
                        let mut sent = 0;
                        while !stop.load(Ordering::Relaxed) {
                            sender.send(message()).await.expect("connected");
                            sent += 1;
                        }
                        sent
                    })
                })
            })
            .collect();
        sending
            .into_iter()
            .map(|sending| sending.join().expect("no panic"))
            .collect()
    });
    let _ = runtime.block_on(client.next());
    counts
}

/// Counts messages, sends a ping every few milliseconds, and measures the answers.
struct Server {
    url: String,
    messages: Arc<AtomicU64>,
    pongs: Arc<Mutex<Vec<Duration>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        // A small buffer, so that the client cannot run far ahead of this server.
        #[cfg(unix)]
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 64 << 10).expect("a size");
        let url = format!("ws://{}/", listener.local_addr().expect("bound"));
        let (messages, pongs) = (Arc::default(), Arc::default());
        let server = Self {
            url,
            messages: Arc::clone(&messages),
            pongs: Arc::clone(&pongs),
        };
        thread::spawn(move || {
            let (socket, _) = listener.accept().expect("a client");
            socket.set_nodelay(true).expect("an option");
            let socket = tungstenite::accept(socket)
                .expect("an upgrade")
                .into_inner();
            let mut asking = socket.try_clone().expect("a second handle");
            let origin = Instant::now();
            thread::spawn(move || {
                loop {
                    thread::sleep(BETWEEN_PINGS);
                    let at = u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    if asking.write_all(&encode(PING, &at.to_be_bytes())).is_err() {
                        return;
                    }
                }
            });
            let _ = listen(socket, origin, &messages, &pongs);
        });
        server
    }
}

/// A client's frames: two bytes and the length, a mask, the payload (RFC 6455 §5.2).
fn listen(
    mut socket: TcpStream,
    origin: Instant,
    messages: &AtomicU64,
    pongs: &Mutex<Vec<Duration>>,
) -> io::Result<()> {
    let mut bytes = vec![0; 256 << 10];
    let (mut at, mut end) = (0, 0);
    loop {
        bytes.copy_within(at..end, 0);
        (at, end) = (0, end - at);
        let count = socket.read(&mut bytes[end..])?;
        if count == 0 {
            return Ok(());
        }
        end += count;
        let mut seen = 0;
        while let Some((len, head)) = header(&bytes[at..end])
            && at + head + len <= end
        {
            if bytes[at] & 0xf == 0xa {
                let mask = &bytes[at + head - 4..at + head];
                let payload = bytes[at + head..at + head + 8]
                    .iter()
                    .zip(mask.iter().cycle());
                let mut sent = [0; 8];
                for (to, (byte, mask)) in sent.iter_mut().zip(payload) {
                    *to = byte ^ mask;
                }
                let sent = Duration::from_nanos(u64::from_be_bytes(sent));
                pongs
                    .lock()
                    .expect("no panic")
                    .push(origin.elapsed().saturating_sub(sent));
            } else {
                seen += 1;
            }
            at += head + len;
        }
        messages.fetch_add(seen, Ordering::Relaxed);
    }
}

/// The lengths of payload and header.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [_, second, high, low, ..] if second & 0x7f == 126 => {
            Some((usize::from(u16::from_be_bytes([high, low])), 8))
        }
        [_, second, ..] if second & 0x7f < 126 => Some((usize::from(second & 0x7f), 6)),
        _ => None,
    }
}
