//! Many connections under load: a tenth of the peers freeze, a hundredth of the consumers are slow, and at the end all
//! connections are cut at once. The server is a process of its own on the same machine.
//!
//! ```sh
//! cargo run --release -p heartbeat-tests --example load            # 10 000 connections, 50 000 messages/s, 60 s
//! cargo run --release -p heartbeat-tests --example load -- 10000 20000 600 tls
//! ```
//!
//! Prints how many messages a second came, the time from a server's ping to its pong (p50, p99), how late verdicts came
//! after their bound, how many messages slow consumers took, and how long all clients took to come back. Ends with
//! status 1 if a healthy peer was declared dead, a frozen one was not, a message was lost, or verdicts are later than
//! 20 ms at p99. Each of the two processes needs 1.1 descriptors for each connection, and raises its soft limit
//! (`ulimit -n`) to that number.
#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "a measurement on the host's clock"
)]

use std::fmt::Write as _;
use std::io::{self, BufRead, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heartbeat_tests::frames::{PING, PONG, TEXT, decode, encode};
use heartbeat_tokio::core::Config;
use heartbeat_tokio::{Client, Event, Options, Reason};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
use tokio::net::{TcpListener, TcpStream};
use tungstenite::handshake::derive_accept_key;

/// About the length of an exchange's quote.
const PAYLOAD: usize = 150;

/// A message begins with its number on this connection, in this many digits, at this place in the frame.
const DIGITS: usize = 10;
const AT: usize = 4;

/// The bound of a verdict: 2 s of silence, then a ping, then 2 s for its answer.
const CONFIG: &str = r#"{"idle_timeout": "60s", "check_interval": null, "ping": {"after_silence": "2s"}, "pong_timeout": "2s",
    "connect_timeout": "60s", "backoff": {"base": "1s", "cap": "5s"}}"#;
const BOUND: Duration = Duration::from_secs(4);

/// How late a verdict may be at p99.
const LATE: Duration = Duration::from_millis(20);

/// The treatment of a connection, by its number.
const FREEZES: usize = 10;
const IS_SLOW: usize = 100;

#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    rate: usize,
    seconds: u64,
    tls: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| {
        let word = words.get(at).and_then(|word| word.parse().ok());
        word.unwrap_or(default)
    };
    let load = Load {
        connections: number(0, 10_000),
        rate: number(1, 50_000),
        seconds: number(2, 60) as u64,
        tls: words.iter().any(|word| word == "tls"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    if let Err(told) = allow_descriptors(load.connections) {
        eprintln!("{told}");
        return ExitCode::FAILURE;
    }
    if words.iter().any(|word| word == "server") {
        runtime.block_on(serve(load));
        return ExitCode::SUCCESS;
    }
    let is_good = runtime.block_on(measure(load));
    runtime.shutdown_background();
    ExitCode::from(u8::from(!is_good))
}

/// Raises the soft limit of open descriptors to the number that these connections need.
#[cfg(unix)]
fn allow_descriptors(connections: usize) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    // The server keeps the sockets of frozen connections, and their clients come back.
    let needed = (connections + connections / FREEZES + 100) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| {
        let most = limit.maximum.unwrap_or_default();
        format!("{connections} connections need {needed} descriptors; the hard limit (ulimit -Hn) is {most}: {error}")
    })
}

#[cfg(not(unix))]
fn allow_descriptors(_: usize) -> Result<(), String> {
    Ok(())
}

// ---- the clients ----

#[derive(Default)]
struct Seen {
    messages: AtomicU64,
    /// The part of them that slow consumers took.
    slowly: AtomicU64,
    connected: AtomicU64,
    /// Healthy peers that were declared dead.
    false_deaths: Mutex<Vec<String>>,
    /// Messages that did not follow the one before.
    gaps: AtomicU64,
    /// How late verdicts were.
    late: Mutex<Vec<Duration>>,
}

