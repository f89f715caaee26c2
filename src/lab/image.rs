//! Lab images: Debian trees that mmdebstrap makes once from this machine's package sources.
//!
//! An image is immutable and is the lower layer of its hosts' overlays. Its name holds a digest
//! of everything that went into it, so a changed recipe is another image. It keeps apt's lists and
//! the .deb files of the distribution's PostgreSQL, so installing that in a host needs no network.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cgroup::Cgroup;
use super::command::{PATH, run};
use super::sources::Sources;
use super::store::{self, Lock};
use super::{LabError, Progress, Spec};

/// What every image holds beyond the essential packages and apt.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "dbus",
    "iproute2",
    "netbase",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
];
/// Downloaded into the image, not installed: the suite's own PostgreSQL with its dependencies.
const DOWNLOAD: &str = "postgresql";
const FINISH: &str = include_str!("image.sh");
/// Becomes a program inside the control group whose cgroup.procs file is the first argument.
const ENTER: &str = r#"echo 0 >"$1" || exit 1; shift; exec "$@""#;

struct Recipe<'a> {
    suite: &'a str,
    packages: Vec<&'a str>,
    sources: Sources,
}

impl<'a> Recipe<'a> {
    fn of(spec: &'a Spec) -> Result<Self, LabError> {
        let mut packages = PACKAGES.to_vec();
        packages.extend(spec.extra_packages.iter().map(String::as_str));
        packages.sort_unstable();
        packages.dedup();
        Ok(Recipe { suite: &spec.image, packages, sources: Sources::of_this_machine(&spec.image)? })
    }

    fn name(&self) -> String {
        let mut hash = Sha256::new();
        let packages = self.packages.join(",");
        let Sources { deb822, apt_conf, .. } = &self.sources;
        for part in [self.suite, &packages, DOWNLOAD, FINISH, deb822, apt_conf] {
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        format!("{}-{}", self.suite, store::hex(&hash.finalize(), 12))
    }
}

/// An image that exists or can be built.
pub(super) struct Image<'a> {
    recipe: Recipe<'a>,
    dir: PathBuf,
}

impl<'a> Image<'a> {
    /// The image that `spec` asks for.
    pub(super) fn of(spec: &'a Spec) -> Result<Self, LabError> {
        let recipe = Recipe::of(spec)?;
        let dir = store::images_dir().join(recipe.name());
        Ok(Image { recipe, dir })
    }

    /// Its tree, the lower layer of hosts.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Builds it if there is none yet, which takes tens of seconds and needs the package mirror.
    /// Save the state of the lab that will use it first: [`purge_images`] spares only those.
    pub(super) fn ensure(&self, progress: &mut dyn FnMut(Progress)) -> Result<(), LabError> {
        let name = self.recipe.name();
        let _lock = Lock::take(&format!("image-{name}"))?;
        if is_complete(&self.root()) {
            return Ok(());
        }
        discard(&self.dir)?;
        progress(Progress::lab(format!("building the image {name} (once; takes about a minute)")));
        build(&self.recipe, &self.dir)?;
        let mark = self.dir.join("complete");
        fs::write(&mark, "").map_err(LabError::io("write", &mark))
    }
}

/// Removes an image, or what a build left that was killed. Its programs may still be at work: they
/// did not die with the pgorch that started them. Its lock must be held.
fn discard(dir: &Path) -> Result<(), LabError> {
    let builders = builders(dir)?;
    builders.kill()?;
    builders.remove()?;
    super::disk::unmount_under(dir)?;
    // First, so that a half-removed tree is never taken for an image.
    let _ = fs::remove_file(dir.join("complete"));
    store::remove_tree(dir)
}

/// The control group that an image is built in.
fn builders(dir: &Path) -> Result<Cgroup, LabError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    Cgroup::of(&format!("build-{name}"))
}

/// Whether the image with this tree was built to its end.
pub(super) fn is_complete(root: &Path) -> bool {
    root.with_file_name("complete").exists()
}

fn build(recipe: &Recipe<'_>, dir: &Path) -> Result<(), LabError> {
    let keyrings = dir.join("keyrings");
    fs::create_dir_all(&keyrings).map_err(LabError::io("make", &keyrings))?;
    for (index, keyring) in recipe.sources.keyrings.iter().enumerate() {
        let end = keyring.extension().unwrap_or_default().to_string_lossy();
        let copy = keyrings.join(format!("pgorch-lab-{index}.{end}"));
        fs::copy(keyring, &copy).map_err(LabError::io("copy", keyring))?;
    }
    let finish = dir.join("finish.sh");
    store::write_with_mode(&finish, FINISH.as_bytes(), 0o755)?;
    let apt_conf = dir.join("apt.conf");
    store::write_with_mode(&apt_conf, recipe.sources.apt_conf.as_bytes(), 0o644)?;

    let builders = builders(dir)?;
    let mut argv: Vec<OsString> = ["sh", "-c", ENTER, "pgorch-lab"].map(OsString::from).to_vec();
    argv.push(builders.make_simple()?.into());
    // Its mounts end with its processes.
    argv.extend(["unshare", "--mount", "env"].map(OsString::from));
    argv.push(format!("PATH={PATH}").into());
    argv.push(format!("PGORCH_DOWNLOAD={DOWNLOAD}").into());
    argv.push(pair("PGORCH_KEYRINGS=", &keyrings));
    argv.push("DEBIAN_FRONTEND=noninteractive".into());
    for word in ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt"] {
        argv.push(word.into());
    }
    // Kept for the hosts: the lists, and what the script downloads.
    argv.push("--skip=cleanup/apt/lists,cleanup/apt/cache".into());
    argv.push(format!("--include={}", recipe.packages.join(",")).into());
    argv.push(pair("--customize-hook=", &finish));
    if !recipe.sources.apt_conf.is_empty() {
        argv.push(pair("--aptopt=", &apt_conf));
    }
    if !recipe.sources.keyrings.is_empty() {
        argv.push(pair("--keyring=", &keyrings));
    }
    argv.push(recipe.suite.into());
    argv.push(dir.join("root").into());
    if !recipe.sources.deb822.is_empty() {
        let sources = dir.join("pgorch-lab.sources");
        store::write_with_mode(&sources, recipe.sources.deb822.as_bytes(), 0o644)?;
        argv.push(sources.into());
    }
    let built = run(&format!("building the lab image of {}", recipe.suite), &argv);
    builders.kill()?;
    builders.remove()?;
    built.map(drop)
}

fn pair(option: &str, path: &Path) -> OsString {
    let mut word = OsString::from(option);
    word.push(path);
    word
}

/// Removes every image that no lab uses; returns their names.
///
/// # Errors
/// When a tree cannot be removed.
pub fn purge_images() -> Result<Vec<String>, LabError> {
    super::preflight::require_root("removing lab images")?;
    let mut removed = Vec::new();
    for dir in store::entries(&store::images_dir())? {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _lock = Lock::take(&format!("image-{name}"))?;
        let root = dir.join("root");
        if store::all()?.iter().any(|lab| lab.hosts.iter().any(|host| host.image == root)) {
            continue;
        }
        discard(&dir)?;
        removed.push(name);
    }
    Ok(removed)
}
