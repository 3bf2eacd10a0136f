//! A dialect as clients hold it, and the values that an application computes for its templates.

use std::sync::Arc;

use heartbeat_core::{Dialect, Values};

/// A dialect that many clients share.
pub type SharedDialect = Arc<dyn Dialect + Send + Sync>;

/// Makes a value of a template anew for each message.
pub(crate) type Compute = Box<dyn Fn(&Values<'_>) -> String + Send + Sync>;
