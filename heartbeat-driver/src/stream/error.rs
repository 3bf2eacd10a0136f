//! Causes of I/O errors.

use std::io;

use heartbeat_core::Cause;

/// Returns the cause that an I/O error counts as, and its text for people.
pub fn io_cause(error: &io::Error) -> (Cause, Option<Box<str>>) {
    let cause = match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Cause::Reset,
        io::ErrorKind::UnexpectedEof => Cause::Eof,
        _ if is_tls(error) => Cause::Tls,
        _ => Cause::Io,
    };
    (cause, Some(error.to_string().into()))
}

fn is_tls(error: &io::Error) -> bool {
    #[cfg(feature = "tls")]
    return error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>());
    #[cfg(not(feature = "tls"))]
    return {
        let _ = error;
        false
    };
}
