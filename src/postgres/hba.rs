//! pg_hba.conf as text (manual, 21.1): rules in order, because the first that matches decides.

use std::fmt::Write as _;

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HbaLine {
    Rule(HbaRule),
    /// `include`, `include_if_exists`, `include_dir` (16 and later) and what it names.
    Include {
        directive: String,
        path: String,
    },
    /// A line that the server would not read.
    Bad(String),
}

/// A rule. Fields are as in the file, quotes included, because `"all"` is a name and `all` is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaRule {
    /// `local`, `host`, `hostssl`, `hostnossl`, `hostgssenc`, `hostnogssenc`.
    pub kind: String,
    /// One name or a list with commas.
    pub database: String,
    pub user: String,
    /// In CIDR form where the file has address and mask; none for `local`.
    pub address: Option<String>,
    pub method: String,
    /// `name=value`, in order.
    pub options: Vec<String>,
}

const KINDS: &[&str] = &["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];

impl std::fmt::Display for HbaRule {
    /// One blank between fields.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.kind, self.database, self.user)?;
        if let Some(address) = &self.address {
            write!(f, " {address}")?;
        }
        write!(f, " {}", self.method)?;
        self.options.iter().try_for_each(|option| write!(f, " {option}"))
    }
}

/// A name as a field: in quotes if it is empty, a keyword, or holds what the file's syntax uses.
#[must_use]
pub fn hba_name(name: &str) -> String {
    const KEYWORDS: &[&str] = &["all", "sameuser", "samerole", "samegroup", "replication"];
    let special = |c: char| c.is_whitespace() || matches!(c, ',' | '"' | '#' | '\\');
    let starts = name.starts_with(['+', '@', '/']);
    if name.is_empty() || starts || KEYWORDS.contains(&name) || name.contains(special) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

/// Reads a file's text; comments and blank lines are left out. A line that ends with a backslash
/// goes on in the next (14 and later).
#[must_use]
pub fn parse_hba(text: &str) -> Vec<HbaLine> {
    let joined = text.replace("\r\n", "\n").replace("\\\n", "");
    joined.lines().filter_map(line).collect()
}

/// The rules alone.
#[must_use]
pub fn hba_rules(text: &str) -> Vec<HbaRule> {
    let rules = parse_hba(text).into_iter().filter_map(|line| match line {
        HbaLine::Rule(rule) => Some(rule),
        _ => None,
    });
    rules.collect()
}

fn line(text: &str) -> Option<HbaLine> {
    let fields = fields(text);
    let first = fields.first()?;
    let bad = || Some(HbaLine::Bad(text.trim().to_owned()));
    if let ("include" | "include_if_exists" | "include_dir", [_, path]) =
        (first.as_str(), fields.as_slice())
    {
        let path = path.trim_matches('"').to_owned();
        return Some(HbaLine::Include { directive: first.clone(), path });
    }
    rule(&fields).map_or_else(bad, |rule| Some(HbaLine::Rule(rule)))
}

fn rule(fields: &[String]) -> Option<HbaRule> {
    let mut fields = fields.iter().cloned().peekable();
    let kind = fields.next().filter(|kind| KINDS.contains(&kind.as_str()))?;
    let (database, user) = (fields.next()?, fields.next()?);
    let mut address = None;
    if kind != "local" {
        let mut text = fields.next()?;
        let is_address = text.parse::<std::net::IpAddr>().is_ok();
        if let Some(mask) = fields.next_if(|next| is_address && mask_bits(next).is_some()) {
            let _ = write!(text, "/{}", mask_bits(&mask)?);
        }
        address = Some(text);
    }
    Some(HbaRule {
        kind,
        database,
        user,
        address,
        method: fields.next()?,
        options: fields.collect(),
    })
}

/// The prefix length of a mask such as `255.255.255.0`, if it is one without holes.
fn mask_bits(mask: &str) -> Option<u32> {
    let (bits, ones) = match mask.parse().ok()? {
        std::net::IpAddr::V4(mask) => (mask.to_bits().count_ones(), mask.to_bits().leading_ones()),
        std::net::IpAddr::V6(mask) => (mask.to_bits().count_ones(), mask.to_bits().leading_ones()),
    };
    (bits == ones).then_some(ones)
}

/// The fields of a line without its comment. Blanks separate, except in quotes and after a comma.
fn fields(text: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    let mut field = String::new();
    let mut in_quotes = false;
    for c in text.chars() {
        match c {
            '"' => {
                in_quotes = !in_quotes;
                field.push(c);
            }
            '#' if !in_quotes => break,
            c if c.is_whitespace() && !in_quotes => {
                if !field.is_empty() && !field.ends_with(',') {
                    fields.push(std::mem::take(&mut field));
                }
            }
            c => field.push(c),
        }
    }
    if !field.is_empty() {
        fields.push(field);
    }
    fields
}

/// The rules as a file's lines, their columns aligned, each ended by a newline.
#[must_use]
pub fn render_hba(rules: &[HbaRule]) -> String {
    let columns = |rule: &HbaRule| {
        let address = rule.address.clone().unwrap_or_default();
        [rule.kind.clone(), rule.database.clone(), rule.user.clone(), address]
    };
    let mut widths = [0; 4];
    for rule in rules {
        for (width, column) in widths.iter_mut().zip(columns(rule)) {
            *width = (*width).max(column.chars().count());
        }
    }
    let mut out = String::new();
    for rule in rules {
        for (width, column) in widths.iter().zip(columns(rule)) {
            let _ = write!(out, "{column:width$} ");
        }
        out.push_str(&rule.method);
        rule.options.iter().for_each(|option| {
            let _ = write!(out, " {option}");
        });
        out.push('\n');
    }
    out
}

/// How one list of rules becomes another. Positions are from 1, in the old list for what goes and
/// in the new one for what comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HbaChange {
    Added {
        at: usize,
        rule: HbaRule,
    },
    Removed {
        at: usize,
        rule: HbaRule,
    },
    /// The same rule, before or after others than it was: it may match now, or no longer.
    Moved {
        from: usize,
        to: usize,
        rule: HbaRule,
    },
}

