//! A client of a hostile server, and another task on the same thread: measures how long that task waits between two
//! turns.
//!
//! ```sh
//! cargo run --release -p heartbeat-tests --example turns             # all, a minute
//! cargo run --release -p heartbeat-tests --example turns -- gzip     # the cases with this word in their name
//! ```
//!
//! A runtime of one thread has a client, in each way of running one, and a task that only yields and looks at the
//! clock. Prints that task's waits (p99, longest), by the thread's processor time, so that other programs do not count,
//! and the longest by the wall clock. It also prints the cost of one message by itself, measured in the same run. Ends
//! with status 1 if a wait is longer than 10 ms and longer than one and a half times a message's own cost: one turn
//! never processes two messages.
#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "a measurement on the host's clock"
)]

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use heartbeat_tests::frames::{BINARY, PONG, TEXT, encode};
use heartbeat_tokio::core::{AnyDialect, Dialect, FramesOnly};
use heartbeat_tokio::messages::tungstenite::Tungstenite;
use heartbeat_tokio::messages::{self, Connecting, Messages};
use heartbeat_tokio::{
    Client, Config, Decode, Deflate, Event, InPlace, Inflate, Message, MessageRef, Options,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tokio_tungstenite::client_async_with_config;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::WebSocketConfig;

/// For messages that cost no more than this by themselves.
const GOAL: Duration = Duration::from_millis(10);

/// The last message.
const END: &str = "end";

/// What happens to a message on its way to the application.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Gzip,
    Deflate,
    Tls,
}

/// The server's messages, and the cost of a single one.
struct Case {
    name: &'static str,
    way: Way,
    /// An entry of the catalogue. Without one there are only ping frames.
    dialect: Option<&'static str>,
    frame: Vec<u8>,
    times: usize,
    /// The whole cost of a message that cannot be processed in pieces.
    cost: Option<Box<dyn Fn() + Sync>>,
}

fn cases() -> Vec<Case> {
    let plain = |name, frame, times| Case {
        name,
        way: Way::Plain,
        dialect: None,
        frame,
        times,
        cost: None,
    };
    let text = |payload: &str| encode(TEXT, payload.as_bytes());
    let quote = "x".repeat(150);
    let mebibyte = "x".repeat(1 << 20);
    let whole = "0123456789abcdef".repeat(1 << 20);
    let (gzip, deflated) = (gzipped(whole.as_bytes()), deflated(whole.as_bytes()));
    let zipped = gzip.clone();
    vec![
        Case {
            way: Way::Gzip,
            cost: Some(Box::new(move || {
                let message = Message::from(zipped.clone());
                let message = Inflate::Gzip.decode(message, 64 << 20).expect("gzip");
                assert_eq!(message.len(), 16 << 20);
            })),
            ..plain("gzip, 16 MiB inflated", encode(BINARY, &gzip), 200)
        },
        Case {
            way: Way::Deflate,
            // FIN, RSV1 and text (RFC 7692 §6).
            ..plain(
                "permessage-deflate, 16 MiB inflated",
                encode(0xc1, &deflated),
                200,
            )
        },
        Case {
            dialect: Some("centrifugo"),
            // The cost of its memory and its UTF-8 check. This part cannot be divided, because the text is freed in one
            // go.
            cost: Some(Box::new(|| {
                let text = String::from_utf8(b"\n".repeat(60_000_000));
                assert_eq!(text.expect("text").len(), 60_000_000);
            })),
            ..plain("60 MB of separators", text(&"\n".repeat(60_000_000)), 2)
        },
        plain("1 MiB", text(&mebibyte), 500),
        plain("150 bytes", text(&quote).repeat(1000), 1000),
        plain("pongs", encode(PONG, &[7; 125]).repeat(1000), 500),
        Case {
            way: Way::Tls,
            ..plain("1 MiB under TLS", text(&mebibyte), 300)
        },
        Case {
            way: Way::Tls,
            ..plain("150 bytes under TLS", text(&quote).repeat(1000), 500)
        },
    ]
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

/// As in permessage-deflate, without the last four bytes (RFC 7692 §7.2.1).
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let mut state = Compress::new(Compression::fast(), false);
    state
        .compress_vec(bytes, &mut out, FlushCompress::Sync)
        .expect("room");
    assert_eq!(state.total_in(), bytes.len() as u64, "all of it");
    out.truncate(out.len() - 4);
    out
}

