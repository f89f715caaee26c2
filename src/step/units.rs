//! `service` and `systemd_unit`: units, their states and their files.

use super::answers::{Fields, choice, flag, output, path_arg, plain_name, text};
use super::attributes::{Attributes, GROUP, MODE, OWNER, summary, value};
use super::content::{Target, converge, own_shell};
use super::copies::controller_file;
use super::paths::{self, SMALL};
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Impact, Kind, Report, StepError, Verdict, data,
    no_files,
};
use crate::model::{Answer, Fragment, Resource, Script, quote};

const STATES: &[&str] = &["", "started", "stopped", "restarted", "reloaded"];

/// `service`.
pub(super) const SERVICE: Kind = Kind {
    name: "service",
    aliases: &["systemd", "systemd_service"],
    summary: "A unit's state: running, enabled at boot, masked.",
    free_form: None,
    args: &[
        ArgSpec::new("name", ArgKind::Str, "The unit; without a suffix, .service.")
            .aliases(&["unit", "service"])
            .probe(),
        ArgSpec::new(
            "state",
            ArgKind::Choice(&["started", "stopped", "restarted", "reloaded"]),
            "restarted and reloaded always act; reloaded starts a unit that is down.",
        ),
        ArgSpec::new("enabled", ArgKind::Bool, "Whether it starts at boot."),
        ArgSpec::new("masked", ArgKind::Bool, "Whether it is impossible to start."),
        ArgSpec::new(
            "daemon_reload",
            ArgKind::Bool,
            "Have systemd read changed unit files first. It also does without this if the unit's \
             own file has changed.",
        )
        .aliases(&["daemon-reload"])
        .probe(),
        ArgSpec::new("no_block", ArgKind::Bool, "Do not wait for the unit."),
        ArgSpec::new("timeout", ArgKind::Int, "Seconds to wait for the unit (300)."),
    ],
    files: no_files,
    probe,
    diff,
};

/// `systemd_unit`.
pub(super) const SYSTEMD_UNIT: Kind = Kind {
    name: "systemd_unit",
    aliases: &[],
    summary: "A unit file or drop-in in /etc/systemd/system, verified before it is in place.",
    free_form: None,
    args: &[
        ArgSpec::new("name", ArgKind::Str, "foo.service, or foo.service.d/override.conf.")
            .required()
            .probe(),
        ArgSpec::new("content", ArgKind::Str, "The unit file's text."),
        ArgSpec::new("src", ArgKind::Str, "A file on the controller, instead of content."),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "Default present."),
        ArgSpec::new("verify", ArgKind::Bool, "Run systemd-analyze verify on it. Default true."),
        ArgSpec::new("dir", ArgKind::Path, "Where it goes. Default /etc/systemd/system.").probe(),
        OWNER,
        GROUP,
        MODE,
    ],
    files: unit_source,
    probe: unit_probe,
    diff: unit_diff,
};

const SUFFIXES: &[&str] = &[
    ".service",
    ".socket",
    ".target",
    ".timer",
    ".mount",
    ".automount",
    ".path",
    ".slice",
    ".scope",
    ".swap",
    ".device",
];

/// The unit's full name.
fn unit(args: &Args) -> Result<Option<String>, StepError> {
    let Some(name) = args.str("name")? else { return Ok(None) };
    plain_name("name", &name.replace([':', '\\'], "_"))?;
    let full = SUFFIXES.iter().any(|s| name.ends_with(s));
    Ok(Some(if full { name } else { format!("{name}.service") }))
}

/// Asks systemd for a unit's state.
fn show(unit: &str) -> Fragment {
    let properties = "Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload";
    let script = Script::argv(&["systemctl", "show", "-p", properties, "--", unit]);
    Fragment::sh(script, vec![Resource::Units])
}

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    Ok(unit(args)?.iter().map(|u| show(u)).collect())
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let reload = flag(args, "daemon_reload", false)?;
    let Some(unit) = unit(args)? else {
        if !reload {
            return Err(StepError::new("the argument \"name\" is required").arg("name"));
        }
        return Ok(Verdict::Change(daemon_reload_only()));
    };
    let fields = Fields::new(output(answers, 0)?);
    let state = choice(args, "state", STATES)?;
    let now = Now::read(&fields);
    let wants_unit = matches!(state, "started" | "restarted" | "reloaded")
        || args.bool("enabled")? == Some(true);
    if now.load == "not-found" && wants_unit {
        return Ok(Verdict::NotYet(format!("there is no unit {unit}")));
    }
    if now.load == "masked" && wants_unit && args.bool("masked")? != Some(false) {
        return Err(StepError::new(format!("the unit {unit} is masked")).hint("masked: false"));
    }
    refuse_own_server(&unit, state, now.active, ctx)?;
    let plan = Plan::new(args, &unit, state, &now)?;
    let status = data(&[
        ("name", text(&unit)),
        ("enabled", now.enabled().into()),
        ("state", text(if now.active { "started" } else { "stopped" })),
    ]);
    if plan.commands.is_empty() {
        return Ok(Verdict::with_data(status));
    }
    Ok(Verdict::Change(Change {
        summary: format!("{unit}: {}", summary(&plan.diffs)),
        diffs: plan.diffs,
        commands: plan.commands,
        // What a unit does when it starts or stops is its own business.
        writes: vec![Resource::Units, Resource::Postgres, Resource::Path("/run".to_owned())],
        impact: Impact {
            // A database server is not restarted here (refused above); other services ask nobody.
            restart: false,
            reload: state == "reloaded" && now.active,
            ..Impact::default()
        },
        report: Report { data: status, ..Report::default() },
        in_place: None,
    }))
}

