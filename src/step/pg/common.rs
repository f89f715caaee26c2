//! What the PostgreSQL kinds share: who this node is, what runs on it, and how SQL gets there.

use crate::facts::{DataDir, InstanceFacts, ServerFacts};
use crate::inventory::NodeSettings;
use crate::model::{HostName, Script, quote};
use crate::step::{Command, Ctx, StepError, Verdict};

/// The directory of all sockets (DESIGN.md section 6).
pub(super) const SOCKETS: &str = "/run/postgresql";
/// The OS user and the superuser.
pub(super) const OS_USER: &str = "postgres";
/// The role that standbys connect as.
pub(super) const REPLICATOR: &str = "replicator";
/// The role that pgorch itself uses for SQL.
pub(super) const PGORCH: &str = "pgorch";
/// What stands behind a data directory's name while it is being made.
pub(super) const NEW: &str = ".pgorch-new";

/// The settings of the host as a PostgreSQL node.
pub(super) fn node<'a>(ctx: &'a Ctx) -> Result<&'a NodeSettings, StepError> {
    ctx.node.ok_or_else(|| {
        StepError::new(format!("{} is not a PostgreSQL node of the inventory", ctx.host))
            .hint("play on the pattern \"nodes\" instead of \"all\"")
    })
}

/// The same, for what changes something: a running server that pgorch did not make is left alone.
pub(super) fn own<'a>(ctx: &'a Ctx) -> Result<&'a NodeSettings, StepError> {
    let node = node(ctx)?;
    if let Some(instance) = instance(ctx) {
        must_be_ours(node, instance)?;
    }
    Ok(node)
}

/// Refuses a server that is not the node's, or whose data directory pgorch did not make.
pub(super) fn must_be_ours(node: &NodeSettings, instance: &InstanceFacts) -> Result<(), StepError> {
    if instance.server_elsewhere {
        return Err(StepError::refuse(format!(
            "the server on port {} of {} does not run on {}",
            node.port, node.name, node.data_dir
        ))
        .hint("another server has the port: stop it, or set postgres.port"));
    }
    let strange = instance.cluster().is_some_and(|dir| !dir.made_by_pgorch);
    if strange && (instance.server.is_some() || instance.postmaster_pid.is_some()) {
        return Err(StepError::refuse(format!(
            "the server on {} runs on {}, which pgorch did not make",
            node.name, node.data_dir
        ))
        .hint("use another port and data_dir; taking over a running server is not built yet"));
    }
    Ok(())
}

/// This host's instance as last seen. A delegated task's host may only be in the snapshot.
pub(super) fn instance<'a>(ctx: &'a Ctx) -> Option<&'a InstanceFacts> {
    match ctx.facts {
        Some(facts) => facts.instance.as_ref(),
        None => seen(ctx, ctx.host),
    }
}

/// The running server's answers.
pub(super) fn server<'a>(ctx: &'a Ctx) -> Option<&'a ServerFacts> {
    instance(ctx)?.server.as_ref()
}

/// When the running server last read its configuration, on the host's clock. A file that was put
/// in place later is not in force yet.
pub(super) fn loaded_at(ctx: &Ctx) -> Option<f64> {
    server(ctx).map(|s| s.conf_loaded_at)
}

/// Another node's instance as last seen.
pub(super) fn seen<'a>(ctx: &'a Ctx, name: &HostName) -> Option<&'a InstanceFacts> {
    ctx.snapshot.nodes.get(name)?.facts()?.instance.as_ref()
}

/// The settings of any node of the inventory.
pub(super) fn settings_of(ctx: &Ctx, name: &HostName) -> Result<NodeSettings, StepError> {
    ctx.inventory
        .postgres_of(name)
        .ok_or_else(|| StepError::new(format!("{name} is not a PostgreSQL node of the inventory")))
}

/// Whether this host is not the primary: by what it says itself, else by the topology.
pub(super) fn is_standby(ctx: &Ctx) -> bool {
    match server(ctx) {
        Some(server) => server.in_recovery,
        None => ctx.primary.is_some_and(|primary| primary != ctx.host),
    }
}

/// The verdict when there is no server to talk to.
pub(super) fn no_server(ctx: &Ctx) -> Verdict {
    let why = instance(ctx).and_then(|i| i.server_error.clone());
    let why = why.map(|e| format!(": {e}")).unwrap_or_default();
    Verdict::NotYet(format!("PostgreSQL on {} does not answer yet{why}", ctx.host))
}

/// Catalog changes belong on the primary; anywhere else they are an error of the playbook.
pub(super) fn must_be_writable(ctx: &Ctx) -> Result<(), StepError> {
    match server(ctx) {
        Some(server) if server.in_recovery => Err(StepError::refuse(format!(
            "{} is a standby; this is done on the primary",
            ctx.host
        ))
        .hint("play on the pattern \"primary\"")),
        _ => Ok(()),
    }
}

/// What stands at the data directory, if it was looked at.
pub(super) fn data_dir<'a>(ctx: &'a Ctx) -> Option<&'a DataDir> {
    instance(ctx).map(|i| &i.data_dir)
}

/// Whether the user named this node's data directory as expendable (`node:path`).
pub(super) fn expendable(ctx: &Ctx, node: &NodeSettings) -> bool {
    let name = format!("{}:{}", node.name, node.data_dir);
    ctx.options.destroy.contains(&name)
}

/// The psql command line of a node, reading SQL from its standard input.
///
/// The database travels in the environment: as an argument a name with `=` in it would be read
/// as a connection string. `synchronous_commit=local`: with quorum replication the set-up itself
/// would otherwise wait for standbys that are not there yet. A server that hangs takes connections,
/// and answers nothing.
pub(super) fn psql(node: &NodeSettings, database: &str) -> String {
    format!(
        "PGDATABASE={} PGAPPNAME=pgorch PGCONNECT_TIMEOUT=5 PGOPTIONS='-c synchronous_commit=local \
         -c client_min_messages=warning' {} -XAtqw -v ON_ERROR_STOP=1 -h {SOCKETS} -p {}",
        quote(database),
        quote(&format!("{}/psql", node.bin_dir)),
        node.port
    )
}

/// SQL as a command of the OS user postgres; the text travels on psql's standard input.
pub(super) fn sql(label: impl Into<String>, node: &NodeSettings, db: &str, sql: &str) -> Command {
    let script = Script::raw("(\ncd /").feed(sql.as_bytes(), &psql(node, db)).line(")");
    Command::new(label, script).user(OS_USER)
}

/// The upstream that a host is to have: the argument, else the inventory's `follow`, else the
/// primary.
pub(super) fn upstream_of(ctx: &Ctx, arg: Option<String>) -> Result<NodeSettings, StepError> {
    if let Some(name) = arg {
        return settings_of(ctx, &HostName(name)).map_err(|e| e.arg("upstream"));
    }
    let declared = ctx.node.and_then(|n| n.follow.as_ref()).filter(|f| *f != ctx.host);
    let name = declared.or(ctx.primary).ok_or_else(|| {
        StepError::new("which node is the primary is not known, so there is nothing to follow")
    })?;
    settings_of(ctx, name)
}
