//! The kernel's knowledge of the other end. A server that has stopped reading has no other source, because
//! a FIN waits behind unread bytes.

use std::collections::HashSet;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The table covers the whole machine, and many connections ask. So it is read once for all of them.
const FRESH: Duration = Duration::from_millis(40);

/// Both ports of each socket that its own side has not closed.
type Sockets = HashSet<(u16, u16)>;

static TABLE: Mutex<Option<(Instant, Sockets)>> = Mutex::new(None);

/// Whether the socket of this machine that is bound to port `local` and connected to port `remote`, both on
/// IPv4, is still open on its own side. The answer may be 40 ms old.
///
/// True if the table cannot be read.
#[must_use]
pub fn is_open(local: u16, remote: u16) -> bool {
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if table
        .as_ref()
        .is_none_or(|(read, _)| read.elapsed() >= FRESH)
    {
        let Ok(text) = fs::read_to_string("/proc/self/net/tcp") else {
            return true;
        };
        *table = Some((Instant::now(), established(&text)));
    }
    table
        .as_ref()
        .is_none_or(|(_, sockets)| sockets.contains(&(local, remote)))
}

/// `sl local_address rem_address st …`, ports and state in hex; 01 is ESTABLISHED, 08 CLOSE_WAIT.
fn established(table: &str) -> Sockets {
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let sockets = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (port(words.next()?)?, port(words.next()?)?);
        matches!(words.next(), Some("01" | "08")).then_some((local, remote))
    });
    sockets.collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_other_end_is_open_until_it_is_dropped() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let local = client.local_addr().unwrap().port();
        let _server = listener.accept().unwrap();
        assert!(super::is_open(local, port));
        drop(client);
        std::thread::sleep(super::FRESH);
        assert!(!super::is_open(local, port));
    }
}
