//! What this machine must have before it can run lab hosts.

use std::path::Path;

use super::command::{PATH, run};
use super::{LabError, Progress};

/// Program and the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("bash", "bash"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("unshare", "util-linux"),
];

/// Refuses where lab hosts cannot be managed at all; `doing` begins the error's sentence.
pub(super) fn require_root(doing: &'static str) -> Result<(), LabError> {
    if cfg!(target_os = "linux") && rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(LabError::NotRoot { doing })
}

/// Installs what is missing (Debian family), or names it.
pub(super) fn ensure_programs(progress: &mut dyn FnMut(Progress)) -> Result<(), LabError> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let error = |why: String| LabError::MissingPrograms {
        programs: missing.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", "),
        packages: packages.join(" "),
        why,
    };
    if !on_path("apt-get") {
        return Err(error(" (no apt-get on this machine)".into()));
    }
    progress(Progress::lab(format!("installing {} on this machine", packages.join(", "))));
    let mut install = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--quiet"];
    install.extend(["--no-install-recommends", "install"]);
    install.extend(&packages);
    let doing = "installing the lab's host packages";
    if run(doing, &install).is_err() {
        // The lists may be absent (container images) or name files that the mirror has replaced.
        let update = run("updating apt's package lists", &["apt-get", "--quiet", "update"]);
        update.and_then(|_| run(doing, &install)).map_err(|e| error(format!(": {e}")))?;
    }
    if self::missing().is_empty() { Ok(()) } else { Err(error(String::new())) }
}

fn missing() -> Vec<(&'static str, &'static str)> {
    PROGRAMS.iter().filter(|(program, _)| !on_path(program)).copied().collect()
}

fn on_path(program: &str) -> bool {
    PATH.split(':').any(|dir| Path::new(dir).join(program).exists())
}
