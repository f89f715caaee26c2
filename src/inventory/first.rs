//! The first inventory that `pgorch init` writes.

use crate::model::HostName;

/// What `pgorch init` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstInventory {
    pub cluster: String,
    /// Major version, 13 to 18.
    pub version: u32,
    /// SSH login; `None` leaves it to `~/.ssh/config`.
    pub user: Option<String>,
    /// Nodes with their addresses, the first one becomes the primary. With no address at all the
    /// lab makes the hosts.
    pub nodes: Vec<(HostName, Option<String>)>,
}

/// The text of an inventory with comments, which parses without complaint if the answers are good.
#[must_use]
pub fn write_first(first: &FirstInventory) -> String {
    let mut out = format!(
        "# A PostgreSQL cluster for pgorch. Check it with: pgorch check\n\
         # See what would be done with: pgorch plan      Do it with: pgorch apply\n\
         \n\
         cluster: {}\n\
         \n",
        word(&first.cluster)
    );
    let lab = first.nodes.iter().all(|(_, address)| address.is_none());
    if let Some(user) = &first.user {
        let root = user == "root";
        out.push_str("# The login on the hosts; ~/.ssh/config and the agent are honoured.\n");
        out.push_str(&format!("ssh:\n  user: {}\n", word(user)));
        out.push_str("  # Use sudo for what needs root.\n");
        out.push_str(&format!("  become: {}\n\n", !root));
    }
    out.push_str(&format!(
        "postgres:\n\
         \x20 version: {}\n\
         \x20 # Anything from postgresql.conf.\n\
         \x20 parameters:\n\
         \x20   shared_buffers: 256MB\n\
         \x20 # Who may connect, besides replication, which is derived from the nodes.\n\
         \x20 # hba:\n\
         \x20 #   - host all all 10.0.0.0/8 scram-sha-256\n\
         \n\
         # The first apply makes the database on the node marked primary and clones it to the\n\
         # others. Afterwards pgorch goes by what it sees, and the mark means nothing.\n\
         nodes:\n",
        first.version
    ));
    for (position, (name, address)) in first.nodes.iter().enumerate() {
        let mut fields = Vec::new();
        fields.extend(address.as_ref().map(|address| format!("host: {}", word(address))));
        if position == 0 {
            fields.push("primary: true".to_owned());
        }
        let fields =
            if fields.is_empty() { String::new() } else { format!(" {} ", fields.join(", ")) };
        out.push_str(&format!("  {}: {{{fields}}}\n", word(name.as_str())));
    }
    if lab {
        out.push_str("\n# Disposable hosts on this machine, made by: pgorch lab up\nlab:\n  image: bookworm\n");
    }
    out
}

/// A plain scalar, quoted where YAML would read something else.
fn word(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && !["true", "false", "null"].contains(&text.to_ascii_lowercase().as_str());
    let address = text.parse::<std::net::Ipv4Addr>().is_ok();
    if plain || address { text.to_owned() } else { crate::model::Value::from(text).to_string() }
}
