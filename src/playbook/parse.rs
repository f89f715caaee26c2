//! From spanned YAML to plays.

use std::sync::Arc;

use super::{Block, Common, Item, Loop, Play, Playbook, Serial, Task, Text};
use crate::step::{self, ArgKind, Kind};
use crate::syntax::lower::{Complaints, MapReader, did_you_mean, mismatch};
use crate::syntax::{Diagnostic, Entry, Node, NodeKind, Source, Span, yaml};

/// Finds the text of an imported or included file: (path as written, importing file's name).
pub type Loader<'l> = dyn Fn(&str, &str) -> Result<Arc<Source>, String> + 'l;

/// How deep imports and includes may nest; more is taken for a cycle.
const DEPTH_MAX: usize = 16;

/// Reads a playbook and everything it imports or includes.
///
/// # Errors
/// Every complaint about every file, in order.
pub fn parse(source: &Arc<Source>, loader: &Loader<'_>) -> Result<Playbook, Vec<Diagnostic>> {
    let mut parser =
        Parser { loader, out: Complaints::default(), next_id: 0, notified: Vec::new() };
    let mut plays = Vec::new();
    parser.plays(source, 0, &mut plays);
    if parser.out.has_errors() { Err(parser.out.0) } else { Ok(Playbook { plays }) }
}

struct Parser<'l> {
    loader: &'l Loader<'l>,
    out: Complaints,
    next_id: usize,
    /// Handlers that the tasks of the play in hand name, each with its place.
    notified: Vec<(String, Span)>,
}

