//! A place in a description, and readers for the values found there.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use serde_json::{Map, Value};

use super::error::DescriptionError;
use crate::config::{MAX_DURATION, MIN_DURATION};
use crate::duration_text::parse_duration;

pub(crate) type Result<T> = core::result::Result<T, DescriptionError>;

/// The longest string or byte sequence that a rule compares with.
pub(crate) const MAX_LITERAL: usize = 256;

/// The number of characters that an error shows of a wrong value: enough to recognize it.
const MAX_SHOWN: usize = 80;

/// The place of a value, for error messages: `rules[2].json`.
pub(crate) struct At(String);

impl At {
    pub(crate) fn root() -> Self {
        Self(String::new())
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        // A JSON path already has its slash.
        let dot = if self.0.is_empty() || key.starts_with('/') {
            ""
        } else {
            "."
        };
        Self(format!("{}{dot}{key}", self.0))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(crate) fn text(&self) -> String {
        if self.0.is_empty() {
            "dialect".into()
        } else {
            self.0.clone()
        }
    }

    // ---- errors -------------------------------------------------------------------------------

    pub(crate) fn wrong(&self, value: Option<&Value>, expected: &'static str) -> DescriptionError {
        let mut found = value.map_or_else(|| "missing".into(), Value::to_string);
        if let Some((end, _)) = found.char_indices().nth(MAX_SHOWN) {
            found.truncate(end);
            found.push('…');
        }
        self.found(found, expected)
    }

    pub(crate) fn found(&self, found: String, expected: &'static str) -> DescriptionError {
        DescriptionError::Expected {
            at: self.text(),
            found,
            expected,
        }
    }

    pub(crate) fn too_many(&self, count: String, max: usize) -> DescriptionError {
        DescriptionError::TooMany {
            at: self.text(),
            count,
            max,
        }
    }

    pub(crate) fn placeholder(&self, placeholder: &str, why: &'static str) -> DescriptionError {
        DescriptionError::Placeholder {
            at: self.text(),
            placeholder: placeholder.into(),
            why,
        }
    }

    // ---- values -------------------------------------------------------------------------------

    /// Reads an object and rejects any other keys than these.
    pub(crate) fn object<'v>(
        &self,
        value: &'v Value,
        known: &'static str,
    ) -> Result<&'v Map<String, Value>> {
        let fields = value
            .as_object()
            .ok_or_else(|| self.wrong(Some(value), "an object"))?;
        for key in fields.keys() {
            if !known.split(", ").any(|known| known == key) {
                return Err(DescriptionError::UnknownKey {
                    at: self.key(key).0,
                    known,
                });
            }
        }
        Ok(fields)
    }

    pub(crate) fn array<'v>(
        &self,
        value: &'v Value,
        max: usize,
        expected: &'static str,
    ) -> Result<&'v [Value]> {
        let values = value
            .as_array()
            .ok_or_else(|| self.wrong(Some(value), expected))?;
        if values.len() > max {
            return Err(self.too_many(format!("{} entries", values.len()), max));
        }
        Ok(values)
    }

    pub(crate) fn string<'v>(
        &self,
        value: Option<&'v Value>,
        expected: &'static str,
    ) -> Result<&'v str> {
        value
            .and_then(Value::as_str)
            .ok_or_else(|| self.wrong(value, expected))
    }

    /// Reads a string to compare with, of at least `min` bytes.
    pub(crate) fn literal(&self, value: &Value, min: usize) -> Result<Box<str>> {
        let text = self.string(Some(value), "a string")?;
        if text.len() < min {
            return Err(self.wrong(Some(value), "a string that is not empty"));
        }
        if text.len() > MAX_LITERAL {
            return Err(self.too_many(format!("{} bytes", text.len()), MAX_LITERAL));
        }
        Ok(text.into())
    }

    pub(crate) fn duration(&self, value: &Value) -> Result<Duration> {
        let expected = "a duration between 1ms and 100 years in text, such as \"90s\"";
        let text = self.string(Some(value), expected)?;
        let duration = parse_duration(text)
            .ok()
            .filter(|duration| (MIN_DURATION..=MAX_DURATION).contains(duration));
        duration.ok_or_else(|| self.wrong(Some(value), expected))
    }
}
