//! The package sources of a lab image: this machine's own, rewritten for the image's suite.
//!
//! apt itself is asked (`apt-get indextargets`, `apt-config dump`), so every form of source file
//! is understood and no mirror is known to this program. Only the distribution's own
//! repositories are taken: a third party's may have nothing for the image's suite.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::LabError;
use super::command::run;

/// What an image gets from this machine's package configuration.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sources {
    /// A deb822 file; empty means mmdebstrap's own default for the suite.
    pub(super) deb822: String,
    /// apt.conf text: proxies and other `Acquire` settings.
    pub(super) apt_conf: String,
    /// Keyrings that this machine's sources trust.
    pub(super) keyrings: Vec<PathBuf>,
}

impl Sources {
    /// Reads this machine's apt configuration; on a machine without apt everything is empty.
    pub(super) fn of_this_machine(suite: &str) -> Result<Self, LabError> {
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |name: &str| os_release(&release, name).unwrap_or_default();
        let machine = Machine { id: field("ID"), codename: field("VERSION_CODENAME") };
        if !Path::new("/usr/bin/apt-get").exists() {
            return Ok(Sources::default());
        }
        let format = "$(CREATED_BY)|$(ORIGIN)|$(CODENAME)|$(RELEASE)|$(REPO_URI)|$(COMPONENT)";
        let targets = run(
            "asking apt for this machine's package sources",
            &["apt-get", "indextargets", "--format", format],
        )?;
        let dump = run(
            "asking apt for this machine's settings",
            &["apt-config", "dump", "--no-empty", "--format", "%F \"%v\";%n", "Acquire"],
        )?;
        let proxy = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok());
        let apt_conf = apt_conf(
            &dump,
            proxy(["http_proxy", "HTTP_PROXY"]).as_deref(),
            proxy(["https_proxy", "HTTPS_PROXY"]).as_deref(),
        );
        Ok(Sources { deb822: deb822(&targets, &machine, suite), apt_conf, keyrings: keyrings() })
    }
}

struct Machine {
    id: String,
    codename: String,
}

