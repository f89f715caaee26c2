//! A webhook over TLS: certificates are checked.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgorch::inventory::Webhook;
use pgorch::model::Redactor;

use super::{post, tell, webhook};

fn openssl(dir: &Path, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Command::new("openssl").args(&words).current_dir(dir).output().expect("openssl");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a server's certificate for 127.0.0.1 of it.
fn certificates(dir: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(dir, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test"));
    openssl(dir, &format!("req {key} -keyout server.key -out server.csr -subj /CN=server"));
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("written");
    openssl(
        dir,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.pem \
         -extfile names",
    );
}

struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers the first request with 204; what it got is on its standard output.
fn serve(dir: &Path) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
    let child = Command::new("openssl")
        .args(["s_server", "-quiet", "-cert", "server.pem", "-key", "server.key", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(dir.join("got")).expect("a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    // Ends with the test, whatever becomes of it.
    let mut server = Server { child, url: format!("https://127.0.0.1:{port}/hook") };
    let stdin = server.child.stdin.as_mut().expect("piped");
    stdin.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(50));
        let listening = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        if listening.contains(&format!("0100007F:{port:04X} 00000000:0000 0A")) {
            return server;
        }
    }
    panic!("it does not listen");
}

#[test]
fn a_webhook_of_a_known_authority_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    certificates(dir.path());
    let server = serve(dir.path());
    let ca_file = Some(dir.path().join("ca.pem").display().to_string());
    let hook = Webhook { ca_file, ..webhook(&server.url) };
    assert_eq!(tell(&[post(hook)], 1, &Redactor::default()), [""; 0]);
    let got = std::fs::read_to_string(dir.path().join("got")).expect("it");
    assert!(got.starts_with("POST /hook HTTP/1.1") && got.contains("it's bad"), "{got}");
}

#[test]
fn a_webhook_of_an_unknown_authority_is_not_told_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    certificates(dir.path());
    let server = serve(dir.path());
    let said = tell(&[post(webhook(&server.url))], 1, &Redactor::default());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].to_lowercase().contains("certificate"), "{said:?}");
    let got = std::fs::read_to_string(dir.path().join("got")).expect("it");
    assert!(!got.contains("POST"), "{got}");
    // Nobody speaks TLS there.
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}/hook", plain.local_addr().expect("it"));
    std::thread::spawn(move || {
        for stream in plain.incoming().flatten() {
            let mut stream: TcpStream = stream;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        }
    });
    assert_eq!(tell(&[post(webhook(&url))], 1, &Redactor::default()).len(), 1);
}
