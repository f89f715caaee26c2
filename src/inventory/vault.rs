//! ansible-vault's format, decryption only: `$ANSIBLE_VAULT;1.1;AES256` and 1.2 with a label.
//!
//! The body is hex of three hex texts in lines: salt, HMAC-SHA256 of the ciphertext, ciphertext.
//! PBKDF2-HMAC-SHA256 with 10000 rounds makes 80 bytes: key, HMAC key, counter block; AES-256-CTR
//! with PKCS#7 padding (ansible-core, `lib/ansible/parsing/vault`, `VaultAES256`).

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::model::Secret;

const ROUNDS: u32 = 10_000;

/// Why a vault block could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error("this is not an ansible-vault block")]
    NotVault,
    #[error(
        "this version or cipher of ansible-vault is not supported (1.1 and 1.2 with AES256 are)"
    )]
    Unsupported,
    #[error("this ansible-vault block is damaged")]
    Damaged,
    #[error("the vault password does not fit")]
    WrongPassword,
    #[error("what was encrypted is not text")]
    NotText,
}

/// The label of a 1.2 block: which of several passwords it needs.
#[must_use]
pub fn label(armoured: &str) -> Option<&str> {
    armoured.lines().next()?.trim().split(';').nth(3)
}

/// Decrypts an armoured block with a password (as in a password file: without its last newline).
///
/// # Errors
/// [`VaultError::WrongPassword`] also when the ciphertext was changed: the two look the same.
pub fn decrypt(armoured: &str, password: &Secret) -> Result<Secret, VaultError> {
    let mut lines = armoured.trim().lines();
    let mut header = lines.next().unwrap_or_default().trim().split(';');
    if header.next() != Some("$ANSIBLE_VAULT") {
        return Err(VaultError::NotVault);
    }
    if !matches!(header.next(), Some("1.1" | "1.2")) || header.next() != Some("AES256") {
        return Err(VaultError::Unsupported);
    }
    let body: String = lines.map(str::trim).collect();
    let inner = String::from_utf8(unhex(&body)?).map_err(|_| VaultError::Damaged)?;
    let mut parts = inner.lines().map(unhex);
    let mut next = || parts.next().unwrap_or(Err(VaultError::Damaged));
    let (salt, digest, mut ciphertext) = (next()?, next()?, next()?);

    let mut derived = Zeroizing::new([0_u8; 80]);
    pbkdf2::pbkdf2_hmac::<Sha256>(
        password.expose().as_bytes(),
        &salt,
        ROUNDS,
        derived.as_mut_slice(),
    );
    let (key, rest) = derived.split_at(32);
    let (hmac_key, counter) = rest.split_at(32);
    let mut mac = Hmac::<Sha256>::new_from_slice(hmac_key).map_err(|_| VaultError::Damaged)?;
    mac.update(&ciphertext);
    // In constant time.
    mac.verify_slice(&digest).map_err(|_| VaultError::WrongPassword)?;
    let mut cipher = ctr::Ctr128BE::<aes::Aes256>::new_from_slices(key, counter)
        .map_err(|_| VaultError::Damaged)?;
    cipher.apply_keystream(&mut ciphertext);
    let plaintext = Zeroizing::new(ciphertext);
    let padding = usize::from(plaintext.last().copied().unwrap_or(0));
    let length = plaintext.len().checked_sub(padding).filter(|_| (1..=16).contains(&padding));
    let text = &plaintext[..length.ok_or(VaultError::Damaged)?];
    std::str::from_utf8(text).map(Secret::new).map_err(|_| VaultError::NotText)
}

fn unhex(text: &str) -> Result<Vec<u8>, VaultError> {
    let digits = text.trim().as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(VaultError::Damaged);
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect::<Option<Vec<u8>>>()
        .ok_or(VaultError::Damaged)
}
