//! The reasons why a text is not a dialect.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

debug_as_display!(DescriptionError, UnknownService);

/// The reason why a description was refused. Each variant names the place, such as `rules[2].reply`, the value
/// found and the rule that it breaks.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// The text is not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// A key appears twice, so its value is ambiguous.
    #[error("`{at}` is there twice")]
    Twice {
        /// The place.
        at: String,
    },
    /// A time must be shorter than another one.
    #[error("`{at}` is {found}: it must be shorter than `{other}`, which is {limit}")]
    NotShorterThan {
        /// The place.
        at: String,
        /// The time found.
        found: String,
        /// The key of the other time.
        other: &'static str,
        /// The other time.
        limit: String,
    },
    /// A value has the wrong kind, or is out of its range.
    #[error("`{at}` is {found}: expected {expected}")]
    Expected {
        /// The place.
        at: String,
        /// The value found; "missing" if there is none.
        found: String,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// A key is not known at this place.
    #[error("unknown key `{at}`; known are {known}")]
    UnknownKey {
        /// The place.
        at: String,
        /// The keys that are allowed.
        known: &'static str,
    },
    /// A name stands in place of a description, and the catalogue does not have it.
    #[error("`dialect`: {0}")]
    Unknown(UnknownService),
    /// There are more entries than fit.
    #[error("`{at}` has {count}: at most {max} are allowed")]
    TooMany {
        /// The place.
        at: String,
        /// The number and kind of the entries.
        count: String,
        /// The limit.
        max: usize,
    },
    /// A path is malformed.
    #[error("`{at}`: \"{path}\" is no path: {why}")]
    Path {
        /// The place.
        at: String,
        /// The path.
        path: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A placeholder in a template cannot be filled in.
    #[error("`{at}`: the placeholder ${{{placeholder}}} {why}")]
    Placeholder {
        /// The place.
        at: String,
        /// The text between the braces.
        placeholder: String,
        /// The reason.
        why: &'static str,
    },
    /// A rule that no message can reach.
    #[error("`{at}` can never match: {why}")]
    Unreachable {
        /// The place.
        at: String,
        /// The reason.
        why: String,
    },
}

/// The catalogue has no service of this name.
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use heartbeat_tokio::core::AnyDialect; // or heartbeat_core
/// let error = "kukoin".parse::<AnyDialect>().unwrap_err();
/// assert_eq!(error.to_string(), "no service is called \"kukoin\"; did you mean `kucoin`?");
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownService {
    /// The name asked for.
    pub name: String,
    /// Similar names: [`CatalogueEntry::names_near`](crate::CatalogueEntry::names_near).
    pub near: Vec<String>,
}

impl fmt::Display for UnknownService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no service is called {:?}", self.name)?;
        let Some((first, others)) = self.near.split_first() else {
            return f.write_str("; the catalogue lists those that are known");
        };
        write!(f, "; did you mean `{first}`")?;
        for other in others {
            write!(f, ", `{other}`")?;
        }
        f.write_str("?")
    }
}

impl core::error::Error for UnknownService {}
