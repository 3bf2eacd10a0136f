//! A tungstenite server, for the tests of clients that run over another WebSocket library.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_driver::Reason;
use heartbeat_driver::core::{AbortReason, Cause, GiveUp};
use tungstenite::{Message, WebSocket};

/// Nothing takes this long, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Serves each connection in turn by the next of these.
pub fn serve(turns: Vec<fn(TcpStream)>) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        for turn in turns {
            let (stream, _) = listener.accept().expect("a client");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            turn(stream);
        }
    });
    (address, server)
}

/// Upgrades a connection.
pub fn accept(stream: TcpStream) -> WebSocket<TcpStream> {
    tungstenite::accept(stream).expect("an upgrade")
}

/// A turn that sends 100 pings of each kind and echoes messages until the client closes. Each ping must have been
/// answered once, in order.
pub fn pings_and_echoes(stream: TcpStream) {
    let mut socket = accept(stream);
    for number in 0..100u8 {
        let ping = Message::Ping(vec![number].into());
        socket.write(ping).expect("room");
        let text = Message::text(r#"{"type":"ping"}"#);
        socket.write(text).expect("room");
    }
    socket.flush().expect("room");
    let (mut pongs, mut texts) = (Vec::new(), 0);
    while let Ok(frame) = socket.read() {
        match frame {
            Message::Pong(payload) => pongs.push(payload[0]),
            Message::Text(text) if text == r#"{"type":"pong"}"# => texts += 1,
            Message::Close(_) => {}
            other => socket.send(other).expect("room"),
        }
    }
    assert_eq!(pongs, (0..100).collect::<Vec<u8>>());
    assert_eq!(texts, 100);
}

/// Turns that end in a Close, a lost connection, a frozen server and a refusal with 403.
/// [`assert_four_ends`] checks what a client reports of them.
pub fn four_ends() -> Vec<fn(TcpStream)> {
    vec![
        |stream| {
            let mut socket = accept(stream);
            socket.close(None).expect("open");
            while socket.read().is_ok() {}
        },
        |stream| drop(accept(stream)),
        |stream| {
            // Frozen: it sends nothing, not even an answer to a ping, until the client is gone.
            let mut socket = accept(stream);
            let mut rest = Vec::new();
            let _ = socket.get_mut().read_to_end(&mut rest);
            assert_eq!(rest.first(), Some(&0x89), "it was asked");
        },
        |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).expect("room");
        },
    ]
}

/// A server that reads an upload at 300 kB a second and stops in the middle.
pub struct Slow {
    /// The address on which it listens.
    pub address: SocketAddr,
    /// Signals when it has stopped.
    pub stopped: mpsc::Receiver<Instant>,
    /// Its connection stays open as long as this value lives.
    pub held: mpsc::Sender<()>,
}

/// Reads for `span` and sends nothing after a ping at the beginning. Then it sends something, reads a
/// little more, and then stops.
///
/// # Panics
///
/// In its own thread, if the client leaves before.
#[cfg(unix)]
pub fn reads_slowly_and_stops(span: Duration) -> Slow {
    const STEP: Duration = Duration::from_millis(20);
    const PACE: usize = 6_000;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // Its buffers are soon full of unread bytes.
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 16 << 10).expect("a size");
    let address = listener.local_addr().expect("an address");
    let (tell, stopped) = mpsc::channel();
    let (held, is_over) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut socket = accept(stream);
        let read = |stream: &mut TcpStream, span: Duration| {
            let end = Instant::now() + span;
            while Instant::now() < end {
                stream.read_exact(&mut [0; PACE]).expect("it goes on");
                thread::sleep(STEP);
            }
        };
        // The first bytes of the upload have arrived.
        socket.get_mut().read_exact(&mut [0; PACE]).expect("one");
        let ping = Message::Ping("amid the upload".into());
        socket.send(ping).expect("room");
        read(socket.get_mut(), span);
        socket.send(Message::text("enough")).expect("room");
        read(socket.get_mut(), Duration::from_millis(300));
        tell.send(Instant::now()).expect("somebody waits");
        let _ = is_over.recv();
        drop(socket);
    });
    Slow {
        address,
        stopped,
        held,
    }
}

/// Compares the ends of a client's connections, and its reason for giving up, with [`four_ends`].
///
/// # Panics
///
/// If the client saw other ends.
#[track_caller]
pub fn assert_four_ends(ends: &[Reason], gave_up: GiveUp) {
    let refused = Cause::Http {
        status: 403,
        retry_after: None,
    };
    assert_eq!(gave_up, GiveUp::Cause(refused));
    let &[close, dropped, frozen, last] = ends else {
        panic!("{ends:?}");
    };
    assert_eq!(close, Reason::Cause(Cause::Close(1005)));
    let gone = [Cause::Eof, Cause::Reset].map(Reason::Cause);
    assert!(gone.contains(&dropped), "{dropped:?}");
    assert_eq!(frozen, Reason::Aborted(AbortReason::PongTimeout));
    assert_eq!(last, Reason::Cause(refused));
}
