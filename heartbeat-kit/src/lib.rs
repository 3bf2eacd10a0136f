#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod audited;
mod auditor;
mod bytes;
#[cfg(feature = "peer")]
pub mod peer;
pub mod script;
#[cfg(feature = "proptest")]
mod strategies;

pub use audited::Audited;
pub use auditor::{Auditor, Broken};
pub use script::{Resolver, Script};
#[cfg(all(feature = "peer", feature = "proptest"))]
pub use strategies::visits;
#[cfg(feature = "proptest")]
pub use strategies::{cause, configs, headers, scripts};
