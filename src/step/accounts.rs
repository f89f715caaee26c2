//! `user` and `group`: local accounts.

use super::answers::{Fields, choice, comma_list, flag, output, plain_name, text};
use super::attributes::{summary, value};
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Impact, Kind, Report, StepError, Verdict,
    data, no_files,
};
use crate::model::{Answer, Fragment, Map, Resource, Script, quote};

const STATE: ArgSpec =
    ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "Default present.");
const SYSTEM: ArgSpec =
    ArgSpec::new("system", ArgKind::Bool, "A system account; only when it is made.");

/// `user`.
pub(super) const USER: Kind = Kind {
    name: "user",
    aliases: &[],
    summary: "A local user.",
    free_form: None,
    args: &[
        ArgSpec::new("name", ArgKind::Str, "The user's name.")
            .aliases(&["user"])
            .required()
            .probe(),
        ArgSpec::new("uid", ArgKind::Int, "The user's number."),
        ArgSpec::new("group", ArgKind::Str, "The primary group.").probe(),
        ArgSpec::new("groups", ArgKind::StrList, "Other groups; exactly these, unless append.")
            .probe(),
        ArgSpec::new("append", ArgKind::Bool, "Keep groups that are not in groups."),
        ArgSpec::new("home", ArgKind::Path, "The home directory."),
        ArgSpec::new("move_home", ArgKind::Bool, "Move the old home to the new place."),
        ArgSpec::new("shell", ArgKind::Path, "The login shell."),
        ArgSpec::new("comment", ArgKind::Str, "The full name."),
        SYSTEM,
        ArgSpec::new("create_home", ArgKind::Bool, "Make the home directory. Default true.")
            .aliases(&["createhome"]),
        STATE,
        ArgSpec::new("remove", ArgKind::Bool, "With absent: remove the home directory too."),
    ],
    files: no_files,
    probe: user_probe,
    diff: user_diff,
};

/// `group`.
pub(super) const GROUP: Kind = Kind {
    name: "group",
    aliases: &[],
    summary: "A local group.",
    free_form: None,
    args: &[
        ArgSpec::new("name", ArgKind::Str, "The group's name.").required().probe(),
        ArgSpec::new("gid", ArgKind::Int, "The group's number."),
        SYSTEM,
        STATE,
    ],
    files: no_files,
    probe: group_probe,
    diff: group_diff,
};

fn account(args: &Args) -> Result<String, StepError> {
    let name = args.need("name")?;
    plain_name("name", &name)?;
    Ok(name)
}

fn group_probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let text = format!("printf 'group=%s\\n' \"$(getent group {})\"", quote(&account(args)?));
    Ok(vec![Fragment::sh(Script::raw(text), vec![Resource::Accounts])])
}

fn group_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let name = account(args)?;
    let fields = Fields::new(output(answers, 0)?);
    let entry = fields.get("group").filter(|e| !e.is_empty());
    let gid = args.int("gid")?.map(|g| g.to_string());
    let now = entry.and_then(|e| e.split(':').nth(2));
    if choice(args, "state", &["present", "absent"])? == "absent" {
        return Ok(match entry {
            None => Verdict::ok(),
            Some(_) => gone("group", &name, &["groupdel", "--", &name]),
        });
    }
    let mut registered = data(&[("name", text(&name)), ("state", text("present"))]);
    if let Some(gid) = gid.as_deref().or(now) {
        registered.insert("gid".into(), text(gid));
    }
    let Some(now) = now else {
        let mut argv = vec!["groupadd"];
        if flag(args, "system", false)? {
            argv.push("-r");
        }
        if let Some(gid) = &gid {
            argv.extend(["-g", gid]);
        }
        argv.extend(["--", &name]);
        let diffs = vec![value("group", None, Some(&name))];
        return Ok(accounts(format!("create group {name}"), diffs, vec![argv], registered));
    };
    match gid {
        Some(gid) if gid != now => {
            let diffs = vec![value("gid", Some(now), Some(&gid))];
            let argv = vec!["groupmod", "-g", &gid, "--", &name];
            Ok(accounts(summary(&diffs), diffs.clone(), vec![argv], registered))
        }
        _ => Ok(Verdict::with_data(registered)),
    }
}

