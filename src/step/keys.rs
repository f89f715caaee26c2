//! `authorized_key`: who may log in as a user.

use super::answers::{Fields, absolute, choice, output, plain_name, text};
use super::content::{Source, Write, write};
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, Report, StepError, Verdict, data,
    no_files,
};
use crate::model::{Answer, Fragment, Resource, Script, quote};

/// `authorized_key`.
pub(super) const AUTHORIZED_KEY: Kind = Kind {
    name: "authorized_key",
    aliases: &[],
    summary: "A public key in a user's authorized_keys; other keys are left alone.",
    free_form: None,
    args: &[
        ArgSpec::new("user", ArgKind::Str, "The user.").required().probe(),
        ArgSpec::new("key", ArgKind::Str, "Public keys, one a line, with options if any.")
            .required(),
        ArgSpec::new("path", ArgKind::Path, "The file. Default ~/.ssh/authorized_keys.").probe(),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "Default present."),
    ],
    files: no_files,
    probe,
    diff,
};

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let user = args.need("user")?;
    plain_name("user", &user)?;
    let file = match args.str("path")? {
        Some(path) => format!("f={}\n", quote(&absolute("path", &path)?)),
        None => "f=${h%/}/.ssh/authorized_keys\n".to_owned(),
    };
    let text = format!(
        "h=$(getent passwd {} | cut -d: -f6)\nif [ -n \"$h\" ]; then\n{file}\
         printf 'file=%s\\n' \"$(printf %s \"$f\" | base64 -w0)\"\n\
         [ -d \"$h\" ] && echo home=yes\n\
         [ -f \"$f\" ] && printf 'content=%s\\n' \"$(base64 -w0 <\"$f\")\"\nfi; :",
        quote(&user)
    );
    // Where the home is, only the answer tells.
    let reads = vec![Resource::Accounts, Resource::Path("/".to_owned())];
    Ok(vec![Fragment::sh(Script::raw(text), reads)])
}

const TYPES: &[&str] = &["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];

/// A line of authorized_keys: what identifies the key, and the options before it.
fn parse(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    // Options may hold blanks inside quotes, a key type never follows a quote's inside.
    let mut quoted = false;
    let mut start = 0;
    for (at, c) in line.char_indices().chain([(line.len(), ' ')]) {
        match c {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                let is_type = TYPES.iter().any(|t| line[start..].starts_with(t));
                if is_type {
                    let rest = line[start..].trim();
                    let mut words = rest.splitn(3, [' ', '\t']);
                    let (kind, blob) = (words.next()?, words.next()?);
                    let end = start + kind.len() + 1 + blob.len();
                    return Some((&line[start..end.min(line.len())], line[..start].trim()));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

fn diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let user = args.need("user")?;
    let fields = Fields::new(output(answers, 0)?);
    let keys = args.need("key")?;
    let wanted: Vec<&str> =
        keys.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    if wanted.is_empty() || wanted.iter().any(|k| parse(k).is_none()) {
        let error = StepError::new("\"key\" is not a public key").arg("key");
        return Err(error.hint("the text of an id_….pub file, not its name"));
    }
    let Some(path) = fields.text("file")? else {
        return Ok(Verdict::NotYet(format!("there is no user {user}")));
    };
    let before = fields.text("content")?;
    let mut lines: Vec<String> =
        before.as_deref().unwrap_or_default().lines().map(str::to_owned).collect();
    let present = choice(args, "state", &["present", "absent"])? == "present";
    for key in &wanted {
        let id = parse(key);
        let same = |line: &String| parse(line).map(|p| p.0) == id.map(|p| p.0);
        match lines.iter().position(same) {
            Some(at) if present && parse(&lines[at]) == id => {}
            Some(at) if present => lines[at] = (*key).to_owned(),
            Some(_) => lines.retain(|l| !same(l)),
            None if present => lines.push((*key).to_owned()),
            None => {}
        }
    }
    let mut after = lines.join("\n");
    if !after.is_empty() {
        after.push('\n');
    }
    let old = before.clone().unwrap_or_default();
    let registered = data(&[("user", text(&user)), ("keyfile", text(&path))]);
    if old.lines().eq(after.lines()) {
        return Ok(Verdict::with_data(registered));
    }
    if !fields.yes("home") {
        return Ok(Verdict::NotYet(format!("the home directory of {user} does not exist")));
    }
    let diffs = vec![Diff::Text { path: path.clone(), before, after: Some(after.clone()) }];
    // As the user: root would follow links that the user can place in the way.
    let command = Command::new(format!("write {path}"), write_keys(&path, &after)).user(&user);
    Ok(Verdict::Change(Change {
        summary: if present { "add key".to_owned() } else { "remove key".to_owned() },
        diffs,
        commands: vec![command],
        writes: vec![Resource::Path(path)],
        report: Report { data: registered, ..Report::default() },
        ..Change::default()
    }))
}

fn write_keys(path: &str, text: &str) -> Script {
    let dir = path.rsplit_once('/').map_or("/", |(dir, _)| dir);
    let make = format!("[ -d {0} ] || mkdir -m 700 -- {0} || exit 1", quote(dir));
    Script::raw(make).then(&write(&Write {
        path,
        source: Source::Bytes(text.as_bytes()),
        chown: None,
        mode: 0o600,
        validate: None,
        backup: false,
        make_parent: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn options_comments_and_keys_are_told_apart() {
        let plain = parse("ssh-ed25519 AAAA me@host").expect("key");
        assert_eq!(plain, ("ssh-ed25519 AAAA", ""));
        let options = parse("command=\"a ssh-rsa b\",no-pty ssh-ed25519 AAAA").expect("key");
        assert_eq!(options, ("ssh-ed25519 AAAA", "command=\"a ssh-rsa b\",no-pty"));
        assert!(parse("# ssh-rsa AAAA").is_none());
        assert!(parse("nonsense").is_none());
        assert!(parse("ssh-rsa").is_none());
    }
}
