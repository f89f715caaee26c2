//! Extra pg_hba.conf rows, as a mapping or as the line itself (manual, 21.1).

use super::HbaRule;
use super::text;
use crate::syntax::lower::{Complaints, MapReader, did_you_mean, mismatch, string};
use crate::syntax::{Diagnostic, Node, NodeKind, Span};

const TYPES: &[&str] = &["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
const METHODS: &[&str] = &[
    "trust",
    "reject",
    "scram-sha-256",
    "md5",
    "password",
    "gss",
    "sspi",
    "ident",
    "peer",
    "ldap",
    "radius",
    "cert",
    "pam",
    "bsd",
    "oauth",
];

/// Reads one item of `postgres.hba`.
pub(super) fn rule(node: &Node, out: &mut Complaints) -> Option<HbaRule> {
    let rule = match &node.kind {
        NodeKind::Str(line) => match from_line(line) {
            Ok(rule) => rule,
            Err(problem) => {
                out.push(
                    Diagnostic::error(&node.span, problem)
                        .hint("the form is: TYPE DATABASE USER [ADDRESS] METHOD [OPTIONS]"),
                );
                return None;
            }
        },
        NodeKind::Map(_) => from_map(node, out)?,
        _ => {
            out.push(mismatch(node, "hba", "a list of mappings or pg_hba.conf lines"));
            return None;
        }
    };
    check(&rule, &node.span, out).then_some(rule)
}

fn from_map(node: &Node, out: &mut Complaints) -> Option<HbaRule> {
    let mut map = MapReader::new(node, "an hba rule", out)?;
    let kind = map.string("type", out);
    let database = names(map.get("database"), "database", out);
    let user = names(map.get("user"), "user", out);
    let address = map.string("address", out);
    let method = map.string("method", out);
    let options = map.string("options", out);
    map.finish(out);
    let local_by_default = if address.is_some() { "host" } else { "local" };
    Some(HbaRule {
        r#type: kind.unwrap_or_else(|| local_by_default.to_owned()),
        database: database.unwrap_or_else(|| "all".to_owned()),
        user: user.unwrap_or_else(|| "all".to_owned()),
        address,
        method: method.unwrap_or_else(|| "scram-sha-256".to_owned()),
        options,
    })
}

/// One name or a list of names, in the file's own form: separated by commas.
fn names(node: Option<&Node>, key: &str, out: &mut Complaints) -> Option<String> {
    match &node?.kind {
        NodeKind::Seq(items) => {
            let words: Vec<String> = items.iter().filter_map(|n| string(n, key, out)).collect();
            Some(words.join(","))
        }
        _ => string(node?, key, out),
    }
}

fn from_line(line: &str) -> Result<HbaRule, String> {
    let mut words = split(line)?.into_iter();
    let mut next = |what: &str| words.next().ok_or(format!("this hba line has no {what}"));
    let kind = next("type")?;
    let database = next("database")?;
    let user = next("user")?;
    let mut address = if kind == "local" { None } else { Some(next("address")?) };
    let mut method = next("method")?;
    if let (Some(network), Some(bits)) = (&address, text::netmask_prefix(&method)) {
        address = Some(format!("{network}/{bits}"));
        method = next("method")?;
    }
    let options: Vec<String> = words.collect();
    let options = (!options.is_empty()).then(|| options.join(" "));
    Ok(HbaRule { r#type: kind, database, user, address, method, options })
}

/// The words of a line; quotes stay, because they take keywords their meaning.
fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\n' | '\r' => return Err("an hba rule is one line".to_owned()),
            '#' if !quoted => break,
            '"' => {
                quoted = !quoted;
                word.push(c);
            }
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if quoted {
        return Err("this hba line has a quote that does not end".to_owned());
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

fn check(rule: &HbaRule, span: &Span, out: &mut Complaints) -> bool {
    let before = out.0.len();
    one_of(&rule.r#type, "hba type", TYPES, span, out);
    one_of(&rule.method, "authentication method", METHODS, span, out);
    let local = rule.r#type == "local";
    match &rule.address {
        Some(_) if local => {
            out.push(Diagnostic::error(span, "an hba rule of type \"local\" takes no address"));
        }
        None if !local => {
            let complaint = format!("an hba rule of type \"{}\" needs an address", rule.r#type);
            out.push(Diagnostic::error(span, complaint));
        }
        Some(address) => check_address(address, span, out),
        None => {}
    }
    if rule.method == "peer" && !local {
        let complaint = Diagnostic::error(span, "method \"peer\" works on type \"local\" only");
        out.push(complaint.hint("for TCP connections scram-sha-256 or cert"));
    }
    let clean = !out.0[before..].iter().any(|d| d.severity == crate::syntax::Severity::Error);
    // 198.18.0.0/15 is for tests alone (RFC 2544) and never somebody's network: the lab's.
    let lab = rule
        .address
        .as_deref()
        .is_some_and(|a| a.starts_with("198.18.") || a.starts_with("198.19."));
    if clean && rule.method == "trust" && !local && !lab {
        let warning = Diagnostic::warning(span, "this hba rule lets anyone in without a password");
        out.push(warning.hint("scram-sha-256 asks for one"));
    }
    clean
}

fn check_address(address: &str, span: &Span, out: &mut Complaints) {
    let known = ["all", "samehost", "samenet"].contains(&address);
    if known || text::cidr(address) || address.starts_with('"') {
        return;
    }
    let problem = if address.parse::<std::net::IpAddr>().is_ok() {
        let bits = if address.contains(':') { 128 } else { 32 };
        format!("an address needs its prefix: {address}/{bits}")
    } else if address.contains('/') {
        "a network is ADDRESS/BITS".to_owned()
    } else {
        match text::address(address.strip_prefix('.').unwrap_or(address)) {
            Ok(()) => return,
            Err(problem) => problem,
        }
    };
    let complaint = Diagnostic::error(span, format!("bad address \"{address}\" in an hba rule"));
    out.push(complaint.hint(problem));
}

fn one_of(word: &str, what: &str, known: &[&str], span: &Span, out: &mut Complaints) {
    if known.contains(&word) {
        return;
    }
    let complaint = Diagnostic::error(span, format!("unknown {what} \"{word}\""));
    out.push(match did_you_mean(word, known.iter().copied()) {
        Some(known) => complaint.hint(format!("did you mean \"{known}\"?")),
        None => complaint.hint(format!("known: {}", known.join(", "))),
    });
}
