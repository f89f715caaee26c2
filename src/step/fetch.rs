//! `get_url`: a file from the network, in place only if its checksum is right.

use super::answers::{Fields, absolute, flag, output};
use super::attributes::{Attributes, GROUP, MODE, OWNER, summary, value};
use super::content::{self, Source, Write};
use super::paths::{self, PathState};
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, Progress, Report, StepError, Verdict,
    no_files,
};
use crate::model::{Answer, Fragment, Resource, Script, quote};

/// `get_url`.
pub(super) const GET_URL: Kind = Kind {
    name: "get_url",
    aliases: &[],
    summary: "A file from the network, fetched by the host, with a checksum.",
    free_form: None,
    args: &[
        ArgSpec::new("url", ArgKind::Str, "Where it is: http, https, ftp or file.")
            .required()
            .probe(),
        ArgSpec::new("dest", ArgKind::Path, "Where it goes; a name ending in / is a directory.")
            .required()
            .probe(),
        ArgSpec::new(
            "checksum",
            ArgKind::Str,
            "sha256:DIGEST (or sha512, sha1, md5); \"none\" to trust the network.",
        )
        .required()
        .probe(),
        ArgSpec::new("force", ArgKind::Bool, "With checksum none: fetch although it is there."),
        ArgSpec::new("timeout", ArgKind::Int, "Seconds of silence after which it fails (10)."),
        ArgSpec::new("validate_certs", ArgKind::Bool, "Check TLS certificates. Default true."),
        ArgSpec::new("backup", ArgKind::Bool, "Keep the old file beside it."),
        OWNER,
        GROUP,
        MODE,
    ],
    files: no_files,
    probe,
    diff,
};

/// An algorithm and its digest; none if nothing is to be checked.
fn checksum(args: &Args) -> Result<Option<(String, String)>, StepError> {
    let given = args.need("checksum").map_err(|e| {
        e.hint("write checksum: sha256:…, or checksum: none if you trust the network")
    })?;
    if given == "none" {
        return Ok(None);
    }
    let bad = || {
        StepError::new("\"checksum\" must be ALGORITHM:DIGEST or none")
            .arg("checksum")
            .hint("sha256:…; a URL of a checksum file is not supported")
    };
    let (algorithm, digest) = given.split_once(':').ok_or_else(bad)?;
    let length = match algorithm {
        "md5" => 32,
        "sha1" => 40,
        "sha224" => 56,
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(bad()),
    };
    let digest = digest.trim().to_lowercase();
    if digest.len() != length || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    Ok(Some((algorithm.to_owned(), digest)))
}

fn url(args: &Args) -> Result<String, StepError> {
    let url = args.need("url")?;
    let known = ["http://", "https://", "ftp://", "file://"].iter().any(|s| url.starts_with(s));
    if !known || url.contains(|c: char| c.is_control() || c == ' ') {
        return Err(StepError::new("\"url\" is not a URL").arg("url"));
    }
    Ok(url)
}

fn dest(args: &Args) -> Result<String, StepError> {
    let dest = args.need("dest")?;
    if !dest.ends_with('/') {
        return absolute("dest", &dest);
    }
    let url = url(args)?;
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().filter(|n| !n.is_empty());
    let name = name.ok_or_else(|| StepError::new("the URL has no file name").arg("dest"))?;
    absolute("dest", &format!("{dest}{name}"))
}

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let path = dest(args)?;
    url(args)?;
    // No content: what is fetched is not compared as text.
    let mut fragments = vec![paths::probe(&path, 0)];
    if let Some((algorithm, _)) = checksum(args)?.filter(|(a, _)| a != "sha256") {
        let text = format!(
            "if [ -f {0} ]; then s=$({algorithm}sum <{0}); printf 'sum=%s\\n' \"${{s%% *}}\"; fi; :",
            quote(&path)
        );
        fragments.push(Fragment::sh(Script::raw(text), vec![Resource::Path(path)]));
    }
    Ok(fragments)
}

