//! The other end of the track: a server that costs as little as possible, in a process of its own.
//!
//! The request's path says what it does: `/flood/COUNT/LEN`, `/trickle/COUNT/LEN/RATE`, `/idle`
//! (answers pings and reads), `/freeze` (answers pings until its standard input says `freeze`).

use std::io::{self, BufRead, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// What a control program is told on standard output, and asks on standard input.
struct Shared {
    frozen: AtomicBool,
    received: AtomicU64,
    open: AtomicU64,
}

pub(crate) fn run() -> io::Result<()> {
    let shared = Arc::new(Shared {
        frozen: AtomicBool::new(false),
        received: AtomicU64::new(0),
        open: AtomicU64::new(0),
    });
    let control = Arc::clone(&shared);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            match line.as_str() {
                "freeze" => control.frozen.store(true, Ordering::Relaxed),
                _ => println!(
                    "{} {}",
                    control.open.load(Ordering::Relaxed),
                    control.received.load(Ordering::Relaxed)
                ),
            }
            drop(io::stdout().flush());
        }
        // Whoever started us is gone.
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(shared))
}

async fn serve(shared: Arc<Shared>) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    // All of 127.0.0.0/8: a hundred thousand clients need more ports than one address has.
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    let listener: TcpListener = socket.listen(4096)?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    loop {
        let (socket, _) = listener.accept().await?;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::Relaxed);
            // A client that goes away is the usual end.
            let _ = play(socket, &shared).await;
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn play(mut socket: TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let path = upgrade(&mut socket).await?;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let number = |at: usize| {
        parts
            .get(at)
            .and_then(|part| part.parse::<u64>().ok())
            .unwrap_or(0)
    };
    match parts[0] {
        "flood" => flood(&mut socket, number(1), number(2) as usize).await?,
        "trickle" => trickle(&mut socket, number(1), number(2) as usize, number(3)).await?,
        _ => {}
    }
    idle(&mut socket, shared).await
}

/// Reads the request, answers it, and returns its path.
async fn upgrade(socket: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 8192 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(socket.read_u8().await?);
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
    Ok(path)
}

/// A text frame as servers send them: a trade that is no heartbeat, padded to `len` bytes.
pub(crate) fn frame(len: usize) -> Vec<u8> {
    let text = crate::message(len);
    let mut frame = vec![0x81];
    match text.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=65_535 => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

async fn flood(socket: &mut TcpStream, count: u64, len: usize) -> io::Result<()> {
    let frame = frame(len);
    let batch = (256 * 1024 / frame.len()).max(1) as u64;
    let block = frame.repeat(batch as usize);
    let mut left = count;
    while left > 0 {
        let now = left.min(batch);
        socket
            .write_all(&block[..frame.len() * now as usize])
            .await?;
        left -= now;
    }
    Ok(())
}

/// One message a write, `rate` of them a second: each wakes the client.
async fn trickle(socket: &mut TcpStream, count: u64, len: usize, rate: u64) -> io::Result<()> {
    let frame = frame(len);
    let start = Instant::now();
    for number in 0..count {
        let due = start + Duration::from_nanos(number * 1_000_000_000 / rate.max(1));
        // tokio's timer has milliseconds; the rest is waited for actively, on a processor of its own.
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        socket.write_all(&frame).await?;
    }
    Ok(())
}

/// Reads frames and answers pings, until the client goes or the server is told to freeze.
async fn idle(socket: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        socket.readable().await?;
        let mut chunk = [0; 16 * 1024];
        match socket.try_read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let mut at = 0;
        while let Some((opcode, payload, len)) = parse(&buffer[at..]) {
            at += len;
            match opcode {
                _ if shared.frozen.load(Ordering::Relaxed) => {}
                9 => {
                    let mut pong = vec![0x8a, payload.len() as u8];
                    pong.extend(payload);
                    socket.write_all(&pong).await?;
                }
                8 => return socket.write_all(&[0x88, 0]).await,
                _ => {
                    shared.received.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        buffer.drain(..at);
        if buffer.is_empty() {
            // A hundred thousand connections share this machine with their clients.
            buffer = Vec::new();
        }
    }
}

/// Opcode, unmasked payload of a control frame, and length of the first whole frame.
fn parse(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (len, head) = match second & 0x7f {
        126 => (
            u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize,
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
            10,
        ),
        len => (len as usize, 2),
    };
    let mask = bytes.get(head..head + 4)?;
    let payload = bytes.get(head + 4..head + 4 + len)?;
    let opcode = first & 0x0f;
    let plain = match opcode {
        8.. => payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect(),
        _ => Vec::new(),
    };
    Some((opcode, plain, head + 4 + len))
}
