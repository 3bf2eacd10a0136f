//! Panics in the application's code: caught once, and reported with the name of that code.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

/// A caught panic: the name of the code that panicked, and the panic's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    code: &'static str,
    words: Arc<str>,
}

impl Panicked {
    fn new(code: &'static str, payload: Box<dyn Any + Send>) -> Self {
        match payload.downcast::<Self>() {
            // The panic was caught and named by an inner call.
            Ok(panicked) => *panicked,
            Err(payload) => Self {
                code,
                words: words(&*payload).into(),
            },
        }
    }

    /// Continues the panic in another thread, the one that waits for the result.
    pub(crate) fn resume(self) -> ! {
        panic::resume_unwind(Box::new(self))
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} panicked: {}", self.code, self.words)
    }
}

/// Returns the message of `panic!`, if it is a text.
fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}

/// Calls the application's code and catches a panic. After a panic the values that the code worked on are
/// inconsistent and must not be used.
///
/// # Errors
/// The panic.
pub fn catch<T>(code: &'static str, f: impl FnOnce() -> T) -> Result<T, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| Panicked::new(code, payload))
}

/// Calls the application's code. A panic is given a name and propagates.
pub fn named<T>(code: &'static str, f: impl FnOnce() -> T) -> T {
    catch(code, f).unwrap_or_else(|panicked| panicked.resume())
}

thread_local! {
    /// The clients whose code this thread is running, the innermost last. Each is known by the address of its
    /// send queue.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// While this guard lives, the current thread drives the client with this id. The thread must not wait for
/// anything that only the client can do.
pub(crate) struct Inside(());

impl Inside {
    pub(crate) fn enter(id: usize) -> Self {
        // A thread whose locals are destroyed is not recorded.
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().push(id));
        Self(())
    }

    /// Returns true if this thread drives the client with this id.
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
