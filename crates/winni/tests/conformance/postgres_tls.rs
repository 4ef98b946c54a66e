//! TLS to a PostgreSQL server that has a certificate: each `sslmode` lets through what it says, and nothing else.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use e2e::postgres::{Cluster, PASSWORD, give_to_server};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;
use winni::store::Error;

/// A certificate authority that nobody knows, with its file.
struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { certificate, key, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server whose certificate names `localhost` and nothing else.
    fn server(&self, expired: bool) -> Cluster {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        let mut cluster = Cluster::make(&["fsync=off", "ssl=on"]);
        for (name, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
            let path = cluster.folder().join("data").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            give_to_server(&path);
        }
        cluster.start_server();
        cluster
    }
}

/// Opens a database, asks it something and closes it; whether the connections were within TLS.
async fn connects(cluster: &Cluster, host: &str, options: &str) -> Result<bool, String> {
    let database = cluster.database();
    let url = format!("{}?{options}", database.url().replace("127.0.0.1", host));
    let folder = tempfile::tempdir().unwrap();
    let store = match winni::open(&url, folder.path()).await {
        Ok(store) => store,
        Err(Error::Unavailable(why)) => {
            assert!(why.contains(&format!("postgres://iccm@{host}:")) && !why.contains(PASSWORD), "{why}");
            return Err(why);
        }
        Err(other) => panic!("{options}: {other}"),
    };
    store.set_startup_context("a".into(), "b".into(), true).await.unwrap();
    assert!(store.startup_context(None).await.unwrap().is_some());
    let sql = format!(
        "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name = 'iccm' AND datname = '{}'",
        database.name()
    );
    match &*cluster.sql(database.name(), &sql) {
        "2|2" => Ok(true),
        "2|0" => Ok(false),
        other => panic!("{options}: {other} connections and within TLS"),
    }
}

async fn refused(cluster: &Cluster, host: &str, options: &str, because: &str) {
    match connects(cluster, host, options).await {
        Err(why) => assert!(why.contains(because), "{options}: {why}"),
        Ok(_) => panic!("{options} let a connection to {host} through"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sslmode_lets_through_what_it_says() {
    let (authority, other) = (Authority::new(), Authority::new());
    let cluster = authority.server(false);
    let (ca, wrong) = (authority.file().display().to_string(), other.file().display().to_string());
    for mode in ["", "sslmode=prefer", "sslmode=require"] {
        assert_eq!(connects(&cluster, "127.0.0.1", mode).await, Ok(true), "{mode}");
    }
    assert_eq!(connects(&cluster, "127.0.0.1", "sslmode=disable").await, Ok(false));

    let by = |mode: &str, file: &str| format!("sslmode={mode}&sslrootcert={file}");
    for mode in ["require", "verify-ca"] {
        assert_eq!(connects(&cluster, "127.0.0.1", &by(mode, &ca)).await, Ok(true), "{mode}: any name will do");
        refused(&cluster, "localhost", &by(mode, &wrong), "certificate").await;
    }
    assert_eq!(connects(&cluster, "localhost", &by("verify-full", &ca)).await, Ok(true));
    refused(&cluster, "127.0.0.1", &by("verify-full", &ca), "not valid for name").await;
    refused(&cluster, "localhost", &by("verify-full", &wrong), "certificate").await;
    // The platform's authorities do not know this one.
    refused(&cluster, "localhost", "sslmode=verify-full", "certificate").await;
    refused(&cluster, "localhost", &by("verify-ca", "/nowhere/ca.pem"), "sslrootcert /nowhere/ca.pem").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_yesterday_is_none() {
    let authority = Authority::new();
    let cluster = authority.server(true);
    let by = |mode: &str| format!("sslmode={mode}&sslrootcert={}", authority.file().display());
    refused(&cluster, "localhost", &by("verify-ca"), "expired").await;
    refused(&cluster, "localhost", &by("verify-full"), "expired").await;
    assert_eq!(connects(&cluster, "localhost", "sslmode=require").await, Ok(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let cluster = e2e::postgres::shared();
    for mode in ["require", "verify-ca", "verify-full"] {
        refused(cluster, "127.0.0.1", &format!("sslmode={mode}"), "TLS").await;
    }
    for mode in ["prefer", "disable"] {
        assert_eq!(connects(cluster, "127.0.0.1", &format!("sslmode={mode}")).await, Ok(false));
    }
}
