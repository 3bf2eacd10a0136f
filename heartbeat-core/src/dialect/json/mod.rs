//! JSON as it stands in a text: walked in one pass, without a tree and without an allocation.
//!
//! In: a text, and the paths of values. Out: the slices at those paths. Read `walk.rs` first.

#[cfg(feature = "dialects")]
mod kind;
#[cfg(feature = "dialects")]
mod path;
mod raw;
#[cfg(feature = "dialects")]
mod scan;
mod walk;

#[cfg(feature = "dialects")]
pub(crate) use self::kind::Kind;
#[cfg(feature = "dialects")]
pub(crate) use self::path::Path;
pub(crate) use self::raw::is_string;
#[cfg(feature = "dialects")]
pub(crate) use self::raw::{characters, unquoted};
#[cfg(feature = "dialects")]
pub(crate) use self::scan::{MAX_PATHS, Paths, Slots};
pub(crate) use self::walk::Walk;
