//! Guides. Their samples are compiled as tests.

#[doc = include_str!("../docs/intervals.md")]
pub mod intervals {}

#[doc = include_str!("../docs/services.md")]
pub mod services {}

#[doc = include_str!("../docs/gaps.md")]
pub mod gaps {}

#[doc = include_str!("../docs/connecting.md")]
pub mod connecting {}

#[doc = include_str!("../docs/logs.md")]
pub mod logs {}

#[doc = include_str!("../docs/migrating.md")]
pub mod migrating {}
