//! The values for the placeholders of a template.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// The most values of a message that one reply may repeat.
pub(crate) const MAX_CAPTURES: usize = 4;

/// Values that the application sets (`${session}`), and values that a dialect tracks (`${seq}`). Each value is
/// inserted as it is, so a JSON string includes its quotes.
pub type Variables = BTreeMap<String, String>;

/// The values for a template, besides the message that it answers.
#[derive(Clone, Copy, Debug)]
pub struct Values<'v> {
    /// Milliseconds since 1970: `${now_ms}`. Divided by 1000 for `${now_s}`.
    pub unix_ms: u64,
    /// The values of all other names, `${name}`.
    pub variables: &'v Variables,
}

/// A buffer into which a dialect writes a message to send. It is reused, so it may hold an earlier message.
///
/// ```
/// use heartbeat_core::{Buffer, Description, Dialect, Outgoing, Values, Variables};
///
/// let dialect = Description::from_json(r#"{"ping": {"text": "ping ${now_iso}"}}"#)?;
/// let values = Values { unix_ms: 1_700_000_000_123, variables: &Variables::new() };
/// let mut buffer = Buffer::default();
/// let ping = dialect.render(&dialect.ping().message.unwrap(), &values, &mut buffer);
/// assert_eq!(ping, Some(Outgoing::Text("ping 2023-11-14T22:13:20.123Z")));
/// # Ok::<(), heartbeat_core::DescriptionError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    /// Holds a text message.
    pub text: String,
    /// Holds a binary message.
    pub bytes: Vec<u8>,
}

/// A message to send, made from a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing<'d> {
    /// A text message.
    Text(&'d str),
    /// A binary message.
    Binary(&'d [u8]),
}

/// Names with a meaning in every template.
const BUILT_IN: [&str; 11] = [
    "id",
    "now_s",
    "now_ms",
    "now_us",
    "now_ns",
    "now_iso",
    "now_iso_s",
    "now_iso_us",
    "uuid",
    "message",
    "rest",
];

pub(crate) const NOT_KNOWN: &str = "is nothing that could be filled in: it is none of id, now_s, now_ms, now_us, now_ns, now_iso \
    and uuid, and neither listed in \"variables\" or \"computed\" nor tracked";

/// The source of a captured slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The value at the path with this number.
    Slot(usize),
    /// The value at the path with this number, without its quotes if it is a string.
    Bare(usize),
    /// The text after the rule's prefix.
    Rest,
    /// The whole message.
    Message,
    /// Bytes of a binary message, from start to end.
    Range(u16, Option<u16>),
}

/// A value of the application's messages that a template needs.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) name: Box<str>,
    pub(crate) slot: usize,
    pub(crate) initial: Option<Box<str>>,
}

pub(crate) fn variable<'v>(
    name: &str,
    values: &Values<'v>,
    tracks: &'v [Track],
) -> Option<&'v str> {
    let initial = || {
        let track = tracks.iter().find(|track| *track.name == *name)?;
        track.initial.as_deref()
    };
    values
        .variables
        .get(name)
        .map(String::as_str)
        .or_else(initial)
}

/// Returns true if a description may use this name for a value of its own.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !BUILT_IN.contains(&name)
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
