//! `unarchive`: the content of an archive in a directory.

use super::answers::{absolute, flag, path_arg};
use super::attributes::{Attributes, GROUP, OWNER};
use super::content::own_shell;
use super::copies::controller_file;
use super::paths::{self, PathState};
use super::{ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, Report, StepError, Verdict, data};
use crate::model::{Answer, Fragment, Resource, Script, quote};

/// `unarchive`.
pub(super) const UNARCHIVE: Kind = Kind {
    name: "unarchive",
    aliases: &[],
    summary: "Unpacks a tar or zip archive; nothing is in place before all is unpacked.",
    free_form: None,
    args: &[
        ArgSpec::new("src", ArgKind::Str, "The archive, a file on the controller.")
            .required()
            .probe(),
        ArgSpec::new("dest", ArgKind::Path, "The directory it is unpacked in.").required().probe(),
        ArgSpec::new("remote_src", ArgKind::Bool, "src is on the host.").probe(),
        ArgSpec::new(
            "creates",
            ArgKind::Str,
            "A path that is there once it is unpacked; a relative one is below dest. Without it, \
             each run unpacks again.",
        )
        .probe(),
        ArgSpec::new("extra_opts", ArgKind::StrList, "More options for tar."),
        OWNER,
        GROUP,
    ],
    files,
    probe,
    diff,
};

fn files(args: &Args) -> Vec<String> {
    let remote = args.bool("remote_src").ok().flatten().unwrap_or(false);
    args.str("src").ok().flatten().filter(|_| !remote).into_iter().collect()
}

/// `creates`; a relative one is below `dest`.
fn creates(args: &Args) -> Result<Option<String>, StepError> {
    let Some(path) = args.str("creates")? else { return Ok(None) };
    if path.starts_with('/') {
        return absolute("creates", &path).map(Some);
    }
    absolute("creates", &format!("{}/{path}", path_arg(args, "dest")?)).map(Some)
}

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let mut fragments = vec![paths::probe(&path_arg(args, "dest")?, 0)];
    if let Some(path) = creates(args)? {
        fragments.push(paths::probe(&path, 0));
    }
    if flag(args, "remote_src", false)? {
        let src = args.need("src")?;
        if src.contains("://") {
            let error = StepError::new("\"src\" must be a file, not a URL").arg("src");
            return Err(error.hint("fetch it with get_url, which checks it"));
        }
        fragments.push(paths::probe(&path_arg(args, "src")?, 0));
    }
    Ok(fragments)
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let dest = path_arg(args, "dest")?;
    let state = paths::parse(&dest, answers, 0)?;
    let creates = creates(args)?;
    let registered = data(&[("dest", dest.clone().into()), ("src", args.need("src")?.into())]);
    if let Some(path) = &creates
        && paths::parse(path, answers, 1)?.exists()
    {
        return Ok(Verdict::with_data(registered));
    }
    if !state.is_dir() {
        return Ok(Verdict::NotYet(format!("the directory {dest} does not exist")));
    }
    let src = args.need("src")?;
    let unpack = if flag(args, "remote_src", false)? {
        let source = paths::parse(&src, answers, 1 + usize::from(creates.is_some()))?;
        match on_host(args, &source)? {
            Ok(script) => script,
            Err(why) => return Ok(Verdict::NotYet(why)),
        }
    } else {
        let bytes = controller_file(ctx, &src)?;
        let format = Format::of_bytes(bytes)
            .ok_or_else(|| StepError::new(format!("{src} is not an archive")).arg("src"))?;
        let call = format.call(&options(args)?, "-");
        match format {
            Format::Zip => Script::new()
                .feed(bytes, "cat >\"$s/.pgorch.zip\" || exit 1")
                .line(&format.call(&[], "\"$s/.pgorch.zip\""))
                .line("rm -f -- \"$s/.pgorch.zip\""),
            _ => Script::new().feed(bytes, &call),
        }
    };
    let chown = Attributes { mode: None, ..Attributes::args(args)? }.chown_word();
    let label = format!("unpack {src} in {dest}");
    Ok(Verdict::Change(Change {
        summary: label.clone(),
        commands: vec![
            Command::new(label, staged(&dest, &unpack, chown.as_deref())).deadline(3600),
        ],
        writes: vec![Resource::Path(dest)],
        report: Report { data: registered, ..Report::default() },
        ..Change::default()
    }))
}

