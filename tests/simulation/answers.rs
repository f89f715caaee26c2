//! What the questions of task kinds are answered, for those kinds that ask more than facts.

use std::collections::BTreeSet;

use base64::Engine as _;
use pgorch::inventory::Inventory;
use pgorch::model::{Answer, HostName};
use pgorch::postgres::conf_line;
use pgorch::step::standby_conf;
use serde_json::json;

use super::world::World;
use crate::nodes::SYSTEM;

/// Their files are no part of this world: whatever they say, it is done.
pub(super) const RENDERED: [&str; 5] = ["parameters", "hba", "ident", "template", "passfile"];

impl World {
    /// The answer to the one question of a kind on this host.
    pub(super) fn answer(&self, kind: &str, host: &HostName, inventory: &Inventory) -> Answer {
        let node = &self.nodes[host];
        let stdout = match kind {
            "follow" => {
                let settings = inventory.postgres_of(host).expect("a node");
                let upstream = node.upstream.as_ref().and_then(|u| inventory.postgres_of(u));
                let slot = inventory.replication.slots.then_some(settings.slot.as_str());
                let text = upstream.map(|upstream| standby_conf(&settings, &upstream, slot));
                let auto =
                    if node.emptied { "primary_conninfo = ''\nrestore_command = ''\n" } else { "" };
                format!("{}{}", file("file", text.as_deref()), file("auto", Some(auto)))
            }
            "sync_standbys" => {
                let text = conf_line("synchronous_standby_names", &node.sync_names.to_string());
                file("file", Some(&format!("{text}\n")))
            }
            "rejoin" | "rewind" | "basebackup" => return self.rejoin_answer(host),
            "old_data" => (0..node.aside).map(|n| format!("1000 /old-{n}\n")).collect(),
            "members" if !self.serves(host) => {
                return Answer { rc: 2, ..Answer::default() };
            }
            "members" => self.members_table(host, inventory),
            _ => panic!("\"{kind}\" asks something"),
        };
        Answer { stdout, ..Answer::default() }
    }

    /// rejoin.sh, as far as it says more than the facts.
    pub(super) fn rejoin_answer(&self, host: &HostName) -> Answer {
        let stdout = if self.nodes[host].half { "half_rewound=1\n" } else { "" };
        Answer { stdout: stdout.to_owned(), ..Answer::default() }
    }

    /// Who is a member, by the WAL that a node has.
    pub(crate) fn members_of(&self, host: &HostName) -> BTreeSet<String> {
        let has = |id: u64| self.nodes[host].wal.iter().any(|r| r.id == id);
        let last = self.members.iter().rev().find(|(id, _)| has(*id));
        last.map(|(_, members)| members.clone()).unwrap_or_default()
    }

    fn members_table(&self, host: &HostName, inventory: &Inventory) -> String {
        let row = |name: String| {
            let settings = inventory.postgres_of(&HostName(name.clone()));
            let declared = inventory.nodes.get(&HostName(name.clone()));
            let address = settings.as_ref().map_or("198.18.0.99", |s| s.address.as_str());
            json!({ "name": name, "host": address, "port": 5432, "location": null,
                "priority": declared.map_or(100, |n| n.priority), "system_identifier": SYSTEM.to_string() })
        };
        let rows: Vec<serde_json::Value> = self.members_of(host).into_iter().map(row).collect();
        serde_json::to_string(&rows).expect("json")
    }
}

/// A file as `read` of step/pg/files.rs prints it.
fn file(key: &str, text: Option<&str>) -> String {
    match text {
        None => format!("{key}\n"),
        Some(text) => {
            let encoded = base64::engine::general_purpose::STANDARD.encode(text);
            format!("{key} 600 postgres:postgres 0 {encoded}\n")
        }
    }
}