fn accounts(summary: String, diffs: Vec<Diff>, argv: Vec<Vec<&str>>, data: Map) -> Verdict {
    Verdict::Change(Change {
        summary,
        diffs,
        commands: argv.iter().map(|words| Command::argv(words)).collect(),
        writes: vec![Resource::Accounts, Resource::Path("/home".to_owned())],
        report: Report { data, ..Report::default() },
        ..Change::default()
    })
}

fn gone(what: &str, name: &str, argv: &[&str]) -> Verdict {
    let diffs = vec![value(what, Some(name), None)];
    accounts(format!("remove {what} {name}"), diffs, vec![argv.to_vec()], Map::new())
}

/// Prints the account, its groups and whether the groups that are wanted exist.
fn user_probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let name = quote(&account(args)?);
    let mut lines = format!(
        "printf 'passwd=%s\\n' \"$(getent passwd {name})\"\n\
         printf 'groups=%s\\n' \"$(id -nG -- {name} 2>/dev/null)\"\n\
         printf 'primary=%s\\n' \"$(id -ng -- {name} 2>/dev/null)\"\n\
         printf 'same=%s\\n' \"$(getent group {name})\"\n"
    );
    let mut groups = comma_list(args, "groups")?;
    groups.extend(args.str("group")?);
    for group in &groups {
        plain_name("groups", group)?;
        let group = quote(group);
        lines.push_str(&format!("getent group {group} >/dev/null || echo nogroup={group}\n"));
    }
    lines.push(':');
    Ok(vec![Fragment::sh(Script::raw(lines), vec![Resource::Accounts])])
}

fn user_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let name = account(args)?;
    let fields = Fields::new(output(answers, 0)?);
    let entry: Vec<&str> = fields.get("passwd").unwrap_or_default().split(':').collect();
    if choice(args, "state", &["present", "absent"])? == "absent" {
        return user_absent(args, &name, &entry);
    }
    if let Some(group) = fields.get("nogroup") {
        return Ok(Verdict::NotYet(format!("there is no group {group}")));
    }
    match entry[..] {
        [_, _, uid, gid, comment, home, shell] => {
            let now = User { uid, gid, comment, home, shell, fields: &fields };
            user_change(args, &name, &now)
        }
        _ => user_create(args, &name, &fields),
    }
}

fn user_absent(args: &Args, name: &str, entry: &[&str]) -> Result<Verdict, StepError> {
    if entry.len() < 7 {
        return Ok(Verdict::ok());
    }
    if name == "root" {
        return Err(StepError::refuse("the user root is not removed by a task").arg("name"));
    }
    let remove = flag(args, "remove", false)?;
    let argv: &[&str] =
        if remove { &["userdel", "-r", "--", name] } else { &["userdel", "--", name] };
    let mut verdict = gone("user", name, argv);
    if let (Verdict::Change(change), true) = (&mut verdict, remove) {
        change.diffs.push(value("home", entry.get(5).copied(), None));
        let home = entry.get(5).copied().unwrap_or_default();
        change.impact = Impact { destroys: Some(format!("the home {home}")), ..Impact::default() };
        change.writes.push(Resource::Path(home.to_owned()));
    }
    Ok(verdict)
}

/// The account as it is.
struct User<'a> {
    uid: &'a str,
    gid: &'a str,
    comment: &'a str,
    home: &'a str,
    shell: &'a str,
    fields: &'a Fields<'a>,
}

/// The options that `useradd` and `usermod` share.
fn common(args: &Args) -> Result<Vec<(&'static str, &'static str, String)>, StepError> {
    let mut all = Vec::new();
    if let Some(uid) = args.int("uid")? {
        all.push(("uid", "-u", uid.to_string()));
    }
    if let Some(group) = args.str("group")? {
        all.push(("group", "-g", group));
    }
    for (name, option) in [("comment", "-c"), ("home", "-d"), ("shell", "-s")] {
        if let Some(text) = args.str(name)? {
            all.push((name, option, text));
        }
    }
    Ok(all)
}

