//! known_hosts files, without a server.

use std::path::{Path, PathBuf};

use pgorch::transport::known_hosts::{KnownHosts, Verdict, fingerprint, key_line, lookup_name};
use pgorch::transport::store_known_host;
use russh::keys::PublicKey;

const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
const E: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";

fn key(text: &str) -> PublicKey {
    PublicKey::from_openssh(text).expect("a key")
}

fn known(text: &str) -> KnownHosts {
    let mut known = KnownHosts::default();
    known.add(Path::new("kh"), text);
    known
}

fn at(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Known => "known".to_owned(),
        Verdict::Unknown => "unknown".to_owned(),
        Verdict::Changed(place) => format!("changed {place}"),
        Verdict::Revoked(place) => format!("revoked {place}"),
        Verdict::BadCertificate(why) => format!("bad certificate: {why}"),
    }
}

#[test]
fn verdicts() {
    // file, name, key shown, verdict
    let table: &[(&str, &str, &str, &str)] = &[
        ("db1 A", "db1", A, "known"),
        ("DB1 A", "db1", A, "known"),
        ("db1\tA", "db1", A, "known"),
        ("  db1 \t A  some comment", "db1", A, "known"),
        ("db1 A", "db2", A, "unknown"),
        ("", "db1", A, "unknown"),
        ("db1 B", "db1", A, "changed kh:1"),
        ("# db1 A\n\ndb1 B", "db1", A, "changed kh:3"),
        // Another type: changed, never unknown, or accept-new would learn an attacker's key.
        ("db1 E", "db1", A, "changed kh:1"),
        ("db1 E\ndb1 B", "db1", A, "changed kh:2"),
        // Several keys of one type: any will do.
        ("db1 B\ndb1 A", "db1", A, "known"),
        ("db1,db2,198.18.0.11 A", "198.18.0.11", A, "known"),
        ("db? A", "db1", A, "known"),
        ("db? A", "db12", A, "unknown"),
        ("*.example.com A", "db1.example.com", A, "known"),
        ("*.example.com A", "example.com", A, "unknown"),
        ("*.example.com,!db1.example.com A", "db1.example.com", A, "unknown"),
        ("!db1.example.com,*.example.com A", "db1.example.com", A, "unknown"),
        ("[db1]:2222 A", "[db1]:2222", A, "known"),
        ("[db1]:2222 A", "db1", A, "unknown"),
        ("[db1]:2222 B\ndb1 A", "[db1]:2222", A, "changed kh:1"),
        // As ssh does: a key without port matches, another key without port says nothing.
        ("db1 A", "[db1]:2222", A, "known"),
        ("db1 B", "[db1]:2222", A, "unknown"),
        // Revoked wins, wherever it stands and whatever else is there.
        ("db1 A\n@revoked * A", "db1", A, "revoked kh:2"),
        ("@revoked db1 A\ndb1 B", "db1", B, "known"),
        ("db1 B\n@revoked db2 A", "db1", B, "known"),
        ("@revoked db1 A", "[db1]:2222", A, "revoked kh:1"),
        // An authority is no host key.
        ("@cert-authority * A", "db1", A, "unknown"),
        ("@unheard-of db1 A", "db1", A, "unknown"),
        // Bad lines are passed over.
        ("db1\ndb1 ssh-ed25519 notbase64\ndb1 ssh-new AAAA\n|1|x|y A\ndb1 A", "db1", A, "known"),
        ("db1 1024 35 12345678", "db1", A, "unknown"),
        ("db1 B\r\ndb1 A\r\n", "db1", A, "known"),
    ];
    for (text, name, shown, expected) in table {
        let text: Vec<String> = text
            .split('\n')
            .map(|line| {
                let words = line.split_inclusive([' ', '\t']);
                words
                    .map(|w| match w.trim() {
                        "A" => w.replace('A', A),
                        "B" => w.replace('B', B),
                        "E" => w.replace('E', E),
                        _ => w.to_owned(),
                    })
                    .collect()
            })
            .collect();
        let text = text.join("\n");
        assert_eq!(at(&known(&text).check_key(name, &key(shown))), *expected, "{text}");
    }
}

#[test]
fn hashed_names_as_ssh_keygen_writes_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("kh");
    std::fs::write(&file, format!("db1 {A}\n[db1]:2222 {B}\n")).expect("written");
    super::sshd::command("ssh-keygen", &["-H", "-f", file.to_str().expect("UTF-8")]);
    let text = std::fs::read_to_string(&file).expect("read");
    assert!(text.starts_with("|1|"), "{text}");
    let hashed = known(&text);
    assert_eq!(hashed.check_key("db1", &key(A)), Verdict::Known);
    assert_eq!(hashed.check_key("[db1]:2222", &key(B)), Verdict::Known);
    assert_eq!(at(&hashed.check_key("db1", &key(E))), "changed kh:1");
    assert_eq!(hashed.check_key("db2", &key(A)), Verdict::Unknown);
    let own = known(&key_line("db9", &key(A), Some([7; 20])));
    assert_eq!(own.check_key("db9", &key(A)), Verdict::Known);
}

#[test]
fn key_types_come_in_file_order() {
    let text = format!("db1 {E}\ndb1 {A}\ndb1 {B}\n");
    let names: Vec<String> = known(&text).algorithms("db1").iter().map(|a| a.to_string()).collect();
    assert_eq!(names, ["ecdsa-sha2-nistp256", "ssh-ed25519"]);
    assert_eq!(lookup_name("DB1", 22), "db1");
    assert_eq!(lookup_name("fe80::1", 2222), "[fe80::1]:2222");
    assert!(fingerprint(&key(A)).starts_with("SHA256:"));
}

#[test]
fn several_files_and_unreadable_ones() {
    let dir = tempfile::tempdir().expect("a directory");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    std::fs::write(&one, format!("db1 {A}\n")).expect("written");
    std::fs::write(&two, format!("# system\n@revoked * {A}\n")).expect("written");
    let absent = dir.path().join("absent");
    let files = [one.clone(), absent.clone(), two.clone()];
    let both = KnownHosts::load(&files).expect("loaded");
    let expected = format!("revoked {}:2", two.display());
    assert_eq!(at(&both.check_key("db1", &key(A))), expected);
    assert_eq!(
        KnownHosts::load(&[absent]).expect("empty").check_key("db1", &key(A)),
        Verdict::Unknown
    );
    // A directory cannot be read, even by root.
    let (file, _) = KnownHosts::load(&[one, dir.path().to_owned()]).expect_err("an error");
    assert_eq!(file, PathBuf::from(dir.path()));
}

#[test]
fn a_new_key_is_appended_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("new/known_hosts");
    let line = key_line("db1", &key(A), None);
    assert_eq!(line, format!("db1 {A}"));
    assert!(store_known_host(&file, &line).expect("stored"));
    assert!(!store_known_host(&file, &line).expect("there"));
    // A file whose last line has no end.
    std::fs::write(&file, "db0 broken").expect("written");
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let (file, line) = (file.clone(), key_line(&format!("db{}", n % 4), &key(A), None));
            std::thread::spawn(move || store_known_host(&file, &line).expect("stored"))
        })
        .collect();
    let added = threads.into_iter().filter(|_| true).map(|t| t.join().expect("joined"));
    assert_eq!(added.filter(|a| *a).count(), 4);
    let text = std::fs::read_to_string(&file).expect("read");
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.starts_with("db0 broken\n") && text.ends_with('\n'));
}
