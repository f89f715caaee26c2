//! `repository`: a package source of apt, with the key that signs it.

use super::answers::{absolute, choice, flag};
use super::attributes::value;
use super::content::{self, Source, Target, Write, converge, touched};
use super::fetch::download;
use super::packages::update;
use super::paths::{self, PathState, SMALL};
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, Report, StepError, Verdict, data, no_files,
};
use crate::model::{Answer, Fragment, Resource};

/// `repository`.
pub(super) const REPOSITORY: Kind = Kind {
    name: "repository",
    aliases: &["deb822_repository"],
    summary: "A package source for apt (deb822) and its signing key.",
    free_form: None,
    args: &[
        ArgSpec::new("name", ArgKind::Str, "Name of the source and its files.").required().probe(),
        ArgSpec::new("uris", ArgKind::StrList, "Where it is."),
        ArgSpec::new("suites", ArgKind::StrList, "Suites, or paths that end in a slash."),
        ArgSpec::new("components", ArgKind::StrList, "Components."),
        ArgSpec::new("types", ArgKind::StrList, "deb (default), deb-src."),
        ArgSpec::new("architectures", ArgKind::StrList, "Only these architectures."),
        ArgSpec::new(
            "signed_by",
            ArgKind::Str,
            "The key: its armoured text, a URL (with key_checksum), or a path on the host.",
        )
        .aliases(&["key"])
        .probe(),
        ArgSpec::new("key_checksum", ArgKind::Str, "sha256:DIGEST of the key behind the URL."),
        ArgSpec::new("enabled", ArgKind::Bool, "Default true."),
        ArgSpec::new(
            "update_cache",
            ArgKind::Bool,
            "Refresh the lists after a change. Default true.",
        ),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "Default present."),
    ],
    files: no_files,
    probe,
    diff,
};

/// Where the signing key comes from.
enum Key {
    None,
    OnHost(String),
    Text { path: String, text: String },
    Url { path: String, url: String },
}

fn name(args: &Args) -> Result<String, StepError> {
    let name = args.need("name")?;
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(good) {
        let error = StepError::new(format!("\"{name}\" is no name for a package source"));
        return Err(error.arg("name").hint("letters, digits, - _ and ."));
    }
    Ok(name)
}

fn source_path(args: &Args) -> Result<String, StepError> {
    Ok(format!("/etc/apt/sources.list.d/{}.sources", name(args)?))
}

fn key(args: &Args) -> Result<Key, StepError> {
    let Some(given) = args.str("signed_by")? else { return Ok(Key::None) };
    let path = |suffix: &str| Ok(format!("/etc/apt/keyrings/{}.{suffix}", name(args)?));
    if given.trim_start().starts_with("-----BEGIN PGP PUBLIC KEY BLOCK") {
        return Ok(Key::Text { path: path("asc")?, text: format!("{}\n", given.trim()) });
    }
    if given.starts_with("https://") || given.starts_with("http://") {
        // apt tells armoured from binary keys by the name.
        let suffix = if given.ends_with(".gpg") { "gpg" } else { "asc" };
        return Ok(Key::Url { path: path(suffix)?, url: given });
    }
    absolute("signed_by", &given).map(Key::OnHost)
}

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let mut fragments = vec![paths::probe(&source_path(args)?, SMALL)];
    match key(args)? {
        Key::None | Key::OnHost(_) => {}
        Key::Text { path, .. } | Key::Url { path, .. } => {
            fragments.push(paths::probe(&path, SMALL));
        }
    }
    Ok(fragments)
}

fn diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let path = source_path(args)?;
    let state = paths::parse(&path, answers, 0)?;
    let key = key(args)?;
    if choice(args, "state", &["present", "absent"])? == "absent" {
        return absent(args, &state, &key, answers);
    }
    let mut change = Change::default();
    let signed_by = match &key {
        Key::None => None,
        Key::OnHost(path) => Some(path.clone()),
        Key::Text { path, text } => {
            let target = Target {
                path: path.clone(),
                bytes: text.clone().into_bytes(),
                make_parent: true,
                ..Target::default()
            };
            merge(&mut change, converge(&target, &paths::parse(path, answers, 1)?)?);
            Some(path.clone())
        }
        Key::Url { path, url } => {
            fetch_key(&mut change, args, &paths::parse(path, answers, 1)?, url)?;
            Some(path.clone())
        }
    };
    let text = deb822(args, signed_by.as_deref())?;
    let target = Target { path: path.clone(), bytes: text.into_bytes(), ..Target::default() };
    match converge(&target, &state)? {
        Verdict::NotYet(why) => return Ok(Verdict::NotYet(why)),
        verdict => merge(&mut change, verdict),
    }
    finish(args, change, &path)
}

