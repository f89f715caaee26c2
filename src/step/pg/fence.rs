//! `fence`: the marker that keeps a node's unit from starting its server.

use super::common;
use crate::model::{Answer, Resource, Script};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, StepError, Verdict, no_files,
    no_probe,
};

pub(super) const KIND: Kind = Kind {
    name: "fence_marker",
    aliases: &[],
    summary: "the marker <home>/<node>.fenced, which keeps the unit from starting the server. It is \
              taken away only where standby.signal would keep the server from being a primary.",
    free_form: Some("state"),
    args: &[
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "default present."),
        ArgSpec::new("reason", ArgKind::Str, "what whoever finds it is to know."),
    ],
    files: no_files,
    probe: no_probe,
    diff,
};

fn diff(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(instance) = common::instance(ctx) else {
        return Ok(Verdict::NotYet(format!("{} has not been looked at", ctx.host)));
    };
    let path = format!("{}/{}.fenced", node.home, node.name);
    let script = Script::raw("(\nexec </dev/null\nset -eu\ncd /\numask 077")
        .set("home", &node.home)
        .set("data", &node.data_dir)
        .set("file", &path);
    let absent = args.str("state")?.as_deref() == Some("absent");
    let script = match (absent, &instance.fenced) {
        (true, None) | (false, Some(_)) => return Ok(Verdict::ok()),
        (true, Some(_)) => {
            let in_recovery = instance.cluster().is_some_and(|dir| dir.standby_signal)
                || instance.server.as_ref().is_some_and(|s| s.in_recovery);
            if !in_recovery {
                return Err(StepError::refuse(format!(
                    "{} is fenced, and without the marker it would come up writable",
                    ctx.host
                ))
                .hint(format!("bring it back as a standby with: pgorch rejoin {}", ctx.host)));
            }
            script
                .line("[ -e \"$data/standby.signal\" ] || { echo \"no $data/standby.signal\" >&2; exit 1; }")
                .line("rm -f \"$file\"\nsync \"$home\"\n)")
        }
        (false, None) => {
            if instance.unit.load_state == "loaded" && !instance.unit.heeds_fence {
                return Err(StepError::refuse(format!(
                    "the unit {} does not look for the fence marker",
                    node.service
                ))
                .hint("pgorch apply -t install renders the unit"));
            }
            let reason = args.str("reason")?.unwrap_or_else(|| "fenced by a playbook".to_owned());
            script
                .feed(format!("{reason}\n").as_bytes(), "cat >\"$file.pgorch-new\"")
                .line("sync \"$file.pgorch-new\"\nmv -f \"$file.pgorch-new\" \"$file\"\nsync \"$home\"\n)")
        }
    };
    let word = |there: bool| there.then(|| "present".to_owned());
    let verb = if absent { "remove" } else { "put" };
    Ok(Verdict::Change(Change {
        summary: format!("{verb} the fence marker"),
        diffs: vec![Diff::Value {
            name: path.clone(),
            before: word(absent),
            after: word(!absent),
            note: None,
        }],
        commands: vec![Command::new(format!("{verb} {path}"), script)],
        writes: vec![Resource::Path(path)],
        ..Change::default()
    }))
}
