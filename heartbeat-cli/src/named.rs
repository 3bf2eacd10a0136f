//! A service by its name, or by a file that describes it.

use std::{fs, io};

use heartbeat_tokio::{AnyDialect, CatalogueEntry, Description};

use crate::arguments::{Refusal, wrong};

/// A name of the catalogue, a file with a description, or a file with one entry of the catalogue's form. `argument` is
/// named in the error.
pub(crate) fn dialect(argument: &str, name: &str) -> Result<AnyDialect, Refusal> {
    if name.contains("://") {
        return Err(wrong(
            argument,
            "a URL stands where a service's name or a file is expected",
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
            format!("{unknown} (`heartbeat dialect list` shows all; a file's name does, too)"),
        )
    })?;
    if let Some(entry) = entry(&text) {
        return Ok(AnyDialect::Named(Box::new(entry)));
    }
    let described = Description::from_json(&text)
        .map_err(|error| wrong(argument, format!("{name}: {error}")))?;
    Ok(AnyDialect::Described(Box::new(described)))
}

/// The entry of a file that has the catalogue's form, alone or as the only one of a list.
fn entry(text: &str) -> Option<CatalogueEntry> {
    let entries = serde_json::from_str::<Vec<CatalogueEntry>>(text).ok();
    match entries {
        Some(mut entries) if entries.len() == 1 => entries.pop(),
        Some(_) => None,
        None => serde_json::from_str(text).ok(),
    }
}
