//! `package`: distribution packages.

use super::answers::{choice, comma_list, flag, output, text};
use super::detached::detached;
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, Progress, Report, StepError, Verdict,
    data, no_files,
};
use crate::model::{Answer, Fragment, Map, Resource, Script, Value, quote};

const STATES: &[&str] = &["present", "absent", "latest", "installed", "removed"];
/// Package lists older than this are refreshed by `update_cache` if nothing else is said. Ansible
/// refreshes every time and so is never done.
const CACHE_VALID: i64 = 3600;

/// `package`.
pub(super) const PACKAGE: Kind = Kind {
    name: "package",
    aliases: &["apt", "dnf", "yum"],
    summary: "Distribution packages, installed, removed or at their newest version.",
    free_form: None,
    args: &[
        ArgSpec::new("name", ArgKind::StrList, "Package names; NAME=VERSION pins a version.")
            .aliases(&["pkg", "package"])
            .probe(),
        ArgSpec::new("state", ArgKind::Choice(STATES), "Default present.").probe(),
        ArgSpec::new("update_cache", ArgKind::Bool, "Refresh the package lists if they are old.")
            .aliases(&["update-cache"])
            .probe(),
        ArgSpec::new("cache_valid_time", ArgKind::Int, "Seconds; lists are old after this (3600).")
            .probe(),
        ArgSpec::new("install_recommends", ArgKind::Bool, "Default: the host's setting."),
        ArgSpec::new("start_services", ArgKind::Bool, "false: packages start no service."),
        ArgSpec::new("purge", ArgKind::Bool, "With absent: remove configuration files too.")
            .probe(),
        ArgSpec::new("autoremove", ArgKind::Bool, "With absent: remove what is not needed more."),
        ArgSpec::new("default_release", ArgKind::Str, "The release that apt prefers.")
            .aliases(&["default-release"]),
        ArgSpec::new("allow_downgrade", ArgKind::Bool, "A pinned version may be older.")
            .aliases(&["allow_downgrades"]),
    ],
    files: no_files,
    probe,
    diff,
};

/// A wanted package: name and version, if pinned.
fn wanted(args: &Args) -> Result<Vec<(String, Option<String>)>, StepError> {
    let mut all = Vec::new();
    for item in comma_list(args, "name")? {
        let (name, version) = match item.split_once('=') {
            Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
            None => (item.clone(), None),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || "+-.:_".contains(c);
        if name.is_empty() || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(StepError::new(format!("\"{item}\" is no package name")).arg("name"));
        }
        if !name.chars().all(good) {
            let error = StepError::new(format!("\"{item}\" is no package name"));
            return Err(error.arg("name").hint("patterns and files are not supported"));
        }
        all.push((name, version));
    }
    Ok(all)
}

fn state(args: &Args) -> Result<&'static str, StepError> {
    Ok(match choice(args, "state", STATES)? {
        "installed" => "present",
        "removed" => "absent",
        other => other,
    })
}

/// Prints `manager=`, one `pkg=NAME ARCH STATUS VERSION` per known package, `provided=NAME` for
/// names that only another package provides, `candidate=NAME VERSION` for `latest`, and
/// `lists=old` if a refresh is asked for and due (a fact, not an age: answers are compared).
fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let names: Vec<String> = wanted(args)?.into_iter().map(|(name, _)| quote(&name)).collect();
    let names = names.join(" ");
    let mut text = "if ! command -v dpkg-query >/dev/null 2>&1; then\n\
         if command -v dnf >/dev/null 2>&1; then echo manager=dnf; else echo manager=none; fi\n\
         exit 0; fi\necho manager=apt\n"
        .to_owned();
    if !names.is_empty() {
        text.push_str(&format!(
            // One process where everything is there: each dpkg-query reads the whole status file.
            "k=$(dpkg-query -W -f='pkg=${{Package}} ${{Architecture}} ${{db:Status-Status}} \
             ${{Version}}\\n' {names} 2>/dev/null)\n\
             printf '%s\\n' \"$k\"; i=' '\n\
             while read -r n a s v; do [ \"$s\" = installed ] && i=\"$i${{n#pkg=}} \"; done <<EOF\n\
             $k\nEOF\n\
             for n in {names}; do case $i in *\" $n \"*) continue;; esac\n\
             case \" $(dpkg-query -W -f='${{db:Status-Status}} ' \"$n\" \
             2>/dev/null)\" in *\" installed \"*) ;; *) dpkg-query -W \
             -f='${{db:Status-Status}}, ${{Provides}},\\n' | grep '^installed,' | \
             grep -qF -e \" $n,\" -e \" $n (\" && printf 'provided=%s\\n' \"$n\";; esac; done\n",
        ));
        if state(args)? == "latest" {
            text.push_str(&format!(
                "apt-cache policy {names} 2>/dev/null | awk '/^[^ ]/ {{ n = $1; sub(/:$/, \"\", n) \
                 }} /^  Candidate:/ {{ print \"candidate=\" n \" \" $2 }}'\n"
            ));
        }
    }
    if flag(args, "update_cache", false)? {
        let valid = args.int("cache_valid_time")?.filter(|v| *v > 0).unwrap_or(CACHE_VALID);
        text.push_str(&format!(
            "l=0; for f in /var/lib/apt/periodic/update-success-stamp /var/lib/apt/lists; do\n\
             m=$(stat -c %Y -- \"$f\" 2>/dev/null || echo 0); [ \"$m\" -gt \"$l\" ] && l=$m; done\n\
             ls /var/lib/apt/lists/*Release >/dev/null 2>&1 || l=0\n\
             [ $(( $(date +%s) - l )) -gt {valid} ] && echo lists=old\n"
        ));
    }
    // `exit` must end this question only.
    let script = Script::raw(format!("(\n{text}:\n)"));
    Ok(vec![Fragment::sh(script, vec![Resource::Packages])])
}

