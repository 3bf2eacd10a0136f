//! The paths, templates and names that are collected while a description is read.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use crate::dialect::at::{At, Result};
use crate::dialect::error::DescriptionError;
use crate::dialect::json::{MAX_PATHS, Path, Paths};
use crate::dialect::rules::Matcher;
use crate::dialect::template::{BytesTemplate, FindPath, Template};

/// The most rules of a description.
pub(super) const MAX_RULES: usize = 32;

/// Collects paths, templates and names.
#[derive(Default)]
pub(crate) struct Loader {
    pub(crate) paths: Paths,
    pub(crate) templates: Vec<Template>,
    /// The names that templates may use.
    pub(crate) known: Vec<String>,
}

impl Loader {
    pub(crate) fn template(
        &mut self,
        at: &At,
        value: &Value,
        matcher: Option<&Matcher>,
    ) -> Result<u16> {
        let expected = "a text, or {\"bytes\": \"029106\"}";
        let template = match value {
            Value::String(text) => {
                let has_prefix = match matcher {
                    Some(Matcher::Prefix { .. }) => true,
                    Some(Matcher::Json { prefix, .. }) => !prefix.is_empty(),
                    Some(Matcher::Text(_) | Matcher::Bytes(_)) | None => false,
                };
                let is_json = matches!(matcher, Some(Matcher::Json { .. }));
                let paths = &mut self.paths;
                let mut find = |at: &At, path: &str| match is_json {
                    true => slot(paths, at, path),
                    false => Err(at.placeholder(path, "needs a rule with \"json\"")),
                };
                let find: Option<FindPath<'_>> = match matcher {
                    // A binary message has no text to take slices from.
                    Some(Matcher::Bytes(_)) | None => None,
                    Some(_) => Some(&mut find),
                };
                Template::parse(at, text, find, has_prefix, &self.known)?
            }
            Value::Object(fields) => match fields.get("bytes") {
                Some(bytes) if fields.len() == 1 => {
                    let message = match matcher {
                        Some(Matcher::Bytes(pattern)) => Some(pattern),
                        _ => None,
                    };
                    let at = at.key("bytes");
                    Template::Binary(BytesTemplate::parse(&at, bytes, message, &self.known)?)
                }
                _ => return Err(at.wrong(Some(value), expected)),
            },
            _ => return Err(at.wrong(Some(value), expected)),
        };
        self.add(at, template)
    }

    pub(crate) fn add(&mut self, at: &At, template: Template) -> Result<u16> {
        // There is at most one template per rule, plus the client's own.
        let number = u16::try_from(self.templates.len());
        let number = number.map_err(|_| at.too_many("65536 templates".into(), MAX_RULES))?;
        self.templates.push(template);
        Ok(number)
    }

    pub(crate) fn slot(&mut self, at: &At, path: &str) -> Result<usize> {
        slot(&mut self.paths, at, path)
    }
}

pub(crate) fn slot(paths: &mut Paths, at: &At, path: &str) -> Result<usize> {
    let parsed = Path::parse(path).map_err(|why| DescriptionError::Path {
        at: at.text(),
        path: path.into(),
        why,
    })?;
    paths
        .add(parsed)
        .ok_or_else(|| at.too_many("one different path too many".into(), MAX_PATHS))
}
