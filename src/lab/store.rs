//! Where labs are kept, what is remembered of each, the locks, and who has which addresses.
//!
//! ```text
//! /var/lib/pgorch-lab/images/<suite>-<digest>/{root,complete}
//! /var/lib/pgorch-lab/labs/<id>/{lab.json,id_ed25519,known_hosts,hosts/<name>/…}
//! /var/lib/pgorch-lab/locks/<name>            held with flock; removed with what it guards
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{LabError, LabKey, Spec};

const BASE: &str = "/var/lib/pgorch-lab";

pub(super) fn images_dir() -> PathBuf {
    Path::new(BASE).join("images")
}

pub(super) fn labs_dir() -> PathBuf {
    Path::new(BASE).join("labs")
}

pub(super) fn base_file(name: &str) -> PathBuf {
    Path::new(BASE).join(name)
}

/// The first characters of a digest in hexadecimal.
pub(super) fn hex(digest: &[u8], characters: usize) -> String {
    let mut text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(characters);
    text
}

/// Eight characters that name everything a lab has in the kernel: interface names end at 15.
pub(super) fn id_of(key: &LabKey) -> String {
    hex(&Sha256::digest(key.as_str().as_bytes()), 8)
}

/// What is remembered of a lab between commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) schema: u32,
    pub(super) key: LabKey,
    /// The suite of its image.
    pub(super) image: String,
    /// The bridge's address; the network is its /24.
    pub(super) gateway: Ipv4Addr,
    pub(super) hosts: Vec<StoredHost>,
    #[serde(default)]
    pub(super) cuts: BTreeSet<StoredCut>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredHost {
    pub(super) name: String,
    /// 1 to 99; part of the machine name.
    pub(super) index: u8,
    pub(super) address: Ipv4Addr,
    /// Tree of its image.
    pub(super) image: PathBuf,
    /// Delay in ms and loss in percent of what travels to this host.
    #[serde(default)]
    pub(super) slow: Option<(u32, u8)>,
}

/// Packets that are dropped; an empty name is the controller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct StoredCut {
    pub(super) from: String,
    pub(super) to: String,
}

impl State {
    pub(super) fn id(&self) -> String {
        id_of(&self.key)
    }

    pub(super) fn dir(&self) -> PathBuf {
        labs_dir().join(self.id())
    }

    /// `a.b.c.0` of its /24.
    pub(super) fn network(&self) -> Ipv4Addr {
        network_of(self.gateway)
    }

    pub(super) fn host(&self, name: &str) -> Result<&StoredHost, LabError> {
        self.hosts.iter().find(|host| host.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.hosts.iter().map(|host| host.name.as_str()).collect();
            LabError::NoHost { host: name.to_owned(), known: known.join(", ") }
        })
    }

    pub(super) fn save(&self) -> Result<(), LabError> {
        let path = self.dir().join("lab.json");
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| LabError::State { path: path.clone(), source })?;
        write_with_mode(&path, &text, 0o644)
    }

    /// The state of a lab, if it has one.
    pub(super) fn load(key: &LabKey) -> Result<Option<Self>, LabError> {
        let state = read(&labs_dir().join(id_of(key)).join("lab.json"))?;
        match state {
            Some(state) if state.key != *key => {
                Err(LabError::SameShortName { key: key.to_string(), other: state.key.to_string() })
            }
            state => Ok(state),
        }
    }

    pub(super) fn load_existing(key: &LabKey) -> Result<Self, LabError> {
        State::load(key)?.ok_or_else(|| LabError::NoLab { key: key.to_string() })
    }

    /// The lab's state with every host of `spec`, addresses given; saved, so that they are taken.
    pub(super) fn allocate(spec: &Spec) -> Result<Self, LabError> {
        let _lock = Lock::take("addresses")?;
        let known = State::load(&spec.key)?;
        let others: Vec<State> = all()?.into_iter().filter(|lab| lab.key != spec.key).collect();
        let links = super::network::links()?;
        let state = super::address::assign(spec, known, &others, &links)?;
        fs::create_dir_all(state.dir()).map_err(LabError::io("make", state.dir()))?;
        state.save()?;
        Ok(state)
    }
}

pub(super) fn network_of(address: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = address.octets();
    Ipv4Addr::new(a, b, c, 0)
}

/// Every lab with a readable state, oldest name first.
pub(super) fn all() -> Result<Vec<State>, LabError> {
    let mut found = Vec::new();
    for dir in entries(&labs_dir())? {
        // A half-made or half-removed lab has none.
        found.extend(read(&dir.join("lab.json"))?);
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Option<State>, LabError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| LabError::State { path: path.to_path_buf(), source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LabError::io("read", path)(error)),
    }
}

/// The paths in a directory, sorted; none if it does not exist.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, LabError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LabError::io("read", dir)(error)),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Writes through a temporary file, so that a reader sees the old text or the new.
pub(super) fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), LabError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    let write = || {
        fs::write(&new, bytes)?;
        // Not at open: the umask would take bits away.
        fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
        fs::rename(&new, path)
    };
    write().map_err(LabError::io("write", path))
}

/// Removes a tree; fine if it is not there.
pub(super) fn remove_tree(path: &Path) -> Result<(), LabError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// An advisory lock, held until dropped and by no child process.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the lock.
    pub(super) fn take(name: &str) -> Result<Lock, LabError> {
        let path = Path::new(BASE).join("locks").join(name);
        let dir = Path::new(BASE).join("locks");
        fs::create_dir_all(&dir).map_err(LabError::io("make", &dir))?;
        loop {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path).map_err(LabError::io("open", &path))?;
            file.lock().map_err(LabError::io("lock", &path))?;
            // Its last holder may have removed the file while this call waited for it.
            let mine = file.metadata().map_err(LabError::io("read", &path))?.ino();
            if fs::metadata(&path).is_ok_and(|now| now.ino() == mine) {
                return Ok(Lock { path, _file: file });
            }
        }
    }

    /// The lock of one lab: held by everything that changes it.
    pub(super) fn of_lab(key: &LabKey) -> Result<Lock, LabError> {
        Lock::take(&format!("lab-{}", id_of(key)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While still held: a waiter sees that the file is another one and opens it anew.
        let _ = fs::remove_file(&self.path);
    }
}
