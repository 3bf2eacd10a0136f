//! Reads arguments and files, and words the errors about them.

use std::fmt::Display;
use std::time::Duration;
use std::{fs, io};

use heartbeat_tokio::core::parse_duration;
use lexopt::ValueExt;

/// Why the program ends early.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The user asked for this text.
    Help(&'static str),
    /// An argument, a file or a line is wrong. The text names its value and the rule.
    Wrong(String),
    /// Standard output is closed.
    Closed,
}

impl From<lexopt::Error> for Refusal {
    fn from(error: lexopt::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Wrong(error.to_string()),
        }
    }
}

/// Returns an error that names the argument with the wrong value.
pub(crate) fn wrong(argument: &str, error: impl Display) -> Refusal {
    Refusal::Wrong(format!("{argument}: {error}"))
}

/// Reads the value of the last flag. The value may be a secret.
pub(crate) fn text(arguments: &mut lexopt::Parser) -> Result<String, Refusal> {
    Ok(arguments.value()?.string()?)
}

/// Reads the value of a flag whose errors repeat the value. A URL is refused without repeating it, because it may hold
/// credentials.
pub(crate) fn word(flag: &str, arguments: &mut lexopt::Parser) -> Result<String, Refusal> {
    let word = text(arguments)?;
    match word.contains("://") {
        true => Err(wrong(flag, "the value must not be a URL")),
        false => Ok(word),
    }
}

/// Returns the error for an argument that the command does not accept.
pub(crate) fn unexpected(argument: lexopt::Arg<'_>) -> Refusal {
    match argument {
        lexopt::Arg::Value(value) if value.to_string_lossy().contains("://") => {
            Refusal::Wrong("unexpected argument: a URL".into())
        }
        other => other.unexpected().into(),
    }
}

/// Reads a duration, such as `90s`.
pub(crate) fn duration(flag: &str, arguments: &mut lexopt::Parser) -> Result<Duration, Refusal> {
    let value = word(flag, arguments)?;
    parse_duration(&value).map_err(|error| wrong(flag, format!("\"{value}\": {error}")))
}

/// Reads a text file.
pub(crate) fn read(argument: &str, file: &str) -> Result<String, Refusal> {
    fs::read_to_string(file).map_err(|error| wrong(argument, format!("{file}: {error}")))
}

/// Returns the value itself if it is a JSON object. Otherwise reads the file of that name.
pub(crate) fn json_or_file(argument: &str, value: &str) -> Result<String, Refusal> {
    match value.trim_start().starts_with('{') {
        true => Ok(value.to_owned()),
        false => read(argument, value),
    }
}
