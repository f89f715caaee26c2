//! The variables of a host, layer by layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::variables::{Written, settle, unknown_too};
use crate::facts::NodeFacts;
use crate::inventory::{Inventory, NodeSettings};
use crate::model::{HostName, Map, Redactor, Secret, Value};
use crate::step::Options;
use crate::syntax::Entry;
use crate::template::Templates;

/// What is the same for all hosts and all tasks of a run.
pub struct RunVars {
    pub inventory: Arc<Inventory>,
    pub nodes: IndexMap<HostName, NodeSettings>,
    /// `-e`: wins over everything.
    pub extra: Map,
    pub templates: Templates,
    pub redactor: Redactor,
    pub role_passwords: BTreeMap<String, Secret>,
}

/// What changes while a run goes on and all hosts share.
#[derive(Debug, Clone, Default)]
pub struct Live {
    pub primary: Option<HostName>,
    /// The wanted upstream of each standby.
    pub upstream: BTreeMap<HostName, HostName>,
    pub replication_password: Option<Secret>,
}

/// One host's own variables.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    pub host: HostName,
    /// Results by registered name, and `set_fact`.
    pub set: Map,
    /// In a read-only run: registered names whose value is not known, with the task that would
    /// set them.
    pub unknown: BTreeMap<String, String>,
    /// The items of the looped includes that the task stands in, outermost first.
    pub items: Vec<LoopItem>,
}

/// The loop variable of one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopItem {
    pub var: String,
    pub value: Value,
    pub index_var: Option<String>,
    pub index: usize,
}

impl RunVars {
    /// Puts the settings of all nodes and the inventory together.
    #[must_use]
    pub fn new(inventory: Arc<Inventory>, extra: Map) -> Self {
        let settings = |name: &HostName| inventory.postgres_of(name);
        let nodes = inventory.nodes.keys().filter_map(|n| Some((n.clone(), settings(n)?)));
        RunVars {
            nodes: nodes.collect(),
            inventory: Arc::clone(&inventory),
            extra,
            templates: Templates::new(),
            redactor: Redactor::default(),
            role_passwords: BTreeMap::new(),
        }
    }
}

impl Scope {
    #[must_use]
    pub fn new(host: &HostName) -> Self {
        Scope { host: host.clone(), ..Scope::default() }
    }

    /// All variables that a task sees, lowest precedence first: pgorch's own, the inventory's (all,
    /// groups, host), play, block, task, set facts and registered results, loop, command line. Each
    /// may name any other, and sees the one that wins.
    /// A variable whose own value cannot be rendered yet stays undefined.
    #[must_use]
    pub fn variables(
        &self,
        run: &RunVars,
        live: &Live,
        options: &Options,
        facts: Option<&NodeFacts>,
        layers: &[&[Entry]],
        item: Option<&LoopItem>,
    ) -> Map {
        let mut top = self.set.clone();
        for item in self.items.iter().chain(item) {
            insert_item(&mut top, item);
        }
        top.extend(run.extra.iter().map(|(k, v)| (k.clone(), v.clone())));
        let inventory = run.inventory.vars_of(&self.host);
        let mut written = written(&inventory, layers);
        written.retain(|name, _| !top.contains_key(name));
        let mut vars = self.built_in(run, live, options, facts);
        vars.extend(top);
        settle(&run.templates, &mut vars, written);
        vars
    }

    /// In a read-only run: the names that are not known, those of variables that read them included.
    #[must_use]
    pub fn unknown_names(&self, run: &RunVars, layers: &[&[Entry]]) -> BTreeMap<String, String> {
        if self.unknown.is_empty() {
            return BTreeMap::new();
        }
        let inventory = run.inventory.vars_of(&self.host);
        unknown_too(&run.templates, &self.unknown, &written(&inventory, layers))
    }

    fn built_in(
        &self,
        run: &RunVars,
        live: &Live,
        options: &Options,
        facts: Option<&NodeFacts>,
    ) -> Map {
        let mut vars = Map::new();
        let json = |value: &dyn erased::Json| value.json();
        vars.insert("cluster".into(), Value::from(run.inventory.cluster.clone()));
        vars.insert("inventory_hostname".into(), Value::from(self.host.0.clone()));
        vars.insert("pgorch_check_mode".into(), Value::from(options.check));
        vars.insert("pgorch_restart".into(), Value::from(options.restart));
        vars.insert("nodes".into(), json(&run.nodes));
        if let Some(node) = run.nodes.get(&self.host) {
            vars.insert("node".into(), json(node));
        }
        vars.insert("groups".into(), groups(&run.inventory));
        let quorum = run.inventory.replication.mode == crate::inventory::ReplicationMode::Quorum;
        let mode = if quorum { "quorum" } else { "async" };
        vars.insert(
            "replication".into(),
            serde_json::json!({
                "mode": mode,
                "slots": run.inventory.replication.slots,
                "sync_standbys": run.inventory.replication.sync_standbys,
            }),
        );
        // None where there is no virtual address; a shipped template asks.
        vars.insert("vip".into(), json(&run.inventory.routing.vip));
        vars.insert("ssh_user".into(), Value::from(ssh_user(run, &self.host)));
        if let Some(primary) = &live.primary {
            vars.insert("primary".into(), Value::from(primary.0.clone()));
        }
        if let Some(upstream) = live.upstream.get(&self.host) {
            vars.insert("upstream".into(), Value::from(upstream.0.clone()));
        }
        if let Some(facts) = facts {
            vars.insert("facts".into(), Value::Object(facts.template_vars()));
        }
        vars
    }
}

/// The variables as written; a later layer hides what an earlier one says.
fn written<'w>(inventory: &'w Map, layers: &[&'w [Entry]]) -> IndexMap<String, Written<'w>> {
    let inventory = inventory.iter().map(|(name, value)| (name.clone(), Written::Value(value)));
    let entries = layers.iter().copied().flatten();
    inventory.chain(entries.map(|e| (e.key.clone(), Written::Node(&e.value)))).collect()
}

mod erased {
    /// Serializes to a [`serde_json::Value`]; the types used here cannot fail to.
    pub(super) trait Json {
        fn json(&self) -> serde_json::Value;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> serde_json::Value {
            serde_json::to_value(self).unwrap_or_default()
        }
    }
}

fn insert_item(vars: &mut Map, item: &LoopItem) {
    vars.insert(item.var.clone(), item.value.clone());
    if let Some(name) = &item.index_var {
        vars.insert(name.clone(), Value::from(item.index));
    }
}

fn ssh_user(run: &RunVars, host: &HostName) -> Option<String> {
    let own = run.inventory.all_hosts().find(|(n, _)| *n == host);
    let own = own.and_then(|(_, h)| h.ssh.user.clone());
    own.or_else(|| run.inventory.ssh.user.clone())
}

fn groups(inventory: &Inventory) -> Value {
    let mut groups: IndexMap<String, Vec<Value>> = IndexMap::new();
    for (name, host) in inventory.all_hosts() {
        let name = Value::from(name.0.clone());
        groups.entry("all".to_owned()).or_default().push(name.clone());
        for group in &host.groups {
            groups.entry(group.clone()).or_default().push(name.clone());
        }
    }
    let nodes = inventory.nodes.keys().map(|n| Value::from(n.0.clone()));
    groups.insert("nodes".to_owned(), nodes.collect());
    serde_json::to_value(groups).unwrap_or_default()
}
