//! `hostname`, `timezone` and `locale_gen`.

use super::answers::{Fields, choice, output, text};
use super::attributes::{summary, value};
use super::content::{Target, converge, own_shell};
use super::paths::{self, SMALL};
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, Report, StepError, Verdict, data, no_files,
};
use crate::model::{Answer, Fragment, Resource, Script, quote};

/// `hostname`.
pub(super) const HOSTNAME: Kind = Kind {
    name: "hostname",
    aliases: &[],
    summary: "The host's name, now and after a boot.",
    free_form: Some("name"),
    args: &[
        ArgSpec::new("name", ArgKind::Str, "The name.").required(),
        ArgSpec::new("use", ArgKind::Str, "Taken, without effect."),
    ],
    files: no_files,
    probe: hostname_probe,
    diff: hostname_diff,
};

/// `timezone`.
pub(super) const TIMEZONE: Kind = Kind {
    name: "timezone",
    aliases: &[],
    summary: "The host's time zone.",
    free_form: Some("name"),
    args: &[ArgSpec::new("name", ArgKind::Str, "A zone such as Europe/Vienna.").required().probe()],
    files: no_files,
    probe: timezone_probe,
    diff: timezone_diff,
};

/// `locale_gen`.
pub(super) const LOCALE_GEN: Kind = Kind {
    name: "locale_gen",
    aliases: &[],
    summary: "Locales, made by locale-gen (Debian and Ubuntu).",
    free_form: None,
    args: &[
        ArgSpec::new("name", ArgKind::StrList, "Locales such as en_US.UTF-8.").required().probe(),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "Default present."),
    ],
    files: no_files,
    probe: locale_probe,
    diff: locale_diff,
};

fn hostname_probe(_: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let text = "printf 'now=%s\\n' \"$(cat /proc/sys/kernel/hostname)\"\n\
         if [ -f /etc/hostname ]; then printf 'kept=%s\\n' \
         \"$(grep -v '^#' /etc/hostname | head -n 1)\"; fi; :";
    let reads = vec![Resource::Kernel, Resource::Path("/etc/hostname".to_owned())];
    Ok(vec![Fragment::sh(Script::raw(text), reads)])
}

fn hostname_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let name = args.need("name")?;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) || name.starts_with(['-', '.'])
    {
        return Err(StepError::new(format!("\"{name}\" is no host name")).arg("name"));
    }
    let fields = Fields::new(output(answers, 0)?);
    let mut diffs = Vec::new();
    for (key, what) in [("now", "hostname"), ("kept", "/etc/hostname")] {
        let before = fields.get(key);
        if before != Some(&name) {
            diffs.push(value(what, before, Some(&name)));
        }
    }
    let data = data(&[("name", text(&name))]);
    if diffs.is_empty() {
        return Ok(Verdict::with_data(data));
    }
    // hostnamectl needs D-Bus, which a small system lacks.
    let body = format!(
        "hostnamectl set-hostname -- {0} 2>/dev/null </dev/null && exit 0\n\
         printf '%s\\n' {0} >/etc/hostname || exit 1\nhostname -- {0}",
        quote(&name)
    );
    Ok(Verdict::Change(Change {
        summary: summary(&diffs),
        diffs,
        commands: vec![Command::new(format!("hostnamectl set-hostname {name}"), own_shell(&body))],
        writes: vec![Resource::Kernel, Resource::Path("/etc/hostname".to_owned())],
        report: Report { data, ..Report::default() },
        ..Change::default()
    }))
}

fn zone(args: &Args) -> Result<String, StepError> {
    let name = args.need("name")?;
    let good = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    if name.is_empty() || !name.chars().all(good) || name.starts_with('/') {
        return Err(StepError::new(format!("\"{name}\" is no time zone")).arg("name"));
    }
    Ok(name)
}

fn timezone_probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let zone = quote(&zone(args)?);
    let text = format!(
        "if [ -f /usr/share/zoneinfo/{zone} ]; then echo known=yes; fi\n\
         printf 'link=%s\\n' \"$(readlink -- /etc/localtime)\"\n\
         if [ -f /etc/timezone ]; then printf 'file=%s\\n' \"$(head -n 1 /etc/timezone)\"; fi; :"
    );
    let path = |p: &str| Resource::Path(p.to_owned());
    let reads = ["/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo"].map(path).to_vec();
    Ok(vec![Fragment::sh(Script::raw(text), reads)])
}

