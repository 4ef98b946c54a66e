//! An upstream behind TLS that is as particular as a content delivery network: whoever does not name it as it wants to be
//! named, in the handshake and in the request, is answered 403.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;

/// A name that leads to it without any proxy.
pub(crate) const LOCAL: &str = "localhost";

/// A certificate authority that nobody knows.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, key, folder: tempfile::tempdir().unwrap() }
    }

    /// The file that makes it known.
    pub(crate) fn file(&self) -> PathBuf {
        self.write("ca.pem", &self.certificate.pem())
    }

    /// Files with a certificate that it signed, and its key.
    pub(crate) fn identity(&self, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign(&[name]);
        (self.write("client.pem", &certificate.pem()), self.write("client.key", &key.serialize_pem()))
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn sign(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &self.certificate, &self.key).unwrap(), key)
    }

    fn server(&self, demands: &Demands) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13]).unwrap();
        let builder = if demands.client_certificate {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.certificate.der().clone()).unwrap();
            let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(clients.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.sign(&[demands.name, "127.0.0.1"]);
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = demands.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// How the upstream speaks, and what it wants beyond being named right.
#[derive(Clone, Copy)]
pub(crate) struct Demands {
    /// What it wants to be called.
    pub(crate) name: &'static str,
    /// What it can choose from.
    pub(crate) alpn: &'static [&'static str],
    pub(crate) client_certificate: bool,
}

/// Serves until the test ends; every good request is answered 200 with the protocol and what it brought.
pub(crate) async fn serve(authority: &Authority, demands: Demands) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(authority.server(&demands));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(connection(stream, config.clone(), demands.name, address.port()));
        }
    });
    address
}

/// A connection that fails its handshake just ends: the client's side of it is what tests look at.
async fn connection(stream: TcpStream, config: Arc<rustls::ServerConfig>, name: &str, port: u16) {
    let Ok(start) = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await else { return };
    let hello = start.client_hello();
    let offered: Vec<Vec<u8>> = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
    let named_right = hello.server_name() == Some(name) && offered == [b"h2".to_vec(), b"http/1.1".to_vec()];
    let Ok(stream) = start.into_stream(config).await else { return };
    let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec).unwrap_or_default();
    let host = format!("{name}:{port}");
    let service = service_fn(move |request| answer(request, named_right, host.clone()));
    let _ = if protocol == b"h2" {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    };
}

async fn answer(request: Request<Incoming>, named_right: bool, host: String) -> hyper::Result<Response<Full<Bytes>>> {
    let of_headers: Vec<_> = request.headers().get_all("host").iter().map(|host| host.as_bytes().to_vec()).collect();
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes().to_vec());
    let names: Vec<Vec<u8>> = of_headers.into_iter().chain(authority).collect();
    let is_named = !names.is_empty() && names.iter().all(|name| name == host.as_bytes());
    let version = format!("{:?} ", request.version());
    let body = request.into_body().collect().await?.to_bytes();
    let good = named_right && is_named;
    let text = if good { [version.as_bytes(), &body].concat() } else { b"error 1010".to_vec() };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = if good { StatusCode::OK } else { StatusCode::FORBIDDEN };
    Ok(response)
}
