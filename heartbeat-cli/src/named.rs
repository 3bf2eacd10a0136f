//! Finds a service's dialect by name, or in a file.

use std::{fs, io};

use heartbeat_tokio::{AnyDialect, CatalogueEntry, Description};

use crate::arguments::{Refusal, wrong};

/// Finds a dialect. `name` is a name in the catalogue, a file with a description, or a file with one catalogue entry.
/// Errors name `argument`.
pub(crate) fn dialect(argument: &str, name: &str) -> Result<AnyDialect, Refusal> {
    if name.contains("://") {
        return Err(wrong(
            argument,
            "expected a service's name or a file, not a URL",
        ));
    }
    if let Some(dialect) = AnyDialect::named(name) {
        return Ok(dialect);
    }
    let text = fs::read_to_string(name).map_err(|error| {
        let unknown = match name.parse::<AnyDialect>() {
            Err(unknown) if error.kind() == io::ErrorKind::NotFound => unknown.to_string(),
            _ => format!("\"{name}\" cannot be read: {error}"),
        };
        wrong(
            argument,
            format!("{unknown} (`heartbeat dialect list` shows all names; a file name works too)"),
        )
    })?;
    if let Some(entry) = entry(&text) {
        return Ok(AnyDialect::Named(Box::new(entry)));
    }
    let described = Description::from_json(&text)
        .map_err(|error| wrong(argument, format!("{name}: {error}")))?;
    Ok(AnyDialect::Described(Box::new(described)))
}

/// Reads a catalogue entry from a file's text: a single entry, or a list of one.
fn entry(text: &str) -> Option<CatalogueEntry> {
    let entries = serde_json::from_str::<Vec<CatalogueEntry>>(text).ok();
    match entries {
        Some(mut entries) if entries.len() == 1 => entries.pop(),
        Some(_) => None,
        None => serde_json::from_str(text).ok(),
    }
}
