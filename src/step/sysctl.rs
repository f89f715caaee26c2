//! `sysctl`: a kernel parameter, in a file and in the running kernel.

use super::answers::{Fields, absolute, choice, flag, output, text};
use super::attributes::value;
use super::content::{Target, converge, own_shell};
use super::paths::{self, SMALL};
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, Report, StepError, Verdict, data, no_files,
};
use crate::model::{Answer, Fragment, Resource, Script, quote};

/// `sysctl`.
pub(super) const SYSCTL: Kind = Kind {
    name: "sysctl",
    aliases: &[],
    summary: "A kernel parameter, kept in /etc/sysctl.d and set in the running kernel.",
    free_form: None,
    args: &[
        ArgSpec::new("name", ArgKind::Str, "The parameter.").aliases(&["key"]).required().probe(),
        ArgSpec::new("value", ArgKind::Str, "Its value.").aliases(&["val"]),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "Default present."),
        ArgSpec::new("reload", ArgKind::Bool, "Set the running value too. Default true.")
            .aliases(&["sysctl_set"]),
        ArgSpec::new("sysctl_file", ArgKind::Path, "Default /etc/sysctl.d/90-pgorch.conf.")
            .aliases(&["file"])
            .probe(),
        ArgSpec::new("ignoreerrors", ArgKind::Bool, "An unknown parameter is no error."),
    ],
    files: no_files,
    probe,
    diff,
};

fn name(args: &Args) -> Result<String, StepError> {
    let name = args.need("name")?;
    let good = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if name.is_empty() || !name.chars().all(good) || name.contains("..") {
        return Err(StepError::new(format!("\"{name}\" is no kernel parameter")).arg("name"));
    }
    Ok(name)
}

/// Where the running value is. As sysctl reads names: if the first separator is a slash, dots
/// belong to the parts (`net/ipv4/conf/eth0.1/rp_filter`), else slashes stand for such dots.
fn running(name: &str) -> String {
    let slash_first = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('/'));
    let path: String = name
        .chars()
        .map(|c| match c {
            '.' if !slash_first => '/',
            '/' if !slash_first => '.',
            other => other,
        })
        .collect();
    format!("/proc/sys/{path}")
}

fn file(args: &Args) -> Result<String, StepError> {
    match args.str("sysctl_file")? {
        Some(path) => absolute("sysctl_file", &path),
        None => Ok("/etc/sysctl.d/90-pgorch.conf".to_owned()),
    }
}

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let proc = quote(&running(&name(args)?));
    let text = format!("if v=$(cat {proc} 2>/dev/null); then printf 'value=%s\\n' \"$v\"; fi; :");
    let value = Fragment::sh(Script::raw(text), vec![Resource::Kernel]);
    Ok(vec![value, paths::probe(&file(args)?, SMALL)])
}

/// Values compare without regard to how blanks are written.
fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let (name, path) = (name(args)?, file(args)?);
    let now = Fields::new(output(answers, 0)?).get("value").map(normal);
    let state = paths::parse(&path, answers, 1)?;
    let present = choice(args, "state", &["present", "absent"])? == "present";
    let wanted = if present { Some(normal(&args.need("value")?)) } else { None };
    let registered = data(&[("name", text(&name)), ("value", now.clone().into())]);
    if state.exists() && state.text().is_none() {
        return Err(StepError::new(format!("{path} cannot be edited")).arg("sysctl_file"));
    }
    let before = state.text().unwrap_or_default();
    let after = edited(before, &name, wanted.as_deref());
    let mut change = match &after {
        Some(after) => {
            let target = Target { path, bytes: after.clone().into_bytes(), ..Target::default() };
            match converge(&target, &state)? {
                Verdict::Change(change) => change,
                Verdict::Satisfied(_) => Change::default(),
                other => return Ok(other),
            }
        }
        None => Change::default(),
    };
    if let Some(wanted) = wanted.filter(|_| args.bool("reload").ok().flatten() != Some(false)) {
        match &now {
            Some(now) if *now == wanted => {}
            Some(now) => set(&mut change, &name, now, &wanted),
            None if flag(args, "ignoreerrors", false)? => {}
            None => {
                let message = format!("this kernel has no parameter {name}");
                return Ok(Verdict::NotYet(message));
            }
        }
    }
    if change.commands.is_empty() {
        return Ok(Verdict::with_data(registered));
    }
    change.summary = match change.diffs.iter().any(|d| matches!(d, super::Diff::Value { .. })) {
        true => format!("{name} {} -> {}", now.unwrap_or_default(), args.need("value")?),
        false => format!("{name} in its file"),
    };
    change.report = Report { data: registered, ..Report::default() };
    Ok(Verdict::Change(change))
}

fn set(change: &mut Change, name: &str, now: &str, wanted: &str) {
    change.diffs.push(value(name, Some(now), Some(wanted)));
    let body = format!("printf '%s\\n' {} >{}", quote(wanted), quote(&running(name)));
    change.commands.push(Command::new(format!("sysctl -w {name}={wanted}"), own_shell(&body)));
    change.writes.push(Resource::Kernel);
}

/// The file with the parameter's line as wanted; none if it is so already.
fn edited(before: &str, name: &str, wanted: Option<&str>) -> Option<String> {
    let value_of = |line: &str| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        (key.trim().trim_start_matches('-') == name).then(|| normal(value))
    };
    let found: Vec<String> = before.lines().filter_map(value_of).collect();
    match wanted {
        None if found.is_empty() => return None,
        Some(wanted) if found.len() == 1 && found[0] == wanted => return None,
        _ => {}
    }
    let mut lines: Vec<String> =
        before.lines().filter(|l| value_of(l).is_none()).map(str::to_owned).collect();
    if let Some(wanted) = wanted {
        let at = before.lines().position(|l| value_of(l).is_some()).unwrap_or(lines.len());
        lines.insert(at.min(lines.len()), format!("{name} = {wanted}"));
    }
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{edited, running};

    #[test]
    fn names_become_paths() {
        assert_eq!(running("vm.swappiness"), "/proc/sys/vm/swappiness");
        assert_eq!(
            running("net.ipv4.conf.eth0/1.rp_filter"),
            "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"
        );
        assert_eq!(running("net/ipv4/ip_forward"), "/proc/sys/net/ipv4/ip_forward");
    }

    #[test]
    fn one_line_per_parameter() {
        assert_eq!(edited("", "a.b", Some("1")).as_deref(), Some("a.b = 1\n"));
        assert_eq!(edited("a.b=1\n", "a.b", Some("1")), None);
        let two = "# a.b = 0\na.b = 2\nc = 3\na.b = 1\n";
        assert_eq!(edited(two, "a.b", Some("1")).as_deref(), Some("# a.b = 0\na.b = 1\nc = 3\n"));
        assert_eq!(edited("a.b = 1\n", "a.b", None).as_deref(), Some(""));
        assert_eq!(edited("c = 1\n", "a.b", None), None);
    }
}