/// What differs, by rule and order; blanks and comments do not count.
#[must_use]
pub fn diff_hba(before: &[HbaRule], after: &[HbaRule]) -> Vec<HbaChange> {
    let texts = |rules: &[HbaRule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (old, new) = (texts(before), texts(after));
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    for op in similar::capture_diff_slices(similar::Algorithm::Myers, &old, &new) {
        if op.tag() != similar::DiffTag::Equal {
            gone.extend(op.old_range());
            come.extend(op.new_range());
        }
    }
    let mut changes = Vec::new();
    for from in gone {
        match come.iter().position(|to| new[*to] == old[from]) {
            Some(at) => {
                let to = come.remove(at);
                let rule = after[to].clone();
                changes.push(HbaChange::Moved { from: from + 1, to: to + 1, rule });
            }
            None => changes.push(HbaChange::Removed { at: from + 1, rule: before[from].clone() }),
        }
    }
    let added = come.into_iter();
    changes.extend(added.map(|at| HbaChange::Added { at: at + 1, rule: after[at].clone() }));
    changes
}

#[cfg(test)]
mod tests {
    use super::{HbaChange, HbaLine, diff_hba, hba_name, hba_rules, parse_hba, render_hba};

    const FILE: &str = "# TYPE DATABASE USER ADDRESS METHOD\n\
        local all postgres peer map=pgorch # comment\n\
        host\ta, \"b c\" +team 10.0.0.0 255.0.0.0 scram-sha-256\n\
        hostssl all all ::/0 cert clientcert=verify-full \\\n  map=x\n\
        host replication replicator samenet scram-sha-256\n\
        include_if_exists \"more.conf\"\n\
        host all all\n";

    #[test]
    fn reads_rules_and_renders_them_aligned() {
        let rules = hba_rules(FILE);
        insta::assert_snapshot!(render_hba(&rules), @r#"
        local   all         postgres              peer map=pgorch
        host    a,"b c"     +team      10.0.0.0/8 scram-sha-256
        hostssl all         all        ::/0       cert clientcert=verify-full map=x
        host    replication replicator samenet    scram-sha-256
        "#);
        assert_eq!(hba_rules(&render_hba(&rules)), rules);
        let others = parse_hba(FILE).into_iter().filter(|l| !matches!(l, HbaLine::Rule(_)));
        insta::assert_debug_snapshot!(others.collect::<Vec<_>>(), @r#"
        [
            Include {
                directive: "include_if_exists",
                path: "more.conf",
            },
            Bad(
                "host all all",
            ),
        ]
        "#);
    }

    #[test]
    fn differences_are_by_rule_and_order() {
        let before = hba_rules(FILE);
        let mut after = before.clone();
        let first = after.remove(0);
        after.remove(0);
        after.push(first);
        after.extend(hba_rules("host all all 0.0.0.0/0 reject"));
        let lines = diff_hba(&before, &after).into_iter().map(|change| match change {
            HbaChange::Added { at, rule } => format!("+ {at}: {rule}"),
            HbaChange::Removed { at, rule } => format!("- {at}: {rule}"),
            HbaChange::Moved { from, to, rule } => format!("{from} -> {to}: {rule}"),
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
        1 -> 3: local all postgres peer map=pgorch
        - 2: host a,"b c" +team 10.0.0.0/8 scram-sha-256
        + 4: host all all 0.0.0.0/0 reject
        "#);
        assert_eq!(diff_hba(&before, &before), []);
    }

    #[test]
    fn names_that_would_be_keywords_are_quoted() {
        assert_eq!(hba_name("app"), "app");
        assert_eq!(hba_name("all"), "\"all\"");
        assert_eq!(hba_name("we\"ird, one"), "\"we\"\"ird, one\"");
    }
}
