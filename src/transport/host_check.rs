//! The host key question of one dial, and the SSH library's callbacks that ask it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::client::{self, DisconnectReason};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Preferred, cipher};

use crate::clock::Clock;

use super::error::ConnectErrorKind as Kind;
use super::known_hosts::{self, KnownHosts, Verdict};
use super::known_store;
use super::target::{HostKeys, Target};

/// A host key as the server showed it, with nothing proved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedKey {
    /// The name that known_hosts has it under.
    pub name: String,
    pub key: PublicKey,
    /// What the known_hosts files say about it already.
    pub verdict: Verdict,
}

impl ScannedKey {
    /// `ssh-ed25519 SHA256:...`
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} {}", self.key.algorithm(), known_hosts::fingerprint(&self.key))
    }

    /// The known_hosts line of this key.
    #[must_use]
    pub fn line(&self) -> String {
        known_hosts::key_line(&self.name, &self.key, None)
    }

    /// Makes the key a known one.
    ///
    /// # Errors
    /// Failures of the file system.
    pub fn store(&self, file: &Path) -> std::io::Result<bool> {
        known_store::append(file, &self.line())
    }
}

/// Why the connection ended; empty while it stands.
#[derive(Debug, Clone, Default)]
pub(super) struct LostCause(Arc<Mutex<Option<String>>>);

impl LostCause {
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first cause is the true one; what follows are its consequences.
    pub(super) fn set(&self, cause: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
    }
}

/// The SSH library's callbacks.
pub(super) struct Client {
    pub(super) check: Arc<HostCheck>,
    pub(super) lost: LostCause,
}

/// The host key question of one dial, and its answer.
pub(super) struct HostCheck {
    known: KnownHosts,
    name: String,
    policy: HostKeys,
    /// Only look, never accept.
    scan: bool,
    /// Unix seconds, for certificates.
    now: u64,
    seen: Mutex<Option<(PublicKey, Verdict)>>,
    /// Set when the key was refused.
    refused: Mutex<Option<Kind>>,
    host: String,
    store: Option<PathBuf>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let check = Arc::clone(&self.check);
        let key = shown.public_key();
        let verdict = match shown.certificate() {
            Some(cert) => check.known.check_certificate(&check.name, cert, check.now),
            None => check.known.check_key(&check.name, &key),
        };
        *lock(&check.seen) = Some((key.clone(), verdict.clone()));
        if check.scan {
            return Ok(false);
        }
        // Storing waits for a file lock; not on this thread.
        let judged = tokio::task::spawn_blocking(move || {
            let judged = check.judge(&key, verdict);
            (judged, check)
        });
        let Ok((judged, check)) = judged.await else { return Ok(false) };
        let accepted = judged.is_ok();
        *lock(&check.refused) = judged.err();
        Ok(accepted)
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<russh::Error>,
    ) -> Result<(), russh::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                self.lost.set(format!("the server hung up: {}", info.message));
                Ok(())
            }
            DisconnectReason::Error(e) => {
                self.lost.set(cause_text(&e));
                Err(e)
            }
        }
    }
}

impl HostCheck {
    pub(super) fn new(target: &Target, clock: Clock, scan: bool) -> Result<Self, Kind> {
        let known = KnownHosts::load(&target.known_hosts)
            .map_err(|(file, e)| Kind::KnownHostsUnreadable { file, cause: e.to_string() })?;
        Ok(HostCheck {
            known,
            name: target.known_hosts_name(),
            policy: target.host_keys,
            scan,
            now: u64::try_from(clock.wall().as_second()).unwrap_or_default(),
            seen: Mutex::default(),
            refused: Mutex::default(),
            host: target.name.clone(),
            store: target.known_hosts.first().cloned(),
        })
    }

    /// The key that the server showed.
    pub(super) fn seen(&self) -> Option<ScannedKey> {
        let (key, verdict) = lock(&self.seen).clone()?;
        Some(ScannedKey { name: self.name.clone(), key, verdict })
    }

    /// Why the key was refused, if it was.
    pub(super) fn take_refusal(&self) -> Option<Kind> {
        lock(&self.refused).take()
    }

    /// Algorithms in the order to ask for: the host key types that can be compared first, as
    /// OpenSSH does, and AES-GCM before ChaCha20 (760 against 437 MiB/s where there is AES-NI).
    pub(super) fn preferred(&self) -> Preferred {
        let mut preferred = Preferred::DEFAULT;
        preferred.cipher = vec![
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
            cipher::AES_192_CTR,
            cipher::AES_128_CTR,
        ]
        .into();
        let mut keys = Vec::new();
        for algorithm in self.known.algorithms(&self.name) {
            match algorithm {
                // One key type, three signature algorithms; SHA-1 last.
                Algorithm::Rsa { .. } => keys.extend(rsa()),
                other => keys.push(other),
            }
        }
        let rest: Vec<Algorithm> =
            preferred.key.iter().filter(|a| !keys.contains(a)).cloned().collect();
        keys.extend(rest);
        if self.known.has_authority(&self.name) {
            preferred.host_key_certificates = certificate_algorithms().into();
        }
        preferred.key = keys.into();
        preferred
    }

    fn judge(&self, key: &PublicKey, verdict: Verdict) -> Result<(), Kind> {
        let name = self.name.clone();
        let (algorithm, fingerprint) = (key.algorithm().to_string(), known_hosts::fingerprint(key));
        match verdict {
            Verdict::Known => Ok(()),
            Verdict::Unknown => match (self.policy, &self.store) {
                (HostKeys::AcceptNew, Some(file)) => {
                    let line = known_hosts::key_line(&self.name, key, None);
                    known_store::append(file, &line).map(|_| ()).map_err(|e| {
                        Kind::KnownHostsUnwritable { file: file.clone(), cause: e.to_string() }
                    })
                }
                _ => {
                    let host = self.host.clone();
                    Err(Kind::UnknownHostKey { host, name, algorithm, fingerprint })
                }
            },
            Verdict::Changed(place) => {
                Err(Kind::ChangedHostKey { name, algorithm, fingerprint, place })
            }
            Verdict::Revoked(place) => Err(Kind::RevokedHostKey { name, fingerprint, place }),
            Verdict::BadCertificate(why) => Err(Kind::BadHostCertificate { name, why }),
        }
    }
}

fn rsa() -> [Algorithm; 3] {
    [Some(HashAlg::Sha512), Some(HashAlg::Sha256), None].map(|hash| Algorithm::Rsa { hash })
}

fn certificate_algorithms() -> Vec<Algorithm> {
    let curves = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
    let mut all = vec![Algorithm::Ed25519];
    all.extend(curves.map(|curve| Algorithm::Ecdsa { curve }));
    // No SHA-1 here: OpenSSH has not offered ssh-rsa-cert-v01 by default since 8.2.
    all.extend(rsa().into_iter().take(2));
    all
}

/// What to say about a connection that ended.
pub(super) fn cause_text(error: &russh::Error) -> String {
    match error {
        russh::Error::KeepaliveTimeout => "no answer to keepalives".to_owned(),
        russh::Error::HUP | russh::Error::Disconnect => "the server closed it".to_owned(),
        russh::Error::IO(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the server closed it".to_owned()
        }
        other => other.to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
