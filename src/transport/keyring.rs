//! Private key files, read and decrypted once per process.
//!
//! Unlocking an encrypted key takes about 0.1 s (bcrypt), and its passphrase is asked for once:
//! all connections share one [`KeyRing`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::{Certificate, PrivateKey, PublicKey};
use tokio::sync::OnceCell;

use super::error::KeyError;
use super::target::SharedPrompts;

/// How often a passphrase is asked for before the key is given up.
const PASSPHRASE_ATTEMPTS: u32 = 3;

type Slot = Arc<OnceCell<Result<Arc<PrivateKey>, KeyError>>>;

/// The keys of this process. Failures are remembered too, so that nobody is asked twice.
pub(super) struct KeyRing {
    prompts: SharedPrompts,
    slots: Mutex<HashMap<PathBuf, Slot>>,
    /// One question at a time on the terminal.
    asking: Arc<Mutex<()>>,
}

impl KeyRing {
    pub(super) fn new(prompts: SharedPrompts) -> Self {
        KeyRing { prompts, slots: Mutex::default(), asking: Arc::default() }
    }

    /// The usable private key of a file. May wait for the user.
    pub(super) async fn load(&self, path: &Path) -> Result<Arc<PrivateKey>, KeyError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(path.to_owned()).or_default())
        };
        let result = slot
            .get_or_init(|| async {
                let (prompts, asking) = (Arc::clone(&self.prompts), Arc::clone(&self.asking));
                let owned = path.to_owned();
                let work = move || unlock(&owned, &prompts, &asking);
                match tokio::task::spawn_blocking(work).await {
                    Ok(result) => result,
                    Err(e) => {
                        Err(KeyError::Malformed { path: path.to_owned(), cause: e.to_string() })
                    }
                }
            })
            .await;
        result.clone()
    }
}

fn unlock(
    path: &Path,
    prompts: &SharedPrompts,
    asking: &Mutex<()>,
) -> Result<Arc<PrivateKey>, KeyError> {
    let text = zeroize::Zeroizing::new(read(path)?);
    let malformed =
        |e: russh::keys::Error| KeyError::Malformed { path: path.to_owned(), cause: e.to_string() };
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => return Ok(Arc::new(key)),
        Err(russh::keys::Error::KeyIsEncrypted) => {}
        Err(e) => return Err(malformed(e)),
    }
    let _turn = asking.lock().unwrap_or_else(PoisonError::into_inner);
    for attempt in 1..=PASSPHRASE_ATTEMPTS {
        let Some(passphrase) = prompts.passphrase(path, attempt) else {
            let path = path.to_owned();
            return Err(match attempt {
                1 => KeyError::Encrypted { path },
                _ => KeyError::WrongPassphrase { path },
            });
        };
        // The library says only "cryptographic error" for a wrong passphrase.
        if let Ok(key) = russh::keys::decode_secret_key(&text, Some(passphrase.expose())) {
            return Ok(Arc::new(key));
        }
    }
    Err(KeyError::WrongPassphrase { path: path.to_owned() })
}

/// The public half of a key, without any passphrase: an OpenSSH key file has it in clear, for other
/// formats `<path>.pub` must be there.
pub(super) fn public_half(path: &Path) -> Option<PublicKey> {
    let from_private =
        || Some(PrivateKey::from_openssh(read(path).ok()?).ok()?.public_key().clone());
    from_private().or_else(|| russh::keys::load_public_key(beside(path, ".pub")).ok())
}

/// The user certificate that belongs to a key: `<path>-cert.pub` or one of `named`, if it certifies
/// this very key.
pub(super) fn certificate(path: &Path, key: &PublicKey, named: &[PathBuf]) -> Option<Certificate> {
    let beside = beside(path, "-cert.pub");
    let files = std::iter::once(&beside).chain(named);
    let mut read = files.filter_map(|f| russh::keys::load_openssh_certificate(f).ok());
    read.find(|certificate| certificate.public_key() == key.key_data())
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path)
        .map_err(|e| KeyError::Unreadable { path: path.to_owned(), cause: e.to_string() })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
