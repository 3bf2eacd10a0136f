//! How each ping and each answer was said: by frame or by message. Events do not tell; the machine's steps do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heartbeat_tokio::ConnId;
use heartbeat_tokio::core::{Action, Ask, Event, Message, Step};

/// The client leaves out further events on heartbeats while so many of them wait. Their notes are left out, too.
const MOST: usize = 64;

/// A row of heartbeats, filled by the client's observer and emptied by whoever tells its events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heartbeats(Arc<Mutex<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    asked: Row,
    answered: Row,
}

type Row = VecDeque<(ConnId, &'static str)>;

impl Heartbeats {
    /// Takes note of a step's heartbeats.
    pub(crate) fn note(&self, event: &Event<'_>, step: &Step<'_>) {
        let mut rows = self.rows();
        if let Event::PingUnsent(_) = event {
            rows.asked.pop_back();
        }
        for action in step.actions.iter() {
            match action {
                Action::SendPing { conn, ping } => push(&mut rows.asked, *conn, asked_by(ping)),
                Action::SendPong { conn, .. } => push(&mut rows.answered, *conn, answered(event)),
                _ => {}
            }
        }
    }

    /// The kind of the ping that the next `PingSent` of this connection tells of: `frame ping`.
    pub(crate) fn next_asked(&self, conn: ConnId) -> &'static str {
        next(&mut self.rows().asked, conn)
    }

    /// The kind of the ping that the next `PongSent` of this connection tells of.
    pub(crate) fn next_answered(&self, conn: ConnId) -> &'static str {
        next(&mut self.rows().answered, conn)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push(row: &mut Row, conn: ConnId, kind: &'static str) {
    if row.len() < MOST {
        row.push_back((conn, kind));
    }
}

/// Takes the next kind of this connection. Kinds of earlier connections have no event any more, and go.
fn next(row: &mut Row, conn: ConnId) -> &'static str {
    while row.front().is_some_and(|(of, _)| *of != conn) {
        row.pop_front();
    }
    row.pop_front().map_or("ping", |(_, kind)| kind)
}

fn asked_by(ping: &Ask) -> &'static str {
    match ping {
        Ask::Frame(_) => "frame ping",
        _ => "message ping",
    }
}

fn answered(event: &Event<'_>) -> &'static str {
    match event {
        Event::Received(_, Message::Ping(_)) => "frame ping",
        Event::Received(_, Message::Text(text)) if text.starts_with(['{', '[']) => "JSON ping",
        Event::Received(_, Message::Text(_)) => "text ping",
        Event::Received(_, Message::Binary(_)) => "binary ping",
        _ => "ping",
    }
}