/// The unit as it is.
struct Now<'a> {
    load: &'a str,
    active_state: &'a str,
    sub: &'a str,
    file: &'a str,
    active: bool,
    stale: bool,
}

impl<'a> Now<'a> {
    fn read(fields: &Fields<'a>) -> Self {
        let get = |key| fields.get(key).unwrap_or_default();
        let active_state = get("ActiveState");
        Now {
            load: get("LoadState"),
            active_state,
            sub: get("SubState"),
            file: get("UnitFileState"),
            active: matches!(active_state, "active" | "reloading" | "refreshing"),
            stale: get("NeedDaemonReload") == "yes",
        }
    }

    /// Static, generated and indirect units have nothing to enable and count as enabled.
    fn enabled(&self) -> bool {
        matches!(self.file, "enabled" | "enabled-runtime" | "linked" | "linked-runtime" | "alias")
            || self.fixed()
    }

    fn fixed(&self) -> bool {
        matches!(self.file, "static" | "generated" | "indirect" | "transient")
    }

    fn word(&self) -> String {
        format!("{} ({})", self.active_state, self.sub)
    }
}

/// The server of this node is stopped and restarted by the kinds that know what that means.
fn refuse_own_server(unit: &str, state: &str, active: bool, ctx: &Ctx) -> Result<(), StepError> {
    let own = ctx.node.is_some_and(|n| unit == format!("{}.service", n.service));
    if own && active && matches!(state, "stopped" | "restarted") {
        let error = StepError::refuse(format!("{unit} is this node's PostgreSQL server"));
        return Err(error.hint("use the kinds stop and restart, which know its role"));
    }
    Ok(())
}

#[derive(Default)]
struct Plan {
    diffs: Vec<super::Diff>,
    commands: Vec<Command>,
}

impl Plan {
    fn new(args: &Args, unit: &str, state: &str, now: &Now) -> Result<Self, StepError> {
        let mut plan = Plan::default();
        if now.stale || flag(args, "daemon_reload", false)? {
            let before = if now.stale { "older than its file" } else { "as asked" };
            plan.add("daemon-reload", Some(before), "done", &["systemctl", "daemon-reload"]);
        }
        let masked = now.load == "masked";
        let mask = args.bool("masked")?;
        if mask == Some(false) && masked {
            plan.add("masked", Some("yes"), "no", &["systemctl", "unmask", "--", unit]);
        }
        plan.boot(args.bool("enabled")?, unit, now);
        plan.running(args, unit, state, now)?;
        if mask == Some(true) && !masked {
            plan.add("masked", Some("no"), "yes", &["systemctl", "mask", "--", unit]);
        }
        Ok(plan)
    }

    fn add(&mut self, name: &str, before: Option<&str>, after: &str, argv: &[&str]) {
        self.diffs.push(value(name, before, Some(after)));
        self.commands.push(Command::argv(argv));
    }

    fn boot(&mut self, wanted: Option<bool>, unit: &str, now: &Now) {
        let absent = now.load == "not-found";
        match wanted {
            Some(true) if !now.enabled() => {
                self.add("enabled", Some("no"), "yes", &["systemctl", "enable", "--", unit]);
            }
            Some(false) if now.enabled() && !now.fixed() && !absent => {
                self.add("enabled", Some("yes"), "no", &["systemctl", "disable", "--", unit]);
            }
            _ => {}
        }
    }

    fn running(
        &mut self,
        args: &Args,
        unit: &str,
        state: &str,
        now: &Now,
    ) -> Result<(), StepError> {
        let down = matches!(now.active_state, "inactive" | "failed");
        let verb = match state {
            "started" if !now.active => "start",
            "stopped" if !down && now.load != "not-found" => "stop",
            "restarted" => "restart",
            "reloaded" if now.active => "reload",
            "reloaded" => "start",
            _ => return Ok(()),
        };
        let seconds = args.int("timeout")?.unwrap_or(300);
        let wait = if flag(args, "no_block", false)? { " --no-block" } else { "" };
        let script = verb_script(verb, wait, unit);
        let label = format!("systemctl {verb} {unit}");
        let deadline = u64::try_from(seconds).unwrap_or(300);
        self.commands.push(Command::new(label, script).deadline(deadline));
        self.diffs.push(value("state", Some(&now.word()), Some(state)));
        Ok(())
    }
}

