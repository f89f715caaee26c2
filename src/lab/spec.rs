//! The lab that is asked for.

use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::LabError;
use super::address::in_lab_range;

/// What a lab belongs to: the canonical path of an inventory, or the built-in default.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabKey(String);

impl LabKey {
    /// The lab of an inventory file, however its path is written.
    ///
    /// # Errors
    /// When the file does not exist; its lab can then still be named with [`LabKey::named`].
    pub fn of_inventory(path: &Path) -> std::io::Result<Self> {
        Ok(LabKey(fs::canonicalize(path)?.to_string_lossy().into_owned()))
    }

    /// The lab of `lab up` without an inventory.
    #[must_use]
    pub fn builtin() -> Self {
        LabKey("default".to_owned())
    }

    /// The key as [`list`] shows it.
    #[must_use]
    pub fn named(key: impl Into<String>) -> Self {
        LabKey(key.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LabKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The lab that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub key: LabKey,
    /// A Debian suite (`bookworm`, `trixie`), or this machine's own.
    pub image: String,
    /// Packages that the image holds besides the usual ones; another set is another image.
    pub extra_packages: Vec<String>,
    pub hosts: Vec<HostSpec>,
}

/// A host that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSpec {
    /// Its host name as well.
    pub name: String,
    /// A fixed address in 198.18.0.0/15; else the lab gives one, the same until [`down`](super::down).
    pub address: Option<Ipv4Addr>,
}

impl Spec {
    /// A lab without extra packages.
    #[must_use]
    pub fn new(key: LabKey, image: &str, hosts: Vec<HostSpec>) -> Self {
        Spec { key, image: image.to_owned(), extra_packages: Vec::new(), hosts }
    }

    /// Refuses what no machine could make, before anything is touched.
    pub(super) fn check(&self) -> Result<(), LabError> {
        let bad = |message: String| Err(LabError::BadSpec { message });
        let word = |text: &str, more: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed)
        };
        if !word(&self.image, "") {
            return bad(format!("\"{}\" is not the name of a Debian suite", self.image));
        }
        if let Some(package) = self.extra_packages.iter().find(|name| !word(name, "+-.")) {
            return bad(format!("\"{package}\" is not the name of a package"));
        }
        if self.hosts.is_empty() {
            return bad("a lab without hosts: name at least one".to_owned());
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let name = &host.name;
            if !word(name, "-._") || name.len() > 63 || name == "controller" {
                return bad(format!("\"{name}\" cannot be the name of a lab host"));
            }
            let earlier = self.hosts.iter().take(index);
            if earlier.clone().any(|other| other.name == *name) {
                return bad(format!("two lab hosts are called {name}"));
            }
            let Some(address) = host.address else { continue };
            if !in_lab_range(address) {
                return bad(format!(
                    "{name}: {address} is not in 198.18.0.0/15, where lab hosts live\nleave the \
                     address out and the lab gives one"
                ));
            }
            if let Some(other) = earlier.clone().find(|other| other.address == Some(address)) {
                return bad(format!("{name} and {} both want {address}", other.name));
            }
        }
        Ok(())
    }
}
