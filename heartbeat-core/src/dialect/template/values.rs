//! The values that fill in a template.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// The most values of a message that one reply may repeat.
pub(crate) const MAX_CAPTURES: usize = 4;

/// Values that the application knows and templates ask for (`${session}`), and values that a dialect
/// tracks (`${seq}`). Each is put in as it is: a JSON string has its quotes in here.
pub type Variables = BTreeMap<String, String>;

/// What a template is filled in with, besides the message it answers.
#[derive(Clone, Copy, Debug)]
pub struct Values<'v> {
    /// Milliseconds since 1970: `${now_ms}`, and without the last three digits `${now_s}`.
    pub unix_ms: u64,
    /// `${name}` for every other name.
    pub variables: &'v Variables,
}

/// Room in which a dialect writes a message that it sends. It is reused: what stands in it is of an earlier message.
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
    /// For a text message.
    pub text: String,
    /// For a binary message.
    pub bytes: Vec<u8>,
}

/// A message to send, as a template came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing<'d> {
    /// A text message.
    Text(&'d str),
    /// A binary message.
    Binary(&'d [u8]),
}

/// Names that stand for something in every template.
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

/// Where a captured slice comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The value at the path of this number.
    Slot(usize),
    /// The same, without the quotes if it is a string.
    Bare(usize),
    /// What follows the rule's prefix.
    Rest,
    /// The whole message.
    Message,
    /// Bytes of a binary message, from and to.
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

/// Whether a description may call a value of its own so.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !BUILT_IN.contains(&name)
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