/// What dpkg knows of a package.
struct Known<'a> {
    name: &'a str,
    architecture: &'a str,
    status: &'a str,
    version: &'a str,
}

fn diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let fields = super::answers::Fields::new(output(answers, 0)?);
    if fields.get("manager") != Some("apt") {
        let error = StepError::new("this host has no apt; other package managers come later");
        return Err(error);
    }
    let known: Vec<Known> = fields.all("pkg").filter_map(known).collect();
    let provided: Vec<&str> = fields.all("provided").collect();
    let candidates: Vec<(&str, &str)> =
        fields.all("candidate").filter_map(|l| l.split_once(' ')).collect();
    let (wanted, state) = (wanted(args)?, state(args)?);
    let old = fields.get("lists") == Some("old");
    let purge = flag(args, "purge", false)?;
    let mut diffs = Vec::new();
    let mut words = Vec::new();
    for (name, version) in &wanted {
        let found = installed(&known, name);
        let here = found.map(|k| k.version);
        let removed = state == "absent";
        let candidate = candidates.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let good = match (state, found) {
            ("absent", _) => !is_there(&known, name, purge),
            (_, None) => provided.contains(&name.as_str()) && version.is_none(),
            ("latest", Some(k)) => candidate.is_none_or(|c| c == k.version || c == "(none)"),
            (_, Some(k)) => version.as_ref().is_none_or(|v| matches_version(v, k.version)),
        };
        if good {
            continue;
        }
        let after = version.as_deref().or(candidate).unwrap_or("installed");
        diffs.push(Diff::Value {
            name: name.clone(),
            before: here.map(str::to_owned).or_else(|| removed.then(|| "there".to_owned())),
            after: (!removed).then(|| after.to_owned()),
            note: None,
        });
        words.push(version.as_ref().map_or_else(|| name.clone(), |v| format!("{name}={v}")));
    }
    if words.is_empty() && !(old && (wanted.is_empty() || state == "latest")) {
        return Ok(Verdict::with_data(registered(&known, false)));
    }
    change(args, state, &words, diffs, old, registered(&known, old)).map(Verdict::Change)
}

fn known(line: &str) -> Option<Known<'_>> {
    let mut words = line.splitn(4, ' ');
    Some(Known {
        name: words.next()?,
        architecture: words.next()?,
        status: words.next()?,
        version: words.next()?,
    })
}

fn same_package(known: &Known, name: &str) -> bool {
    match name.split_once(':') {
        Some((base, arch)) => known.name == base && (known.architecture == arch || arch == "any"),
        None => known.name == name,
    }
}

fn installed<'k, 'a>(known: &'k [Known<'a>], name: &str) -> Option<&'k Known<'a>> {
    known.iter().find(|k| same_package(k, name) && k.status == "installed")
}

/// Whether something of the package is there; configuration files count for `purge`.
fn is_there(known: &[Known], name: &str, purge: bool) -> bool {
    known.iter().filter(|k| same_package(k, name)).any(|k| match k.status {
        "not-installed" => false,
        "config-files" => purge,
        _ => true,
    })
}

/// A pin may end in `*`, as apt takes it: `15.*`.
fn matches_version(pin: &str, version: &str) -> bool {
    pin.strip_suffix('*').map_or(pin == version, |start| version.starts_with(start))
}

fn registered(known: &[Known], cache_updated: bool) -> Map {
    let versions: Map = known
        .iter()
        .filter(|k| k.status == "installed")
        .map(|k| (k.name.to_owned(), text(k.version)))
        .collect();
    data(&[("versions", Value::Object(versions)), ("cache_updated", cache_updated.into())])
}

