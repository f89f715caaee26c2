//! From a spanned tree to typed values, collecting every complaint instead of stopping at the first.

use super::{Diagnostic, Entry, Node, NodeKind, Span};

/// Collects diagnostics while a tree is lowered.
#[derive(Debug, Default)]
pub struct Complaints(pub Vec<Diagnostic>);

impl Complaints {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == super::Severity::Error)
    }
}

/// Reads a mapping key by key; what was not asked for is an unknown key.
#[derive(Debug)]
pub struct MapReader<'a> {
    what: String,
    span: Span,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
}

impl<'a> MapReader<'a> {
    /// Starts reading `node`, which is `what` ("the inventory", "node \"node1\"") in messages.
    pub fn new(node: &'a Node, what: &str, out: &mut Complaints) -> Option<Self> {
        match &node.kind {
            NodeKind::Map(entries) => Some(Self {
                what: what.to_owned(),
                span: node.span.clone(),
                entries,
                asked: Vec::new(),
            }),
            _ => {
                out.push(Diagnostic::error(
                    &node.span,
                    format!("{what} must be a mapping, not {}", node.type_name()),
                ));
                None
            }
        }
    }

    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The value of a key, if it is there.
    pub fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.entries.iter().find(|e| e.key == key).map(|e| &e.value)
    }

    pub fn string(&mut self, key: &'static str, out: &mut Complaints) -> Option<String> {
        let node = self.get(key)?;
        string(node, key, out)
    }

    pub fn bool(&mut self, key: &'static str, out: &mut Complaints) -> Option<bool> {
        let node = self.get(key)?;
        boolean(node, key, out)
    }

    pub fn int(&mut self, key: &'static str, out: &mut Complaints) -> Option<i64> {
        let node = self.get(key)?;
        int(node, key, out)
    }

    /// A list, or a single value that stands for a list of one.
    pub fn list(&mut self, key: &'static str) -> Option<Vec<&'a Node>> {
        let node = self.get(key)?;
        Some(match &node.kind {
            NodeKind::Seq(items) => items.iter().collect(),
            NodeKind::Null => Vec::new(),
            _ => vec![node],
        })
    }

    /// Complains about each key that was never asked for, with a "did you mean".
    pub fn finish(self, out: &mut Complaints) {
        for entry in self.entries {
            if self.asked.contains(&entry.key.as_str()) {
                continue;
            }
            let complaint = Diagnostic::error(
                &entry.key_span,
                format!("unknown key \"{}\" in {}", entry.key, self.what),
            );
            let known = || self.asked.iter().copied();
            let meant = synonym(&entry.key).filter(|s| known().any(|k| k == *s));
            out.push(match meant.or_else(|| did_you_mean(&entry.key, known())) {
                Some(known) => complaint.hint(format!("did you mean \"{known}\"?")),
                None => complaint.hint(format!("known keys: {}", self.asked.join(", "))),
            });
        }
    }
}

/// A string; numbers are taken too, as their text, since `version: 15` is meant that way.
pub fn string(node: &Node, key: &str, out: &mut Complaints) -> Option<String> {
    match &node.kind {
        NodeKind::Str(s) => Some(s.clone()),
        NodeKind::Int(i) => Some(i.to_string()),
        _ => {
            out.push(mismatch(node, key, "text"));
            None
        }
    }
}

/// A whole number; text of digits is taken too, because other programs that write YAML quote it.
pub fn int(node: &Node, key: &str, out: &mut Complaints) -> Option<i64> {
    let whole = "a whole number";
    match &node.kind {
        NodeKind::Int(i) => return Some(*i),
        NodeKind::Str(text) if text.parse::<i64>().is_ok_and(|i| i.to_string() == *text) => {
            return text.parse().ok();
        }
        NodeKind::Float(f) if f.fract() == 0.0 => {
            out.push(mismatch(node, key, whole).hint(format!("write {f}")));
        }
        NodeKind::Str(text) => {
            out.push(mismatch(node, key, whole).hint(format!("found the text \"{text}\"")));
        }
        _ => out.push(mismatch(node, key, whole)),
    }
    None
}

/// True or false; where nothing else can be meant, YAML 1.1's `yes`, `no`, `on`, `off` are taken.
pub fn boolean(node: &Node, key: &str, out: &mut Complaints) -> Option<bool> {
    match &node.kind {
        NodeKind::Bool(b) => return Some(*b),
        NodeKind::Str(text) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" => return Some(true),
            "no" | "off" | "false" => return Some(false),
            _ => {}
        },
        _ => {}
    }
    out.push(mismatch(node, key, "true or false"));
    None
}

/// What people who come from other tools write, and what it is called here.
fn synonym(key: &str) -> Option<&'static str> {
    const SYNONYMS: &[(&str, &str)] = &[
        ("address", "host"),
        ("ansible_become", "become"),
        ("ansible_host", "host"),
        ("ansible_port", "port"),
        ("ansible_ssh_private_key_file", "identity_file"),
        ("ansible_user", "user"),
        ("database_name", "name"),
        ("hostname", "host"),
        ("ip", "host"),
        ("pg_hba", "hba"),
        ("pgdata", "data_dir"),
        ("data_directory", "data_dir"),
        ("postgresql", "postgres"),
        ("private_key", "identity_file"),
        ("settings", "parameters"),
        ("upstream", "follow"),
        ("username", "user"),
        ("variables", "vars"),
    ];
    SYNONYMS.iter().find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours)
}

/// The complaint "KEY must be WANTED, not FOUND".
#[must_use]
pub fn mismatch(node: &Node, key: &str, wanted: &str) -> Diagnostic {
    Diagnostic::error(&node.span, format!("\"{key}\" must be {wanted}, not {}", node.type_name()))
}

/// The known word nearest to `word`, if it is near enough to be a typing mistake, or begins with it.
pub fn did_you_mean<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase();
    let near = |known: &str| {
        let shorter = known.len().min(word.len());
        let distance = edit_distance(&word, &known.to_lowercase());
        let begun = word.len() >= 3 && known.starts_with(&word);
        match distance {
            d if d <= 1 + shorter / 4 && d < shorter => Some(d),
            d if begun => Some(d),
            _ => None,
        }
    };
    known.filter_map(|k| Some((near(k)?, k))).min_by_key(|(d, _)| *d).map(|(_, k)| k)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
