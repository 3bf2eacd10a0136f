//! What an application sends and receives, and what it is told.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
pub use heartbeat_core::Reason;
use heartbeat_core::{ConnId, GiveUp, Renewal};

use crate::exchange::Response;
use crate::text::Text;

/// An application message. Cloning is cheap: the bytes are shared.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message, valid UTF-8.
    Text(Text),
    /// A binary message.
    Binary(Bytes),
}

impl Message {
    /// Length of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// True if the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lends the message.
    #[must_use]
    pub fn lend(&self) -> MessageRef<'_> {
        match self {
            Self::Text(text) => MessageRef::Text(text),
            Self::Binary(bytes) => MessageRef::Binary(bytes),
        }
    }

    /// The text of a text message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload of a message of either kind: a text's bytes are UTF-8.
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Message; // or heartbeat_blocking
    /// assert_eq!(Message::from("tick").as_bytes(), b"tick");
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Takes the payload of a message of either kind, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Takes the text of a text message, or of a binary message that is UTF-8, without a copy.
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Message; // or heartbeat_blocking
    /// let text = Message::from(b"tick".to_vec()).into_text();
    /// assert_eq!(text.as_deref(), Ok("tick"));
    /// assert!(Message::from(vec![0xff]).into_text().is_err());
    /// ```
    ///
    /// # Errors
    /// The message itself, where its payload is not UTF-8.
    pub fn into_text(self) -> Result<Text, Self> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(bytes) => Text::try_from(bytes.clone()).map_err(|_| Self::Binary(bytes)),
        }
    }
}

/// The kind and the length alone, as in `Text(12 bytes)`: the payload may hold credentials.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Text(_) => "Text",
            Self::Binary(_) => "Binary",
        };
        write!(f, "{kind}({} bytes)", self.len())
    }
}

/// A message that is lent: its bytes lie where they were received, or belong to a [`Message`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MessageRef<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl MessageRef<'_> {
    /// Length of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// True if the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload: of a text its UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// A message of its own, with a copy of the payload.
    #[must_use]
    pub fn to_message(&self) -> Message {
        match *self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => Message::Binary(Bytes::copy_from_slice(bytes)),
        }
    }
}

/// The kind and the length alone, as for [`Message`].
impl fmt::Debug for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Text(_) => "Text",
            Self::Binary(_) => "Binary",
        };
        write!(f, "{kind}({} bytes)", self.len())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

#[cfg(feature = "tungstenite")]
impl From<Message> for tungstenite::Message {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

/// Of a message of the application's; a control frame comes back.
#[cfg(feature = "tungstenite")]
impl TryFrom<tungstenite::Message> for Message {
    type Error = tungstenite::Message;

    fn try_from(message: tungstenite::Message) -> Result<Self, Self::Error> {
        match message {
            tungstenite::Message::Text(text) => Ok(Self::Text(text.into())),
            tungstenite::Message::Binary(bytes) => Ok(Self::Binary(bytes)),
            other => Err(other),
        }
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

/// Messages that were accepted and not written: handed back, in the order in which they were accepted.
///
/// None of them was received: what has not wholly been handed to the operating system is no message to
/// a peer. Of one that was *cut* a part was handed over; it says so, because a peer may act on that.
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Message, Unsent}; // or heartbeat_blocking
/// # fn again(_: Message) {}
/// # let unsent = Unsent::default();
/// for returned in unsent {
///     if !returned.cut {
///         again(returned.message);
///     }
/// }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Unsent(Box<[Returned]>);

/// A message that is handed back.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Returned {
    /// The message.
    pub message: Message,
    /// A part of it had been handed to the operating system when its connection ended.
    pub cut: bool,
}

impl Unsent {
    pub(crate) fn new(cut: Option<Message>, rest: impl IntoIterator<Item = Message>) -> Self {
        let returned = |cut| move |message| Returned { message, cut };
        let cut = cut.into_iter().map(returned(true));
        Self(cut.chain(rest.into_iter().map(returned(false))).collect())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Returned> {
        self.0.iter()
    }

    /// All of them, whether cut or not.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.into_iter().map(|returned| returned.message).collect()
    }

    /// These, and then those.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        match (self.is_empty(), later.is_empty()) {
            (true, _) => later,
            (_, true) => self,
            _ => Self(self.into_iter().chain(later).collect()),
        }
    }
}

