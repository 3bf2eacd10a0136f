//! The other end of the track: a server that costs as little as possible, in a process of its own.
//!
//! The request's path says what it does with a connection:
//!
//! | path | |
//! |---|---|
//! | `/flood/COUNT/LEN` | sends so many messages as fast as they are taken |
//! | `/trickle/COUNT/LEN/RATE` | sends them one at a time, so many a second |
//! | `/stamp/COUNT/LEN/RATE` | the same, with the time of sending in each |
//! | `/ask/COUNT` | pings, each when the last was answered; says `asked P50 P99` (ns) on its output |
//! | `/slow/RATE` | reads so many bytes a second and counts messages |
//! | `/fan` | is one of those over which `fan` spreads messages |
//! | anything else | reads, counts messages and answers pings |
//!
//! On its input it is told `stats` (answer: connections open, messages received, pings answered),
//! `freeze N` (every Nth connection that is open now is answered no more), `deaths` (answer: for each
//! of these that the client has ended, microseconds from the last answer to the end), and
//! `fan COUNT LEN RATE` (answer: `fan`, when they are sent).
//!
//! Under TLS it floods, or says nothing and reads nothing.

mod plays;

use std::io::{self, BufRead, Write as _};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The messages to a control program on standard output, and its requests on standard input.
#[derive(Default)]
struct Shared {
    open: AtomicU64,
    received: AtomicU64,
    pongs: AtomicU64,
    /// The number of the next connection.
    next: AtomicU64,
    /// Connections below this number are frozen, if `every` divides their number.
    frozen_below: AtomicU64,
    every: AtomicU64,
    deaths: Mutex<Vec<Duration>>,
    fan: Mutex<Vec<Arc<TcpStream>>>,
}

impl Shared {
    fn is_frozen(&self, number: u64) -> bool {
        number < self.frozen_below.load(Ordering::Relaxed)
            && number.is_multiple_of(self.every.load(Ordering::Relaxed))
    }

    fn obey(&self, line: &str) {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        let answer = match (word, &numbers[..]) {
            ("freeze", [every]) => {
                self.every.store(*every, Ordering::Relaxed);
                let below = self.next.load(Ordering::Relaxed);
                self.frozen_below.store(below, Ordering::Relaxed);
                String::new()
            }
            ("deaths", []) => {
                let micros = |death: &Duration| format!(" {}", death.as_micros());
                locked(&self.deaths).iter().map(micros).collect()
            }
            ("fan", [count, len, rate]) => {
                plays::fan(&locked(&self.fan), *count, *len as usize, *rate);
                String::new()
            }
            _ => {
                let figures = [&self.open, &self.received, &self.pongs];
                let figure = |of: &AtomicU64| format!(" {}", of.load(Ordering::Relaxed));
                figures.into_iter().map(figure).collect()
            }
        };
        say(&format!("{word}{answer}"));
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(line: &str) {
    println!("{line}");
    // The reader may be gone, and then the input has ended, too.
    drop(io::stdout().flush());
}

/// Serves until its input ends. Under TLS it makes a new certificate, which it writes to this file.
pub(crate) fn run(certificate: Option<&str>) -> crate::Result<()> {
    let tls = certificate.map(tls).transpose()?;
    let shared = Arc::new(Shared::default());
    let control = Arc::clone(&shared);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            control.obey(&line);
        }
        // The process that started us is gone.
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(shared, tls))?;
    Ok(())
}

fn tls(certificate: &str) -> crate::Result<TlsAcceptor> {
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    std::fs::write(certificate, made.cert.pem())?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(Arc::new(config).into())
}

async fn serve(shared: Arc<Shared>, tls: Option<TlsAcceptor>) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    // All of 127.0.0.0/8: a hundred thousand clients need more ports than one address has.
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    let listener: TcpListener = socket.listen(4096)?;
    say(&listener.local_addr()?.port().to_string());
    loop {
        let (socket, _) = listener.accept().await?;
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::Relaxed);
            // A client that goes away is the usual end.
            let _ = match tls {
                None => serve_one(socket, &shared).await,
                Some(tls) => Box::pin(serve_tls(socket, &tls)).await,
            };
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn serve_one(mut socket: TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let path = upgrade(&mut socket).await?;
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    let mut parts = path.trim_matches('/').split('/');
    let play = parts.next().unwrap_or_default();
    let numbers: Vec<u64> = parts.filter_map(|part| part.parse().ok()).collect();
    // Boxed, so that a hundred thousand idle connections do not each reserve room for all of these.
    match (play, &numbers[..]) {
        ("flood", [count, len]) => {
            Box::pin(plays::flood(&mut socket, *count, *len as usize)).await?;
        }
        ("trickle", [count, len, rate]) => {
            Box::pin(plays::trickle(
                &mut socket,
                *count,
                *len as usize,
                *rate,
                false,
            ))
            .await?;
        }
        ("stamp", [count, len, rate]) => {
            Box::pin(plays::trickle(
                &mut socket,
                *count,
                *len as usize,
                *rate,
                true,
            ))
            .await?;
        }
        ("ask", [count]) => socket = plays::ask(socket, *count)?,
        ("slow", [rate]) => return Box::pin(plays::slow(&mut socket, *rate, shared)).await,
        ("fan", []) => {
            let socket = Arc::new(socket);
            locked(&shared.fan).push(Arc::clone(&socket));
            return Box::pin(plays::discard(&socket)).await;
        }
        _ => {}
    }
    drop((path, numbers));
    plays::idle(&mut socket, number, shared).await
}

async fn serve_tls(socket: TcpStream, tls: &TlsAcceptor) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = tls.accept(socket).await?;
    let path = upgrade(&mut socket).await?;
    let numbers: Vec<u64> = path
        .split('/')
        .filter_map(|part| part.parse().ok())
        .collect();
    if let ("/flood", [count, len]) = (path.get(..6).unwrap_or_default(), &numbers[..]) {
        plays::flood(&mut socket, *count, *len as usize).await?;
        socket.flush().await?;
    }
    std::future::pending().await
}

/// Reads the request, answers it, and returns its path.
async fn upgrade(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 8192 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if socket.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let key = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key")
                .then(|| value.trim().to_owned())
        })
        .unwrap_or_default();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    socket
        .write_all(
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .as_bytes(),
        )
        .await?;
    socket.flush().await?;
    Ok(path)
}
