//! The scripts that change whom commits wait for. Each is the body of a step, after a prelude that holds
//! the host's lock and defines `say`, `fail`, `put` and `sql`: that of operations, or [`locked`].

use super::common::{self, OS_USER};
use super::sync_plan::SyncRecordText;
use crate::inventory::NodeSettings;
use crate::model::Script;
use crate::postgres::{SyncNames, conf_line, literal};

/// The file in the data directory.
pub(super) const FILE: &str = "pgorch.sync.conf";
/// The parameter.
pub(super) const NAME: &str = "synchronous_standby_names";

/// The text of [`FILE`].
pub(super) fn conf(names: &SyncNames) -> String {
    format!(
        "# Rendered by pgorch from replication.mode.\n{}\n",
        conf_line(NAME, &names.to_string())
    )
}

/// psql as the superuser, for a script of root's.
fn of_node(node: &NodeSettings) -> Script {
    let psql = common::psql(node, "postgres");
    Script::new()
        .set("dir", &node.data_dir)
        .set("psql", &format!("runuser -u {OS_USER} -- env LC_ALL=C {psql}"))
}

/// A script outside of operations, as root: under the host's lock, and refused where an operation has
/// begun since `seen` was the highest epoch there.
pub(super) fn locked(home: &str, seen: u64, body: &Script) -> Script {
    Script::raw("(\nexec </dev/null\nset -u\numask 077\ncd /")
        .set("home", home)
        .set("seen", &seen.to_string())
        .line(include_str!("sync_lock.sh"))
        .then(body)
        .line(")")
}

/// Stores a record.
pub(super) fn record(record: &SyncRecordText) -> Script {
    Script::new()
        .set("rank_epoch", &record.rank.0.to_string())
        .set("rank_number", &record.rank.1.to_string())
        .set("record", &record.text)
        .line(include_str!("sync_record.sh"))
}

/// Goes on only where this record is stored.
pub(super) fn must_have(record: &SyncRecordText) -> Script {
    Script::new()
        .set("record", &record.text)
        .line("have=\n{ { read -r have; read -r have; } <\"$home/sync\"; } 2>/dev/null || :")
        .line(
            "[ \"$have\" = \"$record\" ] || \
             fail 'somebody else has changed whom commits wait for since this run looked: run it again'",
        )
}

/// Puts names in force; `publish` where nobody looks at the senders afterwards.
pub(super) fn set(node: &NodeSettings, names: &SyncNames, publish: bool) -> Script {
    of_node(node)
        .set("conf", &conf(names))
        .set("names", &names.to_string())
        .set("publish", if publish { "1" } else { "0" })
        .line(include_str!("sync_set.sh"))
}

/// Waits until every sender goes by these names and as many members as they want have all WAL.
pub(super) fn settle(node: &NodeSettings, names: &SyncNames, seconds: u64) -> Script {
    let script = of_node(node).set("names", &names.to_string()).line(
        "shown=$(echo 'SHOW synchronous_standby_names' | sql 2>&1)\n\
         [ \"$shown\" = \"$names\" ] || fail \"synchronous_standby_names is '$shown', not '$names'\"",
    );
    if names.is_none() {
        return script;
    }
    let members: Vec<String> = names.members.iter().map(|m| literal(m)).collect();
    let text = include_str!("sync_settle.sql")
        .replace("@MEMBERS@", &format!("ARRAY[{}]::text[]", members.join(", ")))
        .replace("@SECONDS@", &seconds.to_string())
        .replace("@K@", &names.k.to_string());
    script
        .set("settled", &text)
        .line("answer=$(printf '%s\\n' \"$settled\" | sql 2>&1) || fail \"${answer##*ERROR:  }\"")
}
