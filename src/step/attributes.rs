//! Owner, group and mode: wanted, compared, set.

use super::answers::plain_name;
use super::mode::{Mode, octal};
use super::paths::{FileType, Stat};
use super::{ArgKind, ArgSpec, Args, Diff, StepError};
use crate::model::quote;

/// The argument `mode`.
pub(super) const MODE: ArgSpec =
    ArgSpec::new("mode", ArgKind::Mode, "Mode as quoted octal digits (\"0644\") or u=rw,go=r.");
/// The argument `owner`.
pub(super) const OWNER: ArgSpec = ArgSpec::new("owner", ArgKind::Str, "Owner, by name or number.");
/// The argument `group`.
pub(super) const GROUP: ArgSpec = ArgSpec::new("group", ArgKind::Str, "Group, by name or number.");

/// Wanted attributes; what is not given stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: Option<Mode>,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
}

impl Attributes {
    /// From `mode`, `owner` and `group`.
    pub(super) fn args(args: &Args) -> Result<Self, StepError> {
        let found = Attributes {
            mode: Mode::arg(args)?,
            owner: args.str("owner")?,
            group: args.str("group")?,
        };
        if let Some(owner) = &found.owner {
            plain_name("owner", owner)?;
        }
        if let Some(group) = &found.group {
            plain_name("group", group)?;
        }
        Ok(found)
    }

    /// What differs from `stat`, for the output.
    pub(super) fn diffs(&self, stat: &Stat) -> Vec<Diff> {
        let mut diffs = Vec::new();
        let mut push = |name: &str, before: &str, after: &str| {
            diffs.push(Diff::Value {
                name: name.to_owned(),
                before: Some(before.to_owned()),
                after: Some(after.to_owned()),
                note: None,
            });
        };
        if let Some(owner) = self.owner.as_ref().filter(|o| **o != stat.owner && **o != stat.uid) {
            push("owner", &stat.owner, owner);
        }
        if let Some(group) = self.group.as_ref().filter(|g| **g != stat.group && **g != stat.gid) {
            push("group", &stat.group, group);
        }
        let mode = self.mode_for(stat);
        if mode != stat.mode {
            push("mode", &octal(stat.mode), &octal(mode));
        }
        diffs
    }

    /// The mode that an object of these attributes gets.
    pub(super) fn mode_for(&self, stat: &Stat) -> u32 {
        let is_dir = stat.kind == FileType::Directory;
        self.mode.as_ref().map_or(stat.mode, |m| m.apply(stat.mode, is_dir))
    }

    /// What `chown` takes, if an owner or group is wanted.
    pub(super) fn chown_word(&self) -> Option<String> {
        match (&self.owner, &self.group) {
            (None, None) => None,
            (Some(owner), None) => Some(owner.clone()),
            (owner, Some(group)) => {
                Some(format!("{}:{group}", owner.as_deref().unwrap_or_default()))
            }
        }
    }
}

/// Shell text that sets owner and mode of the quoted `target`, in the order that does not lose
/// setuid bits, each failing the script.
pub(super) fn set_lines(chown: Option<&str>, mode: Option<&str>, target: &str) -> String {
    let mut text = String::new();
    if let Some(chown) = chown {
        text.push_str(&format!("chown -- {} {target} || exit 1\n", quote(chown)));
    }
    if let Some(mode) = mode {
        text.push_str(&format!("chmod -- {} {target} || exit 1\n", quote(mode)));
    }
    text
}

/// `mode 0644 -> 0600, owner root -> postgres`: differences in a line.
pub(super) fn summary(diffs: &[Diff]) -> String {
    let part = |diff: &Diff| match diff {
        Diff::Value { name, before, after, .. } => match (before, after) {
            (Some(before), Some(after)) => format!("{name} {before} -> {after}"),
            (None, Some(after)) => format!("{name} {after}"),
            (Some(before), None) => format!("{name} {before} removed"),
            (None, None) => name.clone(),
        },
        Diff::Text { .. } => "content".to_owned(),
    };
    diffs.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// A named difference.
pub(super) fn value(name: &str, before: Option<&str>, after: Option<&str>) -> Diff {
    Diff::Value {
        name: name.to_owned(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
        note: None,
    }
}