impl IntoIterator for Unsent {
    type Item = Returned;
    type IntoIter = std::vec::IntoIter<Returned>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Unsent {
    type Item = &'a Returned;
    type IntoIter = std::slice::Iter<'a, Returned>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Without the messages: they may hold credentials.
impl fmt::Debug for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Without the message itself.
impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned")
            .field("len", &self.message.len())
            .field("cut", &self.cut)
            .finish()
    }
}

/// What happens to a client, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A dial begins.
    Connecting {
        /// The connection to be.
        conn: ConnId,
        /// Failures in a row before this dial: 0 for the first, n for retry n.
        attempt: u32,
    },
    /// The upgrade is done: messages can be sent, or, where a session is asked for, the messages that
    /// make it ready.
    Connected {
        /// The connection.
        conn: ConnId,
        /// How long the dial took.
        after: Duration,
        /// What the server answered: its headers, and the subprotocol that it chose.
        response: Arc<Response>,
    },
    /// Something may be missing between what came before and what comes now. Told right after
    /// [`Event::Connected`], before any message of the new connection, whenever a ready connection had
    /// been lost; once more, with the same `since`, if the session then does not become ready.
    Gap {
        /// The connection that is open now.
        conn: ConnId,
        /// When the last byte of the lost connection was heard, by the wall clock as it stood when
        /// that connection ended: from here on data is to be fetched anew.
        since: SystemTime,
        /// The time from then until now, whatever the wall clock did.
        down_for: Duration,
        /// Why the lost connection ended.
        cause: Reason,
        /// Dials since then, the one that succeeded included.
        attempts: u32,
        /// Messages handed back since then.
        unsent: usize,
        /// Messages that were written and may not have arrived: the sum of `in_doubt` of each
        /// [`Event::Disconnected`] since then, that of the lost connection included.
        in_doubt: usize,
    },
    /// The session is ready: messages can be sent, and those that were held go out. Told only where a
    /// session is asked for ([`Options::on_connect`](crate::Options::on_connect), or by the application
    /// itself); elsewhere [`Event::Connected`] says it.
    Ready {
        /// The connection.
        conn: ConnId,
    },
    /// Messages that were held for `time_to_live` and found no connection to be sent on.
    Expired {
        /// The messages, none of them cut.
        unsent: Unsent,
    },
    /// An application message. Heartbeats of the dialect are not handed out.
    Message {
        /// The connection that it came on.
        conn: ConnId,
        /// The message.
        message: Message,
    },
    /// Messages that would have come here were dropped: the application did not take them in time. With
    /// [`Overflow::DropOldest`](crate::Overflow::DropOldest) or
    /// [`DropNewest`](crate::Overflow::DropNewest), whenever more than [`Options::queue`](crate::Options::queue) wait;
    /// with [`Pause`](crate::Overflow::Pause) only where more than 16 MiB had arrived before a connection's end.
    Lagged {
        /// How many, at least one.
        dropped: u64,
    },
    /// Dials and connections that came and went while the application took no events, told by this one event.
    /// Only where more than 256 beginnings and ends wait; the first and the last of a row are told in full.
    Skipped {
        /// How many dials and connections have ended.
        ends: u64,
        /// Data may be missing since then, by the wall clock: the earliest [`Event::Gap`] among them.
        since: Option<SystemTime>,
        /// The messages that they handed back, in order, those among them that expired.
        unsent: Unsent,
        /// Messages that were written and may not have arrived: the sum of `in_doubt` of the ends.
        in_doubt: usize,
    },
    /// A ping of the server was answered. This and the other notes on heartbeats ([`Event::PingSent`],
    /// [`Event::PongReceived`], [`Event::Check`]) are left out when 64 of them wait for the application, or
    /// where [`Options::heartbeat_events`](crate::Options::heartbeat_events) says so.
    PongSent {
        /// The connection.
        conn: ConnId,
    },
    /// The server was asked for a sign of life.
    PingSent {
        /// The connection.
        conn: ConnId,
    },
    /// A pong arrived.
    PongReceived {
        /// The connection.
        conn: ConnId,
        /// Time since the ping that it answers; `None` if it answers none of ours.
        rtt: Option<Duration>,
    },
    /// The connection was looked at, as every `check_interval`.
    Check {
        /// The connection.
        conn: ConnId,
        /// How long nothing was heard.
        idle: Duration,
    },
    /// The connection is about to end: it is nearly as old as the service lets it become, or the service has announced
    /// its end ([`Options::of_service`](crate::Options::of_service), a `lifetime` in the configuration). It is well, and
    /// is closed and dialled anew after `within`. [`Event::Disconnected`] then has [`Reason::Renewal`].
    Ending {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: Renewal,
        /// How long until then.
        within: Duration,
    },
    /// The connection ended or the dial failed.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
        /// What the error said, for people: "certificate expired", "name or service not known".
        detail: Option<Box<str>>,
        /// What the server answered instead of 101, or a proxy instead of opening a way, if that is what
        /// ended the dial.
        response: Option<Arc<Response>>,
        /// How long nothing had been heard; zero if it was never open.
        idle: Duration,
        /// How long it had been open; zero if it was not.
        open: Duration,
        /// Messages that were accepted but not wholly handed to the operating system, in order.
        /// Where messages are held ([`Options::hold`](crate::Options::hold)): only the one that was
        /// cut, those that belonged to this connection, and what there is no room to hold.
        unsent: Unsent,
        /// Messages of the application's that were written (wholly handed to the operating system) after the last byte of
        /// the peer's was read: nothing that was heard can speak of them, and the peer may never have had them. Of messages
        /// that were written before, only an answer of the service's own is a receipt. Messages of `on_connect` do not
        /// count, nor do those in `unsent`.
        in_doubt: usize,
    },
    /// The next dial is planned.
    Reconnect {
        /// Which retry in a row it will be, from 1; 0 after a renewal.
        attempt: u32,
        /// How long until then.
        delay: Duration,
    },
    /// There will be no further dial. The last event but [`Event::Stopped`].
    GaveUp {
        /// Why; after [`max_attempts`](heartbeat_core::ConfigBuilder::max_attempts) with how the last dial or connection
        /// ended.
        reason: GiveUp,
        /// What the last error said, for people: the `detail` of the last [`Event::Disconnected`].
        detail: Option<Box<str>>,
    },
    /// The client has ended, by its user's wish or because it gave up. Always the last event.
    Stopped {
        /// Messages that were accepted but not wholly handed to the operating system, in order.
        unsent: Unsent,
        /// Messages that were written after the last byte of the peer's was read, as in [`Event::Disconnected`]. 0 if
        /// the peer has answered the Close, or no connection was open.
        in_doubt: usize,
        /// The peer did not answer the Close within `close_timeout`, and its connection was dropped.
        close_timed_out: bool,
    },
}

