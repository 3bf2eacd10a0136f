//! The dialect as clients share it, and the values that an application computes for the dialect's templates.

use std::sync::Arc;

use heartbeat_core::{Dialect, Values};

/// A dialect shared by many clients.
pub type SharedDialect = Arc<dyn Dialect + Send + Sync>;

/// Computes a value of a template for each message.
pub(crate) type Compute = Box<dyn Fn(&Values<'_>) -> String + Send + Sync>;
