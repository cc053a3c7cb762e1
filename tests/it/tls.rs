//! `rediss://`: Redis behind TLS, whose certificate is checked.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Installation, Process, free_port, until};

/// An authority of the test's own and a certificate for localhost that it has signed.
fn make_certificates(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder).output();
        let output = output.expect("openssl runs; scripts/test installs it");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(
        &[
            &[
                "req",
                "-x509",
                "-days",
                "2",
                "-subj",
                "/CN=A test's authority",
                "-keyout",
                "ca.key",
                "-out",
                "ca.pem",
            ],
            &new_key[..],
        ]
        .concat(),
    );
    openssl(
        &[&["req", "-subj", "/CN=localhost", "-keyout", "redis.key", "-out", "redis.csr"], &new_key[..]]
            .concat(),
    );
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").expect("a file can be written");
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "redis.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "names",
        "-out",
        "redis.pem",
    ]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_reached_over_tls_when_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make_certificates(folder.path());
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--bind", "127.0.0.1", "--save", "", "--tls-auth-clients", "no"]);
    command.args([
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        "redis.pem",
        "--tls-key-file",
        "redis.key",
    ]);
    command.args(["--tls-ca-cert-file", "ca.pem"]).current_dir(folder.path());
    let _redis = Process::start("redis-server", &mut command, &folder.path().join("redis.log"));
    until("redis to listen", Duration::from_secs(20), || async {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    })
    .await;

    let doctor = |authority: &Path| {
        let installation = Installation::embedded(1)
            .with("WEIR__CACHE__REDIS", &format!("rediss://localhost:{port}"))
            .with("WEIR__CACHE__REDIS_TIMEOUT_MS", "5000")
            // Where this machine's trusted authorities are read from.
            .with("SSL_CERT_FILE", &authority.display().to_string());
        installation.run(&["doctor"])
    };
    let redis = |said: &str| said.split_once("Redis\n").expect("doctor looks at Redis").1.to_owned();
    let trusted = redis(&doctor(&folder.path().join("ca.pem")));
    assert!(trusted.contains("ok       it answers"), "{trusted}");

    // The same server, and an authority that has not signed its certificate.
    let other = tempfile::tempdir().expect("a temporary folder");
    make_certificates(other.path());
    let untrusted = redis(&doctor(&other.path().join("ca.pem")));
    assert!(untrusted.contains("it does not answer"), "{untrusted}");
}
