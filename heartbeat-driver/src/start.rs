//! Why a client could not be started.

use std::io;

use crate::request::RequestError;

heartbeat_core::debug_as_display!(StartError);

/// Why a client could not be started. Nothing was dialled.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The options are invalid, or need something that is missing.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The operating system could not create a poll or a thread.
    #[error("no room for a poll or a thread: {0}")]
    Io(#[from] io::Error),
    /// A tokio client was created outside of a runtime, or in one without a timer (`Builder::enable_time`).
    #[error(
        "there is no tokio runtime with a timer here: `Client::spawn`, `InPlace::new` and `Rotating::spawn` must be called \
         within one (`Client::spawn_thread` needs none)"
    )]
    NoRuntime,
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::time::Duration;

    use heartbeat_core::{Config, Description, Limiter, RotationTimes, parse_duration};

    use super::StartError;
    use crate::{Options, Proxy, Request};

    /// A `main` that returns an error prints `Error: ` and the error's `Debug`.
    #[test]
    fn what_main_prints_of_an_error_is_its_sentence() {
        let request = Request::new("example.org/feed").expect_err("no scheme");
        let config = Config::builder().idle_timeout(Duration::ZERO).build();
        let errors: Vec<Box<dyn Error>> = vec![
            request.clone().into(),
            StartError::from(request).into(),
            StartError::NoRuntime.into(),
            config.expect_err("no time").into(),
            Config::from_json("{").expect_err("no JSON").into(),
            Description::from_json("{").expect_err("no JSON").into(),
            parse_duration("a while").expect_err("no figure").into(),
            Options::service("kukoin", "ws://example.org/")
                .expect_err("no service")
                .into(),
            Proxy::new("https://proxy.example")
                .expect_err("not yet")
                .into(),
            Limiter::new(0, Duration::from_secs(1), 1)
                .expect_err("none")
                .into(),
            RotationTimes::before(Duration::ZERO)
                .expect_err("no time")
                .into(),
        ];
        for error in errors {
            assert_eq!(format!("{error:?}"), error.to_string());
        }
    }
}