async fn measure(load: Load) -> bool {
    let mut arguments: Vec<String> = [load.connections, load.rate, load.seconds as usize]
        .map(|number| number.to_string())
        .into();
    arguments.extend(load.tls.then(|| "tls".to_owned()));
    arguments.push("server".into());
    let mut server = Command::new(std::env::current_exe().expect("a program"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts a second time");
    let mut said = io::BufReader::new(server.stdout.take().expect("piped")).lines();
    let mut line = move || said.next().expect("a line").expect("readable");
    let mut stdin = server.stdin.take().expect("piped");
    let mut tell = move |word: &str| writeln!(stdin, "{word}").expect("it lives");
    let (port, certificate) = (line(), line());
    let scheme = if load.tls { "wss" } else { "ws" };
    let tls = load.tls.then(|| trusting(&certificate));

    let seen = Arc::new(Seen::default());
    let phase = Arc::new(AtomicU8::new(0));
    let begun = Instant::now();
    for number in 0..load.connections {
        let mut options = Options::new(&format!("{scheme}://127.0.0.1:{port}/{number}"))
            .expect("a URL")
            .config(Config::from_json(CONFIG).expect("a configuration"))
            .proxy(None);
        if number % IS_SLOW == 1 {
            // The queue is short, so the rest waits at the server.
            options = options.queue(16);
        }
        if let Some(tls) = &tls {
            options = options.tls(Arc::clone(tls));
        }
        let client = Client::spawn(options).expect("a client");
        tokio::spawn(live(client, number, Arc::clone(&seen), Arc::clone(&phase)));
        // At most as many at a time as a listener's backlog holds.
        while number as u64 > seen.connected.load(Ordering::Relaxed) + 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let all = load.connections as u64;
    while seen.connected.load(Ordering::Relaxed) < all {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "{all} connections after {:.1} s",
        begun.elapsed().as_secs_f64()
    );

    tell("load");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (begun, before) = (Instant::now(), seen.messages.load(Ordering::Relaxed));
    phase.store(1, Ordering::Relaxed);
    tell("freeze");
    tokio::time::sleep(Duration::from_secs(load.seconds)).await;
    let messages = seen.messages.load(Ordering::Relaxed) - before;
    let rate = messages as f64 / begun.elapsed().as_secs_f64();
    tell("figures");
    println!(
        "{rate:.0} messages/s taken of {} asked for; {}",
        load.rate,
        line()
    );
    let mut late = std::mem::take(&mut *seen.late.lock().expect("no panic"));
    late.sort();
    let frozen = load.connections.div_ceil(FREEZES);
    let slow = load.connections.saturating_sub(2) / IS_SLOW + 1;
    println!(
        "{slow} consumers that take one a second took {} messages",
        seen.slowly.load(Ordering::Relaxed)
    );
    println!(
        "{} verdicts of {frozen} frozen peers; later than their bound by {:.1?} (p50), {:.1?} (p99), {:.1?} (most)",
        late.len(),
        at(&late, 0.5),
        at(&late, 0.99),
        at(&late, 1.0)
    );

    phase.store(2, Ordering::Relaxed);
    let (begun, before) = (Instant::now(), seen.connected.load(Ordering::Relaxed));
    tell("cut");
    let is_back = || seen.connected.load(Ordering::Relaxed) >= before + all;
    while !is_back() && begun.elapsed() < Duration::from_secs(120) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "{} of {all} cut at once and back after {:.1} s",
        seen.connected.load(Ordering::Relaxed) - before,
        begun.elapsed().as_secs_f64()
    );
    let false_deaths = std::mem::take(&mut *seen.false_deaths.lock().expect("no panic"));
    let gaps = seen.gaps.load(Ordering::Relaxed);
    println!(
        "{} false deaths {:?}; {gaps} gaps between messages",
        false_deaths.len(),
        false_deaths.first()
    );
    tell("end");
    let _ = server.wait();
    gaps == 0
        && false_deaths.is_empty()
        && late.len() == frozen
        && at(&late, 0.99) <= LATE
        && is_back()
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

async fn live(mut client: Client, number: usize, seen: Arc<Seen>, phase: Arc<AtomicU8>) {
    let mut freezes = number.is_multiple_of(FREEZES);
    let is_slow = number % IS_SLOW == 1;
    let mut expected = 0;
    while let Some(event) = client.next().await {
        match event {
            Event::Connected { .. } => {
                expected = 0;
                seen.connected.fetch_add(1, Ordering::Relaxed);
            }
            Event::Message { message, .. } => {
                seen.messages.fetch_add(1, Ordering::Relaxed);
                let text = message.as_text().unwrap_or_default();
                let told = text.get(..DIGITS).and_then(|digits| digits.parse().ok());
                if told != Some(expected) {
                    seen.gaps.fetch_add(1, Ordering::Relaxed);
                }
                expected = told.unwrap_or(expected) + 1;
                if is_slow && phase.load(Ordering::Relaxed) == 1 {
                    seen.slowly.fetch_add(1, Ordering::Relaxed);
                }
                if is_slow && phase.load(Ordering::Relaxed) == 1 {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Event::Disconnected { reason, idle, .. } => {
                if phase.load(Ordering::Relaxed) == 2 {
                    // The server caused this end.
                } else if std::mem::take(&mut freezes) && matches!(reason, Reason::Aborted(_)) {
                    let late = idle.saturating_sub(BOUND);
                    seen.late.lock().expect("no panic").push(late);
                } else {
                    let death = format!("{number}: {reason}, idle for {idle:?}");
                    seen.false_deaths.lock().expect("no panic").push(death);
                }
            }
            _ => {}
        }
    }
}

fn trusting(certificate: &str) -> Arc<ClientConfig> {
    let bytes = (0..certificate.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&certificate[at..at + 2], 16).expect("hexadecimal"));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(bytes.collect::<Vec<_>>()))
        .expect("a certificate");
    let config = ClientConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn ring() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

// ---- the server ----

struct Serving {
    load: Load,
    /// 0: connections arrive; 1: messages; 2: a tenth is frozen; from 3 on, each cut adds one.
    phase: AtomicU8,
    round_trips: Mutex<Vec<Duration>>,
    started: Instant,
    tls: Option<Arc<ServerConfig>>,
}

async fn serve(load: Load) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("bound").port());
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let mut hex = String::new();
    for byte in certificate.der().iter() {
        let _ = write!(hex, "{byte:02x}");
    }
    println!("{hex}");
    let tls = load.tls.then(|| {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(ring())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.expect("a certificate and its key"))
    });
    let serving = Arc::new(Serving {
        load,
        phase: AtomicU8::new(0),
        round_trips: Mutex::default(),
        started: Instant::now(),
        tls,
    });
    let accepting = Arc::clone(&serving);
    tokio::spawn(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                continue;
            };
            tokio::spawn(connection(socket, Arc::clone(&accepting)));
        }
    });
    let commands = std::thread::spawn(move || {
        for word in io::stdin().lines() {
            match word.expect("readable").as_str() {
                "load" => serving.phase.store(1, Ordering::Relaxed),
                "freeze" => serving.phase.store(2, Ordering::Relaxed),
                "cut" => serving.phase.store(3, Ordering::Relaxed),
                "figures" => {
                    let mut all =
                        std::mem::take(&mut *serving.round_trips.lock().expect("no panic"));
                    all.sort();
                    let (half, most) = (at(&all, 0.5), at(&all, 0.99));
                    println!(
                        "{} pongs after {half:.1?} (p50), {most:.1?} (p99)",
                        all.len()
                    );
                }
                _ => return,
            }
        }
    });
    while !commands.is_finished() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A socket, with TLS or without.
