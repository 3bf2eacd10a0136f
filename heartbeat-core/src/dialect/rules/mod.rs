//! The rules of a description: what a message must look like, and what it is then.
//!
//! In: a message. Out: the first rule that matches it. A filter in front of the rules passes over texts that no rule can
//! match. Read `rule.rs` first; `prefilter.rs` and `needles.rs` hold no rule, they save work.

mod needles;
mod prefilter;
mod rule;

pub(crate) use self::prefilter::Filter;
pub(crate) use self::rule::*;
