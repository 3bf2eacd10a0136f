//! The rules of a description. A rule has a pattern for messages and a classification.
//!
//! A message goes in, and the first rule that matches it comes out. A filter in front of the rules rejects most
//! texts that no rule can match. Read `rule.rs` first. `prefilter.rs` and `needles.rs` hold no rules: they save
//! work.

mod needles;
mod prefilter;
mod rule;

pub(crate) use self::prefilter::Filter;
pub(crate) use self::rule::*;