fn change(
    args: &Args,
    state: &str,
    words: &[String],
    diffs: Vec<Diff>,
    old: bool,
    data: Map,
) -> Result<Change, StepError> {
    let start_services = flag(args, "start_services", true)?;
    let mut commands = Vec::new();
    if old && state != "absent" {
        commands.push(update());
    }
    if !words.is_empty() {
        let verb = if state == "absent" { "remove" } else { "install" };
        let label = format!("apt-get {verb} {}", words.join(" "));
        let body = apt_body(&apt_line(args, state, words)?, start_services, state != "absent");
        let command = Command::new(label, detached(&body)).deadline(3600);
        commands.push(command.progress(Progress::LastLine));
    }
    let summary = match (state, words.is_empty()) {
        (_, true) => "refresh the package lists".to_owned(),
        ("absent", _) => format!("remove {}", words.join(" ")),
        ("latest", _) => format!("upgrade {}", words.join(" ")),
        _ => format!("install {}", words.join(" ")),
    };
    let writes = if words.is_empty() { Resource::Packages } else { Resource::Everything };
    let report = Report { data, ..Report::default() };
    Ok(Change { summary, diffs, commands, writes: vec![writes], report, ..Change::default() })
}

const APT: &str = "apt-get -y -q -o DPkg::Lock::Timeout=120 \
     -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold";

/// Refreshes the package lists.
pub(super) fn update() -> Command {
    let body = format!("{PRELUDE}refresh\n");
    let command = Command::new("apt-get update", detached(&body)).deadline(600);
    command.progress(Progress::LastLine)
}

/// The environment, and `refresh`: the lists have a lock of their own that apt does not wait for,
/// and a list that could not be fetched is an error.
const PRELUDE: &str = "export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
     NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none\n\
     refresh() {\nn=0\n\
     until apt-get -q -o APT::Update::Error-Mode=any update; do rc=$?; n=$((n + 1))\n\
     if [ \"$n\" -ge 24 ] || ! tail -n 5 \"$log\" | grep -q 'Could not get lock'; then\n\
     return \"$rc\"; fi\nsleep 5\ndone; }\n";

/// The apt-get call for the wanted packages.
fn apt_line(args: &Args, state: &str, words: &[String]) -> Result<String, StepError> {
    let mut line = APT.to_owned();
    if let Some(recommends) = args.bool("install_recommends")? {
        let option = if recommends { " --install-recommends" } else { " --no-install-recommends" };
        line.push_str(option);
    }
    if let Some(release) = args.str("default_release")? {
        line.push_str(&format!(" -t {}", quote(&release)));
    }
    if flag(args, "allow_downgrade", false)? {
        line.push_str(" --allow-downgrades");
    }
    line.push_str(if state == "absent" { " remove" } else { " install" });
    if flag(args, "purge", false)? {
        line.push_str(" --purge");
    }
    if flag(args, "autoremove", false)? {
        line.push_str(" --auto-remove");
    }
    for word in words {
        line.push(' ');
        line.push_str(&quote(word));
    }
    Ok(line)
}

/// The program that brings these installed packages to their newest version and starts no service.
pub(super) fn upgrade_body(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
    apt_body(&format!("{APT} install --only-upgrade {}", names.join(" ")), false, true)
}

/// The program around the call: repairs an interrupted dpkg first (waiting for one that is still
/// at work), refreshes stale lists once if a package is unknown or gone from the mirror.
///
/// Without services: `systemctl` itself is told that there is no systemd to talk to, and
/// `RUNLEVEL=1` holds back init scripts. Both are variables of this one process, so that, unlike a
/// `policy-rc.d` or masked units, nothing is left behind when the run dies in the middle.
fn apt_body(line: &str, start_services: bool, retry: bool) -> String {
    let mut body = PRELUDE.to_owned();
    if !start_services {
        body.push_str("export SYSTEMD_OFFLINE=1 RUNLEVEL=1\n");
    }
    body.push_str(
        "if [ -n \"$(dpkg --audit 2>/dev/null)\" ]; then\n\
         n=0\n\
         until dpkg --force-confdef --force-confold --configure -a; do\n\
         n=$((n + 1)); [ \"$n\" -ge 24 ] && break; sleep 5\n\
         done\nfi\n",
    );
    body.push_str(&format!("{line}; rc=$?\n"));
    if retry {
        body.push_str(&format!(
            "if [ \"$rc\" -ne 0 ] && grep -qE 'Unable to locate package|no installation candidate|\
             Version .* was not found|404 +Not Found|Unable to fetch' \"$log\"; then\n\
             echo 'refreshing the package lists'; refresh && {{ {line}; rc=$?; }}\nfi\n"
        ));
    }
    if !start_services {
        // What the packages' scripts could not tell it.
        body.push_str("SYSTEMD_OFFLINE=0 systemctl daemon-reload 2>/dev/null || :\n");
    }
    body.push_str("exit \"$rc\"\n");
    body
}