fn timezone_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let zone = zone(args)?;
    let fields = Fields::new(output(answers, 0)?);
    if !fields.yes("known") {
        let message = format!("this host knows no time zone {zone} (package tzdata)");
        return Ok(Verdict::NotYet(message));
    }
    let link = fields.get("link").unwrap_or_default();
    let now = link.split_once("zoneinfo/").map(|(_, z)| z);
    // Debian keeps the name in a file too, which programs read; where it is not, none is made.
    let file = fields.get("file");
    let good = now == Some(zone.as_str()) && file.is_none_or(|f| f == zone);
    let data = data(&[("name", text(&zone))]);
    if good {
        return Ok(Verdict::with_data(data));
    }
    let before = if now == Some(zone.as_str()) { file } else { now };
    let diffs = vec![value("timezone", before, Some(&zone))];
    let body = format!(
        "t=$(mktemp -d /etc/.pgorch.XXXXXXXX) || exit 1\ntrap 'rm -rf -- \"$t\"' EXIT\n\
         ln -s -- /usr/share/zoneinfo/{0} \"$t/l\" && mv -fT -- \"$t/l\" /etc/localtime || exit 1\n\
         if [ -f /etc/timezone ]; then printf '%s\\n' {0} >/etc/timezone; fi",
        quote(&zone)
    );
    let path = |p: &str| Resource::Path(p.to_owned());
    Ok(Verdict::Change(Change {
        summary: summary(&diffs),
        diffs,
        commands: vec![Command::new(format!("set the time zone to {zone}"), own_shell(&body))],
        writes: ["/etc/localtime", "/etc/timezone"].map(path).to_vec(),
        report: Report { data, ..Report::default() },
        ..Change::default()
    }))
}

fn locales(args: &Args) -> Result<Vec<String>, StepError> {
    let names = args.str_list("name")?;
    let good = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    match names.iter().find(|n| n.is_empty() || !n.chars().all(good)) {
        Some(bad) => Err(StepError::new(format!("\"{bad}\" is no locale")).arg("name")),
        None if names.is_empty() => Err(StepError::new("no locale is named").arg("name")),
        None => Ok(names),
    }
}

const LOCALE_FILE: &str = "/etc/locale.gen";

fn locale_probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let mut text = "locale -a 2>/dev/null | sed 's/^/has=/'\n".to_owned();
    for name in locales(args)? {
        text.push_str(&format!(
            "grep -E -e {} /usr/share/i18n/SUPPORTED 2>/dev/null | sed 's/^/known=/'\n",
            quote(&format!("^{} ", regex::escape(&name)))
        ));
    }
    text.push(':');
    let path = |p: &str| Resource::Path(p.to_owned());
    let reads = vec![path("/usr/lib/locale"), path("/usr/share/i18n"), Resource::Packages];
    Ok(vec![Fragment::sh(Script::raw(text), reads), paths::probe(LOCALE_FILE, SMALL)])
}

/// `en_US.UTF-8` as `locale -a` prints it: `en_US.utf8`.
fn normal(name: &str) -> String {
    match name.split_once('.') {
        Some((language, rest)) => {
            let (code, modifier) = match rest.split_once('@') {
                Some((code, modifier)) => (code, format!("@{modifier}")),
                None => (rest, String::new()),
            };
            format!("{language}.{}{modifier}", code.to_lowercase().replace('-', ""))
        }
        None => name.to_owned(),
    }
}

fn locale_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let fields = Fields::new(output(answers, 0)?);
    let file = paths::parse(LOCALE_FILE, answers, 1)?;
    let present = choice(args, "state", &["present", "absent"])? == "present";
    let names = locales(args)?;
    let has = |name: &&String| fields.all("has").any(|h| normal(h) == normal(name));
    if names.iter().all(|n| has(&n) == present) {
        return Ok(Verdict::ok());
    }
    let Some(before) = file.text() else {
        return Ok(Verdict::NotYet(format!("there is no {LOCALE_FILE} (package locales)")));
    };
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    let mut diffs = Vec::new();
    for name in names.iter().filter(|n| has(n) != present) {
        let start = format!("{name} ");
        let known = fields.all("known").find(|k| k.starts_with(&start));
        let Some(known) = known else {
            return Err(StepError::new(format!("there is no locale {name}")).arg("name"));
        };
        let is_line = |l: &String| l.trim_start_matches(['#', ' ']).trim() == known;
        let line = if present { known.to_owned() } else { format!("# {known}") };
        match lines.iter().position(is_line) {
            Some(at) => lines[at] = line,
            None => lines.push(line),
        }
        diffs.push(match present {
            true => value("locale", None, Some(name)),
            false => value("locale", Some(name), None),
        });
    }
    let bytes = format!("{}\n", lines.join("\n")).into_bytes();
    let target = Target { path: LOCALE_FILE.to_owned(), bytes, ..Target::default() };
    let mut change = match converge(&target, &file)? {
        Verdict::Change(change) => change,
        // The file is right and an earlier locale-gen did not finish.
        _ => Change::default(),
    };
    change.summary = summary(&diffs);
    change.diffs.extend(diffs);
    change.commands.push(Command::argv(&["locale-gen"]).deadline(600));
    change.writes.push(Resource::Path("/usr/lib/locale".to_owned()));
    Ok(Verdict::Change(change))
}
