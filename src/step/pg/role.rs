//! `role`: roles, their attributes, memberships and passwords, on the primary.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::common::{self, OS_USER, PGORCH, REPLICATOR};
use super::role_sql::{self, Statements};
use crate::inventory::NodeSettings;
use crate::model::{Answer, Fragment, Resource, Secret};
use crate::postgres::{SCRAM_ITERATIONS, ident, scram_matches, scram_verifier};
use crate::step::{ArgKind, ArgSpec, Args, Change, Ctx, Kind, StepError, Verdict, data, no_files};

pub(super) const KIND: Kind = Kind {
    name: "role",
    aliases: &["postgresql_user"],
    summary: "roles on the primary; without a name: pgorch's own and all of the inventory's.",
    free_form: Some("name"),
    args: &[
        ArgSpec::new("name", ArgKind::Str, "one role; without it all of postgres.roles.").probe(),
        ArgSpec::new("password", ArgKind::Str, "only its SCRAM verifier is sent.").secret(),
        ArgSpec::new("attributes", ArgKind::StrList, "login, createdb, nologin, ...")
            .aliases(&["role_attr_flags"]),
        ArgSpec::new("member_of", ArgKind::StrList, "roles that it is to be a member of."),
        ArgSpec::new("connection_limit", ArgKind::Int, "-1 is no limit."),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "default present."),
    ],
    files: no_files,
    probe,
    diff,
};

/// A role as it is to be.
struct Wanted {
    name: String,
    password: Option<Secret>,
    attributes: Vec<String>,
    member_of: Vec<String>,
    connection_limit: Option<i64>,
}

/// The probe's answer.
#[derive(Deserialize)]
struct Seen {
    system_identifier: String,
    /// Missing rights of pgorch's own roles, as statements.
    grants: Option<Vec<String>>,
    roles: Option<Vec<SeenRole>>,
}

/// A row of pg_authid.
#[derive(Deserialize)]
struct SeenRole {
    name: String,
    attributes: Vec<String>,
    connection_limit: i64,
    verifier: Option<String>,
    member_of: Option<Vec<String>>,
}

fn probe(args: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let names = match args.str("name")? {
        Some(name) => vec![name],
        None => [PGORCH, REPLICATOR]
            .into_iter()
            .map(str::to_owned)
            .chain(ctx.inventory.postgres.roles.iter().map(|r| r.name.clone()))
            .collect(),
    };
    let own = args.get("name").is_none();
    Ok(vec![Fragment::sql("postgres", role_sql::probe(&names, own))])
}

fn wanted(args: &Args, ctx: &Ctx) -> Result<Option<Vec<Wanted>>, StepError> {
    if let Some(name) = args.str("name")? {
        let password = args.str("password")?.map(Secret::new);
        let password = password.or_else(|| ctx.role_passwords.get(&name).cloned());
        let attributes = args.str_list("attributes")?;
        let attributes =
            attributes.iter().flat_map(|a| a.split(',')).map(|a| a.trim().to_lowercase());
        return Ok(Some(vec![Wanted {
            password,
            attributes: attributes.filter(|a| !a.is_empty()).collect(),
            member_of: args.str_list("member_of")?,
            connection_limit: args.int("connection_limit")?,
            name,
        }]));
    }
    let Some(replication) = ctx.replication_password else { return Ok(None) };
    let version = common::node(ctx)?.version;
    let mut list = vec![
        own(PGORCH, &["login"], role_sql::memberships(version), None),
        own(REPLICATOR, &["login", "replication"], Vec::new(), Some(replication)),
    ];
    for role in &ctx.inventory.postgres.roles {
        let password = ctx.role_passwords.get(&role.name).cloned();
        if role.password.is_some() && password.is_none() {
            return Err(StepError::new(format!(
                "the password of role {} was not resolved",
                role.name
            )));
        }
        list.push(Wanted {
            name: role.name.clone(),
            password,
            attributes: role.attributes.clone(),
            member_of: role.member_of.clone(),
            connection_limit: role.connection_limit,
        });
    }
    Ok(Some(list))
}