fn diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let path = dest(args)?;
    let state = paths::parse(&path, answers, 0)?;
    let (url, sum) = (url(args)?, checksum(args)?);
    if state.is_dir() {
        let error = StepError::new(format!("{path} is a directory")).arg("dest");
        return Err(error.hint("end it with / to use the URL's file name"));
    }
    if !state.parent {
        return Ok(Verdict::NotYet(format!("the directory of {path} does not exist")));
    }
    let wanted = Attributes::args(args)?;
    let here = match &sum {
        Some((algorithm, digest)) if algorithm == "sha256" => state.sha256.as_ref() == Some(digest),
        Some((_, digest)) => Fields::new(output(answers, 1)?).get("sum") == Some(digest.as_str()),
        None => state.is_file() && !flag(args, "force", false)?,
    };
    let mut diffs = state.stat.as_ref().map(|s| wanted.diffs(s)).unwrap_or_default();
    if here {
        if diffs.is_empty() {
            return Ok(Verdict::with_data(state.data()));
        }
        let change = content::set_attributes(&path, &wanted, diffs, state.data());
        return Ok(Verdict::Change(change));
    }
    let after = sum.as_ref().map_or_else(|| "fetched".to_owned(), |(a, d)| format!("{a}:{d}"));
    let before = state.sha256.as_ref().map(|s| format!("sha256:{s}"));
    diffs.insert(0, value("content", before.as_deref(), Some(&after)));
    let script = script(args, &state, &url, sum.as_ref(), &wanted)?;
    let mut data = state.data();
    data.insert("url".into(), url.clone().into());
    data.insert("dest".into(), path.clone().into());
    Ok(Verdict::Change(Change {
        summary: format!("fetch {path}: {}", summary(&diffs[..1])),
        diffs,
        commands: vec![
            Command::new(format!("fetch {url}"), script)
                .deadline(3600)
                .progress(Progress::LastLine),
        ],
        writes: content::touched(&[&path]),
        report: Report { data, ..Report::default() },
        ..Change::default()
    }))
}

fn script(
    args: &Args,
    state: &PathState,
    url: &str,
    sum: Option<&(String, String)>,
    wanted: &Attributes,
) -> Result<Script, StepError> {
    let timeout = args.int("timeout")?.unwrap_or(10).max(1);
    let insecure = !flag(args, "validate_certs", true)?;
    let fill = download(url, timeout, insecure, sum);
    let old = state.stat.as_ref();
    let mode = old.map_or(0o644, |s| s.mode);
    Ok(content::write(&Write {
        path: &state.path,
        source: Source::Fill(&fill),
        chown: match old {
            Some(stat) => {
                let owner = wanted.owner.as_ref().unwrap_or(&stat.uid);
                let group = wanted.group.as_ref().unwrap_or(&stat.gid);
                Some(format!("{owner}:{group}"))
            }
            None => wanted.chown_word(),
        },
        mode: wanted.mode.as_ref().map_or(mode, |m| m.apply(mode, false)),
        validate: None,
        backup: flag(args, "backup", false)? && state.is_file(),
        make_parent: false,
    }))
}

/// Fills `$t` from a URL and checks it. The URL may hold a password: it reaches curl and wget on
/// their standard input, not as an argument.
pub(super) fn download(
    url: &str,
    timeout: i64,
    insecure: bool,
    sum: Option<&(String, String)>,
) -> Script {
    let escaped = url.replace('\\', "\\\\").replace('"', "\\\"");
    let curl_check = if insecure { " --insecure" } else { "" };
    let wget_check = if insecure { " --no-check-certificate" } else { "" };
    let mut script = Script::raw("if command -v curl >/dev/null 2>&1; then")
        .feed(
            format!("url = \"{escaped}\"\n").as_bytes(),
            &format!(
                "curl -fsSL --retry 2 --connect-timeout {timeout} --speed-limit 1 \
                 --speed-time {timeout}{curl_check} -o \"$t\" -K - || exit 1"
            ),
        )
        .line("elif command -v wget >/dev/null 2>&1; then")
        .feed(
            format!("{url}\n").as_bytes(),
            &format!("wget -nv --tries=3 --timeout={timeout}{wget_check} -O \"$t\" -i - || exit 1"),
        )
        .line("else echo 'neither curl nor wget is on this host' >&2; exit 1; fi");
    if let Some((algorithm, digest)) = sum {
        script = script.line(&format!("s=$({algorithm}sum <\"$t\"); s=${{s%% *}}")).line(&format!(
            "if [ \"$s\" != {digest} ]; then printf 'the checksum is %s, not %s\\n' \
                 \"{algorithm}:$s\" {algorithm}:{digest} >&2; exit 1; fi"
        ));
    }
    script
}
