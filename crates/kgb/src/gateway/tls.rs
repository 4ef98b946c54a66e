//! TLS towards the upstreams: whom we trust, and who we say we are.
//!
//! Guaranteed: an upstream's certificate is verified, always. The platform's roots are trusted (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` are honoured where they are files), and those that [`UpstreamTls::ca_file`] adds.
//! Refused: a file that cannot be used, at the start and by name, instead of a handshake that fails later.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::Verifier;

use crate::error::{Error, Result};

/// Files in PEM form that TLS towards the upstreams needs beyond what the platform gives; most need none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Certificates of authorities that are trusted beside the platform's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, followed by those that lead to its authority, for upstreams that demand one.
    pub client_cert: Option<PathBuf>,
    /// The private key of `client_cert`.
    pub client_key: Option<PathBuf>,
}

/// `needed`: there is an upstream with TLS. Without one, a machine without certificates will do.
pub(super) fn client_config(files: &UpstreamTls, needed: bool) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let extra = files.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
    let trusting = match Verifier::new_with_extra_roots(extra, provider) {
        Ok(verifier) => versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        Err(error) => match &files.ca_file {
            Some(path) => return Err(unusable(path, error)),
            None if needed => return Err(error.into()),
            // Nothing will ever be verified.
            None => versions.with_root_certificates(rustls::RootCertStore::empty()),
        },
    };
    match (&files.client_cert, &files.client_key) {
        (None, None) => Ok(trusting.with_no_client_auth()),
        (Some(cert), Some(key)) => trusting
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|error| unusable(cert, error)),
        _ => Err(Error::HalfIdentity),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let found = read.map_err(|error| unusable(path, error))?;
    if found.is_empty() { Err(unusable(path, "it holds no certificate in PEM form")) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::TlsFile { path: path.to_owned(), problem: problem.to_string() }
}
