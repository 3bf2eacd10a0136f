//! Header lines in the form in which the application gave them.

use std::fmt;

use http::header::{HeaderName, HeaderValue};

use super::RequestError;

/// Header lines in their original order, with the original case of their names.
///
/// Case does not matter (RFC 9110 §5.1), but some servers compare names case-sensitively.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(Box<str>, HeaderValue)>);

impl Headers {
    /// Adds a line. Names in `reserved` (lower case) are rejected.
    pub(crate) fn add(
        &mut self,
        name: &str,
        value: &str,
        reserved: &[&str],
    ) -> Result<(), RequestError> {
        // A whole line given as a name would show its value in the error.
        let is_shown = |letter: &char| letter.is_ascii_alphanumeric() || "-_".contains(*letter);
        let refuse = |rule| RequestError::Header {
            name: name.chars().take_while(is_shown).collect(),
            rule,
        };
        let parsed =
            HeaderName::try_from(name).map_err(|_| refuse("is not a valid HTTP header name"))?;
        if reserved.contains(&parsed.as_str()) {
            return Err(refuse("is set by the upgrade itself"));
        }
        let value = HeaderValue::try_from(value)
            .map_err(|_| refuse("has a value that HTTP does not allow"))?;
        self.0.push((name.into(), value));
        Ok(())
    }

    /// Returns true if there is a line with this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Returns only the lines with these names.
    pub(crate) fn only(&self, names: &[&str]) -> Self {
        let is_kept =
            |(name, _): &&(Box<str>, _)| names.iter().any(|kept| name.eq_ignore_ascii_case(kept));
        Self(self.0.iter().filter(is_kept).cloned().collect())
    }

    /// Appends the lines to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            out.extend(name.bytes());
            out.extend(b": ");
            out.extend(value.as_bytes());
            out.extend(b"\r\n");
        }
    }
}

/// Shows the names alone: values may be credentials.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}
