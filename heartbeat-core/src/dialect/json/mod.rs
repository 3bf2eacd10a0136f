//! JSON read directly from a text, in one pass, without a tree and without allocation.
//!
//! A text and the paths of values go in. The slices at those paths come out. Read `walk.rs` first.

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