fn os_release(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// The distribution's own entries of `apt-get indextargets`, with `suite` in place of the
/// machine's codename. Empty if the machine's distribution has no such suite as far as is known.
fn deb822(targets: &str, machine: &Machine, suite: &str) -> String {
    let same = machine.codename == suite;
    if !(same || (machine.id == "debian" && is_debian(suite))) {
        return String::new();
    }
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for line in targets.lines() {
        let Ok([created, origin, codename, release, uri, component]) =
            <[&str; 6]>::try_from(line.split('|').collect::<Vec<_>>())
        else {
            continue;
        };
        // apt prints the placeholder itself where a field is unknown (lists not fetched yet).
        let origin = Some(origin).filter(|text| !text.starts_with("$("));
        let codename = Some(codename).filter(|text| !text.starts_with("$("));
        let ours = origin.is_none_or(|name| name.eq_ignore_ascii_case(&machine.id));
        let wanted = matches!(component, "main" | "universe");
        if created != "Packages" || !ours || !wanted {
            continue;
        }
        // The codename also unmasks an alias such as `stable`.
        let dist = codename.unwrap_or(release);
        let Some(rest) = dist.strip_prefix(machine.codename.as_str()) else { continue };
        if matches!(rest, "" | "-updates" | "-security" | "/updates") {
            let components = found.entry((uri.to_owned(), format!("{suite}{rest}"))).or_default();
            if !components.iter().any(|known| known == component) {
                components.push(component.to_owned());
            }
        }
    }
    let mut text = String::new();
    for ((uri, dist), components) in found {
        let components = components.join(" ");
        let _ =
            writeln!(text, "Types: deb\nURIs: {uri}\nSuites: {dist}\nComponents: {components}\n");
    }
    text
}

fn is_debian(suite: &str) -> bool {
    matches!(suite, "bullseye" | "bookworm" | "trixie" | "forky" | "sid")
}

/// The `Acquire` settings that make the difference between reaching a mirror and not.
fn apt_conf(dump: &str, http_proxy: Option<&str>, https_proxy: Option<&str>) -> String {
    let carried = |line: &&str| {
        let key = line.split(' ').next().unwrap_or_default();
        let network = key.starts_with("Acquire::http::") || key.starts_with("Acquire::https::");
        let other = matches!(key, "Acquire::Retries" | "Acquire::Check-Valid-Until");
        // These name files and programs of this machine.
        let local = ["CaInfo", "CAInfo", "CaPath", "SslCert", "SslKey", "Auto-Detect"];
        (network || other) && !local.iter().any(|end| key.ends_with(end))
    };
    let mut lines: Vec<String> = dump.lines().filter(carried).map(str::to_owned).collect();
    for (scheme, proxy) in [("http", http_proxy), ("https", https_proxy)] {
        let key = format!("Acquire::{scheme}::Proxy ");
        if let Some(proxy) = proxy.filter(|proxy| !proxy.is_empty() && !proxy.contains('"'))
            && !lines.iter().any(|line| line.starts_with(&key))
        {
            lines.push(format!("{key}\"{proxy}\";"));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Every keyring that the machine's source files name, its trusted ones, and Debian's.
fn keyrings() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut add = |path: PathBuf| {
        if path.is_file() && !found.contains(&path) {
            found.push(path);
        }
    };
    add(PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg"));
    for path in files_in("/etc/apt/trusted.gpg.d") {
        add(path);
    }
    for path in
        files_in("/etc/apt/sources.list.d").into_iter().chain(["/etc/apt/sources.list".into()])
    {
        let active = path.extension().is_some_and(|end| end == "list" || end == "sources");
        for named in signed_by(&std::fs::read_to_string(&path).unwrap_or_default()) {
            if active {
                add(named);
            }
        }
    }
    found
}

fn files_in(dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Keyring paths in a source file of either form.
fn signed_by(text: &str) -> Vec<PathBuf> {
    let uncommented = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let values = uncommented.filter_map(|line| {
        let at = line.to_ascii_lowercase().find("signed-by")?;
        Some(line.get(at + "signed-by".len()..)?.trim_start_matches([':', '=', ' ']))
    });
    values
        .flat_map(|value| value.split([' ', ',', ']']))
        .take_while(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Machine, apt_conf, deb822, signed_by};

    fn bookworm() -> Machine {
        Machine { id: "debian".into(), codename: "bookworm".into() }
    }

    const TARGETS: &str = "\
Packages|Debian|bookworm|stable|http://mirror.example/debian/|main
Translations|Debian|bookworm|stable|http://mirror.example/debian/|main
Packages|Debian|bookworm-updates|bookworm-updates|http://mirror.example/debian/|main
Packages|Debian|bookworm-security|bookworm-security|http://mirror.example/security/|main
Packages|Debian|bookworm-backports|bookworm-backports|http://mirror.example/debian/|main
Packages|Somebody|bookworm|bookworm|http://third.example/apt/|main
Packages|Debian|bookworm|stable|http://mirror.example/debian/|non-free
";

    #[test]
    fn the_distributions_own_sources_are_rewritten_for_the_suite() {
        let text = deb822(TARGETS, &bookworm(), "trixie");
        let suites: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("Suites: ")).collect();
        assert_eq!(suites, ["trixie", "trixie-updates", "trixie-security"]);
        assert!(!text.contains("third.example") && !text.contains("non-free"));
    }

    #[test]
    fn unknown_fields_fall_back_to_the_release() {
        let line = "Packages|$(ORIGIN)|$(CODENAME)|bookworm|http://mirror.example/|main\n";
        assert!(deb822(line, &bookworm(), "bookworm").contains("Suites: bookworm\n"));
    }

    #[test]
    fn a_suite_of_another_distribution_has_no_sources() {
        assert_eq!(deb822(TARGETS, &bookworm(), "noble"), "");
    }

    #[test]
    fn proxies_are_carried_and_local_files_are_not() {
        let dump = "Acquire::Languages \"none\";\nAcquire::http::Proxy \"http://p.example:3142\";\n\
                    Acquire::https::CaInfo \"/etc/x.pem\";\n";
        let text = apt_conf(dump, Some("http://env.example"), Some("http://env.example"));
        assert_eq!(
            text,
            "Acquire::http::Proxy \"http://p.example:3142\";\n\
             Acquire::https::Proxy \"http://env.example\";\n"
        );
    }

    #[test]
    fn keyrings_of_both_source_forms_are_found() {
        let text = "Signed-By: /a.gpg\n# Signed-By: /no.gpg\n\
                    deb [arch=amd64 signed-by=/b.asc] http://mirror.example x main\n";
        let found = signed_by(text);
        assert_eq!(found, ["/a.gpg", "/b.asc"].map(std::path::PathBuf::from));
    }
}
