//! What stands at a path: one probe for all kinds that look at files.

use super::answers::{Fields, output};
use super::content::sha256;
use super::mode::octal;
use super::{StepError, answers};
use crate::model::{Answer, Fragment, Map, Resource, Script, Value, quote};

/// Content of files up to this size travels with the first answer.
pub(super) const SMALL: u64 = 64 * 1024;
/// What kinds that edit a file accept.
pub(super) const EDITABLE: u64 = 4 * 1024 * 1024;

/// Kind of a file system object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileType {
    File,
    Directory,
    Link,
    Other,
}

impl FileType {
    fn word(self) -> &'static str {
        match self {
            FileType::File => "file",
            FileType::Directory => "directory",
            FileType::Link => "link",
            FileType::Other => "special file",
        }
    }
}

/// Attributes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) uid: String,
    pub(super) gid: String,
    pub(super) owner: String,
    pub(super) group: String,
    pub(super) size: u64,
}

/// What the probe of a path found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PathState {
    /// The path as asked for.
    pub(super) path: String,
    /// The object itself if it is a symbolic link.
    pub(super) link_stat: Option<Stat>,
    /// Where the link points.
    pub(super) link: Option<String>,
    /// The path behind all links.
    pub(super) real: Option<String>,
    /// The object, links followed; none if absent or dangling.
    pub(super) stat: Option<Stat>,
    pub(super) sha256: Option<String>,
    /// Content, if it is a file not larger than the limit.
    pub(super) content: Option<Vec<u8>>,
    /// Whether the directory above is there.
    pub(super) parent: bool,
    /// If not, the first directory that is missing: what making the path changes.
    pub(super) missing: Option<String>,
}

/// Asks what stands at `path`; content up to `limit` bytes.
pub(super) fn probe(path: &str, limit: u64) -> Fragment {
    let text = format!(
        r#"p={path}; f='%a %u %g %U %G %s %F'
d=${{p%/*}}; m=
while [ -n "$d" ] && [ ! -d "$d" ]; do m=$d; d=${{d%/*}}; done
if [ -z "$m" ]; then echo parent=yes
else printf 'missing=%s\n' "$(printf %s "$m" | base64 -w0)"; fi
if [ -L "$p" ]; then
printf 'lstat=%s\n' "$(stat -c "$f" -- "$p")"
printf 'link=%s\n' "$(readlink -n -- "$p" | base64 -w0)"
printf 'real=%s\n' "$(readlink -n -m -- "$p" | base64 -w0)"
fi
if [ -e "$p" ]; then
s=$(stat -L -c "$f" -- "$p"); printf 'stat=%s\n' "$s"
if [ -f "$p" ]; then
z=${{s#* * * * * }}
if [ "${{z%% *}}" -le {limit} ]; then printf 'content=%s\n' "$(base64 -w0 <"$p")"
else s=$(sha256sum <"$p"); printf 'sha256=%s\n' "${{s%% *}}"; fi
fi; fi
:"#,
        path = quote(path),
    );
    Fragment::sh(Script::raw(text), vec![Resource::Path(path.to_owned())])
}

/// Reads answer `index` of [`probe`].
pub(super) fn parse(path: &str, answers: &[Answer], index: usize) -> Result<PathState, StepError> {
    let fields = Fields::new(output(answers, index)?);
    let content = fields.bytes("content")?;
    let sum = fields.get("sha256").map(str::to_owned);
    Ok(PathState {
        path: path.to_owned(),
        link_stat: fields.get("lstat").map(parse_stat).transpose()?,
        link: fields.text("link")?,
        real: fields.text("real")?,
        stat: fields.get("stat").map(parse_stat).transpose()?,
        // The host sums only what it does not send.
        sha256: sum.or_else(|| content.as_deref().map(sha256)),
        content,
        parent: fields.yes("parent"),
        missing: fields.text("missing")?,
    })
}

fn parse_stat(line: &str) -> Result<Stat, StepError> {
    let damaged = || StepError::new("the object changed while it was being read");
    let words: Vec<&str> = line.splitn(7, ' ').collect();
    let [mode, uid, gid, owner, group, size, kind] = words[..] else { return Err(damaged()) };
    Ok(Stat {
        kind: match kind {
            "regular file" | "regular empty file" => FileType::File,
            "directory" => FileType::Directory,
            "symbolic link" => FileType::Link,
            _ => FileType::Other,
        },
        mode: u32::from_str_radix(mode, 8).map_err(|_| damaged())?,
        uid: uid.to_owned(),
        gid: gid.to_owned(),
        owner: owner.to_owned(),
        group: group.to_owned(),
        size: size.parse().map_err(|_| damaged())?,
    })
}

impl PathState {
    /// What a change of this path touches, directories made on the way included.
    pub(super) fn touched(&self) -> Vec<Resource> {
        vec![Resource::Path(self.missing.clone().unwrap_or_else(|| self.path.clone()))]
    }

    /// Whether there is anything, a dangling link included.
    pub(super) fn exists(&self) -> bool {
        self.stat.is_some() || self.link_stat.is_some()
    }

    pub(super) fn is_link(&self) -> bool {
        self.link_stat.is_some()
    }

    /// Whether it is a regular file, links followed.
    pub(super) fn is_file(&self) -> bool {
        self.stat.as_ref().is_some_and(|s| s.kind == FileType::File)
    }

    /// Whether it is a directory, links followed.
    pub(super) fn is_dir(&self) -> bool {
        self.stat.as_ref().is_some_and(|s| s.kind == FileType::Directory)
    }

    /// What is there, in a word.
    pub(super) fn word(&self) -> &'static str {
        match (&self.link_stat, &self.stat) {
            (Some(_), _) => FileType::Link.word(),
            (None, Some(stat)) => stat.kind.word(),
            (None, None) => "absent",
        }
    }

    /// The content as text, if it was small enough and is text.
    pub(super) fn text(&self) -> Option<&str> {
        self.content.as_deref().and_then(as_text)
    }

    /// The registered result of kinds that manage this object, as it is now.
    pub(super) fn data(&self) -> Map {
        let mut map = super::data(&[
            ("path", answers::text(&self.path)),
            ("state", answers::text(self.word())),
        ]);
        if let Some(stat) = &self.stat {
            map.insert("mode".into(), answers::text(octal(stat.mode)));
            map.insert("owner".into(), answers::text(&stat.owner));
            map.insert("group".into(), answers::text(&stat.group));
            map.insert("size".into(), Value::from(stat.size));
        }
        if let Some(sum) = &self.sha256 {
            map.insert("checksum".into(), answers::text(sum));
        }
        map
    }
}

/// Bytes as text, unless they look binary.
pub(super) fn as_text(bytes: &[u8]) -> Option<&str> {
    if bytes.contains(&0) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// A size as people read it.
pub(super) fn human(size: u64) -> String {
    match size {
        0..1024 => format!("{size} bytes"),
        1024..1_048_576 => format!("{} KiB", size / 1024),
        _ => format!("{} MiB", size / 1_048_576),
    }
}