/// A verb of systemctl; if it fails, what systemd and the journal say of the unit is the error.
fn verb_script(verb: &str, wait: &str, unit: &str) -> Script {
    let unit = quote(unit);
    own_shell(&format!(
        "systemctl {verb}{wait} -- {unit} </dev/null && exit 0\nrc=$?\n{{\n\
         systemctl status --no-pager --full --lines=0 -- {unit} </dev/null\n\
         journalctl --no-pager --quiet --output=short-iso -n 20 -u {unit} </dev/null\n\
         }} >&2\nexit \"$rc\""
    ))
}

fn daemon_reload_only() -> Change {
    Change {
        summary: "systemd reads its unit files".to_owned(),
        commands: vec![Command::argv(&["systemctl", "daemon-reload"])],
        writes: vec![Resource::Units],
        ..Change::default()
    }
}

fn unit_source(args: &Args) -> Vec<String> {
    args.str("src").ok().flatten().into_iter().collect()
}

/// The file's path, and the unit it belongs to.
fn unit_path(args: &Args) -> Result<(String, String), StepError> {
    let name = args.need("name")?;
    let dir = match args.get("dir") {
        Some(_) => path_arg(args, "dir")?,
        None => "/etc/systemd/system".to_owned(),
    };
    let bad = || {
        let error = StepError::new(format!("\"{name}\" is not the name of a unit file"));
        error.arg("name").hint("foo.service, or foo.service.d/override.conf")
    };
    let unit = match name.split_once('/') {
        None => name.as_str(),
        Some((drop_in, file)) if file.ends_with(".conf") && !file.contains('/') => {
            drop_in.strip_suffix(".d").ok_or_else(bad)?
        }
        Some(_) => return Err(bad()),
    };
    if !SUFFIXES.iter().any(|s| unit.ends_with(s)) || unit.starts_with(['.', '-']) {
        return Err(bad());
    }
    Ok((format!("{dir}/{name}"), unit.to_owned()))
}

fn unit_probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let (path, unit) = unit_path(args)?;
    let mut fragments = vec![paths::probe(&path, SMALL)];
    // A template has no state of its own.
    if !unit.contains("@.") {
        let mut state = show(&unit);
        state.reads.push(Resource::Path(path));
        fragments.push(state);
    }
    Ok(fragments)
}

fn unit_diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let (path, unit) = unit_path(args)?;
    let state = paths::parse(&path, answers, 0)?;
    let template = unit.contains("@.");
    let stale =
        !template && Fields::new(output(answers, 1)?).get("NeedDaemonReload") == Some("yes");
    let verdict = if choice(args, "state", &["present", "absent"])? == "absent" {
        removed(&path, state.exists())
    } else {
        let bytes = match (args.str("content")?, args.str("src")?) {
            (Some(content), None) => content.into_bytes(),
            (None, Some(src)) => controller_file(ctx, &src)?.to_vec(),
            _ => return Err(StepError::new("one of \"content\" and \"src\" is required")),
        };
        let verify = flag(args, "verify", true)? && !path.ends_with(".conf");
        let target = Target {
            path: path.clone(),
            bytes,
            attributes: Attributes::args(args)?,
            validate_script: verify.then(|| verify_script(&unit)),
            make_parent: true,
            ..Target::default()
        };
        converge(&target, &state)?
    };
    Ok(match verdict {
        Verdict::Change(mut change) => {
            change.commands.push(Command::argv(&["systemctl", "daemon-reload"]));
            change.writes.push(Resource::Units);
            Verdict::Change(change)
        }
        // An earlier run wrote the file and did not get to this.
        Verdict::Satisfied(report) if stale => {
            Verdict::Change(Change { report, ..daemon_reload_only() })
        }
        other => other,
    })
}

fn removed(path: &str, exists: bool) -> Verdict {
    if !exists {
        return Verdict::ok();
    }
    Verdict::Change(Change {
        summary: format!("remove {path}"),
        diffs: vec![value("state", Some("file"), Some("absent"))],
        commands: vec![Command::argv(&["rm", "-f", "--", path])],
        writes: super::content::touched(&[path]),
        ..Change::default()
    })
}

/// Verifies `$t` under the unit's own name, because the name decides how the file is read. Only
/// this unit's errors count where systemd can tell them apart (250 and later).
fn verify_script(unit: &str) -> String {
    format!(
        "if command -v systemd-analyze >/dev/null 2>&1; then\n\
         v=$(mktemp -d /tmp/pgorch.XXXXXXXXXX) || exit 1\n\
         trap 'rm -rf -- \"$t\" \"$v\"' EXIT\n\
         cp -- \"$t\" \"$v\"/{name} || exit 1\n\
         o=; systemd-analyze --help 2>/dev/null | grep -q -e --recursive-errors && \
         o=--recursive-errors=no\n\
         systemd-analyze verify --man=no $o \"$v\"/{name} >&2 </dev/null || {{\n\
         echo {label} >&2; exit 1; }}\nfi",
        name = quote(unit),
        label = quote(&format!("systemd-analyze verify refuses {unit}")),
    )
}
