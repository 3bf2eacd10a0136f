//! Notes whether each ping and answer was a frame or a message. Events do not say, but the machine's steps do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heartbeat_tokio::ConnId;
use heartbeat_tokio::core::{Action, Event, Message, PingMessage, Step};

/// The most notes of a kind. This is more than the number of heartbeat events that can wait for this program.
const MOST: usize = 1024;

/// Notes on heartbeats. The client's observer adds them, and the display of an event takes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heartbeats(Arc<Mutex<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    /// Pings of the client.
    asked: Row,
    /// Answers to the server's pings.
    answered: Row,
    /// The connection of the latest note.
    latest: Option<ConnId>,
    /// The latest connection of which events were left out. Notes and events of connections up to it do not match.
    torn: Option<ConnId>,
    /// How many events were left out so far.
    left_out: u64,
}

type Row = VecDeque<(ConnId, &'static str)>;

impl Heartbeats {
    /// Notes the heartbeats of a step.
    pub(crate) fn note(&self, event: &Event<'_>, step: &Step<'_>) {
        let mut rows = self.rows();
        if let Event::PingUnsent(_) = event {
            rows.asked.pop_back();
        }
        for action in step.actions.iter() {
            match action {
                Action::SendPing { conn, ping } => {
                    rows.note(*conn, |rows| &mut rows.asked, asked_by(ping))
                }
                Action::SendPong { conn, .. } => {
                    rows.note(*conn, |rows| &mut rows.answered, answered(event))
                }
                _ => {}
            }
        }
    }

    /// Updates the number of heartbeat events that the client left out, from `ClientStats`.
    pub(crate) fn left_out(&self, count: u64) {
        let mut rows = self.rows();
        if count != rows.left_out {
            (rows.left_out, rows.torn) = (count, rows.latest);
        }
    }

    /// Takes the kind of ping for the next `PingSent` event of this connection, such as `frame ping`.
    pub(crate) fn next_asked(&self, conn: ConnId) -> &'static str {
        self.rows().next(conn, |rows| &mut rows.asked)
    }

    /// Takes the kind of ping for the next `PongSent` event of this connection.
    pub(crate) fn next_answered(&self, conn: ConnId) -> &'static str {
        self.rows().next(conn, |rows| &mut rows.answered)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn note(&mut self, conn: ConnId, row: fn(&mut Self) -> &mut Row, kind: &'static str) {
        self.latest = Some(conn);
        if row(self).len() < MOST {
            row(self).push_back((conn, kind));
        } else {
            self.torn = Some(conn);
        }
    }

    /// Takes the next kind of this connection. Drops the kinds of earlier connections, whose events were left out.
    fn next(&mut self, conn: ConnId, row: fn(&mut Self) -> &mut Row) -> &'static str {
        let is_torn = self.torn.is_some_and(|torn| conn <= torn);
        let row = row(self);
        while row.front().is_some_and(|(of, _)| *of != conn) {
            row.pop_front();
        }
        match row.pop_front() {
            Some((_, kind)) if !is_torn => kind,
            _ => "ping",
        }
    }
}

fn asked_by(ping: &PingMessage) -> &'static str {
    match ping {
        PingMessage::Frame(_) => "frame ping",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_event_was_left_out_no_kind_is_guessed_until_the_next_connection() {
        let heartbeats = Heartbeats::default();
        let answered = |conn, kind| {
            let conn = ConnId::new(conn);
            heartbeats
                .rows()
                .note(conn, |rows| &mut rows.answered, kind);
        };
        let next = |conn| heartbeats.next_answered(ConnId::new(conn));
        answered(1, "frame ping");
        answered(1, "JSON ping");
        heartbeats.left_out(0);
        assert_eq!(next(1), "frame ping");
        heartbeats.left_out(1);
        answered(1, "frame ping");
        assert_eq!(next(1), "ping");
        answered(2, "JSON ping");
        heartbeats.left_out(1);
        assert_eq!(next(2), "JSON ping");
    }
}