fn options(args: &Args) -> Result<Vec<String>, StepError> {
    Ok(args.str_list("extra_opts")?.iter().map(|o| quote(o)).collect())
}

/// Unpacks a file of the host, or says what it waits for.
fn on_host(args: &Args, source: &PathState) -> Result<Result<Script, String>, StepError> {
    if !source.exists() {
        return Ok(Err(format!("{} does not exist on the host", source.path)));
    }
    if !source.is_file() {
        return Err(StepError::new(format!("{} is not a file", source.path)).arg("src"));
    }
    let zip = source.path.to_lowercase().ends_with(".zip");
    // From a file tar finds the compression by itself.
    let format = if zip { Format::Zip } else { Format::Tar("") };
    Ok(Ok(Script::raw(format.call(&options(args)?, &quote(&source.path)))))
}

/// How an archive is read.
#[derive(Clone, Copy)]
enum Format {
    /// With this option for the compression.
    Tar(&'static str),
    Zip,
}

impl Format {
    /// By the first bytes: on a pipe tar does not look for itself.
    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let starts = |magic: &[u8]| bytes.starts_with(magic);
        Some(match () {
            () if starts(&[0x1f, 0x8b]) => Format::Tar("-z "),
            () if starts(b"BZh") => Format::Tar("-j "),
            () if starts(&[0xfd, b'7', b'z', b'X', b'Z', 0]) => Format::Tar("-J "),
            () if starts(&[0x28, 0xb5, 0x2f, 0xfd]) => Format::Tar("--zstd "),
            () if starts(b"PK\x03\x04") => Format::Zip,
            () if bytes.get(257..262) == Some(b"ustar") => Format::Tar(""),
            () => return None,
        })
    }

    /// The call that unpacks `file` into `$s`.
    fn call(self, options: &[String], file: &str) -> String {
        match self {
            Format::Tar(compression) => {
                let options: String = options.iter().map(|o| format!(" {o}")).collect();
                format!("tar -x {compression}-C \"$s\"{options} -f {file} || exit 1")
            }
            Format::Zip => format!("unzip -q -o {file} -d \"$s\" >&2 || exit 1"),
        }
    }
}

/// Unpacks beside the goal and moves what came out, so that an interrupted run leaves nothing that
/// looks finished: a new entry appears by one rename.
fn staged(dest: &str, unpack: &Script, chown: Option<&str>) -> Script {
    let mut script = Script::raw("umask 022").set("d", dest);
    script = script
        .line("s=$(mktemp -d \"$d/.pgorch.XXXXXXXXXX\") || exit 1")
        .line("trap 'rm -rf -- \"$s\"' EXIT")
        .line("trap 'exit 1' HUP INT TERM PIPE")
        .then(unpack);
    if let Some(chown) = chown {
        script = script.line(&format!("chown -hR -- {} \"$s\" || exit 1", quote(chown)));
    }
    script = script.line(
        "for e in \"$s\"/* \"$s\"/.[!.]* \"$s\"/..?*; do\n\
         [ -e \"$e\" ] || [ -L \"$e\" ] || continue\n\
         n=${e##*/}\n\
         if [ -d \"$e\" ] && [ ! -L \"$e\" ] && [ -d \"$d/$n\" ]; then\n\
         cp -a -- \"$e/.\" \"$d/$n/\" || exit 1\n\
         else mv -fT -- \"$e\" \"$d/$n\" || exit 1; fi\n\
         done",
    );
    own_shell(script.as_str())
}