/// The ways to run a client.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Task,
    Thread,
    InPlace,
    Lent,
    Messages,
}

/// glibc returns memory to the system, and gets it back at the price of a page fault for every 4 KiB. Its
/// rules for this depend on earlier frees. With this setting it keeps the memory of messages up to 32 MiB,
/// so that two runs of the same work cost the same.
const MEMORY: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
];

fn main() -> ExitCode {
    if MEMORY
        .iter()
        .any(|(name, _)| std::env::var_os(name).is_none())
    {
        let status = Command::new(std::env::current_exe().expect("a program"))
            .args(std::env::args_os().skip(1))
            .envs(MEMORY)
            .status();
        let is_good = status.expect("it starts a second time").success();
        return ExitCode::from(u8::from(!is_good));
    }
    let word = std::env::args().nth(1).unwrap_or_default();
    let mut is_good = true;
    for case in cases().iter().filter(|case| case.name.contains(&word)) {
        println!("{}", case.name);
        for kind in [
            Kind::Task,
            Kind::Thread,
            Kind::InPlace,
            Kind::Lent,
            Kind::Messages,
        ] {
            // Its socket belongs to another library, which inflates and decrypts by itself or not at all.
            if kind == Kind::Messages && case.way != Way::Plain {
                continue;
            }
            is_good &= measure(case, kind);
        }
    }
    ExitCode::from(u8::from(!is_good))
}

fn longest_of(times: u32, work: impl Fn()) -> Duration {
    let took = (0..times).map(|_| {
        let begun = busy();
        work();
        busy().saturating_sub(begun)
    });
    took.max().unwrap_or_default()
}

/// The processor time of this thread.
#[cfg(unix)]
fn busy() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// Without such a clock, other programs' time counts, too.
#[cfg(not(unix))]
fn busy() -> Duration {
    static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed()
}

#[derive(Default)]
struct Waits {
    busy: Vec<Duration>,
    wall: Duration,
}

fn measure(case: &Case, kind: Kind) -> bool {
    // Before and after, because a machine's speed changes.
    let cost = || (case.cost.as_ref()).map_or(Duration::ZERO, |cost| longest_of(25, cost));
    let before = cost();
    let waits = RefCell::new(Waits::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    thread::scope(|scope| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (server_tls, client_tls) = certified();
        scope.spawn(move || {
            let (tcp, _) = listener.accept().expect("a client");
            if case.way == Way::Tls {
                let tls = ServerConnection::new(server_tls).expect("a configuration");
                serve(StreamOwned::new(tls, tcp), case)
            } else {
                serve(tcp, case)
            }
        });
        let others = async {
            let (mut begun, mut wall) = (busy(), Instant::now());
            loop {
                tokio::task::yield_now().await;
                let mut waits = waits.borrow_mut();
                waits.wall = waits.wall.max(wall.elapsed());
                waits.busy.push(busy().saturating_sub(begun));
                drop(waits);
                (begun, wall) = (busy(), Instant::now());
            }
        };
        runtime.block_on(async {
            tokio::select! {
                () = others => {}
                () = listen(case, kind, &address, client_tls) => {}
            }
        });
    });
    let Waits { mut busy, wall } = waits.into_inner();
    busy.sort_unstable();
    let (p99, longest) = (busy[busy.len() * 99 / 100], busy[busy.len() - 1]);
    let cost = before.max(cost());
    let bound = (cost * 3 / 2).max(GOAL);
    let own = match cost {
        Duration::ZERO => String::new(),
        cost => format!("; one message costs {cost:.1?}"),
    };
    let missed = if longest > bound { "  MISSED" } else { "" };
    println!(
        "  {:9} {:8} turns, p99 {p99:8.1?}, longest {longest:8.1?}, by the wall {wall:8.1?}{own}{missed}",
        format!("{kind:?}"),
        busy.len(),
    );
    longest <= bound
}

// ---- the client ----

