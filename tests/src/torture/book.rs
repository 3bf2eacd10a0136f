//! What the server saw of each client. The course is judged by this, not by a client's own report.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// The number of a client's connections that are recorded one by one. Further connections of a client that
/// storms are only counted.
const KEPT: usize = 2_500;

/// Milliseconds since the Unix epoch: the programs of a course run on one machine and share its clock.
#[must_use]
pub fn now_ms() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}

/// All clients, by the id in their URLs.
#[derive(Debug, Default)]
pub struct Book {
    clients: Mutex<HashMap<String, Client>>,
}

#[derive(Debug, Default)]
struct Client {
    /// Including those that are not recorded.
    connects: u64,
    /// All connections to a path count as one client's.
    connections: Vec<Record>,
    /// Numbers of messages, over all connections.
    next_number: u64,
    received: u64,
    gaps: u64,
    duplicates: u64,
    /// Our address that the client dialled first.
    address: Option<IpAddr>,
}

/// One connection.
#[derive(Clone, Debug, Default)]
struct Record {
    peer_port: u16,
    accepted: f64,
    upgraded: Option<f64>,
    /// When we last wrote to it.
    said: f64,
    /// When we last read something from it.
    heard: f64,
    ended: Option<f64>,
    end: String,
    pings: u64,
    pongs: u64,
    messages: u64,
    bytes: u64,
    notes: Vec<String>,
}

/// Where a connection's record stands.
#[derive(Clone, Debug)]
pub struct Entry {
    id: String,
    /// None if it is only counted.
    index: Option<usize>,
}

impl Entry {
    /// The client's.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Book {
    /// How many connections a client has had.
    #[must_use]
    pub fn connects(&self, id: &str) -> u64 {
        self.lock().get(id).map_or(0, |client| client.connects)
    }

    /// A client's next connection, and its number; the first one is 1.
    pub fn open(&self, id: &str, accepted: f64, peer_port: u16) -> (Entry, u64) {
        let mut clients = self.lock();
        let client = clients.entry(id.to_owned()).or_default();
        client.connects += 1;
        let index = (client.connections.len() < KEPT).then_some(client.connections.len());
        if index.is_some() {
            client.connections.push(Record {
                peer_port,
                accepted,
                ..Record::default()
            });
        }
        let entry = Entry {
            id: id.to_owned(),
            index,
        };
        (entry, client.connects)
    }

    /// Whether this is our address that the client dialled first.
    pub fn is_first_address(&self, entry: &Entry, address: IpAddr) -> bool {
        let mut clients = self.lock();
        let client = clients.entry(entry.id.clone()).or_default();
        *client.address.get_or_insert(address) == address
    }

    fn with(&self, entry: &Entry, change: impl FnOnce(&mut Record)) {
        let mut clients = self.lock();
        let client = clients.get_mut(&entry.id);
        if let (Some(client), Some(index)) = (client, entry.index) {
            change(&mut client.connections[index]);
        }
    }

    /// The upgrade was answered.
    pub fn upgraded(&self, entry: &Entry) {
        let now = now_ms();
        self.with(entry, |record| {
            record.upgraded = Some(now);
            record.said = now;
        });
    }

    /// Something was written. The answer to the client's Close no longer counts.
    pub fn said(&self, entry: &Entry) {
        let now = now_ms();
        self.with(entry, |record| {
            if record.ended.is_none() {
                record.said = now;
            }
        });
    }

    /// Bytes were read.
    pub fn heard(&self, entry: &Entry, bytes: usize) {
        let now = now_ms();
        self.with(entry, |record| {
            record.heard = now;
            record.bytes += bytes as u64;
        });
    }

    /// A ping was read.
    pub fn ping(&self, entry: &Entry) {
        self.with(entry, |record| record.pings += 1);
    }

    /// A pong was read.
    pub fn pong(&self, entry: &Entry) {
        self.with(entry, |record| record.pongs += 1);
    }

    /// A message was read. Numbered messages are expected in order, over all connections.
    pub fn message(&self, entry: &Entry, payload: &[u8]) {
        self.with(entry, |record| record.messages += 1);
        let digits = payload
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let number = std::str::from_utf8(&payload[..digits]).ok();
        let Some(number) = number.and_then(|digits| digits.parse::<u64>().ok()) else {
            return;
        };
        if let Some(client) = self.lock().get_mut(&entry.id) {
            client.received += 1;
            if number < client.next_number {
                client.duplicates += 1;
            } else {
                client.gaps += number - client.next_number;
                client.next_number = number + 1;
            }
        }
    }

    /// A finding of the mode.
    pub fn note(&self, entry: &Entry, note: impl Into<String>) {
        self.with(entry, |record| record.notes.push(note.into()));
    }

    /// The client's end of the connection, or ours, is closed. The first reason counts.
    pub fn ended(&self, entry: &Entry, how: &str) {
        let now = now_ms();
        self.with(entry, |record| {
            if record.ended.is_none() {
                record.ended = Some(now);
                how.clone_into(&mut record.end);
            }
        });
    }

    /// Everything known of a client. Times are in milliseconds since the Unix epoch.
    #[must_use]
    pub fn report(&self, id: &str) -> Value {
        let clients = self.lock();
        let Some(client) = clients.get(id) else {
            return json!({ "id": id, "connects": 0, "connections": [] });
        };
        let connections = client.connections.iter().map(|record| {
            json!({
                "peer_port": record.peer_port, "accepted": record.accepted, "upgraded": record.upgraded,
                "said": record.said, "heard": record.heard, "ended": record.ended, "end": record.end,
                "pings": record.pings, "pongs": record.pongs, "messages": record.messages,
                "bytes": record.bytes, "notes": record.notes,
            })
        });
        json!({
            "id": id, "connects": client.connects, "received": client.received,
            "gaps": client.gaps, "duplicates": client.duplicates,
            "connections": connections.collect::<Vec<_>>(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