impl Event {
    /// The messages that this event hands back.
    #[must_use]
    pub fn into_unsent(self) -> Unsent {
        match self {
            Self::Disconnected { unsent, .. }
            | Self::Expired { unsent }
            | Self::Skipped { unsent, .. }
            | Self::Stopped { unsent, .. } => unsent,
            _ => Unsent::default(),
        }
    }
}

/// A duration as logs show it: `25.3 s`, `2 s`, and below a tenth of a second `1.4 ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, name) = match nanos {
            1..100_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let tenths = (nanos * 10 + unit / 2) / unit;
        match (tenths / 10, tenths % 10) {
            (whole, 0) => write!(f, "{whole} {name}"),
            (whole, tenth) => write!(f, "{whole}.{tenth} {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "tungstenite")]
    #[test]
    fn messages_become_tungstenites_and_come_back() {
        for message in [Message::from("é"), Message::from(vec![1, 2])] {
            let theirs = tungstenite::Message::from(message.clone());
            assert_eq!(Message::try_from(theirs), Ok(message));
        }
        let ping = tungstenite::Message::Ping(Bytes::new());
        assert_eq!(Message::try_from(ping.clone()), Err(ping));
    }

    #[test]
    fn debug_shows_a_messages_kind_and_length_and_nothing_of_its_payload() {
        let event = Event::Message {
            conn: ConnId::new(1),
            message: "secrét".into(),
        };
        assert_eq!(
            format!("{event:?} {:?}", Message::from(vec![0, b'a'])),
            "Message { conn: ConnId(1), message: Text(7 bytes) } Binary(2 bytes)"
        );
    }

    #[test]
    fn durations_read_like_the_log_lines_of_the_contract() {
        assert_eq!(Seconds(Duration::from_millis(25_300)).to_string(), "25.3 s");
        assert_eq!(Seconds(Duration::from_secs(2)).to_string(), "2 s");
        assert_eq!(Seconds(Duration::from_millis(1_960)).to_string(), "2 s");
        assert_eq!(Seconds(Duration::ZERO).to_string(), "0 s");
        assert_eq!(Seconds(Duration::from_micros(1_440)).to_string(), "1.4 ms");
        assert_eq!(Seconds(Duration::from_millis(100)).to_string(), "0.1 s");
    }
}
