//! The machine's facts: one script, one parser.

use super::HostFacts;
use crate::model::{Answer, Fragment, Resource, Script};

/// What to ask any host: one script of about six forks.
#[must_use]
pub fn host_fragments() -> Vec<Fragment> {
    let reads = ["/etc/os-release", "/etc/hostname", "/etc/default/locale", "/etc/locale.conf"];
    let reads = reads.iter().map(|path| Resource::Path((*path).to_owned())).collect();
    vec![Fragment::sh(Script::raw(include_str!("host.sh")), reads)]
}

/// The host as the answers to [`host_fragments`] show it; what is missing stays empty or 0.
#[must_use]
pub fn host_facts(answers: &[Answer]) -> HostFacts {
    let mut facts = HostFacts::default();
    let mut os_like = String::new();
    for line in answers.first().map_or("", |a| a.stdout.as_str()).lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        match key {
            "epoch" => facts.epoch_seconds = value.parse().unwrap_or_default(),
            "os.ID" => facts.os_id = unquoted(value),
            "os.ID_LIKE" => os_like = unquoted(value),
            "os.VERSION_ID" => facts.os_version = unquoted(value),
            "os.VERSION_CODENAME" => facts.os_codename = unquoted(value),
            "architecture" => facts.architecture = value.to_owned(),
            "osrelease" => facts.kernel = value.to_owned(),
            "hostname" => facts.hostname = value.to_owned(),
            "boot_id" => facts.boot_id = value.to_owned(),
            "memory" => facts.memory_bytes = kibibytes(value),
            "uptime" => facts.uptime_seconds = value.parse().unwrap_or_default(),
            "cpus" => facts.cpus = value.parse().unwrap_or_default(),
            "lang" | "locale.LANG" => facts.locale = unquoted(value),
            "systemd" => facts.systemd_version = leading_number(value),
            "addresses" => facts.addresses = value.split_whitespace().map(str::to_owned).collect(),
            _ => {}
        }
    }
    facts.os_family = family(&facts.os_id, &os_like).to_owned();
    facts
}

/// `debian`, `redhat` or nothing, from `ID` and `ID_LIKE` of os-release.
fn family(id: &str, like: &str) -> &'static str {
    let any = |names: &[&str]| like.split(' ').chain([id]).any(|name| names.contains(&name));
    if any(&["debian", "ubuntu"]) {
        "debian"
    } else if any(&["rhel", "fedora", "centos", "rocky", "almalinux"]) {
        "redhat"
    } else {
        ""
    }
}

/// A value of os-release (`man os-release`: shell-like, quoted or not).
fn unquoted(value: &str) -> String {
    value.trim_matches(['"', '\'']).to_owned()
}

/// `24684084 kB` in bytes.
fn kibibytes(value: &str) -> u64 {
    let number = value.split(' ').next().unwrap_or_default();
    number.parse::<u64>().unwrap_or_default().saturating_mul(1024)
}

/// `systemd 252` is 252; `257~rc1` is 257.
fn leading_number(value: &str) -> u32 {
    let digits = value.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_default()
}
