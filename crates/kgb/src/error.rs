//! Why a part of KGB could not start or go on, said so that whoever reads it knows what to do.

/// Why a part of KGB could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spool could not be opened or written.
    #[error("cannot record in {dir}: {source}")]
    Spool {
        /// The spool's folder.
        dir: std::path::PathBuf,
        /// Why.
        source: spool::Error,
    },
    /// The key of the credential fingerprints could not be read or made.
    #[error("cannot use the fingerprint key {path}: {source}; check the folder's permissions")]
    FingerprintKey {
        /// The key's file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}; is another iccm running? choose another address")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The threads that carry connections could not be started.
    #[error("cannot start a thread: {0}; raise the limits on processes and open files (ulimit -u, ulimit -n)")]
    Threads(std::io::Error),
    /// An upstream cannot be used.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// TLS could not be set up.
    #[error("cannot set up TLS to the upstream: {0}; install CA certificates or set SSL_CERT_FILE")]
    Tls(#[from] rustls::Error),
    /// A file with certificates or a key cannot be used.
    #[error("cannot use {path} for TLS to the upstream: {problem}; correct the file or the setting that names it")]
    TlsFile {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        problem: String,
    },
    /// The file of the upstream's credential cannot be used.
    #[error("cannot use {path} as the upstream's credential: {problem}; correct the file or upstream_credential_file")]
    CredentialFile {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        problem: String,
    },
    /// A client certificate without its key, or a key without its certificate.
    #[error(
        "a client certificate and its key are needed together; set both upstream_client_cert and upstream_client_key"
    )]
    HalfIdentity,
}

/// Why a base URL or a provider's name cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Neither http nor https.
    #[error("the upstream {0} is neither http:// nor https://")]
    Scheme(String),
    /// User and password in the URL: they would end up in the record.
    #[error("the upstream for {0} must not carry a user or password; let the client send its credentials")]
    Credentials(String),
    /// No host, or one that no request can be sent to.
    #[error("the upstream {0} names no host that a request can be sent to")]
    Host(String),
    /// A query or fragment: there is nowhere to put it.
    #[error("the upstream {0} must be a base URL without query and fragment")]
    NotABase(String),
    /// A provider's name that cannot be a path segment, or is one of the gateway's own paths.
    #[error("`{0}` cannot name a provider; use letters, digits, `-` and `_`, and none of health, ready, metrics")]
    Name(String),
}

/// Result of starting or stopping a part of KGB.
pub type Result<T> = std::result::Result<T, Error>;
