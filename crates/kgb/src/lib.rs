//! KGB, the recording proxy: it stands between an agent and the model API, and between the agent
//! and its MCP servers, and puts everything that passes on record.
//!
//! - [`gateway`] forwards HTTP exchanges, byte for byte, each chunk as soon as it is in the spool.
//! - [`spy`] stands in front of MCP servers: WebSocket, message by message, and Streamable HTTP.
//! - [`Recorder`] owns the spool, keeps credentials out of it, and decides what happens when it cannot take more.
//! - [`drain`] moves what is in the spool into the store, exactly once, whenever the store is there.
//!
//! The gateway never waits for the store, and the drain never touches the traffic; the spool is all they share.

mod assemble;
pub mod drain;
pub mod entry;
pub mod gateway;
mod metrics;
pub mod recorder;
pub mod spy;

pub use metrics::Meters;
pub use recorder::{MessageLog, Recorder, RecorderConfig, WhenSpoolFull};

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
    Route(#[from] gateway::RouteError),
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

/// Result of starting or stopping a part of KGB.
pub type Result<T> = std::result::Result<T, Error>;
