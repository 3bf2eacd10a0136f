//! The default TLS configuration: rustls, the platform's roots, verification on.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::request::RequestError;

/// Built once per client, not at every dial.
pub(crate) fn default_config() -> Result<Arc<ClientConfig>, RequestError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(RequestError::Roots(errors.join("; ")));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RequestError::Roots(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A session that will only accept a certificate for this host.
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
