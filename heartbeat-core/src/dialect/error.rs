//! Why a text is not a dialect.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

debug_as_display!(DescriptionError, UnknownService);

/// Why a description was refused. Each names the place, such as `rules[2].reply`, what stands there
/// and the rule that it breaks.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// Not JSON at all.
    #[error("not JSON: {0}")]
    Json(String),
    /// A key that stands there twice: which of the two is meant?
    #[error("`{at}` is there twice")]
    Twice {
        /// Where.
        at: String,
    },
    /// A time that another one leaves no room for.
    #[error("`{at}` is {found}: it must be shorter than `{other}`, which is {limit}")]
    NotShorterThan {
        /// Where.
        at: String,
        /// The time that stands there.
        found: String,
        /// The other key.
        other: &'static str,
        /// The other time.
        limit: String,
    },
    /// A value of the wrong kind, or out of its range.
    #[error("`{at}` is {found}: expected {expected}")]
    Expected {
        /// Where.
        at: String,
        /// What stands there; "missing" if nothing does.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A key that has no meaning there.
    #[error("unknown key `{at}`; known are {known}")]
    UnknownKey {
        /// Where.
        at: String,
        /// The keys that could stand there.
        known: &'static str,
    },
    /// A name in place of a description that the catalogue does not have.
    #[error("`dialect`: {0}")]
    Unknown(UnknownService),
    /// More than fits.
    #[error("`{at}` has {count}: at most {max} are allowed")]
    TooMany {
        /// Where.
        at: String,
        /// How many, and of what.
        count: String,
        /// The limit.
        max: usize,
    },
    /// A path that is no path.
    #[error("`{at}`: \"{path}\" is no path: {why}")]
    Path {
        /// Where.
        at: String,
        /// The path.
        path: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A placeholder in a template that cannot be filled in.
    #[error("`{at}`: the placeholder ${{{placeholder}}} {why}")]
    Placeholder {
        /// Where.
        at: String,
        /// What stands between the braces.
        placeholder: String,
        /// Why it cannot be filled in.
        why: &'static str,
    },
    /// A rule that no message can reach.
    #[error("`{at}` can never match: {why}")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        why: String,
    },
}

/// No service of this name is in the catalogue.
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
    /// The name that was asked for.
    pub name: String,
    /// Names that this one may have been meant for: [`CatalogueEntry::names_near`](crate::CatalogueEntry::names_near).
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
