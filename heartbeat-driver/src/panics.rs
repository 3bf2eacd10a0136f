//! A panic in code that the application has brought: caught once, told with its name.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

/// A panic that was caught: which code it was in, and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    code: &'static str,
    words: Arc<str>,
}

impl Panicked {
    fn new(code: &'static str, payload: Box<dyn Any + Send>) -> Self {
        match payload.downcast::<Self>() {
            // Caught before, nearer to where it came from.
            Ok(panicked) => *panicked,
            Err(payload) => Self {
                code,
                words: words(&*payload).into(),
            },
        }
    }

    /// Goes on with it elsewhere: in the thread that waits for what was to be made.
    pub(crate) fn resume(self) -> ! {
        panic::resume_unwind(Box::new(self))
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} panicked: {}", self.code, self.words)
    }
}

/// What `panic!` was given, if it is a text.
fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}

/// Calls code of the application's, and returns its panic. What it had in hand must not be used as if nothing had
/// happened.
///
/// # Errors
/// The panic.
pub fn catch<T>(code: &'static str, f: impl FnOnce() -> T) -> Result<T, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| Panicked::new(code, payload))
}

/// Calls code of the application's, and gives its panic a name on its way up.
pub fn named<T>(code: &'static str, f: impl FnOnce() -> T) -> T {
    catch(code, f).unwrap_or_else(|panicked| panicked.resume())
}

thread_local! {
    /// The clients whose code this thread runs at the moment, the innermost last, each by its send_queue.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// While this lives, the thread drives the client with this id: what only the client can do must not be waited
/// for.
pub(crate) struct Inside(());

impl Inside {
    pub(crate) fn enter(id: usize) -> Self {
        // Not in a thread whose locals are gone.
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().push(id));
        Self(())
    }

    /// Whether this thread drives that client.
    pub(crate) fn is(id: usize) -> bool {
        let is = INSIDE.try_with(|inside| inside.borrow().contains(&id));
        is.unwrap_or_default()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().pop());
    }
}
