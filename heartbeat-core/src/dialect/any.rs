//! A dialect chosen at run time, by its name or by a description.

use alloc::boxed::Box;

use serde_json::Value;

use super::{
    Buffer, CatalogueEntry, Class, Description, DescriptionError, Dialect, FramesOnly, JsonType,
    Outgoing, PingSpec, TemplateRef, Values, Variables,
};
use crate::cause::RetryPolicy;
use crate::config::{Config, ConfigError};

/// A dialect chosen at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnyDialect {
    /// `json-type`, which is compiled in.
    #[default]
    JsonType,
    /// `frames`.
    Frames,
    /// A dialect of the catalogue, by its name.
    Named(Box<CatalogueEntry>),
    /// A description written by the user.
    Described(Box<Description>),
}

impl AnyDialect {
    /// Returns the dialect with this name or alias.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "json-type" => Some(Self::JsonType),
            "frames" => Some(Self::Frames),
            _ => CatalogueEntry::named(name).map(|entry| Self::Named(Box::new(entry))),
        }
    }

    /// Reads a dialect from JSON: a name, or a description.
    ///
    /// # Errors
    /// [`DescriptionError`] names the place and the rule.
    pub fn from_value(value: &Value) -> Result<Self, DescriptionError> {
        match value {
            Value::String(name) => name.parse().map_err(DescriptionError::Unknown),
            _ => Description::from_value(value).map(Self::from),
        }
    }

    /// Returns the JSON that [`AnyDialect::from_value`] reads.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::JsonType => "json-type".into(),
            Self::Frames => "frames".into(),
            Self::Named(entry) => entry.name.as_str().into(),
            Self::Described(described) => {
                serde_json::from_str(described.as_json()).unwrap_or_default()
            }
        }
    }

    /// Returns `base` with the times that the service asks for. See [`Description::configure`].
    ///
    /// # Errors
    /// [`ConfigError`] names a time of the dialect and the time of `base` that contradicts it.
    pub fn configure(&self, base: &Config) -> Result<Config, ConfigError> {
        match self.described() {
            Some(described) => described.configure(base),
            None => Ok(base.clone()),
        }
    }

    /// Returns the dialect's description, if it has one. It holds the lifetime, the limits, and the messages that
    /// announce an end.
    #[must_use]
    pub fn described(&self) -> Option<&Description> {
        match self {
            Self::JsonType | Self::Frames => None,
            Self::Named(entry) => Some(&entry.dialect),
            Self::Described(described) => Some(described),
        }
    }

    fn dialect(&self) -> &dyn Dialect {
        match self {
            Self::JsonType => &JsonType,
            Self::Frames => &FramesOnly,
            Self::Named(entry) => &entry.dialect,
            Self::Described(described) => &**described,
        }
    }
}

impl Dialect for AnyDialect {
    #[inline]
    fn classify_text<'a>(&self, text: &'a str) -> Class<'a> {
        // Every message passes here, so dispatch without a second virtual call.
        match self {
            Self::JsonType => JsonType.classify_text(text),
            Self::Frames => Class::Data,
            Self::Named(entry) => entry.dialect.classify_text(text),
            Self::Described(described) => described.classify_text(text),
        }
    }

    fn classify_binary<'a>(&self, bytes: &'a [u8]) -> Class<'a> {
        self.dialect().classify_binary(bytes)
    }

    fn close_policy(&self, code: u16) -> Option<RetryPolicy> {
        self.dialect().close_policy(code)
    }

    fn http_policy(&self, status: u16) -> Option<RetryPolicy> {
        self.dialect().http_policy(status)
    }

    fn ping(&self) -> PingSpec {
        self.dialect().ping()
    }

    fn greeting(&self, number: usize) -> Option<TemplateRef<'static>> {
        self.dialect().greeting(number)
    }

    fn separator(&self) -> Option<&str> {
        self.dialect().separator()
    }

    fn binary_separator(&self) -> Option<&[u8]> {
        self.dialect().binary_separator()
    }

    fn render<'d>(
        &'d self,
        draft: &TemplateRef<'_>,
        values: &Values<'_>,
        buffer: &'d mut Buffer,
    ) -> Option<Outgoing<'d>> {
        self.dialect().render(draft, values, buffer)
    }

    fn tracks(&self) -> bool {
        self.dialect().tracks()
    }

    fn track(&self, text: &str, variables: &mut Variables) {
        self.dialect().track(text, variables);
    }
}
