//! A relay between a client and a server that simulates network faults.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt;

/// The fault of each connection. Bytes are counted from the server, including the upgrade's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    None,
    /// After this many bytes nothing passes any more, in either direction. Both sockets stay open.
    Freeze(u64),
    /// From the beginning, this many bytes a second pass from the server.
    Trickle(u64),
    /// After this many bytes both sides see the end of the stream.
    Cut(u64),
    /// After this many bytes both sides see a reset.
    Reset(u64),
    /// As soon as the upgrade is answered, both sides see the end of the stream.
    DropAfterUpgrade,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, bytes) = match text.split_once('=') {
            Some((name, bytes)) => {
                let bytes = bytes
                    .parse()
                    .map_err(|_| format!("`{text}`: {bytes} is no number of bytes"))?;
                (name, Some(bytes))
            }
            None => (text, None),
        };
        match (name, bytes) {
            ("none", None) => Ok(Self::None),
            ("freeze", Some(bytes)) => Ok(Self::Freeze(bytes)),
            ("trickle", Some(bytes @ 1..)) => Ok(Self::Trickle(bytes)),
            ("cut", Some(bytes)) => Ok(Self::Cut(bytes)),
            ("reset", Some(bytes)) => Ok(Self::Reset(bytes)),
            ("drop-after-upgrade", None) => Ok(Self::DropAfterUpgrade),
            _ => Err(format!(
                "`{text}` is no fault: none, freeze=BYTES, trickle=BYTES_A_SECOND, cut=BYTES, reset=BYTES, drop-after-upgrade"
            )),
        }
    }
}

/// Relays from a free port of the loopback interface to `server`. Returns the address on which it listens.
/// It ends with the process.
///
/// # Errors
///
/// No port is available.
pub fn start(port: u16, server: SocketAddr, fault: Fault) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                // Either end may be gone, and then the other goes, too.
                let _ = relay(&client, server, fault);
            });
        }
    });
    Ok(address)
}

fn relay(client: &TcpStream, server: SocketAddr, fault: Fault) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (up_from, up_to) = (client.try_clone()?, server.try_clone()?);
    let faulty = Arc::new(AtomicBool::new(false));
    let upstream = thread::spawn({
        let faulty = Arc::clone(&faulty);
        move || up(&up_from, &up_to, &faulty)
    });
    // An end that is gone takes the other with it.
    match down(client, &server, fault).unwrap_or(Ending::Over) {
        Ending::Frozen => {
            faulty.store(true, Ordering::Relaxed);
            // Nothing is read or written. The sockets live as long as this thread.
            loop {
                thread::park();
            }
        }
        Ending::Reset => {
            faulty.store(true, Ordering::Relaxed);
            sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
            sockopt::set_socket_linger(&server, Some(Duration::ZERO))?;
            // Sends nothing on the wire, but ends the other thread, whose handles would keep both sockets open.
            let _ = client.shutdown(Shutdown::Read);
        }
        Ending::Over => {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }
    let _ = upstream.join();
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Over,
    Frozen,
    Reset,
}

/// Passes on the client's bytes, until the relay freezes or resets, or an end is gone.
fn up(mut client: &TcpStream, mut server: &TcpStream, faulty: &AtomicBool) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        if faulty.load(Ordering::Relaxed) || server.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
    if !faulty.load(Ordering::Relaxed) {
        let _ = server.shutdown(Shutdown::Write);
    }
}

fn down(mut client: &TcpStream, mut server: &TcpStream, fault: Fault) -> io::Result<Ending> {
    const TENTH: Duration = Duration::from_millis(100);
    let mut passed = 0_u64;
    let mut bytes = [0; 16 << 10];
    let mut tail = Vec::new();
    loop {
        let most = match fault {
            Fault::Freeze(at) | Fault::Cut(at) | Fault::Reset(at) => at - passed,
            Fault::Trickle(rate) => rate.div_ceil(10),
            Fault::DropAfterUpgrade => 1,
            Fault::None => bytes.len() as u64,
        };
        if most == 0 {
            return Ok(match fault {
                Fault::Freeze(_) => Ending::Frozen,
                Fault::Reset(_) => Ending::Reset,
                _ => Ending::Over,
            });
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
        let count = server.read(&mut bytes[..most])?;
        if count == 0 {
            return Ok(Ending::Over);
        }
        client.write_all(&bytes[..count])?;
        passed += count as u64;
        match fault {
            Fault::Trickle(_) => thread::sleep(TENTH),
            Fault::DropAfterUpgrade => {
                tail.extend_from_slice(&bytes[..count]);
                if tail.ends_with(b"\r\n\r\n") {
                    return Ok(Ending::Over);
                }
            }
            _ => {}
        }
    }
}
