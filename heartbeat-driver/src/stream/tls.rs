//! The default TLS configuration: rustls by the provider that the process or the features chose, the platform's
//! roots, verification on.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use heartbeat_core::Cause;
use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::request::RequestError;

/// The configuration is created once, not at every dial, and shared by all clients that use it at the same
/// time. Reading the roots takes milliseconds and some hundred kilobytes.
pub(crate) fn default_config() -> Result<Arc<ClientConfig>, RequestError> {
    static SHARED: Mutex<Weak<ClientConfig>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(config) = shared.upgrade() {
        return Ok(config);
    }
    let builder = ClientConfig::builder_with_provider(provider()?)
        .with_safe_default_protocol_versions()
        .map_err(|error| RequestError::Provider(error.to_string()))?;
    let config = verifying(builder)?.with_no_client_auth();
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

/// Returns the provider of the process, or that of a feature. An application that has installed one has chosen it
/// for all its TLS. `ring` is a default feature, so `aws-lc-rs` is the one that was asked for, if both are on.
fn provider() -> Result<Arc<CryptoProvider>, RequestError> {
    if let Some(provider) = CryptoProvider::get_default() {
        return Ok(Arc::clone(provider));
    }
    #[cfg(feature = "aws-lc-rs")]
    return Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    return Ok(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    Err(RequestError::Provider(
        "the process has no default provider".to_owned(),
    ))
}

/// Decides who verifies certificates: rustls by the platform's roots, or the system, if the feature is on and the
/// system has a verifier of its own.
fn verifying(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, RequestError> {
    #[cfg(feature = "platform-verifier")]
    if cfg!(any(windows, target_vendor = "apple", target_os = "android")) {
        return rustls_platform_verifier::BuilderVerifierExt::with_platform_verifier(builder)
            .map_err(|error| RequestError::Roots(error.to_string()));
    }
    Ok(builder.with_root_certificates(roots()?))
}

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
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;
    use std::process::{Command, Output};

    use rustls::ServerConfig;
    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::Acceptor;

    use super::*;
    use crate::{Options, Request};

    #[test]
    fn http_1_1_alone_is_offered_and_a_configuration_that_does_so_is_not_cloned() {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
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
            println!("SKIPPED: no trusted roots on this machine, or no provider");
            return;
        };
        assert!(Arc::ptr_eq(&one, &two));
    }

    const HAS_PROVIDER: bool = cfg!(any(feature = "ring", feature = "aws-lc-rs"));
    const ALONE: &str = "HEARTBEAT_ALONE";

    fn is_alone() -> bool {
        std::env::var_os(ALONE).is_some()
    }

    /// Runs a test of this module once more, in a process of its own.
    fn alone(test: &str, set: impl FnOnce(&mut Command) -> &mut Command) {
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("{module}::{test}"), "--nocapture"]);
        let Output {
            status,
            stdout,
            stderr,
        } = set(command.env(ALONE, "1")).output().unwrap();
        let (said, complained) = (
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr),
        );
        assert!(status.success(), "{said}{complained}");
        assert!(said.contains("1 passed"), "{said}");
    }

    /// A file of roots, deleted in the end.
    struct Roots(PathBuf);

    impl Roots {
        fn new(name: &str, pem: &str) -> Self {
            let name = format!("heartbeat-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, pem).unwrap();
            Self(path)
        }

        fn of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
            command
                .env("SSL_CERT_FILE", &self.0)
                .env_remove("SSL_CERT_DIR")
        }
    }

    impl Drop for Roots {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// All threads share the table of open files.
    #[cfg(unix)]
    #[test]
    fn roots_that_cannot_be_read_just_now_are_a_failed_dial_and_read_the_next_time() {
        if !is_alone() {
            let name =
                "roots_that_cannot_be_read_just_now_are_a_failed_dial_and_read_the_next_time";
            return alone(name, |command| command);
        }
        let _ = ring::default_provider().install_default();
        let mut held = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            held.push(file);
            if held.len() > 200_000 {
                println!("SKIPPED: as many files as one likes can be open here");
                return;
            }
        }
        let mut options = Options::new("wss://example.org/").unwrap();
        options.check().unwrap();
        let request = Request::new("wss://example.org/").unwrap();
        let refusal = options.security(&request).unwrap_err();
        assert_eq!(refusal.cause, Cause::Io, "{refusal:?}");
        drop(held);
        match options.security(&request) {
            Ok(session) => assert!(session.is_some()),
            Err(refusal) => assert_eq!(refusal.cause, Cause::Tls, "no roots on this machine"),
        }
    }

    /// All threads share the environment.
    #[test]
    fn a_machine_without_roots_is_told_before_the_first_dial_unless_they_are_compiled_in() {
        if !is_alone() {
            let name =
                "a_machine_without_roots_is_told_before_the_first_dial_unless_they_are_compiled_in";
            let nothing = Roots::new("no-roots", "");
            return alone(name, |command| nothing.of(command));
        }
        let _ = ring::default_provider().install_default();
        let made = Options::new("wss://example.org/").unwrap().check();
        if cfg!(feature = "webpki-roots") {
            made.unwrap();
        } else {
            assert!(matches!(made, Err(RequestError::Roots(_))), "{made:?}");
        }
    }

    /// The cipher suites and groups that a client process offers to a server that it trusts.
    type Hello = (Vec<rustls::CipherSuite>, Vec<rustls::NamedGroup>);

    /// Runs `test` alone as the client, with the URL as `HEARTBEAT_URL`, and shakes hands with it.
    fn serve(test: &str) -> Hello {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let base64 = data_encoding::BASE64.encode(made.cert.der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        let roots = Roots::new(test, &pem);
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut acceptor = Acceptor::default();
            let accepted = loop {
                acceptor.read_tls(&mut socket).unwrap();
                if let Some(accepted) = acceptor.accept().unwrap() {
                    break accepted;
                }
            };
            let hello = accepted.client_hello();
            let groups = hello.named_groups().unwrap_or_default().to_vec();
            let said = (hello.cipher_suites().to_vec(), groups);
            let mut session = accepted.into_connection(Arc::new(config)).unwrap();
            while session.is_handshaking() {
                session.complete_io(&mut socket).unwrap();
            }
            said
        });
        alone(test, |command| {
            roots
                .of(command)
                .env("HEARTBEAT_URL", format!("wss://localhost:{port}/"))
        });
        server.join().unwrap()
    }

    /// Shakes hands with the server of `serve`, with the default configuration.
    fn shake_hands() {
        let url = std::env::var("HEARTBEAT_URL").unwrap();
        let request = Request::new(&url).unwrap();
        let mut options = Options::new(&url).unwrap();
        options.check().unwrap();
        let mut session = options.security(&request).unwrap().unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", request.port())).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
    }

    /// aws-lc-rs has a group that ring lacks.
    #[test]
    fn a_feature_brings_the_provider_of_the_handshake_and_without_one_the_error_names_the_fix() {
        let name = "a_feature_brings_the_provider_of_the_handshake_and_without_one_the_error_names_the_fix";
        if is_alone() {
            return shake_hands();
        }
        if HAS_PROVIDER {
            let (_, groups) = serve(name);
            let is_awss = groups.contains(&rustls::NamedGroup::X25519MLKEM768);
            assert_eq!(is_awss, cfg!(feature = "aws-lc-rs"), "{groups:?}");
            return;
        }
        let error = Options::new("wss://example.org/")
            .unwrap()
            .check()
            .unwrap_err();
        assert!(matches!(error, RequestError::Provider(_)), "{error:?}");
        assert_eq!(error.cause(), Cause::Tls);
        for fix in ["`ring`", "`aws-lc-rs`", "install_default", "Options::tls"] {
            assert!(error.to_string().contains(fix), "{error}");
        }
    }

    #[test]
    fn a_process_that_has_a_default_provider_keeps_it_whatever_the_features() {
        let suite = ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
        if is_alone() {
            let mut provider = ring::default_provider();
            provider.cipher_suites = vec![suite];
            provider.install_default().unwrap();
            return shake_hands();
        }
        let (suites, _) =
            serve("a_process_that_has_a_default_provider_keeps_it_whatever_the_features");
        assert_eq!(suites, [suite.suite()]);
    }
}
