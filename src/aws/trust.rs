//! Whose certificates make a server trustworthy.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

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

impl Trust {
    /// How to speak TLS with servers that are trusted so.
    pub(super) fn tls(&self) -> Result<ClientConfig, Failure> {
        let roots = match self {
            // They are built in as what a handshake needs of them: nothing is parsed.
            Self::Bundled => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
            Self::System => of_system()?,
            Self::File(path) => of_file(path)?,
        };
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(FailureKind::Tls, error.to_string()))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

fn of_system() -> Result<RootCertStore, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let reason = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
    usable(found.certs).ok_or_else(|| unusable("the certificates of this machine", &reason))
}

fn of_file(path: &Path) -> Result<RootCertStore, Failure> {
    let name = format!("the certificate bundle {}", path.display());
    let pem = fs::read(path).map_err(|error| unusable(&name, &error))?;
    let certificates =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| unusable(&name, &error))?;
    usable(certificates).ok_or_else(|| unusable(&name, &"no certificate in it"))
}

/// Those that the TLS library can read; `None` when there is none of them. A bundle may hold some of an old kind.
fn usable(certificates: Vec<CertificateDer<'_>>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    (!roots.is_empty()).then_some(roots)
}

fn unusable(what: &str, reason: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Malconfigured, format!("{what} cannot be used: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_bundle_that_cannot_be_used_is_named() {
        let missing = of_file(Path::new("/nonexistent/ca.pem")).expect_err("no such file");
        assert_eq!(missing.kind(), FailureKind::Malconfigured);
        assert!(missing.to_string().contains("/nonexistent/ca.pem"), "{missing}");

        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(b"no certificate").expect("written");
        let empty = of_file(file.path()).expect_err("nothing in it");
        assert!(empty.to_string().contains("no certificate in it"), "{empty}");
    }
}
