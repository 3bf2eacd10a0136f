//! Reading arguments: values, files, and what is said of wrong ones.

use std::fmt::Display;
use std::time::Duration;
use std::{fs, io};

use heartbeat_tokio::core::parse_duration;
use lexopt::ValueExt;

/// Why the program ends before it has done its work.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// This text was asked for.
    Help(&'static str),
    /// An argument, a file or a line is wrong: its value and the rule.
    Wrong(String),
    /// Nobody reads standard output any more.
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

/// Names the argument whose value is wrong.
pub(crate) fn wrong(argument: &str, error: impl Display) -> Refusal {
    Refusal::Wrong(format!("{argument}: {error}"))
}

/// The value of the flag that was read last, as text. It may be a secret.
pub(crate) fn text(arguments: &mut lexopt::Parser) -> Result<String, Refusal> {
    Ok(arguments.value()?.string()?)
}

/// The value of a flag whose errors repeat it. A URL is refused without being repeated: it may hold credentials.
pub(crate) fn word(flag: &str, arguments: &mut lexopt::Parser) -> Result<String, Refusal> {
    let word = text(arguments)?;
    match word.contains("://") {
        true => Err(wrong(flag, "its value is a URL, and must not be one")),
        false => Ok(word),
    }
}

/// The error about an argument that the command does not take.
pub(crate) fn unexpected(argument: lexopt::Arg<'_>) -> Refusal {
    match argument {
        lexopt::Arg::Value(value) if value.to_string_lossy().contains("://") => {
            Refusal::Wrong("a URL stands where none is expected".into())
        }
        other => other.unexpected().into(),
    }
}

/// A span of time, such as `90s`.
pub(crate) fn duration(flag: &str, arguments: &mut lexopt::Parser) -> Result<Duration, Refusal> {
    let value = word(flag, arguments)?;
    parse_duration(&value).map_err(|error| wrong(flag, format!("\"{value}\": {error}")))
}

/// The text of a file.
pub(crate) fn read(argument: &str, file: &str) -> Result<String, Refusal> {
    fs::read_to_string(file).map_err(|error| wrong(argument, format!("{file}: {error}")))
}

/// JSON that stands in the argument itself, or in a file of this name.
pub(crate) fn json_or_file(argument: &str, value: &str) -> Result<String, Refusal> {
    match value.trim_start().starts_with('{') {
        true => Ok(value.to_owned()),
        false => read(argument, value),
    }
}
