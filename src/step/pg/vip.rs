//! `vip`: the virtual address of `routing.vip`, on the primary and nowhere else.
//!
//! The address belongs to the server's unit: its script takes it when the server comes up as a primary
//! and gives it up however the server stops (failover review, amendment 18). This kind puts right what
//! is not so while the server runs: an address that is new in the inventory, or was taken away by hand.

use super::common;
use crate::inventory::{Inventory, NodeSettings, Vip};
use crate::model::{Answer, Fragment, Resource, Script};
use crate::step::answers::{Fields, output};
use crate::step::{Args, Change, Command, Ctx, Diff, Kind, StepError, Verdict, no_files};

pub(super) const KIND: Kind = Kind {
    name: "vip",
    aliases: &[],
    summary: "the virtual address of routing.vip is on the primary, and nowhere else.",
    free_form: None,
    args: &[],
    files: no_files,
    probe,
    diff,
};

/// The script of a node, owned by root: the unit runs it with all rights.
#[must_use]
pub(super) fn script_of(inventory: &Inventory, node: &NodeSettings) -> String {
    format!("/usr/local/lib/pgorch/{}-{}.vip", inventory.cluster, node.name)
}

/// What the script has taken, as `ADDRESS/PREFIX INTERFACE`.
fn note_of(inventory: &Inventory, node: &NodeSettings) -> String {
    format!("/run/pgorch-{}-{}.vip", inventory.cluster, node.name)
}

/// The question how a node stands to the virtual address.
#[must_use]
pub(in crate::step) fn fragment(inventory: &Inventory, node: &NodeSettings) -> Fragment {
    let (path, note) = (script_of(inventory, node), note_of(inventory, node));
    let (address, interface) = match &inventory.routing.vip {
        Some(vip) => (format!("{}/{}", vip.address, vip.prefix), vip.interface.clone()),
        None => (String::new(), String::new()),
    };
    let script = Script::raw("(\nexec </dev/null")
        .set("script", &path)
        .set("note", &note)
        .set("address", &address)
        .set("interface", &interface)
        .line(
            "[ ! -e \"$script\" ] || echo script=yes\n\
             [ ! -e \"$note\" ] || echo \"taken=$(cat \"$note\")\"\n\
             if [ -n \"$interface\" ] && there=$(ip -o -4 addr show dev \"$interface\" 2>/dev/null); then\n\
             echo interface=yes\n\
             case $there in *\" $address \"*) echo address=yes ;; esac\n\
             fi\n)",
        );
    let reads =
        vec![Resource::Path(path), Resource::Path(note), Resource::Units, Resource::Postgres];
    Fragment::sh(script, reads)
}

fn probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    Ok(vec![fragment(ctx.inventory, common::node(ctx)?)])
}

/// Why a node could not take the address; none if it could. `answer` is that to [`fragment`].
#[must_use]
pub(in crate::step) fn obstacle(vip: &Vip, answer: &Answer) -> Option<String> {
    let fields = Fields::new(&answer.stdout);
    if answer.rc != 0 {
        return Some(format!(
            "cannot be asked about the virtual address: {}",
            answer.stderr.trim()
        ));
    }
    if !fields.yes("interface") {
        return Some(format!("has no network interface {}", vip.interface));
    }
    (!fields.yes("script")).then(|| "has no script for the virtual address yet".to_owned())
}

fn diff(_: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let fields = Fields::new(output(answers, 0)?);
    let path = script_of(ctx.inventory, node);
    let taken = fields.get("taken");
    let Some(vip) = &ctx.inventory.routing.vip else {
        if taken.is_none() && !fields.yes("script") {
            return Ok(Verdict::ok());
        }
        let line = format!("sh {path} down && rm -f {path}");
        let diff = Diff::Value {
            name: "virtual address".to_owned(),
            before: taken.map(str::to_owned),
            after: None,
            note: Some("not in the inventory any more".to_owned()),
        };
        return Ok(change(ctx, node, "give up the virtual address", line, diff));
    };
    let wanted = format!("{}/{} {}", vip.address, vip.prefix, vip.interface);
    if !fields.yes("interface") {
        return Err(StepError::refuse(format!(
            "{} has no network interface {}",
            ctx.host, vip.interface
        ))
        .hint("routing.vip: interface is the same on all nodes; `ip link` lists what is there"));
    }
    if ctx.primary != Some(ctx.host) {
        if taken.is_none() {
            return Ok(Verdict::ok());
        }
        let diff = Diff::Value {
            name: "virtual address".to_owned(),
            before: taken.map(str::to_owned),
            after: None,
            note: Some("this is no primary".to_owned()),
        };
        return Ok(change(
            ctx,
            node,
            "give up the virtual address",
            format!("sh {path} down"),
            diff,
        ));
    }
    if taken == Some(wanted.as_str()) && fields.yes("address") {
        return Ok(Verdict::ok());
    }
    if !fields.yes("script") {
        return Ok(Verdict::NotYet(format!("{path} is not there yet: pgorch apply -t install")));
    }
    match common::server(ctx) {
        None => return Ok(common::no_server(ctx)),
        Some(server) if server.in_recovery => {
            return Ok(Verdict::NotYet(format!("{} is still in recovery", ctx.host)));
        }
        Some(_) => {}
    }
    let diff = Diff::Value {
        name: "virtual address".to_owned(),
        before: taken.map(str::to_owned),
        after: Some(wanted),
        note: None,
    };
    Ok(change(ctx, node, "take the virtual address", format!("sh {path} up"), diff))
}

fn change(ctx: &Ctx, node: &NodeSettings, summary: &str, line: String, diff: Diff) -> Verdict {
    let script = Script::raw("(\nexec </dev/null\nset -e").line(&line).line(")");
    Verdict::Change(Change {
        summary: summary.to_owned(),
        diffs: vec![diff],
        commands: vec![Command::new(line, script)],
        writes: vec![
            Resource::Path(note_of(ctx.inventory, node)),
            Resource::Path(script_of(ctx.inventory, node)),
        ],
        ..Change::default()
    })
}