impl Parser<'_> {
    fn plays(&mut self, source: &Arc<Source>, depth: usize, plays: &mut Vec<Play>) {
        let Some(node) = self.yaml(source) else { return };
        let Some(items) = node.as_seq() else {
            let found = node.type_name();
            let text = format!("a playbook must be a list of plays, not {found}");
            self.out.push(Diagnostic::error(&node.span, text).hint("begin with \"- hosts: ...\""));
            return;
        };
        for item in items {
            match item.get("import_playbook").or(item.get("ansible.builtin.import_playbook")) {
                Some(path) => self.import(item, path, source, depth, plays),
                None => plays.extend(self.play(item, depth)),
            }
        }
    }

    fn yaml(&mut self, source: &Arc<Source>) -> Option<Node> {
        match yaml::parse(source) {
            Ok(node) => Some(node),
            Err(complaints) => {
                self.out.0.extend(complaints);
                None
            }
        }
    }

    fn import(
        &mut self,
        item: &Node,
        path: &Node,
        source: &Arc<Source>,
        depth: usize,
        plays: &mut Vec<Play>,
    ) {
        let Some(mut map) = MapReader::new(item, "an import", &mut self.out) else { return };
        let _ = map.get("import_playbook");
        let _ = map.get("name");
        let tags = self.words(&mut map, "tags");
        let when = self.conditions(&mut map, "when");
        map.finish(&mut self.out);
        let Some(loaded) = self.load(path, source, depth) else { return };
        let first = plays.len();
        self.plays(&loaded, depth + 1, plays);
        for play in plays.iter_mut().skip(first) {
            play.common.tags.extend(tags.clone());
            play.common.when.splice(0..0, when.clone().unwrap_or_default());
        }
    }

    /// The text that a literal path names.
    fn load(&mut self, path: &Node, from: &Arc<Source>, depth: usize) -> Option<Arc<Source>> {
        let Some(text) = path.as_str() else {
            self.out.push(mismatch(path, "the file", "a path"));
            return None;
        };
        let complaint = if text.contains("{{") {
            "the path of an include must be literal, so that all tasks are known before the run"
                .to_owned()
        } else if depth >= DEPTH_MAX {
            format!("files include each other more than {DEPTH_MAX} deep")
        } else {
            match (self.loader)(text, &from.name) {
                Ok(source) => return Some(source),
                Err(why) => why,
            }
        };
        self.out.push(Diagnostic::error(&path.span, complaint));
        None
    }

    fn play(&mut self, node: &Node, depth: usize) -> Option<Play> {
        let mut map = MapReader::new(node, "a play", &mut self.out)?;
        let name = map.string("name", &mut self.out);
        let hosts = self.hosts(&mut map, node);
        let common = self.common(&mut map);
        let serial = map.list("serial").unwrap_or_default();
        let serial = serial.into_iter().filter_map(|n| self.serial(n)).collect();
        let any_errors_fatal = map.bool("any_errors_fatal", &mut self.out).unwrap_or(false);
        // Facts come with the first batch; the keyword is taken so that old playbooks run.
        let _ = map.get("gather_facts");
        let mut tasks = Vec::new();
        for list in ["pre_tasks", "tasks", "post_tasks"] {
            if let Some(items) = map.get(list) {
                tasks.extend(self.items(items, list, depth));
            }
        }
        let handlers = map.get("handlers").map(|n| self.items(n, "handlers", depth));
        let mut all = Vec::new();
        for item in handlers.unwrap_or_default() {
            match item {
                Item::Task(task) => all.push(*task),
                Item::Block(_) => {
                    let text = "a handler must be one task, not a block or an include";
                    let span = map.get("handlers").map_or(&node.span, |n| &n.span);
                    self.out.push(Diagnostic::error(span, text));
                }
            }
        }
        let handlers: Vec<Task> = all;
        if let Some(roles) = map.get("roles") {
            let text = "roles are not supported";
            let hint = "use include_tasks with the role's tasks/main.yml";
            self.out.push(Diagnostic::error(&roles.span, text).hint(hint));
        }
        map.finish(&mut self.out);
        let hosts = hosts?;
        self.check_notifications(&handlers);
        let name = name.unwrap_or_else(|| hosts.text.clone());
        let vars = common.vars.clone();
        let span = node.span.clone();
        Some(Play { name, hosts, serial, vars, common, any_errors_fatal, tasks, handlers, span })
    }

    fn hosts(&mut self, map: &mut MapReader<'_>, node: &Node) -> Option<Text> {
        let Some(hosts) = map.list("hosts") else {
            self.out.push(
                Diagnostic::error(&node.span, "a play needs \"hosts\"")
                    .hint("hosts: all, primary, standbys, a group, or names"),
            );
            return None;
        };
        let span = hosts.first().map_or(node.span.clone(), |n| n.span.clone());
        let words: Vec<String> = hosts
            .iter()
            .filter_map(|n| crate::syntax::lower::string(n, "hosts", &mut self.out))
            .collect();
        Some(Text { text: words.join(","), span })
    }

    fn serial(&mut self, node: &Node) -> Option<Serial> {
        let percent = node.as_str().and_then(|s| s.strip_suffix('%')).and_then(|s| s.parse().ok());
        let count = match node.kind {
            NodeKind::Int(n) if n > 0 => usize::try_from(n).ok(),
            _ => None,
        };
        let serial = percent.map(Serial::Percent).or(count.map(Serial::Count));
        if serial.is_none() {
            self.out.push(mismatch(node, "serial", "a number above 0 or a percentage"));
        }
        serial
    }

    fn items(&mut self, node: &Node, what: &str, depth: usize) -> Vec<Item> {
        match &node.kind {
            NodeKind::Null => Vec::new(),
            NodeKind::Seq(items) => items.iter().filter_map(|n| self.item(n, depth)).collect(),
            _ => {
                self.out.push(mismatch(node, what, "a list of tasks"));
                Vec::new()
            }
        }
    }

    fn item(&mut self, node: &Node, depth: usize) -> Option<Item> {
        let Some(entries) = node.as_map() else {
            let text = format!("a task must be a mapping, not {}", node.type_name());
            self.out.push(Diagnostic::error(&node.span, text));
            return None;
        };
        let short = |e: &Entry| e.key.rsplit('.').next().unwrap_or_default().to_owned();
        if entries.iter().any(|e| e.key == "block") {
            return self.block(node, depth);
        }
        const INCLUDES: [&str; 2] = ["include_tasks", "import_tasks"];
        if let Some(entry) = entries.iter().find(|e| INCLUDES.contains(&short(e).as_str())) {
            return self.include(node, entry, depth);
        }
        self.task(node, entries).map(|task| Item::Task(Box::new(task)))
    }

    fn block(&mut self, node: &Node, depth: usize) -> Option<Item> {
        let mut map = MapReader::new(node, "a block", &mut self.out)?;
        let name = map.string("name", &mut self.out);
        let common = self.common(&mut map);
        let mut lists = ["block", "rescue", "always"]
            .into_iter()
            .map(|list| map.get(list).map(|n| self.items(n, list, depth)).unwrap_or_default());
        let (block, rescue, always) = (lists.next()?, lists.next()?, lists.next()?);
        drop(lists);
        map.finish(&mut self.out);
        Some(Item::Block(Box::new(Block { name, common, r#loop: None, block, rescue, always })))
    }

    fn include(&mut self, node: &Node, entry: &Entry, depth: usize) -> Option<Item> {
        let path = entry.value.get("file").unwrap_or(&entry.value);
        let rest = without(node, |key| key == entry.key);
        let mut map = MapReader::new(&rest, "an include", &mut self.out)?;
        let name = map.string("name", &mut self.out);
        let common = self.common(&mut map);
        let r#loop = self.looping(&mut map);
        map.finish(&mut self.out);
        let source = self.load(path, &entry.key_span.source, depth)?;
        let tasks = self.yaml(&source)?;
        let block = self.items(&tasks, "an included file", depth + 1);
        let (rescue, always) = (Vec::new(), Vec::new());
        Some(Item::Block(Box::new(Block { name, common, r#loop, block, rescue, always })))
    }

    fn task(&mut self, node: &Node, entries: &[Entry]) -> Option<Task> {
        let (entry, kind) = self.kind_of(node, entries)?;
        // A second kind has been complained about; it is no unknown key too.
        let rest = without(node, |key| key == entry.key || step::kind(key).is_some());
        let mut map = MapReader::new(&rest, "a task", &mut self.out)?;
        let name = map.string("name", &mut self.out);
        let common = self.common(&mut map);
        let r#loop = self.looping(&mut map);
        let register = map.string("register", &mut self.out);
        let notify = self.words(&mut map, "notify");
        if let Some(named) = rest.get("notify") {
            let each = named.as_seq().unwrap_or(std::slice::from_ref(named));
            let places = each.iter().map(|n| n.span.clone());
            self.notified.extend(notify.iter().cloned().zip(places));
        }
        let listen = self.words(&mut map, "listen");
        let until = self.conditions(&mut map, "until").unwrap_or_default();
        let retries = map.get("retries").cloned();
        let delay = map.get("delay").cloned();
        let changed_when = self.conditions(&mut map, "changed_when");
        let failed_when = self.conditions(&mut map, "failed_when");
        let old_args = map.get("args");
        map.finish(&mut self.out);
        let (args, free_args) = self.arguments(kind, entry, old_args);
        self.next_id += 1;
        let span = entry.key_span.clone();
        Some(Task {
            id: self.next_id,
            name: name.unwrap_or_else(|| kind.name.to_owned()),
            kind,
            args,
            free_args,
            common,
            r#loop,
            register,
            notify,
            listen,
            until,
            retries,
            delay,
            changed_when,
            failed_when,
            span,
        })
    }

    /// The one key of a task that is not a keyword names its kind.
    fn kind_of<'n>(
        &mut self,
        node: &Node,
        entries: &'n [Entry],
    ) -> Option<(&'n Entry, &'static Kind)> {
        let mut found: Vec<(&Entry, &'static Kind)> = Vec::new();
        for entry in entries.iter().filter(|e| !TASK_KEYWORDS.contains(&e.key.as_str())) {
            if let Some(kind) = step::kind(&entry.key) {
                found.push((entry, kind));
                continue;
            }
            let names = step::catalog().map(|k| k.name).chain(TASK_KEYWORDS.iter().copied());
            let text = format!("unknown task kind or keyword \"{}\"", entry.key);
            let complaint = Diagnostic::error(&entry.key_span, text);
            let near = did_you_mean(&entry.key, names);
            self.out.push(match near {
                Some(near) => complaint.hint(format!("did you mean \"{near}\"?")),
                None => complaint.hint("`pgorch schema playbook` lists all kinds"),
            });
            return None;
        }
        if let [_, (second, _), ..] = found.as_slice() {
            let text = format!("a task does one thing; \"{}\" is a second one", second.key);
            self.out.push(Diagnostic::error(&second.key_span, text));
        }
        if found.is_empty() {
            let text = "this task does nothing: no task kind is named";
            self.out.push(Diagnostic::error(&node.span, text));
        }
        found.into_iter().next()
    }

    fn arguments(
        &mut self,
        kind: &'static Kind,
        entry: &Entry,
        old_args: Option<&Node>,
    ) -> (Vec<(&'static str, Node)>, Vec<Entry>) {
        let mut args: Vec<(&'static str, Node)> = Vec::new();
        let mut free = Vec::new();
        let mut given: Vec<&Entry> =
            old_args.and_then(Node::as_map).unwrap_or_default().iter().collect();
        match &entry.value.kind {
            NodeKind::Map(entries) => given.extend(entries),
            NodeKind::Null => {}
            _ => match kind.free_form {
                Some(name) => args.push((name, entry.value.clone())),
                None => {
                    let what = format!("\"{}\" takes a mapping of arguments", kind.name);
                    self.out.push(Diagnostic::error(&entry.value.span, what));
                }
            },
        }
        let takes_free_keys = kind.args.iter().any(|s| s.name == "*");
        for one in given {
            let spec = kind
                .args
                .iter()
                .find(|s| s.name == one.key || s.aliases.contains(&one.key.as_str()));
            match spec {
                Some(spec) => {
                    self.check_literal(spec.kind, spec.name, &one.value);
                    args.push((spec.name, one.value.clone()));
                }
                None if takes_free_keys => free.push(one.clone()),
                None => self.unknown_argument(kind, one),
            }
        }
        for spec in kind.args.iter().filter(|s| s.required) {
            if !args.iter().any(|(name, _)| *name == spec.name) {
                let text = format!("\"{}\" needs the argument \"{}\"", kind.name, spec.name);
                self.out.push(Diagnostic::error(&entry.key_span, text).hint(spec.doc));
            }
        }
        (args, free)
    }

    fn unknown_argument(&mut self, kind: &Kind, entry: &Entry) {
        let text = format!("\"{}\" has no argument \"{}\"", kind.name, entry.key);
        let complaint = Diagnostic::error(&entry.key_span, text);
        let names: Vec<&str> = kind.args.iter().map(|s| s.name).collect();
        self.out.push(match did_you_mean(&entry.key, names.iter().copied()) {
            Some(near) => complaint.hint(format!("did you mean \"{near}\"?")),
            None => complaint.hint(format!("it takes: {}", names.join(", "))),
        });
    }

    /// Checks a value that holds no template against its specification, before any host is asked.
    fn check_literal(&mut self, kind: ArgKind, name: &str, node: &Node) {
        if node.as_str().is_some_and(|s| s.contains("{{") || s.contains("{%")) {
            return;
        }
        let fits = match (kind, &node.kind) {
            (_, NodeKind::Null) => true,
            (ArgKind::Str, k) => !matches!(k, NodeKind::Map(_) | NodeKind::Seq(_)),
            (ArgKind::Path, NodeKind::Str(s)) => s.starts_with('/') || s.starts_with('~'),
            (ArgKind::Bool, NodeKind::Bool(_)) => true,
            (ArgKind::Bool, NodeKind::Str(s)) => {
                ["yes", "no", "on", "off", "true", "false"].contains(&s.to_lowercase().as_str())
            }
            (ArgKind::Int, NodeKind::Int(_)) => true,
            (ArgKind::Int, NodeKind::Str(s)) => s.parse::<i64>().is_ok(),
            // `mode: 644` is decimal to YAML; `mode: 0644` reaches us as its text.
            (ArgKind::Mode, NodeKind::Str(_)) => true,
            (ArgKind::StrList, k) => !matches!(k, NodeKind::Map(_)),
            (ArgKind::List, k) => matches!(k, NodeKind::Seq(_)),
            (ArgKind::Map, k) => matches!(k, NodeKind::Map(_)),
            (ArgKind::Choice(words), NodeKind::Str(s)) => words.contains(&s.as_str()),
            (ArgKind::Any | ArgKind::Expr | ArgKind::Template, _) => true,
            _ => false,
        };
        if fits {
            return;
        }
        let wanted = match kind {
            ArgKind::Path => "an absolute path".to_owned(),
            ArgKind::Bool => "true or false".to_owned(),
            ArgKind::Int => "a whole number".to_owned(),
            ArgKind::Mode => "quoted octal text such as \"0644\"".to_owned(),
            ArgKind::List | ArgKind::StrList => "a list".to_owned(),
            ArgKind::Map => "a mapping".to_owned(),
            ArgKind::Choice(words) => format!("one of {}", words.join(", ")),
            ArgKind::Str | ArgKind::Any | ArgKind::Expr | ArgKind::Template => "text".to_owned(),
        };
        self.out.push(mismatch(node, name, &wanted));
    }

    fn common(&mut self, map: &mut MapReader<'_>) -> Common {
        let vars = map.get("vars").and_then(Node::as_map).unwrap_or_default().to_vec();
        let environment = map.get("environment").and_then(Node::as_map).unwrap_or_default();
        if let Some(method) = map.get("become_method")
            && method.as_str() != Some("sudo")
        {
            let text = "only become_method sudo is built";
            self.out.push(Diagnostic::error(&method.span, text));
        }
        Common {
            r#become: map.bool("become", &mut self.out),
            become_user: map.get("become_user").cloned(),
            when: self.conditions(map, "when").unwrap_or_default(),
            tags: self.words(map, "tags"),
            vars,
            environment: environment.to_vec(),
            delegate_to: map.get("delegate_to").cloned(),
            ignore_errors: map.bool("ignore_errors", &mut self.out),
            no_log: map.bool("no_log", &mut self.out),
            run_once: map.bool("run_once", &mut self.out),
        }
    }

    fn looping(&mut self, map: &mut MapReader<'_>) -> Option<Loop> {
        let items = map.get("loop").or(map.get("with_items"))?.clone();
        let mut result = Loop { items, var: "item".to_owned(), index_var: None, label: None };
        if let Some(control) = map.get("loop_control") {
            let mut control = MapReader::new(control, "loop_control", &mut self.out)?;
            if let Some(var) = control.string("loop_var", &mut self.out) {
                result.var = var;
            }
            result.index_var = control.string("index_var", &mut self.out);
            result.label = control.get("label").cloned();
            control.finish(&mut self.out);
        }
        Some(result)
    }

    /// Expressions without braces: a text, a bool, or a list of them that must all hold.
    fn conditions(&mut self, map: &mut MapReader<'_>, key: &'static str) -> Option<Vec<Text>> {
        let nodes = map.list(key)?;
        let mut texts = Vec::new();
        for node in nodes {
            let text = match &node.kind {
                NodeKind::Str(s) => unbrace(s),
                NodeKind::Bool(b) => b.to_string(),
                _ => {
                    self.out.push(mismatch(node, key, "an expression"));
                    continue;
                }
            };
            texts.push(Text { text, span: node.span.clone() });
        }
        Some(texts)
    }

    fn words(&mut self, map: &mut MapReader<'_>, key: &'static str) -> Vec<String> {
        let nodes = map.list(key).unwrap_or_default();
        let texts =
            nodes.into_iter().filter_map(|n| crate::syntax::lower::string(n, key, &mut self.out));
        let split = |s: String| s.split(',').map(|w| w.trim().to_owned()).collect::<Vec<_>>();
        if key == "tags" { texts.flat_map(split).collect() } else { texts.collect() }
    }

    fn check_notifications(&mut self, handlers: &[Task]) {
        let known: Vec<&str> = handlers
            .iter()
            .flat_map(|h| h.listen.iter().map(String::as_str).chain([h.name.as_str()]))
            .collect();
        let mut missing = std::mem::take(&mut self.notified);
        missing.retain(|(name, _)| !known.contains(&name.as_str()));
        for (name, span) in missing {
            let complaint = Diagnostic::error(&span, format!("no handler \"{name}\" in this play"));
            self.out.push(match did_you_mean(&name, known.iter().copied()) {
                Some(near) => complaint.hint(format!("did you mean \"{near}\"?")),
                None => complaint,
            });
        }
    }
}

/// `when: "{{ x }}"` means `when: x`; people write both.
fn unbrace(text: &str) -> String {
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix("{{").and_then(|t| t.strip_suffix("}}"));
    inner.filter(|t| !t.contains("{{")).unwrap_or(trimmed).trim().to_owned()
}

/// The mapping without some keys, so that the rest can be read strictly.
fn without(node: &Node, drop: impl Fn(&str) -> bool) -> Node {
    let entries = node.as_map().unwrap_or_default();
    let rest = entries.iter().filter(|e| !drop(&e.key)).cloned().collect();
    Node { kind: NodeKind::Map(rest), span: node.span.clone() }
}

/// The keywords of a task; every other key names its kind.
pub(super) const TASK_KEYWORDS: &[&str] = &[
    "name",
    "when",
    "loop",
    "with_items",
    "loop_control",
    "register",
    "notify",
    "listen",
    "tags",
    "until",
    "retries",
    "delay",
    "changed_when",
    "failed_when",
    "ignore_errors",
    "run_once",
    "delegate_to",
    "become",
    "become_user",
    "become_method",
    "vars",
    "environment",
    "no_log",
    "args",
];