fn user_create(args: &Args, name: &str, fields: &Fields) -> Result<Verdict, StepError> {
    let mut argv = vec!["useradd".to_owned()];
    let mut diffs = vec![value("user", None, Some(name))];
    for (what, option, text) in common(args)? {
        diffs.push(value(what, None, Some(&text)));
        argv.extend([option.to_owned(), text]);
    }
    // useradd refuses to make a group of the user's name if there is one.
    if args.get("group").is_none() && fields.get("same").is_some_and(|g| !g.is_empty()) {
        argv.extend(["-g".to_owned(), name.to_owned()]);
    }
    let groups = comma_list(args, "groups")?;
    if !groups.is_empty() {
        diffs.push(value("groups", None, Some(&groups.join(","))));
        argv.extend(["-G".to_owned(), groups.join(",")]);
    }
    if flag(args, "system", false)? {
        argv.push("-r".to_owned());
    }
    let home = if flag(args, "create_home", true)? { "-m" } else { "-M" };
    argv.extend([home.to_owned(), "--".to_owned(), name.to_owned()]);
    let words = argv.iter().map(String::as_str).collect();
    let data = data(&[("name", text(name)), ("state", text("present"))]);
    at_home(args, accounts(format!("create user {name}"), diffs, vec![words], data))
}

fn user_change(args: &Args, name: &str, now: &User) -> Result<Verdict, StepError> {
    let mut argv = vec!["usermod".to_owned()];
    let mut diffs = Vec::new();
    let primary = now.fields.get("primary").unwrap_or_default();
    for (what, option, wanted) in common(args)? {
        let (before, same) = match what {
            "uid" => (now.uid, wanted == now.uid),
            "group" => (primary, wanted == primary || wanted == now.gid),
            "comment" => (now.comment, wanted == now.comment),
            "home" => (now.home, wanted.trim_end_matches('/') == now.home.trim_end_matches('/')),
            _ => (now.shell, wanted == now.shell),
        };
        if same {
            continue;
        }
        diffs.push(value(what, Some(before), Some(&wanted)));
        argv.extend([option.to_owned(), wanted]);
        if what == "home" && flag(args, "move_home", false)? {
            argv.push("-m".to_owned());
        }
    }
    if args.get("groups").is_some() {
        member_of(args, now, primary, &mut argv, &mut diffs)?;
    }
    let registered = data(&[
        ("name", text(name)),
        ("state", text("present")),
        ("uid", text(now.uid)),
        ("home", text(now.home)),
        ("shell", text(now.shell)),
        ("comment", text(now.comment)),
        ("group", text(now.gid)),
    ]);
    if diffs.is_empty() {
        return Ok(Verdict::with_data(registered));
    }
    argv.extend(["--".to_owned(), name.to_owned()]);
    let words = argv.iter().map(String::as_str).collect();
    let summary = format!("{name}: {}", summary(&diffs));
    at_home(args, accounts(summary, diffs, vec![words], registered))
}

/// Adds the home directory to what the change touches.
fn at_home(args: &Args, mut verdict: Verdict) -> Result<Verdict, StepError> {
    if let (Verdict::Change(change), Some(home)) = (&mut verdict, args.str("home")?) {
        change.writes.push(Resource::Path(home));
    }
    Ok(verdict)
}

/// Supplementary groups: the missing ones are added; without `append` the others are left.
fn member_of(
    args: &Args,
    now: &User,
    primary: &str,
    argv: &mut Vec<String>,
    diffs: &mut Vec<Diff>,
) -> Result<(), StepError> {
    let mut wanted = comma_list(args, "groups")?;
    let primary = args.str("group")?.unwrap_or_else(|| primary.to_owned());
    let is_in: Vec<&str> = now.fields.get("groups").unwrap_or_default().split(' ').collect();
    let mut others: Vec<String> =
        is_in.iter().filter(|g| !g.is_empty() && **g != primary).map(|g| (*g).to_owned()).collect();
    wanted.retain(|g| *g != primary);
    wanted.sort();
    wanted.dedup();
    others.sort();
    let append = flag(args, "append", false)?;
    let same = if append { wanted.iter().all(|g| others.contains(g)) } else { wanted == others };
    if same {
        return Ok(());
    }
    let after = if append {
        let mut all = others.clone();
        all.extend(wanted.iter().filter(|g| !others.contains(g)).cloned());
        all
    } else {
        wanted.clone()
    };
    diffs.push(value("groups", Some(&others.join(",")), Some(&after.join(","))));
    if append {
        argv.push("-a".to_owned());
    }
    argv.extend(["-G".to_owned(), wanted.join(",")]);
    Ok(())
}
