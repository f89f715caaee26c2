//! known_hosts: which host keys are trusted. Pure, but for [`KnownHosts::load`].
//!
//! Why our own: the SSH library's check accepts a revoked key, ignores `@cert-authority`, wildcards
//! and negation, takes an unreadable file for an empty one, and calls a host known under another
//! key type *unknown*, so that accept-new would learn an attacker's key. The format and the meaning
//! of each mark are those of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".

use std::path::{Path, PathBuf};

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, ssh_key::certificate::CertType};

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

/// The lines of all known_hosts files of a target.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    place: Place,
    marker: Marker,
    hosts: Hosts,
    key: PublicKey,
}

/// A line of a known_hosts file; `line` counts from 1, as editors do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    CertAuthority,
    Revoked,
}

#[derive(Debug, Clone)]
enum Hosts {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

/// What the files say about a host's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Known,
    /// No line of any file names this host.
    Unknown,
    /// The host is known with another key, of this type or of another one.
    Changed(Place),
    /// This key, or the authority that signed it, is marked `@revoked`.
    Revoked(Place),
    /// A certificate that its trusted authority does not vouch for here and now.
    BadCertificate(String),
}

impl KnownHosts {
    /// Reads all `files`. A missing file is empty; one that cannot be read is an error, because
    /// taking it for empty would make known hosts look new.
    ///
    /// # Errors
    /// The file and the reason.
    pub fn load(files: &[PathBuf]) -> Result<Self, (PathBuf, std::io::Error)> {
        let mut all = KnownHosts::default();
        for file in files {
            match std::fs::read(file) {
                Ok(bytes) => all.add(file, &String::from_utf8_lossy(&bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err((file.clone(), e)),
            }
        }
        Ok(all)
    }

    /// Adds the lines of one file. A line that cannot be understood is passed over, as ssh does.
    pub fn add(&mut self, file: &Path, text: &str) {
        for (index, line) in text.lines().enumerate() {
            if let Some((marker, hosts, key)) = parse_line(line) {
                let place = Place { file: file.to_owned(), line: index + 1 };
                self.entries.push(Entry { place, marker, hosts, key });
            }
        }
    }

    /// What is known about `key` as the key of `name` ([`lookup_name`]).
    ///
    /// Revoked first, then an exact match, then any other key of the host, which means *changed*.
    /// A host on another port than 22 that no line names with its port is looked up without it, and
    /// only a match counts then (as in OpenSSH's sshconnect.c, `check_host_key`).
    #[must_use]
    pub fn check_key(&self, name: &str, key: &PublicKey) -> Verdict {
        if let Some(entry) = self.revoked(name, key) {
            return Verdict::Revoked(entry.place.clone());
        }
        let known: Vec<&Entry> = self.matching(name, Marker::None).collect();
        if known.iter().any(|e| same_key(&e.key, key)) {
            return Verdict::Known;
        }
        let same_type = known.iter().find(|e| e.key.algorithm() == key.algorithm());
        if let Some(entry) = same_type.or_else(|| known.first()) {
            return Verdict::Changed(entry.place.clone());
        }
        let bare = without_port(name);
        match bare {
            Some(bare) if self.matching(bare, Marker::None).any(|e| same_key(&e.key, key)) => {
                Verdict::Known
            }
            _ => Verdict::Unknown,
        }
    }

    /// Whether `certificate` proves to be `name` at `now` (seconds of the Unix clock).
    ///
    /// Checked: neither it nor its authority is revoked, an `@cert-authority` line of this host has
    /// the authority, signature, validity, that it is a host certificate, its principals (an empty
    /// list vouches for nobody, as since OpenSSH 10.1), and that it has no critical option, of
    /// which hosts have none.
    #[must_use]
    pub fn check_certificate(&self, name: &str, certificate: &Certificate, now: u64) -> Verdict {
        let authority = PublicKey::from(certificate.signature_key().clone());
        let own = PublicKey::from(certificate.public_key().clone());
        for key in [&own, &authority] {
            if let Some(entry) = self.revoked(name, key) {
                return Verdict::Revoked(entry.place.clone());
            }
        }
        if !self.authorities(name).any(|e| same_key(&e.key, &authority)) {
            // The certificate of an authority that nobody trusts here is still a key.
            return self.check_key(name, &own);
        }
        let bad = |why: &str| Verdict::BadCertificate(why.to_owned());
        if certificate.cert_type() != CertType::Host {
            return bad("it is a user certificate, not a host certificate");
        }
        if now < certificate.valid_after() {
            return bad("it is not valid yet");
        }
        if now >= certificate.valid_before() {
            return bad("it has expired");
        }
        let host = without_port(name).unwrap_or(name);
        let principals = certificate.valid_principals();
        if !principals.iter().any(|p| glob(&p.to_lowercase(), host)) {
            return Verdict::BadCertificate(format!(
                "it is for {}, not for {host}",
                if principals.is_empty() { "nobody".to_owned() } else { principals.join(", ") }
            ));
        }
        if !certificate.critical_options().is_empty() {
            return bad("it has a critical option, which is unknown for hosts");
        }
        let fingerprint = authority.fingerprint(HashAlg::Sha256);
        match certificate.validate_at(now, [&fingerprint]) {
            Ok(()) => Verdict::Known,
            Err(_) => bad("its signature is wrong"),
        }
    }

    /// The key types known for `name`, in file order: the server is asked for these first, since it
    /// shows one key only, and it should be one that can be compared.
    #[must_use]
    pub fn algorithms(&self, name: &str) -> Vec<Algorithm> {
        let mut found: Vec<Algorithm> = Vec::new();
        let bare = without_port(name).into_iter().flat_map(|n| self.matching(n, Marker::None));
        for entry in self.matching(name, Marker::None).chain(bare) {
            if !found.contains(&entry.key.algorithm()) {
                found.push(entry.key.algorithm());
            }
        }
        found
    }

    /// Whether some `@cert-authority` line covers `name`, so that certificates are asked for.
    #[must_use]
    pub fn has_authority(&self, name: &str) -> bool {
        self.authorities(name).next().is_some()
    }

    fn authorities<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Entry> {
        let bare = without_port(name).into_iter();
        let bare = bare.flat_map(|n| self.matching(n, Marker::CertAuthority));
        self.matching(name, Marker::CertAuthority).chain(bare)
    }

    fn revoked<'a>(&'a self, name: &'a str, key: &PublicKey) -> Option<&'a Entry> {
        let bare = without_port(name).into_iter();
        let bare = bare.flat_map(|n| self.matching(n, Marker::Revoked));
        self.matching(name, Marker::Revoked).chain(bare).find(|e| same_key(&e.key, key))
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        marker: Marker,
    ) -> impl Iterator<Item = &'a Entry> + 'a {
        self.entries.iter().filter(move |e| e.marker == marker && e.hosts.matches(name))
    }
}

impl Hosts {
    /// A negated pattern that matches takes the line out, whatever else matches.
    fn matches(&self, name: &str) -> bool {
        match self {
            Hosts::Hashed { salt, hash } => hash_name(salt, name).as_deref() == Some(hash),
            Hosts::Patterns(patterns) => {
                let mut hit = false;
                for pattern in patterns {
                    match pattern.strip_prefix('!') {
                        Some(pattern) if glob(pattern, name) => return false,
                        Some(_) => {}
                        None => hit |= glob(pattern, name),
                    }
                }
                hit
            }
        }
    }
}

/// The name under which known_hosts files have a host: lower case, `[host]:port` off port 22.
#[must_use]
pub fn lookup_name(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// `SHA256:...`, as ssh-keygen -l prints it.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The line that makes `key` the known key of `name`, without a line end.
/// With `salt` the name is stored hashed, as with ssh's `HashKnownHosts`.
#[must_use]
pub fn key_line(name: &str, key: &PublicKey, salt: Option<[u8; 20]>) -> String {
    let hashed = salt.and_then(|salt| {
        let hash = hash_name(&salt, name)?;
        Some(format!("|1|{}|{}", BASE64.encode(salt), BASE64.encode(hash)))
    });
    let mut bare = key.clone();
    bare.set_comment("");
    let encoded = bare.to_openssh().unwrap_or_default();
    format!("{} {}", hashed.as_deref().unwrap_or(name), encoded.trim_end())
}

fn same_key(a: &PublicKey, b: &PublicKey) -> bool {
    a.key_data() == b.key_data()
}

fn without_port(name: &str) -> Option<&str> {
    name.strip_prefix('[')?.rsplit_once("]:").map(|(host, _)| host)
}

fn hash_name(salt: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.finalize().into_bytes().to_vec())
}

fn parse_line(line: &str) -> Option<(Marker, Hosts, PublicKey)> {
    let mut words = line.split_whitespace();
    let mut word = words.next().filter(|w| !w.starts_with('#'))?;
    let mut marker = Marker::None;
    if word.starts_with('@') {
        marker = match word {
            "@cert-authority" => Marker::CertAuthority,
            "@revoked" => Marker::Revoked,
            _ => return None,
        };
        word = words.next()?;
    }
    let hosts = parse_hosts(word)?;
    let key = PublicKey::from_openssh(&format!("{} {}", words.next()?, words.next()?)).ok()?;
    Some((marker, hosts, key))
}

fn parse_hosts(word: &str) -> Option<Hosts> {
    if let Some(hashed) = word.strip_prefix("|1|") {
        let (salt, hash) = hashed.split_once('|')?;
        let (salt, hash) = (BASE64.decode(salt).ok()?, BASE64.decode(hash).ok()?);
        return Some(Hosts::Hashed { salt, hash });
    }
    Some(Hosts::Patterns(word.split(',').map(str::to_lowercase).collect()))
}

/// `*` is any run of characters, `?` any one.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}
