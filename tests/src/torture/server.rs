//! Accepts connections, finds out the client and its mode, and runs the mode, with a thread for each
//! connection.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::book::{Book, now_ms};
use super::connection::{Connection, Request};
use super::modes::{self, Mode, Times};

/// The behaviour towards a client that begins with a TLS handshake. Its name in the report is `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTls {
    /// The handshake is never answered (T11).
    Stall,
    /// The handshake is answered in plain HTTP (T21).
    Plain,
}

/// A running torture server. Dropping it hangs up on every client.
#[derive(Debug)]
pub struct TortureServer {
    /// A second handle, to stop waiting for clients.
    listener: TcpListener,
    address: SocketAddr,
    stage: Arc<Stage>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Stage {
    book: Book,
    times: Times,
    on_tls: OnTls,
    /// A second handle of each socket in use, to hang up from outside.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    stopping: bool,
    next: u64,
    sockets: HashMap<u64, TcpStream>,
}

/// The stack of a connection's thread: two buffers of 64 KiB and little else.
const STACK: usize = 512 << 10;

impl TortureServer {
    /// Starts on this address. Port 0 means any free one.
    ///
    /// # Errors
    ///
    /// The address is not available, or no thread can be started.
    pub fn start(address: (Ipv4Addr, u16), times: Times, on_tls: OnTls) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        // A short queue must not turn away a fleet that comes back at once.
        rustix::net::listen(&listener, 4096)?;
        let address = listener.local_addr()?;
        let stage = Arc::new(Stage {
            book: Book::default(),
            times,
            on_tls,
            open: Mutex::default(),
        });
        let accepting = thread::Builder::new().name("torture".into()).spawn({
            let (listener, stage) = (listener.try_clone()?, Arc::clone(&stage));
            move || accept(&listener, &stage)
        })?;
        Ok(Self {
            listener,
            address,
            stage,
            accepting: Some(accepting),
        })
    }

    /// A mode's URL for a client: `url("a1", "t10/1008")`.
    #[must_use]
    pub fn url(&self, id: &str, mode: &str) -> String {
        format!("ws://{}/@{id}/{mode}", self.address)
    }

    /// The address on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it saw of a client, as at `/report/ID`.
    #[must_use]
    pub fn report(&self, id: &str) -> Value {
        self.stage.book.report(id)
    }
}

impl Drop for TortureServer {
    fn drop(&mut self) {
        {
            let mut open = self.stage.open();
            open.stopping = true;
            for (_, socket) in open.sockets.drain() {
                drop(socket.shutdown(Shutdown::Both));
            }
        }
        // On Linux this ends a waiting `accept`, also in another network namespace.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

impl Stage {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number to remove the connection with. None once the server stops.
    fn enter(&self, socket: &TcpStream) -> Option<u64> {
        let mut open = self.open();
        let second = socket.try_clone().ok()?;
        if open.stopping {
            return None;
        }
        open.next += 1;
        let number = open.next;
        open.sockets.insert(number, second);
        Some(number)
    }
}

fn accept(listener: &TcpListener, stage: &Arc<Stage>) {
    for socket in listener.incoming() {
        if stage.open().stopping {
            return;
        }
        let accepted = now_ms();
        // For example, out of descriptors. Open connections go on.
        let Ok(socket) = socket else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let Some(number) = stage.enter(&socket) else {
            continue;
        };
        let theirs = Arc::clone(stage);
        let serving = thread::Builder::new().stack_size(STACK).spawn(move || {
            serve(socket, accepted, &theirs);
            theirs.open().sockets.remove(&number);
        });
        if serving.is_err() {
            stage.open().sockets.remove(&number);
        }
    }
}

fn serve(mut socket: TcpStream, accepted: f64, stage: &Stage) {
    let peer_port = socket.peer_addr().map_or(0, |address| address.port());
    let mut first = [0; 1];
    // The first byte of a TLS record with a handshake.
    if matches!(socket.peek(&mut first), Ok(1)) && first[0] == 22 {
        let (entry, _) = stage.book.open("tls", accepted, peer_port);
        let mut connection = Connection::new(socket, &stage.book, entry);
        let _ = match stage.on_tls {
            OnTls::Stall => connection.drain(),
            OnTls::Plain => connection
                .write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                .and_then(|()| connection.drain()),
        };
        return;
    }
    let Ok(request) = Request::read(&mut socket) else {
        return;
    };
    let path = request.path.split('?').next().unwrap_or("/");
    if request.key.is_none() && !path.starts_with("/@") {
        // It may be gone already.
        let _ = tell(&mut socket, path, stage);
        return;
    }
    let (id, mode) = match path
        .strip_prefix("/@")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((id, mode)) => (id, mode),
        None => (path.trim_start_matches('/'), path.trim_start_matches('/')),
    };
    let (entry, number) = stage.book.open(id, accepted, peer_port);
    let mut connection = Connection::new(socket, &stage.book, entry.clone());
    match Mode::parse(mode) {
        Some(mode) => {
            // Over means that the record says how.
            let _ = modes::play(&mode, number, &request, &mut connection, &stage.times);
            stage.book.ended(&entry, "hung up");
        }
        None => {
            let _ = connection.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            stage.book.ended(&entry, "no such mode");
        }
    }
}

/// Plain HTTP: reports, and the list of modes.
fn tell(socket: &mut TcpStream, path: &str, stage: &Stage) -> io::Result<()> {
    let (kind, body) = match path.strip_prefix("/report/") {
        Some(id) => ("application/json", stage.book.report(id).to_string()),
        None => ("text/plain; charset=utf-8", modes::help()),
    };
    write!(
        socket,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    socket.shutdown(Shutdown::Write)?;
    // Until the client has taken everything: closing a socket with unread bytes would reset it.
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    while socket.read(&mut [0; 1024])? > 0 {}
    Ok(())
}