struct Link {
    tcp: TcpStream,
    tls: Option<ServerConnection>,
}

struct Io<'a>(&'a TcpStream);

impl Read for Io<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Io<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Link {
    async fn flush(&mut self) -> io::Result<()> {
        let Self {
            tcp,
            tls: Some(tls),
        } = self
        else {
            return Ok(());
        };
        while tls.wants_write() {
            match tls.write_tls(&mut Io(tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            return self.flush().await;
        }
        while !bytes.is_empty() {
            match self.tcp.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tcp.writable().await?
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until there is something to read. Cancel-safe.
    async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    /// Reads the available bytes.
    async fn read(&mut self, all: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let read = match &mut self.tls {
            None => self.tcp.try_read(&mut buffer),
            Some(tls) => match tls.read_tls(&mut Io(&self.tcp)) {
                Ok(0) => Ok(0),
                Ok(_) => {
                    tls.process_new_packets().map_err(io::Error::other)?;
                    tls.reader().read(&mut buffer)
                }
                Err(error) => Err(error),
            },
        };
        match read {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        self.flush().await
    }
}

async fn connection(tcp: TcpStream, serving: Arc<Serving>) {
    // The kind of end does not matter here: the client reports it.
    let _ = speak(tcp, &serving).await;
}

async fn speak(tcp: TcpStream, serving: &Serving) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let tls = serving.tls.clone().map(ServerConnection::new).transpose();
    let mut link = Link {
        tcp,
        tls: tls.map_err(io::Error::other)?,
    };
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        link.readable().await?;
        link.read(&mut heard).await?;
    }
    let request = String::from_utf8_lossy(&heard).into_owned();
    let number = request
        .split([' ', '/'])
        .find_map(|word| word.parse::<usize>().ok());
    let number = number.unwrap_or_default();
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    heard.clear();
    link.write(answer.as_bytes()).await?;

    let Load {
        connections, rate, ..
    } = serving.load;
    let first = serving.phase.load(Ordering::Relaxed);
    let freezes = number.is_multiple_of(FREEZES) && first < 2;
    let is_slow = number % IS_SLOW == 1;
    let period = Duration::from_secs_f64(connections as f64 / rate as f64);
    let offset = period.mul_f64(number as f64 / connections as f64);
    let start = tokio::time::Instant::now() + offset;
    let mut message = tokio::time::interval_at(start, period);
    let mut ping = tokio::time::interval_at(start, Duration::from_secs(1));
    message.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut text = encode(TEXT, &[b'x'; PAYLOAD]);
    let mut count = 0_u64;
    loop {
        let phase = serving.phase.load(Ordering::Relaxed);
        if phase == 2 && freezes {
            // The socket stays open, and is neither read nor written.
            std::future::pending::<()>().await;
        }
        if phase == 3 && first < 3 {
            return Ok(());
        }
        tokio::select! {
            ready = link.readable() => {
                ready?;
                link.read(&mut heard).await?;
                while let Ok(Some((frame, len))) = decode(&heard) {
                    heard.drain(..len);
                    let elapsed = serving.started.elapsed();
                    match frame.first {
                        PING => link.write(&encode(PONG, &frame.payload)).await?,
                        PONG if !is_slow && phase == 2 => {
                            let sent = frame.payload.try_into().map(u64::from_be_bytes);
                            let sent = Duration::from_nanos(sent.unwrap_or_default());
                            let mut all = serving.round_trips.lock().expect("no panic");
                            all.push(elapsed.saturating_sub(sent));
                        }
                        _ => {}
                    }
                }
            }
            _ = message.tick(), if phase > 0 => {
                text[AT..AT + DIGITS].copy_from_slice(format!("{count:010}").as_bytes());
                count += 1;
                link.write(&text).await?;
            }
            _ = ping.tick(), if phase > 0 => {
                let now = serving.started.elapsed().as_nanos() as u64;
                link.write(&encode(PING, &now.to_be_bytes())).await?;
            }
        }
    }
}
