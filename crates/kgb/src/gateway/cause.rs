//! What an error of a connection says: why, whether it was a reset, and what its reader can do.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use super::proxy::ProxyError;

/// Every cause of an error, outermost first, in one line.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in causes(error).skip(1) {
        let next = cause.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
    }
    text
}

/// Whether the other side reset the connection.
pub(crate) fn is_reset(error: &(dyn Error + 'static)) -> bool {
    let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    causes(error).any(|cause| cause.downcast_ref().is_some_and(is_reset))
}

/// What to do about an upstream that cannot be reached.
pub(crate) fn advice(error: &(dyn Error + 'static)) -> &'static str {
    if causes(error).any(|cause| cause.is::<ProxyError>()) {
        return "Check the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names (its URL may hold a user and a password), or \
                name the upstream in NO_PROXY.";
    }
    match causes(error).find_map(tls_error) {
        // The second: an authority is trusted that only has the same name.
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "If a private authority (a company's TLS inspection, say) signed its certificate, name that authority's file in \
             upstream_ca_file (ICCM_UPSTREAM_CA_FILE)."
        }
        Some(rustls::Error::InvalidCertificate(_)) => {
            "Its certificate is not good for this name and time: check the --upstream setting and this machine's clock."
        }
        Some(_) => "TLS failed: check that the --upstream setting names a port that speaks it (else use http://).",
        None => "Check the network and the --upstream setting.",
    }
}

/// TLS errors travel inside IO errors, one in the other, whose `source` passes over what they hold.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut error = error;
    while let Some(held) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        error = held;
    }
    error.downcast_ref()
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