fn merge(change: &mut Change, verdict: Verdict) {
    if let Verdict::Change(more) = verdict {
        change.diffs.extend(more.diffs);
        change.commands.extend(more.commands);
        change.writes.extend(more.writes);
    }
}

fn finish(args: &Args, mut change: Change, path: &str) -> Result<Verdict, StepError> {
    let registered = data(&[("dest", path.into())]);
    if change.commands.is_empty() {
        return Ok(Verdict::with_data(registered));
    }
    if flag(args, "update_cache", true)? {
        change.commands.push(update());
    }
    change.summary = format!("package source {}", name(args)?);
    change.writes.push(Resource::Packages);
    change.report = Report { data: registered, ..Report::default() };
    Ok(Verdict::Change(change))
}

fn fetch_key(
    change: &mut Change,
    args: &Args,
    state: &PathState,
    url: &str,
) -> Result<(), StepError> {
    let wanted =
        args.str("key_checksum")?.and_then(|c| c.strip_prefix("sha256:").map(str::to_lowercase));
    let digest = wanted.filter(|d| d.len() == 64 && d.bytes().all(|b| b.is_ascii_hexdigit()));
    let digest = digest.ok_or_else(|| {
        StepError::new("a key from a URL needs \"key_checksum\": sha256:DIGEST").arg("key_checksum")
    })?;
    if state.sha256.as_ref() == Some(&digest) {
        return Ok(());
    }
    let sum = ("sha256".to_owned(), digest.clone());
    let fill = download(url, 20, false, Some(&sum));
    let script = content::write(&Write {
        path: &state.path,
        source: Source::Fill(&fill),
        chown: None,
        mode: 0o644,
        validate: None,
        backup: false,
        make_parent: true,
    });
    let before = state.sha256.as_ref().map(|s| format!("sha256:{s}"));
    change.diffs.push(value("key", before.as_deref(), Some(&format!("sha256:{digest}"))));
    change.commands.push(Command::new(format!("fetch {url}"), script).deadline(120));
    change.writes.extend(touched(&[&state.path]));
    Ok(())
}

fn absent(
    args: &Args,
    state: &PathState,
    key: &Key,
    answers: &[Answer],
) -> Result<Verdict, StepError> {
    let mut change = Change::default();
    let mut gone = vec![state.clone()];
    if let Key::Text { path, .. } | Key::Url { path, .. } = key {
        gone.push(paths::parse(path, answers, 1)?);
    }
    for state in gone.iter().filter(|s| s.exists()) {
        change.diffs.push(value(&state.path, Some("file"), None));
        change.commands.push(Command::argv(&["rm", "-f", "--", &state.path]));
        change.writes.extend(touched(&[&state.path]));
    }
    finish(args, change, &state.path)
}

/// The source as a deb822 stanza, fields in a fixed order.
fn deb822(args: &Args, signed_by: Option<&str>) -> Result<String, StepError> {
    let list = |name: &'static str| -> Result<String, StepError> {
        let words = args.str_list(name)?;
        if words.iter().any(|w| w.contains(char::is_whitespace) || w.is_empty()) {
            return Err(StepError::new(format!("\"{name}\" holds a blank")).arg(name));
        }
        Ok(words.join(" "))
    };
    let (uris, suites) = (list("uris")?, list("suites")?);
    for (name, text) in [("uris", &uris), ("suites", &suites)] {
        if text.is_empty() {
            return Err(StepError::new(format!("the argument \"{name}\" is required")).arg(name));
        }
    }
    let types = list("types")?;
    let mut text = String::new();
    let enabled = if flag(args, "enabled", true)? { "" } else { "no" };
    let fields = [
        ("Enabled", enabled),
        ("Types", if types.is_empty() { "deb" } else { &types }),
        ("URIs", &uris),
        ("Suites", &suites),
        ("Components", &list("components")?),
        ("Architectures", &list("architectures")?),
        ("Signed-By", signed_by.unwrap_or_default()),
    ];
    for (name, value) in fields.iter().filter(|(_, v)| !v.is_empty()) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    Ok(text)
}
