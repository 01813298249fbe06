//! The HTTP client of all AWS clients of one session.
//!
//! Connectors are made when the first request needs them: a plain `http://` endpoint never pays for reading and
//! parsing certificates (about 1 ms). All clients share the connectors, so that a connection that one call opened is
//! there for the next.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::failure::{Failure, FailureKind};

/// Whose certificates make a server trustworthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of the authorities that Mozilla trusts, as they were when this program was built.
    #[default]
    Bundled,
    /// Those of the authorities that this machine trusts.
    System,
    /// Those of the authorities in a PEM file, and of no others.
    File(PathBuf),
}

/// Makes a connector for each scheme and time limit once, on first use.
#[derive(Clone, Debug)]
pub(super) struct LazyClient {
    trust: Trust,
    connectors: Arc<Mutex<HashMap<ConnectorKey, SharedHttpConnector>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ConnectorKey {
    tls: bool,
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
}

impl LazyClient {
    pub(super) fn new(trust: Trust) -> Self {
        Self { trust, connectors: Arc::default() }
    }

    /// Begins to make the connector for `https://`, on another thread, so that the first request finds it made.
    pub(super) fn prepare_tls(&self, settings: HttpConnectorSettings) {
        let client = self.clone();
        // What goes wrong goes wrong again for the first request, which says so.
        tokio::task::spawn_blocking(move || drop(client.connector(true, &settings)));
    }

    fn connector(&self, tls: bool, settings: &HttpConnectorSettings) -> Result<SharedHttpConnector, Failure> {
        let key =
            ConnectorKey { tls, connect_timeout: settings.connect_timeout(), read_timeout: settings.read_timeout() };
        let mut connectors = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = connectors.get(&key) {
            return Ok(connector.clone());
        }
        let connector = SharedHttpConnector::new(self.make_connector(tls, settings)?);
        connectors.insert(key, connector.clone());
        Ok(connector)
    }

    fn make_connector(&self, tls: bool, settings: &HttpConnectorSettings) -> Result<Connector, Failure> {
        let trust_store = match &self.trust {
            _ if !tls => TrustStore::empty(),
            Trust::Bundled => webpki_root_certs::TLS_SERVER_ROOT_CERTS
                .iter()
                .map(to_pem)
                .fold(TrustStore::empty(), TrustStore::with_pem_certificate),
            Trust::System => TrustStore::empty().with_native_roots(true),
            Trust::File(path) => read_ca_bundle(path)?,
        };
        let tls_context = TlsContext::builder()
            .with_trust_store(trust_store)
            .build()
            .map_err(|error| Failure::new(FailureKind::Tls, error.to_string()))?;
        Ok(Connector::builder()
            .connector_settings(settings.clone())
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(tls_context)
            .build())
    }
}

impl HttpClient for LazyClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(ByScheme { client: self.clone(), settings: settings.clone() })
    }
}

/// Chooses the connector when the request, and so its scheme, is known.
#[derive(Debug)]
struct ByScheme {
    client: LazyClient,
    settings: HttpConnectorSettings,
}

impl HttpConnector for ByScheme {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let tls = !request.uri().starts_with("http://");
        match self.client.connector(tls, &self.settings) {
            Ok(connector) => connector.call(request),
            Err(failure) => HttpConnectorFuture::ready(Err(ConnectorError::user(failure.into()))),
        }
    }
}

/// The authorities of a PEM file. Those that the TLS library cannot read are left out, as it does with the system's.
fn read_ca_bundle(path: &Path) -> Result<TrustStore, Failure> {
    let unusable = |reason: &dyn std::fmt::Display| {
        let message = format!("the certificate bundle {} cannot be used: {reason}", path.display());
        Failure::new(FailureKind::Malconfigured, message)
    };
    let pem = fs::read(path).map_err(|error| unusable(&error))?;
    let certificates =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| unusable(&error))?;
    let mut trust_store = TrustStore::empty();
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        if roots.add(certificate.clone()).is_ok() {
            trust_store.add_pem_certificate(to_pem(&certificate));
        }
    }
    if roots.is_empty() {
        return Err(unusable(&"no certificate in it"));
    }
    Ok(trust_store)
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_bundle_that_cannot_be_used_is_named() {
        let missing = read_ca_bundle(Path::new("/nonexistent/ca.pem")).expect_err("no such file");
        assert_eq!(missing.kind(), FailureKind::Malconfigured);
        assert!(missing.to_string().contains("/nonexistent/ca.pem"), "{missing}");

        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(b"no certificate").expect("written");
        let empty = read_ca_bundle(file.path()).expect_err("nothing in it");
        assert!(empty.to_string().contains("no certificate in it"), "{empty}");
    }
}
