//! `stat` and `slurp`: looking, without a change.

use super::answers::{Fields, choice, flag, output, path_arg, text};
use super::paths::{self, EDITABLE};
use super::{ArgKind, ArgSpec, Args, Ctx, Kind, StepError, Verdict, data, no_files};
use crate::model::{Answer, Fragment, Map, Resource, Script, Value, quote};

const ALGORITHMS: &[&str] = &["sha1", "sha256", "sha512", "sha224", "sha384", "md5"];

/// `stat`.
pub(super) const STAT: Kind = Kind {
    name: "stat",
    aliases: &[],
    summary: "What stands at a path, registered as stat.exists, stat.isdir, stat.mode, ….",
    free_form: None,
    args: &[
        ArgSpec::new("path", ArgKind::Path, "The path on the host.")
            .aliases(&["dest", "name"])
            .required()
            .probe(),
        ArgSpec::new("follow", ArgKind::Bool, "Look at what a symbolic link points to.").probe(),
        ArgSpec::new(
            "get_checksum",
            ArgKind::Bool,
            "Read the file for stat.checksum. Default true.",
        )
        .probe(),
        ArgSpec::new("checksum_algorithm", ArgKind::Choice(ALGORITHMS), "Default sha1.")
            .aliases(&["checksum", "checksum_algo"])
            .probe(),
    ],
    files: no_files,
    probe: stat_probe,
    diff: stat_diff,
};

/// `slurp`.
pub(super) const SLURP: Kind = Kind {
    name: "slurp",
    aliases: &[],
    summary: "A file's content, registered as content in base64; up to 4 MiB.",
    free_form: None,
    args: &[ArgSpec::new("src", ArgKind::Path, "The file on the host.")
        .aliases(&["path"])
        .required()
        .probe()],
    files: no_files,
    probe: slurp_probe,
    diff: slurp_diff,
};

fn stat_probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let path = path_arg(args, "path")?;
    let follow = flag(args, "follow", false)?;
    let link = if follow { "-L " } else { "" };
    // No access time: reading changes it, and answers are compared.
    let mut lines = format!(
        "p={}\nif [ -e \"$p\" ] || [ -L \"$p\" ]; then\n\
         stat {link}-c 'stat=%a %u %g %s %h %i %d %Y %Z %F\nowner=%U\ngroup=%G' -- \"$p\"\n\
         if [ -L \"$p\" ]; then printf 'link=%s\\n' \"$(readlink -n -- \"$p\" | base64 -w0)\"\n\
         printf 'real=%s\\n' \"$(readlink -n -m -- \"$p\" | base64 -w0)\"; fi\n",
        quote(&path)
    );
    if flag(args, "get_checksum", true)? {
        let guard = if follow { "" } else { " && [ ! -L \"$p\" ]" };
        let tool = choice(args, "checksum_algorithm", ALGORITHMS)?;
        lines.push_str(&format!(
            "if [ -f \"$p\" ]{guard}; then s=$({tool}sum <\"$p\"); \
             printf 'sum=%s\\n' \"${{s%% *}}\"; fi\n"
        ));
    }
    lines.push_str("fi; :");
    Ok(vec![Fragment::sh(Script::raw(lines), vec![Resource::Path(path)])])
}

fn stat_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let path = path_arg(args, "path")?;
    let fields = Fields::new(output(answers, 0)?);
    let mut stat = Map::new();
    stat.insert("exists".into(), fields.get("stat").is_some().into());
    if let Some(line) = fields.get("stat") {
        describe(&mut stat, line, &path)?;
        stat.insert("pw_name".into(), text(fields.get("owner").unwrap_or_default()));
        stat.insert("gr_name".into(), text(fields.get("group").unwrap_or_default()));
    }
    if let Some(sum) = fields.get("sum") {
        stat.insert("checksum".into(), text(sum));
    }
    if let Some(link) = fields.text("link")? {
        stat.insert("lnk_target".into(), text(link));
        stat.insert("lnk_source".into(), text(fields.text("real")?.unwrap_or_default()));
    }
    Ok(Verdict::with_data(data(&[("stat", Value::Object(stat))])))
}

/// Fills in Ansible's names from `mode uid gid size nlink inode dev mtime ctime type`.
fn describe(stat: &mut Map, line: &str, path: &str) -> Result<(), StepError> {
    let damaged = || StepError::new("the object changed while it was being read");
    let words: Vec<&str> = line.splitn(10, ' ').collect();
    let [mode, uid, gid, size, nlink, inode, dev, mtime, ctime, kind] = words[..] else {
        return Err(damaged());
    };
    let bits = u32::from_str_radix(mode, 8).map_err(|_| damaged())?;
    stat.insert("path".into(), text(path));
    stat.insert("mode".into(), text(super::mode::octal(bits)));
    let numbers = [
        ("uid", uid),
        ("gid", gid),
        ("size", size),
        ("nlink", nlink),
        ("inode", inode),
        ("dev", dev),
        ("mtime", mtime),
        ("ctime", ctime),
    ];
    for (name, word) in numbers {
        let number: u64 = word.parse().map_err(|_| damaged())?;
        stat.insert(name.into(), number.into());
    }
    let types = [
        ("isreg", kind.starts_with("regular")),
        ("isdir", kind == "directory"),
        ("islnk", kind == "symbolic link"),
        ("isfifo", kind == "fifo"),
        ("issock", kind == "socket"),
        ("isblk", kind == "block special file"),
        ("ischr", kind == "character special file"),
    ];
    for (name, yes) in types {
        stat.insert(name.into(), yes.into());
    }
    let who = [("usr", 6), ("grp", 3), ("oth", 0)];
    for (suffix, shift) in who {
        for (letter, bit) in [("r", 4), ("w", 2), ("x", 1)] {
            let set = (bits >> shift) & bit != 0;
            stat.insert(format!("{letter}{suffix}"), set.into());
        }
    }
    stat.insert("executable".into(), (bits & 0o111 != 0).into());
    stat.insert("isuid".into(), (bits & 0o4000 != 0).into());
    stat.insert("isgid".into(), (bits & 0o2000 != 0).into());
    Ok(())
}

fn slurp_probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    Ok(vec![paths::probe(&path_arg(args, "src")?, EDITABLE)])
}

fn slurp_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    use base64::Engine as _;
    let path = path_arg(args, "src")?;
    let state = paths::parse(&path, answers, 0)?;
    if !state.exists() {
        return Ok(Verdict::NotYet(format!("{path} does not exist")));
    }
    let Some(bytes) = &state.content else {
        let why = if state.is_file() { "is larger than 4 MiB" } else { "is not a file" };
        return Err(StepError::new(format!("{path} {why}")).arg("src"));
    };
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    Ok(Verdict::with_data(data(&[
        ("content", text(encoded)),
        ("encoding", text("base64")),
        ("source", text(path)),
    ])))
}