fn options(case: &Case, address: &str, tls: Arc<ClientConfig>) -> Options {
    let scheme = if case.way == Way::Tls { "wss" } else { "ws" };
    let mut options = Options::new(&format!("{scheme}://{address}/"))
        .expect("a URL")
        .tls(tls)
        .proxy(None);
    if let Some(name) = case.dialect {
        options = options.dialect(AnyDialect::named(name).expect("in the catalogue"));
    }
    match case.way {
        Way::Gzip => options.decoder(|| Inflate::Gzip),
        Way::Deflate => options.deflate(Deflate::new()),
        Way::Plain | Way::Tls => options,
    }
}

/// Takes messages as fast as they come, until the last one, and does nothing with them.
async fn listen(case: &Case, kind: Kind, address: &str, tls: Arc<ClientConfig>) {
    let options = options(case, address, tls);
    let is_last = |event: Option<Event>| match event.expect("no end before") {
        Event::Message { message, .. } => message.as_text() == Some(END),
        Event::Disconnected { reason, detail, .. } => panic!("{reason} {detail:?}"),
        _ => false,
    };
    match kind {
        Kind::Task => {
            let mut client = Client::spawn(options).expect("a client");
            while !is_last(client.next().await) {}
        }
        Kind::Thread => {
            let mut client = Client::spawn_thread(options).expect("a client");
            while !is_last(client.next().await) {}
        }
        Kind::InPlace => {
            let mut client = InPlace::new(options).expect("a client");
            while !is_last(client.next().await) {}
        }
        Kind::Lent => {
            let mut client = InPlace::new(options).expect("a client");
            let mut came = false;
            while !came {
                let event = client.next_lent(|_, message| came |= message == MessageRef::Text(END));
                if let Event::Disconnected { .. } = event.await.expect("no end before") {
                    assert!(came, "cut");
                }
            }
        }
        Kind::Messages => {
            let (url, address) = (format!("ws://{address}/"), address.to_owned());
            let connect = move |_| -> Connecting<_> {
                let (url, address) = (url.clone(), address.clone());
                Box::pin(async move {
                    let stream = tokio::net::TcpStream::connect(address).await?;
                    let large = WebSocketConfig::default().max_frame_size(Some(64 << 20));
                    Ok(client_async_with_config(url, stream, Some(large)).await?.0)
                })
            };
            let dialect: Arc<dyn Dialect + Send + Sync> = match case.dialect {
                Some(name) => Arc::new(AnyDialect::named(name).expect("in the catalogue")),
                None => Arc::new(FramesOnly),
            };
            let mut client =
                Messages::<_, Tungstenite>::connecting(connect, Config::default(), dialect);
            loop {
                match client.next().await.expect("no end before") {
                    messages::Event::Message { message, .. }
                        if message.to_text().ok() == Some(END) =>
                    {
                        return;
                    }
                    messages::Event::Disconnected { reason, .. } => panic!("{reason}"),
                    _ => {}
                }
            }
        }
    }
}

// ---- the server ----

fn serve(stream: impl Read + Write, case: &Case) {
    #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
    let agree = |_: &Request, mut response: Response| {
        if case.way == Way::Deflate {
            let agreed = "permessage-deflate".parse().expect("a value");
            let headers = response.headers_mut();
            headers.insert("Sec-WebSocket-Extensions", agreed);
        }
        Ok(response)
    };
    let mut stream = match tungstenite::accept_hdr(stream, agree) {
        Ok(upgraded) => upgraded.into_inner(),
        Err(error) => panic!("no upgrade: {error}"),
    };
    let said = (|| {
        for _ in 0..case.times {
            stream.write_all(&case.frame)?;
        }
        stream.write_all(&encode(TEXT, END.as_bytes()))?;
        // A server that only waits for frames is woken by an event.
        stream.write_all(&encode(0x88, &1000_u16.to_be_bytes()))?;
        stream.flush()
    })();
    said.expect("the client reads to the end");
    let _ = io::copy(&mut stream, &mut io::sink());
}

fn certified() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let ring = || Arc::new(rustls::crypto::ring::default_provider());
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a certificate");
    let client = ClientConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let server = ServerConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    (Arc::new(server), Arc::new(client))
}