fn own(name: &str, attributes: &[&str], parents: Vec<String>, password: Option<&Secret>) -> Wanted {
    Wanted {
        name: name.to_owned(),
        password: password.cloned(),
        attributes: attributes.iter().map(|a| (*a).to_owned()).collect(),
        member_of: parents,
        connection_limit: None,
    }
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    common::must_be_writable(ctx)?;
    let node = common::own(ctx)?;
    let answer =
        answers.first().ok_or_else(|| StepError::new("the answer about roles is missing"))?;
    match answer.rc {
        0 => {}
        2 => return Ok(common::no_server(ctx)),
        _ => return Err(StepError::new(format!("cannot read roles: {}", answer.stderr.trim()))),
    }
    let seen: Seen = serde_json::from_str(answer.stdout.trim())
        .map_err(|e| StepError::new(format!("unreadable answer about roles: {e}")))?;
    if args.str("state")?.as_deref() == Some("absent") {
        return absent(&args.need("name")?, &seen, node);
    }
    let Some(wanted) = wanted(args, ctx)? else {
        return Ok(Verdict::NotYet("the replication password is not known yet".into()));
    };
    let mut out = Statements::default();
    for role in &wanted {
        let current = seen.roles.iter().flatten().find(|r| r.name == role.name);
        compare(role, current, &seen.system_identifier, &mut out)?;
    }
    // Rights come after the roles that get them.
    for grant in seen.grants.into_iter().flatten() {
        out.plain(&grant);
        out.diff(&grant, None, Some("granted".into()));
    }
    Ok(verdict(out, node, wanted.len()))
}

fn verdict(out: Statements, node: &NodeSettings, count: usize) -> Verdict {
    let Some((summary, diffs, sql)) = out.finish() else {
        return Verdict::with_data(data(&[("roles", count.into())]));
    };
    let sql = format!("{}{sql}", role_sql::QUIET);
    let command = common::sql(format!("psql: {summary}"), node, "postgres", &sql);
    Verdict::Change(Change {
        summary,
        diffs,
        commands: vec![command],
        writes: vec![Resource::Postgres],
        ..Change::default()
    })
}

fn absent(name: &str, seen: &Seen, node: &NodeSettings) -> Result<Verdict, StepError> {
    if [OS_USER, PGORCH, REPLICATOR].contains(&name) {
        return Err(StepError::refuse(format!("the role {name} is needed by pgorch")).arg("name"));
    }
    let mut out = Statements::default();
    if seen.roles.iter().flatten().any(|r| r.name == name) {
        out.plain(&format!("DROP ROLE {};", ident(name)));
        out.diff(&format!("role {name}"), Some("present".into()), None);
    }
    Ok(verdict(out, node, 0))
}

/// What one role needs.
fn compare(
    role: &Wanted,
    current: Option<&SeenRole>,
    system_identifier: &str,
    out: &mut Statements,
) -> Result<(), StepError> {
    let mut attributes = role.attributes.clone();
    if !attributes.iter().any(|a| a == "login" || a == "nologin") {
        // Who is listed in an inventory is there to log in, as with CREATE USER.
        attributes.push("login".into());
    }
    let known = |name: &str| current.is_some_and(|r| r.attributes.iter().any(|a| a == name));
    let mut options = Vec::new();
    for attribute in &attributes {
        let (base, on) = role_sql::attribute(attribute).ok_or_else(|| {
            StepError::new(format!("role {}: no such attribute: {attribute}", role.name))
                .arg("attributes")
                .hint(format!("one of {}, or no... of it", role_sql::ATTRIBUTES.join(", ")))
        })?;
        // A new role has INHERIT and nothing else.
        let is = if current.is_some() { known(base) } else { base == "inherit" };
        if is != on {
            options.push(attribute.to_uppercase());
        }
    }
    if let Some(limit) = role.connection_limit
        && current.map_or(-1, |r| r.connection_limit) != limit
    {
        options.push(format!("CONNECTION LIMIT {limit}"));
    }
    out.role(&role.name, current.is_some(), &options);
    for parent in &role.member_of {
        let member = current.is_some_and(|r| r.member_of.iter().flatten().any(|p| p == parent));
        if !member {
            out.member(&role.name, parent);
        }
    }
    if let Some(password) = &role.password {
        let verifier = current.and_then(|r| r.verifier.as_deref());
        if !verifier.is_some_and(|v| scram_matches(password, v)) {
            let salt = salt(system_identifier, &role.name, verifier.unwrap_or_default());
            let new = scram_verifier(password, &salt, SCRAM_ITERATIONS);
            out.password(&role.name, verifier.is_some(), &new);
        }
    }
    Ok(())
}

/// A salt for a new verifier. It need not be secret (the server tells it to whoever starts to log
/// in), only different for each role, cluster and change of password; planning has no randomness.
fn salt(system_identifier: &str, role: &str, old: &str) -> [u8; 16] {
    let digest = Sha256::digest(format!("pgorch\n{system_identifier}\n{role}\n{old}"));
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest[..16]);
    salt
}
