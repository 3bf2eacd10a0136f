//! The default TLS configuration: rustls, the platform's roots, verification on.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use heartbeat_core::Cause;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::request::RequestError;

/// The configuration is created once, not at every dial, and shared by all clients that use it at the same
/// time. Reading the roots takes milliseconds and some hundred kilobytes.
pub(crate) fn default_config() -> Result<Arc<ClientConfig>, RequestError> {
    static SHARED: Mutex<Weak<ClientConfig>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(config) = shared.upgrade() {
        return Ok(config);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RequestError::Roots(error.to_string()))?
        .with_root_certificates(roots()?)
        .with_no_client_auth();
    let config = offering_http_1_1(Arc::new(config));
    *shared = Arc::downgrade(&config);
    Ok(config)
}

/// Returns the configuration with `http/1.1` as its only protocol (RFC 7301).
///
/// A configuration shared with an HTTP client also offers `h2`. A server might choose `h2`, which has no
/// upgrade. The rest of the configuration, such as sessions to resume, stays shared.
pub(crate) fn offering_http_1_1(config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    if config.alpn_protocols == [HTTP_1_1] {
        return config;
    }
    let mut own = ClientConfig::clone(&config);
    own.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Arc::new(own)
}

const HTTP_1_1: &[u8] = b"http/1.1";

/// Loads the platform's roots. If there are none, uses the compiled-in roots, if the feature is on.
fn roots() -> Result<RootCertStore, RequestError> {
    let found = rustls_native_certs::load_native_certs();
    let is_empty = found.certs.is_empty();
    for error in &found.errors {
        if let rustls_native_certs::ErrorKind::Io { inner, .. } = &error.kind
            && (is_exhausted(inner) || is_empty && is_passing(inner))
        {
            let words = format!("the trusted root certificates cannot be read: {inner}");
            return Err(RequestError::failed(Cause::Io, words));
        }
    }
    let mut roots = RootCertStore::empty();
    // Some platforms hold certificates that no parser accepts.
    roots.add_parsable_certificates(found.certs);
    #[cfg(feature = "webpki-roots")]
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(RequestError::Roots(errors.join("; ")));
    }
    Ok(roots)
}

/// Returns true if the process or the system has no room for another open file. Some of several files may have
/// been read, and the roots in the others would be missing for as long as the configuration lives.
fn is_exhausted(error: &io::Error) -> bool {
    // ENFILE and EMFILE, equal on Linux, macOS and the BSDs; ERROR_TOO_MANY_OPEN_FILES.
    let codes: &[i32] = if cfg!(windows) { &[4] } else { &[23, 24] };
    error.kind() == io::ErrorKind::OutOfMemory
        || error
            .raw_os_error()
            .is_some_and(|code| codes.contains(&code))
}

/// Returns true if the error does not concern the file itself, so the next attempt may succeed.
fn is_passing(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
    )
}

/// Creates a session that accepts only a certificate for this host.
pub(crate) fn session(
    config: &Arc<ClientConfig>,
    host: &str,
) -> Result<ClientConnection, rustls::Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        rustls::Error::General(format!(
            "\"{host}\" is not a name that a certificate can have"
        ))
    })?;
    ClientConnection::new(Arc::clone(config), name)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn http_1_1_alone_is_offered_and_a_configuration_that_does_so_is_not_cloned() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let all: [&[&[u8]]; 4] = [&[], &[b"h2"], &[b"h2", HTTP_1_1], &[HTTP_1_1, b"h2"]];
        for protocols in all {
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            let own = offering_http_1_1(Arc::new(config.clone()));
            assert_eq!(own.alpn_protocols, [HTTP_1_1]);
            assert!(Arc::ptr_eq(&own, &offering_http_1_1(Arc::clone(&own))));
        }
    }

    #[test]
    fn clients_that_live_at_the_same_time_share_what_was_read_once() {
        let (Ok(one), Ok(two)) = (default_config(), default_config()) else {
            println!("SKIPPED: no trusted roots on this machine");
            return;
        };
        assert!(Arc::ptr_eq(&one, &two));
    }

    /// Runs in its own process, because all threads share the table of open files.
    #[cfg(unix)]
    #[test]
    fn roots_that_cannot_be_read_just_now_are_a_failed_dial_and_read_the_next_time() {
        const ALONE: &str = "HEARTBEAT_ALONE";
        const NAME: &str = "tls::tests::roots_that_cannot_be_read_just_now_are_a_failed_dial_and_read_the_next_time";
        if std::env::var_os(ALONE).is_some() {
            let mut held = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                held.push(file);
                if held.len() > 200_000 {
                    println!("SKIPPED: as many files as one likes can be open here");
                    return;
                }
            }
            let mut options = crate::Options::new("wss://example.org/").unwrap();
            options.check().unwrap();
            let request = crate::Request::new("wss://example.org/").unwrap();
            let refusal = options.security(&request).unwrap_err();
            assert_eq!(refusal.cause, Cause::Io, "{refusal:?}");
            drop(held);
            match options.security(&request) {
                Ok(session) => assert!(session.is_some()),
                Err(refusal) => assert_eq!(refusal.cause, Cause::Tls, "no roots on this machine"),
            }
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
    }

    /// Runs in its own process, because all threads share the environment.
    #[test]
    fn a_machine_without_roots_is_told_before_the_first_dial_unless_they_are_compiled_in() {
        const ALONE: &str = "HEARTBEAT_ALONE";
        const NAME: &str = "tls::tests::a_machine_without_roots_is_told_before_the_first_dial_unless_they_are_compiled_in";
        if std::env::var_os(ALONE).is_some() {
            let made = crate::Options::new("wss://example.org/").unwrap().check();
            if cfg!(feature = "webpki-roots") {
                made.unwrap();
            } else {
                assert!(matches!(made, Err(RequestError::Roots(_))), "{made:?}");
            }
            return;
        }
        let nothing =
            std::env::temp_dir().join(format!("heartbeat-no-roots-{}", std::process::id()));
        std::fs::write(&nothing, "").unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(ALONE, "1")
            .env("SSL_CERT_FILE", &nothing)
            .env_remove("SSL_CERT_DIR")
            .output();
        std::fs::remove_file(&nothing).unwrap();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}
